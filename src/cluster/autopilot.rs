//! Autopilot: the leader removes replicas that have been dead for long, if it is told
//! to. The words are Consul's and Vault's.

use super::membership::{Change, members};
use super::replica::Replica;
use crate::state::{Command, Deed, Origin, ReplicaId};
use openraft::ServerState;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How often the leader looks.
const ROUND: Duration = Duration::from_secs(1);
/// A member that answered within this time can be counted on.
const ALIVE: Duration = Duration::from_secs(10);
/// With fewer voters than this, losing one more would stop the cluster.
pub const LEAST_MIN_QUORUM: usize = 3;

/// `cluster.autopilot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Autopilot {
    /// Whether dead replicas are removed at all.
    pub cleanup_dead_servers: bool,
    /// A replica that the leader has not heard for this long is dead.
    pub dead_server_last_contact_threshold: Duration,
    /// Voters that are never gone below; at least `LEAST_MIN_QUORUM` counts.
    pub min_quorum: usize,
}

impl Default for Autopilot {
    fn default() -> Self {
        Self {
            cleanup_dead_servers: false,
            dead_server_last_contact_threshold: Duration::from_secs(24 * 3600),
            min_quorum: LEAST_MIN_QUORUM,
        }
    }
}

/// A member as the leader sees it.
#[derive(Clone, Copy, Debug)]
struct Server {
    id: ReplicaId,
    voter: bool,
    silent_for: Duration,
}

impl Replica {
    /// Removes what is dead, one at a time, whenever this replica leads.
    pub async fn run_autopilot(self: Arc<Self>) {
        let autopilot = self.options.autopilot;
        if !autopilot.cleanup_dead_servers {
            return;
        }
        // Since when this leader has not heard of them: a new one gives all the full time.
        let mut heard = BTreeMap::new();
        loop {
            tokio::time::sleep(ROUND).await;
            let Some(servers) = self.servers(&mut heard) else {
                heard.clear();
                continue;
            };
            let Some(dead) = to_remove(&servers, &autopilot) else { continue };
            tracing::warn!(
                "autopilot: removing replica {dead}, which has not answered for {:?}",
                autopilot.dead_server_last_contact_threshold
            );
            match self.change_here(Change::Remove(dead)).await {
                Ok(_) => self.record_autopilot(dead, autopilot.dead_server_last_contact_threshold).await,
                Err(reason) => tracing::warn!("autopilot: replica {dead} is not removed: {reason}"),
            }
        }
    }

    async fn record_autopilot(self: &Arc<Self>, dead: ReplicaId, silent_for: Duration) {
        let origin = Origin { by: "autopilot".into(), from: format!("replica {}", self.id) };
        let deed = Deed {
            action: "replica.remove".into(),
            subject: format!("replica {dead}"),
            detail: format!("no answer for {silent_for:?}"),
        };
        if let Err(error) = self.write(origin.into(), Command::Note(deed)).await {
            tracing::warn!("autopilot: that is not in the audit record: {error}");
        }
    }

    /// All members, if this replica leads.
    fn servers(&self, heard: &mut BTreeMap<ReplicaId, Instant>) -> Option<Vec<Server>> {
        let metrics = self.metrics();
        if metrics.state != ServerState::Leader {
            return None;
        }
        let contact = self.peer_contact();
        let members = members(metrics.membership_config.membership());
        heard.retain(|id, _| members.contains_key(id));
        let servers = members.into_iter().map(|(id, (_, voter))| {
            let last = contact.iter().find(|peer| peer.id == id).and_then(|peer| peer.last);
            let entry = heard.entry(id).or_insert_with(Instant::now);
            if let Some(last) = last {
                *entry = (*entry).max(last.into());
            }
            let silent_for = if id == self.id { Duration::ZERO } else { entry.elapsed() };
            Server { id, voter, silent_for }
        });
        Some(servers.collect())
    }
}

/// The dead replica that goes next, if one may: a learner costs nothing; a voter goes
/// only if enough voters stay, most of which are alive.
fn to_remove(servers: &[Server], autopilot: &Autopilot) -> Option<ReplicaId> {
    let is_dead = |server: &&Server| server.silent_for >= autopilot.dead_server_last_contact_threshold;
    let dead: Vec<&Server> = servers.iter().filter(is_dead).collect();
    if let Some(learner) = dead.iter().find(|server| !server.voter) {
        return Some(learner.id);
    }
    let left = servers.iter().filter(|server| server.voter).count().checked_sub(1)?;
    let alive = servers.iter().filter(|server| server.voter && server.silent_for < ALIVE && !is_dead(server)).count();
    let stays_whole = left >= autopilot.min_quorum.max(LEAST_MIN_QUORUM) && alive > left / 2;
    dead.first().filter(|_| stays_whole).map(|server| server.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn servers(silent: &[Duration]) -> Vec<Server> {
        (1..)
            .zip(silent)
            .map(|(id, silent_for)| Server { id: ReplicaId(id), voter: true, silent_for: *silent_for })
            .collect()
    }

    fn removed(servers: &[Server], min_quorum: usize) -> Option<u64> {
        let autopilot = Autopilot { cleanup_dead_servers: true, min_quorum, ..Autopilot::default() };
        to_remove(servers, &autopilot).map(|id| id.0)
    }

    #[test]
    fn a_dead_voter_goes_only_when_a_replacement_makes_the_cluster_whole() {
        let z = Duration::ZERO;
        assert_eq!(removed(&servers(&[z, z, DAY]), 3), None, "two would be left");
        assert_eq!(removed(&servers(&[z, z, DAY, z]), 3), Some(3));
        assert_eq!(removed(&servers(&[z, z, DAY, z]), 4), None, "min_quorum");
        assert_eq!(removed(&servers(&[z, z, DAY]), 0), None, "no file makes it less than three");
        assert_eq!(removed(&servers(&[z, z, DAY / 2, z]), 3), None, "not dead yet");
        assert_eq!(removed(&servers(&[z, z, z, DAY, DAY]), 3), Some(4), "one after the other");
    }

    #[test]
    fn nobody_goes_while_those_who_stay_are_no_majority() {
        let (z, minute) = (Duration::ZERO, Duration::from_secs(60));
        assert_eq!(removed(&servers(&[z, z, minute, minute, DAY]), 3), None);
    }

    #[test]
    fn a_dead_learner_goes_whatever_the_others_do() {
        let mut three = servers(&[Duration::ZERO, Duration::ZERO, DAY, DAY]);
        three[3].voter = false;
        assert_eq!(removed(&three, 3), Some(4));
    }
}
