//! What is on disk survives kills, and what the disk changed is not served.

use crate::support::{Cluster, Disk, Failing, Replica, Settings, eventually};
use rocksdb::{DB, IteratorMode, Options};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// For what has no promised time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes that another program leaves on the disk: less than the reserve, and enough to go on.
const LEFT: u64 = 60 << 20;

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
    let taken = (free(&cluster.dir().join("node1/data")) - LEFT).to_string();
    let status = std::process::Command::new("fallocate").args(["-l", &taken]).arg(&ballast).status();
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

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_sync_or_write_ends_that_replica_once_and_the_others_go_on() {
    let mut cluster = Cluster::start_with(3, Settings { failing_disks: true, ..Settings::default() }).await;
    let mut acknowledged = BTreeSet::new();
    for (round, (what, leads)) in
        [(Failing::Syncs, false), (Failing::Syncs, true), (Failing::Writes, false), (Failing::Writes, true)]
            .into_iter()
            .enumerate()
    {
        let leader = cluster.leader(1).await;
        let victim = if leads { leader } else { leader % 3 + 1 };
        let survivor = (1..=3).find(|id| ![leader, victim].contains(id)).expect("there are three");
        let before = cluster.log(victim).len();
        cluster.failing_disk(victim).fail(what);
        let begun = Instant::now();
        for n in 0.. {
            let name = format!("user{round}-{n}");
            if cluster.run(survivor, &["users", "create", &name]).status.success() {
                acknowledged.insert(name);
            }
            if cluster.has_ended(victim) {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "replica {victim} goes on although its {what:?} fail");
        }
        let log = cluster.ends(victim).await.split_off(before);
        // After a failed sync RocksDB takes no writes, so either may be what the replica ends with.
        let said = match what {
            Failing::Syncs => &["cannot be synced to disk", "the store cannot be written"][..],
            _ => &["the store cannot be written"],
        };
        let ended = log.lines().filter(|line| line.contains("this replica stops now")).collect::<Vec<_>>();
        let remedy = "free space on the disk, or repair or replace it, then start it again";
        assert!(
            ended.len() == 1 && said.iter().any(|said| ended[0].contains(said)) && ended[0].contains(remedy),
            "{log}"
        );
        let failed = cluster.failing_disk(victim).heal();
        let of_log = failed.iter().filter(|call| call.contains("/data/store/") && call.ends_with(".log")).count();
        assert_eq!(of_log, 1, "it does not try again: {failed:?}");

        let name = format!("user{round}-without");
        cluster.create_user(survivor, &name);
        acknowledged.insert(name);
        let next = cluster.leader(survivor).await;
        assert!(next != victim, "somebody else leads");
        cluster.start_replica(victim);
        cluster.healthy().await;
        for id in 1..=3 {
            let there = names(&cluster.json(id, &["users", "list"]));
            let lost: Vec<_> = acknowledged.difference(&there).collect();
            assert!(lost.is_empty(), "replica {id} after {what:?} of replica {victim}: {lost:?}");
        }
    }
    assert!(cluster.run(1, &["cluster", "verify"]).status.success());
}

/// Bytes that are free there.
fn free(path: &std::path::Path) -> u64 {
    let output = std::process::Command::new("df").args(["--output=avail", "-B1"]).arg(path).output().expect("df runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().nth(1).and_then(|line| line.trim().parse().ok()).expect("df says what is free")
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
