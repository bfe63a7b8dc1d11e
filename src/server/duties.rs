//! What somebody has to do when its time comes: the leader does it for all.
//!
//! Expiry, ephemeral nodes and login deadlines are in state ([`State::next_due`]);
//! the leader proposes a [`Command::Tick`] when something is due. It also watches over
//! the replicas: it says of one that it has not heard of for the offline grace that it
//! is away, and closes the sessions of one whose clients had their time to come back.
//! Nothing here is remembered across leaders: a new one gives every replica the full
//! time anew.

#[cfg(test)]
mod tests;

use crate::cluster::{Cluster, PeerContact, Unavailable, WriteError};
use crate::state::{Command, Replica, ReplicaId, Standing, State, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How often the leader looks: a fraction of the second within which a node is to be
/// offline everywhere after its grace.
const ROUND: Duration = Duration::from_millis(250);

/// Clients of a replica that is silent, not dead, notice by their watchdog of
/// 120 s; its sessions are kept a little longer than that.
const SILENT_REPLICA_GRACE: Duration = Duration::from_secs(130);

/// A replica that has not answered for this long counts as silent.
const QUIET: Duration = Duration::from_secs(2);

/// Does the leader's duties whenever this replica is the leader, until `stop`.
pub async fn run(cluster: Cluster, offline_grace: Duration, stop: CancellationToken) {
    let mut watch = Watch::new(cluster.id(), offline_grace);
    let mut round = tokio::time::interval(ROUND);
    round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = round.tick() => {}
            () = stop.cancelled() => return,
        }
        if !cluster.is_leader() {
            watch = Watch::new(cluster.id(), offline_grace);
            continue;
        }
        let view = cluster.view();
        let due = watch.due(&view, &cluster.peer_contact(), Instant::now(), cluster.now());
        for duty in due {
            propose(&cluster, duty).await;
        }
    }
}

async fn propose(cluster: &Cluster, command: Command) {
    let name = command.name();
    match cluster.write(command).await {
        Ok(_) => {}
        // It has to wait until all replicas are upgraded, which `cluster status` says.
        Err(WriteError::Unavailable(error @ Unavailable::Mixed { .. })) => tracing::debug!(command = name, %error),
        // Whoever leads then finds it due again.
        Err(error) => tracing::warn!(command = name, %error, "a duty of the leader was not done"),
    }
}

/// One process of a replica: its number, and its incarnation.
type Run = (ReplicaId, u64);

/// What one leader knows of the other replicas, from its first moment on.
struct Watch {
    own: ReplicaId,
    offline_grace: Duration,
    lost: BTreeMap<Run, Lost>,
}

/// A run of a replica that does not answer.
#[derive(Clone, Copy)]
struct Lost {
    how: Loss,
    /// Since when it is lost in whatever way.
    since: Instant,
    /// Since when it is known to be dead.
    dead_since: Option<Instant>,
}

/// How a replica was lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Loss {
    /// Its process ended: its clients know, and are coming elsewhere.
    Dead,
    /// It does not answer, and its clients may not know yet.
    Silent,
}

impl Watch {
    fn new(own: ReplicaId, offline_grace: Duration) -> Self {
        Self { own, offline_grace, lost: BTreeMap::new() }
    }

    /// What is due now. `now` is this machine's steady clock, `time` that of the calendar.
    fn due(&mut self, view: &State, contact: &[PeerContact], now: Instant, time: Time) -> Vec<Command> {
        self.look(view, contact, now);
        let mut due = Vec::new();
        due.extend(view.next_due().filter(|due| *due <= time).map(|_| Command::Tick));
        due.extend(view.replicas().filter_map(|replica| self.standing(replica, now)));
        for run in view.runs_with_sessions() {
            if self.lost.get(&run).is_some_and(|lost| self.is_over(lost, now)) {
                let (replica, incarnation) = run;
                tracing::info!(%replica, "closing the sessions that clients of a lost replica did not take elsewhere");
                due.push(Command::CloseSessionsOf { replica, incarnation });
            }
        }
        due
    }

    /// Notes which runs are lost, and since when.
    fn look(&mut self, view: &State, contact: &[PeerContact], now: Instant) {
        let current = view.replicas().map(|replica| (replica.id, replica.incarnation));
        let runs: BTreeSet<Run> = view.runs_with_sessions().chain(current).collect();
        self.lost.retain(|run, _| runs.contains(run));
        for run in runs {
            let Some(how) = loss(run, self.own, view, contact, now) else {
                self.lost.remove(&run);
                continue;
            };
            let lost = self.lost.entry(run).or_insert(Lost { how, since: now, dead_since: None });
            // One that refused once is dead, whatever its port does afterwards.
            if how == Loss::Dead {
                lost.how = how;
                lost.dead_since.get_or_insert(now);
            }
        }
    }

    /// Whether the clients of a lost run have had their time. Those of one that was
    /// silent before it died may have noticed only then.
    fn is_over(&self, lost: &Lost, now: Instant) -> bool {
        let was_silent = now.duration_since(lost.since) >= SILENT_REPLICA_GRACE;
        was_silent || lost.dead_since.is_some_and(|since| now.duration_since(since) >= self.offline_grace)
    }

    /// What has to be said about how far a replica can be counted on.
    fn standing(&self, replica: &Replica, now: Instant) -> Option<Command> {
        let lost = self.lost.get(&(replica.id, replica.incarnation));
        let is_away = lost.is_some_and(|lost| now.duration_since(lost.since) >= self.offline_grace);
        let standing = match (lost, replica.standing) {
            (Some(_), Standing::Serving | Standing::Leaving) if is_away => Standing::Away,
            (None, Standing::Away) => Standing::Serving,
            _ => return None,
        };
        tracing::info!(replica = %replica.id, ?standing, "a replica is counted on in another way");
        Some(Command::SetStanding { replica: replica.id, incarnation: replica.incarnation, standing })
    }
}

/// Whether a run of a replica is lost, as far as the leader can tell.
fn loss(
    (replica, incarnation): Run,
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
