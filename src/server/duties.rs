//! What somebody has to do when its time comes: the leader does it for all.
//!
//! Expiry, ephemeral nodes and login deadlines are in state ([`State::next_due`]);
//! the leader proposes a [`Command::Tick`] when something is due. It also closes
//! the sessions of replicas that died, after the time that their clients have to
//! come back. Nothing here is remembered across leaders: a new one gives every
//! replica the full time anew.

use crate::cluster::{Cluster, PeerContact};
use crate::state::{Command, ReplicaId, State};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How often the leader looks.
const ROUND: Duration = Duration::from_millis(500);

/// Clients of a replica that is silent, not dead, notice by their watchdog of
/// 120 s; its sessions are kept a little longer than that.
const SILENT_REPLICA_GRACE: Duration = Duration::from_secs(130);

/// A replica that has not answered for this long counts as silent.
const QUIET: Duration = Duration::from_secs(2);

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
        if view.next_due().is_some_and(|due| due <= cluster.now()) {
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
    how: Loss,
}

/// How a replica was lost.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// Its process ended: its clients know, and are coming elsewhere.
    Dead,
    /// It does not answer, and its clients may not know yet.
    Silent,
}

impl Loss {
    fn grace(self, offline_grace: Duration) -> Duration {
        match self {
            Loss::Dead => offline_grace,
            Loss::Silent => SILENT_REPLICA_GRACE,
        }
    }
}

impl GoneSince {
    /// The processes with sessions whose clients have had their time.
    fn overdue(&mut self, cluster: &Cluster, view: &State, offline_grace: Duration) -> Vec<(ReplicaId, u64)> {
        let now = Instant::now();
        let contact = cluster.peer_contact();
        let processes: BTreeSet<_> = view.sessions().map(|session| (session.replica, session.incarnation)).collect();
        self.0.retain(|process, _| processes.contains(process));
        let mut overdue = Vec::new();
        for process in processes {
            let Some(how) = loss(process, cluster.id(), view, &contact, now) else {
                self.0.remove(&process);
                continue;
            };
            let gone = self.0.entry(process).or_insert(Gone { since: now, how });
            if how == Loss::Dead {
                gone.how = how;
            }
            if now.duration_since(gone.since) >= gone.how.grace(offline_grace) {
                overdue.push(process);
            }
        }
        overdue
    }
}

/// Whether a process of a replica is gone, as far as the leader can tell.
fn loss(
    (replica, incarnation): (ReplicaId, u64),
    own: ReplicaId,
    view: &State,
    contact: &[PeerContact],
    now: Instant,
) -> Option<Loss> {
    if view.replica(replica).is_none_or(|known| known.incarnation != incarnation) {
        return Some(Loss::Dead);
    }
    if replica == own {
        return None;
    }
    match contact.iter().find(|peer| peer.id == replica) {
        None => Some(Loss::Dead),
        Some(peer) if peer.refused => Some(Loss::Dead),
        Some(peer) if peer.last.is_none_or(|last| now.duration_since(last) > QUIET) => Some(Loss::Silent),
        Some(_) => None,
    }
}
