//! Changing the cluster's secret while it runs.
//!
//! Each replica is restarted with two secrets, of which it goes on to show the old
//! one. Then one command wraps the data key under the new secret, and every
//! replica, when it applies that, shows the new one. Then each is restarted with
//! the new one alone. So at no time do two replicas refuse each other, and which
//! secret is in use is decided in one place: by what opens the data key.

use super::Asked;
use super::keys::Keyring;
use super::replica::Replica;
use super::report::Answer;
use super::secret::Which;
use super::{MembershipError, Rotation, Unavailable, WriteError};
use crate::state::{Command, ReplicaId, ServerKeys};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long the replicas may take to apply the change before the command returns.
const APPLY_PATIENCE: Duration = Duration::from_secs(5);
/// How often they are asked meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(100);

impl Replica {
    /// Shows the certificate by the secret that opens the cluster's keys, whenever those change.
    pub async fn follow_secret(self: Arc<Self>) {
        let mut applied = self.feed.applied();
        let mut seen: Option<Arc<ServerKeys>> = None;
        loop {
            applied.borrow_and_update();
            let keys = self.feed.view().server_keys().cloned();
            if let Some(keys) = keys.filter(|keys| seen.as_ref().is_none_or(|seen| !Arc::ptr_eq(seen, keys))) {
                self.use_secret_of(&keys);
                seen = Some(keys);
            }
            if applied.changed().await.is_err() {
                return;
            }
        }
    }

    fn use_secret_of(&self, keys: &ServerKeys) {
        match Keyring::open(&self.secrets, keys) {
            Ok((_, which)) if which == self.tls.presented() => {}
            Ok((_, which)) => {
                self.tls.present(which);
                tracing::info!("from now on, the cluster's secret {} is used", self.secrets.get(which).fingerprint());
            }
            Err(error) => tracing::error!("the cluster's secret was changed: {error}"),
        }
    }

    /// Wraps the data key under `cluster.secret_path`'s secret, if every member accepts that one.
    pub async fn rotate_secret(self: &Arc<Self>) -> Result<Rotation, MembershipError> {
        let replica = self.clone();
        let rotated = self.handle.spawn(async move { replica.rotate_here().await }).await;
        rotated.unwrap_or_else(|_| Err(Unavailable::Stopping.into()))
    }

    async fn rotate_here(self: &Arc<Self>) -> Result<Rotation, MembershipError> {
        if self.secrets.previous().is_none() {
            return Err(MembershipError::Refused(format!(
                "replica {} has one secret: on each replica, put the new one into cluster.secret_path (\"generate \
                 secret\"), name the one before in cluster.previous_secret_path, and restart it; then run this again",
                self.id
            )));
        }
        let view = self.linearizable().await?;
        let keys = view.server_keys().ok_or(Unavailable::NoQuorum)?;
        let new = self.secrets.get(Which::Current).fingerprint();
        let (keyring, which) =
            Keyring::open(&self.secrets, keys).map_err(|error| MembershipError::Refused(error.to_string()))?;
        if which == Which::Previous {
            who_does_not_accept(&new, &self.ask_all().await).map_err(MembershipError::Refused)?;
            let wrapped_data_key = keyring.wrap(self.secrets.current(), &keys.cluster_id);
            self.write(Asked::default(), Command::WrapDataKey { wrapped_data_key }).await.map_err(
                |error| match error {
                    WriteError::Unavailable(unavailable) => unavailable.into(),
                    WriteError::Refused(refused) => MembershipError::Refused(refused.to_string()),
                },
            )?;
            tracing::info!("the cluster's keys are under the secret {new} now");
        }
        Ok(Rotation { pending: self.wait_until_all_use(&new).await, secret: new })
    }

    /// The members that still do not after a while.
    async fn wait_until_all_use(&self, secret: &str) -> Vec<u64> {
        let begun = Instant::now();
        loop {
            let answers = self.ask_all().await;
            let pending = answers.iter().filter(|(_, answer)| answer.as_ref().ok().is_none_or(|a| a.secret != secret));
            let pending: Vec<u64> = pending.map(|(id, _)| id.0).collect();
            if pending.is_empty() || begun.elapsed() >= APPLY_PATIENCE {
                return pending;
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
}

/// A member that knows only the old secret would be shut out.
fn who_does_not_accept(secret: &str, answers: &BTreeMap<ReplicaId, Answer>) -> Result<(), String> {
    let mut problems = Vec::new();
    for (id, answer) in answers {
        match answer {
            Err(reason) => problems.push(reason.clone()),
            Ok(answer) if answer.secrets.iter().any(|known| known == secret) => {}
            Ok(answer) if answer.secrets.is_empty() => {
                problems.push(format!("replica {id} runs release {}, which knows one secret", answer.version));
            }
            Ok(answer) => problems.push(format!("replica {id} accepts {}", answer.secrets.join(" and "))),
        }
    }
    match problems.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "not every replica is known to accept the new secret {secret}, and without it would be shut out: {}; start \
             or restart these with both secrets, or remove those that are gone for good",
            problems.join("; ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::wire::StatusResponse;

    fn accepts(secrets: &[&str]) -> Answer {
        Ok(StatusResponse { secrets: secrets.iter().map(|s| s.to_string()).collect(), ..StatusResponse::default() })
    }

    #[test]
    fn nobody_is_shut_out_by_a_new_secret() {
        let all = BTreeMap::from([(ReplicaId(1), accepts(&["new", "old"])), (ReplicaId(2), accepts(&["new", "old"]))]);
        assert_eq!(who_does_not_accept("new", &all), Ok(()));
        let one = BTreeMap::from([(ReplicaId(1), accepts(&["new", "old"])), (ReplicaId(2), accepts(&["old"]))]);
        assert!(who_does_not_accept("new", &one).unwrap_err().contains("replica 2 accepts old"));
        let gone = BTreeMap::from([(ReplicaId(2), Err("replica 2 is not running".into()))]);
        assert!(who_does_not_accept("new", &gone).unwrap_err().contains("replica 2 is not running"));
    }
}
