//! `policy history`, `policy diff`, `policy rollback`.

use super::super::context::Context;
use super::super::error::Error;
use super::super::go;
use super::super::output::Format;
use super::super::table::{Cell, Colour, Table, paint};
use crate::api::types::{PolicyDiff, PolicyHistory, PolicyOfVersion, PolicyVersion};
use clap::Args;
use serde_json::json;

#[derive(Debug, Args)]
pub(super) struct Which {
    #[arg(value_name = "VERSION", value_parser = go::uint)]
    version: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct Versions {
    #[arg(value_name = "FROM", value_parser = go::uint)]
    from: Option<u64>,
    #[arg(value_name = "TO", value_parser = go::uint)]
    to: Option<u64>,
}

/// The list, or one policy's text as it is, in every format but JSON and YAML.
pub(super) async fn show(context: &mut Context<'_>, which: Which) -> Result<(), Error> {
    let client = context.client()?;
    if let Some(version) = which.version {
        let path = format!("/api/v1/policy/history/{version}");
        let policy: PolicyOfVersion = client.get("getting policy version", &path).await?;
        return context.show(policy.policy.clone(), &policy);
    }
    let history: PolicyHistory = client.get("getting policy history", "/api/v1/policy/history").await?;
    let text = table(&history.versions).render(context.terminal.colour);
    context.show(text.trim_end_matches('\n'), &history.versions)
}

fn table(versions: &[PolicyVersion]) -> Table {
    let mut table = Table::new(&["Version", "Since", "Author", "Bytes", "Change"]);
    for version in versions {
        let number = match version.in_force {
            true => Cell::coloured(format!("{} (in force)", version.version), Colour::Green),
            false => version.version.clone().into(),
        };
        table.row(vec![
            number,
            go::table_time(&version.updated_at).into(),
            version.author.clone().into(),
            version.bytes.clone().into(),
            version.summary.clone().into(),
        ]);
    }
    table
}

pub(super) async fn diff(context: &mut Context<'_>, versions: Versions) -> Result<(), Error> {
    let query: Vec<String> = [("from", versions.from), ("to", versions.to)]
        .into_iter()
        .filter_map(|(name, version)| version.map(|version| format!("{name}={version}")))
        .collect();
    let path = format!("/api/v1/policy/diff?{}", query.join("&"));
    let diff: PolicyDiff = context.client()?.get("comparing policies", &path).await?;
    if diff.diff.is_empty() {
        return context.show(format!("Versions {} and {} are the same", diff.from, diff.to), &diff);
    }
    let colour = context.terminal.colour && context.format == Format::Human;
    let line = |line: &str| match line.as_bytes().first().filter(|_| colour) {
        Some(b'+') => paint(line, Some(Colour::Green)),
        Some(b'-') => paint(line, Some(Colour::Red)),
        Some(b'@') => paint(line, Some(Colour::Yellow)),
        _ => line.into(),
    };
    let text: Vec<String> = diff.diff.lines().map(line).collect();
    context.show(text.join("\n"), &diff)
}

/// Asks no question: the way back from it is another one.
pub(super) async fn rollback(context: &mut Context<'_>, which: Which) -> Result<(), Error> {
    let Some(version) = which.version else {
        let program = &context.program;
        return Err(Error::said(format!("missing parameters: VERSION, one that \"{program} policy history\" lists")));
    };
    let body = json!({ "version": version.to_string() });
    let client = context.client()?;
    let policy: PolicyOfVersion = client.post("rolling back policy", "/api/v1/policy/rollback", &body).await?;
    context.show(format!("Policy of version {version} is in force again, as version {}.", policy.version), &policy)
}
