//! Databases as Headscale writes them, read.

use super::*;
use crate::config::load_headscale;
use crate::state::{NodeId, Owner, RegisterMethod, Time, UserId};
use std::path::Path;

/// What 0.28 and 0.29 have; `{…}` is where the development head has more.
const SCHEMA: &str = "
    CREATE TABLE migrations(id text, PRIMARY KEY(id));
    CREATE TABLE users(id integer PRIMARY KEY AUTOINCREMENT, name text, display_name text, email text,
        provider_identifier text, provider text, profile_pic_url text, created_at datetime, updated_at datetime,
        deleted_at datetime);
    CREATE TABLE pre_auth_keys(id integer PRIMARY KEY AUTOINCREMENT, key text, prefix text, hash blob, user_id integer,
        {description text,} reusable numeric, ephemeral numeric DEFAULT false, used numeric DEFAULT false, tags text,
        expiration datetime, {revoked datetime,} created_at datetime);
    CREATE TABLE api_keys(id integer PRIMARY KEY AUTOINCREMENT, prefix text, hash blob, {user_id integer,}
        expiration datetime, last_seen datetime, created_at datetime);
    CREATE TABLE nodes(id integer PRIMARY KEY AUTOINCREMENT, machine_key text, node_key text, disco_key text,
        endpoints text, host_info text, ipv4 text, ipv6 text, hostname text, given_name varchar(63), user_id integer,
        register_method text, tags text, auth_key_id integer, last_seen datetime, expiry datetime, approved_routes text,
        created_at datetime, updated_at datetime, deleted_at datetime);
    CREATE TABLE policies(id integer PRIMARY KEY AUTOINCREMENT, data text, created_at datetime, updated_at datetime,
        deleted_at datetime);";

const HEAD_ONLY: &str = "
    CREATE TABLE oauth_clients(id integer PRIMARY KEY AUTOINCREMENT, client_id text, secret_hash blob);
    CREATE TABLE oauth_access_tokens(id integer PRIMARY KEY AUTOINCREMENT, prefix text, hash blob);
    CREATE TABLE database_versions(id integer PRIMARY KEY, version text NOT NULL, updated_at datetime);
    INSERT INTO database_versions VALUES (1, 'v0.30.0', '2026-07-01 00:00:00+00:00');
    INSERT INTO oauth_clients(client_id) VALUES ('0123456789ab');";

const BCRYPT: &str = "$2a$10$ANE4LqDU7qKsMKftXDET0OIdED8ND.COVp.St65SCpEeW8rKM1pfG";

#[derive(Clone, Copy, PartialEq)]
enum Release {
    V28,
    Head,
}

/// A directory with a configuration, a Noise key and a database with these rows.
fn installation(release: Release, rows: &str, policy: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let config = format!(
        "server_url: https://hs.example.com\n\
         prefixes: {{ v4: 100.64.0.0/10, v6: fd7a:115c:a1e0::/48, allocation: sequential }}\n\
         dns: {{ magic_dns: true, base_domain: tail.example.com }}\n\
         noise: {{ private_key_path: noise_private.key }}\n\
         node: {{ expiry: 90d }}\n\
         oidc: {{ issuer: \"https://id.example.com\" }}\n\
         database: {{ type: sqlite, sqlite: {{ path: db.sqlite }} }}\n{policy}"
    );
    std::fs::write(dir.path().join("config.yaml"), config).unwrap();
    std::fs::write(dir.path().join("noise_private.key"), PrivateKey::generate().reveal()).unwrap();
    let connection = rusqlite::Connection::open(dir.path().join("db.sqlite")).unwrap();
    let schema = match release {
        Release::Head => SCHEMA.replace(['{', '}'], "") + HEAD_ONLY,
        Release::V28 => SCHEMA.split('{').map(|part| part.split_once('}').map_or(part, |(_, rest)| rest)).collect(),
    };
    connection.execute_batch(&schema).unwrap();
    connection.execute_batch(&rows.replace("BCRYPT", BCRYPT)).unwrap();
    dir
}

fn sources(dir: &Path) -> Sources {
    let config = load_headscale(&dir.join("config.yaml")).unwrap();
    Sources { config, database: None, noise_key: None, policy: None, without_policy: false }
}

fn found(dir: &tempfile::TempDir) -> Found {
    super::read(&sources(dir.path())).unwrap()
}

fn key(byte: u8) -> String {
    hex::encode([byte; 32])
}

/// One row of each kind, as a server that has been in use has them.
fn usual() -> String {
    format!(
        r#"
        INSERT INTO users(id, name, display_name, email, provider_identifier, provider, created_at) VALUES
            (1, 'alice', 'Alice', '', NULL, '', '2025-01-02 03:04:05.678901234+00:00'),
            (3, 'bob', 'Bob', 'bob@example.com', 'https://id.example.com/bob', 'oidc', '2025-01-02 03:04:05+00:00');
        INSERT INTO users(id, name, deleted_at) VALUES (4, 'gone', '2025-05-05 00:00:00+00:00');
        DELETE FROM users WHERE id = 9;
        INSERT INTO pre_auth_keys(id, prefix, hash, user_id, reusable, ephemeral, used, tags, expiration, created_at)
            VALUES (2, '0123456789ab', 'BCRYPT', 1, 1, 0, 1, 'null', '2030-01-02 03:04:05+00:00', '2025-01-02 03:04:05+00:00'),
                   (5, 'ba9876543210', 'BCRYPT', NULL, 0, 1, 0, '["tag:ci"]', NULL, '2025-01-02 03:04:05+00:00');
        INSERT INTO pre_auth_keys(id, key, user_id, reusable, tags) VALUES
            (1, '{old}', 1, false, '[]'), (6, '', NULL, 0, '');
        INSERT INTO api_keys(id, prefix, hash, created_at) VALUES (1, 'abcdefg', x'{hash}', '2025-01-02 03:04:05+00:00');
        INSERT INTO nodes(id, machine_key, node_key, disco_key, endpoints, host_info, ipv4, ipv6, hostname, given_name,
            user_id, register_method, tags, auth_key_id, last_seen, expiry, approved_routes, created_at) VALUES
            (4, 'mkey:{one}', 'nodekey:{one}', 'discokey:{one}', '["192.0.2.1:41641","[2001:db8::1]:41641"]',
             '{{"Hostname":"Laptop","OS":"linux","IPNVersion":"1.80.0","NetInfo":{{"PreferredDERP":999}},
               "RoutableIPs":["10.1.0.0/16","0.0.0.0/0","::/0"]}}', '100.64.0.1', 'fd7a:115c:a1e0::1', 'Laptop',
             'work-laptop', 3, 'oidc', '[]', NULL, '2026-01-02 03:04:05+00:00', '2026-03-04 05:06:07+00:00',
             '["10.1.0.0/16","0.0.0.0/0"]', '2025-01-02 03:04:05+00:00'),
            (7, 'mkey:{two}', 'nodekey:{two}', 'discokey:{zero}', 'null', 'null', '100.64.0.9', NULL, 'runner', 'runner-1',
             1, 'authkey', '["tag:ci"]', 5, NULL, '0001-01-01 00:00:00+00:00', NULL, '2025-01-02 03:04:05+00:00');
        INSERT INTO nodes(id, machine_key, node_key, hostname, given_name, user_id, deleted_at) VALUES
            (8, 'mkey:{one}', 'nodekey:{one}', 'old', 'old', 1, '2025-05-05 00:00:00+00:00');
        INSERT INTO policies(data, created_at) VALUES ('{{}}', '2025-01-01 00:00:00+00:00'),
            ('{{"acls":[]}}', '2025-02-01 00:00:00+00:00');
        "#,
        old = "0f".repeat(24),
        hash = hex::encode(BCRYPT),
        one = key(1),
        two = key(2),
        zero = key(0),
    )
}

#[test]
fn everything_that_nodes_and_administrators_rely_on_is_carried_over() {
    for release in [Release::V28, Release::Head] {
        let dir = installation(release, &usual(), "policy: { mode: database }\n");
        let found = found(&dir);
        assert_eq!(found.report.problems, [""; 0]);
        let import = &found.import;
        assert_eq!(import.source, if release == Release::V28 { "Headscale 0.28" } else { "Headscale 0.30.0" });
        assert_eq!(import.settings.base_domain, "tail.example.com");
        assert_eq!(import.settings.node_expiry.as_secs(), 90 * 86400);
        assert_eq!(import.noise_public, MachineKey(found.noise.public()));

        let names: Vec<_> = import.users.iter().map(|user| (user.id.0, user.name.as_str())).collect();
        assert_eq!(names, [(1, "alice"), (3, "bob")]);
        assert_eq!(import.users[1].provider_id, "https://id.example.com/bob");
        assert_eq!(import.users[0].created, Time(1_735_787_045_678));

        let laptop = &import.nodes[0];
        assert_eq!((laptop.id, &laptop.owner), (NodeId(4), &Owner::User(UserId(3))));
        assert_eq!((laptop.given_name.as_str(), laptop.renamed), ("work-laptop", true));
        assert_eq!(laptop.ipv4.unwrap().to_string(), "100.64.0.1");
        assert_eq!(laptop.ipv6.unwrap().to_string(), "fd7a:115c:a1e0::1");
        assert_eq!(laptop.node_key.to_string(), format!("nodekey:{}", key(1)));
        assert_eq!((laptop.hostinfo.hostname.as_str(), laptop.hostinfo.preferred_derp), ("Laptop", Some(999)));
        assert_eq!(laptop.endpoints.len(), 2);
        assert_eq!(laptop.approved_routes.len(), 3, "both exit routes, and the subnet");
        assert!(laptop.expiry.is_some() && laptop.last_seen.is_some());
        assert_eq!(laptop.register_method, RegisterMethod::Oidc);

        let runner = &import.nodes[1];
        assert_eq!(runner.owner, Owner::Tags(["tag:ci".parse().unwrap()].into()), "tags count, whoever made it");
        assert_eq!((runner.given_name.as_str(), runner.renamed), ("runner-1", false));
        assert_eq!((runner.ephemeral, runner.disco_key, runner.expiry), (true, None, None));
        assert_eq!(runner.hostinfo.hostname, "runner");

        let keys: Vec<_> = import.pre_auth_keys.iter().map(|key| (key.id.0, key.prefix.as_str(), key.used)).collect();
        assert_eq!(keys, [(1, "0f0f0f0f0f0f", false), (2, "0123456789ab", false), (5, "ba9876543210", false)]);
        assert!(import.pre_auth_keys[0].hash.is(&crate::state::SecretHash::of(&"0f".repeat(18))));
        assert!(import.pre_auth_keys[1].hash.bcrypt().is_some());
        assert_eq!((import.api_keys[0].prefix.as_str(), import.api_keys[0].hash.bcrypt().is_some()), ("abcdefg", true));
        assert_eq!(import.policy.as_deref(), Some("{\"acls\":[]}"), "the newest");
        assert_eq!((import.last.users, import.last.nodes, import.last.pre_auth_keys), (4, 8, 6));

        let notes = found.report.notes.join("\n");
        for expected in ["1 deleted users", "1 deleted nodes", "key 6 stays behind", "OpenID Connect"] {
            assert!(notes.contains(expected), "{expected}: {notes}");
        }
        assert_eq!(notes.contains("OAuth clients stay behind"), release == Release::Head);
    }
}

#[test]
fn an_import_that_was_read_twice_is_the_same() {
    let dir = installation(Release::Head, &usual(), "");
    assert_eq!(found(&dir).import.fingerprint(), found(&dir).import.fingerprint());
}

#[test]
fn reading_leaves_the_files_as_they_are() {
    let dir = installation(Release::V28, &usual(), "");
    let path = dir.path().join("db.sqlite");
    let names = || std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    let before = (std::fs::read(&path).unwrap(), names());
    found(&dir);
    assert_eq!((std::fs::read(&path).unwrap(), names()), before);
}

#[test]
fn what_headscale_has_not_written_to_its_file_yet_is_read_too() {
    let dir = installation(Release::V28, &usual(), "");
    let writer = rusqlite::Connection::open(dir.path().join("db.sqlite")).unwrap();
    writer.query_row("PRAGMA journal_mode = wal", [], |_| Ok(())).unwrap();
    writer.execute_batch("INSERT INTO users(id, name) VALUES (5, 'late')").unwrap();
    let found = found(&dir);
    assert!(found.import.users.iter().any(|user| user.name == "late"));
    assert!(found.report.notes.iter().any(|note| note.contains("If Headscale still runs, stop it")));
}

#[test]
fn names_that_cannot_be_here_become_others_and_are_told() {
    let rows = format!(
        "INSERT INTO users(id, name, email, provider_identifier) VALUES (1, 'Ann Smith', '', NULL), (2, '', 'b@x.de', 'i/2'),
            (3, 'b@x.de', '', 'i/3');
         INSERT INTO nodes(id, machine_key, node_key, hostname, given_name, user_id) VALUES
            (1, 'mkey:{0}', 'nodekey:{0}', 'box', 'box', 1), (2, 'mkey:{1}', 'nodekey:{1}', 'box', 'box', 1),
            (3, 'mkey:{2}', 'nodekey:{2}', 'Wrong Name', 'Wrong Name', 1);",
        key(1),
        key(2),
        key(3)
    );
    let found = found(&installation(Release::V28, &rows, ""));
    let users: Vec<_> = found.import.users.iter().map(|user| user.name.as_str()).collect();
    assert_eq!(users, ["Ann-Smith", "b@x.de", "b@x.de-3"]);
    let nodes: Vec<_> = found.import.nodes.iter().map(|node| node.given_name.as_str()).collect();
    assert_eq!(nodes, ["box", "box-1", "wrong-name"]);
    assert_eq!(found.report.notes.iter().filter(|note| note.contains("is called")).count(), 5, "{:?}", found.report);
}

#[test]
fn what_would_take_somebodys_place_has_to_be_put_right_first() {
    let rows = format!(
        "INSERT INTO users(id, name) VALUES (1, 'a');
         INSERT INTO nodes(id, machine_key, node_key, hostname, given_name, user_id, ipv4, tags) VALUES
            (1, 'mkey:{0}', 'nodekey:{0}', 'x', 'x', 1, '100.64.0.1', ''),
            (2, 'mkey:{1}', 'nodekey:{1}', 'y', 'y', 1, '100.64.0.1', ''),
            (3, 'mkey:{2}', 'nodekey:{2}', 'z', 'z', 1, NULL, '[\"tag:Ünsinn\"]'),
            (4, 'mkey:', '', 'w', 'w', 1, NULL, '');",
        key(1),
        key(2),
        key(3)
    );
    // A key that cannot be read is told with its table and row.
    let dir = installation(Release::V28, &rows, "");
    let error = super::read(&sources(dir.path())).unwrap_err().to_string();
    assert!(error.contains("table nodes, row 4: machine_key"), "{error}");
    rusqlite::Connection::open(dir.path().join("db.sqlite"))
        .unwrap()
        .execute_batch("DELETE FROM nodes WHERE id = 4")
        .unwrap();
    let problems = found(&dir).report.problems.join("\n");
    assert!(problems.contains("nodes 1 and 2 have the same address 100.64.0.1"), "{problems}");
    assert!(problems.contains("node 3 (z) has the tag"), "{problems}");
}

#[test]
fn an_older_release_and_other_files_are_refused_with_what_to_do() {
    let dir = installation(Release::V28, "ALTER TABLE nodes DROP COLUMN approved_routes", "");
    let error = |dir: &Path| super::read(&sources(dir)).unwrap_err().to_string();
    assert!(error(dir.path()).contains("no column nodes.approved_routes"), "{}", error(dir.path()));
    assert!(error(dir.path()).contains("upgrade an older Headscale first"));
    std::fs::write(dir.path().join("db.sqlite"), "no database at all, however long it may be").unwrap();
    assert!(error(dir.path()).contains("db.sqlite"), "{}", error(dir.path()));
    std::fs::remove_file(dir.path().join("db.sqlite")).unwrap();
    assert!(error(dir.path()).contains("No such file"));
    let dir = installation(Release::V28, "", "");
    std::fs::remove_file(dir.path().join("noise_private.key")).unwrap();
    assert!(error(dir.path()).contains("name the file with --noise-key"));
}

#[test]
fn the_policy_comes_from_where_headscale_has_it() {
    let policy = |section: &str| {
        let dir = installation(Release::V28, &usual(), section);
        std::fs::write(dir.path().join("acl.hujson"), "{ /* file */ }").unwrap();
        found(&dir).import.policy
    };
    assert_eq!(policy(""), None, "Headscale's default is a file, and there is none");
    assert_eq!(policy("policy: { path: acl.hujson }\n").as_deref(), Some("{ /* file */ }"));
    assert_eq!(policy("policy: { mode: database, path: acl.hujson }\n").as_deref(), Some("{\"acls\":[]}"));
}
