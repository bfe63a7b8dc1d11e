//! Keys and secrets on running replicas: where they are not to be found, and from when on
//! they are not accepted.

use crate::support::{Cluster, Machine, Session, Settings, eventually, request, server_key};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What answers the API with a key.
async fn ask(cluster: &Cluster, id: u64, key: &str, path: &str) -> (u16, String) {
    let authorization = format!("Bearer {key}");
    let url = format!("{}/api/v1{path}", cluster.url(id));
    let reply = request("GET", &url, &[("authorization", &authorization)], b"").await;
    reply.map_or_else(|error| (0, error), |reply| (reply.status, reply.body))
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// Something that must not be found: its name, and the forms in which it could be.
struct Hidden {
    name: &'static str,
    texts: Vec<String>,
    bytes: Option<Vec<u8>>,
}

impl Hidden {
    fn of(name: &'static str, text: &str) -> Self {
        let base64 = |bytes: &[u8]| BASE64.encode(bytes).trim_end_matches('=').to_owned();
        let bytes = hex::decode(text).ok();
        let mut texts = vec![text.to_owned(), base64(text.as_bytes())];
        if let Some(bytes) = &bytes {
            texts.extend([text.to_uppercase(), base64(bytes)]);
        }
        Self { name, texts, bytes }
    }

    /// Of a key `hskey-KIND-PREFIX-SECRET`.
    fn of_key(name: &'static str, key: &str) -> Self {
        Self::of(name, key.rsplit('-').next().expect("its secret part"))
    }

    fn is_in(&self, haystack: &[u8]) -> bool {
        let text = String::from_utf8_lossy(haystack);
        let is_binary = matches!(text, std::borrow::Cow::Owned(_));
        let raw = self.bytes.as_deref().filter(|_| is_binary);
        self.texts.iter().any(|form| text.contains(form.as_str()))
            || raw.is_some_and(|raw| haystack.windows(raw.len()).any(|window| window == raw))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_a_log_a_page_an_answer_a_file_or_a_backup() {
    let outside = tempfile::tempdir().expect("a directory");
    let noise = {
        let mut bytes: [u8; 32] = rand::random();
        (bytes[0], bytes[31]) = (bytes[0] & 248, (bytes[31] & 127) | 64);
        hex::encode(bytes)
    };
    let noise_file = outside.path().join("noise.key");
    std::fs::write(&noise_file, format!("privkey:{noise}\n")).expect("a key file");
    let config = format!("log:\n  level: trace\nnoise:\n  private_key_path: {}\n", noise_file.display());
    let cluster = Cluster::start_with(3, Settings { config, ..Settings::default() }).await;
    let secret = std::fs::read_to_string(cluster.replica_dir(1).join("secret")).expect("the secret");
    const PASSPHRASE: &str = "correct horse battery staple";

    // The surface: by the socket, by the network, by clients; what works and what does not.
    let alice = cluster.create_user(1, "alice");
    let auth_key = cluster.ok(1, &["preauthkeys", "create", "--user", &alice, "--reusable"]);
    let admin = cluster.ok(2, &["apikeys", "create", "--owner", "alice"]);
    let read_only = cluster.ok(3, &["apikeys", "create", "--role", "read-only"]);
    let mut said = Vec::new();
    let authorization = format!("Bearer {admin}");
    let mut derived = String::new();
    for id in [1, 2] {
        let url = format!("{}/api/v1/preauthkey", cluster.url(id));
        let headers = [("authorization", authorization.as_str()), ("idempotency-key", "once")];
        let body = json!({"user": alice, "expiration": "2099-01-02T03:04:05Z"}).to_string();
        let reply = request("POST", &url, &headers, body.as_bytes()).await.expect("an answer");
        derived = reply.json()["preAuthKey"]["key"].as_str().expect("a key").into();
        let reused = json!({"user": alice, "reusable": true}).to_string();
        said.push(request("POST", &url, &headers, reused.as_bytes()).await.expect("an answer").body);
    }
    let wrong = format!("{}{}", &auth_key[..auth_key.len() - 64], hex::encode([0xabu8; 32]));
    let wrong_api = format!("{}{}", &admin[..admin.len() - 64], hex::encode([0xcdu8; 32]));
    let server = server_key(&cluster.url(1)).await;
    for (id, key) in [(1, &auth_key), (2, &derived), (3, &wrong), (1, &"hskey-auth-nonsense-sesame".to_owned())] {
        let machine = Machine::new(&format!("m{id}"));
        let mut session = Session::open(cluster.address(id), &server, &machine).await.expect("a connection");
        let mut body = machine.registration();
        body["Auth"] = json!({"AuthKey": key});
        said.push(format!("{:?}", session.register(&body).await.expect("an answer")));
    }
    for key in [&admin, &read_only, &wrong_api, &"hskey-api-nonsense-sesame".to_owned()] {
        for path in ["/apikey", "/preauthkey", "/node", "/audit", "/cluster", "/nothing", "/policy", "/user?x=%ff"] {
            said.push(ask(&cluster, 2, key, path).await.1);
        }
    }
    for path in [
        "/",
        "/metrics",
        "/debug",
        "/debug/derp",
        "/debug/overview",
        "/debug/config",
        "/debug/nodestore",
        "/debug/filter",
        "/debug/registration-cache",
        "/debug/mapresponses?node=1",
        "/health",
        "/version",
        "/key?v=142",
        "/apple",
        "/register/x",
    ] {
        for port in [8080, 9090] {
            let url = format!("http://{}:{port}{path}", cluster.address(1));
            said.push(request("GET", &url, &[("authorization", &authorization)], b"").await.expect("an answer").body);
        }
    }
    let (file, passphrase) = (cluster.dir().join("backup"), outside.path().join("passphrase"));
    std::fs::write(&passphrase, PASSPHRASE).expect("a passphrase");
    let (file, passphrase) = (file.to_str().expect("a path").to_owned(), passphrase.to_str().expect("a path"));
    said.push(cluster.ok(1, &["cluster", "snapshot", "save", &file, "--passphrase-file", passphrase]));
    for arguments in [
        &["apikeys", "list", "-o", "json"][..],
        &["preauthkeys", "list", "-o", "yaml"],
        &["nodes", "list", "-o", "json"],
        &["audit", "list"],
        &["cluster", "status", "-o", "json"],
        &["cluster", "verify"],
        &["cluster", "snapshot", "inspect", &file, "--passphrase-file", passphrase],
        &["configtest"],
    ] {
        let output = cluster.run(1, arguments);
        said.push(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)));
    }
    said.push(cluster.ok(1, &["apikeys", "expire", "--id", "2"]));

    let hidden = [
        Hidden::of("the shared secret", secret.trim()),
        Hidden::of("the Noise key", &noise),
        Hidden::of_key("a pre-authenticated key", &auth_key),
        Hidden::of_key("a key by Idempotency-Key", &derived),
        Hidden::of_key("an admin's API key", &admin),
        Hidden::of_key("a read-only API key", &read_only),
        Hidden::of_key("a mistyped pre-authenticated key", &wrong),
        Hidden::of_key("a mistyped API key", &wrong_api),
        Hidden::of("a passphrase", PASSPHRASE),
        Hidden::of("what is no key at all", "sesame"),
    ];
    let mut found = Vec::new();
    let mut look = |place: String, bytes: &[u8]| {
        found.extend(hidden.iter().filter(|it| it.is_in(bytes)).map(|it| format!("{} is in {place}", it.name)));
    };
    for (number, text) in said.iter().enumerate() {
        look(format!("answer {number}: {text}"), text.as_bytes());
    }
    let mut bytes_looked_at = 0;
    for id in 1..=3 {
        let log = cluster.log(id);
        assert!(log.contains("TRACE"), "replica {id} logs everything");
        look(format!("the log of replica {id}"), log.as_bytes());
        for path in files(&cluster.replica_dir(id).join("data")) {
            let bytes = std::fs::read(&path).unwrap_or_default();
            bytes_looked_at += bytes.len();
            look(path.display().to_string(), &bytes);
        }
    }
    look("the backup".into(), &std::fs::read(&file).expect("the backup"));
    assert!(bytes_looked_at > 10_000, "the data is there");
    assert!(found.is_empty(), "{found:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_their_owners_alone() {
    let cluster = Cluster::start(1).await;
    let file = cluster.dir().join("backup");
    let environment = [("QUORUMSCALE_SNAPSHOT_PASSPHRASE", "correct horse battery")];
    let config = cluster.replica_dir(1).join("config.yaml");
    let (config, file) = (config.to_str().expect("a path"), file.to_str().expect("a path"));
    let saved = cluster.run_anywhere(&environment, &["-c", config, "cluster", "snapshot", "save", file]);
    assert!(saved.status.success(), "{saved:?}");
    let data = cluster.replica_dir(1).join("data");
    let open_to_others = |path: &Path| std::fs::metadata(path).is_ok_and(|it| it.permissions().mode() & 0o077 != 0);
    let mut all = files(&data);
    assert!(all.len() > 3, "{all:?}");
    all.extend([data, PathBuf::from(file)]);
    let open: Vec<_> = all.into_iter().filter(|path| open_to_others(path)).collect();
    assert!(open.is_empty(), "{open:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_accepted_by_no_replica_once_its_revocation_was_answered() {
    let mut cluster = Cluster::start(3).await;
    for (round, frozen) in [None, Some(3), None].into_iter().enumerate() {
        let key = cluster.ok(2, &["apikeys", "create", "--owner", &format!("round{round}")]);
        let prefix = key.split('-').nth(2).expect("a prefix").to_owned();
        for id in 1..=3 {
            assert_eq!(ask(&cluster, id, &key, "/user").await.0, 200, "replica {id} accepts a new key at once");
        }
        if let Some(id) = frozen {
            cluster.freeze(id);
        }
        let begun = Instant::now();
        let how = if round == 2 { "delete" } else { "expire" };
        cluster.ok(1, &["apikeys", how, "--prefix", &prefix]);
        let took = begun.elapsed();
        if let Some(id) = frozen {
            cluster.thaw(id);
        }
        for id in (1..=3).rev() {
            let (status, text) = ask(&cluster, id, &key, "/user").await;
            assert!([401, 503].contains(&status), "round {round}: replica {id} says {status} {text}");
        }
        assert!(took < Duration::from_secs(30), "round {round}: revoking took {took:?}");
        cluster.healthy().await;
    }
    // What was done is known everywhere, by the name of the user of the operating system.
    let records = cluster.json(3, &["audit", "list", "--action", "apikey"]);
    let of = |name: &str| records.as_array().expect("a list").iter().filter(|it| it["action"] == name).count();
    assert_eq!((of("apikey.create"), of("apikey.expire"), of("apikey.delete")), (3, 2, 1), "{records}");
    let by = records[0]["by"].as_str().expect("somebody");
    assert!(by.ends_with(" on replica 1") && records[0]["from"] == "socket of replica 1", "{records}");
    assert_eq!(records, cluster.json(1, &["audit", "list", "--action", "apikey"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_without_a_quorum_accepts_no_key_and_its_socket_still_answers() {
    let mut cluster = Cluster::start(3).await;
    let key = cluster.ok(1, &["apikeys", "create"]);
    assert_eq!(ask(&cluster, 1, &key, "/user").await.0, 200);
    cluster.kill(2);
    cluster.kill(3);
    // It may take its own word for a second.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    for path in ["/user", "/user?stale=true", "/cluster"] {
        let (status, text) = ask(&cluster, 1, &key, path).await;
        assert_eq!(status, 503, "{path}: {text}");
    }
    let output = cluster.run(1, &["cluster", "status", "-o", "json"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("answered_by"), "{output:?}");
    cluster.start_replica(2);
    let url = cluster.url(1);
    eventually("the key is accepted with a quorum", Duration::from_secs(60), || {
        let authorization = format!("Bearer {key}");
        let url = format!("{url}/api/v1/user");
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                request("GET", &url, &[("authorization", &authorization)], b"").await.is_ok_and(|it| it.status == 200)
            })
        })
    })
    .await;
}
