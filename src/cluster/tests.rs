//! Several replicas in one process, over real sockets, TLS and disks.

mod fuzz;
mod golden;
mod handover;

use super::*;
use crate::state::{Allocation, Refused, Settings};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tempfile::TempDir;

mod integrity;

/// For what has no promised time: only a hang takes this long.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn settings() -> Settings {
    Settings {
        prefix_v4: Some("100.64.0.0/10".parse().unwrap()),
        prefix_v6: Some("fd7a:115c:a1e0::/48".parse().unwrap()),
        allocation: Allocation::Sequential,
        base_domain: "tailnet.internal".into(),
        node_expiry: Duration::ZERO,
        ephemeral_timeout: Duration::from_secs(1800),
    }
}

/// Replicas with ids from 1, each with a directory and a port of its own.
pub struct Field {
    pub dir: TempDir,
    pub addresses: Vec<String>,
    pub voters: u64,
    pub running: Vec<Option<Cluster>>,
}

impl Field {
    pub fn new(places: u64, voters: u64) -> Self {
        let sockets: Vec<_> = (0..places).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses = sockets.iter().map(|s| s.local_addr().unwrap().to_string()).collect();
        let running = (0..places).map(|_| None).collect();
        Self { dir: tempfile::tempdir().unwrap(), addresses, voters, running }
    }

    pub async fn three() -> Self {
        let mut field = Self::new(3, 3);
        field.start_all(&[1, 2, 3]).await;
        field
    }

    pub fn address(&self, id: u64) -> String {
        self.addresses[usize::try_from(id).unwrap() - 1].clone()
    }

    pub fn secret_path(&self) -> PathBuf {
        self.dir.path().join("secret")
    }

    pub fn data_dir(&self, id: u64) -> PathBuf {
        self.dir.path().join(format!("node{id}"))
    }

    pub fn options(&self, id: u64) -> Options {
        Options {
            id: ReplicaId(id),
            data_dir: self.data_dir(id),
            listen_addr: Some(self.address(id).parse().unwrap()),
            advertise_addr: self.address(id),
            peers: (1..=self.voters).map(|id| (ReplicaId(id), self.address(id))).collect(),
            secret_path: self.secret_path(),
            previous_secret_path: None,
            settings: settings(),
            noise_key_path: None,
            // Slow enough for a busy machine.
            heartbeat_interval: Duration::from_millis(200),
            snapshot_every: 50,
            keep_log: 5,
            autopilot: Autopilot::default(),
            election_timeout: Duration::from_millis(600)..Duration::from_millis(1000),
            compare_every: Duration::from_millis(300),
            scrub_interval: Duration::ZERO,
            disk_reserve: 100 << 20,
            slow_sync: Duration::ZERO,
            peer_handshakes: 256,
        }
    }

    pub async fn try_start(&self, options: Options) -> Result<Cluster, StartError> {
        Cluster::start(options).await
    }

    pub async fn start_all(&mut self, ids: &[u64]) {
        let started = ids.iter().map(async |id| (*id, self.try_start(self.options(*id)).await.unwrap()));
        let started = futures::future::join_all(started).await;
        for (id, cluster) in started {
            self.running[usize::try_from(id).unwrap() - 1] = Some(cluster);
        }
    }

    pub fn at(&self, id: u64) -> &Cluster {
        self.running[usize::try_from(id).unwrap() - 1].as_ref().unwrap()
    }

    pub async fn stop(&mut self, id: u64) {
        self.running[usize::try_from(id).unwrap() - 1].take().unwrap().shutdown().await;
    }

    pub async fn stop_all(mut self) {
        let running: Vec<Cluster> = self.running.drain(..).flatten().collect();
        futures::future::join_all(running.into_iter().map(Cluster::shutdown)).await;
    }

    /// Waits until one of these leads, and returns it.
    pub async fn leader_of(&self, ids: &[u64]) -> u64 {
        let find = || ids.iter().copied().find(|id| self.at(*id).is_leader() && *self.at(*id).quorum().borrow());
        eventually("somebody leads", || find().is_some()).await;
        find().unwrap()
    }
}

pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub fn user(name: &str) -> Command {
    Command::CreateUser {
        name: name.into(),
        display_name: String::new(),
        email: String::new(),
        profile_pic_url: String::new(),
    }
}

/// Writes as a client would that may try again, and knows its own earlier success.
pub async fn create(cluster: &Cluster, name: &str) {
    let begun = Instant::now();
    loop {
        match cluster.write_once(Asked { idempotency_key: Some(format!("key-{name}")), origin: None }, user(name)).await
        {
            Ok(_) => return,
            Err(WriteError::Unavailable(_)) if begun.elapsed() < PATIENCE => {}
            Err(error) => panic!("{name}: {error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_one_keeps_everything_over_a_restart() {
    let mut field = Field::new(1, 1);
    field.start_all(&[1]).await;
    assert!(*field.at(1).quorum().borrow(), "it is its own quorum when the start returns");
    create(field.at(1), "alice").await;
    let (noise, derived) = (field.at(1).noise_key().unwrap(), field.at(1).derive("cookie", b"1"));
    let hash = field.at(1).linearizable().await.unwrap().hash();
    field.stop(1).await;
    field.start_all(&[1]).await;
    let view = field.at(1).linearizable().await.unwrap();
    assert!(view.user_by_name("alice").is_some());
    assert_eq!(view.hash(), hash);
    assert_eq!(field.at(1).noise_key().unwrap(), noise);
    assert_eq!(field.at(1).derive("cookie", b"1"), derived);
    field.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_one_that_has_nothing_to_do_stays_in_touch_with_itself() {
    let mut field = Field::new(1, 1);
    field.start_all(&[1]).await;
    let cluster = field.at(1);
    let mut quorum = cluster.quorum();
    let lost = tokio::time::timeout(contact::PATIENCE + Duration::from_secs(2), quorum.wait_for(|quorum| !quorum));
    assert!(lost.await.is_err(), "it has a quorum as long as it runs");
    let status = cluster.status().await;
    assert!(status.has_quorum && status.members[0].role == "leader", "{status:?}");
    field.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_through_any_replica_is_seen_there_at_once_and_by_linearizable_reads_everywhere() {
    let field = Field::three().await;
    for id in [1, 2, 3] {
        let name = format!("user{id}");
        create(field.at(id), &name).await;
        assert!(field.at(id).view().user_by_name(&name).is_some(), "its own write on replica {id}");
        for other in [1, 2, 3] {
            let view = field.at(other).linearizable().await.unwrap();
            assert!(view.user_by_name(&name).is_some(), "the write of {id} on replica {other}");
        }
    }
    assert!(matches!(field.at(2).write(user("user1")).await, Err(WriteError::Refused(Refused::UserExists))));
    let noise = field.at(1).noise_key().unwrap();
    assert!([2, 3].iter().all(|id| field.at(*id).noise_key().unwrap() == noise), "one server to all clients");
    assert_eq!(field.at(1).derive("a", b"b"), field.at(3).derive("a", b"b"));

    let status = field.at(2).status().await;
    assert_eq!((status.members.len(), status.failures_tolerated, status.has_quorum), (3, 1, true), "{status:?}");
    assert_eq!(status.members.iter().filter(|m| m.role == "leader").count(), 1);
    assert!(status.members.iter().all(|m| m.healthy) && status.warnings.is_empty(), "{status:?}");
    field.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_through_all_replicas_have_each_write_applied_once() {
    let field = Field::three().await;
    let writes = (0..300).map(|n| {
        let cluster = field.at(n % 3 + 1).clone();
        tokio::spawn(async move { create(&cluster, &format!("user{n}")).await })
    });
    for write in futures::future::join_all(writes).await {
        write.unwrap();
    }
    let views = futures::future::join_all([1, 2, 3].map(|id| field.at(id).linearizable())).await;
    for view in views {
        assert_eq!(view.unwrap().users().count(), 300);
    }
    let hash = |id| field.at(id).view().hash();
    eventually("all are equal", || hash(1) == hash(2) && hash(2) == hash(3)).await;
    field.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_leader_stops_another_takes_over_and_nothing_acknowledged_is_lost() {
    let mut field = Field::three().await;
    let leader = field.leader_of(&[1, 2, 3]).await;
    let others: Vec<u64> = [1, 2, 3].into_iter().filter(|id| *id != leader).collect();
    let writer = {
        let cluster = field.at(others[0]).clone();
        tokio::spawn(async move {
            for n in 0..100 {
                create(&cluster, &format!("user{n}")).await;
            }
        })
    };
    field.stop(leader).await;
    writer.await.unwrap();
    field.leader_of(&others).await;
    for id in &others {
        let view = field.at(*id).linearizable().await.unwrap();
        assert_eq!(view.users().count(), 100);
    }
    let status = field.at(others[1]).status().await;
    assert_eq!((status.failures_tolerated, status.has_quorum), (0, true), "{status:?}");
    assert!(status.warnings.iter().any(|w| w.contains("is not running")), "{status:?}");

    field.start_all(&[leader]).await;
    assert_eq!(field.at(leader).linearizable().await.unwrap().users().count(), 100);
    field.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_a_write_and_a_read_are_refused_in_time_and_stale_views_stay() {
    let mut field = Field::three().await;
    create(field.at(1), "alice").await;
    field.stop(2).await;
    field.stop(3).await;
    let mut quorum = field.at(1).quorum();
    tokio::time::timeout(PATIENCE, quorum.wait_for(|q| !*q)).await.unwrap().unwrap();
    let begun = Instant::now();
    let refused = field.at(1).write(user("bob")).await;
    assert!(matches!(refused, Err(WriteError::Unavailable(Unavailable::NoQuorum))), "{refused:?}");
    assert!(matches!(field.at(1).linearizable().await, Err(Unavailable::NoQuorum)));
    assert!(begun.elapsed() < Duration::from_secs(30), "promised in 6 s, took {:?}", begun.elapsed());
    assert!(field.at(1).view().user_by_name("alice").is_some());
    let status = field.at(1).status().await;
    assert_eq!((status.leader, status.has_quorum, status.failures_tolerated), (None, false, 0));

    field.start_all(&[2]).await;
    create(field.at(1), "bob").await;
    assert!(field.at(2).linearizable().await.unwrap().user_by_name("bob").is_some());
    field.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_there_after_all_replicas_stopped_and_started() {
    let mut field = Field::three().await;
    for n in 0..120 {
        create(field.at(n % 3 + 1), &format!("user{n}")).await;
    }
    let noise = field.at(1).noise_key().unwrap();
    for id in [1, 2, 3] {
        field.stop(id).await;
    }
    field.start_all(&[1, 2, 3]).await;
    for id in [1, 2, 3] {
        assert_eq!(field.at(id).linearizable().await.unwrap().users().count(), 120, "on replica {id}");
        assert_eq!(field.at(id).noise_key().unwrap(), noise);
    }
    create(field.at(2), "afterwards").await;
    field.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_replica_gets_a_snapshot_when_the_log_is_purged_and_replaces_the_leader() {
    let mut field = Field::new(4, 3);
    field.start_all(&[1, 2, 3]).await;
    for n in 0..150 {
        create(field.at(1), &format!("user{n}")).await;
    }
    let leader = field.leader_of(&[1, 2, 3]).await;
    let purged = |field: &Field| match &field.at(leader).inner {
        Inner::Replica(running) => running.0.metrics().purged.map_or(0, |id| id.index),
        Inner::Memory(_) => 0,
    };
    eventually("the log is purged", || purged(&field) > 0).await;

    let error = field.at(1).add(ReplicaId(4), field.address(4)).await.unwrap_err().to_string();
    assert!(error.contains("replica 4 is not running") && error.contains("start it first"), "{error}");
    field.start_all(&[4]).await;
    assert!(!*field.at(4).quorum().borrow());
    field.at(1).add(ReplicaId(4), field.address(4)).await.unwrap();
    eventually("the learner has all", || field.at(4).view().users().count() == 150).await;
    let status = field.at(4).status().await;
    assert_eq!(status.members.iter().find(|m| m.id == 4).unwrap().role, "learner", "{status:?}");

    field.at(2).promote(ReplicaId(4)).await.unwrap();
    field.at(4).remove(ReplicaId(leader)).await.unwrap();
    let rest: Vec<u64> = [1, 2, 3, 4].into_iter().filter(|id| *id != leader).collect();
    let new_leader = field.leader_of(&rest).await;
    assert_ne!(new_leader, leader);
    field.stop(leader).await;
    let old = rest.iter().copied().find(|id| *id != 4 && *id != new_leader).unwrap();
    field.stop(old).await;
    create(field.at(4), "afterwards").await;
    assert_eq!(field.at(4).linearizable().await.unwrap().users().count(), 151);

    let error = field.at(4).add(ReplicaId(leader), field.address(leader)).await.unwrap_err().to_string();
    assert!(error.contains("was removed"), "{error}");
    let gone = if new_leader == 4 { rest.iter().copied().find(|id| *id != 4 && *id != old) } else { Some(new_leader) };
    let error = field.at(4).remove(ReplicaId(gone.unwrap())).await.unwrap_err().to_string();
    assert!(error.contains("of which 1 answer and 2 must"), "{error}");
    field.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_replica_loses_touch_though_it_reaches_the_leader() {
    let field = Field::three().await;
    let leader = field.leader_of(&[1, 2, 3]).await;
    let removed = leader % 3 + 1;
    field.at(leader).remove(ReplicaId(removed)).await.unwrap();
    let mut quorum = field.at(removed).quorum();
    tokio::time::timeout(PATIENCE, quorum.wait_for(|q| !*q)).await.unwrap().unwrap();
    create(field.at(leader), "alice").await;
    assert_eq!(field.at(leader).status().await.members.len(), 2);
    field.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_proposed_twice_is_applied_once_with_one_outcome() {
    let field = Field::three().await;
    let leader = field.leader_of(&[1, 2, 3]).await;
    let Inner::Replica(running) = &field.at(leader).inner else { panic!("it is on disk") };
    let proposal = crate::state::Proposal {
        format: crate::state::COMMAND_FORMAT,
        request: crate::state::RequestId { incarnation: 77, sequence: 1, acknowledged: 0 },
        deadline: crate::state::Time(0),
        time: crate::state::Time(0),
        idempotency_key: None,
        origin: None,
        command: user("alice"),
    };
    let mut outcomes = Vec::new();
    for _ in 0..2 {
        match running.0.propose_here(proposal.clone(), PATIENCE).await.unwrap() {
            propose::Attempt::Answer { outcome, .. } => outcomes.push(outcome),
            _ => panic!("the leader answers"),
        }
    }
    assert!(outcomes[0].is_ok());
    assert_eq!(outcomes[0], outcomes[1]);
    assert_eq!(field.at(leader).view().users().count(), 1);
    field.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_moved_is_reached_at_its_new_address() {
    let mut field = Field::new(4, 3);
    field.start_all(&[1, 2, 3]).await;
    field.stop(3).await;
    // The fourth place's port is free.
    field.addresses.swap(2, 3);
    let mut options = field.options(3);
    options.peers.clear();
    field.running[2] = Some(field.try_start(options).await.unwrap());
    let known = |id: u64| match &field.at(id).inner {
        Inner::Replica(running) => running.0.address(ReplicaId(3)).unwrap(),
        Inner::Memory(_) => String::new(),
    };
    eventually("its new address is known", || known(1) == field.address(3) && known(2) == field.address(3)).await;
    create(field.at(3), "alice").await;
    field.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_goes_where_an_administrator_wants_it() {
    let field = Field::three().await;
    let leader = field.leader_of(&[1, 2, 3]).await;
    let to = leader % 3 + 1;
    let asked = to % 3 + 1;
    eventually("the leader hears the target", || {
        field.at(leader).peer_contact().iter().any(|c| c.id.0 == to && c.last.is_some())
    })
    .await;
    assert_eq!(field.at(asked).transfer_leader(Some(ReplicaId(to))).await.unwrap(), ReplicaId(to));
    eventually("it leads", || field.at(to).is_leader()).await;
    create(field.at(asked), "alice").await;
    let error = field.at(asked).transfer_leader(Some(ReplicaId(9))).await.unwrap_err().to_string();
    assert!(error.contains("replica 9 is no voter"), "{error}");
    field.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_replicas_port_is_seen_to_refuse() {
    let mut field = Field::three().await;
    let leader = field.leader_of(&[1, 2, 3]).await;
    let dead = leader % 3 + 1;
    let contact = |field: &Field| field.at(leader).peer_contact().into_iter().find(|c| c.id.0 == dead).unwrap();
    eventually("it answers", || contact(&field).last.is_some() && !contact(&field).refused).await;
    field.stop(dead).await;
    eventually("its port refuses", || contact(&field).refused).await;
    field.start_all(&[dead]).await;
    eventually("it is back", || !contact(&field).refused).await;
    field.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_with_another_secret_is_refused_and_named() {
    let mut field = Field::new(3, 3);
    let mut stranger = field.options(3);
    stranger.secret_path = field.dir.path().join("another-secret");
    let stranger = tokio::spawn(Cluster::start(stranger));
    field.start_all(&[1, 2]).await;
    let stranger = stranger.await.unwrap().unwrap();
    let status = field.at(1).status().await;
    let warning = format!(
        "replica 3 at {} refuses our certificate: its secret differs from {}",
        field.address(3),
        field.secret_path().display()
    );
    assert!(status.warnings.contains(&warning), "{status:?}");
    assert!(!status.members.iter().find(|m| m.id == 3).unwrap().healthy);
    assert_eq!(stranger.view().users().count(), 0);
    create(field.at(2), "alice").await;
    assert!(stranger.view().user_by_name("alice").is_none());
    stranger.shutdown().await;
    field.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lost_its_data_does_not_come_back_under_its_number() {
    let mut field = Field::three().await;
    let up = crate::state::Replica {
        id: ReplicaId(3),
        incarnation: field.at(3).incarnation(),
        since: crate::state::Time(1),
        version: "test".into(),
        command_format: crate::state::COMMAND_FORMAT,
        client_addresses: Vec::new(),
        relay: None,
        config_differs: Vec::new(),
        standing: crate::state::Standing::Serving,
    };
    field.at(3).write(Command::ReplicaUp(up)).await.unwrap();
    field.stop(3).await;
    std::fs::remove_dir_all(field.data_dir(3)).unwrap();
    eventually("the others know of it", || field.at(1).view().replica(ReplicaId(3)).is_some()).await;
    eventually("the others know of it", || field.at(2).view().replica(ReplicaId(3)).is_some()).await;
    let error = field.try_start(field.options(3)).await.err().unwrap().to_string();
    assert!(error.contains("cluster remove 3") && error.contains("lost its data"), "{error}");
    field.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_with_another_clusters_secret_does_not_start() {
    let mut field = Field::new(1, 1);
    field.start_all(&[1]).await;
    field.stop(1).await;
    std::fs::remove_file(field.secret_path()).unwrap();
    let error = field.try_start(field.options(1)).await.err().unwrap().to_string();
    assert!(error.contains("do not open with the secret") && error.contains("secret"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_of_another_replica_is_noticed() {
    let mut field = Field::new(3, 2);
    field.start_all(&[1, 2]).await;
    let error = field.at(1).add(ReplicaId(3), format!("localhost:{}", port(&field.address(2)))).await.unwrap_err();
    assert!(error.to_string().contains("is not replica 3: correct the address"), "{error}");
    field.stop_all().await;
}

fn port(address: &str) -> &str {
    address.rsplit_once(':').unwrap().1
}

#[tokio::test]
async fn in_memory_a_write_is_in_the_view_and_in_the_batches() {
    let cluster = Cluster::in_memory(settings());
    let mut batches = cluster.subscribe();
    let before = cluster.view();
    cluster.write(user("alice")).await.unwrap();
    assert!(cluster.view().user_by_name("alice").is_some());
    assert!(before.user_by_name("alice").is_none());
    let batch = batches.recv().await.unwrap();
    assert!(batch.view.user_by_name("alice").is_some() && !batch.changes.is_empty());
    assert!(cluster.noise_key().is_some() && *cluster.quorum().borrow() && cluster.is_leader());
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_compared_at_one_index_while_they_write_and_one_changed_byte_is_found() {
    let field = Field::three().await;
    create(field.at(1), "alice").await;
    let idle = field.at(2).verify().await.unwrap();
    assert!(idle.equal && idle.replicas.len() == 3, "{idle:?}");

    let writers: Vec<_> = [1, 2, 3]
        .map(|id| {
            let cluster = field.at(id).clone();
            tokio::spawn(async move {
                for n in 0.. {
                    let _ = cluster.write(user(&format!("user{id}-{n}"))).await;
                }
            })
        })
        .into();
    for id in [1, 2, 3] {
        let busy = field.at(id).verify().await.unwrap();
        assert!(busy.equal && busy.index > idle.index, "{busy:?}");
    }
    writers.iter().for_each(|writer| writer.abort());
    futures::future::join_all(writers).await;

    field.spoil(3, feed::Mischief::Apply("bobby".into()));
    create(field.at(1), "bob").await;
    let found = field.at(1).verify().await.unwrap();
    assert!(!found.equal && found.majority, "{found:?}");
    let differs = |id: usize| found.replicas[id - 1].differs.join(" ");
    assert_eq!((differs(1), differs(2), differs(3)), (String::new(), String::new(), differs(3)), "{found:?}");
    assert!(found.replicas[2].differs.contains(&"users".to_owned()), "{found:?}");
    field.stop_all().await;
}
