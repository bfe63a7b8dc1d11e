//! Whatever arrives: a clear error, nothing changed, nothing crashed.

use crate::support::{Cluster, Machine, Reply, Session, raw_upgrade, request, server_key};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn send(url: &str, method: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    request(method, url, headers, body).await.unwrap_or_else(|e| panic!("an answer: {e}"))
}

/// The replica is as well as before, and has no more than before.
async fn unharmed(cluster: &Cluster) {
    let health = send(&format!("{}/health", cluster.url(1)), "GET", &[], b"").await;
    assert_eq!(health.status, 200, "{health:?}");
    assert!(cluster.nodes(1).is_empty(), "no node came of it");
    assert_eq!(cluster.json(1, &["users", "list"]), json!([]), "no user came of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plain_endpoints_say_what_is_wrong() {
    let cluster = Cluster::start(1).await;
    let url = cluster.url(1);
    let large = vec![b' '; 5000];
    let cases: &[(&str, &str, &[u8], &[u16])] = &[
        ("GET", "/key", b"", &[400]),
        ("GET", "/key?v=new", b"", &[400]),
        ("GET", "/register/nonsense", b"", &[400]),
        ("GET", "/register/hskey-authreq-%3Cimg%20src=x%3E", b"", &[400]),
        ("GET", "/auth/nonsense", b"", &[400]),
        ("POST", "/verify", b"{", &[400]),
        ("POST", "/verify", &large, &[413]),
        ("GET", "/verify", b"", &[405]),
        ("GET", "/ts2021", b"", &[400, 426, 500]),
        ("POST", "/ts2021", b"", &[400, 426, 500]),
        ("HEAD", "/machine/ping-response", b"", &[400, 404]),
        ("GET", "/no/such/page", b"", &[404]),
    ];
    for (method, path, body, expected) in cases {
        let reply = send(&format!("{url}{path}"), method, &[], body).await;
        assert!(expected.contains(&reply.status), "{method} {path}: {reply:?} has one of {expected:?}");
        assert!(!reply.body.contains("<img src=x"), "{method} {path} echoes nothing unescaped");
    }
    unharmed(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_says_what_is_wrong() {
    let cluster = Cluster::start(1).await;
    let url = format!("{}/api/v1", cluster.url(1));
    let key = format!("Bearer {}", cluster.ok(1, &["apikeys", "create"]));
    let json_type = ("Content-Type", "application/json");
    let with_key = [("Authorization", key.as_str()), json_type];

    for headers in [&[json_type][..], &[("Authorization", "Bearer nonsense"), json_type]] {
        let reply = send(&format!("{url}/user"), "GET", headers, b"").await;
        assert_eq!(reply.status, 401, "{reply:?}");
        assert!(reply.header("content-type").starts_with("application/problem+json"), "{reply:?}");
    }

    let large = vec![b'x'; 8 << 20];
    let cases: &[(&str, &str, &[u8], &[u16])] = &[
        ("POST", "/user", b"{", &[400, 422]),
        ("POST", "/user", b"[]", &[400, 422]),
        ("POST", "/user", br#"{"name": 7}"#, &[400, 422]),
        ("POST", "/user", br#"{"nmae": "alice"}"#, &[422]),
        ("POST", "/user", br#"{"name": "alice@"}"#, &[400]),
        ("POST", "/user", &large, &[413]),
        ("DELETE", "/user/99", b"", &[404]),
        ("DELETE", "/user/x", b"", &[400, 422]),
        ("GET", "/node/99", b"", &[404]),
        ("GET", "/node/x", b"", &[400, 422]),
        ("GET", "/node?user=nobody", b"", &[404]),
        ("POST", "/node/99/tags", br#"{"tags": ["tag:x"]}"#, &[404]),
        ("POST", "/node/register?user=nobody&key=hskey-authreq-000000000000000000000000", b"", &[404]),
        ("POST", "/preauthkey", br#"{"user": "99"}"#, &[404]),
        ("POST", "/preauthkey", br#"{"aclTags": ["web"]}"#, &[400]),
        ("POST", "/preauthkey/expire", br#"{"id": "99"}"#, &[404]),
        ("PUT", "/policy", br#"{"policy": "{"}"#, &[400]),
        ("GET", "/nothing", b"", &[404]),
    ];
    for (method, path, body, expected) in cases {
        let reply = send(&format!("{url}{path}"), method, &with_key, body).await;
        assert!(expected.contains(&reply.status), "{method} {path}: {reply:?} has one of {expected:?}");
    }
    unharmed(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_is_none_ends_the_connection() {
    let cluster = Cluster::start(1).await;
    let address = cluster.address(1);
    let mut garbage = vec![0x5a; 101];
    garbage[..5].copy_from_slice(&[0, 142, 1, 0, 96]);
    let mut old = garbage.clone();
    old[..2].copy_from_slice(&50u16.to_be_bytes());
    for handshake in ["", "!!!", &STANDARD.encode(&garbage[..60]), &STANDARD.encode(&garbage), &STANDARD.encode(&old)] {
        let (line, rest) = raw_upgrade(address, handshake).await.unwrap_or_else(|e| panic!("{handshake:?}: {e}"));
        let refused = line.starts_with("HTTP/1.1 4") || rest.first() != Some(&2);
        assert!(refused, "{handshake:?} is no handshake, but the answer is {line} and {} bytes", rest.len());
    }
    unharmed(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_http_is_not_taken_for_it() {
    let cluster = Cluster::start(1).await;
    for port in [8080, 8443, 7946] {
        for bytes in [
            &b"\x16\x03\x01\xff\xff"[..],
            b"GET\r\n\r\n",
            &[0; 4096],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff",
        ] {
            let mut stream = tokio::net::TcpStream::connect((cluster.address(1), port)).await.expect("a connection");
            stream.write_all(bytes).await.ok();
            stream.shutdown().await.ok();
            let mut answer = Vec::new();
            let end = tokio::time::timeout(std::time::Duration::from_secs(60), stream.read_to_end(&mut answer)).await;
            assert!(end.is_ok(), "port {port} does not hold on to {bytes:?}");
        }
    }
    unharmed(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_inside_of_noise_that_make_no_sense_are_refused() {
    let cluster = Cluster::start(1).await;
    let server = server_key(&cluster.url(1)).await;
    let machine = Machine::new("curious");
    let mut session = Session::open(cluster.address(1), &server, &machine).await.expect("a session");

    let large = format!("{{\"Version\": 142, \"Followup\": \"{}\"}}", "x".repeat(2 << 20));
    let mut old = machine.registration();
    old["Version"] = json!(50);
    let mut no_key = machine.registration();
    no_key["NodeKey"] = json!("nodekey:xyz");
    let unknown_map = json!({"Version": 142, "NodeKey": machine.node_key, "Stream": true}).to_string();
    let cases: &[(&str, &str, &[u16])] = &[
        ("/machine/register", "{", &[400]),
        ("/machine/register", "null", &[400]),
        ("/machine/register", &large, &[413]),
        ("/machine/register", &old.to_string(), &[400]),
        ("/machine/register", &no_key.to_string(), &[400]),
        ("/machine/map", "{", &[400]),
        ("/machine/map", &unknown_map, &[404]),
        ("/machine/nothing", "{}", &[404]),
    ];
    for (path, body, expected) in cases {
        let shown = &body[..body.len().min(80)];
        let (status, text) =
            session.post(path, body.as_bytes()).await.unwrap_or_else(|e| panic!("{path} {shown}: {e}"));
        assert!(expected.contains(&status), "{path} {shown}: {status} {text} has one of {expected:?}");
    }
    unharmed(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_key_of_another_machine_is_refused() {
    let cluster = Cluster::start(1).await;
    let alice = cluster.create_user(1, "alice");
    let key = cluster.ok(1, &["preauthkeys", "create", "--user", &alice, "--reusable"]);
    let server = server_key(&cluster.url(1)).await;
    let owner = Machine::new("owner");
    let registered = owner.register(cluster.address(1), &server, &key).await.expect("an answer");
    assert!(registered.accepted(), "{registered:?}");

    let mut thief = Machine::new("thief");
    thief.node_key = owner.node_key.clone();
    let refused = thief.register(cluster.address(1), &server, &key).await.expect("an answer");
    assert!(!refused.accepted() && refused.error().contains("node key"), "{refused:?}");
    let nodes = cluster.nodes(1);
    assert_eq!(nodes.len(), 1, "{nodes:#?}");
    assert_eq!(nodes[0]["machineKey"], owner.key());
}
