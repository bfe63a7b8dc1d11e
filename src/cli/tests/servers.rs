//! URLs instead of the socket, and what happens when one fails.

use super::*;

const USERS: &str = r#"{"users":[]}"#;
const CREATED: &str = r#"{"user":{"id":"1","name":"alice"}}"#;

/// A URL at which nothing listens.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn the_environment_names_server_and_key() {
    let fake = Fake::saying(200, USERS);
    let by_env = call("users list -o json-line").env("HEADSCALE_CLI_ADDRESS", &fake.url);
    assert_eq!(by_env.env("HEADSCALE_CLI_API_KEY", "k").run(), prints("[]\n"));
    assert_eq!(call(&format!("users list -o json-line --server {} --api-key f", fake.url)).run(), prints("[]\n"));
    let keys: Vec<_> = fake.asked().into_iter().map(|asked| asked.authorization.unwrap()).collect();
    assert_eq!(keys, ["Bearer k", "Bearer f"]);
}

#[test]
fn a_server_without_a_key_is_refused_before_it_is_asked() {
    let ran = call("users list").env("HEADSCALE_CLI_ADDRESS", "http://127.0.0.1:8080").run();
    assert_eq!(ran, fails("connecting to headscale: HEADSCALE_CLI_API_KEY environment variable needs to be set"));
    let ran = call("users list --server ftp://x --api-key k").run();
    assert!(ran.code == 1 && ran.err.contains("must start with http:// or https://"), "{}", ran.err);
}

#[test]
fn a_bad_key_is_told_in_the_servers_words() {
    let fake = Fake::saying(401, r#"{"title":"Unauthorized","status":401,"detail":"Unauthorized"}"#);
    let ran = call(&format!("users list --server {} --api-key bogus", fake.url)).run();
    assert_eq!(ran, fails("unexpected response status: Unauthorized"));
}

#[test]
fn the_next_server_is_asked_when_a_connection_fails() {
    let fake = Fake::saying(200, CREATED);
    let servers = format!("{},{}", nobody(), fake.url);
    assert_eq!(call(&format!("users create alice --server {servers} --api-key k")).run(), prints("User created\n"));
    assert!(fake.asked_once().idempotency_key.is_some());
}

#[test]
fn the_next_server_gets_the_same_request_under_the_same_key() {
    for status in [502, 503, 504] {
        let (ill, well) = (Fake::refusing(status, "no leader"), Fake::saying(200, CREATED));
        let servers = format!("{},{}", ill.url, well.url);
        assert_eq!(call(&format!("users create alice --server {servers} --api-key k")).run(), prints("User created\n"));
        let (first, second) = (ill.asked_once(), well.asked_once());
        assert_eq!((first.line, first.body), (second.line, second.body));
        assert!(first.idempotency_key.is_some());
        assert_eq!(first.idempotency_key, second.idempotency_key);
    }
}

#[test]
fn the_next_server_is_asked_when_one_says_nothing() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let well = Fake::saying(200, CREATED);
    let servers = format!("http://{},{}", silent.local_addr().unwrap(), well.url);
    let ran =
        call(&format!("users create alice --server {servers} --api-key k")).env("HEADSCALE_CLI_TIMEOUT", "300ms").run();
    assert_eq!(ran, prints("User created\n"));
}

#[test]
fn a_refusal_is_an_answer_and_no_other_server_is_asked() {
    let (first, second) = (Fake::refusing(409, "user already exists"), Fake::saying(200, CREATED));
    let servers = format!("{},{}", first.url, second.url);
    let ran = call(&format!("users create alice --server {servers} --api-key k")).run();
    assert_eq!(ran, fails("unexpected response status: user already exists"));
    assert!(second.asked().is_empty());
}

#[test]
fn two_commands_have_two_keys() {
    let fake = Fake::saying(200, CREATED);
    for _ in 0..2 {
        call("users create alice").at(&fake);
    }
    let asked = fake.asked();
    assert_ne!(asked[0].idempotency_key, asked[1].idempotency_key);
}

#[test]
fn servers_are_asked_again_while_there_is_time() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let count = AtomicUsize::new(0);
    let electing = Fake::new(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => (503, r#"{"detail":"no leader"}"#.into()),
        _ => (200, CREATED.into()),
    });
    let servers = format!("{},{}", nobody(), electing.url);
    assert_eq!(call(&format!("users create alice --server {servers} --api-key k")).run(), prints("User created\n"));
    let asked = electing.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].idempotency_key, asked[1].idempotency_key);
}

#[test]
fn when_no_server_answers_each_is_named_with_its_reason() {
    let (a, b) = (nobody(), nobody());
    let ran = call(&format!("users list --server {a},{b} --api-key k")).env("HEADSCALE_CLI_TIMEOUT", "300ms").run();
    assert_eq!(ran.code, 1);
    assert!(ran.err.starts_with("Error: listing users: no server answered:\n  http://127"), "{}", ran.err);
    for url in [&a, &b] {
        assert!(ran.err.contains(&format!("\n  {url}: connecting to ")), "{}", ran.err);
    }
    let alone = call(&format!("users list --server {a} --api-key k")).run();
    let start = format!("Error: listing users: Get \"{a}/api/v1/user\": connecting to ");
    assert!(alone.code == 1 && alone.err.starts_with(&start), "{}", alone.err);
}

#[test]
fn when_all_servers_lack_a_leader_their_words_are_told() {
    let (a, b) = (Fake::refusing(503, "no leader"), Fake::refusing(503, "no leader"));
    let servers = format!("{},{}", a.url, b.url);
    let ran = call(&format!("users list --server {servers} --api-key k")).env("HEADSCALE_CLI_TIMEOUT", "300ms").run();
    assert_eq!(ran, fails("unexpected response status: no leader"));
}

/// A TLS server with a certificate that nobody has heard of: says its users to all who accept it.
fn tls_server() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_string()]).unwrap();
    let pem = made.cert.pem();
    let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let config = Arc::new(config);
    std::thread::spawn(move || {
        while let Ok((mut tcp, _)) = listener.accept() {
            let mut tls = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
            let mut head = [0; 4096];
            // A client that refuses the certificate ends the handshake here.
            if std::io::Read::read(&mut stream, &mut head).is_ok() {
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{USERS}", USERS.len());
                let _ = stream.write_all(answer.as_bytes());
            }
        }
    });
    (address, pem)
}

#[test]
fn certificates_are_checked_unless_told_otherwise() {
    let (address, pem) = tls_server();
    // An address without a scheme means HTTPS.
    let line = format!("users list -o json-line --server {address} --api-key k");
    let ran = call(&line).run();
    assert!(ran.code == 1 && ran.err.contains("speaking TLS with "), "{}", ran.err);
    assert_eq!(call(&line).env("HEADSCALE_CLI_INSECURE", "true").run(), prints("[]\n"));
    let dir = tempfile::tempdir().unwrap();
    let roots = dir.path().join("roots.pem");
    std::fs::write(&roots, pem).unwrap();
    assert_eq!(call(&line).env("SSL_CERT_FILE", roots.display()).run(), prints("[]\n"));
}
