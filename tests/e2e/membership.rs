//! Replicas come and go, and everything stays.

use crate::support::{Cluster, Machine, Settings, server_key};
use serde_json::Value;
use tokio::task::JoinSet;

/// More changes than the log keeps with the setting below.
const CHANGES: usize = 600;

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_joins_after_the_log_was_purged_replaces_the_leader() {
    let settings = Settings {
        alone: true,
        // Snapshots so often that the log's beginning is gone when the new replica asks for it.
        cluster_config: "  snapshot_every: 100\n  keep_log: 20\n".into(),
        ..Settings::default()
    };
    let mut cluster = Cluster::start_with(3, settings).await;
    let alice = cluster.create_user(1, "alice");
    let key = cluster.ok(1, &["preauthkeys", "create", "--user", &alice, "--reusable"]);
    register_many(&cluster, &key, CHANGES).await;

    let new = cluster.start_spare().await;
    cluster.add(1, new);
    assert_eq!(role(&cluster, 2, new), "learner");
    cluster.promote(2, new);
    cluster.healthy().await;
    assert_ne!(role(&cluster, 3, new), "learner");
    assert_eq!(cluster.nodes(new).len(), CHANGES, "the new replica has everything");

    let leader = cluster.leader(1).await;
    let other = (1..=3).find(|id| *id != leader).expect("two are left");
    cluster.remove(other, leader);
    let next = cluster.leader(other).await;
    assert_ne!(next, leader, "somebody else leads");
    cluster.kill(leader);

    let old = (1..=3).find(|id| *id != leader && *id != other).expect("one is left");
    cluster.kill(old);
    cluster.leader(other).await;
    for id in [other, new] {
        assert_eq!(cluster.nodes(id).len(), CHANGES, "replica {id} has everything");
    }
    cluster.create_user(new, "bob");
    assert_eq!(names(&cluster.json(other, &["users", "list"])), ["alice", "bob"], "and it is writable");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_there_after_a_restart_of_all_replicas() {
    let mut cluster = Cluster::start(3).await;
    let alice = cluster.create_user(1, "alice");
    let key = cluster.ok(1, &["preauthkeys", "create", "--user", &alice, "--reusable"]);
    register_many(&cluster, &key, 20).await;
    let seen = |cluster: &Cluster, id| {
        ["users", "preauthkeys", "nodes"].map(|what| cluster.json(id, &[what, "list"]).to_string())
    };
    let before = seen(&cluster, 2);
    let noise = server_key(&cluster.url(1)).await;

    for id in 1..=3 {
        cluster.stop(id).await;
    }
    for id in 1..=3 {
        cluster.start_replica(id);
    }
    cluster.healthy().await;
    for id in 1..=3 {
        assert_eq!(seen(&cluster, id), before, "replica {id} after a stop");
        assert_eq!(server_key(&cluster.url(id)).await, noise, "replica {id} is the same server to clients");
    }

    // And once more without any warning.
    for id in 1..=3 {
        cluster.kill(id);
    }
    for id in 1..=3 {
        cluster.start_replica(id);
    }
    cluster.healthy().await;
    for id in 1..=3 {
        assert_eq!(seen(&cluster, id), before, "replica {id} after a crash");
    }
}

async fn register_many(cluster: &Cluster, key: &str, count: usize) {
    let server = server_key(&cluster.url(1)).await;
    // One after the other, so that each is a change of its own.
    let mut lanes = JoinSet::new();
    for lane in 0..3 {
        let (key, address) = (key.to_string(), cluster.address(lane as u64 + 1));
        lanes.spawn(async move {
            for number in (lane..count).step_by(3) {
                let machine = Machine::new(&format!("m{number}"));
                let registered = machine.register(address, &server, &key).await.expect("an answer");
                assert!(registered.accepted(), "{registered:?}");
            }
        });
    }
    lanes.join_all().await;
}

fn role(cluster: &Cluster, by: u64, id: u64) -> String {
    let status = cluster.status(by).expect("a status");
    let members = status["members"].as_array().expect("members");
    let member = members.iter().find(|m| m["id"] == id).unwrap_or_else(|| panic!("{id} is a member: {status}"));
    member["role"].as_str().expect("a role").into()
}

fn names(users: &Value) -> Vec<&str> {
    users.as_array().expect("a list").iter().filter_map(|user| user["name"].as_str()).collect()
}
