//! What an operator does when something is wrong: `docs/operations.md`, command by command.

use crate::support::{Cluster, Fleet, Machine, Up, eventually, request, server_key};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A client that was cut off asks again within two minutes at worst.
const BACK: Duration = Duration::from_secs(180);

fn text(path: std::path::PathBuf) -> String {
    path.to_str().expect("a path").into()
}

fn counts(contents: &Value) -> Vec<(String, u64)> {
    let kinds = contents["kinds"].as_array().expect("kinds");
    let kind = |kind: &Value| (kind["name"].as_str().unwrap_or_default().into(), kind["records"].as_u64().unwrap_or(0));
    kinds.iter().map(kind).collect()
}

fn hash(contents: &Value, kind: &str) -> String {
    let kinds = contents["kinds"].as_array().expect("kinds");
    kinds.iter().find(|k| k["name"] == kind).map(|k| k["hash"].to_string()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_lost_comes_back_from_a_snapshot_and_its_clients_stay_logged_in() {
    let mut cluster = Cluster::start(3).await;
    let alice = cluster.create_user(1, "alice");
    let key = cluster.ok(1, &["preauthkeys", "create", "--user", &alice, "--reusable"]);
    let fleet = Fleet::start(&[]);
    let laptop = fleet.up("laptop", Up::at(cluster.url(1)).key(&key)).await;
    let phone = fleet.up("phone", Up::at(cluster.url(2)).key(&key)).await;
    let addresses = (laptop.running().await, phone.running().await);

    let (file, passphrase) = (text(cluster.dir().join("backup")), text(cluster.dir().join("passphrase")));
    std::fs::write(&passphrase, "correct horse battery\n").expect("a passphrase");
    let saved = cluster.json(2, &["cluster", "snapshot", "save", &file, "--passphrase-file", &passphrase]);
    let inspected = cluster.json(3, &["cluster", "snapshot", "inspect", &file, "--passphrase-file", &passphrase]);
    assert_eq!(saved, inspected);
    assert!(counts(&saved).contains(&("nodes".into(), 2)), "{saved}");
    let shown = cluster.ok(3, &["cluster", "snapshot", "inspect", &file, "--passphrase-file", &passphrase]);
    assert!(shown.starts_with("whole: ") && shown.contains("log entry: "), "{shown}");
    std::fs::write(cluster.dir().join("wrong"), "correct horse\n").expect("a passphrase");
    let wrong = text(cluster.dir().join("wrong"));
    let error = cluster.fails(1, &["cluster", "snapshot", "inspect", &file, "--passphrase-file", &wrong]);
    assert!(error.contains("does not open with this passphrase"), "{error}");
    // By the API, too, which a person uses from elsewhere.
    let api_key = cluster.ok(1, &["apikeys", "create"]);
    let (again, server) = (text(cluster.dir().join("again")), [cluster.url(3), cluster.url(1)].join(","));
    let arguments = ["--server", &server, "--api-key", &api_key, "cluster", "snapshot", "save", &again];
    let environment = [("QUORUMSCALE_SNAPSHOT_PASSPHRASE", "correct horse battery")];
    let output = cluster.run_anywhere(&environment, &arguments);
    assert!(output.status.success(), "{output:?}");

    let noise = server_key(&cluster.url(1)).await;
    let error =
        cluster.fails(1, &["cluster", "snapshot", "restore", &file, "--passphrase-file", &passphrase, "--force"]);
    assert!(error.contains("has a replica's data already"), "{error}");
    for id in [1, 2, 3] {
        cluster.kill(id);
        std::fs::remove_dir_all(cluster.replica_dir(id).join("data")).expect("its data is lost");
        std::fs::write(cluster.replica_dir(id).join("secret"), "7".repeat(64)).expect("another secret");
    }

    let restore = ["cluster", "snapshot", "restore", &file, "--passphrase-file", &passphrase];
    let asked = cluster.run(1, &restore);
    let said = String::from_utf8_lossy(&asked.stderr).to_string();
    assert!(said.contains("tolerates no failure") && said.contains("[y/n]"), "it asks first: {said}");
    assert!(!cluster.replica_dir(1).join("data/store").exists(), "and takes no answer for a no");
    cluster.ok(1, &[&restore[..], &["--force"]].concat());
    cluster.start_replica(1);
    cluster.healthy().await;
    let now = cluster.json(1, &["cluster", "snapshot", "save", &again, "--passphrase-file", &passphrase]);
    for kind in ["users", "pre_auth_keys", "settings"] {
        assert_eq!(hash(&now, kind), hash(&saved, kind), "{kind} are as before");
    }
    assert_ne!(now["cluster_id"], saved["cluster_id"]);
    for id in [2, 3] {
        cluster.start_replica(id);
        cluster.listens(id).await;
        cluster.add(1, id);
        cluster.promote(1, id);
    }
    cluster.healthy().await;
    cluster.ok(2, &["cluster", "verify"]);
    for id in [1, 2, 3] {
        assert_eq!(server_key(&cluster.url(id)).await, noise, "replica {id} is the same server to clients");
    }
    cluster.shows_online(3, "laptop", true, BACK).await;
    cluster.shows_online(1, "phone", true, BACK).await;
    assert_eq!(cluster.nodes(2).len(), 2, "nobody registered anew");
    laptop.reaches(addresses.1[0], "phone").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_survivor_becomes_a_new_cluster_and_the_dead_cannot_come_back() {
    let mut cluster = Cluster::start(3).await;
    let alice = cluster.create_user(1, "alice");
    let key = cluster.ok(1, &["preauthkeys", "create", "--user", &alice, "--reusable"]);
    let server = server_key(&cluster.url(1)).await;
    for n in 0..30 {
        let address = cluster.address(n % 3 + 1);
        let registered = Machine::new(&format!("m{n}")).register(address, &server, &key).await.expect("an answer");
        assert!(registered.accepted(), "{registered:?}");
    }
    assert_eq!(cluster.nodes(1).len(), 30, "replica 1 has all");

    let recover = ["cluster", "recover", "--force"];
    let error = cluster.fails(1, &recover);
    assert!(error.contains("the cluster has a quorum"), "{error}");
    cluster.stop(1).await;
    let error = cluster.fails(1, &recover);
    assert!(error.contains("there is a quorum: replicas 2") && error.contains("start replica 1"), "{error}");
    cluster.start_replica(1);
    cluster.healthy().await;
    cluster.kill(2);
    cluster.kill(3);
    eventually("replica 1 knows that it is alone", Duration::from_secs(30), || {
        cluster.status(1).is_some_and(|status| status["has_quorum"] == false)
    })
    .await;
    let error = cluster.fails(1, &recover);
    assert!(error.contains("replica 1 runs, and reaches no quorum") && error.contains("stop it first"), "{error}");
    assert!(!cluster.run(1, &["health"]).status.success());
    cluster.stop(1).await;

    let asked = cluster.run(1, &["cluster", "recover"]);
    let plan = String::from_utf8_lossy(&asked.stderr).to_string();
    for words in
        ["replica 2 is not running", "tolerates no failure", "Kept: everything up to log entry", "Lost: ", "[y/n]"]
    {
        assert!(plan.contains(words), "the plan says {words:?}: {plan}");
    }
    assert!(String::from_utf8_lossy(&asked.stdout).contains("not recovered"), "no answer is a no");
    let recovered = cluster.json(1, &recover);
    assert!(recovered["copy"].as_str().is_some_and(|copy| std::path::Path::new(copy).join("store").exists()));
    cluster.start_replica(1);
    cluster.healthy().await;
    assert_eq!(cluster.nodes(1).len(), 30);
    assert_eq!(server_key(&cluster.url(1)).await, server);

    // Both at once: without the survivor's refusal they would be a majority of the old cluster.
    cluster.start_replica(2);
    cluster.start_replica(3);
    for id in [2, 3] {
        let log = cluster.ends(id).await;
        assert!(log.contains("recovered cluster") && log.contains("out of date"), "replica {id} says why: {log}");
    }
    let error = cluster.fails(1, &["cluster", "add", "2", &cluster.peer_address(2)]);
    assert!(error.contains("number 2 belonged to a replica that was removed"), "{error}");
    for _ in 0..2 {
        let id = cluster.start_spare().await;
        cluster.add(1, id);
        cluster.promote(1, id);
    }
    cluster.healthy().await;
    cluster.ok(1, &["cluster", "verify"]);
    cluster.create_user(5, "bob");
    cluster.kill(1);
    cluster.leader(4).await;
    assert_eq!(cluster.nodes(4).len(), 30, "everything that was acknowledged is on the new ones");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_is_changed_by_rolling_restarts_under_writes() {
    let mut cluster = Cluster::start(3).await;
    let key = cluster.ok(1, &["apikeys", "create"]);
    let done = Arc::new(AtomicBool::new(false));
    let urls: Vec<String> = (1..=3).map(|id| cluster.url(id)).collect();
    let writer = tokio::spawn(write_users(urls, key, done.clone()));

    let refused = cluster.fails(1, &["cluster", "rotate-secret"]);
    assert!(refused.contains("replica 1 has one secret"), "{refused}");
    for id in 1..=3 {
        std::fs::write(cluster.replica_dir(id).join("new"), "8".repeat(64)).expect("the new secret");
        cluster.reconfigure(id, "secret_path: secret\n", "secret_path: new\n  previous_secret_path: secret\n");
        cluster.stop(id).await;
        cluster.start_replica(id);
        cluster.healthy().await;
        if id == 2 {
            let refused = cluster.fails(1, &["cluster", "rotate-secret"]);
            assert!(refused.contains("replica 3 accepts"), "{refused}");
        }
    }
    let secret = |cluster: &Cluster| cluster.status(1).expect("a status")["members"][0]["secret"].clone();
    let old = secret(&cluster);
    let said = cluster.ok(2, &["cluster", "rotate-secret"]);
    assert!(said.contains("is in use. Next: on each replica, remove cluster.previous_secret_path"), "{said}");
    assert_ne!(secret(&cluster), old);
    for id in 1..=3 {
        cluster.reconfigure(id, "  previous_secret_path: secret\n", "");
        cluster.stop(id).await;
        cluster.start_replica(id);
        cluster.healthy().await;
    }
    let status = cluster.status(3).expect("a status");
    assert!(status["members"].as_array().expect("members").iter().all(|m| m["secret"] != old), "{status}");
    assert_eq!(status["warnings"], json!([]), "{status}");

    done.store(true, Ordering::Relaxed);
    let written = writer.await.expect("the writer ends");
    // At least once between two restarts of one round.
    assert!(written.len() > 3, "it wrote all the time: {}", written.len());
    let users = cluster.json(2, &["users", "list"]);
    for name in &written {
        assert!(users.as_array().expect("users").iter().any(|user| user["name"] == **name), "{name} is there");
    }
    // The old one opens nothing any more.
    cluster.stop(3).await;
    cluster.reconfigure(3, "secret_path: new\n", "secret_path: secret\n");
    cluster.start_replica(3);
    let log = cluster.ends(3).await;
    assert!(log.contains("do not open with the secret"), "{log}");
}

/// Creates users through whoever answers; gives those that were acknowledged.
async fn write_users(urls: Vec<String>, key: String, done: Arc<AtomicBool>) -> Vec<String> {
    let mut written = Vec::new();
    for n in 0.. {
        if done.load(Ordering::Relaxed) {
            break;
        }
        let (name, authorization) = (format!("writer{n}"), format!("Bearer {key}"));
        let body = json!({ "name": name }).to_string();
        let headers =
            [("authorization", &*authorization), ("idempotency-key", &*name), ("content-type", "application/json")];
        for url in urls.iter().cycle().skip(n % 3).take(30) {
            let reply = request("POST", &format!("{url}/api/v1/user"), &headers, body.as_bytes()).await;
            if reply.is_ok_and(|reply| reply.status == 200) {
                written.push(name);
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    written
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_are_typed_wrongly_change_nothing() {
    let mut cluster = Cluster::start(3).await;
    let before = cluster.json(1, &["cluster", "members"]);
    let own = cluster.peer_address(2);
    let cases: &[(&[&str], &str)] = &[
        (&["cluster", "remove", "9", "--force"], "there is no replica 9"),
        (&["cluster", "remove"], "missing parameters"),
        (&["cluster", "promote", "9"], "replica 9 is no member"),
        (&["cluster", "transfer-leader", "9"], "replica 9 is no voter"),
        (&["cluster", "add", "2", &own], "replica 2 is a voter already"),
        (&["cluster", "add", "9", &own], "is replica 2's address"),
        (&["cluster", "add", "9", "127.0.0.1:1"], "start it first, with cluster.id 9"),
        (&["cluster", "recover", "--yes"], "there is nothing to recover"),
        (&["cluster", "snapshot", "inspect", "no-such-file", "--key-file", "secret"], "no-such-file"),
        (&["cluster", "snapshot", "save", "config.yaml", "--key-file", "secret"], "is no backup"),
    ];
    for (arguments, error) in cases {
        let said = cluster.fails(1, arguments);
        assert!(said.contains(error), "{arguments:?}: {said:?} says {error:?}");
    }
    let asked = cluster.run(2, &["cluster", "remove", "3"]);
    let said = String::from_utf8_lossy(&asked.stderr).to_string();
    assert!(said.contains("the cluster tolerates no failure") && said.contains("[y/n]"), "{said}");
    let ids =
        |members: &Value| members.as_array().expect("members").iter().map(|m| m["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&cluster.json(3, &["cluster", "members"])), ids(&before));

    let stranger = Cluster::start(1).await;
    let error = cluster.fails(1, &["cluster", "add", "1", &stranger.peer_address(1)]);
    assert!(error.contains("is a voter already"), "{error}");
    let error = cluster.fails(1, &["cluster", "add", "4", &stranger.peer_address(1)]);
    assert!(error.contains("its secret differs"), "{error}");
    assert!(cluster.run(1, &["cluster", "status"]).status.success());
    cluster.kill(2);
    cluster.kill(3);
    eventually("status fails without a quorum", Duration::from_secs(30), || {
        !cluster.run(1, &["cluster", "status"]).status.success()
    })
    .await;
}
