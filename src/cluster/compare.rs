//! The leader compares all replicas every few seconds, at one index of the log, by the
//! tallies that each keeps: that costs a message, and reads no record.

use super::membership::members;
use super::peer::Purpose;
use super::replica::Replica;
use super::wire::{self, tally_response};
use crate::state::{KindTally, ReplicaId, Tally};
use futures::future::join_all;
use metrics::counter;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// The form of records that the tallies are over; only tallies of one form can be compared.
///
/// It is the same for all releases, so that a cluster is compared while it is upgraded. What
/// a later release adds to a record is not in the record's bytes until it is set, and it is
/// set only by commands that all members know (see [`Command::format`](crate::state::Command::format)):
/// so at each index of the log the bytes are those that the oldest member writes, which is the
/// form at the cluster's version. A release that cannot keep to that, because the same
/// record must have other bytes, has another number here, and is compared with its own kind.
const FORM: &str = "1";

/// How soon a difference is looked at again before anybody acts on it.
const AGAIN: Duration = Duration::from_millis(300);
/// How long a replica waits for an index that is to come.
const REACH_PATIENCE: Duration = Duration::from_secs(2);
/// How long another replica may take.
const ASK_PATIENCE: Duration = Duration::from_secs(3);

/// One replica at the index: whether it votes, and what it has.
#[derive(Clone, Debug)]
struct Found {
    votes: bool,
    form: String,
    tally: Tally,
    halted: bool,
}

impl Replica {
    /// Compares for as long as this replica leads.
    pub async fn compare_continuously(self: Arc<Self>) {
        let mut suspicion: Option<BTreeMap<u64, Vec<String>>> = None;
        loop {
            let pause = self.options.compare_every;
            tokio::time::sleep(if suspicion.is_some() { pause.min(AGAIN) } else { pause }).await;
            if !*self.leads.borrow() {
                suspicion = None;
                continue;
            }
            let Some((judgement, halted)) = self.compare_once().await else { continue };
            let wrong: BTreeMap<_, _> = judgement.wrong.iter().map(|w| (w.replica, w.kinds.clone())).collect();
            let result = if wrong.is_empty() { "equal" } else { "different" };
            counter!("quorumscale_comparisons_total", "result" => result).increment(1);
            let news = !wrong.is_empty() || halted || !self.integrity.wrong().is_empty();
            if !wrong.is_empty() && suspicion.as_ref() != Some(&wrong) {
                suspicion = Some(wrong);
                continue;
            }
            suspicion = None;
            if news {
                self.announce_judgement(judgement).await;
            }
        }
    }

    /// What the replicas have now, and whether one of them takes no writes; `None`: this one
    /// has moved on too far meanwhile.
    async fn compare_once(self: &Arc<Self>) -> Option<(wire::Judgement, bool)> {
        let index = *self.feed.applied().borrow();
        let members = members(self.metrics().membership_config.membership());
        let asked = members.iter().map(async |(id, (address, votes))| {
            let answer = match *id == self.id {
                true => self.tally(index).await,
                false => self.ask_tally(*id, address, index).await?,
            };
            Some((*id, found(answer, *votes)?))
        });
        let found: BTreeMap<ReplicaId, Found> = join_all(asked).await.into_iter().flatten().collect();
        let halted = found.values().any(|found| found.halted);
        let voters = members.values().filter(|(_, votes)| *votes).count();
        let mut judgement = judge(voters, &found);
        judgement.index = index;
        judgement.members = members.keys().map(|id| id.0).collect();
        found.contains_key(&self.id).then_some((judgement, halted))
    }

    async fn ask_tally(&self, id: ReplicaId, address: &str, index: u64) -> Option<wire::TallyResponse> {
        let mut client = self.links.client(id, address, Purpose::Calls);
        let call = client.tally(wire::TallyRequest { index });
        Some(tokio::time::timeout(ASK_PATIENCE, call).await.ok()?.ok()?.into_inner())
    }

    /// This replica's tally at an index that it has just passed, or is about to reach.
    pub async fn tally(&self, index: u64) -> wire::TallyResponse {
        let mut applied = self.feed.applied();
        let reached = tokio::time::timeout(REACH_PATIENCE, applied.wait_for(|applied| *applied >= index)).await;
        let tally = reached.ok().and_then(Result::ok).and_then(|_| self.feed.tally_at(index));
        let result = match tally {
            None => tally_response::Result::MissedAt(*self.feed.applied().borrow()),
            Some(tally) => tally_response::Result::Tally(tally_response::Tally {
                form: FORM.into(),
                kinds: tally.kinds().map(Into::into).collect(),
                halted: self.integrity.halted().is_some(),
            }),
        };
        wire::TallyResponse { result: Some(result) }
    }

    /// Tells everybody, this replica last: it may be the one that ends.
    async fn announce_judgement(self: &Arc<Self>, judgement: wire::Judgement) {
        let members = members(self.metrics().membership_config.membership());
        let others = members.into_iter().filter(|(id, _)| *id != self.id);
        let told = others.map(|(id, (address, _))| {
            let (mut client, judgement) = (self.links.client(id, &address, Purpose::Calls), judgement.clone());
            async move {
                // Who does not hear it now hears the next one.
                let _ = tokio::time::timeout(ASK_PATIENCE, client.judge(judgement)).await;
            }
        });
        join_all(told).await;
        self.take_judgement(judgement).await;
    }
}

/// `None`: it missed the index, or its answer cannot be read.
fn found(answer: wire::TallyResponse, votes: bool) -> Option<Found> {
    let Some(tally_response::Result::Tally(answer)) = answer.result else { return None };
    let kinds: Option<Vec<_>> = answer.kinds.iter().map(|kind| kind.try_into().ok()).collect();
    Some(Found { votes, form: answer.form, tally: Tally::from_kinds(kinds?), halted: answer.halted })
}

/// Who is wrong: whoever is not what more than half of all voters are. If there are
/// different ones and none has that majority, everyone is.
fn judge(voters: usize, found: &BTreeMap<ReplicaId, Found>) -> wire::Judgement {
    let supporters = |one: &Found| {
        let same = |other: &&Found| other.votes && other.form == one.form && other.tally == one.tally;
        found.values().filter(same).count()
    };
    let right = found.values().find(|one| supporters(one) * 2 > voters);
    let wrong = found.iter().filter_map(|(id, own)| {
        let mut kinds = BTreeSet::new();
        for other in found.values().filter(|other| other.form == own.form) {
            // Where somebody is right, only a difference to that one counts.
            if right.is_none_or(|right| right.form != own.form || right.tally == other.tally) {
                kinds.extend(own.tally.differences(&other.tally).into_iter().map(str::to_owned));
            }
        }
        let kinds: Vec<String> = kinds.into_iter().collect();
        (!kinds.is_empty()).then_some(wire::judgement::Wrong { replica: id.0, kinds })
    });
    let wrong: Vec<_> = wrong.collect();
    // Replicas with another form differ among themselves: the majority says nothing of them.
    let decided = right.is_some_and(|right| {
        wrong.iter().all(|w| found.get(&ReplicaId(w.replica)).is_some_and(|wrong| wrong.form == right.form))
    });
    wire::Judgement {
        majority: decided,
        wrong,
        compared: found.keys().map(|id| id.0).collect(),
        ..wire::Judgement::default()
    }
}

impl From<(u8, KindTally)> for wire::KindTally {
    fn from((kind, tally): (u8, KindTally)) -> Self {
        Self { kind: kind.into(), records: tally.records, hash: tally.hash().into() }
    }
}

impl TryFrom<&wire::KindTally> for (u8, KindTally) {
    type Error = wire::WireError;
    fn try_from(kind: &wire::KindTally) -> Result<Self, wire::WireError> {
        let malformed = || wire::WireError::Missing("a kind's tally");
        let number = u8::try_from(kind.kind).map_err(|_| malformed())?;
        let hash = kind.hash.as_slice().try_into().map_err(|_| malformed())?;
        Ok((number, KindTally::new(kind.records, hash)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(users: u8, votes: bool, form: &str) -> Found {
        let mut tally = Tally::default();
        tally.add(&[7, 1], &[users]);
        tally.add(&[10, 1], b"the same everywhere");
        Found { votes, form: form.into(), tally, halted: false }
    }

    fn judged(voters: usize, found: &[Found]) -> (Vec<u64>, bool) {
        let found = found.iter().cloned().enumerate().map(|(n, found)| (ReplicaId(n as u64 + 1), found)).collect();
        let judgement = judge(voters, &found);
        assert!(judgement.wrong.iter().all(|wrong| wrong.kinds == ["users"]), "{judgement:?}");
        (judgement.wrong.iter().map(|wrong| wrong.replica).collect(), judgement.majority)
    }

    #[test]
    fn whoever_differs_from_the_majority_of_all_voters_is_wrong() {
        let v = |users| replica(users, true, "a");
        assert_eq!(judged(3, &[v(1), v(1), v(1)]), (vec![], true));
        assert_eq!(judged(3, &[v(1), v(2), v(1)]), (vec![2], true));
        assert_eq!(judged(5, &[v(1), v(2), v(1), v(3), v(1)]), (vec![2, 4], true));
        assert_eq!(judged(1, &[v(1), replica(2, false, "a")]), (vec![2], true), "a learner");
    }

    #[test]
    fn without_a_majority_of_all_voters_nobody_is_right() {
        let v = |users| replica(users, true, "a");
        assert_eq!(judged(3, &[v(1), v(2), v(3)]), (vec![1, 2, 3], false));
        assert_eq!(judged(2, &[v(1), v(2)]), (vec![1, 2], false));
        assert_eq!(judged(3, &[v(1), v(2)]), (vec![1, 2], false), "the third may be either");
        assert_eq!(judged(5, &[v(1), v(1), v(2)]), (vec![1, 2, 3], false), "the others may be as the third");
        assert_eq!(
            judged(2, &[v(1), v(2), replica(1, false, "a")]),
            (vec![1, 2, 3], false),
            "a learner does not count"
        );
    }

    #[test]
    fn who_gave_no_answer_is_not_called_wrong() {
        let v = |users| replica(users, true, "a");
        assert_eq!(judged(3, &[v(1), v(1)]), (vec![], true));
        assert_eq!(judged(5, &[v(1), v(1)]), (vec![], false), "too few to call anything right");
    }

    #[test]
    fn records_of_another_form_are_not_compared_with_each_other() {
        let of = |users, form| replica(users, true, form);
        assert_eq!(judged(3, &[of(1, "a"), of(1, "a"), of(2, "b")]), (vec![], true));
        assert_eq!(judged(3, &[of(1, "a"), of(2, "b"), of(3, "c")]), (vec![], false));
        assert_eq!(judged(3, &[of(1, "a"), of(2, "a"), of(3, "b")]), (vec![1, 2], false));
        assert_eq!(judged(5, &[of(1, "a"), of(1, "a"), of(1, "a"), of(2, "b"), of(3, "b")]), (vec![4, 5], false));
    }
}
