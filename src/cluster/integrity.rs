//! What became of comparing the replicas: who is wrong, and whether anything may be written.

use super::replica::Replica;
use super::store::REPLACE;
use super::wire;
use crate::state::{Command, ReplicaId};
use metrics::gauge;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// What this replica knows.
#[derive(Default)]
pub struct Integrity {
    /// The kinds of records in which replicas were found to differ.
    wrong: Mutex<BTreeMap<ReplicaId, Vec<String>>>,
    /// Why nothing may be written.
    halted: Mutex<Option<String>>,
    /// Why this replica ended, or would have.
    fallen: OnceLock<String>,
}

impl Integrity {
    /// As it was when this replica stopped.
    pub fn new(halted: Option<String>) -> Self {
        Self { halted: Mutex::new(halted), ..Self::default() }
    }

    /// Why nothing may be written: the replicas differ, and none of the versions has a majority.
    pub fn halted(&self) -> Option<String> {
        self.halted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The replicas that were found to be wrong, and not right since, with the kinds of records.
    pub fn wrong(&self) -> BTreeMap<ReplicaId, Vec<String>> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why this replica must not go on, if so.
    #[cfg(test)]
    pub fn fallen(&self) -> Option<&str> {
        self.fallen.get().map(String::as_str)
    }

    fn set_wrong(&self, judgement: &wire::Judgement) {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        let before = wrong.clone();
        wrong.retain(|id, _| judgement.members.contains(&id.0) && !judgement.compared.contains(&id.0));
        wrong.extend(judgement.wrong.iter().map(|w| (ReplicaId(w.replica), w.kinds.clone())));
        let labels = |known: &BTreeMap<ReplicaId, Vec<String>>| -> BTreeSet<(String, String)> {
            known.iter().flat_map(|(id, kinds)| kinds.iter().map(|kind| (id.to_string(), kind.clone()))).collect()
        };
        let now = labels(&wrong);
        for (replica, kind) in labels(&before).union(&now) {
            let differs = now.contains(&(replica.clone(), kind.clone()));
            gauge!("quorumscale_replica_differs", "replica" => replica.clone(), "kind" => kind.clone())
                .set(if differs { 1.0 } else { 0.0 });
        }
    }
}

impl Replica {
    /// Acts on what a leader found when it compared the replicas.
    pub async fn take_judgement(self: &Arc<Self>, judgement: wire::Judgement) {
        self.integrity.set_wrong(&judgement);
        for wrong in &judgement.wrong {
            tracing::error!(
                "replica {} differs from the others at log entry {} in records of kind {}",
                wrong.replica,
                judgement.index,
                wrong.kinds.join(", ")
            );
        }
        match (judgement.wrong.iter().find(|wrong| wrong.replica == self.id.0), judgement.majority) {
            (Some(wrong), true) => self.condemn(&wrong.kinds, judgement.index).await,
            (None, true) => self.set_halted(None).await,
            // Too few could be compared to say that all is well again.
            (_, false) if judgement.wrong.is_empty() => {}
            (_, false) => self.set_halted(Some(no_majority(&judgement))).await,
        }
    }

    /// Whether a command must not be proposed now, and why. What an administrator needs to
    /// decide which replica is right stays possible.
    pub fn refusal(&self, command: &Command) -> Option<String> {
        let halted = self.integrity.halted().filter(|_| !matches!(command, Command::ReplicaRemoved(_)));
        halted.or_else(|| self.space.refusal(self.id))
    }

    async fn condemn(self: &Arc<Self>, kinds: &[String], index: u64) {
        let reason = format!(
            "at log entry {index} its records of kind {} were not those of the majority of the replicas",
            kinds.join(", ")
        );
        let (auditor, text) = (self.auditor.clone(), reason.clone());
        let noted = tokio::task::spawn_blocking(move || auditor.condemn(&text)).await;
        if let Ok(Err(error)) = noted {
            tracing::error!("that this data must not be used is not noted on disk: {error}");
        }
        self.fall("this replica is not what the others are", &reason, REPLACE);
    }

    async fn set_halted(self: &Arc<Self>, reason: Option<String>) {
        if self.integrity.halted().is_some() == reason.is_some() {
            return;
        }
        match &reason {
            Some(reason) => tracing::error!("nothing is written any more: {reason}"),
            None => tracing::info!("a majority of the replicas is equal again: writes are taken"),
        }
        gauge!("quorumscale_writes_halted").set(if reason.is_some() { 1.0 } else { 0.0 });
        *self.integrity.halted.lock().unwrap_or_else(PoisonError::into_inner) = reason.clone();
        let auditor = self.auditor.clone();
        let noted = tokio::task::spawn_blocking(move || auditor.halt(reason.as_deref())).await;
        if let Ok(Err(error)) = noted {
            tracing::error!("whether anything may be written is not noted on disk: {error}");
        }
    }

    /// This replica must not go on: ends the process. (A test's process stays, and looks.)
    pub fn fall(&self, what: &str, reason: &str, remedy: &str) {
        let said = self.integrity.fallen.set(format!("{what}: {reason}"));
        #[cfg(test)]
        super::sim::host::stop_replica(&format!("{what}: {reason}"));
        if cfg!(not(test)) {
            super::fatal::die(what, reason, remedy);
        } else if said.is_ok() {
            tracing::error!("{what}: {reason}; {remedy}");
        }
    }
}

fn no_majority(judgement: &wire::Judgement) -> String {
    let each: Vec<_> =
        judgement.wrong.iter().map(|w| format!("replica {} in {}", w.replica, w.kinds.join(", "))).collect();
    format!(
        "the replicas differ at log entry {} ({}), and no majority of them has the same: decide which one is right \
         (\"cluster verify\" shows them), and remove the others with \"cluster remove\"; reads go on",
        judgement.index,
        each.join("; ")
    )
}
