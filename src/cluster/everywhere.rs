//! Waiting until a change is in force on all replicas, not on a majority alone.

use super::membership::members;
use super::replica::Replica;
use crate::state::ReplicaId;
use futures::future::join_all;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How often those are asked again that have not applied it yet.
const ASK_AGAIN: Duration = Duration::from_millis(20);

impl Replica {
    /// Returns when every member has applied the log up to `index`, after `patience` at
    /// the latest: a member that does not answer may be gone.
    pub async fn applied_everywhere(self: &Arc<Self>, index: u64, patience: Duration) {
        let replica = self.clone();
        let task = self.handle.spawn(timeout(patience, async move { replica.ask_until_applied(index).await }));
        let _: Result<Result<(), _>, _> = task.await;
    }

    async fn ask_until_applied(&self, index: u64) {
        let mut waiting: BTreeMap<ReplicaId, String> =
            members(self.metrics().membership_config.membership()).into_iter().map(|(id, (at, _))| (id, at)).collect();
        loop {
            let asked = waiting.iter().map(async |(id, address)| (*id, self.ask_member(*id, address).await));
            for (id, answer) in join_all(asked).await {
                if answer.is_ok_and(|answer| answer.applied >= Some(index)) {
                    waiting.remove(&id);
                }
            }
            if waiting.is_empty() {
                return;
            }
            sleep(ASK_AGAIN).await;
        }
    }
}
