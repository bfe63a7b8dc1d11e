//! A tailnet moves in from Headscale, and none of its clients notices.

use crate::support::{Cluster, Fleet, Settings, Tailscaled, Up, eventually, server_key};
use quorumscale::tailcfg::PrivateKey;
use serde_json::Value;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A client that lost its server tries again every half minute at worst.
const BACK: Duration = Duration::from_secs(120);

const POLICY: &str = r#"{
  "tagOwners": {"tag:server": ["alice@"]},
  "acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}],
}"#;

/// As Headscale 0.29 writes it.
const SCHEMA: &str = "
    CREATE TABLE migrations(id text, PRIMARY KEY(id));
    CREATE TABLE users(id integer PRIMARY KEY AUTOINCREMENT, name text, display_name text, email text,
        provider_identifier text, provider text, profile_pic_url text, created_at datetime, updated_at datetime,
        deleted_at datetime);
    CREATE TABLE pre_auth_keys(id integer PRIMARY KEY AUTOINCREMENT, key text, prefix text, hash blob, user_id integer,
        reusable numeric, ephemeral numeric DEFAULT false, used numeric DEFAULT false, tags text, expiration datetime,
        created_at datetime);
    CREATE TABLE api_keys(id integer PRIMARY KEY AUTOINCREMENT, prefix text, hash blob, expiration datetime,
        last_seen datetime, created_at datetime);
    CREATE TABLE nodes(id integer PRIMARY KEY AUTOINCREMENT, machine_key text, node_key text, disco_key text,
        endpoints text, host_info text, ipv4 text, ipv6 text, hostname text, given_name varchar(63), user_id integer,
        register_method text, tags text, auth_key_id integer, last_seen datetime, expiry datetime, approved_routes text,
        created_at datetime, updated_at datetime, deleted_at datetime);
    CREATE TABLE policies(id integer PRIMARY KEY AUTOINCREMENT, data text, created_at datetime, updated_at datetime,
        deleted_at datetime);
    CREATE TABLE database_versions(id integer PRIMARY KEY, version text NOT NULL, updated_at datetime);
    INSERT INTO database_versions VALUES (1, 'v0.29.2', '2026-07-01 00:00:00+00:00');";

/// Of keys that no other server ever saw in full.
const API_KEY: (&str, &str) = ("a0a0a0a0a0a0", "b1");
const AUTH_KEY: (&str, &str) = ("c2c2c2c2c2c2", "d3");

#[tokio::test(flavor = "multi_thread")]
async fn a_tailnet_moves_in_and_no_client_logs_in_again_or_changes_its_address() {
    let keys = tempfile::tempdir().expect("a directory");
    let noise_path = keys.path().join("noise_private.key");
    std::fs::write(&noise_path, PrivateKey::generate().reveal()).expect("a key");
    let noise_line = format!("noise: {{ private_key_path: {:?} }}\n", noise_path.display().to_string());
    let settings = Settings { config: noise_line.clone(), ..Settings::default() };
    let mut cluster = Cluster::start_with(3, settings).await;
    let (url, old_key) = (cluster.url(1), server_key(&cluster.url(1)).await);

    // What the tailnet was under its old server, for which this cluster stands in.
    let alice = cluster.create_user(1, "alice");
    let policy = cluster.dir().join("policy.hujson");
    std::fs::write(&policy, POLICY).expect("a policy");
    cluster.ok(1, &["policy", "set", "-f", policy.to_str().expect("text")]);
    let personal = cluster.ok(1, &["preauthkeys", "create", "--user", &alice, "--reusable"]);
    let tagged = cluster.ok(1, &["preauthkeys", "create", "--tags", "tag:server"]);
    let fleet = Fleet::start(&[]);
    let router = Tailscaled::start().await;
    router.up(&url, &["--auth-key", &personal, "--advertise-routes=10.9.0.0/24", "--hostname=router"]).expect("up");
    let laptop = fleet.up("laptop", Up::at(url.clone()).key(&personal)).await;
    let server = fleet.up("server", Up::at(url.clone()).key(&tagged)).await;
    let laptop_addresses = laptop.running().await;
    let server_addresses = server.running().await;
    let id = |name: &str| id_of(&cluster.nodes(1), name);
    cluster.ok(1, &["nodes", "rename", "-i", &id("laptop"), "desk"]);
    cluster.ok(1, &["nodes", "approve-routes", "-i", &id("router"), "-r", "10.9.0.0/24"]);
    let before = cluster.nodes(1);
    let headscale = headscale(&cluster, &noise_path, &before);

    // The evening. One client is stopped meanwhile, the others go on and find nobody.
    laptop.close().await;
    for id in 1..=3 {
        cluster.stop(id).await;
        std::fs::remove_dir_all(cluster.replica_dir(id).join("data")).expect("its data");
        cluster.reconfigure(id, &noise_line, "");
    }
    for id in 1..=3 {
        cluster.start_replica(id);
    }
    cluster.healthy().await;
    assert_ne!(server_key(&url).await, old_key, "a new cluster is another server");

    let config = headscale.join("config.yaml");
    let arguments = ["import", "headscale", "--headscale-config", config.to_str().expect("text")];
    let plan = cluster.run(1, &[&arguments[..], &["--dry-run"]].concat());
    let said = String::from_utf8_lossy(&plan.stderr).into_owned();
    assert!(plan.status.success(), "{said}");
    for expected in ["Headscale 0.29.2", "Nodes", "same texts stay valid", "dns.base_domain"] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert!(cluster.nodes(2).is_empty());
    let done = cluster.json(1, &[&arguments[..], &["--yes"]].concat());
    assert_eq!((&done["result"], &done["counts"]["nodes"]), (&Value::from("Imported"), &Value::from(3)), "{done}");
    let again = cluster.json(2, &[&arguments[..], &["--yes"]].concat());
    assert_eq!(again["result"], "Nothing to do: the same was imported before");

    for id in 1..=3 {
        assert_eq!(server_key(&cluster.url(id)).await, old_key, "replica {id} is the server that clients know");
        same_nodes(&before, &cluster.nodes(id));
    }

    // Everybody is back, the one that starts anew too, and nobody was asked to log in.
    let laptop = fleet.up("laptop", Up::at(url.clone())).await;
    assert_eq!(laptop.running().await, laptop_addresses);
    for name in ["desk", "server", "router"] {
        cluster.shows_online(2, name, true, BACK).await;
    }
    laptop.reaches(server_addresses[0], "server").await;
    server.reaches(laptop_addresses[0], "laptop").await;
    same_nodes(&before, &cluster.nodes(3));
    let routes = |nodes: &[Value]| nodes.iter().find(|n| n["givenName"] == "router").map(|n| n["subnetRoutes"].clone());
    eventually("the router serves its subnet", BACK, || routes(&cluster.nodes(1)) == routes(&before)).await;

    old_keys_open_doors(&cluster, &fleet, &url).await;
}

/// The keys' texts are as good as they were; a wrong one is as bad.
async fn old_keys_open_doors(cluster: &Cluster, fleet: &Fleet, url: &str) {
    let api_key = |end: &str| format!("hskey-api-{}-{}{end}", API_KEY.0, &API_KEY.1.repeat(32)[..62]);
    let list =
        |key: &str| cluster.run_anywhere(&[], &["--server", url, "--api-key", key, "users", "list", "-o", "json"]);
    assert!(!list(&api_key("00")).status.success());
    for _ in 0..2 {
        let listed = list(&api_key("b1"));
        assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        assert!(String::from_utf8_lossy(&listed.stdout).contains("alice"));
    }
    let auth_key = format!("hskey-auth-{}-{}", AUTH_KEY.0, AUTH_KEY.1.repeat(32));
    let newcomer = fleet.up("newcomer", Up::at(url.into()).key(&auth_key)).await;
    let addresses: Vec<IpAddr> = newcomer.running().await;
    let taken = cluster.nodes(1).iter().filter(|node| node["ipAddresses"][0] == addresses[0].to_string()).count();
    assert_eq!(taken, 1, "its address is nobody else's");
}

/// A directory with what a Headscale server would have written about these nodes.
fn headscale(cluster: &Cluster, noise: &Path, nodes: &[Value]) -> PathBuf {
    let dir = cluster.dir().join("headscale");
    std::fs::create_dir(&dir).expect("a directory");
    std::fs::copy(noise, dir.join("noise_private.key")).expect("the key");
    // Paths as a package writes them: the files were copied from there.
    let config = "server_url: https://hs.example.com\n\
        noise: { private_key_path: /var/lib/headscale-of-old/noise_private.key }\n\
        prefixes: { v4: 100.64.0.0/10, v6: fd7a:115c:a1e0::/48 }\n\
        dns: { base_domain: tail.example.com }\n\
        policy: { mode: database }\n\
        oidc: { issuer: \"https://id.example.com\" }\n\
        database: { type: sqlite, sqlite: { path: db.sqlite } }\n";
    std::fs::write(dir.join("config.yaml"), config).expect("a configuration");
    let db = rusqlite::Connection::open(dir.join("db.sqlite")).expect("a database");
    db.execute_batch(SCHEMA).expect("its tables");
    let now = "2026-01-02 03:04:05.678901234+00:00";
    db.execute("INSERT INTO users(id, name, created_at) VALUES (1, 'alice', ?1)", [now]).expect("a user");
    db.execute("INSERT INTO policies(data, created_at) VALUES (?1, ?2)", [POLICY, now]).expect("a policy");
    let hash = |secret: &str| {
        let hash = bcrypt::hash_with_salt(secret, 4, *b"0123456789abcdef").expect("a hash");
        hash.format_for_version(bcrypt::Version::TwoA)
    };
    db.execute(
        "INSERT INTO api_keys(prefix, hash, created_at) VALUES (?1, cast(?2 AS blob), ?3)",
        [API_KEY.0, &hash(&API_KEY.1.repeat(32)), now],
    )
    .expect("an API key");
    db.execute(
        "INSERT INTO pre_auth_keys(id, prefix, hash, user_id, reusable, created_at) VALUES (1, ?1, cast(?2 AS blob), 1, 1, ?3)",
        [AUTH_KEY.0, &hash(&AUTH_KEY.1.repeat(32)), now],
    )
    .expect("a pre-authenticated key");
    for node in nodes {
        insert(&db, node, now);
    }
    dir
}

fn insert(db: &rusqlite::Connection, node: &Value, now: &str) {
    let text = |name: &str| node[name].as_str().unwrap_or_default().to_owned();
    let address = |index: usize| node["ipAddresses"][index].as_str().expect("an address").to_owned();
    let routes = serde_json::json!({ "Hostname": node["name"], "RoutableIPs": node["availableRoutes"] });
    let tags = &node["tags"];
    let is_tagged = tags.as_array().is_some_and(|tags| !tags.is_empty());
    db.execute(
        "INSERT INTO nodes(id, machine_key, node_key, disco_key, endpoints, host_info, ipv4, ipv6, hostname, given_name,
            user_id, register_method, tags, approved_routes, created_at)
         VALUES (?1, ?2, ?3, ?4, '[]', ?5, ?6, ?7, ?8, ?9, ?10, 'authkey', ?11, ?12, ?13)",
        rusqlite::params![
            text("id").parse::<i64>().expect("a number"),
            text("machineKey"),
            text("nodeKey"),
            text("discoKey"),
            routes.to_string(),
            address(0),
            address(1),
            text("name"),
            text("givenName"),
            (!is_tagged).then_some(1),
            tags.to_string(),
            node["approvedRoutes"].to_string(),
            now,
        ],
    )
    .expect("a node");
}

fn id_of(nodes: &[Value], name: &str) -> String {
    let node = nodes.iter().find(|node| node["givenName"] == name).unwrap_or_else(|| panic!("{name} is in {nodes:?}"));
    node["id"].as_str().expect("an id").to_owned()
}

/// What clients and administrators rely on.
fn same_nodes(before: &[Value], after: &[Value]) {
    assert_eq!(before.len(), after.len(), "{after:#?}");
    for (old, new) in before.iter().zip(after) {
        for name in
            ["id", "machineKey", "nodeKey", "ipAddresses", "givenName", "name", "tags", "approvedRoutes", "expiry"]
        {
            assert_eq!(old[name], new[name], "{name} of {}", old["givenName"]);
        }
        assert_eq!(old["user"]["name"], new["user"]["name"]);
    }
}
