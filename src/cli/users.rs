//! `users`.

use super::client::{Client, segment};
use super::context::Context;
use super::error::Error;
use super::go;
use super::table::Table;
use crate::api::types::User;
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
    /// Create a user
    #[command(visible_aliases = ["c", "new"])]
    Create(Create),
    /// List the users
    #[command(visible_aliases = ["ls", "show"])]
    List(Which),
    /// Remove a user who has no nodes
    #[command(visible_alias = "delete")]
    Destroy(Which),
    /// Give a user another name
    #[command(visible_alias = "mv")]
    Rename(Rename),
}

#[derive(Debug, Args)]
struct Create {
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Name to show
    #[arg(short, long, value_name = "string", default_value = "", hide_default_value = true)]
    display_name: String,
    /// E-mail address
    #[arg(short, long, value_name = "string", default_value = "")]
    email: String,
    /// URL of a picture
    #[arg(short, long, value_name = "string", default_value = "")]
    picture_url: String,
}

/// The first of these that is set counts.
#[derive(Debug, Args)]
struct Which {
    /// Id of a user
    #[arg(short, long, value_name = "int", default_value = "-1", value_parser = go::int)]
    identifier: i64,
    /// Name of a user
    #[arg(short, long, value_name = "string", default_value = "")]
    name: String,
    /// E-mail address of a user
    #[arg(short, long, value_name = "string", default_value = "")]
    email: String,
}

#[derive(Debug, Args)]
struct Rename {
    /// Id of the user
    #[arg(short, long, value_name = "int", default_value = "-1", value_parser = go::int)]
    identifier: i64,
    /// Name of the user
    #[arg(short, long, value_name = "string", default_value = "")]
    name: String,
    /// New name
    #[arg(short = 'r', long, value_name = "string", required = true)]
    new_name: String,
}

#[derive(Deserialize)]
struct One {
    user: User,
}

#[derive(Deserialize)]
struct Many {
    users: Vec<User>,
}

pub(super) async fn run(context: &mut Context<'_>, group: Group) -> Result<(), Error> {
    match group.command {
        Command::Create(args) => create(context, args).await,
        Command::List(which) => list(context, &which).await,
        Command::Destroy(which) => destroy(context, &which).await,
        Command::Rename(args) => rename(context, args).await,
    }
}

async fn create(context: &mut Context<'_>, args: Create) -> Result<(), Error> {
    let name = args.name.ok_or_else(|| Error::said("missing parameters"))?;
    let body = json!({
        "name": name, "displayName": args.display_name, "email": args.email, "pictureUrl": args.picture_url
    });
    let answer: One = context.client()?.post("creating user", "/api/v1/user", &body).await?;
    context.show("User created", &answer.user)
}

async fn list(context: &mut Context<'_>, which: &Which) -> Result<(), Error> {
    let users = find(&context.client()?, which).await?;
    let mut table = Table::new(&["ID", "Name", "Username", "Email", "Created"]);
    for user in &users {
        table.row(vec![
            user.id.as_str().into(),
            user.display_name.as_str().into(),
            user.name.as_str().into(),
            user.email.as_str().into(),
            go::table_time(&user.created_at).into(),
        ]);
    }
    context.show(table.render(context.terminal.colour), &users)
}

async fn destroy(context: &mut Context<'_>, which: &Which) -> Result<(), Error> {
    let client = context.client()?;
    let user = the_one(&client, which).await?;
    let question =
        format!("Do you want to remove the user {:?} ({}) and any associated preauthkeys?", user.name, user.id);
    if !context.confirm(&question) {
        return context.show("User not destroyed", &json!({ "Result": "User not destroyed" }));
    }
    let path = format!("/api/v1/user/{}", segment(&user.id));
    let answer: Value = client.delete("destroying user", &path).await?;
    context.show("User destroyed", &answer)
}

async fn rename(context: &mut Context<'_>, args: Rename) -> Result<(), Error> {
    let client = context.client()?;
    let which = Which { identifier: args.identifier, name: args.name, email: String::new() };
    let user = the_one(&client, &which).await?;
    let path = format!("/api/v1/user/{}/rename/{}", segment(&user.id), segment(&args.new_name));
    let answer: One = client.post("renaming user", &path, &json!({})).await?;
    context.show("User renamed", &answer.user)
}

async fn find(client: &Client, which: &Which) -> Result<Vec<User>, Error> {
    let filter = if which.identifier > 0 {
        format!("?id={}", which.identifier)
    } else if !which.name.is_empty() {
        format!("?name={}", segment(&which.name))
    } else if !which.email.is_empty() {
        format!("?email={}", segment(&which.email))
    } else {
        String::new()
    };
    let answer: Many = client.get("listing users", &format!("/api/v1/user{filter}")).await?;
    Ok(answer.users)
}

/// The user that is meant. Headscale's words stand for none as well as for
/// several; here they say which.
async fn the_one(client: &Client, which: &Which) -> Result<User, Error> {
    const AMBIGUOUS: &str = "multiple users match query, specify an ID";
    if which.identifier < 0 && which.name.is_empty() {
        return Err(Error::said("--name or --identifier flag is required"));
    }
    let mut users = find(client, which).await?;
    match (users.pop(), users.len()) {
        (Some(user), 0) => Ok(user),
        (Some(_), _) => Err(Error::said(AMBIGUOUS)),
        (None, _) => Err(Error::said(format!("{AMBIGUOUS} (there is no such user)"))),
    }
}
