//! `policy.mode: file`: the file's text goes into the cluster like any other policy.
//!
//! A replica proposes its file's text at start, on SIGHUP and when the file changes,
//! unless it is what this replica proposed last; the text that was committed last
//! is in force on all replicas. A bad file changes nothing, and keeps nobody from
//! starting. Where the file and the policy in force differ, `cluster status` says so.

use crate::cluster::{Cluster, WriteError};
use crate::policy::Policy;
use crate::state::{Command, Origin, Refused, SecretHash};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// A policy larger than this is refused; the largest in use have some 100 KiB.
pub const MAX_POLICY_BYTES: u64 = 4 << 20;

/// Follows the file until `stop`. `reload` is notified on SIGHUP. `memory` is a file
/// in the data directory that holds the hash of what was proposed last.
pub async fn follow(cluster: Cluster, path: PathBuf, memory: PathBuf, reload: Arc<Notify>, stop: CancellationToken) {
    let follower = Follower { cluster, path, memory };
    let mut told = None;
    loop {
        let fault = follower.look().await;
        if fault != told
            && let Some(fault) = &fault
        {
            tracing::error!(path = %follower.path.display(), %fault, "the policy in force stays");
        }
        told = fault;
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = reload.notified() => told = None,
            () = stop.cancelled() => return,
        }
    }
}

struct Follower {
    cluster: Cluster,
    path: PathBuf,
    memory: PathBuf,
}

/// Why a text was not put in force.
enum Trouble {
    /// What is wrong with it. It may become right by itself: its users may be yet to come.
    Bad(String),
    Later(String),
}

impl Follower {
    /// Proposes the file's text if that is due. Gives what is wrong with the file.
    async fn look(&self) -> Option<String> {
        let text = match read(&self.path).await {
            Ok(text) => text,
            Err(reason) => return self.note(Some(format!("the policy file cannot be read: {reason}"))),
        };
        let hash = hex::encode(SecretHash::of(&text).0);
        let proposed = tokio::fs::read_to_string(&self.memory).await.unwrap_or_default();
        if hash == proposed.trim() {
            return self.note(None).or_else(|| self.note_difference(&text));
        }
        match self.propose(text).await {
            Ok(()) => {
                self.remember(&hash).await;
                self.note(None)
            }
            Err(Trouble::Bad(reason)) => self.note(Some(format!("the policy file is not valid: {reason}"))),
            Err(Trouble::Later(reason)) => {
                tracing::debug!(%reason, "the policy file will be proposed again");
                self.note(None)
            }
        }
    }

    /// For `cluster status`.
    fn note(&self, fault: Option<String>) -> Option<String> {
        self.cluster.set_note(fault.as_ref().map(|fault| format!("{}: {fault}", self.path.display())));
        fault
    }

    /// Another replica's file, or another replica's older mode, was committed later.
    fn note_difference(&self, text: &str) -> Option<String> {
        let view = self.cluster.view();
        let other = view.policy().filter(|policy| policy.text != text)?;
        self.cluster.set_note(Some(format!(
            "the policy file {} differs from the policy in force (version {}, by {})",
            self.path.display(),
            other.version,
            other.author
        )));
        None
    }

    async fn propose(&self, text: String) -> Result<(), Trouble> {
        let view = self.cluster.linearizable().await.map_err(|error| Trouble::Later(error.to_string()))?;
        if view.settings().is_none() {
            return Err(Trouble::Later("the cluster is not set up yet".into()));
        }
        match Policy::check(&text, &view) {
            Ok(_) => {}
            // The users that its tests are about may be yet to come.
            Err(error) if error.is_failed_test() && view.policy().is_none() => {
                tracing::warn!(path = %self.path.display(), %error, "the first policy is put in force all the same");
            }
            Err(error) => return Err(Trouble::Bad(error.to_string())),
        }
        let author = format!("file {} on replica {}", self.path.display(), self.cluster.id());
        let origin = Origin { by: author.clone(), from: format!("replica {}", self.cluster.id()) };
        let command = Command::PutPolicy { text, author, expected_version: None, restores: None };
        match self.cluster.write_once(origin.into(), command).await {
            Ok(_) => {
                tracing::info!(path = %self.path.display(), "the policy file is in force on all replicas");
                Ok(())
            }
            Err(WriteError::Refused(refused @ (Refused::NotBootstrapped | Refused::TooLate | Refused::Stale))) => {
                Err(Trouble::Later(refused.to_string()))
            }
            Err(WriteError::Refused(refused)) => Err(Trouble::Bad(refused.to_string())),
            Err(error) => Err(Trouble::Later(error.to_string())),
        }
    }

    async fn remember(&self, hash: &str) {
        if let Err(error) = tokio::fs::write(&self.memory, hash).await {
            tracing::warn!(path = %self.memory.display(), %error, "cannot remember which policy was proposed last");
        }
    }
}

async fn read(path: &Path) -> Result<String, String> {
    let size = tokio::fs::metadata(path).await.map_err(|e| e.to_string())?.len();
    if size > MAX_POLICY_BYTES {
        return Err(format!("it has {size} bytes; at most {MAX_POLICY_BYTES} are read"));
    }
    tokio::fs::read_to_string(path).await.map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Allocation, Settings};

    fn follower(dir: &Path) -> Follower {
        let cluster = Cluster::in_memory(Settings {
            prefix_v4: Some("100.64.0.0/10".parse().expect("a prefix")),
            prefix_v6: None,
            allocation: Allocation::Sequential,
            base_domain: String::new(),
            node_expiry: Duration::ZERO,
            ephemeral_timeout: Duration::from_secs(120),
        });
        Follower { cluster, path: dir.join("policy"), memory: dir.join("memory") }
    }

    fn in_force(follower: &Follower) -> (u64, String) {
        let view = follower.cluster.view();
        view.policy().map(|policy| (policy.version, policy.text.clone())).unwrap_or_default()
    }

    async fn status(follower: &Follower) -> String {
        follower.cluster.status().await.warnings.join("\n")
    }

    #[tokio::test]
    async fn a_file_is_proposed_when_it_changed_since_it_was_proposed_last() {
        let dir = tempfile::tempdir().expect("a directory");
        let follower = follower(dir.path());
        assert!(follower.look().await.expect("a fault").contains("cannot be read"));
        assert!(status(&follower).await.contains("cannot be read"));
        std::fs::write(&follower.path, "{}").expect("a file");
        assert_eq!(follower.look().await, None);
        assert_eq!(in_force(&follower), (1, "{}".into()));
        assert_eq!(status(&follower).await, "");

        // Another replica's file was committed later: it is in force, and stays so.
        let put = |text: &str| Command::PutPolicy {
            text: text.into(),
            author: "file p on replica 2".into(),
            expected_version: None,
            restores: None,
        };
        follower.cluster.write(put("{ }")).await.expect("a policy");
        assert_eq!(follower.look().await, None);
        assert_eq!(in_force(&follower), (2, "{ }".into()));
        let told = status(&follower).await;
        assert!(told.contains("differs from the policy in force (version 2, by file p on replica 2)"), "{told}");

        std::fs::write(&follower.path, "{  }").expect("a file");
        assert_eq!(follower.look().await, None);
        assert_eq!(in_force(&follower), (3, "{  }".into()));
        assert_eq!(status(&follower).await, "");
    }

    #[tokio::test]
    async fn a_bad_file_leaves_the_last_good_policy_in_force_and_shows_in_the_status() {
        let dir = tempfile::tempdir().expect("a directory");
        let follower = follower(dir.path());
        std::fs::write(&follower.path, "{}").expect("a file");
        assert_eq!(follower.look().await, None);
        std::fs::write(&follower.path, "{\"acl\": []}").expect("a file");
        let fault = follower.look().await.expect("a fault");
        assert!(fault.contains("is not valid") && fault.contains("unknown field: \"acl\""), "{fault}");
        assert_eq!(in_force(&follower), (1, "{}".into()));
        assert!(status(&follower).await.contains("unknown field"), "{}", status(&follower).await);
    }
}
