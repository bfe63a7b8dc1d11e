//! What a client knows from all messages of its stream is what a new map would tell.

use super::*;
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;

const POLICIES: [&str; 7] = [
    "",
    r#"{"acls": []}"#,
    r#"{"acls": [{"action": "accept", "src": ["alice@"], "dst": ["tag:web:80"]}]}"#,
    r#"{"acls": [{"action": "accept", "src": ["bob@"], "dst": ["alice@:22", "10.0.0.0/8:*"]},
                 {"action": "accept", "src": ["tag:web"], "dst": ["tag:db:5432"]}],
        "nodeAttrs": [{"target": ["tag:web"], "attr": ["drive:share"]}]}"#,
    r#"{"acls": [{"action": "accept", "src": ["autogroup:member"], "dst": ["autogroup:self:*"]}],
        "ssh": [{"action": "accept", "src": ["autogroup:member"], "dst": ["autogroup:self"], "users": ["root"]}]}"#,
    r#"{"acls": [{"action": "accept", "src": ["group:ops"], "dst": ["*:*"]}]}"#,
    r#"{"acls": [{"action": "accept", "src": ["100.64.0.2"], "dst": ["100.64.0.1:22"]},
                 {"action": "accept", "src": ["*"], "dst": ["tag:web:443"]}]}"#,
];
/// For the policies to be read.
const NAMES: &str = r#""tagOwners": {"tag:web": [], "tag:db": []}, "groups": {"group:ops": ["bob@", "carol@"]}"#;

fn policy(n: u8) -> String {
    let text = POLICIES[usize::from(n) % POLICIES.len()];
    text.strip_prefix('{').map_or(String::new(), |rest| format!("{{{NAMES}, {rest}"))
}

fn tags(n: u8) -> std::collections::BTreeSet<Tag> {
    let all = [&["tag:web"][..], &["tag:db"], &["tag:web", "tag:db"]];
    all[usize::from(n) % 3].iter().map(|tag| tag.parse().unwrap()).collect()
}

/// What one client knows.
#[derive(Debug, Default, PartialEq)]
struct Known {
    own: Value,
    peers: BTreeMap<u64, Value>,
    filters: BTreeMap<String, Value>,
    ssh: Value,
}

impl Known {
    /// As a client applies it (protocol section 4.4).
    fn apply(&mut self, message: &Value) {
        let list = |name: &str| message[name].as_array().cloned().unwrap_or_default();
        if message.get("Node").is_some() {
            self.own = stable(&message["Node"]);
        }
        if message.get("Peers").is_some() {
            self.peers.clear();
        }
        for id in list("PeersRemoved") {
            self.peers.remove(&id.as_u64().unwrap());
        }
        for peer in list("Peers").iter().chain(&list("PeersChanged")) {
            self.peers.insert(peer["ID"].as_u64().unwrap(), stable(peer));
        }
        for (name, rules) in message["PacketFilters"].as_object().into_iter().flatten() {
            match (name.as_str(), rules) {
                ("*", Value::Null) => self.filters.clear(),
                (_, Value::Null) => drop(self.filters.remove(name)),
                _ => drop(self.filters.insert(name.clone(), rules.clone())),
            }
        }
        if let Some(ssh) = message.get("SSHPolicy") {
            self.ssh = ssh.clone();
        }
    }
}

/// What no patch changes, and a client does not say itself.
fn stable(node: &Value) -> Value {
    ["ID", "Name", "User", "Tags", "Addresses", "AllowedIPs", "CapMap"]
        .iter()
        .map(|name| (*name, &node[*name]))
        .collect::<BTreeMap<_, _>>()
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.clone()))
        .collect()
}

fn told(tailnet: &Tailnet, id: NodeId) -> Known {
    let options = StreamOptions { cap_ver: CapVer(142), zstd: false, keep_alive: false, omit_peers: false };
    let map = tailnet.hub.snapshot(id, options).expect("the node is there");
    let mut known = Known::default();
    known.apply(&serde_json::from_slice(&decode(&map, false)).unwrap());
    known
}

/// Reads until a client knows what a new map would tell.
async fn catch_up(tailnet: &Tailnet, id: NodeId, client: &mut Client, known: &mut Known, what: &str) {
    while *known != told(tailnet, id) {
        let message = tokio::time::timeout(PATIENCE, client.next()).await;
        match message {
            Ok(message) => known.apply(&message),
            Err(_) => panic!("{what}: node {id} knows {known:#?}, and would be told {:#?}", told(tailnet, id)),
        }
    }
}

async fn step(tailnet: &Tailnet, kind: u8, a: u8, b: u8) {
    let nodes: Vec<NodeId> = tailnet.cluster.view().nodes().map(|node| node.id).collect();
    let id = nodes[usize::from(a) % nodes.len()];
    let policy_version = tailnet.cluster.view().policy_version();
    match kind {
        0..=2 => {
            let text = policy(a);
            drop(tailnet.write(Command::SetPolicy { text, author: String::new(), expected_version: None }).await);
        }
        3 | 4 => drop(tailnet.write(Command::SetTags { id, tags: tags(b), policy_version }).await),
        5 => {
            let owner =
                if b.is_multiple_of(2) { Owner::User(UserId(1 + u64::from(b) % 3)) } else { Owner::Tags(tags(b)) };
            tailnet.node_of(owner, "new").await;
        }
        6 => {
            let route: ipnet::IpNet =
                ["10.1.0.0/16", "192.168.0.0/24", "0.0.0.0/0"][usize::from(b) % 3].parse().unwrap();
            let announced = Hostinfo { routable_ips: vec![route], ..hostinfo("r") };
            tailnet.hub.update(NodeUpdate { hostinfo: Some(announced), ..tailnet.update(id) }).await.unwrap();
            tailnet.write(Command::SetApprovedRoutes { id, routes: [route].into() }).await;
        }
        7 => {
            let name = format!("{}-{a}-{b}", ["bob", "carol"][usize::from(b) % 2]);
            let user = UserId(2 + u64::from(a) % 2);
            // Out of the policy's sight, and back into it.
            tailnet.write(Command::RenameUser { id: user, name }).await;
            let name = if user.0 == 2 { "bob" } else { "carol" };
            tailnet.write(Command::RenameUser { id: user, name: name.into() }).await;
        }
        _ => {
            let name = format!("other-{a}-{b}");
            drop(tailnet.cluster.write(Command::RenameUser { id: UserId(2 + u64::from(a) % 2), name }).await);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn what_a_client_was_told_in_parts_is_what_a_new_map_tells(
        draws in proptest::collection::vec((0u8..9, 0u8..42, 0u8..6), 1..16),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let tailnet = Tailnet::new(LONG).await;
            let users = [UserId(1), tailnet.user("bob").await, tailnet.user("carol").await];
            let mut clients = Vec::new();
            for (n, user) in users.iter().chain(&users).enumerate() {
                let id = tailnet.node_of(Owner::User(*user), &format!("n{n}")).await;
                let (client, first) = tailnet.join(id).await;
                let mut known = Known::default();
                known.apply(&first);
                clients.push((id, client, known));
            }
            for (kind, a, b) in draws {
                step(&tailnet, kind, a, b).await;
                for (id, client, known) in &mut clients {
                    catch_up(&tailnet, *id, client, known, &format!("{kind} {a} {b}")).await;
                }
            }
            let (gone, ..) = clients.pop().expect("there are six");
            tailnet.write(Command::DeleteNode { id: gone }).await;
            for (id, client, known) in &mut clients {
                catch_up(&tailnet, *id, client, known, "a node is gone").await;
            }
        });
    }
}

#[tokio::test]
async fn a_policy_that_changes_for_some_is_news_for_nobody_else() {
    let tailnet = Tailnet::new(LONG).await;
    let (bob, carol) = (tailnet.user("bob").await, tailnet.user("carol").await);
    let rules = |rest: &str| Command::SetPolicy {
        text: format!(r#"{{"acls": [{{"action": "accept", "src": ["alice@"], "dst": ["bob@:22"]}}{rest}]}}"#),
        author: String::new(),
        expected_version: None,
    };
    tailnet.write(rules("")).await;
    let (a, b) = (tailnet.node("a").await, tailnet.node_of(Owner::User(bob), "b").await);
    let c = tailnet.node_of(Owner::User(carol), "c").await;
    let (mut of_a, _) = tailnet.join(a).await;
    let (mut of_b, _) = tailnet.join(b).await;
    assert_eq!(of_a.next().await["PeersChangedPatch"][0]["NodeID"], b.0);
    let (mut of_c, first) = tailnet.join(c).await;
    assert!(first.get("Peers").is_none(), "nobody may reach carol's, nor carol anybody");

    tailnet.write(rules(r#", {"action": "accept", "src": ["carol@"], "dst": ["bob@:80"]}"#)).await;
    let message = of_c.next().await;
    assert_eq!(
        (message["PeersChanged"].as_array().map(Vec::len), &message["PeersChanged"][0]["ID"]),
        (Some(1), &json!(b.0))
    );
    let message = of_b.next().await;
    assert_eq!(message["PeersChanged"][0]["ID"], c.0);
    assert_eq!(message["PacketFilters"]["base"].as_array().map(Vec::len), Some(2), "{message}");
    of_a.nothing_before(&tailnet).await;
    // The DERP map that proved it.
    of_b.next().await;
    of_c.next().await;

    tailnet.write(rules("")).await;
    assert_eq!(of_c.next().await["PeersRemoved"], json!([b.0]));
    let message = of_b.next().await;
    assert_eq!(message["PeersRemoved"], json!([c.0]));
    assert_eq!(message["PacketFilters"]["base"].as_array().map(Vec::len), Some(1), "{message}");
    of_a.nothing_before(&tailnet).await;
}
