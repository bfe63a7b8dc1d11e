//! Whether all replicas have the same: each says what its records are at one index
//! of the log, and whether its disk has what its memory has.

use super::Asked;
use super::membership::members;
use super::peer::Purpose;
use super::replica::Replica;
use super::store::Audit;
use super::wire::{self, digest_response};
use super::{Unavailable, Verification, VerifiedReplica};
use crate::state::{Command, ReplicaId, Row, State};
use blake2::{Blake2s256, Digest as _};
use futures::future::join_all;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long a replica waits for the index.
const REACH_PATIENCE: Duration = Duration::from_secs(5);
/// How long another replica may take: it reads all of its records, too.
const DIGEST_PATIENCE: Duration = Duration::from_secs(20);
/// How far ahead the index is, attempt by attempt: under load a near one is passed
/// before all have heard of it.
const AHEAD: [u64; 4] = [8, 64, 512, 4096];
/// Commands that only move the log on, at one time.
const PUSHES: u64 = 64;

/// A replica's digest, or why there is none.
type Answer = Result<wire::DigestResponse, String>;

impl Replica {
    /// Compares all members.
    pub async fn verify(self: &Arc<Self>) -> Result<Verification, Unavailable> {
        let replica = self.clone();
        self.handle.spawn(async move { replica.compare_all().await }).await.unwrap_or(Err(Unavailable::Stopping))
    }

    async fn compare_all(self: &Arc<Self>) -> Result<Verification, Unavailable> {
        let mut last = None;
        for ahead in AHEAD {
            self.linearizable().await?;
            let index = *self.feed.applied().borrow() + ahead;
            let members = members(self.metrics().membership_config.membership());
            let asked =
                members.into_iter().map(async |(id, (address, _))| (id, self.digest_of(id, &address, index).await));
            let (answers, ()) = tokio::join!(join_all(asked), self.push_to(index));
            let missed = |(_, answer): &(ReplicaId, Answer)| matches!(answer, Ok(a) if a.missed().is_some());
            let all = !answers.iter().any(missed);
            last = Some((index, answers));
            if all {
                break;
            }
        }
        let (index, answers) = last.expect("there is a first attempt");
        Ok(summarize(index, answers.into_iter().collect()))
    }

    /// Without other writes the log would not get there by itself.
    async fn push_to(self: &Arc<Self>, index: u64) {
        loop {
            let missing = index.saturating_sub(*self.feed.applied().borrow());
            if missing == 0 {
                return;
            }
            let ticks = (0..missing.min(PUSHES)).map(|_| self.write(Asked::default(), Command::Tick));
            if join_all(ticks).await.into_iter().all(|tick| tick.is_err()) {
                return;
            }
        }
    }

    async fn digest_of(&self, id: ReplicaId, address: &str, index: u64) -> Answer {
        if id == self.id {
            return Ok(self.digest(index).await);
        }
        let mut client = self.links.client(id, address, Purpose::Calls);
        let call = client.digest(wire::DigestRequest { index });
        match tokio::time::timeout(DIGEST_PATIENCE, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.links.explain(id, address).unwrap_or_else(|| status.message().to_owned())),
            Err(_) => Err(format!("replica {id} at {address} does not answer")),
        }
    }

    /// What this replica's records are at an index that is to come.
    pub async fn digest(&self, index: u64) -> wire::DigestResponse {
        let state = tokio::time::timeout(REACH_PATIENCE, self.feed.at(index)).await;
        let Ok(Some(state)) = state else {
            let applied = *self.feed.applied().borrow();
            return wire::DigestResponse { result: Some(digest_response::Result::MissedAt(applied)) };
        };
        let auditor = self.auditor.clone();
        let work = move || (kinds(&state), auditor.audit(|_| true));
        let (kinds, disk) = match tokio::task::spawn_blocking(work).await {
            Ok((kinds, Ok(Audit { applied: Some(problem), .. }))) => (kinds, Err(problem)),
            Ok((kinds, Ok(different))) => (kinds, Ok(different.disk.into_iter().map(str::to_owned).collect())),
            Ok((kinds, Err(error))) => (kinds, Err(error.to_string())),
            Err(error) => (Vec::new(), Err(error.to_string())),
        };
        let disk_problem = disk.as_ref().err().cloned().unwrap_or_default();
        let digest = digest_response::Digest { kinds, differs_on_disk: disk.unwrap_or_default(), disk_problem };
        wire::DigestResponse { result: Some(digest_response::Result::Digest(digest)) }
    }
}

impl wire::DigestResponse {
    /// What was applied instead, if the index was missed.
    fn missed(&self) -> Option<u64> {
        match &self.result {
            Some(digest_response::Result::MissedAt(applied)) => Some(*applied),
            _ => None,
        }
    }
}

/// Number and hash of the records of each kind.
fn kinds(state: &State) -> Vec<digest_response::Kind> {
    let mut kinds: Vec<(&'static str, u64, Blake2s256)> = Vec::new();
    for row in state.rows() {
        let name = Row::kind(&row.key);
        if kinds.last().is_none_or(|(last, ..)| *last != name) {
            kinds.push((name, 0, Blake2s256::new()));
        }
        let Some((_, records, hash)) = kinds.last_mut() else { continue };
        *records += 1;
        for part in [row.key, row.value.unwrap_or_default()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    let kind = |(name, records, hash): (&str, u64, Blake2s256)| digest_response::Kind {
        name: name.into(),
        records,
        hash: hash.finalize().to_vec(),
    };
    kinds.into_iter().map(kind).collect()
}

/// What the answers mean: the majority of those who answered is right.
pub fn summarize(index: u64, answers: BTreeMap<ReplicaId, Answer>) -> Verification {
    let mut replicas: Vec<VerifiedReplica> = Vec::new();
    let mut hashes: BTreeMap<ReplicaId, BTreeMap<String, Vec<u8>>> = BTreeMap::new();
    for (id, answer) in answers {
        let mut replica = VerifiedReplica { id: id.0, ..VerifiedReplica::default() };
        match answer.map(|response| response.result) {
            Ok(Some(digest_response::Result::Digest(digest))) => {
                replica.records = Some(digest.kinds.iter().map(|kind| kind.records).sum());
                replica.hash = whole(&digest.kinds);
                replica.differs_on_disk = digest.differs_on_disk;
                replica.problem = (!digest.disk_problem.is_empty())
                    .then(|| format!("its disk cannot be read: {}", digest.disk_problem));
                hashes.insert(id, digest.kinds.into_iter().map(|kind| (kind.name, kind.hash)).collect());
            }
            Ok(Some(digest_response::Result::MissedAt(applied))) => {
                replica.problem = Some(format!("it was not at log entry {index} in time, but at {applied}"));
            }
            Ok(None) => replica.problem = Some("its answer is empty".into()),
            Err(reason) => replica.problem = Some(reason),
        }
        replicas.push(replica);
    }
    let majority = hashes.values().find(|one| hashes.values().filter(|other| other == one).count() * 2 > hashes.len());
    for replica in &mut replicas {
        let Some(own) = hashes.get(&ReplicaId(replica.id)) else { continue };
        // Where nobody is right, everyone differs from the others.
        let others = match majority {
            Some(right) => vec![right],
            None => hashes.values().collect(),
        };
        let names = own.keys().chain(others.iter().flat_map(|other| other.keys()));
        let differs = names.filter(|name| others.iter().any(|other| other.get(*name) != own.get(*name)));
        replica.differs = differs.cloned().collect::<std::collections::BTreeSet<_>>().into_iter().collect();
    }
    let good = |r: &VerifiedReplica| r.problem.is_none() && r.differs.is_empty() && r.differs_on_disk.is_empty();
    Verification { index, equal: replicas.iter().all(good), majority: majority.is_some(), replicas }
}

fn whole(kinds: &[digest_response::Kind]) -> String {
    let mut hash = Blake2s256::new();
    for kind in kinds {
        hash.update((kind.name.len() as u64).to_be_bytes());
        hash.update(&kind.name);
        hash.update(&kind.hash);
    }
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(users: u8, on_disk: &[&str]) -> Answer {
        let kind = |name: &str, hash: u8| digest_response::Kind { name: name.into(), records: 2, hash: vec![hash; 32] };
        let digest = digest_response::Digest {
            kinds: vec![kind("nodes", 1), kind("users", users)],
            differs_on_disk: on_disk.iter().map(|kind| kind.to_string()).collect(),
            disk_problem: String::new(),
        };
        Ok(wire::DigestResponse { result: Some(digest_response::Result::Digest(digest)) })
    }

    fn summary(answers: Vec<Answer>) -> Verification {
        summarize(7, answers.into_iter().enumerate().map(|(n, a)| (ReplicaId(n as u64 + 1), a)).collect())
    }

    #[test]
    fn the_replica_and_the_kind_of_record_that_differ_are_named() {
        let equal = summary(vec![answer(5, &[]), answer(5, &[]), answer(5, &[])]);
        assert!(equal.equal && equal.majority, "{equal:?}");
        let found = summary(vec![answer(5, &[]), answer(6, &[]), answer(5, &["users"])]);
        assert!(!found.equal && found.majority);
        assert_eq!(found.replicas[0].differs, [""; 0]);
        assert_eq!(found.replicas[1].differs, ["users"]);
        assert_eq!(found.replicas[2].differs_on_disk, ["users"]);
    }

    #[test]
    fn without_a_majority_nobody_is_called_right_and_a_missing_answer_is_no_equality() {
        let split = summary(vec![answer(5, &[]), answer(6, &[])]);
        assert!(!split.equal && !split.majority, "{split:?}");
        assert!(split.replicas.iter().all(|replica| replica.differs == ["users"]));
        let alone = summary(vec![answer(5, &[]), answer(5, &[]), Err("it is not running".into())]);
        assert!(!alone.equal && alone.majority);
        assert_eq!(alone.replicas[2].problem.as_deref(), Some("it is not running"));
    }
}
