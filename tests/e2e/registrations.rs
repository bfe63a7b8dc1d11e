//! A thousand machines at once.

use crate::support::{Cluster, Machine, Registered, Session, Settings, server_key};
use serde_json::Value;
use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const MACHINES: usize = 1000;

/// All of them have one address here, and all but one show a key that is spent.
const FAILED_KEYS: &str = "limits:\n  failed_keys_per_minute: 60000\n";

#[tokio::test(flavor = "multi_thread")]
async fn of_a_thousand_machines_with_one_single_use_key_exactly_one_registers() {
    let settings = Settings { alone: true, config: FAILED_KEYS.into(), ..Settings::default() };
    let cluster = Cluster::start_with(3, settings).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_reported_and_was_told_is_taken_outlives_the_leader_on_every_replica() {
    let mut cluster = Cluster::start(3).await;
    let alice = cluster.create_user(1, "alice");
    let key = cluster.ok(1, &["preauthkeys", "create", "--user", &alice, "--reusable"]);
    let server = server_key(&cluster.url(1)).await;
    let (reporter, peer) = (Machine::new("reporter"), Machine::new("peer"));
    for machine in [&reporter, &peer] {
        let registered = machine.register(cluster.address(1), &server, &key).await.expect("an answer");
        assert!(registered.accepted(), "{registered:?}");
    }
    for round in 1..=3 {
        let leader = cluster.leader(1).await;
        let survivor = leader % 3 + 1;
        let mut acknowledged = 0;
        for n in 0..20 {
            if n == 10 {
                cluster.kill(leader);
            }
            let port = round * 1000 + n;
            let mut body = reporter.map_request(false);
            body["Endpoints"] = serde_json::json!([format!("192.0.2.7:{port}")]);
            body["EndpointTypes"] = serde_json::json!([1]);
            let Ok(mut session) = Session::open(cluster.address(survivor), &server, &reporter).await else { continue };
            if session.post("/machine/map", body.to_string().as_bytes()).await.is_ok_and(|(status, _)| status == 200) {
                acknowledged = port;
            }
        }
        assert!(acknowledged > round * 1000 + 10, "some are taken after the leader died");
        assert!(reported(&cluster, survivor, &server, &peer).await >= acknowledged, "replica {survivor}");
        cluster.start_replica(leader);
        cluster.healthy().await;
        for id in 1..=3 {
            // What had no answer may have been taken, too.
            assert!(reported(&cluster, id, &server, &peer).await >= acknowledged, "replica {id}");
        }
    }
}

/// The port of the only other node's endpoint, as a replica tells `peer`.
async fn reported(cluster: &Cluster, replica: u64, server: &[u8; 32], peer: &Machine) -> u64 {
    let mut session = Session::open(cluster.address(replica), server, peer).await.expect("a session");
    let map = session.map(peer).await.expect("a stream").next().await.expect("a map");
    let endpoint = map["Peers"][0]["Endpoints"][0].as_str().unwrap_or_else(|| panic!("an endpoint: {map}"));
    endpoint.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("a port")
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
