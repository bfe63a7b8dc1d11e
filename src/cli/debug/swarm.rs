//! `debug swarm`: how many clients a cluster can take.

use super::table::table;
use crate::api::types::PreAuthKey;
use crate::cli::client::Client;
use crate::cli::context::Context;
use crate::cli::error::Error;
use crate::cli::go;
use crate::config::duration;
use crate::swarm::{AuthKeys, Plan, Progress, Report, SPARES, Server, Until};
use clap::Args;
use futures::{StreamExt, TryStreamExt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// More nodes than a process has file descriptors for.
const MOST_NODES: u64 = 500_000;
/// Keys that are made at a time.
const KEYS_AT_ONCE: usize = 32;
/// For how long a key of our own is valid, if the command is killed before it deletes it.
const KEY_VALID: &str = "1h";
/// File descriptors of the driver besides one for each node and two for the bare fan-out.
const OTHER_FILES: u64 = 256;

#[derive(Debug, Args)]
pub(super) struct Swarm {
    /// Servers to load, separated by commas; the nodes are spread over them
    #[arg(long, value_name = "urls", default_value = "http://127.0.0.1:8080")]
    servers: Vec<String>,
    /// Key to register with: a reusable one, or @FILE with one single-use key a line
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    auth_key: String,
    /// Id of a user for whom to make an ephemeral key, instead of --auth-key
    #[arg(short, long, value_name = "uint", default_value = "0", hide_default_value = true, value_parser = go::uint)]
    user: u64,
    /// With --user, make a single-use key for each node
    #[arg(long)]
    single_use: bool,
    /// Number of nodes
    #[arg(short, long, value_name = "uint", default_value = "100", value_parser = go::uint)]
    nodes: u64,
    /// Registrations and first maps at a time
    #[arg(long, value_name = "uint", default_value = "32", value_parser = go::uint)]
    concurrency: u64,
    /// Changes of each kind to measure
    #[arg(long, value_name = "uint", default_value = "30", value_parser = go::uint)]
    rounds: u64,
    /// Nodes that drop their stream and come back
    #[arg(long, value_name = "uint", default_value = "10", value_parser = go::uint)]
    flaps: u64,
    /// How long to let all streams be idle, and measure what that costs
    #[arg(long, value_name = "duration", default_value = "0s", hide_default_value = true)]
    idle: String,
    /// Shell command that restarts all servers, to run after all have joined and none is connected
    #[arg(long, value_name = "command", default_value = "", hide_default_value = true)]
    restart: String,
    /// Shell command to run with all nodes connected, such as one that kills a replica
    #[arg(long, value_name = "command", default_value = "", hide_default_value = true)]
    storm: String,
    /// The last phase to run: join, connect, fanout or storm
    #[arg(long, value_name = "phase", default_value = "storm")]
    until: String,
    /// How long to count marks of offline peers after the storm is over
    #[arg(long, value_name = "duration", default_value = "0s", hide_default_value = true)]
    watch: String,
    /// Process ids of the servers to account for (default: those that listen at --servers)
    #[arg(long, value_name = "pids")]
    pids: Vec<String>,
    /// How long a phase may take
    #[arg(long, value_name = "duration", default_value = "3m")]
    wait: String,
    /// How long to rest between phases
    #[arg(long, value_name = "duration", default_value = "2s")]
    settle: String,
    /// What the nodes' names begin with (default: swarm- and a random number)
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    prefix: String,
    /// Do not log the nodes out at the end
    #[arg(long)]
    keep: bool,
    /// Load servers that are not on this machine, too
    #[arg(long)]
    yes_really_load: bool,
}

/// A key that this command made.
struct OwnKey {
    id: String,
    key: String,
}

pub(super) fn run(context: &mut Context<'_>, args: Swarm) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::said(format!("starting: {error}")))?;
    runtime.block_on(perform(context, args))
}

async fn perform(context: &mut Context<'_>, args: Swarm) -> Result<(), Error> {
    let nodes = bounded("--nodes", args.nodes, MOST_NODES)?;
    let servers = servers(&args).await?;
    if let Some(limit) = too_few_files(args.nodes) {
        return Err(Error::said(format!(
            "{nodes} nodes need some {} open files, and this process may have {limit}: raise the limit (ulimit -n)",
            3 * args.nodes + OTHER_FILES
        )));
    }
    let time = |flag: &str, text: &str| {
        duration::prometheus(text).map_err(|error| Error::said(format!("{flag}: parsing duration: {error}")))
    };
    let prefix = match args.prefix.as_str() {
        "" => format!("swarm-{:04x}", rand::random::<u16>()),
        given => given.into(),
    };
    let mut plan = Plan {
        pids: pids(&args)?,
        keys: AuthKeys::Each(Vec::new()),
        nodes,
        concurrency: bounded("--concurrency", args.concurrency, 10_000)?,
        rounds: bounded("--rounds", args.rounds, 10_000)?,
        flaps: usize::try_from(args.flaps).unwrap_or(usize::MAX),
        idle: time("--idle", &args.idle)?,
        restart: Some(args.restart.clone()).filter(|command| !command.is_empty()),
        storm: Some(args.storm.clone()).filter(|command| !command.is_empty()),
        until: until(&args.until)?,
        watch_offline: time("--watch", &args.watch)?,
        patience: time("--wait", &args.wait)?,
        settle: time("--settle", &args.settle)?,
        prefix: prefix.clone(),
        leave: !args.keep,
        servers,
    };
    let own = match args.auth_key.as_str() {
        "" => {
            let client = context.client()?.patient(Duration::from_secs(30));
            let own = own_keys(&client, &args, nodes + SPARES).await?;
            plan.keys = keys_of(&own);
            Some((client, own))
        }
        given => {
            plan.keys = given_keys(given, nodes)?;
            None
        }
    };
    let report = crate::swarm::run(plan, &Progress::on_terminal()).await;
    let is_clean = clean_up(context, own.as_ref(), &args, &report, &prefix).await;
    context.show(table(&report, context.terminal.colour).trim_end(), &report)?;
    is_clean
}

fn bounded(flag: &str, value: u64, most: u64) -> Result<usize, Error> {
    match usize::try_from(value) {
        Ok(small) if (1..=most).contains(&value) => Ok(small),
        _ => Err(Error::said(format!("{flag} {value}: must be between 1 and {most}"))),
    }
}

/// All of them answer, and may be loaded.
async fn servers(args: &Swarm) -> Result<Vec<Server>, Error> {
    let said = |error: crate::swarm::UnfitServer| Error::said(error.to_string());
    let mut servers = Vec::new();
    for url in go::strings(&args.servers) {
        let (_, address) = Server::resolve(&url).await.map_err(said)?;
        if !address.ip().is_loopback() && !args.yes_really_load {
            return Err(Error::said(format!(
                "server {url:?} is not on this machine: a load test takes all the time that a server has. Add \
                 --yes-really-load if it is yours and nobody needs it now"
            )));
        }
        servers.push(Server::find(&url).await.map_err(said)?);
    }
    match servers.is_empty() {
        true => Err(Error::said("missing parameters: --servers")),
        false => Ok(servers),
    }
}

fn pids(args: &Swarm) -> Result<Option<Vec<u32>>, Error> {
    let given = go::strings(&args.pids);
    if given.is_empty() {
        return Ok(None);
    }
    let parse = |pid: &String| pid.parse().map_err(|_| Error::said(format!("--pids: {pid:?} is no process id")));
    given.iter().map(parse).collect::<Result<_, _>>().map(Some)
}

fn until(phase: &str) -> Result<Until, Error> {
    match phase {
        "join" => Ok(Until::Join),
        "connect" => Ok(Until::Connect),
        "fanout" => Ok(Until::Fanout),
        "storm" => Ok(Until::Storm),
        other => Err(Error::said(format!("--until {other:?}: must be join, connect, fanout or storm"))),
    }
}

/// Takes what the system allows; the limit, if that is not enough.
fn too_few_files(nodes: u64) -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    // If it is refused, the old limit counts.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.filter(|limit| *limit < 3 * nodes + OTHER_FILES)
}

/// `--auth-key`.
fn given_keys(given: &str, nodes: usize) -> Result<AuthKeys, Error> {
    let Some(file) = given.strip_prefix('@') else { return Ok(AuthKeys::One(given.into())) };
    let path = std::path::Path::new(file);
    let text = std::fs::read_to_string(path).map_err(|error| Error::said(go::open_error(path, &error)))?;
    let keys: Vec<String> = text.split_whitespace().map(String::from).collect();
    match keys.len() {
        few if few < nodes => Err(Error::said(format!("{file} has {few} keys, and there are {nodes} nodes"))),
        _ => Ok(AuthKeys::Each(keys)),
    }
}

async fn own_keys(client: &Client, args: &Swarm, nodes: usize) -> Result<Vec<OwnKey>, Error> {
    if args.user == 0 {
        return Err(Error::said("missing parameters: --auth-key, or --user to make a key for that user"));
    }
    let count = if args.single_use { nodes } else { 1 };
    let expiration = crate::cli::preauthkeys::from_now(KEY_VALID)?;
    let body = json!({
        "user": args.user.to_string(), "reusable": !args.single_use, "ephemeral": true, "expiration": expiration,
    });
    let make = |_| async {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct One {
            pre_auth_key: PreAuthKey,
        }
        let answer: One = client.post("creating preauthkey", "/api/v1/preauthkey", &body).await?;
        Ok::<_, Error>(OwnKey { id: answer.pre_auth_key.id.to_string(), key: answer.pre_auth_key.key })
    };
    futures::stream::iter(0..count).map(make).buffer_unordered(KEYS_AT_ONCE).try_collect().await
}

fn keys_of(own: &[OwnKey]) -> AuthKeys {
    match own {
        [one] => AuthKeys::One(one.key.clone()),
        many => AuthKeys::Each(many.iter().map(|own| own.key.clone()).collect()),
    }
}

/// Deletes the keys that were made, and says what stays behind.
async fn clean_up(
    context: &mut Context<'_>,
    own: Option<&(Client, Vec<OwnKey>)>,
    args: &Swarm,
    report: &Report,
    prefix: &str,
) -> Result<(), Error> {
    let Some((client, keys)) = own else {
        let state = if args.keep { "" } else { ", logged out unless their key was an ephemeral one" };
        context.say(&format!("The nodes {prefix}-* stay registered{state}: nodes list shows them."));
        return Ok(());
    };
    let delete = |key: &OwnKey| {
        let path = format!("/api/v1/preauthkey?id={}", key.id);
        async move { client.delete::<Value>("deleting key", &path).await.map(drop) }
    };
    let deletions: Vec<_> = keys.iter().map(delete).collect();
    let deleted: Vec<Result<(), Error>> =
        futures::stream::iter(deletions).buffer_unordered(KEYS_AT_ONCE).collect().await;
    let failed = report.leave.as_ref().map_or(report.nodes, |leave| leave.result.failed);
    if args.keep || failed > 0 {
        context.say(&format!(
            "{failed} of the nodes {prefix}-* stay registered; they are ephemeral: the server deletes them some time \
             after they went away."
        ));
    }
    deleted.into_iter().collect()
}
