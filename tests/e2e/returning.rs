//! How soon a replica that comes back serves its clients, and that none waits there in vain
//! meanwhile: until the others know its new run, it refuses before the upgrade.

use crate::support::{Cluster, Machine, Session, Settings, server_key};
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;
/// From the start of its process to a client's first map there; asserted at five times that.
const BACK: Duration = Duration::from_secs(2);
/// From an upgrade that was taken to the first map; asserted at five times that.
const FIRST_MAP: Duration = Duration::from_secs(1);
const BUSY: u32 = 5;
/// Between attempts of a client.
const AGAIN: Duration = Duration::from_millis(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_returns_takes_clients_within_moments_and_keeps_none_waiting() {
    let mut cluster = Cluster::start_with(3, Settings { alone: true, ..Settings::default() }).await;
    let alice = cluster.create_user(1, "alice");
    let key = cluster.ok(1, &["preauthkeys", "create", "--user", &alice, "--reusable"]);
    let noise = server_key(&cluster.url(1)).await;
    let (mut backs, mut maps) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let leader = cluster.leader(1).await;
        let victim = if round % 2 == 0 { leader % 3 + 1 } else { leader };
        let machine = Machine::new(&format!("laptop-{round}"));
        let registered = machine.register(cluster.address(victim), &noise, &key).await.expect("an answer");
        assert!(registered.accepted(), "{registered:?}");
        cluster.kill(victim);
        let begun = Instant::now();
        cluster.start_replica(victim);
        loop {
            // It refuses, or is not there yet; a client tries again.
            let Ok(mut session) = Session::open(cluster.address(victim), &noise, &machine).await else {
                assert!(begun.elapsed() < BACK * BUSY, "replica {victim} takes its client");
                tokio::time::sleep(AGAIN).await;
                continue;
            };
            let taken = Instant::now();
            let mut stream = session.map(&machine).await.expect("a stream: it was taken");
            stream.next().await.expect("a map");
            maps.push(taken.elapsed());
            backs.push(begun.elapsed());
            break;
        }
        cluster.healthy().await;
    }
    backs.sort();
    maps.sort();
    println!("from the start of a replica to a client's first map there: {backs:.2?}");
    println!("from the upgrade to the first map: {maps:.3?}");
    assert!(maps.iter().all(|time| *time < FIRST_MAP * BUSY), "no client waits for its first map: {maps:?}");
    assert!(backs[ROUNDS / 2] < BACK * BUSY, "half of the times within {BACK:?}: {backs:?}");
}
