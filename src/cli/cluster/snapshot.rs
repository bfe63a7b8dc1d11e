//! `cluster snapshot`: saved from a running cluster, looked at, restored into a new one.

use super::lock::LockArgs;
use crate::cli::context::Context;
use crate::cli::error::Error;
use crate::cli::table::Table;
use crate::cluster::backup::{Contents, Restoring, Saving, Target, inspect};
use crate::config;
use crate::state::ReplicaId;
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a server may take for the next part: it may be busy, or its disk slow.
const NEXT_PART: Duration = Duration::from_secs(60);

/// How often it is said how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(super) struct Group {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Save everything that the cluster holds in an encrypted file, while it runs
    ///
    /// Whoever can open the file has the server's keys. A file that is there already is replaced if it is a snapshot.
    Save {
        #[command(flatten)]
        file: File,
        /// Save what the replica has, also without a quorum
        #[arg(long)]
        stale: bool,
    },
    /// Check a snapshot, and show what is in it
    Inspect {
        #[command(flatten)]
        file: File,
    },
    /// Make a new cluster's data directory out of a snapshot, on this machine, while the server is stopped
    ///
    /// data_dir, cluster.id, cluster.advertise_addr and cluster.secret_path are those of the configuration. The other
    /// replicas join afterwards, with empty data directories and the same secret.
    Restore {
        #[command(flatten)]
        file: File,
    },
}

#[derive(Debug, Args)]
struct File {
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    lock: LockArgs,
}

impl File {
    fn path(&self) -> Result<&PathBuf, Error> {
        self.file.as_ref().ok_or_else(|| Error::said("missing parameters: the snapshot's FILE"))
    }
}

pub(super) async fn run(context: &mut Context<'_>, group: Group) -> Result<(), Error> {
    match group.command {
        Command::Save { file, stale } => save(context, &file, stale).await,
        Command::Inspect { file } => {
            let contents = inspect(file.path()?, &file.lock.lock(context)?).map_err(said)?;
            let text = describe(&contents, context.terminal.colour);
            context.show(text.trim_end(), &contents)
        }
        Command::Restore { file } => restore(context, &file).await,
    }
}

async fn save(context: &mut Context<'_>, file: &File, stale: bool) -> Result<(), Error> {
    let path = file.path()?;
    let lock = file.lock.new_lock(context)?;
    let client = context.client()?.patient(NEXT_PART);
    let mut saving = Saving::begin(path, lock).map_err(said)?;
    let from = if stale { "/api/v1/cluster/snapshot?stale=true" } else { "/api/v1/cluster/snapshot" };
    let mut download = client.download("saving a snapshot", from).await?;
    let (mut bytes, mut told) = (0, Instant::now());
    while let Some(part) = download.next().await.map_err(|why| Error::said(format!("saving a snapshot: {why}")))? {
        saving.write(&part).map_err(|error| Error::said(format!("writing {}: {error}", path.display())))?;
        bytes += part.len() as u64;
        if told.elapsed() >= PROGRESS_EVERY {
            told = Instant::now();
            context.say(&format!("{} so far ...", size(bytes)));
        }
    }
    let contents = saving.finish().map_err(said)?;
    let line = format!(
        "Saved {} records up to log entry {} in {}, {}, and read them back",
        contents.records,
        contents.index,
        path.display(),
        size(contents.size)
    );
    context.show(line, &contents)
}

async fn restore(context: &mut Context<'_>, file: &File) -> Result<(), Error> {
    let path = file.path()?;
    let config = config::load(context.globals.config.as_deref(), &context.surroundings)
        .map_err(|error| Error::said(format!("loading configuration: {error}")))?
        .config;
    let target = Target {
        id: ReplicaId(config.cluster.id),
        data_dir: config.data_dir.clone(),
        address: config.cluster.advertise_addr.clone(),
        secret_path: config.cluster.secret_path.clone(),
    };
    let restoring = Restoring::read(path, &file.lock.lock(context)?, target).map_err(said)?;
    let contents = restoring.contents().clone();
    context.say(&format!(
        "{} has {} users and {} nodes, as replica {} had them at {} (log entry {}).\nReplica {} becomes a new cluster of \
         one with them, in {}: it tolerates no failure until others are added. What was written after that time is not \
         in it, and replicas of the old cluster cannot join it with their data.",
        path.display(),
        contents.count("users"),
        contents.count("nodes"),
        contents.replica,
        contents.time,
        contents.index,
        config.cluster.id,
        config.data_dir.display()
    ));
    if !context.confirm(&format!("Do you want to restore into {}?", config.data_dir.display())) {
        return context.show("Snapshot not restored", &json!({ "Result": "Snapshot not restored" }));
    }
    let cluster = restoring.run().await.map_err(said)?;
    let line = format!(
        "Restored as cluster {cluster}. Next: start this replica, then the others with empty data directories and the \
         same secret, and for each \"{0} cluster add ID ADDRESS\" and \"{0} cluster promote ID\"",
        context.program
    );
    context.show(line, &json!({ "cluster_id": cluster, "snapshot": contents }))
}

fn describe(contents: &Contents, colour: bool) -> String {
    let mut table = Table::new(&["KIND", "RECORDS", "HASH"]);
    for kind in &contents.kinds {
        let hash = kind.hash.get(..16).unwrap_or(&kind.hash);
        table.row(vec![kind.name.as_str().into(), kind.records.to_string().into(), hash.into()]);
    }
    format!(
        "whole: {} records, {}\n\nrelease: {}\ncluster: {}\nreplica: {}\nsaved: {}\nlog entry: {}\nterm: {}\nhash: {}\n\n{}",
        contents.records,
        size(contents.size),
        contents.release,
        contents.cluster_id,
        contents.replica,
        contents.time,
        contents.index,
        contents.term,
        contents.hash,
        table.render(colour)
    )
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{}.{} KiB", bytes >> 10, ((bytes & 1023) * 10) >> 10),
        _ => format!("{}.{} MiB", bytes >> 20, ((bytes & 1_048_575) * 10) >> 20),
    }
}

fn said(error: crate::cluster::backup::BackupError) -> Error {
    Error::said(error.to_string())
}
