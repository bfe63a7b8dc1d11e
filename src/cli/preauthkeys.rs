//! `preauthkeys`.

use super::context::Context;
use super::error::Error;
use super::go;
use super::table::{Cell, Table};
use crate::api::types::PreAuthKey;
use crate::config::duration;
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
    /// List the keys
    #[command(visible_aliases = ["ls", "show"])]
    List,
    /// Make a key
    #[command(visible_aliases = ["c", "new"])]
    Create(Create),
    /// Make a key expire now
    #[command(visible_aliases = ["revoke", "exp", "e"])]
    Expire(Which),
    /// Delete a key
    #[command(visible_aliases = ["del", "rm", "d"])]
    Delete(Which),
}

#[derive(Debug, Args)]
struct Create {
    /// Let any number of nodes join with the key, not one
    #[arg(long)]
    reusable: bool,
    /// Delete the key's nodes some time after they went away
    #[arg(long)]
    ephemeral: bool,
    /// How long the key is valid, such as 30m, 24h or 90d
    #[arg(short, long, value_name = "string", default_value = "1h")]
    expiration: String,
    /// Tags that the key's nodes belong to
    #[arg(long, value_name = "strings")]
    tags: Vec<String>,
    /// Id of the user that the key's nodes belong to
    #[arg(short, long, value_name = "uint", default_value = "0", value_parser = go::uint)]
    user: u64,
}

#[derive(Debug, Args)]
struct Which {
    /// Id of the key
    #[arg(short, long, value_name = "uint", default_value = "0", value_parser = go::uint)]
    id: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct One {
    pre_auth_key: PreAuthKey,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Many {
    pre_auth_keys: Vec<PreAuthKey>,
}

pub(super) async fn run(context: &mut Context<'_>, group: Group) -> Result<(), Error> {
    match group.command {
        Command::List => list(context).await,
        Command::Create(args) => create(context, &args).await,
        Command::Expire(which) => {
            let body = json!({ "id": which.checked()?.to_string() });
            let answer: Value = context.client()?.post("expiring key", "/api/v1/preauthkey/expire", &body).await?;
            context.show("Key expired", &answer)
        }
        Command::Delete(which) => {
            let path = format!("/api/v1/preauthkey?id={}", which.checked()?);
            let answer: Value = context.client()?.delete("deleting key", &path).await?;
            context.show("Key deleted", &answer)
        }
    }
}

impl Which {
    fn checked(&self) -> Result<u64, Error> {
        if self.id == 0 { Err(Error::said("missing --id parameter: missing parameters")) } else { Ok(self.id) }
    }
}

async fn list(context: &mut Context<'_>) -> Result<(), Error> {
    let answer: Many = context.client()?.get("listing preauthkeys", "/api/v1/preauthkey").await?;
    let header = ["ID", "Key/Prefix", "Reusable", "Ephemeral", "Used", "Expiration", "Created", "Owner"];
    let mut table = Table::new(&header);
    for key in &answer.pre_auth_keys {
        table.row(vec![
            key.id.as_str().into(),
            key.key.as_str().into(),
            key.reusable.to_string().into(),
            key.ephemeral.to_string().into(),
            key.used.to_string().into(),
            expiration(key.expiration.as_deref()),
            go::table_time(&key.created_at).into(),
            owner(key).into(),
        ]);
    }
    context.show(table.render(context.terminal.colour), &answer.pre_auth_keys)
}

/// A time that should lie ahead.
pub(super) fn expiration(time: Option<&str>) -> Cell {
    let Some(time) = time else { return "-".into() };
    let is_ahead = time.parse::<jiff::Timestamp>().is_ok_and(|time| time > jiff::Timestamp::now());
    Cell::good(go::table_time(time), is_ahead)
}

fn owner(key: &PreAuthKey) -> String {
    if !key.acl_tags.is_empty() {
        return key.acl_tags.join("\n");
    }
    key.user.as_ref().map(|user| user.name.clone()).filter(|name| !name.is_empty()).unwrap_or_else(|| "-".into())
}

async fn create(context: &mut Context<'_>, args: &Create) -> Result<(), Error> {
    let mut body = json!({
        "reusable": args.reusable,
        "ephemeral": args.ephemeral,
        "expiration": from_now(&args.expiration)?,
        "aclTags": go::strings(&args.tags),
    });
    if args.user != 0 {
        body["user"] = args.user.to_string().into();
    }
    let answer: One = context.client()?.post("creating preauthkey", "/api/v1/preauthkey", &body).await?;
    context.show(answer.pre_auth_key.key.clone(), &answer.pre_auth_key)
}

/// The time that lies this far ahead.
pub(super) fn from_now(text: &str) -> Result<String, Error> {
    let ahead = duration::prometheus(text).map_err(|error| Error::said(format!("parsing duration: {error}")))?;
    let then = jiff::Timestamp::now().checked_add(ahead);
    let then = then.map_err(|_| Error::said(format!("parsing duration: {text:?} is too long")))?;
    Ok(then.to_string())
}
