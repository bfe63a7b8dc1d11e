//! The four ways in which a machine joins, each through another replica.

use crate::support::{Cluster, Fleet, Network, Settings, Tsnet, Up, eventually};
use serde_json::Value;
use std::net::IpAddr;
use std::time::Duration;

const ONLINE: Duration = Duration::from_secs(60);

const POLICY: &str = r#"// alice may bring up servers
{
  "tagOwners": {"tag:server": ["alice@"]},
  "acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}],
}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn machines_join_in_all_four_ways_and_reach_each_other() {
    let cluster = Cluster::start(3).await;
    let fleet = Fleet::start(&[]);
    let nodes = all_four(&cluster, &fleet, [1, 2, 3]).await;
    all_reach_all(&nodes).await;
    for id in 1..=3 {
        listed_as_they_joined(&cluster, id).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_that_only_have_relays_reach_each_other_from_three_homes() {
    let cluster = Cluster::start(3).await;
    let fleet = Fleet::start(&[("TS_DEBUG_ALWAYS_USE_DERP", "1")]);
    let nodes = all_four(&cluster, &fleet, [1, 2, 3]).await;

    let mut homes = Vec::new();
    for (index, (node, _)) in nodes.iter().enumerate() {
        let relay = cluster.address(index as u64 % 3 + 1).to_string();
        homes.push(node.home(&relay).await);
    }
    homes.sort();
    homes.dedup();
    assert_eq!(homes.len(), 3, "each replica's relay is a region of its own: {homes:?}");

    all_reach_all(&nodes).await;
    for (node, _) in &nodes {
        let status = node.status().await;
        for peer in status["peers"].as_array().expect("peers") {
            assert_eq!(peer["direct"], "", "no way but the relay: {peer}");
        }
    }
}

/// What happens to the leader before anybody joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    Killed,
    Paused,
    CutOff,
    Deaf,
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_join_in_all_four_ways_while_a_replica_is_dead() {
    all_four_with_one_lost(Loss::Killed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_join_in_all_four_ways_while_a_replica_is_paused() {
    all_four_with_one_lost(Loss::Paused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_join_in_all_four_ways_while_a_replica_is_cut_off() {
    all_four_with_one_lost(Loss::CutOff).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_join_in_all_four_ways_while_a_replica_hears_nobody() {
    all_four_with_one_lost(Loss::Deaf).await;
}

async fn all_four_with_one_lost(loss: Loss) {
    let network = matches!(loss, Loss::CutOff | Loss::Deaf);
    if let (true, Err(reason)) = (network, Network::new()) {
        println!("skipped: namespaces need root, ip and iptables: {reason}");
        return;
    }
    let mut cluster = Cluster::start_with(3, Settings { network, ..Settings::default() }).await;
    let lost = cluster.leader(1).await;
    let [one, two] = [lost % 3 + 1, (lost + 1) % 3 + 1];
    match loss {
        Loss::Killed => cluster.kill(lost),
        Loss::Paused => cluster.freeze(lost),
        Loss::CutOff => cluster.network().isolate(lost),
        Loss::Deaf => cluster.network().deafen(lost),
    }
    let leads = |by: u64| cluster.status(by).and_then(|status| status["leader"].as_u64());
    eventually("somebody else leads", ONLINE, || {
        [one, two].iter().all(|by| leads(*by).is_some_and(|leader| leader != lost))
    })
    .await;

    let fleet = Fleet::start(&[]);
    let nodes = all_four(&cluster, &fleet, [one, two, one]).await;
    all_reach_all(&nodes).await;
    listed_as_they_joined(&cluster, one).await;
    listed_as_they_joined(&cluster, two).await;

    match loss {
        Loss::Killed => cluster.start_replica(lost),
        Loss::Paused => cluster.thaw(lost),
        Loss::CutOff | Loss::Deaf => cluster.network().heal(),
    }
    cluster.healthy().await;
    listed_as_they_joined(&cluster, lost).await;
}

type Joined<'a> = Vec<(Tsnet<'a>, Vec<IpAddr>)>;

/// Joins one machine in each way, at three replicas. Whoever approves is never where the client waits.
async fn all_four<'a>(cluster: &Cluster, fleet: &'a Fleet, at: [u64; 3]) -> Joined<'a> {
    let [one, two, three] = at;
    let alice = cluster.create_user(one, "alice");
    let policy = cluster.dir().join("policy.hujson");
    std::fs::write(&policy, POLICY).expect("a policy file");
    assert_eq!(cluster.ok(two, &["policy", "set", "-f", policy.to_str().expect("text")]), "Policy updated.");

    // 1: personal, approved by an administrator.
    let laptop = fleet.up("laptop", Up::at(cluster.url(one))).await;
    let key = registration_key(&laptop.auth_url().await, &cluster.url(one));
    let said = cluster.ok(two, &["nodes", "register", "--user", "alice", "--key", &key]);
    assert_eq!(said, "Node laptop registered");

    // 2: tagged, approved by an administrator for a user who owns the tag.
    let server = fleet.up("server", Up::at(cluster.url(two)).tags(&["tag:server"])).await;
    let key = registration_key(&server.auth_url().await, &cluster.url(two));
    let said = cluster.ok(three, &["auth", "register", "--user", "alice", "--auth-id", &key]);
    assert_eq!(said, "Node server registered");

    // 3: personal, with a key.
    let key = cluster.ok(one, &["preauthkeys", "create", "--user", &alice]);
    let phone = fleet.up("phone", Up::at(cluster.url(three)).key(&key)).await;

    // 4: tagged by its key, which needs no policy.
    let key = cluster.ok(three, &["preauthkeys", "create", "--tags", "tag:web"]);
    let web = fleet.up("web", Up::at(cluster.url(one)).key(&key)).await;

    let mut joined = Vec::new();
    for node in [laptop, server, phone, web] {
        let addresses = node.running().await;
        joined.push((node, addresses));
    }
    joined
}

/// The last part of the page's address, which is at the replica that the client asked.
fn registration_key(auth_url: &str, server: &str) -> String {
    let key = auth_url.strip_prefix(&format!("{server}/register/"));
    key.unwrap_or_else(|| panic!("{auth_url} is a page of {server}")).into()
}

async fn all_reach_all(nodes: &Joined<'_>) {
    for (from, _) in nodes {
        for (to, addresses) in nodes {
            if from.name() != to.name() {
                for address in addresses {
                    from.reaches(*address, to.name()).await;
                }
                from.ping(addresses[0], "TSMP")
                    .await
                    .unwrap_or_else(|e| panic!("{} pings {}: {e}", from.name(), to.name()));
            }
        }
    }
}

async fn listed_as_they_joined(cluster: &Cluster, id: u64) {
    for name in ["laptop", "server", "phone", "web"] {
        cluster.shows_online(id, name, true, ONLINE).await;
    }
    let nodes = cluster.nodes(id);
    assert_eq!(nodes.len(), 4, "replica {id}: {nodes:#?}");
    let node = |name: &str| nodes.iter().find(|n| n["givenName"] == name).expect("listed").clone();
    let user = |node: &Value| node["user"]["name"].clone();

    assert_eq!(user(&node("laptop")), "alice");
    assert_eq!(node("laptop")["registerMethod"], "REGISTER_METHOD_CLI");
    assert_eq!(user(&node("server")), "tagged-devices");
    assert_eq!(node("server")["tags"], serde_json::json!(["tag:server"]));
    assert_eq!(user(&node("phone")), "alice");
    assert_eq!(node("phone")["registerMethod"], "REGISTER_METHOD_AUTH_KEY");
    assert_eq!(user(&node("web")), "tagged-devices");
    assert_eq!(node("web")["tags"], serde_json::json!(["tag:web"]));

    let mut addresses: Vec<_> = nodes.iter().map(|n| n["ipAddresses"].to_string()).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 4, "addresses are unique: {nodes:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_the_user_does_not_own_registers_nothing() {
    let cluster = Cluster::start(3).await;
    cluster.create_user(1, "alice");
    let fleet = Fleet::start(&[]);
    let server = fleet.up("server", Up::at(cluster.url(1)).tags(&["tag:server"])).await;
    let key = registration_key(&server.auth_url().await, &cluster.url(1));

    let error = cluster.fails(2, &["auth", "register", "--user", "alice", "--auth-id", &key]);
    assert!(error.contains("tag:server") && error.contains("not permitted"), "{error}");
    assert!(cluster.nodes(3).is_empty(), "nothing was registered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_was_approved_while_its_replica_was_down_comes_up() {
    let mut cluster = Cluster::start(3).await;
    cluster.create_user(1, "alice");
    let fleet = Fleet::start(&[]);
    let laptop = fleet.up("laptop", Up::at(cluster.url(3))).await;
    let key = registration_key(&laptop.auth_url().await, &cluster.url(3));

    cluster.kill(3);
    // The leader may have been the one that died; the command waits for the next.
    cluster.leader(1).await;
    cluster.ok(1, &["auth", "register", "--user", "alice", "--auth-id", &key]);
    cluster.start_replica(3);
    laptop.running().await;
}
