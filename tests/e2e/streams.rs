//! What nodes that hold their streams notice when replicas stop, die and return: nothing,
//! on the others; and on these, a moment. `Watchers` move as stock clients do.

use crate::support::{Cluster, Machine, Settings, Watchers, eventually, server_key};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The default of `offline_grace`.
const GRACE: Duration = Duration::from_secs(15);
/// Five times what a client of a killed process may need to be back.
const BACK: Duration = Duration::from_secs(10);
/// A graceful stop is promised to take five seconds; asserted at five times that.
const STOP: Duration = Duration::from_secs(25);

async fn reusable_key(cluster: &Cluster) -> String {
    let alice = cluster.create_user(1, "alice");
    cluster.ok(1, &["preauthkeys", "create", "--user", &alice, "--reusable"])
}

#[track_caller]
fn nobody_was_shown_offline(watchers: &Watchers) {
    let marks = watchers.false_marks(GRACE);
    assert!(marks.is_empty(), "{} offline marks of nodes that returned in time: {marks:#?}", marks.len());
    assert_eq!(watchers.wrong(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_leader_dies_its_streams_move_and_no_other_stream_is_dropped() {
    let mut cluster = Cluster::start(3).await;
    let key = reusable_key(&cluster).await;
    let watchers = Watchers::start(&cluster, &[1, 2, 3], 12, &key).await;
    let leader = cluster.leader(1).await;
    let moving = watchers.at(leader);
    assert_eq!(moving.len(), 4, "a third of the streams");

    let killed = Instant::now();
    cluster.kill(leader);
    eventually("the streams of the dead one are back", BACK, || {
        watchers.ended().len() >= moving.len() && watchers.ended().iter().all(|ended| ended.back.is_some())
    })
    .await;
    // Longer than the grace: what is left of the dead one's sessions is closed meanwhile.
    tokio::time::sleep(GRACE + Duration::from_secs(3)).await;

    let ended = watchers.ended();
    assert!(ended.iter().all(|e| e.replica == leader), "no stream of a survivor is dropped: {ended:#?}");
    let slowest = ended.iter().filter_map(|e| e.back).map(|(at, _)| at - killed).max().unwrap_or_default();
    println!("{} streams were back {:.2} s after a SIGKILL at the latest", ended.len(), slowest.as_secs_f64());
    nobody_was_shown_offline(&watchers);
    cluster.start_replica(leader);
    cluster.healthy().await;
    nobody_was_shown_offline(&watchers);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_all_replicas_together_shows_no_node_offline() {
    let mut cluster = Cluster::start(3).await;
    let key = reusable_key(&cluster).await;
    let watchers = Watchers::start(&cluster, &[1, 2, 3], 9, &key).await;
    for round in ["SIGTERM", "SIGKILL"] {
        for id in 1..=3 {
            match round {
                "SIGTERM" => cluster.signal(id, "TERM"),
                _ => cluster.kill(id),
            }
        }
        if round == "SIGTERM" {
            eventually("all replicas stop", STOP, || {
                (1..=3).all(|id| !cluster.runs(id) || cluster.forget_if_ended(id))
            })
            .await;
        }
        (1..=3).for_each(|id| cluster.start_replica(id));
        cluster.healthy().await;
        watchers.all_up().await;
        // Until what a closed session would lead to has been seen.
        tokio::time::sleep(GRACE + Duration::from_secs(3)).await;
        nobody_was_shown_offline(&watchers);
        for id in 1..=3 {
            let offline = cluster.nodes(id).iter().filter(|node| node["online"] != true).count();
            assert_eq!(offline, 0, "after {round}, replica {id} shows all as online");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_under_load_loses_no_join_and_shows_no_node_offline() {
    let mut cluster = Cluster::start(3).await;
    let key = reusable_key(&cluster).await;
    let watchers = Watchers::start(&cluster, &[1, 2, 3], 9, &key).await;
    let server = server_key(&cluster.url(1)).await;
    let addresses = [1, 2, 3].map(|id| cluster.address(id));
    let stop = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn({
        let (stop, key) = (stop.clone(), key.clone());
        async move {
            let mut joined = HashSet::new();
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let machine = Machine::new(&format!("joiner-{number}"));
                let mut replica = number;
                // As a client: on to the next one until there is an answer.
                while !machine.register(addresses[replica % 3], &server, &key).await.is_ok_and(|r| r.accepted()) {
                    replica += 1;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                joined.insert(machine.key());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            joined
        }
    });
    for id in 1..=3 {
        cluster.stop(id).await;
        cluster.start_replica(id);
        cluster.healthy().await;
    }
    stop.store(true, Ordering::Relaxed);
    let joined = load.await.expect("the load ends");
    watchers.all_up().await;
    tokio::time::sleep(GRACE + Duration::from_secs(3)).await;
    nobody_was_shown_offline(&watchers);
    assert!(joined.len() > 3, "there was load: {} joins", joined.len());
    for id in 1..=3 {
        let nodes = cluster.nodes(id);
        let there: HashSet<String> =
            nodes.iter().filter_map(|node| node["machineKey"].as_str().map(str::to_owned)).collect();
        let lost: Vec<_> = joined.difference(&there).collect();
        assert!(lost.is_empty(), "replica {id} has every machine that was told that it joined: {lost:?}");
        assert_eq!(nodes.len(), joined.len() + 9, "and each once");
    }
}

/// Streams of one replica that is told to stop.
const STREAMS: usize = 1000;

#[tokio::test(flavor = "multi_thread")]
async fn a_graceful_stop_with_a_thousand_streams_takes_five_seconds_and_hands_leadership_over() {
    let mut cluster = Cluster::start_with(3, Settings { alone: true, ..Settings::default() }).await;
    let leader = cluster.leader(1).await;
    // Nodes that see each other would send a million peers at the start: these see nobody.
    let policy = cluster.dir().join("policy.hujson");
    std::fs::write(&policy, r#"{"acls": []}"#).expect("a policy file");
    cluster.ok(1, &["policy", "set", "-f", policy.to_str().expect("text")]);
    let key = reusable_key(&cluster).await;
    let watchers = Watchers::start(&cluster, &[leader], STREAMS, &key).await;
    assert_eq!(watchers.at(leader).len(), STREAMS);

    let begun = Instant::now();
    cluster.stop(leader).await;
    let took = begun.elapsed();
    println!("a graceful stop with {STREAMS} streams took {:.2} s", took.as_secs_f64());
    assert!(took < STOP, "it takes at most five times its five seconds: {took:?}");

    watchers.all_up().await;
    let ended = watchers.ended();
    let (first, last) = (ended.iter().map(|e| e.at).min(), ended.iter().map(|e| e.at).max());
    let spread = last.zip(first).map(|(last, first)| last - first).unwrap_or_default();
    println!("its streams ended over {:.2} s", spread.as_secs_f64());
    assert!(ended.iter().all(|e| e.replica == leader), "no stream of another replica is dropped");
    assert!(spread > Duration::from_millis(200), "the streams end in a spread, not at once: {spread:?}");
    let next = cluster.leader((1..=3).find(|id| *id != leader).expect("two are left")).await;
    assert_ne!(next, leader, "somebody else leads");
    nobody_was_shown_offline(&watchers);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_of_all_replicas_one_after_the_other_takes_five_seconds_each_with_a_thousand_streams() {
    let mut cluster = Cluster::start_with(3, Settings { alone: true, ..Settings::default() }).await;
    let policy = cluster.dir().join("policy.hujson");
    std::fs::write(&policy, r#"{"acls": []}"#).expect("a policy file");
    cluster.ok(1, &["policy", "set", "-f", policy.to_str().expect("text")]);
    let key = reusable_key(&cluster).await;
    let watchers = Watchers::start(&cluster, &[1, 2, 3], STREAMS, &key).await;
    // The leader first each time: it hands over, then there is nobody left to take over.
    let mut running = vec![1, 2, 3];
    let mut times = Vec::new();
    while let Some(&any) = running.first() {
        let leader = if running.len() > 1 { cluster.leader(any).await } else { any };
        let streams = watchers.at(leader).len();
        let begun = Instant::now();
        cluster.stop(leader).await;
        times.push((leader, streams, begun.elapsed()));
        running.retain(|id| *id != leader);
    }
    println!("stops, one after the other (replica, streams, time): {times:.2?}");
    assert!(times.iter().all(|(.., took)| *took < STOP), "five seconds at most, times five: {times:?}");
}
