//! `auth`: decisions about logins that wait.

use super::context::Context;
use super::error::Error;
use crate::api::types::Node;
use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Debug, Args)]
pub(super) struct Group {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Register a node for a user
    Register(Register),
    /// Approve a login
    Approve(Which),
    /// Reject a login
    Reject(Which),
}

#[derive(Debug, Args)]
struct Register {
    /// Name of the user
    #[arg(short, long, value_name = "string", required = true)]
    user: String,
    /// Id of the login, from the page that the client names
    #[arg(long, value_name = "string", required = true)]
    auth_id: String,
}

#[derive(Debug, Args)]
struct Which {
    /// Id of the login
    #[arg(long, value_name = "string", required = true)]
    auth_id: String,
}

#[derive(Deserialize)]
pub(super) struct Registered {
    pub(super) node: Node,
}

pub(super) async fn run(context: &mut Context<'_>, group: Group) -> Result<(), Error> {
    match group.command {
        Command::Register(args) => {
            let body = json!({ "user": args.user, "authId": args.auth_id });
            let answer: Registered = context.client()?.post("registering node", "/api/v1/auth/register", &body).await?;
            show_registered(context, &answer.node)
        }
        Command::Approve(which) => decide(context, "approve", "Auth request approved", which).await,
        Command::Reject(which) => decide(context, "reject", "Auth request rejected", which).await,
    }
}

pub(super) fn show_registered(context: &mut Context<'_>, node: &Node) -> Result<(), Error> {
    context.show(format!("Node {} registered", node.given_name), node)
}

async fn decide(context: &mut Context<'_>, verb: &str, done: &str, which: Which) -> Result<(), Error> {
    let body = json!({ "authId": which.auth_id });
    let answer: Value = context.client()?.post("deciding auth request", &format!("/api/v1/auth/{verb}"), &body).await?;
    context.show(done, &answer)
}
