//! Which message says what.

use super::*;
use serde_json::json;

/// What the online and offline of `id` look like to others.
fn online(id: NodeId) -> Value {
    json!({ "PeersChangedPatch": [{ "NodeID": id.0, "Online": true }] })
}

#[tokio::test]
async fn the_first_message_is_complete() {
    let tailnet = Tailnet::new(LONG).await;
    let (a, b) = (tailnet.node("a").await, tailnet.node("b").await);
    let bob = tailnet.user("bob").await;
    let c = tailnet.node_of(Owner::User(bob), "c").await;
    let d = tailnet.node_of(Owner::Tags(["tag:web".parse().unwrap()].into()), "d").await;
    let (_, first) = tailnet.join(b).await;
    assert_eq!(
        keys(&first),
        [
            "CollectServices",
            "DERPMap",
            "DNSConfig",
            "Debug",
            "Domain",
            "Node",
            "PacketFilters",
            "Peers",
            "SSHPolicy",
            "UserProfiles"
        ]
    );
    let created = tailnet.cluster.view().node(b).unwrap().created.to_string();
    let own = json!({
        "ID": 2, "StableID": "2", "Name": "b.example.net.", "User": 1,
        "Key": tailnet.update(b).node_key.to_string(), "Machine": MachineKey(bytes(1, 2)).to_string(),
        "Addresses": ["100.64.0.2/32", "fd7a:115c:a1e0::2/128"], "AllowedIPs": ["100.64.0.2/32", "fd7a:115c:a1e0::2/128"],
        "Hostinfo": { "Hostname": "b", "OS": "linux" }, "Created": created, "Cap": 142, "Online": true,
        "MachineAuthorized": true,
        "CapMap": {
            "https://tailscale.com/cap/is-admin": [], "https://tailscale.com/cap/ssh": [],
            "https://tailscale.com/cap/file-sharing": [], "default-auto-update": [false],
        },
    });
    assert_eq!(first["Node"], own);
    let peers: Vec<_> = first["Peers"].as_array().unwrap().iter().map(|p| (&p["ID"], &p["User"], &p["Tags"])).collect();
    let (none, tags) = (Value::Null, json!(["tag:web"]));
    let tagged = json!(2_147_455_555_u64);
    assert_eq!(
        peers,
        [(&json!(a.0), &json!(1), &none), (&json!(c.0), &json!(bob.0), &none), (&json!(d.0), &tagged, &tags)]
    );
    assert_eq!(first["Peers"][0]["Online"], false);
    assert!(first["Peers"][0]["LastSeen"].is_string());
    let names: Vec<_> = first["UserProfiles"].as_array().unwrap().iter().map(|p| &p["LoginName"]).collect();
    assert_eq!(names, ["alice", "bob", "tagged-devices"]);
    assert_eq!(first["Domain"], "login.example.net");
    assert_eq!(first["Debug"], json!({ "DisableLogTail": true }));
    assert!(first["PacketFilters"]["base"].is_array());
}

#[tokio::test]
async fn the_only_node_gets_no_list_of_peers() {
    let tailnet = Tailnet::new(LONG).await;
    let a = tailnet.node("a").await;
    let (_, first) = tailnet.join(a).await;
    assert!(first.get("Peers").is_none());
    assert_eq!(first["UserProfiles"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_client_without_compression_gets_plain_json() {
    let tailnet = Tailnet::new(LONG).await;
    let a = tailnet.node("a").await;
    let options = StreamOptions { cap_ver: CapVer(130), zstd: false, keep_alive: true, omit_peers: false };
    let mut client = tailnet.open_with(a, options).await;
    assert_eq!(client.next().await["Node"]["ID"], a.0);
    let snapshot = tailnet.hub.snapshot(a, options).unwrap();
    let snapshot: Value = serde_json::from_slice(&decode(&snapshot, false)).unwrap();
    assert_eq!(snapshot["Node"]["ID"], a.0);
    assert!(tailnet.hub.snapshot(NodeId(99), options).is_none());
}

#[tokio::test]
async fn a_node_that_joins_is_one_new_peer_and_its_owner_and_then_a_patch() {
    let tailnet = Tailnet::new(LONG).await;
    let a = tailnet.node("a").await;
    let (mut client, _) = tailnet.join(a).await;
    let bob = tailnet.user("bob").await;
    let b = tailnet.node_of(Owner::User(bob), "b").await;
    let message = client.next().await;
    assert_eq!(keys(&message), ["PeersChanged", "UserProfiles"]);
    assert_eq!(message["PeersChanged"][0]["Name"], "b.example.net.");
    assert_eq!(message["PeersChanged"][0]["Online"], false);
    assert!(message["PeersChanged"][0].get("CapMap").is_none());
    assert_eq!(message["UserProfiles"], json!([{ "ID": bob.0, "LoginName": "bob", "DisplayName": "bob" }]));

    let _b = tailnet.join(b).await;
    assert_eq!(client.next().await, online(b));
    client.nothing_before(&tailnet).await;
}

#[tokio::test]
async fn endpoints_home_and_keys_are_patches() {
    let tailnet = Tailnet::new(LONG).await;
    let (a, b) = (tailnet.node("a").await, tailnet.node("b").await);
    let (mut client, _) = tailnet.join(a).await;
    let mut update = tailnet.update(b);
    update.disco_key = Some(disco(7));
    update.endpoints = Some(vec![endpoint(41641)]);
    update.hostinfo = Some(Hostinfo {
        net_info: Some(r#"{"PreferredDERP":901}"#.into()),
        preferred_derp: Some(901),
        ..hostinfo("b")
    });
    tailnet.hub.update(update).await.unwrap();
    let patch = json!({
        "NodeID": b.0, "DERPRegion": 901, "Endpoints": ["192.0.2.1:41641"], "DiscoKey": disco(7).to_string(),
    });
    assert_eq!(client.next().await, json!({ "PeersChangedPatch": [patch] }));

    let later = Time::now() + LONG;
    tailnet.write(Command::SetNodeExpiry { id: b, expiry: Expiry::At(later) }).await;
    let key = tailnet.update(b).node_key.to_string();
    let patch = json!({ "NodeID": b.0, "Key": key, "KeyExpiry": later.to_string() });
    assert_eq!(client.next().await, json!({ "PeersChangedPatch": [patch] }));
    tailnet.write(Command::SetNodeExpiry { id: b, expiry: Expiry::Never }).await;
    let patch = json!({ "NodeID": b.0, "Key": key, "KeyExpiry": "0001-01-01T00:00:00Z" });
    assert_eq!(client.next().await, json!({ "PeersChangedPatch": [patch] }));
    client.nothing_before(&tailnet).await;
}

#[tokio::test]
async fn a_discovery_key_never_goes_with_an_offline_which_clients_would_drop() {
    let tailnet = Tailnet::new(Duration::ZERO).await;
    let (a, b) = (tailnet.node("a").await, tailnet.node("b").await);
    let (mut client, _) = tailnet.join(a).await;
    // All before the client reads, so that it comes in one message.
    let (stream, _) = tailnet.join(b).await;
    tailnet.hub.update(NodeUpdate { disco_key: Some(disco(7)), ..tailnet.update(b) }).await.unwrap();
    drop(stream);
    tailnet.wait_for_sessions(b, |sessions| sessions.is_empty()).await;
    let seen = tailnet.cluster.view().node(b).unwrap().last_seen.unwrap().to_string();
    let patches = json!([
        { "NodeID": b.0, "DiscoKey": disco(7).to_string() },
        { "NodeID": b.0, "Online": false, "LastSeen": seen },
    ]);
    assert_eq!(client.next().await, json!({ "PeersChangedPatch": patches }));
}

#[tokio::test]
async fn a_rename_is_a_whole_peer_for_others_and_a_whole_node_for_itself() {
    let tailnet = Tailnet::new(LONG).await;
    let (a, b) = (tailnet.node("a").await, tailnet.node("b").await);
    let (mut of_a, _) = tailnet.join(a).await;
    let (mut of_b, _) = tailnet.join(b).await;
    assert_eq!(of_a.next().await, online(b));
    tailnet.rename(b, "box").await;
    let message = of_a.next().await;
    assert_eq!(keys(&message), ["PeersChanged"]);
    assert_eq!(message["PeersChanged"][0]["Name"], "box.example.net.");
    let message = of_b.next().await;
    assert_eq!(keys(&message), ["Node"], "{message}");
    assert_eq!(message["Node"]["Name"], "box.example.net.");
}

#[tokio::test]
async fn tags_change_the_owner_and_bring_its_profile() {
    let tailnet = Tailnet::new(LONG).await;
    let (a, b) = (tailnet.node("a").await, tailnet.node("b").await);
    let (mut of_a, _) = tailnet.join(a).await;
    let (mut of_b, _) = tailnet.join(b).await;
    assert_eq!(of_a.next().await, online(b));
    let tags = ["tag:web".parse().unwrap()].into();
    tailnet.write(Command::SetTags { id: b, tags, policy_version: tailnet.cluster.view().policy_version() }).await;
    for (client, node) in [(&mut of_a, "PeersChanged"), (&mut of_b, "Node")] {
        let message = client.next().await;
        assert_eq!(keys(&message), [node, "UserProfiles"]);
        let node = if node == "Node" { &message["Node"] } else { &message["PeersChanged"][0] };
        assert_eq!((&node["Tags"], &node["User"]), (&json!(["tag:web"]), &json!(2_147_455_555_u64)));
        assert_eq!(message["UserProfiles"][0]["LoginName"], "tagged-devices");
    }
}

#[tokio::test]
async fn a_deleted_node_is_removed_and_told_that_its_key_is_dead() {
    let tailnet = Tailnet::new(LONG).await;
    let (a, b) = (tailnet.node("a").await, tailnet.node("b").await);
    let (mut of_a, _) = tailnet.join(a).await;
    let (mut of_b, _) = tailnet.join(b).await;
    assert_eq!(of_a.next().await, online(b));
    tailnet.write(Command::DeleteNode { id: b }).await;
    assert_eq!(of_a.next().await, json!({ "PeersRemoved": [b.0] }));
    let last = of_b.next().await;
    assert_eq!(keys(&last), ["Node"]);
    assert_eq!((&last["Node"]["Expired"], &last["Node"]["MachineAuthorized"]), (&json!(true), &json!(false)));
    let expiry: jiff::Timestamp = last["Node"]["KeyExpiry"].as_str().unwrap().parse().unwrap();
    assert!(expiry < jiff::Timestamp::now());
    assert!(of_b.try_next().await.is_none());
    of_a.nothing_before(&tailnet).await;
}

#[tokio::test]
async fn an_expired_node_is_shown_as_expired_until_it_is_renewed() {
    let tailnet = Tailnet::new(LONG).await;
    let (a, b) = (tailnet.node("a").await, tailnet.node("b").await);
    let (mut of_a, _) = tailnet.join(a).await;
    let (mut of_b, _) = tailnet.join(b).await;
    assert_eq!(of_a.next().await, online(b));
    tailnet.hub.update(NodeUpdate { endpoints: Some(vec![endpoint(1)]), ..tailnet.update(b) }).await.unwrap();
    of_a.next().await;
    tailnet.write(Command::SetNodeExpiry { id: b, expiry: Expiry::Now }).await;
    let message = of_a.next().await;
    assert_eq!(keys(&message), ["PeersChanged"]);
    let peer = &message["PeersChanged"][0];
    assert_eq!((&peer["Expired"], peer.get("Endpoints")), (&json!(true), None));
    let message = of_b.next().await;
    assert_eq!(message["Node"]["MachineAuthorized"], false);
    assert!(message["Node"]["KeyExpiry"].is_string());

    // Where it is now does not matter to anyone, and no patch would end the expiry.
    tailnet.hub.update(NodeUpdate { endpoints: Some(vec![endpoint(2)]), ..tailnet.update(b) }).await.unwrap();
    of_a.nothing_before(&tailnet).await;
    of_b.next().await; // The DERP map that proved it.
    tailnet.write(Command::SetNodeExpiry { id: b, expiry: Expiry::Never }).await;
    let message = of_a.next().await;
    let peer = &message["PeersChanged"][0];
    assert_eq!((peer.get("Expired"), &peer["Endpoints"]), (None, &json!(["192.0.2.1:2"])));
    assert_eq!(of_b.next().await["Node"]["MachineAuthorized"], true);
}

#[tokio::test]
async fn an_approved_subnet_route_goes_through_its_router() {
    let tailnet = Tailnet::new(LONG).await;
    let (a, b) = (tailnet.node("a").await, tailnet.node("b").await);
    let (mut of_a, _) = tailnet.join(a).await;
    let (mut of_b, _) = tailnet.join(b).await;
    assert_eq!(of_a.next().await, online(b));
    let subnet: ipnet::IpNet = "10.0.0.0/24".parse().unwrap();
    let exit: ipnet::IpNet = "0.0.0.0/0".parse().unwrap();
    let announced = Hostinfo { routable_ips: vec![exit, subnet], ..hostinfo("b") };
    tailnet.hub.update(NodeUpdate { hostinfo: Some(announced), ..tailnet.update(b) }).await.unwrap();
    let addresses = json!(["100.64.0.2/32", "fd7a:115c:a1e0::2/128"]);
    assert_eq!(of_a.next().await["PeersChanged"][0]["AllowedIPs"], addresses);
    tailnet.write(Command::SetApprovedRoutes { id: b, routes: [subnet, exit].into() }).await;
    let routes = json!(["100.64.0.2/32", "fd7a:115c:a1e0::2/128", "10.0.0.0/24", "0.0.0.0/0"]);
    let message = of_a.next().await;
    assert_eq!(message["PeersChanged"][0]["AllowedIPs"], routes);
    assert_eq!(message["PeersChanged"][0]["PrimaryRoutes"], json!(["10.0.0.0/24"]));
    assert_eq!(of_b.next().await["Node"]["AllowedIPs"], routes);
}

#[tokio::test]
async fn a_renamed_user_is_a_new_profile_for_those_who_know_it() {
    let tailnet = Tailnet::new(LONG).await;
    let bob = tailnet.user("bob").await;
    let (a, b) = (tailnet.node("a").await, tailnet.node("b").await);
    let (mut of_a, _) = tailnet.join(a).await;
    let (mut of_b, _) = tailnet.join(b).await;
    assert_eq!(of_a.next().await, online(b));
    tailnet.write(Command::RenameUser { id: bob, name: "robert".into() }).await;
    tailnet.write(Command::RenameUser { id: UserId(1), name: "alicia".into() }).await;
    let profiles = json!({ "UserProfiles": [{ "ID": 1, "LoginName": "alicia", "DisplayName": "alicia" }] });
    assert_eq!(of_a.next().await, profiles);
    assert_eq!(of_b.next().await, profiles);
}

#[tokio::test]
async fn new_dns_settings_reach_everyone() {
    let tailnet = Tailnet::new(LONG).await;
    let a = tailnet.node("a").await;
    let (mut client, first) = tailnet.join(a).await;
    assert_eq!(first["DNSConfig"]["Domains"], json!(["example.net"]));
    tailnet.dns.send_modify(|dns| {
        *dns = Arc::new(DnsSettings { search_domains: vec!["corp.example".into()], ..DnsSettings::clone(dns) });
    });
    let message = client.next().await;
    assert_eq!(keys(&message), ["DNSConfig"]);
    assert_eq!(message["DNSConfig"]["Domains"], json!(["example.net", "corp.example"]));
}

#[tokio::test]
async fn replicas_are_relays_and_dial_candidates() {
    let tailnet = Tailnet::new(LONG).await;
    let a = tailnet.node("a").await;
    tailnet.derp_map.send_modify(|map| {
        let mut new = DerpMap::clone(map);
        new.regions.insert(901, Default::default());
        new.regions.insert(7, Default::default());
        *map = Arc::new(new);
    });
    let (mut client, first) = tailnet.join(a).await;
    assert!(first.get("ControlDialPlan").is_none());
    for id in [1, 2, 3] {
        tailnet.write(Command::ReplicaUp(replica(id, &tailnet.cluster))).await;
    }
    let mut plan = Value::Null;
    let mut map = Value::Null;
    while map["Regions"].get("903").is_none() {
        let message = client.next().await;
        assert_eq!(keys(&message).iter().filter(|key| !["DERPMap", "ControlDialPlan"].contains(*key)).count(), 0);
        plan = message.get("ControlDialPlan").cloned().unwrap_or(plan);
        map = message["DERPMap"].clone();
    }
    assert_eq!(map["Regions"]["901"]["RegionName"], "Replica 1", "a replica's own relay wins");
    assert!(map["Regions"].get("7").is_some());
    let candidates = plan["Candidates"].as_array().unwrap();
    let delays: Vec<_> = candidates.iter().map(|c| c["DialStartDelaySec"].as_f64().unwrap()).collect();
    assert_eq!(delays, [0.0, 0.3, 0.6]);
    let priorities: Vec<_> = candidates.iter().map(|c| c["Priority"].as_u64().unwrap()).collect();
    assert_eq!(priorities, [3, 2, 1]);
    assert!(candidates.iter().all(|c| c["DialTimeoutSec"].as_f64().unwrap() > 0.0));

    tailnet.write(Command::ReplicaRemoved(ReplicaId(2))).await;
    tailnet.write(Command::ReplicaRemoved(ReplicaId(3))).await;
    let mut message = client.next().await;
    while message["DERPMap"]["Regions"].get("903").is_some() {
        message = client.next().await;
    }
    assert_eq!(message["ControlDialPlan"], json!({ "Candidates": [] }), "one address is no plan");
}

#[tokio::test]
async fn a_map_of_many_blocks_has_every_peer_once_in_order_compressed_or_not() {
    let tailnet = Tailnet::new(LONG).await;
    let mut nodes = Vec::new();
    for n in 0..200 {
        nodes.push(tailnet.node(&format!("n{n}")).await);
    }
    tailnet.write(Command::DeleteNode { id: nodes[100] }).await;
    nodes.remove(100);
    // The first and last of all, of a block, and one in the middle.
    for at in [0, 62, 63, 64, 90, 198] {
        let viewer = nodes[at];
        for zstd in [true, false] {
            let options = StreamOptions { cap_ver: CapVer(142), zstd, keep_alive: true, omit_peers: false };
            let map = tailnet.open_with(viewer, options).await.next().await;
            let peers: Vec<u64> = map["Peers"].as_array().unwrap().iter().map(|p| p["ID"].as_u64().unwrap()).collect();
            let others: Vec<u64> = nodes.iter().filter(|id| **id != viewer).map(|id| id.0).collect();
            assert_eq!(peers, others, "for node {viewer}");
        }
    }
}
