//! Clients find another replica, and another relay, when theirs dies.

use crate::support::{Cluster, Fleet, Up, eventually_some};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_a_replica_that_died_reach_each_other_again() {
    let mut cluster = Cluster::start(3).await;
    let alice = cluster.create_user(1, "alice");
    let key = cluster.ok(1, &["preauthkeys", "create", "--user", &alice, "--reusable"]);
    let fleet = Fleet::start(&[("TS_DEBUG_ALWAYS_USE_DERP", "1")]);
    let one = fleet.up("one", Up::at(cluster.url(1)).key(&key)).await;
    let two = fleet.up("two", Up::at(cluster.url(1)).key(&key)).await;
    one.running().await;
    let address = two.running().await[0];
    let relay = cluster.address(1).to_string();
    one.home(&relay).await;
    two.home(&relay).await;
    one.reaches(address, "two").await;

    cluster.kill(1);
    eventually_some("a leader without replica 1", Duration::from_secs(30), || {
        cluster.status(2)?["leader"].as_u64().filter(|leader| *leader != 1)
    })
    .await;
    for name in ["one", "two"] {
        cluster.shows_online(3, name, true, Duration::from_secs(90)).await;
    }
    // What changes from now on comes from another replica.
    cluster.ok(2, &["nodes", "rename", "-i", "2", "renamed"]);
    let deadline = std::time::Instant::now() + Duration::from_secs(90);
    loop {
        let status = one.status().await;
        if status["peers"].to_string().contains("renamed") {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "one hears of the change: {status}");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}
