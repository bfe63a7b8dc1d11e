//! Who is online, and when.

use super::*;
use crate::cluster::{Unavailable, WriteError};
use serde_json::json;

#[tokio::test]
async fn a_node_is_online_from_its_first_message_until_the_grace_after_its_stream() {
    let tailnet = Tailnet::new(Duration::from_millis(1)).await;
    let (a, b) = (tailnet.node("a").await, tailnet.node("b").await);
    let (mut of_a, _) = tailnet.join(a).await;
    let (of_b, first) = tailnet.join(b).await;
    assert!(tailnet.cluster.view().is_online(b));
    assert_eq!(first["Peers"][0]["Online"], true);
    assert_eq!(of_a.next().await, json!({ "PeersChangedPatch": [{ "NodeID": b.0, "Online": true }] }));
    drop(of_b);
    let message = of_a.next().await;
    assert_eq!(message["PeersChangedPatch"][0]["Online"], false);
    assert!(message["PeersChangedPatch"][0]["LastSeen"].is_string());
}

#[tokio::test]
async fn nobody_sees_a_quick_reconnect() {
    let tailnet = Tailnet::new(LONG).await;
    let (a, b) = (tailnet.node("a").await, tailnet.node("b").await);
    let (of_b, _) = tailnet.join(b).await;
    let (mut of_a, _) = tailnet.join(a).await;
    let before = tailnet.wait_for_sessions(b, |sessions| sessions.len() == 1).await;
    drop(of_b);
    let _of_b = tailnet.join(b).await;
    // The old session goes without waiting for the grace, once the new one is there.
    tailnet.wait_for_sessions(b, |sessions| sessions.len() == 1 && sessions != before).await;
    of_a.nothing_before(&tailnet).await;
}

#[tokio::test]
async fn a_second_stream_replaces_the_first_once_it_has_its_first_message() {
    let tailnet = Tailnet::new(LONG).await;
    let a = tailnet.node("a").await;
    let (mut first, _) = tailnet.join(a).await;
    let mut second = tailnet.open(a).await;
    first.nothing_before(&tailnet).await;
    assert_eq!(tailnet.hub.streams(), 2);
    second.next().await;
    assert!(first.try_next().await.is_none());
    assert_eq!(tailnet.hub.streams(), 1);
    // Its session closes though nobody let go of the old stream.
    tailnet.wait_for_sessions(a, |sessions| sessions.len() == 1).await;
    second.next().await; // The DERP map, which changed before its first message was read.
    second.nothing_before(&tailnet).await;
}

#[tokio::test]
async fn a_session_that_the_cluster_closed_by_mistake_is_opened_anew() {
    let tailnet = Tailnet::new(LONG).await;
    let a = tailnet.node("a").await;
    let (_client, _) = tailnet.join(a).await;
    let before = tailnet.wait_for_sessions(a, |sessions| sessions.len() == 1).await;
    let (replica, incarnation) = (tailnet.cluster.id(), tailnet.cluster.incarnation());
    tailnet.write(Command::CloseSessionsOf { replica, incarnation }).await;
    tailnet.wait_for_sessions(a, |sessions| sessions.len() == 1 && sessions != before).await;
    assert_eq!(tailnet.hub.streams(), 1);
}

#[tokio::test]
async fn a_session_that_was_opened_anew_closes_with_its_stream() {
    let tailnet = Tailnet::new(Duration::from_millis(1)).await;
    let a = tailnet.node("a").await;
    let (client, _) = tailnet.join(a).await;
    let before = tailnet.wait_for_sessions(a, |sessions| sessions.len() == 1).await;
    let (replica, incarnation) = (tailnet.cluster.id(), tailnet.cluster.incarnation());
    tailnet.write(Command::CloseSessionsOf { replica, incarnation }).await;
    tailnet.wait_for_sessions(a, |sessions| sessions.len() == 1 && sessions != before).await;
    drop(client);
    tailnet.wait_for_sessions(a, |sessions| sessions.is_empty()).await;
}

#[tokio::test]
async fn a_poll_with_another_key_is_refused_and_leaves_nothing() {
    let tailnet = Tailnet::new(LONG).await;
    let a = tailnet.node("a").await;
    let update = NodeUpdate { node_key: NodeKey(bytes(9, 9)), ..tailnet.update(a) };
    let options = StreamOptions { cap_ver: CapVer(142), zstd: true, keep_alive: true, omit_peers: false };
    let refused = tailnet.hub.open(update, options).await.err();
    assert!(matches!(refused, Some(WriteError::Refused(Refused::NodeKeyUnknown))), "{refused:?}");
    assert_eq!(tailnet.hub.streams(), 0);
    assert!(!tailnet.cluster.view().is_online(a));
}

#[tokio::test]
async fn many_streams_that_open_at_once_are_one_command() {
    let tailnet = Tailnet::new(LONG).await;
    let mut nodes = Vec::new();
    for n in 0..50 {
        nodes.push(tailnet.node(&format!("n{n}")).await);
    }
    let before = tailnet.cluster.view().index();
    let clients = futures::future::join_all(nodes.iter().map(|id| tailnet.open(*id))).await;
    assert_eq!(clients.len(), 50);
    let commands = tailnet.cluster.view().index() - before;
    assert!(commands <= 2, "{commands} commands");
    assert!(nodes.iter().all(|id| tailnet.cluster.view().is_online(*id)));
}

#[tokio::test]
async fn without_a_quorum_all_streams_end_and_none_opens() {
    let tailnet = Tailnet::new(LONG).await;
    let a = tailnet.node("a").await;
    let (mut client, _) = tailnet.join(a).await;
    tailnet.cluster.set_quorum(false);
    assert!(client.try_next().await.is_none());
    let options = StreamOptions { cap_ver: CapVer(142), zstd: true, keep_alive: true, omit_peers: false };
    let refused = tailnet.hub.open(tailnet.update(a), options).await.err();
    assert!(matches!(refused, Some(WriteError::Unavailable(Unavailable::NoQuorum))), "{refused:?}");
    tailnet.cluster.set_quorum(true);
    let before = tailnet.wait_for_sessions(a, |sessions| sessions.len() == 1).await;
    let (mut client, _) = tailnet.join(a).await;
    client.nothing_before(&tailnet).await;
    // The session that could not be closed without a quorum goes afterwards.
    tailnet.wait_for_sessions(a, |sessions| sessions.len() == 1 && sessions != before).await;
}

#[tokio::test]
async fn time_without_a_quorum_is_not_part_of_the_grace() {
    let grace = Duration::from_millis(500);
    let tailnet = Tailnet::new(grace).await;
    let (a, b) = (tailnet.node("a").await, tailnet.node("b").await);
    let (mut of_a, _) = tailnet.join(a).await;
    tailnet.cluster.set_quorum(false);
    assert!(of_a.try_next().await.is_none());
    drop(of_a);
    tokio::time::sleep(grace * 2).await;
    tailnet.cluster.set_quorum(true);
    let back = std::time::Instant::now();
    let (mut of_b, first) = tailnet.join(b).await;
    assert_eq!(first["Peers"][0]["Online"], true, "it could not come back yet");
    assert_eq!(of_b.next().await["PeersChangedPatch"][0]["Online"], false);
    assert!(back.elapsed() >= grace, "{:?}", back.elapsed());
}

#[tokio::test]
async fn a_drained_hub_ends_all_streams_and_takes_no_more() {
    let tailnet = Tailnet::new(LONG).await;
    let (a, b) = (tailnet.node("a").await, tailnet.node("b").await);
    let (mut of_a, _) = tailnet.join(a).await;
    let (mut of_b, _) = tailnet.join(b).await;
    let read_on = async {
        while of_a.try_next().await.is_some() {}
        while of_b.try_next().await.is_some() {}
        drop((of_a, of_b));
    };
    tokio::join!(tailnet.hub.drain(Duration::from_millis(2)), read_on);
    assert_eq!(tailnet.hub.streams(), 0);
    let options = StreamOptions { cap_ver: CapVer(142), zstd: true, keep_alive: true, omit_peers: false };
    let refused = tailnet.hub.open(tailnet.update(a), options).await.err();
    assert!(matches!(refused, Some(WriteError::Unavailable(Unavailable::Stopping))), "{refused:?}");
}

#[tokio::test]
async fn a_thousand_streams_end_in_a_spread_of_two_seconds() {
    const STREAMS: usize = 1000;
    let tailnet = Tailnet::new(LONG).await;
    let options = StreamOptions { cap_ver: CapVer(142), zstd: true, keep_alive: true, omit_peers: true };
    let mut nodes = Vec::new();
    for n in 0..STREAMS {
        nodes.push(tailnet.node(&format!("n{n}")).await);
    }
    let clients = futures::future::join_all(nodes.iter().map(|id| tailnet.open_with(*id, options))).await;
    assert_eq!(tailnet.hub.streams(), STREAMS);
    let begun = std::time::Instant::now();
    let mut readers = tokio::task::JoinSet::new();
    for mut client in clients {
        readers.spawn(async move {
            while client.try_next().await.is_some() {}
            begun.elapsed()
        });
    }
    tailnet.hub.drain(Duration::from_secs(2)).await;
    let took = begun.elapsed();
    let mut ends = readers.join_all().await;
    ends.sort();
    assert!(took < Duration::from_secs(25), "promised in five seconds, took {took:?}");
    let spread = ends[STREAMS * 9 / 10] - ends[STREAMS / 10];
    assert!(spread >= Duration::from_secs(1), "most end within {spread:?}: that is no spread");
}

#[tokio::test]
async fn a_lite_update_is_answered_when_applied_and_does_not_disturb_its_stream() {
    let tailnet = Tailnet::new(LONG).await;
    let a = tailnet.node("a").await;
    let (mut client, _) = tailnet.join(a).await;
    let update = NodeUpdate {
        disco_key: Some(disco(1)),
        endpoints: Some(vec![endpoint(1)]),
        hostinfo: Some(Hostinfo { json: r#"{"Hostname":"a","OS":"linux","App":"x"}"#.into(), ..hostinfo("a") }),
        ..tailnet.update(a)
    };
    tailnet.hub.update(update).await.unwrap();
    assert_eq!(tailnet.cluster.view().node(a).unwrap().disco_key, Some(disco(1)));
    client.nothing_before(&tailnet).await;
}

#[tokio::test]
async fn a_lite_update_that_was_cancelled_is_not_applied() {
    let tailnet = Tailnet::new(LONG).await;
    let a = tailnet.node("a").await;
    let cancelled = NodeUpdate { disco_key: Some(disco(1)), ..tailnet.update(a) };
    let mut future = Box::pin(tailnet.hub.update(cancelled));
    assert!(futures::poll!(&mut future).is_pending());
    drop(future);
    tailnet.hub.update(NodeUpdate { endpoints: Some(vec![endpoint(1)]), ..tailnet.update(a) }).await.unwrap();
    let node = tailnet.cluster.view().node(a).unwrap().clone();
    assert_eq!((node.disco_key, node.endpoints.clone()), (None, vec![endpoint(1)]));
}

#[tokio::test]
async fn a_replica_that_restarts_serves_streams_once_the_cluster_knows_of_it() {
    let tailnet = Tailnet::new(LONG).await;
    let a = tailnet.node("a").await;
    let now = replica(tailnet.cluster.id().0, &tailnet.cluster);
    tailnet.write(Command::ReplicaUp(Replica { incarnation: now.incarnation ^ 1, ..now.clone() })).await;
    let mut opening = Box::pin(tailnet.open(a));
    assert!(futures::poll!(&mut opening).is_pending());
    tailnet.write(Command::ReplicaUp(now)).await;
    let mut client = opening.await;
    assert_eq!(client.next().await["Node"]["ID"], a.0);
}
