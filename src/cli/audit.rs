//! `audit`: who changed what.

use super::context::Context;
use super::error::Error;
use super::go;
use super::table::Table;
use crate::api::types::AuditList;
use crate::config::duration;
use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(super) struct Group {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List what was changed, the newest first
    #[command(visible_aliases = ["ls", "show"])]
    List(Filter),
}

#[derive(Debug, Args)]
struct Filter {
    /// How many records, from 1 to 1000
    #[arg(short, long, value_name = "uint", default_value = "100", value_parser = go::uint)]
    limit: u64,
    /// Only what was changed by whom this text names: a user, a key's prefix or owner
    #[arg(long, value_name = "string", default_value = "")]
    by: String,
    /// Only what came from an address, or a socket, with this text in it
    #[arg(long, value_name = "string", default_value = "")]
    from: String,
    /// Only such changes, as in 'node.delete' or 'apikey'
    #[arg(long, value_name = "string", default_value = "")]
    action: String,
    /// Only changes of things with this text in their name
    #[arg(long, value_name = "string", default_value = "")]
    subject: String,
    /// Only what was changed within this time, such as 30m, 24h or 90d
    #[arg(long, value_name = "string", default_value = "")]
    since: String,
    /// Only records with a smaller id: what comes after the last one that was shown
    #[arg(long, value_name = "uint", default_value = "0", value_parser = go::uint)]
    before: u64,
}

pub(super) async fn run(context: &mut Context<'_>, group: Group) -> Result<(), Error> {
    let Command::List(filter) = group.command;
    let path = format!("/api/v1/audit?{}", filter.query()?);
    let answer: AuditList = context.client()?.get("listing audit records", &path).await?;
    let mut table = Table::new(&["ID", "Time", "Who", "From", "Action", "Subject", "Detail"]);
    for record in &answer.records {
        table.row(vec![
            record.id.as_str().into(),
            go::table_time(&record.time).into(),
            record.by.as_str().into(),
            record.from.as_str().into(),
            record.action.as_str().into(),
            record.subject.as_str().into(),
            record.detail.as_str().into(),
        ]);
    }
    context.show(table.render(context.terminal.colour), &answer.records)
}

impl Filter {
    fn query(&self) -> Result<String, Error> {
        let since = match self.since.as_str() {
            "" => String::new(),
            text => ago(text)?,
        };
        let before = if self.before == 0 { String::new() } else { self.before.to_string() };
        let (limit, parts) = (self.limit.to_string(), [&self.by, &self.from, &self.action, &self.subject]);
        let names = ["by", "from", "action", "subject"].into_iter().zip(parts);
        let all = [("limit", &limit)].into_iter().chain(names).chain([("since", &since), ("before", &before)]);
        let given = all.filter(|(_, value)| !value.is_empty());
        Ok(given.map(|(name, value)| format!("{name}={}", super::client::segment(value))).collect::<Vec<_>>().join("&"))
    }
}

/// The time that lies this far back.
fn ago(text: &str) -> Result<String, Error> {
    let back = duration::prometheus(text).map_err(|error| Error::said(format!("parsing duration: {error}")))?;
    let then = jiff::Timestamp::now().checked_sub(back);
    let then = then.map_err(|_| Error::said(format!("parsing duration: {text:?} is too long")))?;
    Ok(then.to_string())
}
