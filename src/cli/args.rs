//! The tree of commands. Value names are the types that cobra's help shows.

use super::{apikeys, audit, auth, cluster, completion, debug, generate, import, nodes, policy, preauthkeys, users};
use crate::sensitive::Sensitive;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(about = "A control server for Tailscale clients that keeps working when a machine dies")]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) globals: Globals,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Flags that every command has.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Globals {
    /// Configuration file (default: config.yaml in /etc/quorumscale, /etc/headscale, ~/.headscale or here)
    #[arg(short, long, global = true, value_name = "string")]
    pub(super) config: Option<PathBuf>,
    /// Output format: empty for people, or 'json', 'json-line' or 'yaml'
    #[arg(short, long, global = true, value_name = "string")]
    pub(super) output: Option<String>,
    /// Ask no questions
    #[arg(long, global = true, alias = "yes")]
    pub(super) force: bool,
    /// Servers to ask instead of the socket, separated by commas: the next is tried when one fails
    #[arg(long, global = true, value_name = "urls")]
    pub(super) server: Option<String>,
    /// API key for --server
    #[arg(long, global = true, value_name = "string")]
    pub(super) api_key: Option<Sensitive<String>>,
}

/// The first word.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the server
    Serve,
    /// Show the version
    Version,
    /// Check the configuration without starting the server
    Configtest,
    #[command(name = "dumpConfig", hide = true)]
    DumpConfig,
    /// Make keys and secrets
    #[command(visible_alias = "gen")]
    Generate(generate::Group),
    /// Ask whether the server is well
    Health,
    /// Manage the users of the tailnet
    #[command(visible_alias = "user")]
    Users(users::Group),
    /// Manage the keys that nodes join with
    #[command(visible_aliases = ["preauthkey", "authkey", "pre"])]
    Preauthkeys(preauthkeys::Group),
    /// Manage the keys for the API
    #[command(visible_aliases = ["apikey", "api"])]
    Apikeys(apikeys::Group),
    /// See who changed what
    Audit(audit::Group),
    /// Manage the nodes of the tailnet
    #[command(visible_alias = "node")]
    Nodes(nodes::Group),
    /// Decide about logins that wait
    Auth(auth::Group),
    /// Manage the policy
    Policy(policy::Group),
    /// Look at the replicas, add and remove them
    Cluster(cluster::Group),
    /// Move in from another server
    Import(import::Group),
    /// Print a completion script for a shell
    Completion(completion::Group),
    #[command(hide = true)]
    Mockoidc,
    /// Look at a server from outside
    #[command(hide = true)]
    Debug(debug::Group),
    #[command(hide = true, aliases = ["oauth-client", "oauthclients", "oauthclient", "oauth"])]
    OauthClients(Anything),
    /// Help about any command
    Help {
        #[arg(value_name = "command", hide = true)]
        commands: Vec<String>,
    },
}

/// Arguments of a command that is not there yet.
#[derive(Debug, Args)]
pub(super) struct Anything {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    arguments: Vec<String>,
}

impl Command {
    /// The name to type.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Version => "version",
            Self::Configtest => "configtest",
            Self::DumpConfig => "dumpConfig",
            Self::Generate(_) => "generate",
            Self::Health => "health",
            Self::Users(_) => "users",
            Self::Preauthkeys(_) => "preauthkeys",
            Self::Apikeys(_) => "apikeys",
            Self::Audit(_) => "audit",
            Self::Nodes(_) => "nodes",
            Self::Auth(_) => "auth",
            Self::Policy(_) => "policy",
            Self::Cluster(_) => "cluster",
            Self::Import(_) => "import",
            Self::Completion(_) => "completion",
            Self::Mockoidc => "mockoidc",
            Self::Debug(_) => "debug",
            Self::OauthClients(_) => "oauth-clients",
            Self::Help { .. } => "help",
        }
    }
}
