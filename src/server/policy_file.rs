//! `policy.mode: file`: the file's text goes into the cluster like any other policy.
//!
//! A replica proposes its file's text at start, on SIGHUP and when the file changes,
//! unless it is what this replica proposed last; the text that was committed last
//! is in force on all replicas. A bad file changes nothing.

use crate::cluster::{Cluster, WriteError};
use crate::policy::Policy;
use crate::state::{Command, SecretHash};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// A policy larger than this is refused; the largest in use have some 100 KiB.
pub const MAX_POLICY_BYTES: u64 = 4 << 20;

/// Follows the file until `stop`. `reload` is notified on SIGHUP. `memory` is a file
/// in the data directory that holds the hash of what was proposed last.
pub async fn follow(cluster: Cluster, path: PathBuf, memory: PathBuf, reload: Arc<Notify>, stop: CancellationToken) {
    let mut rejected = None;
    loop {
        match read(&path).await {
            Ok(text) => {
                let hash = hex::encode(SecretHash::of(&text).0);
                let proposed = tokio::fs::read_to_string(&memory).await.unwrap_or_default();
                if hash != proposed.trim() && rejected.as_deref() != Some(hash.as_str()) {
                    match propose(&cluster, &path, text).await {
                        Ok(()) => remember(&memory, &hash).await,
                        Err(Proposal::Bad(reason)) => {
                            tracing::error!(
                                path = %path.display(), %reason,
                                "the policy file is not valid; the last good policy stays in force"
                            );
                            rejected = Some(hash);
                        }
                        Err(Proposal::Later(error)) => tracing::warn!(%error, "the policy file will be proposed again"),
                    }
                }
            }
            Err(reason) => {
                if rejected.as_deref() != Some(reason.as_str()) {
                    tracing::error!(path = %path.display(), %reason, "the policy file cannot be read; the policy in force stays");
                    rejected = Some(reason);
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = reload.notified() => rejected = None,
            () = stop.cancelled() => return,
        }
    }
}

enum Proposal {
    Bad(String),
    Later(WriteError),
}

async fn propose(cluster: &Cluster, path: &Path, text: String) -> Result<(), Proposal> {
    let view = cluster.view();
    match Policy::check(&text, &view) {
        Ok(_) => {}
        // The users that its tests are about may be yet to come.
        Err(error) if error.is_failed_test() && view.policy().is_none() => {
            tracing::warn!(path = %path.display(), %error, "the first policy is put in force all the same");
        }
        Err(error) => return Err(Proposal::Bad(error.to_string())),
    }
    let author = format!("file {} on replica {}", path.display(), cluster.id());
    let command = Command::SetPolicy { text, author, expected_version: None };
    match cluster.write(command).await {
        Ok(_) => {
            tracing::info!(path = %path.display(), "the policy file is in force on all replicas");
            Ok(())
        }
        Err(WriteError::Refused(refused)) => Err(Proposal::Bad(refused.to_string())),
        Err(error) => Err(Proposal::Later(error)),
    }
}

async fn read(path: &Path) -> Result<String, String> {
    let size = tokio::fs::metadata(path).await.map_err(|e| e.to_string())?.len();
    if size > MAX_POLICY_BYTES {
        return Err(format!("it has {size} bytes; at most {MAX_POLICY_BYTES} are read"));
    }
    tokio::fs::read_to_string(path).await.map_err(|e| e.to_string())
}

async fn remember(memory: &Path, hash: &str) {
    if let Err(error) = tokio::fs::write(memory, hash).await {
        tracing::warn!(path = %memory.display(), %error, "cannot remember which policy was proposed last");
    }
}
