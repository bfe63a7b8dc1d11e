//! `nodes`.

mod show;

use super::auth::{Registered, show_registered};
use super::client::segment;
use super::context::Context;
use super::error::Error;
use super::go;
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
    /// List the nodes
    #[command(visible_aliases = ["ls", "show"])]
    List(List),
    /// List the routes that nodes offer
    #[command(visible_aliases = ["lsr", "routes"])]
    ListRoutes(MaybeWhich),
    #[command(hide = true)]
    Register(Register),
    /// Make a node log in again, now or later
    #[command(visible_aliases = ["logout", "exp", "e"])]
    Expire(Expire),
    /// Give a node another name
    Rename(Rename),
    /// Delete a node
    #[command(visible_alias = "del")]
    Delete(Which),
    /// Replace the tags of a node
    #[command(visible_aliases = ["tags", "t"])]
    Tag(Tag),
    /// Replace the approved routes of a node
    ApproveRoutes(ApproveRoutes),
    /// Give nodes the addresses that they lack, and take those without a prefix
    #[command(name = "backfillips")]
    BackfillIps,
}

#[derive(Debug, Args)]
struct List {
    /// Only the nodes of the user with this name
    #[arg(short, long, value_name = "string", default_value = "")]
    user: String,
}

#[derive(Debug, Args)]
struct MaybeWhich {
    /// Id of a node
    #[arg(short, long, value_name = "uint", default_value = "0", value_parser = go::uint)]
    identifier: u64,
}

#[derive(Debug, Args)]
struct Which {
    /// Id of the node
    #[arg(short, long, value_name = "uint", required = true, value_parser = go::uint)]
    identifier: u64,
}

#[derive(Debug, Args)]
struct Register {
    /// Name of the user
    #[arg(short, long, value_name = "string", required = true)]
    user: String,
    /// Registration key, from the page that the client names
    #[arg(short, long, value_name = "string", required = true)]
    key: String,
}

#[derive(Debug, Args)]
struct Expire {
    #[command(flatten)]
    which: Which,
    /// When, by RFC 3339, such as 2027-01-02T03:04:05Z; empty: now
    #[arg(short, long, value_name = "string", default_value = "")]
    expiry: String,
    /// Never
    #[arg(short, long)]
    disable: bool,
}

#[derive(Debug, Args)]
struct Rename {
    #[arg(value_name = "NEW_NAME")]
    new_name: Option<String>,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, Args)]
struct Tag {
    #[command(flatten)]
    which: Which,
    /// The node's tags from now on
    #[arg(short, long, value_name = "strings")]
    tags: Vec<String>,
}

#[derive(Debug, Args)]
struct ApproveRoutes {
    #[command(flatten)]
    which: Which,
    /// The node's approved routes from now on; empty: none
    #[arg(short, long, value_name = "strings")]
    routes: Vec<String>,
}

#[derive(Deserialize)]
struct One {
    node: Node,
}

#[derive(Deserialize)]
struct Many {
    nodes: Vec<Node>,
}

pub(super) async fn run(context: &mut Context<'_>, group: Group) -> Result<(), Error> {
    match group.command {
        Command::List(args) => list(context, &args.user).await,
        Command::ListRoutes(which) => list_routes(context, which.identifier).await,
        Command::Register(args) => register(context, &args).await,
        Command::Expire(args) => expire(context, &args).await,
        Command::Rename(args) => rename(context, &args).await,
        Command::Delete(which) => delete(context, &which).await,
        Command::Tag(args) => {
            let body = json!({ "tags": go::strings(&args.tags) });
            let path = args.which.path("/tags");
            update(context, "setting tags", &path, &body).await
        }
        Command::ApproveRoutes(args) => {
            let body = json!({ "routes": go::strings(&args.routes) });
            let path = args.which.path("/approve_routes");
            update(context, "setting approved routes", &path, &body).await
        }
        Command::BackfillIps => backfill_ips(context).await,
    }
}

impl Which {
    fn path(&self, below: &str) -> String {
        format!("/api/v1/node/{}{below}", self.identifier)
    }
}

async fn update(context: &mut Context<'_>, doing: &'static str, path: &str, body: &Value) -> Result<(), Error> {
    let answer: One = context.client()?.post(doing, path, body).await?;
    context.show("Node updated", &answer.node)
}

async fn list(context: &mut Context<'_>, user: &str) -> Result<(), Error> {
    let filter = if user.is_empty() { String::new() } else { format!("?user={}", segment(user)) };
    let answer: Many = context.client()?.get("listing nodes", &format!("/api/v1/node{filter}")).await?;
    let table = show::nodes(&answer.nodes, jiff::Timestamp::now());
    context.show(table.render(context.terminal.colour), &answer.nodes)
}

async fn list_routes(context: &mut Context<'_>, identifier: u64) -> Result<(), Error> {
    let mut answer: Many = context.client()?.get("listing nodes", "/api/v1/node").await?;
    answer.nodes.retain(|node| {
        let is_meant = identifier == 0 || node.id == identifier.to_string();
        is_meant
            && !(node.approved_routes.is_empty() && node.available_routes.is_empty() && node.subnet_routes.is_empty())
    });
    context.show(show::routes(&answer.nodes).render(context.terminal.colour), &answer.nodes)
}

async fn register(context: &mut Context<'_>, args: &Register) -> Result<(), Error> {
    context.say(&format!(
        "Command \"register\" is deprecated, use '{} auth register --auth-id <id> --user <user>' instead",
        context.program
    ));
    let path = format!("/api/v1/node/register?user={}&key={}", segment(&args.user), segment(&args.key));
    let answer: Registered = context.client()?.post("registering node", &path, &json!({})).await?;
    show_registered(context, &answer.node)
}

async fn expire(context: &mut Context<'_>, args: &Expire) -> Result<(), Error> {
    let (body, done) = if args.disable {
        (json!({ "disableExpiry": true }), "Node expiry disabled")
    } else if args.expiry.is_empty() {
        (json!({}), "Node expired")
    } else {
        let when = go::time(&args.expiry).map_err(|error| Error::said(format!("parsing expiry time: {error}")))?;
        let done = if when > jiff::Timestamp::now() { "Node expiration updated" } else { "Node expired" };
        (json!({ "expiry": when.to_string() }), done)
    };
    let answer: One = context.client()?.post("expiring node", &args.which.path("/expire"), &body).await?;
    context.show(done, &answer.node)
}

async fn rename(context: &mut Context<'_>, args: &Rename) -> Result<(), Error> {
    let new_name = args.new_name.as_deref().filter(|name| !name.is_empty());
    let new_name = new_name.ok_or_else(|| Error::said("missing parameters: the node's new name"))?;
    let path = args.which.path(&format!("/rename/{}", segment(new_name)));
    let answer: One = context.client()?.post("renaming node", &path, &json!({})).await?;
    context.show("Node renamed", &answer.node)
}

async fn delete(context: &mut Context<'_>, which: &Which) -> Result<(), Error> {
    let client = context.client()?;
    let found: One = client.get("getting node", &which.path("")).await?;
    if !context.confirm(&format!("Do you want to remove the node {}?", found.node.given_name)) {
        return context.show("Node not deleted", &json!({ "Result": "Node not deleted" }));
    }
    let _: Value = client.delete("deleting node", &which.path("")).await?;
    context.show("Node deleted", &json!({ "Result": "Node deleted" }))
}

async fn backfill_ips(context: &mut Context<'_>) -> Result<(), Error> {
    if !context.confirm("Are you sure that you want to assign/remove IPs to/from nodes?") {
        return Ok(());
    }
    let path = "/api/v1/node/backfillips?confirmed=true";
    let answer: Value = context.client()?.post("backfilling IPs", path, &json!({})).await?;
    context.show("Node IPs backfilled successfully", &answer)
}
