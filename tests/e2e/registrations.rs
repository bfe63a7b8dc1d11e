//! A thousand machines at once.

use crate::support::{Cluster, Machine, Registered, Settings, server_key};
use serde_json::Value;
use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const MACHINES: usize = 1000;

#[tokio::test(flavor = "multi_thread")]
async fn of_a_thousand_machines_with_one_single_use_key_exactly_one_registers() {
    let cluster = Cluster::start_with(3, Settings { alone: true, ..Settings::default() }).await;
    let alice = cluster.create_user(1, "alice");
    let key = cluster.ok(1, &["preauthkeys", "create", "--user", &alice]);
    let server = server_key(&cluster.url(1)).await;
    let addresses = [1, 2, 3].map(|id| cluster.address(id));

    let mut all = JoinSet::new();
    for number in 0..MACHINES {
        let key = key.clone();
        all.spawn(async move {
            let machine = Machine::new(&format!("m{number}"));
            let registered = answer_from(&machine, &addresses, number % 3, &server, &key).await;
            (machine, registered)
        });
    }
    let mut winners = Vec::new();
    for (machine, registered) in all.join_all().await {
        match registered.accepted() {
            true => winners.push(machine),
            false => assert_eq!(registered.error(), "authkey already used", "{}: {registered:?}", machine.name),
        }
    }

    assert_eq!(winners.len(), 1, "exactly one machine was told that it is in");
    for id in 1..=3 {
        let nodes = cluster.nodes(id);
        assert_eq!(nodes.len(), 1, "replica {id} has exactly one node");
        assert_eq!(nodes[0]["machineKey"], winners[0].key(), "and it is the one that was told so");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_registration_that_was_acknowledged_outlives_the_leader_exactly_once() {
    let mut cluster = Cluster::start_with(3, Settings { alone: true, ..Settings::default() }).await;
    let alice = cluster.create_user(1, "alice");
    let key = cluster.ok(1, &["preauthkeys", "create", "--user", &alice, "--reusable"]);
    let server = server_key(&cluster.url(1)).await;
    let addresses = [1, 2, 3].map(|id| cluster.address(id));
    let leader = cluster.leader(1).await;

    let acknowledged = Arc::new(AtomicUsize::new(0));
    let mut all = JoinSet::new();
    for number in 0..MACHINES {
        let (key, acknowledged) = (key.clone(), acknowledged.clone());
        all.spawn(async move {
            let machine = Machine::new(&format!("m{number}"));
            register_somewhere(&machine, &addresses, number % 3, &server, &key).await;
            acknowledged.fetch_add(1, Ordering::Relaxed);
            machine
        });
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    while acknowledged.load(Ordering::Relaxed) < MACHINES / 5 {
        assert!(Instant::now() < deadline, "a fifth of the machines register within 60 s");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let before = acknowledged.load(Ordering::Relaxed);
    cluster.kill(leader);
    assert!(before < MACHINES, "the leader dies in the middle");

    let machines = all.join_all().await;
    let survivor = (1..=3).find(|id| *id != leader).expect("two are left");
    each_is_there_once(&machines, &cluster.nodes(survivor));

    cluster.start_replica(leader);
    cluster.healthy().await;
    for id in 1..=3 {
        each_is_there_once(&machines, &cluster.nodes(id));
    }
}

/// Until it is in, as a client that keeps trying.
async fn register_somewhere(machine: &Machine, addresses: &[Ipv4Addr; 3], first: usize, server: &[u8; 32], key: &str) {
    let mut last = None;
    for attempt in 0..200 {
        match machine.register(addresses[(first + attempt) % 3], server, key).await {
            Ok(registered) if registered.accepted() => return,
            Ok(registered) => last = Some(registered.answer.to_string()),
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("{} registers: {last:?}", machine.name);
}

/// A verdict on the key. On a connection that broke a client asks again, at the next replica.
async fn answer_from(
    machine: &Machine,
    addresses: &[Ipv4Addr; 3],
    first: usize,
    server: &[u8; 32],
    key: &str,
) -> Registered {
    let mut last = String::new();
    for attempt in 0..20 {
        match machine.register(addresses[(first + attempt) % 3], server, key).await {
            Ok(registered) => return registered,
            Err(error) => last = error,
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("{} gets an answer: {last}", machine.name);
}

fn each_is_there_once(machines: &[Machine], nodes: &[Value]) {
    assert_eq!(nodes.len(), machines.len(), "as many nodes as machines");
    let unique = |what: &str| nodes.iter().map(|n| n[what].to_string()).collect::<HashSet<_>>();
    for what in ["id", "machineKey", "nodeKey", "givenName", "ipAddresses"] {
        assert_eq!(unique(what).len(), nodes.len(), "{what} is unique");
    }
    let keys = unique("machineKey");
    for machine in machines {
        assert!(keys.contains(&format!("{:?}", machine.key())), "{} is there", machine.name);
    }
}
