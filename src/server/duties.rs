//! What somebody has to do when its time comes: the leader does it for all.
//!
//! Expiry, ephemeral nodes and login deadlines are in state ([`State::next_due`]);
//! the leader proposes a [`Command::Tick`] when something is due. It also closes
//! the sessions of replicas that died, after the time that their clients have to
//! come back. Nothing here is remembered across leaders: a new one gives every
//! replica the full time anew.

use crate::cluster::Cluster;
use crate::state::{Command, ReplicaId, State, Time};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How often the leader looks.
const ROUND: Duration = Duration::from_millis(500);

/// Clients of a replica that is silent, not dead, notice by their watchdog of
/// 120 s; its sessions are kept a little longer than that.
const SILENT_REPLICA_GRACE: Duration = Duration::from_secs(130);

/// Does the leader's duties whenever this replica is the leader, until `stop`.
pub async fn run(cluster: Cluster, offline_grace: Duration, stop: CancellationToken) {
    let mut gone = GoneSince::default();
    let mut round = tokio::time::interval(ROUND);
    round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = round.tick() => {}
            () = stop.cancelled() => return,
        }
        if !cluster.is_leader() {
            gone = GoneSince::default();
            continue;
        }
        let view = cluster.view();
        if view.next_due().is_some_and(|due| due <= Time::now()) {
            propose(&cluster, Command::Tick).await;
        }
        for (replica, incarnation) in gone.overdue(&cluster, &view, offline_grace) {
            tracing::info!(%replica, "closing the sessions that clients of a lost replica did not take elsewhere");
            propose(&cluster, Command::CloseSessionsOf { replica, incarnation }).await;
        }
    }
}

async fn propose(cluster: &Cluster, command: Command) {
    let name = command.name();
    if let Err(error) = cluster.write(command).await {
        // Whoever leads then finds it due again.
        tracing::warn!(command = name, %error, "a duty of the leader was not done");
    }
}

/// Since when each process of a replica has been gone, as this leader knows it.
#[derive(Default)]
struct GoneSince(BTreeMap<(ReplicaId, u64), Gone>);

#[derive(Clone, Copy)]
struct Gone {
    since: Instant,
    dead: bool,
}

impl GoneSince {
    /// The processes with sessions whose clients have had their time.
    fn overdue(&mut self, cluster: &Cluster, view: &State, offline_grace: Duration) -> Vec<(ReplicaId, u64)> {
        let now = Instant::now();
        let contact = cluster.peer_contact();
        let mut seen = BTreeMap::new();
        for session in view.sessions() {
            seen.entry((session.replica, session.incarnation)).or_insert(());
        }
        self.0.retain(|process, _| seen.contains_key(process));
        let mut overdue = Vec::new();
        for (replica, incarnation) in seen.into_keys() {
            let replaced = view.replica(replica).is_none_or(|r| r.incarnation != incarnation);
            let peer = contact.iter().find(|peer| peer.id == replica);
            let state = if replaced {
                Some(true)
            } else if replica == cluster.id() {
                None
            } else {
                match peer {
                    None => Some(true),
                    Some(peer) if peer.refused => Some(true),
                    Some(peer) if peer.last.is_none_or(|last| now.duration_since(last) > QUIET) => Some(false),
                    Some(_) => None,
                }
            };
            let Some(dead) = state else {
                self.0.remove(&(replica, incarnation));
                continue;
            };
            let entry = self.0.entry((replica, incarnation)).or_insert(Gone { since: now, dead });
            entry.dead |= dead;
            let grace = if entry.dead { offline_grace } else { SILENT_REPLICA_GRACE };
            if now.duration_since(entry.since) >= grace {
                overdue.push((replica, incarnation));
            }
        }
        overdue
    }
}

/// A replica that has not answered for this long counts as silent.
const QUIET: Duration = Duration::from_secs(2);
