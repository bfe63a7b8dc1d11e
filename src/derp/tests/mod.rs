//! The relay as clients see it, over real TLS.

mod client;

pub use client::relay_for_tests;

use super::frame::{MAX_PACKET, kind};
use super::*;
use crate::tailcfg::{DerpMap, NodeKey, PrivateKey};
use client::{Client, GO_INFO, PATIENCE, RUST_INFO, Server, UPGRADE};
use futures::FutureExt;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

const DISCONNECTED: u8 = 0;
const NOT_HERE: u8 = 1;

fn disco(text: &[u8]) -> Vec<u8> {
    ["TS💬".as_bytes(), &[0; 56], text].concat()
}

/// Waits for a condition that the relay reaches on its own.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("waited in vain: {what}"));
}

#[tokio::test]
async fn packets_go_both_ways() {
    let server = Server::start(admit_all()).await;
    let (mut a, mut b) = (server.client().await, server.client().await);
    a.send(&b.key, b"to b").await;
    assert_eq!(b.recv_packet().await, (a.key, b"to b".to_vec()));
    b.send(&a.key, b"to a").await;
    assert_eq!(a.recv_packet().await, (b.key, b"to a".to_vec()));
    let largest = vec![7; MAX_PACKET];
    a.send(&b.key, &largest).await;
    assert_eq!(b.recv_packet().await, (a.key, largest));
    assert_eq!(server.relay.clients(), 2);
}

#[tokio::test]
async fn the_rust_client_can_connect() {
    let server = Server::start(admit_all()).await;
    // Another method, and another description of itself.
    let stream =
        server.upgrade(&UPGRADE.replace("GET", "POST").replace("Host: x", "Host: x\r\nContent-Length: 0")).await;
    let mut client = Client::handshake(stream, PrivateKey::generate(), RUST_INFO).await.unwrap();
    client.sync().await;
}

#[tokio::test]
async fn a_browser_can_connect_with_a_websocket() {
    let server = Server::start(admit_all()).await;
    let head = "GET /derp HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Origin: https://elsewhere.example.com\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: derp\r\n\r\n";
    let stream = WebSocket { stream: server.upgrade(head).await, unread: Vec::new() };
    let mut browser = Client::handshake(stream.into_duplex(), PrivateKey::generate(), GO_INFO).await.unwrap();
    let mut other = server.client().await;
    browser.send(&other.key, b"from a browser").await;
    assert_eq!(other.recv_packet().await, (browser.key, b"from a browser".to_vec()));
    other.send(&browser.key, b"to a browser").await;
    assert_eq!(browser.recv_packet().await, (other.key, b"to a browser".to_vec()));
}

/// A WebSocket client that knows binary messages only.
struct WebSocket<S> {
    stream: S,
    unread: Vec<u8>,
}

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static> WebSocket<S> {
    /// The bytes in the messages, as a stream. What is written in one piece becomes two
    /// messages, so that frames are cut.
    fn into_duplex(self) -> tokio::io::DuplexStream {
        let (outside, inside) = tokio::io::duplex(1 << 20);
        let (mut from_client, mut to_client) = tokio::io::split(inside);
        let (mut reader, mut writer) = tokio::io::split(self.stream);
        let mut unread = self.unread;
        tokio::spawn(async move {
            let mut buffer = vec![0; 60];
            while let Ok(len @ 1..) = from_client.read(&mut buffer).await {
                for part in buffer[..len].chunks(len.div_ceil(2)) {
                    // Final, binary; masked with zeros.
                    let head = [0x82, 0x80 | part.len() as u8, 0, 0, 0, 0];
                    writer.write_all(&[&head, part].concat()).await.unwrap();
                    writer.flush().await.unwrap();
                }
            }
        });
        tokio::spawn(async move {
            while let Ok(0x82) = reader.read_u8().await {
                let len = match reader.read_u8().await.unwrap() {
                    126 => reader.read_u16().await.unwrap().into(),
                    127 => reader.read_u64().await.unwrap() as usize,
                    len => usize::from(len),
                };
                unread.resize(len, 0);
                reader.read_exact(&mut unread).await.unwrap();
                to_client.write_all(&unread).await.unwrap();
            }
        });
        outside
    }
}

#[tokio::test]
async fn a_client_that_asks_for_a_fast_start_gets_frames_and_no_response() {
    let server = Server::start(admit_all()).await;
    let mut stream = server.dial().await;
    stream.write_all(UPGRADE.replace("Host: x", "Host: x\r\nDerp-Fast-Start: 1").as_bytes()).await.unwrap();
    let mut client = Client::handshake(stream, PrivateKey::generate(), GO_INFO).await.unwrap();
    client.sync().await;
}

#[tokio::test]
async fn peers_are_told_when_a_client_is_gone() {
    let server = Server::start(admit_all()).await;
    let (mut a, mut b) = (server.client().await, server.client().await);
    a.send(&b.key, b"hello").await;
    b.recv_packet().await;
    let gone = a.key;
    drop(a);
    assert_eq!(b.recv().await.unwrap(), (kind::PEER_GONE, [gone.0.as_slice(), &[DISCONNECTED]].concat()));
}

#[tokio::test]
async fn a_client_is_told_seldom_that_a_peer_is_not_here() {
    let server = Server::start(admit_all()).await;
    let mut client = server.client().await;
    let absent = NodeKey([9; 32]);
    client.send(&absent, b"data asks for nothing").await;
    for n in 0..20 {
        client.send(&absent, &disco(&[n])).await;
    }
    client.send_frame(kind::PING, b"12345678").await;
    let mut told = 0;
    loop {
        match client.recv().await.unwrap() {
            (kind::PONG, _) => break,
            frame => assert_eq!(frame, (kind::PEER_GONE, [absent.0.as_slice(), &[NOT_HERE]].concat())),
        }
        told += 1;
    }
    // Three at once, and perhaps one more for each second that this took.
    assert!((1..=3 + PATIENCE.as_secs()).contains(&told) && told < 20, "{told}");
}

#[tokio::test]
async fn the_newest_connection_of_a_key_gets_its_packets() {
    let server = Server::start(admit_all()).await;
    let key = PrivateKey::generate();
    let mut old = server.client_with(key.clone()).await;
    let mut new = server.client_with(key).await;
    let mut peer = server.client().await;
    peer.send(&new.key, b"first").await;
    assert_eq!(new.recv_packet().await.1, b"first");
    // The one that speaks last becomes the active one.
    old.sync().await;
    peer.send(&old.key, b"second").await;
    assert_eq!(old.recv_packet().await.1, b"second");
    // When it goes, the other one is still there, and the peer is not told anything.
    old.send(&peer.key, b"from old").await;
    assert_eq!(peer.recv_packet().await.1, b"from old");
    drop(old);
    until("the old connection is forgotten", || server.relay.inner.registry.all().len() == 2).await;
    peer.send(&new.key, b"third").await;
    assert_eq!(new.recv_packet().await.1, b"third");
    peer.sync().await;
    assert_eq!(server.relay.clients(), 2);
    let gone = new.key;
    drop(new);
    assert_eq!(peer.recv().await.unwrap(), (kind::PEER_GONE, [gone.0.as_slice(), &[DISCONNECTED]].concat()));
}

#[tokio::test]
async fn a_client_that_does_not_read_does_not_hold_up_others() {
    let server = Server::start(admit_all()).await;
    let (slow, mut fast, mut sender) = (server.client().await, server.client().await, server.client().await);
    let packet = vec![1; 16 * 1024];
    // Far more than its queue and all socket buffers take.
    for n in 0..1000u32 {
        sender.send(&slow.key, &packet).await;
        if n % 100 == 0 {
            sender.send(&fast.key, &n.to_be_bytes()).await;
            assert_eq!(fast.recv_packet().await.1, n.to_be_bytes());
        }
    }
    sender.sync().await;
    // It read nothing for too long, so it is dropped, and the others are told nothing else.
    until("the slow client is disconnected", || server.relay.clients() == 2).await;
    sender.send(&fast.key, b"still here").await;
    assert_eq!(fast.recv_packet().await.1, b"still here");
    slow.closed().await;
}

#[tokio::test]
async fn a_client_cannot_take_another_ones_key() {
    let server = Server::start(admit_all()).await;
    let victim = server.client().await;
    let thief = PrivateKey::generate();
    let mut stream = server.upgrade(UPGRADE).await;
    let mut first = vec![0; 5 + 8 + 32];
    stream.read_exact(&mut first).await.unwrap();
    let relay = NodeKey(first[13..].try_into().unwrap());
    let sealed = handshake::seal(&thief, &relay, GO_INFO.as_bytes());
    let claim = frame::frame(kind::CLIENT_INFO, &[&victim.key.0, &sealed]);
    stream.write_all(&claim).await.unwrap();
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, b"");
    assert_eq!(server.relay.clients(), 1);
}

#[tokio::test]
async fn a_client_that_is_not_admitted_is_refused() {
    let admitted = PrivateKey::generate();
    let known = NodeKey(admitted.public());
    let admit: Admit = Arc::new(move |key, addr| {
        assert!(addr.is_loopback(), "{addr}");
        std::future::ready(key == known).boxed()
    });
    let server = Server::start(admit).await;
    assert!(server.try_client(PrivateKey::generate()).await.is_err());
    server.try_client(admitted).await.unwrap();
    assert_eq!(server.relay.clients(), 1);
}

#[tokio::test]
async fn a_frame_that_breaks_the_rules_ends_its_connection_only() {
    let server = Server::start(admit_all()).await;
    let mut bystander = server.client().await;
    let too_long = |len: usize| u32::try_from(len).unwrap().to_be_bytes();
    let cases = [
        ("an oversized packet", kind::SEND_PACKET, too_long(32 + MAX_PACKET + 1)),
        ("a packet without a destination", kind::SEND_PACKET, too_long(31)),
        ("an unknown frame that never ends", 0x77, too_long(u32::MAX as usize)),
        ("a short ping", kind::PING, too_long(7)),
        ("a long ping", kind::PING, too_long(1001)),
        ("a mesh frame", kind::WATCH_CONNS, too_long(0)),
        ("another mesh frame", kind::FORWARD_PACKET, too_long(64)),
        ("a third mesh frame", kind::CLOSE_PEER, too_long(32)),
    ];
    for (what, kind, len) in cases {
        let mut client = server.client().await;
        client.stream.write_all(&[&[kind], len.as_slice()].concat()).await.unwrap();
        tokio::time::timeout(PATIENCE, client.closed()).await.expect(what);
        until(what, || server.relay.clients() == 1).await;
    }
    bystander.sync().await;
}

#[tokio::test]
async fn frames_of_unknown_types_are_skipped() {
    let server = Server::start(admit_all()).await;
    let mut client = server.client().await;
    client.send_frame(0x77, &vec![0; 100_000]).await;
    client.sync().await;
    client.send_frame(kind::PING, &[b"abcdefgh".as_slice(), &[0; 100]].concat()).await;
    assert_eq!(client.recv().await.unwrap(), (kind::PONG, b"abcdefgh".to_vec()));
}

#[tokio::test]
async fn the_first_frame_has_to_be_the_clients_description() {
    let server = Server::start(admit_all()).await;
    for bad in [
        frame::frame(kind::PING, &[&[0; 8]]),
        frame::frame(kind::CLIENT_INFO, &[&[0; 55]]),
        frame::frame(kind::CLIENT_INFO, &[&[0; 200_000]]),
        frame::frame(kind::CLIENT_INFO, &[&[0; 100]]),
    ] {
        let mut stream = server.upgrade(UPGRADE).await;
        // The relay may hang up before all of it is written.
        let _ = stream.write_all(&bad).await;
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
        assert!(rest.len() <= 5 + 8 + 32, "nothing after the relay's key");
    }
    assert_eq!(server.relay.clients(), 0);
}

#[tokio::test]
async fn clients_are_told_what_is_wrong_with_the_relay() {
    let server = Server::start(admit_all()).await;
    let mut early = server.client().await;
    server.relay.set_problem("no quorum");
    let mut late = server.client().await;
    assert_eq!(early.recv().await.unwrap(), (kind::HEALTH, b"no quorum".to_vec()));
    assert_eq!(late.recv().await.unwrap(), (kind::HEALTH, b"no quorum".to_vec()));
    server.relay.set_problem("");
    assert_eq!(early.recv().await.unwrap(), (kind::HEALTH, Vec::new()));
}

#[tokio::test]
async fn clients_are_told_of_a_restart_before_their_connections_close() {
    let server = Server::start(admit_all()).await;
    let mut client = server.client().await;
    server.relay.shutdown().await;
    assert_eq!(server.relay.clients(), 0);
    let (kind, payload) = client.recv().await.unwrap();
    assert_eq!((kind, payload.len()), (kind::RESTARTING, 8));
    client.closed().await;
    server.ended().await;
}

#[tokio::test]
async fn small_answers_are_as_clients_expect() {
    let server = Server::start(admit_all()).await;
    let get = async |path: &str, headers: &str| {
        server.ask(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n")).await
    };
    assert!(get("/derp", "").await.starts_with("HTTP/1.1 426 "));
    assert!(get("/derp", "Upgrade: other\r\n").await.starts_with("HTTP/1.1 426 "));
    for path in ["/derp/probe", "/derp/latency-check"] {
        let answer = get(path, "").await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("access-control-allow-origin: *"), "{answer}");
        let posted = format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        assert!(server.ask(&posted).await.starts_with("HTTP/1.1 405 "));
    }
    let answer = get("/generate_204", "X-Tailscale-Challenge: ts_127.0.0.1\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    assert!(answer.contains("x-tailscale-response: response ts_127.0.0.1\r\n"), "{answer}");
    let answer = get("/generate_204", "X-Tailscale-Challenge: <script>\r\n").await;
    assert!(!answer.contains("x-tailscale-response"), "{answer}");
    assert!(get("/bootstrap-dns?q=127.0.0.1", "").await.ends_with(r#"{"127.0.0.1":["127.0.0.1"]}"#));
    assert!(get("/bootstrap-dns?q=example.com", "").await.ends_with("{}"));
}

#[tokio::test]
async fn the_debug_page_shows_who_is_connected() {
    let server = Server::start(admit_all()).await;
    let mut client = server.client().await;
    client.send_frame(kind::NOTE_PREFERRED, &[1]).await;
    client.sync().await;
    let (_publish, map) = watch::channel(Arc::new(DerpMap::default()));
    let page = debug_page(Some(server.relay.clone()), map);
    let router = axum::Router::new().route("/debug/derp", page.handler);
    let request = axum::http::Request::get("/debug/derp").body(axum::body::Body::empty()).unwrap();
    let response = tower::ServiceExt::oneshot(router, request).await.unwrap();
    let text = axum::body::to_bytes(response.into_body(), 100_000).await.unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    assert!(text.contains("1 clients, 1 connections, 1 of them with their home here"), "{text}");
    assert!(text.contains(&client.key.short()), "{text}");
}
