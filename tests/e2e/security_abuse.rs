//! Strangers who are slow, or who never finish what they began.

use crate::support::{Cluster, Machine, Session, request, server_key};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// The longest deadline is 30 s, for a body.
const LATE: Duration = Duration::from_secs(150);

/// Sends `first`, then `more` every two seconds; gives how long the server bore it.
async fn borne(address: (std::net::Ipv4Addr, u16), first: &[u8], more: &[u8]) -> Option<Duration> {
    let begun = Instant::now();
    let (mut read, mut write) = TcpStream::connect(address).await.expect("a connection").into_split();
    write.write_all(first).await.expect("the first bytes are taken");
    let slow = async {
        while write.write_all(more).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    };
    let mut waste = [0; 4096];
    let ended = async { while read.read(&mut waste).await.is_ok_and(|read| read > 0) {} };
    let both = async {
        tokio::select! {
            () = slow => {}
            () = ended => {}
        }
    };
    tokio::time::timeout(LATE, both).await.ok().map(|()| begun.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_half_open_connections_end_by_themselves() {
    let cluster = Cluster::start(1).await;
    let (address, key) = (cluster.address(1), server_key(&cluster.url(1)).await);
    let handshake = Session::initiation(&key, &Machine::new("half-open"));
    let upgrade = format!(
        "POST /ts2021 HTTP/1.1\r\nHost: x\r\nUpgrade: tailscale-control-protocol\r\nConnection: upgrade\r\n\
         X-Tailscale-Handshake: {handshake}\r\n\r\n"
    );
    let body = "POST /verify HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n";
    let key_of_api = "POST /api/v1/user HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n";
    let tls: &[u8] = b"\x16\x03\x01\x02\x00";
    let cases: [(&str, u16, &[u8], &[u8]); 8] = [
        ("nothing", 8080, b"", b""),
        ("a head that never ends", 8080, b"GET /key?v=142 HTTP/1.1\r\n", b"X-A: b\r\n"),
        ("a body that never ends", 8080, body.as_bytes(), b" "),
        ("a body without a key", 8080, key_of_api.as_bytes(), b" "),
        ("a Noise handshake that stops", 8080, upgrade.as_bytes(), b""),
        ("TLS at the relay that stops", 8443, tls, b""),
        ("nothing at the relay", 8443, b"", b""),
        ("TLS at the peer port that stops", 7946, tls, b""),
    ];
    let all = cases.map(|(what, port, first, more)| async move { (what, borne((address, port), first, more).await) });
    for (what, took) in futures::future::join_all(all).await {
        let took = took.unwrap_or_else(|| panic!("{what}: the connection is still open after {} s", LATE.as_secs()));
        println!("{what}: {:.0} s", took.as_secs_f64());
    }
    let health = request("GET", &format!("{}/health", cluster.url(1)), &[], b"").await.expect("an answer");
    assert_eq!(health.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_pages_and_metrics_ask_under_which_name_they_were_found() {
    let cluster = Cluster::start(1).await;
    let metrics = format!("http://{}:9090/metrics", cluster.address(1));
    let evil = [("Host", "evil.example")];
    let cases = [
        (format!("{}/apple", cluster.url(1)), 421),
        (metrics, 421),
        (format!("{}/health", cluster.url(1)), 200),
        (format!("{}/key?v=142", cluster.url(1)), 200),
        (format!("{}/ts2021", cluster.url(1)), 400),
        (format!("{}/api/v1/user", cluster.url(1)), 401),
    ];
    for (url, status) in cases {
        let reply = request("GET", &url, &evil, b"").await.expect("an answer");
        assert_eq!(reply.status, status, "{url}: {reply:?}");
        let reply = request("GET", &url, &[], b"").await.expect("an answer");
        assert_ne!(reply.status, 421, "{url}: {reply:?}");
    }
}
