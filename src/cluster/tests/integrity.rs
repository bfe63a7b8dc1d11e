//! Replicas that differ, disks and memory that lie, machines that are not well.

use super::*;
use crate::cluster::feed::Mischief;
use crate::cluster::replica::Replica;
use crate::state::Time;
use std::sync::atomic::Ordering::Relaxed;

impl Field {
    fn replica(&self, id: u64) -> &Arc<Replica> {
        match &self.at(id).inner {
            Inner::Replica(running) => &running.0,
            Inner::Memory(_) => unreachable!("a field's replicas have disks"),
        }
    }

    /// The next command that fits is applied wrongly on this replica.
    pub fn spoil(&self, id: u64, mischief: Mischief) {
        *self.replica(id).feed.mischief.lock().unwrap() = Some(mischief);
    }

    /// Waits until these have applied the creation of this user.
    pub async fn have(&self, ids: &[u64], name: &str) {
        eventually("all have it", || ids.iter().all(|id| self.at(*id).view().user_by_name(name).is_some())).await;
    }

    async fn falls(&self, id: u64) -> String {
        eventually(&format!("replica {id} stops"), || self.replica(id).integrity.fallen().is_some()).await;
        self.replica(id).integrity.fallen().unwrap().to_owned()
    }

    fn others(&self, id: u64) -> Vec<u64> {
        (1..=self.voters).filter(|other| *other != id).collect()
    }
}

/// Waits until a write is refused with a reason that has this in it.
async fn refused(cluster: &Cluster, part: &str) -> String {
    let begun = Instant::now();
    for n in 0.. {
        match cluster.write(user(&format!("refused{n}"))).await {
            Err(WriteError::Unavailable(Unavailable::Refused(reason))) if reason.contains(part) => return reason,
            _ => assert!(begun.elapsed() < PATIENCE, "it is written"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    unreachable!()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_differs_from_the_majority_is_named_and_stops_and_stays_stopped() {
    let mut field = Field::three().await;
    create(field.at(1), "alice").await;
    field.have(&[1, 2, 3], "alice").await;
    let leader = field.leader_of(&[1, 2, 3]).await;
    let wrong = field.others(leader)[0];
    let right = field.others(leader)[1];
    field.spoil(wrong, Mischief::Apply("bobby".into()));
    create(field.at(right), "bob").await;
    let said = field.falls(wrong).await;
    assert!(said.contains("users were not those of the majority"), "{said}");
    let named = |id: u64| field.replica(id).integrity.wrong().contains_key(&ReplicaId(wrong));
    eventually("the others know of it", || named(leader) && named(right)).await;
    let status = field.at(right).status().await;
    let problems = &status.members[usize::try_from(wrong).unwrap() - 1].problems;
    assert!(problems.iter().any(|p| p.kind == ProblemKind::Differs && p.text.contains("users")), "{status:?}");
    create(field.at(right), "carol").await;

    field.stop(wrong).await;
    for _ in 0..2 {
        let error = field.try_start(field.options(wrong)).await.err().unwrap().to_string();
        assert!(error.contains("must not be used any more") && error.contains("users"), "{error}");
        assert!(error.contains("cluster remove"), "{error}");
    }
    create(field.at(leader), "dave").await;
    let status = field.at(right).status().await;
    assert!(
        status.warnings.iter().any(|w| w.contains("users are not those of the other replicas")),
        "still named: {status:?}"
    );
    field.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_differs_from_the_majority_stops_too() {
    let field = Field::three().await;
    let leader = field.leader_of(&[1, 2, 3]).await;
    field.spoil(leader, Mischief::Apply("bobby".into()));
    create(field.at(leader), "bob").await;
    let said = field.falls(leader).await;
    assert!(said.contains("users"), "{said}");
    assert!(field.others(leader).iter().all(|id| field.replica(*id).integrity.fallen().is_none()));
    field.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_majority_is_equal_writes_stop_everywhere_and_reads_go_on_until_somebody_decides() {
    let mut field = Field::three().await;
    create(field.at(1), "alice").await;
    field.have(&[1, 2, 3], "alice").await;
    field.spoil(2, Mischief::Apply("bobby".into()));
    field.spoil(3, Mischief::Apply("bobbi".into()));
    create(field.at(1), "bob").await;
    for id in [1, 2, 3] {
        let reason = refused(field.at(id), "no majority of them has the same").await;
        assert!(
            reason.contains("replica 2 in") && reason.contains("users") && reason.contains("cluster remove"),
            "{reason}"
        );
        assert!(field.at(id).linearizable().await.unwrap().user_by_name("alice").is_some(), "reads go on");
    }
    let status = field.at(1).status().await;
    assert!(status.writes_refused.is_some() && status.has_quorum, "{status:?}");

    for id in [1, 2, 3] {
        assert!(field.replica(id).integrity.fallen().is_none(), "nobody knows who is right");
        field.stop(id).await;
    }
    field.start_all(&[1, 2, 3]).await;
    let leader = field.leader_of(&[1, 2, 3]).await;
    refused(field.at(leader), "no majority of them has the same").await;

    field.at(1).remove(ReplicaId(2)).await.unwrap();
    field.at(1).remove(ReplicaId(3)).await.unwrap();
    create(field.at(1), "carol").await;
    assert!(field.at(1).status().await.writes_refused.is_none());
    field.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_byte_in_memory_is_found_and_the_disk_has_the_right_one() {
    let mut field = Field::three().await;
    create(field.at(1), "alice").await;
    field.have(&[1, 2, 3], "alice").await;
    let hash = field.at(1).view().hash();
    field.replica(2).scrub().await;
    assert!(field.replica(2).integrity.fallen().is_none(), "nothing is wrong yet");
    field.spoil(2, Mischief::Memory);
    field.at(1).write(Command::Tick).await.unwrap();
    eventually("it was applied", || field.at(2).view().user_by_name("alice").is_none_or(|u| u.name != "alice")).await;
    field.replica(2).scrub().await;
    let said = field.falls(2).await;
    assert!(said.contains("memory") && said.contains("kind users"), "{said}");
    field.stop(2).await;
    field.start_all(&[2]).await;
    let view = field.at(2).linearizable().await.unwrap();
    assert_eq!(view.user_by_name("alice").unwrap().name, "alice");
    let equal = || field.at(2).view().hash() == field.at(1).view().hash();
    eventually("it is as the others", equal).await;
    assert_ne!(field.at(1).view().hash(), hash, "the tick moved the clock");
    field.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_byte_on_disk_is_found_while_the_replica_runs_and_at_every_start_after_it() {
    let mut field = Field::three().await;
    create(field.at(1), "alice").await;
    field.at(2).linearizable().await.unwrap();
    field.replica(2).auditor.spoil_a_user();
    field.replica(2).scrub().await;
    let said = field.falls(2).await;
    assert!(said.contains("records of kind users on disk are not those that were written"), "{said}");
    field.stop(2).await;
    for _ in 0..2 {
        let error = field.try_start(field.options(2)).await.err().unwrap().to_string();
        assert!(error.contains("records of kind users") && error.contains("cluster remove"), "{error}");
    }
    create(field.at(1), "bob").await;
    field.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_record_of_what_is_applied_is_found_while_the_replica_runs_and_at_every_start_after_it() {
    let mut field = Field::three().await;
    create(field.at(1), "alice").await;
    field.have(&[1, 2, 3], "alice").await;
    let leader = field.leader_of(&[1, 2, 3]).await;
    let spoiled = field.others(leader)[0];
    field.replica(spoiled).scrub().await;
    assert!(field.replica(spoiled).integrity.fallen().is_none(), "nothing is wrong yet");
    field.replica(spoiled).auditor.spoil_applied(|record| record[1] ^= 1);
    field.replica(spoiled).scrub().await;
    let said = field.falls(spoiled).await;
    assert!(said.contains("the record of what is applied is damaged"), "{said}");
    field.stop(spoiled).await;
    for _ in 0..2 {
        let error = field.try_start(field.options(spoiled)).await.err().unwrap().to_string();
        assert!(error.contains("the record of what is applied is damaged"), "{error}");
        assert!(error.contains("cluster remove"), "{error}");
    }
    create(field.at(leader), "bob").await;
    field.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_what_is_applied_that_is_an_earlier_one_is_found_while_the_replica_runs() {
    let field = Field::three().await;
    create(field.at(1), "alice").await;
    field.have(&[1, 2, 3], "alice").await;
    let mut earlier = Vec::new();
    field.replica(2).auditor.spoil_applied(|record| earlier.clone_from(record));
    create(field.at(1), "bob").await;
    field.have(&[2], "bob").await;
    field.replica(2).scrub().await;
    assert!(field.replica(2).integrity.fallen().is_none(), "nothing is wrong yet");
    // A write that the disk took and did not keep: what is there is whole, and old.
    field.replica(2).auditor.spoil_applied(|record| *record = earlier);
    field.replica(2).scrub().await;
    let said = field.falls(2).await;
    assert!(said.contains("the record of what is applied says log entry"), "{said}");
    field.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_snapshot_is_found_while_the_replica_runs_and_made_anew() {
    let field = Field::three().await;
    create(field.at(1), "alice").await;
    field.have(&[2], "alice").await;
    let replica = field.replica(2);
    replica.raft.trigger().snapshot().await.unwrap();
    eventually("there is a snapshot", || replica.snapshots.current().is_some()).await;
    for _ in 0..2 {
        let file = replica.snapshots.current().unwrap();
        replica.check_snapshot().await;
        assert_eq!(replica.snapshots.current().unwrap().path(), file.path(), "it is well");
        let mut bytes = std::fs::read(file.path()).unwrap();
        let at = bytes.len() - 40;
        bytes[at] ^= 1;
        // In place: what is read from the file that is open has it too.
        let open = std::fs::OpenOptions::new().write(true).open(file.path()).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&open, &bytes[at..=at], at as u64).unwrap();
        assert!(file.check().is_err());
        replica.check_snapshot().await;
        // Nothing was written since: it is another file of the same log entry.
        eventually("it is whole", || replica.snapshots.current().unwrap().check().is_ok()).await;
        let on_disk = crate::cluster::store::SnapshotFile::open(replica.snapshots.current().unwrap().path());
        assert!(on_disk.unwrap().check().is_ok(), "also for the next start");
    }
    assert!(replica.integrity.fallen().is_none());
    field.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_away_or_gets_a_snapshot_is_no_difference() {
    let mut field = Field::three().await;
    let leader = field.leader_of(&[1, 2, 3]).await;
    let away = field.others(leader)[0];
    field.stop(away).await;
    // Far enough that the log's beginning is gone.
    for n in 0..150 {
        create(field.at(leader), &format!("user{n}")).await;
    }
    field.start_all(&[away]).await;
    for n in 150..200 {
        create(field.at(away), &format!("user{n}")).await;
    }
    let compared = || {
        let index = *field.at(leader).inner_feed().applied().borrow();
        [1, 2, 3].iter().all(|id| field.at(*id).inner_feed().tally_at(index).is_some())
    };
    eventually("all are at one index", compared).await;
    tokio::time::sleep(field.options(1).compare_every * 3).await;
    for id in [1, 2, 3] {
        let integrity = &field.replica(id).integrity;
        assert!(integrity.fallen().is_none() && integrity.wrong().is_empty() && integrity.halted().is_none());
    }
    field.stop_all().await;
}

impl Cluster {
    fn inner_feed(&self) -> &Arc<feed::Feed> {
        match &self.inner {
            Inner::Replica(running) => &running.0.feed,
            Inner::Memory(_) => unreachable!("a field's replicas have disks"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_disk_is_nearly_full_leaves_the_lead_and_comes_back_with_space() {
    let field = Field::three().await;
    create(field.at(1), "alice").await;
    let leader = field.leader_of(&[1, 2, 3]).await;
    let pretend = |id: u64, free: u64| field.replica(id).space.pretended.store(free, Relaxed);
    [1, 2, 3].iter().for_each(|id| pretend(*id, 1 << 30));
    pretend(leader, 5 << 20);
    let others = field.others(leader);
    let next = field.leader_of(&others).await;
    create(field.at(leader), "bob").await;
    let status = field.at(next).status().await;
    let problems = &status.members[usize::try_from(leader).unwrap() - 1].problems;
    assert!(problems.iter().any(|p| p.kind == ProblemKind::DiskLow && p.text.contains("5 MiB")), "{status:?}");
    assert!(status.writes_refused.is_none());

    [1, 2, 3].iter().for_each(|id| pretend(*id, 5 << 20));
    let reason = refused(field.at(leader), "cluster.disk_reserve").await;
    assert!(reason.contains("5 MiB left") && reason.contains("free space"), "{reason}");
    assert!(field.at(leader).linearizable().await.unwrap().user_by_name("bob").is_some(), "reads go on");
    assert!(field.at(leader).status().await.writes_refused.is_some());

    [1, 2, 3].iter().for_each(|id| pretend(*id, 1 << 30));
    create(field.at(leader), "carol").await;
    field.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_disk_is_slow_leaves_the_lead() {
    let field = Field::three().await;
    create(field.at(1), "alice").await;
    let leader = field.leader_of(&[1, 2, 3]).await;
    let slow = field.replica(leader).syncs.clone();
    slow.pretend(Duration::from_millis(700));
    let next = field.leader_of(&field.others(leader)).await;
    let status = field.at(next).status().await;
    let problems = &status.members[usize::try_from(leader).unwrap() - 1].problems;
    assert!(problems.iter().any(|p| p.kind == ProblemKind::DiskSlow && p.text.contains("700 ms")), "{status:?}");
    create(field.at(leader), "bob").await;
    field.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaders_clock_that_jumps_moves_the_clusters_by_a_few_seconds_at_most() {
    const HOUR: i64 = 3_600_000;
    let field = Field::three().await;
    create(field.at(1), "alice").await;
    let leader = field.leader_of(&[1, 2, 3]).await;
    let heard = || field.others(leader).iter().all(|id| field.replica(leader).clocks.knows(ReplicaId(*id)));
    eventually("the leader knows the others' clocks", heard).await;
    for (n, jump) in [HOUR, -HOUR].into_iter().enumerate() {
        field.replica(leader).clocks.off.store(jump, Relaxed);
        let before = field.at(leader).view().clock();
        create(field.at(leader), &format!("user{n}")).await;
        let clock = field.at(leader).view().clock();
        let off = (clock.0 - Time::now().0).abs();
        assert!(off < 30_000, "promised within 5 s, it is off by {off} ms after a jump of {jump} ms");
        assert!(clock >= before, "it never goes back");
        let status = field.at(field.others(leader)[0]).status().await;
        let problems = &status.members[usize::try_from(leader).unwrap() - 1].problems;
        assert!(problems.iter().any(|p| p.kind == ProblemKind::ClockOff), "{status:?}");
    }
    field.replica(leader).clocks.off.store(0, Relaxed);
    assert!(field.at(leader).status().await.members.iter().all(|member| member.problems.is_empty()));
    field.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_of_another_cluster_is_refused_with_the_names_of_both() {
    let mut field = Field::new(4, 3);
    field.start_all(&[1, 2, 3]).await;
    create(field.at(1), "alice").await;
    field.stop(3).await;
    // Another cluster with the same secret, whose one replica has the number 3, elsewhere.
    let mut other = field.options(3);
    other.data_dir = field.dir.path().join("other");
    other.peers = vec![(ReplicaId(3), field.address(4))];
    (other.listen_addr, other.advertise_addr) = (Some(field.address(4).parse().unwrap()), field.address(4));
    let stranger = field.try_start(other.clone()).await.unwrap();
    let theirs = stranger.status().await.cluster_id;
    stranger.shutdown().await;
    let ours = field.at(1).status().await.cluster_id;
    assert_ne!(ours, theirs);
    let misplaced = Options { data_dir: other.data_dir, ..field.options(3) };
    let error = field.try_start(misplaced).await.err().unwrap().to_string();
    assert!(error.contains(&ours) && error.contains(&theirs) && error.contains("other"), "{error}");
    create(field.at(1), "bob").await;
    assert_eq!(field.at(2).linearizable().await.unwrap().users().count(), 2, "nothing came in");
    field.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_member_that_is_not_among_the_first_peers_is_not_filled_by_the_leader_either() {
    let mut field = Field::new(4, 3);
    field.start_all(&[1, 2, 3, 4]).await;
    field.at(1).add(ReplicaId(4), field.address(4)).await.unwrap();
    let up = super::handover::record(4, field.at(4).incarnation(), "test", crate::state::COMMAND_FORMAT);
    field.at(4).write(up).await.unwrap();
    field.stop(4).await;
    std::fs::remove_dir_all(field.data_dir(4)).unwrap();
    field.start_all(&[4]).await;
    let said = field.falls(4).await;
    assert!(said.contains("lost its data") && said.contains("cluster remove 4"), "{said}");
    assert_eq!(*field.at(4).inner_feed().applied().borrow(), 0, "nothing came in");
    field.stop_all().await;
}
