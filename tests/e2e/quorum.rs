//! Without a quorum nothing is promised, and everyone is told.

use crate::support::{Cluster, Machine, eventually, request, server_key};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_nothing_is_written_and_clients_are_sent_elsewhere() {
    let mut cluster = Cluster::start(3).await;
    let alice = cluster.create_user(1, "alice");
    let key = cluster.ok(1, &["preauthkeys", "create", "--user", &alice]);
    let server = server_key(&cluster.url(3)).await;

    cluster.kill(1);
    cluster.kill(2);
    // About 5 s of patience.
    let deadline = Instant::now() + Duration::from_secs(25);
    while health(&cluster.url(3)).await == 200 {
        assert!(Instant::now() < deadline, "replica 3 says within 25 s that it is not well");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    cluster.fails(3, &["health"]);

    let error = cluster.fails(3, &["users", "create", "bob"]);
    assert!(error.contains("majority"), "the error says why: {error}");
    let machine = Machine::new("late");
    let refused = machine.register(cluster.address(3), &server, &key).await.expect_err("no registration");
    assert!(refused.contains("503"), "the upgrade is refused, so that clients try the next: {refused}");

    let status = cluster.status(3).expect("there is always a status");
    assert_eq!(status["failures_tolerated"], 0, "{status}");
    assert!(status["leader"].is_null(), "{status}");

    cluster.start_replica(1);
    cluster.healthy().await;
    let users = cluster.json(1, &["users", "list"]);
    assert_eq!(users.as_array().map(Vec::len), Some(1), "what was refused did not happen: {users}");
    let registered = machine.register(cluster.address(3), &server, &key).await.expect("an answer");
    assert!(registered.accepted(), "the key is not spent: {registered:?}");
}

async fn health(url: &str) -> u16 {
    request("GET", &format!("{url}/health"), &[], b"").await.expect("an answer").status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_falls_silent_is_replaced_and_catches_up() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader(1).await;
    let [one, two] = [1, 2, 3].into_iter().filter(|id| *id != leader).collect::<Vec<_>>()[..] else { unreachable!() };

    // Its sockets stay open and its kernel acknowledges: the worst way to be gone.
    cluster.freeze(leader);
    eventually("somebody else leads", Duration::from_secs(30), || {
        cluster.status(one).is_some_and(|status| status["leader"].as_u64().is_some_and(|next| next != leader))
    })
    .await;
    cluster.create_user(two, "alice");

    cluster.thaw(leader);
    cluster.healthy().await;
    let users = cluster.json(leader, &["users", "list"]);
    assert_eq!(users[0]["name"], "alice", "what happened meanwhile: {users}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_with_another_secret_does_not_get_in() {
    let mut cluster = Cluster::start(3).await;
    let spare = cluster.start_spare().await;
    cluster.kill(spare);
    let secret = cluster.dir().join(format!("node{spare}/secret"));
    std::fs::write(secret, "5".repeat(64)).expect("another secret");
    cluster.start_replica(spare);
    cluster.listens(spare).await;

    let error = cluster.fails(1, &["cluster", "add", &spare.to_string(), &cluster.peer_address(spare)]);
    assert!(error.contains("secret"), "the error says what is wrong: {error}");
    let status = cluster.status(2).expect("a status");
    assert_eq!(status["members"].as_array().map(Vec::len), Some(3), "{status}");
    cluster.create_user(3, "alice");
}
