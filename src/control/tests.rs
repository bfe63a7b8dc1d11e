use super::machine::testing::machine_router;
use super::noise::Initiator;
use super::noise::NoiseStream;
use super::testing::{Server, cluster};
use crate::state::{COMMAND_FORMAT, Command, Replica, Standing, Time};
use crate::tailcfg::{MachineKey, PrivateKey};
use axum::Router;
use axum::routing::post;
use base64::Engine;
use http::StatusCode;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);

async fn server() -> Server {
    let cluster = cluster();
    let machine = machine_router(&cluster, "http://127.0.0.1:8080", PATIENCE);
    Server::start(cluster, machine).await
}

/// What follows the head of a response with a length.
async fn body(head: &str, mut tcp: TcpStream) -> String {
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
    let mut body = vec![0; length.parse().unwrap()];
    tcp.read_exact(&mut body).await.unwrap();
    String::from_utf8(body).unwrap()
}

async fn get(server: &Server, path: &str) -> (String, String) {
    let (head, tcp) = server.raw(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    let body = body(&head, tcp).await;
    (head, body)
}

#[tokio::test]
async fn the_key_endpoint_gives_both_keys_and_neither_is_zero() {
    let server = server().await;
    let (head, text) = get(&server, "/key?v=142").await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("content-type: application/json"), "{head}");
    let keys: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(keys["publicKey"], MachineKey(server.key).to_string());
    let legacy: MachineKey = keys["legacyPublicKey"].as_str().unwrap().parse().unwrap();
    assert!(!legacy.is_zero());
}

#[tokio::test]
async fn the_key_endpoint_wants_a_version() {
    let server = server().await;
    for (path, status, expected) in [
        ("/key", "400", "capability version must be set"),
        ("/key?v=", "400", "capability version must be set"),
        ("/key?v=new", "400", "capability version must be a number"),
        ("/key?v=38", "200", ""),
    ] {
        let (head, text) = get(&server, path).await;
        assert_eq!((&head[9..12], text.as_str()), (status, expected), "{path}");
    }
}

#[tokio::test]
async fn the_server_knows_who_speaks_on_a_connection() {
    let server = server().await;
    let machine = PrivateKey::generate();
    let client = server.connect(&machine).await;
    let (status, text) = client.ask("GET", "/machine/whoami", "").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(text, format!("{} at 127.0.0.1, capability version 142\n", MachineKey(machine.public())));
}

#[tokio::test]
async fn endpoints_that_are_not_there_say_so() {
    let server = server().await;
    let client = server.connect(&PrivateKey::generate()).await;
    for path in ["set-dns", "set-device-attr", "audit-log", "id-token", "feature/query", "c2n"] {
        let (status, text) = client.ask("POST", &format!("/machine/{path}"), "{}").await;
        assert_eq!(status, StatusCode::NOT_IMPLEMENTED, "{path}");
        assert!(text.to_lowercase().contains("not implemented yet"), "{path}: {text}");
    }
    assert_eq!(client.ask("POST", "/machine/update-health", "{}").await.0, StatusCode::NO_CONTENT);
    for path in ["/machine/tka/bootstrap", "/machine/webclient/init/1/to/2", "/machine", "/key", "/"] {
        assert_eq!(client.ask("GET", path, "").await.0, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn many_requests_share_a_connection() {
    let server = server().await;
    let client = server.connect(&PrivateKey::generate()).await;
    let asks = (0..200).map(|_| client.ask("GET", "/machine/whoami", ""));
    for (status, _) in futures::future::join_all(asks).await {
        assert_eq!(status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_body_too_large_is_refused_and_the_connection_goes_on() {
    let server = server().await;
    let client = server.connect(&PrivateKey::generate()).await;
    let (status, text) = client.ask("POST", "/machine/register", vec![b' '; 1024 * 1024 + 1]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{text}");
    let body = json!({"Version": 142, "NodeKey": "x", "Padding": "x".repeat(1024 * 1024 - 1000)}).to_string();
    assert_eq!(client.ask("POST", "/machine/register", body).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(client.ask("GET", "/machine/whoami", "").await.0, StatusCode::OK);
}

#[tokio::test]
async fn upgrades_that_are_no_upgrades_are_refused_by_name() {
    let server = server().await;
    let upgrade = "Connection: upgrade\r\nUpgrade: tailscale-control-protocol\r\n";
    for (method, headers, expected) in [
        ("POST", String::new(), "missing next protocol"),
        ("GET", String::new(), "missing next protocol"),
        ("POST", "Connection: upgrade\r\nUpgrade: DERP\r\n".into(), "unknown next protocol"),
        ("POST", upgrade.into(), "missing X-Tailscale-Handshake"),
        ("POST", format!("{upgrade}X-Tailscale-Handshake: \r\n"), "missing X-Tailscale-Handshake"),
        ("POST", format!("{upgrade}X-Tailscale-Handshake: ?!\r\n"), "invalid X-Tailscale-Handshake"),
        ("POST", format!("{upgrade}X-Tailscale-Handshake: {}\r\n", "A".repeat(1028)), "invalid X-Tailscale-Handshake"),
    ] {
        let (head, tcp) = server.raw(&format!("{method} /ts2021 HTTP/1.1\r\nHost: x\r\n{headers}\r\n")).await;
        assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
        let text = body(&head, tcp).await;
        assert!(text.starts_with(expected), "{text}");
    }
}

async fn error_frame(mut tcp: TcpStream) -> String {
    assert_eq!(tcp.read_u8().await.unwrap(), 3);
    let mut text = vec![0; tcp.read_u16().await.unwrap().into()];
    tcp.read_exact(&mut text).await.unwrap();
    assert_eq!(tcp.read(&mut [0]).await.unwrap(), 0, "nothing follows an error");
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn handshakes_that_fail_tell_the_client_why() {
    let server = server().await;
    let machine = PrivateKey::generate();
    let old = Initiator::new(&machine, &server.key, 112).initiation;
    let stranger = Initiator::new(&machine, &PrivateKey::generate().public(), 142).initiation;
    for (initiation, expected) in [
        (old, "unsupported client version 112: Tailscale 1.80 or newer is needed"),
        (stranger, "handshake failed: the client does not use this server's key"),
        (vec![7; 50], "malformed handshake: not an initiation frame"),
        (vec![0], "malformed handshake: 1 bytes instead of 101"),
    ] {
        let (head, tcp) = server.upgrade(&initiation).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let text = error_frame(tcp).await;
        assert!(text.starts_with(expected), "{text}");
    }
}

#[tokio::test]
async fn what_comes_in_one_packet_with_the_upgrade_is_not_lost() {
    let server = server().await;
    let initiator = Initiator::new(&PrivateKey::generate(), &server.key, 142);
    let handshake = base64::engine::general_purpose::STANDARD.encode(&initiator.initiation);
    // A frame that ends the connection as soon as it is read.
    let head = format!(
        "POST /ts2021 HTTP/1.1\r\nHost: x\r\nUpgrade: tailscale-control-protocol\r\nConnection: upgrade\r\n\
         X-Tailscale-Handshake: {handshake}\r\n\r\n\u{1}\0\0"
    );
    let (_, tcp) = server.raw(&head).await;
    let mut stream = initiator.connect(tcp).await.unwrap();
    let end = timeout(PATIENCE / 2, stream.read_to_end(&mut Vec::new())).await;
    assert!(end.is_ok(), "the frame after the upgrade was read, and the connection closed");
}

#[tokio::test]
async fn a_record_that_was_tampered_with_ends_the_connection() {
    let server = server().await;
    let initiator = Initiator::new(&PrivateKey::generate(), &server.key, 142);
    let (_, mut tcp) = server.upgrade(&initiator.initiation).await;
    tcp.read_exact(&mut [0; 51]).await.unwrap();
    tcp.write_all(&[4, 0, 20]).await.unwrap();
    tcp.write_all(&[9; 20]).await.unwrap();
    assert!(timeout(PATIENCE / 2, tcp.read_to_end(&mut Vec::new())).await.is_ok());
}

#[tokio::test]
async fn without_a_quorum_there_is_no_upgrade() {
    let server = server().await;
    server.quorum.send_replace(false);
    let initiator = Initiator::new(&PrivateKey::generate(), &server.key, 142);
    let (head, tcp) = server.upgrade(&initiator.initiation).await;
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("retry-after: 5\r\n"), "{head}");
    let text = body(&head, tcp).await;
    assert!(text.contains("the cluster has no leader"), "{text}");
    // The key stays what it is.
    assert!(get(&server, "/key?v=142").await.0.starts_with("HTTP/1.1 200 "));
    server.quorum.send_replace(true);
    server.connect(&PrivateKey::generate()).await;
}

#[tokio::test]
async fn a_replica_whose_earlier_run_is_on_record_sends_clients_elsewhere_until_its_new_one_is() {
    let cluster = cluster();
    let server = Server::start(cluster.clone(), Router::new()).await;
    let initiator = || Initiator::new(&PrivateKey::generate(), &server.key, 142);
    let up = |incarnation| {
        Command::ReplicaUp(Replica {
            id: cluster.id(),
            incarnation,
            since: Time::now(),
            version: "test".into(),
            command_format: COMMAND_FORMAT,
            client_addresses: Vec::new(),
            relay: None,
            config_differs: Vec::new(),
            standing: Standing::Serving,
        })
    };
    cluster.write(up(cluster.incarnation() ^ 1)).await.unwrap();
    let (head, tcp) = server.upgrade(&initiator().initiation).await;
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("retry-after: "), "{head}");
    assert!(body(&head, tcp).await.contains("just started"));
    cluster.write(up(cluster.incarnation())).await.unwrap();
    server.connect(&PrivateKey::generate()).await;
}

/// An endpoint that never answers, and tells when its request is dropped.
fn endless() -> (Router, mpsc::Receiver<&'static str>) {
    struct Ends(mpsc::Sender<&'static str>);
    impl Drop for Ends {
        fn drop(&mut self) {
            let _ = self.0.try_send("ended");
        }
    }
    let (sender, receiver) = mpsc::channel(4);
    let wait = move || {
        let ends = Ends(sender.clone());
        async move {
            let _ = ends.0.try_send("began");
            std::future::pending::<()>().await;
            drop(ends);
        }
    };
    (Router::new().route("/machine/map", post(wait)), receiver)
}

#[tokio::test]
async fn losing_the_quorum_closes_connections_and_ends_their_requests() {
    let (router, mut events) = endless();
    let server = Server::start(cluster(), router).await;
    let client = server.connect(&PrivateKey::generate()).await;
    let request = client.start("POST", "/machine/map", "{}");
    let lost = async {
        assert_eq!(events.recv().await, Some("began"));
        server.quorum.send_replace(false);
        assert_eq!(timeout(PATIENCE, events.recv()).await.unwrap(), Some("ended"));
    };
    let (answer, ()) = tokio::join!(request, lost);
    assert!(answer.is_err());
    timeout(PATIENCE, client.closed).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_request_that_the_client_gives_up_ends_at_once() {
    let (router, mut events) = endless();
    let server = Server::start(cluster(), router).await;
    let client = server.connect(&PrivateKey::generate()).await;
    let request = tokio::spawn(async move {
        let _ = client.start("POST", "/machine/map", "{}").await;
        client
    });
    assert_eq!(events.recv().await, Some("began"));
    request.abort();
    assert_eq!(timeout(PATIENCE, events.recv()).await.unwrap(), Some("ended"));
}

#[tokio::test]
async fn once_the_server_begins_to_stop_a_connection_ends_with_its_stream_and_no_other_begins() {
    let (cluster, go_on) = (cluster(), std::sync::Arc::new(tokio::sync::Notify::new()));
    let wait = {
        let go_on = go_on.clone();
        move || async move { go_on.notified().await }
    };
    let server = Server::start(cluster.clone(), Router::new().route("/machine/map", post(wait))).await;
    let client = server.connect(&PrivateKey::generate()).await;
    let request = client.start("POST", "/machine/map", "{}");
    let leave = async {
        cluster.leave().await;
        let initiator = Initiator::new(&PrivateKey::generate(), &server.key, 142);
        let (head, tcp) = server.upgrade(&initiator.initiation).await;
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        assert!(body(&head, tcp).await.contains("ask another one"));
        go_on.notify_one();
    };
    let (answer, ()) = tokio::join!(request, leave);
    assert_eq!(answer.unwrap().status(), StatusCode::OK, "what was under way ends by itself");
    timeout(PATIENCE, client.closed).await.unwrap().unwrap();
}

#[tokio::test]
async fn stopping_closes_connections() {
    let server = server().await;
    let client = server.connect(&PrivateKey::generate()).await;
    assert_eq!(client.ask("GET", "/machine/whoami", "").await.0, StatusCode::OK);
    server.stop.cancel();
    timeout(PATIENCE, client.closed).await.unwrap().unwrap();
    let initiator = Initiator::new(&PrivateKey::generate(), &server.key, 142);
    assert!(server.upgrade(&initiator.initiation).await.0.starts_with("HTTP/1.1 503 "));
}

/// One binary message of a WebSocket client, masked with zeros, up to 125 bytes.
async fn send_message(tcp: &mut TcpStream, bytes: &[u8]) {
    tcp.write_all(&[0x82, 0x80 | bytes.len() as u8, 0, 0, 0, 0]).await.unwrap();
    tcp.write_all(bytes).await.unwrap();
}

async fn read_message(tcp: &mut TcpStream) -> Vec<u8> {
    assert_eq!(tcp.read_u8().await.unwrap(), 0x82, "a binary message");
    let length = match tcp.read_u8().await.unwrap() {
        126 => tcp.read_u16().await.unwrap().into(),
        short => usize::from(short),
    };
    let mut message = vec![0; length];
    tcp.read_exact(&mut message).await.unwrap();
    message
}

fn web_socket(initiation: &[u8], more: &str) -> String {
    let handshake = base64::engine::general_purpose::STANDARD.encode(initiation);
    let handshake = handshake.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    format!(
        "GET /ts2021?X-Tailscale-Handshake={handshake} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Origin: https://elsewhere.example\r\n{more}\r\n"
    )
}

#[tokio::test]
async fn browsers_come_in_through_a_web_socket() {
    let server = server().await;
    let initiator = Initiator::new(&PrivateKey::generate(), &server.key, 142);
    let protocol = "Sec-WebSocket-Protocol: tailscale-control-protocol\r\n";
    let (head, mut tcp) = server.raw(&web_socket(&initiator.initiation, protocol)).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("sec-websocket-protocol: tailscale-control-protocol\r\n"), "{head}");
    let response = read_message(&mut tcp).await;
    assert_eq!(response.len(), 51, "no early payload here");

    // The client's first record, in messages that are cut anywhere.
    let keys = initiator.finish(&response).unwrap();
    let (mut wire, io) = tokio::io::duplex(4096);
    let mut noise = NoiseStream::new(io, &keys, &[]);
    noise.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    noise.flush().await.unwrap();
    let mut record = vec![0; 24 + 9 + 3 + 16];
    wire.read_exact(&mut record).await.unwrap();
    for part in record.chunks(7) {
        send_message(&mut tcp, part).await;
    }
    wire.write_all(&read_message(&mut tcp).await).await.unwrap();
    let mut frame = [0; 9];
    noise.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame[3], 4, "a SETTINGS frame: {frame:?}");
}

#[tokio::test]
async fn a_web_socket_without_the_subprotocol_is_refused() {
    let server = server().await;
    let initiator = Initiator::new(&PrivateKey::generate(), &server.key, 142);
    let (head, tcp) = server.raw(&web_socket(&initiator.initiation, "")).await;
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    assert!(body(&head, tcp).await.contains("tailscale-control-protocol"));
}

#[tokio::test]
async fn a_client_joins_over_the_wire() {
    let server = server().await;
    let client = server.connect(&PrivateKey::generate()).await;
    let node_key = format!("nodekey:{}", "1".repeat(64));
    let request = json!({"Version": 142, "NodeKey": node_key, "Hostinfo": {"Hostname": "web1"}}).to_string();
    let (status, text) = client.ask("POST", "/machine/register", request).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert!(answer["AuthURL"].as_str().unwrap().starts_with("http://127.0.0.1:8080/register/hskey-authreq-"), "{text}");
}
