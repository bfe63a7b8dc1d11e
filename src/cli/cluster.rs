//! `cluster`: the replicas.

mod lock;
mod recover;
mod show;
mod snapshot;

use super::client::Client;
use super::context::Context;
use super::error::Error;
use super::go;
use crate::cluster::{ClusterStatus, Rotation, Verification};
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

/// A replica that joins has to copy everything first.
const CATCH_UP: Duration = Duration::from_secs(600);

/// Every replica reads all of its records, at worst a few times.
const VERIFY: Duration = Duration::from_secs(120);

/// A change of membership or of the leader goes through an election at worst.
const CHANGE: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub(super) struct Group {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the replicas, and whether the cluster can write
    ///
    /// The exit code is 0 while the cluster can write, also when a replica is missing.
    Status,
    /// List the replicas
    Members,
    /// Compare the records of all replicas, in memory and on disk
    ///
    /// The exit code is 0 only if every replica was compared and all are equal.
    Verify,
    /// Add a replica that runs already; it copies everything, and does not vote yet
    Add {
        #[arg(value_name = "ID", value_parser = go::uint)]
        id: Option<u64>,
        #[arg(value_name = "ADDRESS")]
        address: Option<String>,
    },
    /// Let a replica vote
    Promote(Which),
    /// Remove a replica for good: its id is never used again
    #[command(visible_aliases = ["rm", "delete"])]
    Remove(Which),
    /// Hand the lead to another replica, or to the one that is most up to date
    TransferLeader(Which),
    /// Go over to the new secret, when all replicas have been restarted with both
    ///
    /// Each needs the new one in cluster.secret_path and the one before in cluster.previous_secret_path.
    RotateSecret,
    /// Save, look at and restore snapshots: backups of everything
    #[command(visible_alias = "snapshots")]
    Snapshot(snapshot::Group),
    /// Make a new cluster out of a stopped replica that survived, when the majority is gone for good
    ///
    /// It is run on that replica's machine, with its configuration; it shows what would be lost, and asks.
    Recover,
}

#[derive(Debug, Args)]
struct Which {
    #[arg(value_name = "ID", value_parser = go::uint)]
    id: Option<u64>,
}

#[derive(Deserialize, Serialize)]
struct Leader {
    leader: u64,
}

pub(super) async fn run(context: &mut Context<'_>, group: Group) -> Result<(), Error> {
    match group.command {
        Command::Status => status(context).await,
        Command::Members => members(context).await,
        Command::Verify => verify(context).await,
        Command::Add { id, address } => add(context, id, address).await,
        Command::Promote(which) => promote(context, which.required()?).await,
        Command::Remove(which) => remove(context, which.required()?).await,
        Command::RotateSecret => rotate_secret(context).await,
        Command::Snapshot(group) => snapshot::run(context, group).await,
        Command::Recover => recover::run(context).await,
        Command::TransferLeader(which) => {
            let client = context.client()?.patient(CHANGE);
            let body = json!({ "id": which.id });
            let answer: Leader = client.post("transferring the lead", "/api/v1/cluster/leader", &body).await?;
            context.show(format!("Replica {} leads", answer.leader), &answer)
        }
    }
}

impl Which {
    fn required(&self) -> Result<u64, Error> {
        self.id.ok_or_else(|| Error::said("missing parameters: the replica's ID"))
    }
}

async fn ask_status(client: &Client) -> Result<ClusterStatus, Error> {
    client.get("getting cluster status", "/api/v1/cluster").await
}

/// Fails when the cluster cannot write, so that a script notices.
async fn status(context: &mut Context<'_>) -> Result<(), Error> {
    let status = ask_status(&context.client()?).await?;
    let text = show::status(&status, context.terminal.colour, &context.program);
    context.show(text.trim_end_matches('\n'), &status)?;
    if status.has_quorum && status.leader.is_some() && status.writes_refused.is_none() {
        Ok(())
    } else {
        Err(Error::Shown)
    }
}

async fn members(context: &mut Context<'_>) -> Result<(), Error> {
    let status = ask_status(&context.client()?).await?;
    let text = show::members(&status).render(context.terminal.colour);
    context.show(text.trim_end_matches('\n'), &status.members)
}

/// Fails on any difference, and when a replica could not be compared.
async fn verify(context: &mut Context<'_>) -> Result<(), Error> {
    let client = context.client()?.patient(VERIFY);
    let verification: Verification = client.get("verifying the replicas", "/api/v1/cluster/verify").await?;
    let text = show::verification(&verification, context.terminal.colour);
    context.show(text.trim_end_matches('\n'), &verification)?;
    if verification.equal { Ok(()) } else { Err(Error::Shown) }
}

async fn add(context: &mut Context<'_>, id: Option<u64>, address: Option<String>) -> Result<(), Error> {
    let (Some(id), Some(address)) = (id, address) else {
        return Err(Error::said("missing parameters: the replica's ID, and the ADDRESS (HOST:PORT) of its peer port"));
    };
    let client = context.client()?.patient(CATCH_UP);
    context.say(&format!("Adding replica {id} at {address}, and waiting until it has copied everything ..."));
    let answer: Value =
        client.post("adding replica", "/api/v1/cluster/member", &json!({ "id": id, "address": address })).await?;
    let text = format!("Replica {id} added; it does not vote yet: \"{} cluster promote {id}\"", context.program);
    context.show(text, &answer)
}

async fn promote(context: &mut Context<'_>, id: u64) -> Result<(), Error> {
    let client = context.client()?.patient(CHANGE);
    let path = format!("/api/v1/cluster/member/{id}/promote");
    let answer: Value = client.post("promoting replica", &path, &json!({})).await?;
    context.show(format!("Replica {id} votes"), &answer)
}

async fn remove(context: &mut Context<'_>, id: u64) -> Result<(), Error> {
    let client = context.client()?.patient(CHANGE);
    let status = ask_status(&client).await?;
    context.say(&show::removal(&status, id)?);
    if !context.confirm(&format!("Do you want to remove replica {id}?")) {
        return context.show("Replica not removed", &json!({ "Result": "Replica not removed" }));
    }
    let answer: Value = client.delete("removing replica", &format!("/api/v1/cluster/member/{id}")).await?;
    context.show(format!("Replica {id} removed"), &answer)
}

async fn rotate_secret(context: &mut Context<'_>) -> Result<(), Error> {
    let client = context.client()?.patient(CHANGE);
    let rotation: Rotation = client.post("rotating the secret", "/api/v1/cluster/secret", &json!({})).await?;
    let pending: Vec<String> = rotation.pending.iter().map(u64::to_string).collect();
    let next = match pending.as_slice() {
        [] => "Next: on each replica, remove cluster.previous_secret_path, and restart it".to_owned(),
        pending => format!("Replicas {} do not use it yet: wait until \"cluster status\" shows it", pending.join(", ")),
    };
    context.show(format!("The secret {} is in use. {next}", rotation.secret), &rotation)
}
