//! `import`: moving in from another server.

use super::context::Context;
use super::error::Error;
use super::table::Table;
use crate::api::import::MAX_IMPORT;
use crate::api::types::{ImportAnswer, ImportRequest, PrivateKeyText};
use crate::config;
use crate::import::headscale::{self, Found, Sources};
use crate::state::Import;
use crate::tailcfg::MachineKey;
use clap::{Args, Subcommand};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// Everything goes through the log as one entry, to every replica.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(super) struct Group {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring everything that a Headscale server holds into this cluster, which must have no nodes and users
    ///
    /// Read are the SQLite database of Headscale 0.28, 0.29 or 0.30, its Noise key and its policy; nothing of them is
    /// changed. It shows what will be carried over and what will not, and asks. Clients keep their keys and addresses,
    /// and do not log in again. The same import again changes nothing.
    Headscale(Headscale),
}

#[derive(Debug, Args)]
struct Headscale {
    /// Headscale's configuration: its prefixes, domain and expiry become the cluster's
    #[arg(long, value_name = "file", required = true)]
    headscale_config: PathBuf,
    /// Headscale's database (default: database.sqlite.path in its configuration)
    #[arg(long, value_name = "file")]
    db: Option<PathBuf>,
    /// Headscale's Noise key (default: noise.private_key_path, there or beside the database)
    #[arg(long, value_name = "file")]
    noise_key: Option<PathBuf>,
    /// File with the policy (default: what Headscale's configuration says)
    #[arg(long, value_name = "file", conflicts_with = "without_policy")]
    policy_file: Option<PathBuf>,
    /// Leave the policy out
    #[arg(long)]
    without_policy: bool,
    /// Check everything, show the plan, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// What `-o` gives.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    result: &'static str,
    source: String,
    noise_key: MachineKey,
    counts: Counts,
    notes: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Counts {
    users: usize,
    nodes: usize,
    pre_auth_keys: usize,
    api_keys: usize,
    approved_routes: usize,
    policy_bytes: usize,
}

pub(super) async fn run(context: &mut Context<'_>, group: Group) -> Result<(), Error> {
    match group.command {
        Command::Headscale(headscale) => import(context, headscale).await,
    }
}

async fn import(context: &mut Context<'_>, asked: Headscale) -> Result<(), Error> {
    let (found, server_url) = read(context, asked.clone_sources()?)?;
    let mut request = request(&found)?;
    context.say("Checking with the cluster ...");
    let client = context.client()?.patient(PATIENCE);
    let checked: ImportAnswer = client.post("checking the import", "/api/v1/import", &request).await?;
    let mut outcome = Outcome {
        result: "Nothing to do: the same was imported before",
        source: found.import.source.clone(),
        noise_key: found.import.noise_public,
        counts: Counts::of(&found.import),
        notes: found.report.notes.clone(),
    };
    outcome.notes.extend(checked.notes);
    context.say(&plan(&outcome, &found, context.terminal.colour));
    if checked.repeated {
        return context.show(outcome.result, &outcome);
    }
    if asked.dry_run {
        outcome.result = "Not imported: --dry-run";
        return context.show(outcome.result, &outcome);
    }
    if !context.confirm("Do you want to import this?") {
        outcome.result = "Not imported";
        return context.show(outcome.result, &outcome);
    }
    context.say("Importing ...");
    request.dry_run = false;
    let done: ImportAnswer = client.post("importing", "/api/v1/import", &request).await?;
    if done.applied {
        outcome.result = "Imported";
        outcome.notes.extend(done.notes.into_iter().filter(|note| !found.report.notes.contains(note)));
        outcome.notes.dedup();
    }
    let next = format!(
        "{} {} users and {} nodes. Next: keep Headscale stopped, let the name in {server_url:?} lead to the replicas, and \
         watch \"{} nodes list\" until everybody is back",
        outcome.result, outcome.counts.users, outcome.counts.nodes, context.program
    );
    context.show(next, &outcome)
}

/// Reads everything; fails if something has to be put right first.
fn read(context: &mut Context<'_>, sources: Sources) -> Result<(Found, String), Error> {
    context.say("Reading Headscale's database and files ...");
    let found = headscale::read(&sources).map_err(|error| Error::said(error.to_string()))?;
    if found.report.problems.is_empty() {
        return Ok((found, sources.config.server_url));
    }
    let lines: String = found.report.problems.iter().map(|problem| format!("\n  - {problem}")).collect();
    Err(Error::said(format!("this has to be put right first; nothing was changed:{lines}")))
}

fn request(found: &Found) -> Result<ImportRequest, Error> {
    let request = ImportRequest {
        dry_run: true,
        noise_private_key: PrivateKeyText(found.noise.clone()),
        content: Box::new(found.import.clone()),
    };
    let size = serde_json::to_vec(&request).map_or(0, |bytes| bytes.len());
    if size > MAX_IMPORT {
        let nodes = found.import.nodes.len();
        return Err(Error::said(format!(
            "the import has {size} bytes for {nodes} nodes, and at most {MAX_IMPORT} are taken at once: delete nodes and \
             expired keys that nobody needs in Headscale first"
        )));
    }
    Ok(request)
}

impl Headscale {
    fn clone_sources(&self) -> Result<Sources, Error> {
        let config = config::load_headscale(&self.headscale_config)
            .map_err(|error| Error::said(format!("loading Headscale's configuration: {error}")))?;
        Ok(Sources {
            config,
            database: self.db.clone(),
            noise_key: self.noise_key.clone(),
            policy: self.policy_file.clone(),
            without_policy: self.without_policy,
        })
    }
}

impl Counts {
    fn of(import: &Import) -> Self {
        Self {
            users: import.users.len(),
            nodes: import.nodes.len(),
            pre_auth_keys: import.pre_auth_keys.len(),
            api_keys: import.api_keys.len(),
            approved_routes: import.nodes.iter().map(|node| node.approved_routes.len()).sum(),
            policy_bytes: import.policy.as_ref().map_or(0, String::len),
        }
    }
}

fn plan(outcome: &Outcome, found: &Found, colour: bool) -> String {
    let mut table = Table::new(&["What", "How many", "What becomes of it"]);
    let counts = &outcome.counts;
    let policy = if counts.policy_bytes == 0 { "none: everything is allowed".into() } else { "in force".to_owned() };
    for (what, count, fate) in [
        ("Users", counts.users, "same numbers and names"),
        ("Nodes", counts.nodes, "same numbers, keys, names, addresses, expiry, tags"),
        ("Approved routes", counts.approved_routes, "same"),
        ("Pre-authenticated keys", counts.pre_auth_keys, "same texts stay valid"),
        ("API keys", counts.api_keys, "same texts stay valid"),
        ("Bytes of policy", counts.policy_bytes, policy.as_str()),
    ] {
        table.row(vec![what.into(), count.to_string().into(), fate.into()]);
    }
    let files: String = found.files.iter().map(|file| format!("  {}\n", file.display())).collect();
    let notes: String = outcome.notes.iter().map(|note| format!("  - {note}\n")).collect();
    let notes =
        if notes.is_empty() { "Everything is carried over.\n".into() } else { format!("Know before:\n{notes}") };
    format!(
        "{}, from\n{files}\n{}\nClients know the server by {}, which becomes the cluster's key.\n{notes}",
        outcome.source,
        table.render(colour),
        outcome.noise_key
    )
}
