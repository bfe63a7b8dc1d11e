//! Streams that are slow, late or many.

use super::*;
use serde_json::json;

#[tokio::test]
async fn what_changes_while_a_stream_opens_is_in_its_first_message_or_after_it() {
    let tailnet = Tailnet::new(LONG).await;
    let (a, b) = (tailnet.node("a").await, tailnet.node("b").await);
    let mut client = tailnet.open(a).await;
    tailnet.rename(b, "before-the-first-is-read").await;
    let first = client.next().await;
    assert_eq!(first["Node"]["ID"], a.0, "the first message is the complete one");
    let message = client.next().await;
    assert_eq!(message["PeersChanged"][0]["Name"], "before-the-first-is-read.example.net.");
}

#[tokio::test]
async fn a_stream_that_stalls_gets_the_newest_state_in_one_message() {
    let tailnet = Tailnet::new(LONG).await;
    let (a, b) = (tailnet.node("a").await, tailnet.node("b").await);
    let (mut client, _) = tailnet.join(a).await;
    for n in 0..200 {
        tailnet.rename(b, &format!("name-{n}")).await;
        tokio::task::yield_now().await;
    }
    let message = client.next().await;
    assert_eq!(keys(&message), ["PeersChanged"]);
    let peers = message["PeersChanged"].as_array().unwrap();
    assert_eq!(peers.len(), 1);
    assert_eq!(peers[0]["Name"], "name-199.example.net.");
    client.nothing_before(&tailnet).await;
}

#[tokio::test]
async fn a_node_that_came_and_went_meanwhile_is_not_mentioned() {
    let tailnet = Tailnet::new(LONG).await;
    let a = tailnet.node("a").await;
    let (mut client, _) = tailnet.join(a).await;
    let b = tailnet.node("b").await;
    tailnet.write(Command::DeleteNode { id: b }).await;
    client.nothing_before(&tailnet).await;
}

#[tokio::test]
async fn a_hub_that_lost_count_sends_everything_again() {
    let tailnet = Tailnet::new(LONG).await;
    let (a, b, c) = (tailnet.node("a").await, tailnet.node("b").await, tailnet.node("c").await);
    let (mut client, _) = tailnet.join(a).await;
    // No task runs in between, so the subscription overflows.
    tailnet.write(Command::DeleteNode { id: c }).await;
    for n in 0..5000 {
        tailnet.rename(b, &format!("name-{n}")).await;
    }
    let message = client.next().await;
    assert_eq!(message["Node"]["ID"], a.0);
    let peers: Vec<_> = message["Peers"].as_array().unwrap().iter().map(|p| p["Name"].as_str().unwrap()).collect();
    assert_eq!(peers, ["name-4999.example.net."]);
    client.nothing_before(&tailnet).await;

    tailnet.write(Command::DeleteNode { id: b }).await;
    for n in 0..5000 {
        tailnet.rename(a, &format!("name-{n}")).await;
    }
    let message = client.next().await;
    assert_eq!(message["PeersRemoved"], json!([b.0]), "no list of peers would mean that nothing changed");
}

#[tokio::test]
async fn two_viewers_of_one_change_get_the_same_bytes_but_the_time() {
    let tailnet = Tailnet::new(LONG).await;
    let (a, b, c) = (tailnet.node("a").await, tailnet.node("b").await, tailnet.node("c").await);
    let (mut of_a, _) = tailnet.join(a).await;
    let (mut of_b, _) = tailnet.join(b).await;
    of_a.next().await;
    tailnet.hub.update(NodeUpdate { endpoints: Some(vec![endpoint(5)]), ..tailnet.update(c) }).await.unwrap();
    let (one, two) = (of_a.next().await, of_b.next().await);
    assert_eq!(one, json!({ "PeersChangedPatch": [{ "NodeID": c.0, "Endpoints": ["192.0.2.1:5"] }] }));
    assert_eq!(one, two);
}

#[tokio::test]
async fn a_stream_without_peers_hears_of_none() {
    let tailnet = Tailnet::new(LONG).await;
    let (a, b) = (tailnet.node("a").await, tailnet.node("b").await);
    let options = StreamOptions { cap_ver: CapVer(142), zstd: true, keep_alive: true, omit_peers: true };
    let mut client = tailnet.open_with(a, options).await;
    let first = client.next().await;
    assert!(first.get("Peers").is_none());
    tailnet.rename(b, "other").await;
    client.nothing_before(&tailnet).await;
}

#[tokio::test]
async fn a_stream_without_news_is_kept_alive_if_its_client_wants_that() {
    let tailnet = Tailnet::with_keep_alive(LONG, Duration::from_millis(1)).await;
    let (a, b) = (tailnet.node("a").await, tailnet.node("b").await);
    let options = StreamOptions { cap_ver: CapVer(142), zstd: false, keep_alive: true, omit_peers: false };
    let mut client = tailnet.open_with(a, options).await;
    client.next().await;
    for _ in 0..3 {
        let frame = client.stream.next().await.unwrap();
        assert_eq!(decode(&frame, false), br#"{"KeepAlive":true}"#);
    }
    let mut other = tailnet.open_with(b, StreamOptions { keep_alive: false, ..options }).await;
    other.next().await;
    other.nothing_before(&tailnet).await;
}

#[tokio::test]
async fn a_policy_that_opens_brings_all_peers_into_sight_with_its_rules() {
    let cluster = cluster();
    let set = |text: &str| Command::SetPolicy { text: text.into(), author: "test".into(), expected_version: None };
    // Written by a newer release, as far as this one can tell: nobody sees anybody.
    cluster.write(set("unreadable")).await.unwrap();
    let tailnet = Tailnet::on(cluster, LONG, LONG).await;
    let (a, b) = (tailnet.node("a").await, tailnet.node("b").await);
    let (mut client, first) = tailnet.join(a).await;
    assert!(first.get("Peers").is_none());
    assert_eq!(first["PacketFilters"]["base"], json!([]));
    assert_eq!(first["UserProfiles"].as_array().unwrap().len(), 1);
    tailnet.rename(b, "hidden").await;
    tailnet.hub.update(NodeUpdate { endpoints: Some(vec![endpoint(1)]), ..tailnet.update(b) }).await.unwrap();
    client.nothing_before(&tailnet).await;

    tailnet.write(set("{}")).await;
    let message = client.next().await;
    assert_eq!(keys(&message), ["DNSConfig", "PacketFilters", "PeersChanged"]);
    assert_eq!(message["PeersChanged"][0]["Name"], "hidden.example.net.");
    client.nothing_before(&tailnet).await;
}

#[tokio::test]
async fn a_policy_that_closes_takes_away_who_is_hidden_and_tells_nobody_else_of_it() {
    let tailnet = Tailnet::on(cluster(), LONG, LONG).await;
    let (a, b, c) = (tailnet.node("a").await, tailnet.node("b").await, tailnet.node("c").await);
    let ip = |node: NodeId| tailnet.cluster.view().node(node).unwrap().ipv4.unwrap().to_string();
    let (mut at_b, first) = tailnet.join(b).await;
    assert_eq!(first["Peers"].as_array().unwrap().len(), 2);
    let (mut at_a, _) = tailnet.join(a).await;
    assert_eq!(at_b.next().await["PeersChangedPatch"][0]["NodeID"], a.0, "it came online");

    let rule = |from: NodeId, to: NodeId| {
        format!(r#"{{"action": "accept", "src": ["{}"], "dst": ["{}:22"]}}"#, ip(from), ip(to))
    };
    let set = |rules: &str| Command::SetPolicy {
        text: format!(r#"{{"acls": [{rules}]}}"#),
        author: "test".into(),
        expected_version: None,
    };
    tailnet.write(set(&rule(a, b))).await;
    let message = at_a.next().await;
    assert_eq!(message["PeersRemoved"], json!([c.0]));
    assert_eq!(message["PacketFilters"]["base"], json!([]));
    let message = at_b.next().await;
    assert_eq!(message["PeersRemoved"], json!([c.0]));
    assert_eq!(message["PacketFilters"]["base"][0]["SrcIPs"], json!([ip(a)]));

    // A rule between others is nothing to them.
    tailnet.write(set(&format!("{}, {}", rule(a, b), rule(c, c)))).await;
    tailnet.derp_map.send_modify(|map| {
        let mut new = DerpMap::clone(map);
        new.regions.insert(7, Default::default());
        *map = Arc::new(new);
    });
    for client in [&mut at_a, &mut at_b] {
        let message = client.next().await;
        let next = keys(&message);
        // What comes with the map of relays may bring the unchanged DNS along.
        assert!(next.iter().all(|key| ["DERPMap", "DNSConfig"].contains(key)), "{next:?}");
    }
}
