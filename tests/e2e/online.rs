//! Who is online is the same on all replicas.

use crate::support::{Cluster, Fleet, Up, eventually};
use std::time::Duration;

/// The default of `offline_grace` is 15 s.
const GONE: Duration = Duration::from_secs(75);
const BACK: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn every_replica_shows_who_is_online_and_who_went_away() {
    let cluster = Cluster::start(3).await;
    let alice = cluster.create_user(1, "alice");
    let key = cluster.ok(1, &["preauthkeys", "create", "--user", &alice, "--reusable"]);
    let fleet = Fleet::start(&[]);
    let stays = fleet.up("stays", Up::at(cluster.url(1)).key(&key)).await;
    let goes = fleet.up("goes", Up::at(cluster.url(2)).key(&key)).await;
    stays.running().await;
    goes.running().await;
    for id in 1..=3 {
        cluster.shows_online(id, "stays", true, BACK).await;
        cluster.shows_online(id, "goes", true, BACK).await;
    }

    goes.close().await;
    for id in 1..=3 {
        cluster.shows_online(id, "goes", false, GONE).await;
        cluster.shows_online(id, "stays", true, Duration::from_secs(1)).await;
    }
    let status = stays.status().await;
    assert_eq!(status["peers"][0]["online"], false, "its peer knows: {status}");

    let goes = fleet.up("goes", Up::at(cluster.url(3)).key(&key)).await;
    goes.running().await;
    for id in 1..=3 {
        cluster.shows_online(id, "goes", true, BACK).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_a_replica_that_dies_for_good_stay_online_by_another_one() {
    let mut cluster = Cluster::start(3).await;
    let alice = cluster.create_user(1, "alice");
    let key = cluster.ok(1, &["preauthkeys", "create", "--user", &alice]);
    let fleet = Fleet::start(&[]);
    let node = fleet.up("node", Up::at(cluster.url(3)).key(&key)).await;
    node.running().await;
    cluster.shows_online(1, "node", true, BACK).await;

    cluster.kill(3);
    // Longer than the grace: what was left of the old session is gone by then.
    tokio::time::sleep(Duration::from_secs(20)).await;
    cluster.shows_online(1, "node", true, BACK).await;
    cluster.shows_online(2, "node", true, BACK).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ephemeral_node_that_logs_out_is_deleted() {
    let cluster = Cluster::start(3).await;
    let alice = cluster.create_user(1, "alice");
    let key = cluster.ok(1, &["preauthkeys", "create", "--user", &alice, "--ephemeral"]);
    let fleet = Fleet::start(&[]);
    let job = fleet.up("job", Up::at(cluster.url(2)).key(&key).ephemeral()).await;
    job.running().await;
    cluster.shows_online(1, "job", true, BACK).await;

    job.logout().await;
    for id in 1..=3 {
        eventually(&format!("replica {id} has no nodes"), BACK, || cluster.nodes(id).is_empty()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_expired_is_asked_to_log_in_again() {
    let cluster = Cluster::start(3).await;
    let alice = cluster.create_user(1, "alice");
    let key = cluster.ok(1, &["preauthkeys", "create", "--user", &alice]);
    let fleet = Fleet::start(&[]);
    let node = fleet.up("node", Up::at(cluster.url(2)).key(&key)).await;
    node.running().await;

    assert_eq!(cluster.ok(3, &["nodes", "expire", "-i", "1"]), "Node expired");
    node.state("NeedsLogin").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_key_was_revoked_is_told_so() {
    let cluster = Cluster::start(1).await;
    let alice = cluster.create_user(1, "alice");
    let key = cluster.json(1, &["preauthkeys", "create", "--user", &alice]);
    cluster.ok(1, &["preauthkeys", "expire", "--id", key["id"].as_str().expect("an id")]);
    let fleet = Fleet::start(&[]);
    let node = fleet.up("node", Up::at(cluster.url(1)).key(key["key"].as_str().expect("a key"))).await;
    let error = node.login_error().await;
    assert!(error.contains("authkey expired"), "{error}");
}
