//! What is on disk survives kills, and what the disk changed is not served.

use crate::support::{Cluster, Disk, Replica, Settings, eventually};
use rocksdb::{DB, IteratorMode, Options};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

/// For what has no promised time.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often the one replica is killed.
const KILLS: usize = 12;

#[tokio::test(flavor = "multi_thread")]
async fn a_single_replica_that_is_killed_again_and_again_keeps_every_acknowledged_write() {
    let mut cluster = Cluster::start(1).await;
    let mut acknowledged = BTreeSet::new();
    for round in 0..KILLS {
        for n in 0..3 {
            let name = format!("user{round}-{n}");
            cluster.create_user(1, &name);
            acknowledged.insert(name);
        }
        // One more is under way when it dies: it may be there afterwards, or not.
        let dir = cluster.dir().join("node1");
        let mut command = Replica::command(&dir);
        command.arg("-c").arg(dir.join("config.yaml")).args(["users", "create", &format!("doubtful{round}")]);
        let under_way = std::thread::spawn(move || command.output());
        std::thread::sleep(Duration::from_millis(rand::random_range(0..60)));
        cluster.kill(1);
        drop(under_way.join());
        cluster.start_replica(1);
        cluster.healthy().await;
        let there = names(&cluster.json(1, &["users", "list"]));
        let lost: Vec<_> = acknowledged.difference(&there).collect();
        assert!(lost.is_empty(), "after kill {round}: {lost:?}");
    }
    assert!(cluster.run(1, &["cluster", "verify"]).status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_changed_byte_on_disk_ends_the_start_of_that_replica_each_time_and_the_others_go_on() {
    let mut cluster = Cluster::start(3).await;
    cluster.create_user(1, "alice");
    cluster.healthy().await;
    cluster.stop(3).await;
    spoil_a_user(&cluster.dir().join("node3/data/store"));
    for _ in 0..2 {
        cluster.start_replica(3);
        eventually("it ends by itself", PATIENCE, || cluster.forget_if_ended(3)).await;
    }
    let log = cluster.log(3);
    assert!(log.contains("records of kind users are not those that this replica wrote"), "{log}");
    assert!(log.contains("cluster remove"), "{log}");
    cluster.create_user(2, "bob");
    assert_eq!(names(&cluster.json(1, &["users", "list"])), BTreeSet::from(["alice".to_owned(), "bob".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_room_stops_writes_and_not_reads_and_heals_with_space() {
    let trial = tempfile::tempdir().expect("a directory");
    if let Err(reason) = Disk::mount(&trial.path().join("trial")) {
        eprintln!("skipped: a small disk cannot be mounted here: {reason}");
        return;
    }
    let settings = Settings { disks: true, cluster_config: "  disk_reserve: 100MiB\n".into(), ..Settings::default() };
    let mut cluster = Cluster::start_with(1, settings).await;
    cluster.create_user(1, "alice");
    let ballast = cluster.dir().join("node1/data/other-program");
    let status = std::process::Command::new("fallocate").args(["-l", "270M"]).arg(&ballast).status();
    assert!(status.is_ok_and(|s| s.success()), "another program takes space");
    let refused = || {
        let output = cluster.run(1, &["users", "create", "bob"]);
        String::from_utf8_lossy(&output.stderr).contains("cluster.disk_reserve")
    };
    eventually("writes are refused with the reason", PATIENCE, refused).await;
    assert!(names(&cluster.json(1, &["users", "list"])).contains("alice"), "reads go on");
    let status = cluster.run(1, &["cluster", "status"]);
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(!status.status.success() && text.contains("NO WRITES") && text.contains("disk-low"), "{text}");
    std::fs::remove_file(ballast).expect("the other program gives it back");
    let written = || cluster.run(1, &["users", "create", "carol"]).status.success();
    eventually("writes are taken again", PATIENCE, written).await;
    cluster.healthy().await;
}

fn names(users: &Value) -> BTreeSet<String> {
    let users = users.as_array().expect("a list");
    users.iter().filter_map(|user| user["name"].as_str().map(String::from)).collect()
}

/// Changes one byte of a stored record, as a bad disk might, while nobody has the store open.
fn spoil_a_user(store: &std::path::Path) {
    let options = Options::default();
    let families = DB::list_cf(&options, store).expect("a database");
    let db = DB::open_cf(&options, store, families).expect("it opens");
    let state = db.cf_handle("state").expect("the records");
    let rows = db.iterator_cf(&state, IteratorMode::Start).map(|row| row.expect("a readable record"));
    let is_alice = |value: &[u8]| value.windows(5).any(|part| part == b"alice");
    let (key, value) = rows.into_iter().find(|(key, value)| key[0] == 7 && is_alice(value)).expect("alice's record");
    let spoiled = String::from_utf8(value.into_vec()).expect("JSON").replacen("alice", "alicf", 1);
    db.put_cf(&state, key, spoiled).expect("it is written");
    db.flush_wal(true).expect("it is synced");
}
