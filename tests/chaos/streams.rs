//! Nodes that hold their streams during a run.

use crate::history::History;
use crate::nemesis::Attack;
use crate::support::{Cluster, Ended, Mark, Watchers};
use std::time::{Duration, Instant};

/// For each replica.
const NODES: usize = 6;
/// Nodes whose names are written all the time.
const NAMED: usize = 3;
/// The default of `offline_grace`.
const GRACE: Duration = Duration::from_secs(15);
/// Everybody has heard of the last change by then.
const HEARD: Duration = Duration::from_secs(20);

pub struct Streams {
    watchers: Watchers,
}

/// What one fault did to streams.
#[derive(Default)]
pub struct Moved {
    pub streams: usize,
    pub longest: Duration,
    /// Streams of replicas that it was not done to.
    pub dropped: Vec<Ended>,
    pub marks: Vec<Mark>,
}

impl Streams {
    pub async fn start(cluster: &Cluster, replicas: u64, key: &str) -> Streams {
        let homes: Vec<u64> = (1..=replicas).collect();
        Streams { watchers: Watchers::start(cluster, &homes, NODES * homes.len(), key).await }
    }

    pub fn count(&self) -> usize {
        self.watchers.count()
    }

    pub fn named(&self) -> Vec<u64> {
        (0..NAMED).map(|number| self.watchers.id(number)).collect()
    }

    /// A change after all faults reaches every stream.
    pub async fn hear_the_last_change(&self, cluster: &Cluster, history: &History) {
        self.watchers.all_up().await;
        let id = self.watchers.id(0);
        let name = "the-last-name";
        cluster.ok(1, &["nodes", "rename", "-i", &id.to_string(), name]);
        let begun = Instant::now();
        while !self.watchers.unaware(id, name).is_empty() {
            if begun.elapsed() > HEARD {
                let unaware = self.watchers.unaware(id, name);
                return history
                    .wrong(format!("{} streams did not hear of the last change: {unaware:?}", unaware.len()));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What happened from this attack until the next.
    pub fn during(&self, attacks: &[Attack], index: usize) -> Moved {
        let attack = &attacks[index];
        let until = attacks.get(index + 1).map(|next| next.from);
        let within = |at: Instant| at >= attack.from && until.is_none_or(|until| at < until);
        let ended: Vec<Ended> = self.watchers.ended().into_iter().filter(|ended| within(ended.at)).collect();
        let away = ended.iter().filter_map(|ended| ended.back.map(|(at, _)| at - ended.at));
        Moved {
            streams: ended.iter().filter(|ended| ended.back.is_some()).count(),
            longest: away.max().unwrap_or_default(),
            dropped: ended.iter().filter(|ended| !attack.victims.contains(&ended.replica)).cloned().collect(),
            marks: self.watchers.false_marks(GRACE).into_iter().filter(|mark| within(mark.at)).collect(),
        }
    }

    /// What contradicts a promise.
    pub fn findings(&self, attacks: &[Attack]) -> Vec<String> {
        let mut found: Vec<String> = self.watchers.wrong();
        let marks = self.watchers.false_marks(GRACE);
        found.extend(marks.iter().map(|mark| {
            let fault = attacks.iter().rev().find(|attack| attack.from <= mark.at).map(|attack| attack.fault.name());
            let Mark { by, of, form, away, returned, told_by, at_replica, .. } = mark;
            format!(
                "{}: node {by} at replica {told_by:?} was shown {of} as offline ({form}), which is at {at_replica:?}: away for {away:?}, the last time for {returned:?}",
                fault.unwrap_or("before all faults")
            )
        }));
        for (index, attack) in attacks.iter().enumerate() {
            found.extend(self.during(attacks, index).dropped.iter().map(|ended| {
                format!("{}: a stream of replica {} was dropped: {}", attack.fault.name(), ended.replica, ended.why)
            }));
        }
        let first = attacks.first().map(|attack| attack.from);
        let early = self.watchers.ended().into_iter().filter(|ended| first.is_none_or(|first| ended.at < first));
        found.extend(early.map(|ended| format!("a stream was dropped before all faults: {ended:?}")));
        found
    }
}
