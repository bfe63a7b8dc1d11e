//! A replica that was removed from its cluster finds that out, says it, and stays so.

use super::membership::members;
use super::replica::Replica;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often a replica without a quorum asks the others whether it was removed: they
/// do not speak to it by themselves any more.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// A file in the data directory. Numbers of replicas are never used again, so what it
/// says stays true for these data.
fn marker(data_dir: &Path) -> PathBuf {
    data_dir.join("removed")
}

/// Whether the replica with these data knows that it was removed.
pub fn was_removed(data_dir: &Path) -> bool {
    marker(data_dir).exists()
}

impl Replica {
    /// What an operator should know of a removed replica.
    pub fn removal_notice(&self) -> String {
        format!(
            "replica {} was removed from the cluster and serves nobody any more: stop it and delete {}; the machine can \
             come back as a new replica with another cluster.id",
            self.id,
            self.options.data_dir.display()
        )
    }

    /// This replica was removed: it loses touch for good, and stands for no election.
    pub fn set_removed(&self) {
        if self.contact.remove() {
            self.raft.runtime_config().elect(false);
            tracing::error!("{}", self.removal_notice());
            let path = marker(&self.options.data_dir);
            if let Err(error) = std::fs::write(&path, self.removal_notice() + "\n") {
                tracing::warn!("cannot write {}: {error}; the next start has to find it out again", path.display());
            }
        }
    }

    /// Asks around as long as this replica hears of no quorum.
    pub async fn watch_removal(self: Arc<Self>) {
        while !self.contact.is_removed() {
            tokio::time::sleep(ASK_EVERY).await;
            if self.contact.has_quorum() {
                continue;
            }
            let is_member = !members(self.metrics().membership_config.membership()).is_empty();
            if is_member && self.ask_all().await.values().flatten().any(|answer| answer.caller_removed) {
                self.set_removed();
            }
        }
    }
}
