//! `policy`.

mod explain;
mod history;

use super::context::Context;
use super::error::Error;
use super::go;
use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(super) struct Group {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the policy
    #[command(visible_aliases = ["show", "view", "fetch"])]
    Get(Bypass),
    /// Put a policy in force
    #[command(visible_aliases = ["put", "update"])]
    Set(File),
    /// Check a policy without putting it in force
    Check(File),
    /// Run the tests of a policy, by default of the one in force
    ///
    /// The exit code is 0 only if all of them pass.
    Test(explain::Tested),
    /// Tell which rule lets somebody through, or why none does
    ///
    /// SRC DST:PORT asks about packets; "ssh SRC USER@DST" about a session, "route PREFIX NODE" about a
    /// subnet or exit route, "tag TAG USER" about giving a tag. SRC and DST are nodes (name, id, address),
    /// users, tags, groups or hosts.
    Explain(explain::Asked),
    /// List the policies that are and were in force, or print one of them
    History(history::Which),
    /// Show how two policies differ, by default the one in force and the one before it
    Diff(history::Versions),
    /// Put an earlier policy in force again
    Rollback(history::Which),
}

#[derive(Debug, Args)]
struct File {
    /// File with the policy, in HuJSON
    #[arg(short, long, value_name = "string", required = true)]
    file: PathBuf,
    #[command(flatten)]
    bypass: Bypass,
}

/// Headscale's way round its server, in both spellings.
#[derive(Debug, Args)]
struct Bypass {
    #[arg(long, hide = true)]
    bypass_server_and_access_database_directly: bool,
    #[arg(long, hide = true)]
    bypass_grpc_and_access_database_directly: bool,
}

#[derive(Deserialize)]
struct Policy {
    policy: String,
}

pub(super) async fn run(context: &mut Context<'_>, group: Group) -> Result<(), Error> {
    match group.command {
        Command::Get(bypass) => {
            bypass.refuse()?;
            let answer: Policy = context.client()?.get("getting policy", "/api/v1/policy").await?;
            // As it is, in every format: it is a document of its own.
            context.terminal.print(&(answer.policy + "\n"))
        }
        Command::Set(args) => {
            let body = args.body()?;
            let _: Value = context.client()?.put("setting policy", "/api/v1/policy", &body).await?;
            context.terminal.print("Policy updated.\n")
        }
        Command::Check(args) => {
            let body = args.body()?;
            let _: Value = context.client()?.post("checking policy", "/api/v1/policy/check", &body).await?;
            context.terminal.print("Policy is valid\n")
        }
        Command::Test(tested) => explain::test(context, tested).await,
        Command::Explain(asked) => explain::explain(context, asked).await,
        Command::History(which) => history::show(context, which).await,
        Command::Diff(versions) => history::diff(context, versions).await,
        Command::Rollback(which) => history::rollback(context, which).await,
    }
}

impl Bypass {
    fn refuse(&self) -> Result<(), Error> {
        let flag =
            match (self.bypass_server_and_access_database_directly, self.bypass_grpc_and_access_database_directly) {
                (false, false) => return Ok(()),
                (true, _) => "--bypass-server-and-access-database-directly",
                (false, true) => "--bypass-grpc-and-access-database-directly",
            };
        Err(Error::said(format!(
            "{flag} is not there: the policy is replicated, and only a running cluster can read or change it. Leave \
             the flag out"
        )))
    }
}

impl File {
    fn body(&self) -> Result<Value, Error> {
        self.bypass.refuse()?;
        Ok(json!({ "policy": read(&self.file)? }))
    }
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path)
        .map_err(|error| Error::said(format!("reading policy file: {}", go::open_error(path, &error))))
}
