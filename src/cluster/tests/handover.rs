//! What a change of leader, a stop, a removal and mixed releases look like from outside.

use super::*;
use crate::server::duties;
use crate::state::{
    Change, NodeId, NodeUpdate, Owner, Proposal, Registration, Replica as Record, Report, RequestId, SecretHash,
    SessionId, Standing, Time, UserId,
};
use crate::tailcfg::{CapVer, Hostinfo, MachineKey, NodeKey};
use tokio_util::sync::CancellationToken;

/// Writes that a planned transfer may hold up are promised within 50 ms.
const TRANSFER: Duration = Duration::from_millis(50);

pub fn record(id: u64, incarnation: u64, version: &str, command_format: u32) -> Command {
    Command::ReplicaUp(Record {
        id: ReplicaId(id),
        incarnation,
        since: Time(1),
        version: version.into(),
        command_format,
        client_addresses: Vec::new(),
        relay: None,
        config_differs: Vec::new(),
        standing: Standing::Serving,
    })
}

fn running(field: &Field, id: u64) -> Arc<Replica> {
    match &field.at(id).inner {
        Inner::Replica(running) => running.0.clone(),
        Inner::Memory(_) => panic!("it is on disk"),
    }
}

impl Field {
    /// As three, with the timers that are the default.
    async fn three_with(change: impl Fn(&mut Options)) -> Self {
        let mut field = Self::new(3, 3);
        let started = [1, 2, 3].map(|id| {
            let mut options = field.options(id);
            change(&mut options);
            Cluster::start(options)
        });
        field.running = futures::future::join_all(started).await.into_iter().map(|c| Some(c.unwrap())).collect();
        field
    }

    /// Each replica tells of itself, as it does when a server starts.
    async fn announce(&self) {
        for id in [1, 2, 3] {
            let up = record(id, self.at(id).incarnation(), "test", crate::state::COMMAND_FORMAT);
            self.at(id).write(up).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_transfer_holds_writes_up_for_moments_only() {
    let field = Field::three_with(|options| {
        options.heartbeat_interval = Options::HEARTBEAT_INTERVAL;
        options.election_timeout = Options::ELECTION_TIMEOUT;
    })
    .await;
    let stop = CancellationToken::new();
    let writers = [1, 2, 3].map(|id| {
        let (cluster, stop) = (field.at(id).clone(), stop.clone());
        tokio::spawn(async move {
            let mut done = vec![Instant::now()];
            while !stop.is_cancelled() {
                create(&cluster, &format!("user{id}-{}", done.len())).await;
                done.push(Instant::now());
            }
            done
        })
    });
    let mut transfers = Vec::new();
    for _ in 0..8 {
        let leader = field.leader_of(&[1, 2, 3]).await;
        eventually("the leader hears the others", || {
            field
                .at(leader)
                .peer_contact()
                .iter()
                .all(|peer| peer.last.is_some_and(|at| at.elapsed().as_millis() < 500))
        })
        .await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let begun = Instant::now();
        field.at(leader).transfer_leader(Some(ReplicaId(leader % 3 + 1))).await.unwrap();
        transfers.push((begun, begun.elapsed()));
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    stop.cancel();
    let mut done: Vec<Vec<Instant>> = Vec::new();
    for writer in writers {
        done.push(writer.await.unwrap());
    }
    // The longest time without an acknowledged write on a replica, transfer by transfer.
    let gap = |begun: Instant, times: &Vec<Instant>| {
        let around = times.windows(2).filter(|pair| pair[1] >= begun && pair[0] <= begun + Duration::from_millis(300));
        around.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    };
    let all: Vec<Instant> = {
        let mut all: Vec<Instant> = done.iter().flatten().copied().collect();
        all.sort();
        all
    };
    let mut anywhere: Vec<Duration> = transfers.iter().map(|(begun, _)| gap(*begun, &all)).collect();
    let mut each: Vec<Duration> =
        transfers.iter().flat_map(|(begun, _)| done.iter().map(|times| gap(*begun, times))).collect();
    anywhere.sort();
    each.sort();
    let took: Vec<Duration> = transfers.iter().map(|(_, took)| *took).collect();
    println!("longest time without a write by anybody: {anywhere:?}\non one replica: {each:?}\ntransfers: {took:?}");
    let usual = anywhere[anywhere.len() / 2];
    assert!(usual <= TRANSFER * 5, "promised in {TRANSFER:?}, usually took {usual:?}");
    field.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_leaves_says_so_and_leads_no_more() {
    let field = Field::three().await;
    field.announce().await;
    let leader = field.leader_of(&[1, 2, 3]).await;
    let other = leader % 3 + 1;
    eventually("the leader hears the others", || field.at(leader).peer_contact().iter().all(|p| p.last.is_some()))
        .await;
    let leaving = field.at(leader).leaving();
    field.at(leader).leave().await;
    assert!(leaving.is_cancelled() && !field.at(leader).is_leader());
    let view = field.at(other).linearizable().await.unwrap();
    assert_eq!(view.replica(ReplicaId(leader)).unwrap().standing, Standing::Leaving);
    assert!(*field.at(leader).quorum().borrow(), "what is under way goes on");
    create(field.at(leader), "alice").await;
    field.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_replica_says_so_and_stays_removed_after_a_restart() {
    let mut field = Field::three().await;
    field.announce().await;
    let leader = field.leader_of(&[1, 2, 3]).await;
    let removed = leader % 3 + 1;
    field.at(leader).remove(ReplicaId(removed)).await.unwrap();
    eventually("it knows", || field.at(removed).is_removed()).await;
    assert!(!*field.at(removed).quorum().borrow());
    let refused = field.at(removed).write(user("bob")).await;
    assert!(matches!(refused, Err(WriteError::Unavailable(Unavailable::Removed(ReplicaId(id)))) if id == removed));
    let warnings = |status: ClusterStatus| status.warnings.join("\n");
    let told = warnings(field.at(removed).status().await);
    assert!(told.contains(&format!("replica {removed} was removed from the cluster")), "{told}");

    field.stop(removed).await;
    let begun = Instant::now();
    field.start_all(&[removed]).await;
    assert!(field.at(removed).is_removed(), "it knows without asking");
    assert!(begun.elapsed() < PATIENCE);
    assert!(warnings(field.at(removed).status().await).contains("was removed from the cluster"));
    let term = field.at(leader).status().await.members[0].term;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(field.at(leader).is_leader(), "it stands for no election");
    assert_eq!(field.at(leader).status().await.members[0].term, term);
    field.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_down_while_it_was_removed_is_told_when_it_starts() {
    let mut field = Field::three().await;
    field.announce().await;
    let leader = field.leader_of(&[1, 2, 3]).await;
    let removed = leader % 3 + 1;
    field.stop(removed).await;
    field.at(leader).remove(ReplicaId(removed)).await.unwrap();
    field.start_all(&[removed]).await;
    eventually("it knows", || field.at(removed).is_removed()).await;
    create(field.at(leader), "alice").await;
    field.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_member_does_not_know_is_refused_by_name_until_it_is_upgraded() {
    let field = Field::three().await;
    let leader = field.leader_of(&[1, 2, 3]).await;
    let old = leader % 3 + 1;
    let other = old % 3 + 1;
    let standing = || Command::SetStanding { replica: ReplicaId(9), incarnation: 1, standing: Standing::Away };
    let refusal = async |id: u64| field.at(id).write(standing()).await.unwrap_err().to_string();
    field.announce().await;
    field.at(old).write(record(old, field.at(old).incarnation(), "0.0.9", 1)).await.unwrap();
    let words = format!("replica {old} runs 0.0.9, which does not know SetStanding: upgrade it first");
    assert_eq!(refusal(leader).await, words);
    assert_eq!(refusal(other).await, words);
    // The leader looks for itself, too.
    let proposal = Proposal {
        format: standing().format(),
        request: RequestId { incarnation: 77, sequence: 1, acknowledged: 0 },
        deadline: Time(0),
        time: Time(0),
        idempotency_key: None,
        origin: None,
        command: standing(),
    };
    let attempt = running(&field, leader).propose_here(proposal, PATIENCE).await.unwrap();
    assert!(matches!(attempt, propose::Attempt::Unknown(mixed) if mixed.replica == old && mixed.release == "0.0.9"));
    create(field.at(old), "alice").await;
    assert_eq!(field.at(leader).view().command_format(), 1, "nothing newer is in the log");
    running(&field, leader).check_release(ReplicaId(4), "0.0.9", 0).unwrap();

    field.announce().await;
    field.at(other).write(standing()).await.unwrap();
    eventually("all have it", || [1, 2, 3].iter().all(|id| field.at(*id).view().command_format() == 2)).await;
    let error = running(&field, leader).check_release(ReplicaId(4), "0.0.9", 0).unwrap_err();
    assert!(error.contains("replica 4 runs 0.0.9") && error.contains("upgrade it first"), "{error}");
    field.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn during_a_rolling_upgrade_writes_go_on_without_a_record_and_with_one_after_it() {
    let field = Field::three().await;
    let leader = field.leader_of(&[1, 2, 3]).await;
    let (old, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    field.announce().await;
    field.at(old).write(record(old, field.at(old).incarnation(), "0.0.9", 2)).await.unwrap();
    eventually("all know", || {
        [leader, other]
            .iter()
            .all(|id| field.at(*id).view().replica(ReplicaId(old)).is_some_and(|it| it.version == "0.0.9"))
    })
    .await;
    let origin = || Asked::from(crate::state::Origin { by: "root".into(), from: "here".into() });
    for (id, name) in [(leader, "alice"), (other, "bob")] {
        field.at(id).write_once(origin(), user(name)).await.unwrap();
    }
    assert_eq!(field.at(other).view().audit().count(), 0);
    assert!(field.at(other).view().command_format() <= 2, "the older one can apply it all");

    field.announce().await;
    let upgraded = |id: &u64| field.at(*id).view().replica(ReplicaId(old)).unwrap().version != "0.0.9";
    eventually("all know of the upgrade", || [leader, other].iter().all(upgraded)).await;
    field.at(other).write_once(origin(), user("carol")).await.unwrap();
    let view = field.at(other).view();
    assert_eq!(view.audit().map(|record| record.subject.as_str()).collect::<Vec<_>>(), ["user 3 (carol)"]);
    field.stop_all().await;
}

/// A node of alice's, who is user 1.
async fn register(cluster: &Cluster, number: u8, ephemeral: bool) -> NodeId {
    let prefix = format!("{number:012x}");
    let hash = SecretHash::of(&prefix);
    let owner = Owner::User(UserId(1));
    let key =
        Command::CreatePreAuthKey { prefix: prefix.clone(), hash, owner, reusable: false, ephemeral, expiration: None };
    cluster.write(key).await.unwrap();
    let registration = Registration {
        machine_key: MachineKey([number; 32]),
        node_key: NodeKey([number; 32]),
        hostinfo: Hostinfo { hostname: format!("n{number}"), ..Hostinfo::default() },
        cap_ver: CapVer(142),
        expiry: None,
        seed: 0,
        v4_pools: Vec::new(),
    };
    match cluster.write(Command::RegisterWithKey { prefix, hash, registration }).await.unwrap() {
        Done::Node(id) => id,
        other => panic!("no node: {other:?}"),
    }
}

async fn poll(cluster: &Cluster, node: NodeId, number: u64) -> SessionId {
    let node_key = cluster.linearizable().await.unwrap().node(node).unwrap().node_key;
    let update = NodeUpdate { node, node_key, cap_ver: CapVer(142), disco_key: None, endpoints: None, hostinfo: None };
    let session = SessionId { node, replica: cluster.id(), incarnation: cluster.incarnation(), number };
    cluster.write(Command::Report(vec![Report::Open { session, update }])).await.unwrap();
    session
}

fn pending_login(created: Time, deadline: Time) -> crate::state::PendingLogin {
    crate::state::PendingLogin {
        id: crate::state::AuthId::generate(),
        machine_key: MachineKey([9; 32]),
        node_key: NodeKey([9; 32]),
        hostinfo: Hostinfo::default(),
        cap_ver: CapVer(142),
        expiry: None,
        source: "192.0.2.1".parse().unwrap(),
        created,
        deadline,
        verdict: crate::state::Verdict::Waiting,
    }
}

/// Counts what becomes of nodes, on one replica, from now on.
fn count(cluster: &Cluster) -> Arc<std::sync::Mutex<Vec<Change>>> {
    let (seen, mut batches) = (Arc::<std::sync::Mutex<Vec<Change>>>::default(), cluster.subscribe());
    let sink = seen.clone();
    tokio::spawn(async move {
        while let Ok(batch) = batches.recv().await {
            sink.lock().unwrap().extend(batch.changes.iter().cloned());
        }
    });
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_happens_once_and_on_time_though_leaders_change() {
    let field = Field::three_with(|options| options.settings.ephemeral_timeout = Duration::from_secs(8)).await;
    field.announce().await;
    let stop = CancellationToken::new();
    for id in [1, 2, 3] {
        tokio::spawn(duties::run(field.at(id).clone(), Duration::from_secs(2), stop.clone()));
    }
    create(field.at(1), "alice").await;
    let (ephemeral, expiring, online) = (
        register(field.at(1), 1, true).await,
        register(field.at(2), 2, false).await,
        register(field.at(3), 3, true).await,
    );
    let session = poll(field.at(1), ephemeral, 1).await;
    let _held = poll(field.at(3), online, 2).await;
    field.at(1).write(Command::Report(vec![Report::Close { session }])).await.unwrap();
    let begun = Time::now();
    let login = pending_login(begun, begun + Duration::from_secs(6));
    let login_id = login.id.clone();
    field.at(3).write(Command::StartLogin(login)).await.unwrap();
    let expiry = crate::state::Expiry::At(begun + Duration::from_secs(5));
    field.at(2).write(Command::SetNodeExpiry { id: expiring, expiry }).await.unwrap();
    field.at(1).linearizable().await.unwrap();
    let seen = count(field.at(1));
    // A change of leader every second or so, also around the times that are due.
    while Time::now() < begun + Duration::from_secs(12) {
        let leader = field.leader_of(&[1, 2, 3]).await;
        let _ = field.at(leader).transfer_leader(None).await;
        tokio::time::sleep(Duration::from_millis(700)).await;
        let (view, now) = (field.at(2).view(), Time::now());
        assert!(now >= begun + Duration::from_secs(5) || !view.node(expiring).unwrap().expired, "too early");
        assert!(now >= begun + Duration::from_secs(8) || view.node(ephemeral).is_some(), "too early");
    }
    eventually("both happened", || {
        let view = field.at(1).view();
        let is_forgotten = view.login(&login_id).is_none();
        is_forgotten && view.node(ephemeral).is_none() && view.node(expiring).unwrap().expired
    })
    .await;
    let late = Time::now().0 - begun.0;
    assert!(late < 8000 + 5 * 5000, "the last was due after 8 s, and happened after {late} ms");
    let seen = seen.lock().unwrap().clone();
    let removed = |node: NodeId| seen.iter().filter(|change| **change == Change::NodeRemoved(node)).count();
    let expired =
        seen.iter().filter(|c| matches!(c, Change::NodeChanged { node, what } if *node == expiring && what.key));
    let forgotten = seen.iter().filter(|change| **change == Change::LoginDecided(login_id.clone())).count();
    assert_eq!(forgotten, 1, "{seen:?}");
    assert_eq!((removed(ephemeral), removed(online), expired.count()), (1, 0, 1), "{seen:?}");
    assert!(field.at(2).view().is_online(online), "leaders came and went, its stream did not");
    stop.cancel();
    field.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_a_dead_replica_is_offline_a_second_after_its_grace_and_time_without_a_leader_is_not_inactivity() {
    let timeout = Duration::from_secs(6);
    let change = move |options: &mut Options| options.settings.ephemeral_timeout = timeout;
    let mut field = Field::three_with(change).await;
    field.announce().await;
    let grace = Duration::from_secs(3);
    let leader = field.leader_of(&[1, 2, 3]).await;
    let (dies, stays) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    let stop = CancellationToken::new();
    for id in [leader, stays] {
        tokio::spawn(duties::run(field.at(id).clone(), grace, stop.clone()));
    }
    create(field.at(1), "alice").await;
    let node = register(field.at(1), 1, true).await;
    poll(field.at(dies), node, 1).await;
    eventually("all know", || field.at(stays).view().is_online(node)).await;
    let begun = Instant::now();
    field.stop(dies).await;
    eventually("it is offline", || !field.at(stays).view().is_online(node)).await;
    let took = begun.elapsed();
    assert!(took >= grace, "it had {grace:?} to come back, and was offline after {took:?}");
    assert!(took < grace + 5 * Duration::from_secs(1), "promised a second after {grace:?}, took {took:?}");
    stop.cancel();

    // Longer than the inactivity that removes it, and without a leader.
    for id in [leader, stays] {
        field.stop(id).await;
    }
    tokio::time::sleep(timeout * 2 + Duration::from_secs(2)).await;
    let started = [leader, stays].map(|id| {
        let mut options = field.options(id);
        change(&mut options);
        Cluster::start(options)
    });
    let started: Vec<Cluster> = futures::future::join_all(started).await.into_iter().map(Result::unwrap).collect();
    let stop = CancellationToken::new();
    for cluster in &started {
        tokio::spawn(duties::run(cluster.clone(), grace, stop.clone()));
    }
    create(&started[0], "bob").await;
    assert!(started[0].view().node(node).is_some(), "nobody led meanwhile");
    eventually("its time comes", || started[0].view().node(node).is_none()).await;
    stop.cancel();
    futures::future::join_all(started.into_iter().map(Cluster::shutdown)).await;
    field.stop_all().await;
}
