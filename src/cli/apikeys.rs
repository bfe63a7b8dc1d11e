//! `apikeys`.

use super::client::{Client, segment};
use super::context::Context;
use super::error::Error;
use super::go;
use super::preauthkeys::{expiration, from_now};
use super::table::Table;
use crate::api::types::ApiKey;
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
    #[command(visible_aliases = ["remove", "del"])]
    Delete(Which),
}

#[derive(Debug, Args)]
struct Create {
    /// How long the key is valid, such as 30m, 24h or 90d
    #[arg(short, long, value_name = "string", default_value = "90d")]
    expiration: String,
    /// What the key lets its holder do: 'admin' or 'read-only'
    #[arg(long, value_name = "string", default_value = "admin")]
    role: String,
    /// Whose key it is; the audit record names them
    #[arg(long, value_name = "string", default_value = "")]
    owner: String,
}

#[derive(Debug, Args)]
struct Which {
    /// Prefix of the key
    #[arg(short, long, value_name = "string", default_value = "")]
    prefix: String,
    /// Id of the key
    #[arg(short, long, value_name = "uint", default_value = "0", value_parser = go::uint)]
    id: u64,
}

/// One of the two ways to say which key.
enum Chosen<'a> {
    Prefix(&'a str),
    Id(u64),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Created {
    api_key: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Many {
    api_keys: Vec<ApiKey>,
}

pub(super) async fn run(context: &mut Context<'_>, group: Group) -> Result<(), Error> {
    match group.command {
        Command::List => list(context).await,
        Command::Create(args) => {
            let mut body = json!({ "expiration": from_now(&args.expiration)? });
            // What is not said is not sent, so that an older server is asked for nothing new.
            if args.role != "admin" {
                body["role"] = args.role.as_str().into();
            }
            if !args.owner.is_empty() {
                body["owner"] = args.owner.as_str().into();
            }
            let answer: Created = context.client()?.post("creating api key", "/api/v1/apikey", &body).await?;
            context.show(answer.api_key.clone(), &answer.api_key)
        }
        Command::Expire(which) => {
            let body = match which.chosen()? {
                Chosen::Prefix(prefix) => json!({ "prefix": prefix }),
                Chosen::Id(id) => json!({ "id": id.to_string() }),
            };
            let answer: Value = context.client()?.post("expiring api key", "/api/v1/apikey/expire", &body).await?;
            context.show("Key expired", &answer)
        }
        Command::Delete(which) => delete(context, &which).await,
    }
}

impl Which {
    fn chosen(&self) -> Result<Chosen<'_>, Error> {
        match (self.prefix.as_str(), self.id) {
            ("", 0) => Err(Error::said("either --id or --prefix must be provided: missing parameters")),
            ("", id) => Ok(Chosen::Id(id)),
            (prefix, 0) => Ok(Chosen::Prefix(prefix)),
            _ => Err(Error::said("only one of --id or --prefix can be provided: missing parameters")),
        }
    }
}

async fn keys(client: &Client) -> Result<Vec<ApiKey>, Error> {
    let answer: Many = client.get("listing api keys", "/api/v1/apikey").await?;
    Ok(answer.api_keys)
}

async fn list(context: &mut Context<'_>) -> Result<(), Error> {
    let keys = keys(&context.client()?).await?;
    let mut table = Table::new(&["ID", "Prefix", "Expiration", "Created", "Role", "Owner", "Last used"]);
    for key in &keys {
        table.row(vec![
            key.id.as_str().into(),
            key.prefix.as_str().into(),
            expiration(key.expiration.as_deref()),
            go::table_time(&key.created_at).into(),
            if key.role.is_empty() { "-" } else { &key.role }.into(),
            if key.owner.is_empty() { "-" } else { &key.owner }.into(),
            key.last_seen.as_deref().map_or_else(|| "-".into(), go::table_time).into(),
        ]);
    }
    context.show(table.render(context.terminal.colour), &keys)
}

/// The API deletes by prefix, so an id is looked up.
async fn delete(context: &mut Context<'_>, which: &Which) -> Result<(), Error> {
    let chosen = which.chosen()?;
    let client = context.client()?;
    let prefix = match chosen {
        Chosen::Prefix(prefix) => prefix.to_owned(),
        Chosen::Id(id) => {
            let id = id.to_string();
            let key = keys(&client).await?.into_iter().find(|key| key.id == id);
            key.ok_or_else(|| Error::said(format!("deleting api key: there is no key with the id {id}")))?.prefix
        }
    };
    let answer: Value = client.delete("deleting api key", &format!("/api/v1/apikey/{}", segment(&prefix))).await?;
    context.show("Key deleted", &answer)
}
