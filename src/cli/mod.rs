//! The command line: Headscale's commands, and `cluster` beside them.
//!
//! A command talks to a server only through the REST API (`client`), by the
//! administrators' socket or by URLs and an API key. Names, flags, columns,
//! messages and exit codes are Headscale's, because scripts read them; the
//! program answers to the name that it is called by. Each group of commands is
//! a file; what they share is `context::Context`.
//!
//! | file | what it has |
//! |---|---|
//! | `args.rs`, `parse.rs`, `help.rs` | the tree of commands, and cobra's words for it |
//! | `context.rs`, `output.rs`, `table.rs`, `yaml.rs`, `terminal.rs` | what a command prints, and where |
//! | `client/` | the REST API's client, and which server it asks |
//! | the others | one group of commands each |

mod apikeys;
mod args;
mod audit;
mod auth;
mod client;
mod cluster;
mod completion;
mod context;
mod debug;
mod error;
mod generate;
mod go;
mod help;
mod import;
mod man;
mod nodes;
mod output;
mod parse;
mod policy;
mod preauthkeys;
mod server;
mod table;
mod terminal;
mod users;
mod yaml;

#[cfg(test)]
mod tests;

use crate::config::{Config, Surroundings};
use args::{Cli, Command};
use context::Context;
use error::Error;
use std::ffi::OsString;
use std::future::Future;
use std::process::ExitCode;
use terminal::Terminal;

/// Why `serve` ended when nobody asked it to.
pub type ServeError = Box<dyn std::error::Error + Send + Sync>;

/// Runs one command with this process's arguments, environment and streams.
/// `serve` is the server: it gets its configuration, and returns when it has stopped.
/// The exit code is 0, or 1 for every error.
pub fn run<S, F>(args: impl IntoIterator<Item = OsString>, serve: S) -> ExitCode
where
    S: FnOnce(Config) -> F,
    F: Future<Output = Result<(), ServeError>>,
{
    // What the server and the commands write is nobody else's business: files 0600,
    // directories 0700, also those that libraries make.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let args: Vec<OsString> = args.into_iter().collect();
    ExitCode::from(execute(args, &mut Terminal::of_this_process(), Surroundings::of_this_process(), serve))
}

/// As [`run`], with everything that it reads and writes passed in.
fn execute<S, F>(args: Vec<OsString>, terminal: &mut Terminal, surroundings: Surroundings, serve: S) -> u8
where
    S: FnOnce(Config) -> F,
    F: Future<Output = Result<(), ServeError>>,
{
    let program = parse::program(&args);
    let format = output::Format::in_args(&args);
    let done = match parse::parse(&program, args) {
        Err(error) => Err(error),
        Ok(parse::Parsed::Help(text)) => terminal.print(&text),
        Ok(parse::Parsed::Command { cli, ignored }) => {
            let mut context = Context { program, globals: cli.globals.clone(), format, terminal, surroundings };
            for argument in ignored {
                context.say(&format!("Warning: the argument {argument:?} has no effect"));
            }
            perform(*cli, &mut context, serve)
        }
    };
    match done {
        Ok(()) => 0,
        Err(Error::Shown) => 1,
        Err(error) => {
            terminal.say(&output::error(format, &error.to_string()));
            1
        }
    }
}

fn perform<S, F>(cli: Cli, context: &mut Context<'_>, serve: S) -> Result<(), Error>
where
    S: FnOnce(Config) -> F,
    F: Future<Output = Result<(), ServeError>>,
{
    match cli.command {
        Command::Serve => server::serve(context, serve),
        Command::Configtest => server::configtest(context),
        Command::Version => server::version(context),
        Command::Generate(group) => generate::run(context, group),
        Command::Completion(group) => completion::run(context, group),
        Command::Help { commands } => {
            let path: Vec<&str> = commands.iter().map(String::as_str).collect();
            context.help(&path)
        }
        Command::Debug(group) => debug::run(context, group),
        Command::DumpConfig | Command::Mockoidc | Command::OauthClients(_) => {
            Err(Error::said(format!("{} is not there yet", cli.command.name())))
        }
        remote => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| Error::said(format!("starting: {error}")))?;
            runtime.block_on(perform_remotely(remote, context))
        }
    }
}

/// The commands that ask a server.
async fn perform_remotely(command: Command, context: &mut Context<'_>) -> Result<(), Error> {
    match command {
        Command::Health => server::health(context).await,
        Command::Users(group) => users::run(context, group).await,
        Command::Preauthkeys(group) => preauthkeys::run(context, group).await,
        Command::Apikeys(group) => apikeys::run(context, group).await,
        Command::Audit(group) => audit::run(context, group).await,
        Command::Nodes(group) => nodes::run(context, group).await,
        Command::Auth(group) => auth::run(context, group).await,
        Command::Policy(group) => policy::run(context, group).await,
        Command::Cluster(group) => cluster::run(context, group).await,
        Command::Import(group) => import::run(context, group).await,
        local => unreachable!("{} does not ask a server", local.name()),
    }
}
