//! What becomes of each known key, and of unknown ones.

use super::*;
use crate::config::keys::{KEYS, Status};

#[test]
fn the_files_of_the_project_are_fine() {
    for name in ["config-example.yaml", "cluster/node1.yaml", "cluster/node2.yaml", "cluster/node3.yaml"] {
        let loaded = load(Some(&project().join(name)), &nowhere()).unwrap_or_else(|error| panic!("{error}"));
        let notes: Vec<_> = loaded.notes.iter().filter(|note| matches!(note, Note::Warning(_))).collect();
        assert!(notes.is_empty(), "{name}: {notes:?}");
    }
}

#[test]
fn the_example_shows_the_defaults() {
    let example = load(Some(&project().join("config-example.yaml")), &nowhere()).unwrap().config;
    let text = "data_dir: quorumscale-data\nmetrics_listen_addr: 127.0.0.1:9090\n";
    let beside = project().join("config-example.yaml");
    let mut default = loaded(text);
    // The two files lie in different directories.
    let data = beside.parent().unwrap().join("quorumscale-data");
    default.file = Some(beside);
    default.unix_socket = data.join("quorumscale.sock");
    default.cluster.secret_path = data.join("secret");
    default.derp.server.as_mut().unwrap().private_key_path = data.join("derp_server_private.key");
    default.data_dir = data;
    assert_eq!(example, default);
}

#[test]
fn the_three_replicas_are_three_machines() {
    let replicas: Vec<Config> = (1..=3)
        .map(|n| load(Some(&project().join(format!("cluster/node{n}.yaml"))), &nowhere()).unwrap().config)
        .collect();
    for (n, config) in (1..).zip(&replicas) {
        let ip = format!("127.0.0.{n}");
        assert_eq!(config.cluster.id, n);
        assert_eq!(config.cluster.peers, replicas[0].cluster.peers);
        assert_eq!(config.server_url.as_str(), format!("http://{ip}:8080"));
        assert_eq!(config.cluster.listen_addr.unwrap().to_string(), format!("{ip}:7946"));
        assert_eq!(config.metrics_listen_addr.unwrap().to_string(), format!("{ip}:9090"));
        let relay = config.derp.server.as_ref().unwrap();
        assert_eq!(u64::from(relay.region_id), 900 + n);
        assert_eq!(relay.host_name, ip);
        assert_eq!(relay.stun_listen_addr.unwrap().to_string(), format!("{ip}:3478"));
        let run = project().join(format!("run/node{n}"));
        assert_eq!(config.data_dir, run);
        assert_eq!(config.cluster.secret_path, run.join("secret"));
        assert_eq!(config.unix_socket, run.join("quorumscale.sock"));
    }
}

#[test]
fn the_values_of_headscales_example_start() {
    let text = r#"
server_url: http://127.0.0.1:8080
listen_addr: 127.0.0.1:8080
metrics_listen_addr: 127.0.0.1:9090
trusted_proxies: []
noise: {private_key_path: /var/lib/headscale/noise_private.key}
prefixes: {v4: 100.64.0.0/10, v6: "fd7a:115c:a1e0::/48", allocation: sequential}
derp:
  server:
    enabled: false
    region_id: 999
    region_code: headscale
    region_name: Headscale Embedded DERP
    verify_clients: true
    stun_listen_addr: "0.0.0.0:3478"
    private_key_path: /var/lib/headscale/derp_server_private.key
    automatically_add_embedded_derp_region: true
    ipv4: 198.51.100.1
    ipv6: 2001:db8::1
  urls: [https://controlplane.tailscale.com/derpmap/default]
  paths: []
  auto_update_enabled: true
  update_frequency: 3h
disable_check_updates: false
node:
  expiry: 0
  ephemeral: {inactivity_timeout: 30m}
  routes: {ha: {probe_interval: 10s, probe_timeout: 5s}}
database:
  type: sqlite
  debug: false
  gorm: {prepare_stmt: true, parameterized_queries: true, skip_err_record_not_found: true, slow_threshold: 1000}
  sqlite: {path: /var/lib/headscale/db.sqlite, write_ahead_log: true, wal_autocheckpoint: 1000}
acme_url: https://acme-v02.api.letsencrypt.org/directory
acme_email: ""
tls_letsencrypt_hostname: ""
tls_letsencrypt_cache_dir: /var/lib/headscale/cache
tls_letsencrypt_challenge_type: HTTP-01
tls_letsencrypt_listen: ":http"
tls_cert_path: ""
tls_key_path: ""
log: {level: info, format: text}
policy: {mode: file, path: ""}
dns:
  magic_dns: true
  base_domain: example.com
  override_local_dns: true
  nameservers: {global: [1.1.1.1, 1.0.0.1, "2606:4700:4700::1111"], split: {}}
  search_domains: []
  extra_records: []
unix_socket: /var/run/headscale/headscale.sock
unix_socket_permission: "0770"
logtail: {enabled: false}
taildrop: {enabled: true}
auto_update: {enabled: false}
tuning: {node_store_batch_size: 100, node_store_batch_timeout: 500ms, register_cache_max_entries: 1024}
"#;
    assert_eq!(warnings(text), Vec::<String>::new());
    let config = loaded(text);
    assert_eq!(config.derp.server, None);
    assert_eq!(config.policy, crate::config::PolicySource::File(None));
}

#[test]
fn harmless_keys_get_a_line_for_each_reason() {
    let text = "database: {type: postgres, postgres: {host: db, pass: hunter2}}\ntuning: {batch_change_delay: 1s}\n";
    let notes: Vec<String> = notes(text).iter().map(Note::to_string).collect();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes.iter().any(|note| note.contains("database.type, database.postgres.host, database.postgres.pass")));
    assert!(notes.iter().any(|note| note.contains("tuning.batch_change_delay")));
    assert!(!notes.concat().contains("hunter2"));
}

/// Sets one key, at its place in the document.
fn document(path: &str, value: &str) -> String {
    let parts: Vec<&str> = path.split('.').collect();
    let sections: String = (0..parts.len() - 1).map(|i| format!("{}{}:\n", "  ".repeat(i), parts[i])).collect();
    format!("{sections}{}{}: {value}\n", "  ".repeat(parts.len() - 1), parts[parts.len() - 1])
}

#[test]
fn each_key_that_is_not_there_yet_stops_the_start_by_its_name_unless_it_is_its_default() {
    let mut count = 0;
    for key in KEYS {
        let Status::NotYet { defaults, .. } = key.status else { continue };
        count += 1;
        let error = refused(&document(key.path, "something-else"));
        assert!(error.contains(key.path) && error.contains("is not there yet"), "{error}");
        for default in defaults {
            loaded(&document(key.path, &format!("{default:?}")));
        }
    }
    assert!(count > 7, "the table has lost its keys");
}

#[test]
fn each_removed_key_stops_the_start_and_says_where_to_go() {
    for key in KEYS {
        let hint = match key.status {
            Status::Renamed(new) => new,
            Status::Gone(what) => what,
            _ => continue,
        };
        let error = refused(&document(key.path, "x"));
        assert!(error.contains(key.path) && error.contains(hint), "{error}");
    }
}

#[test]
fn a_renamed_key_beside_its_new_name_is_a_warning() {
    let warnings = warnings("dns_config: {base_domain: old.example}\ndns: {base_domain: new.example}\n");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("dns_config.base_domain has no effect: dns.base_domain is set too"), "{warnings:?}");
}

#[test]
fn the_old_name_of_the_ephemeral_timeout_still_works() {
    let text = "ephemeral_node_inactivity_timeout: 10m\n";
    assert_eq!(loaded(text).node.ephemeral_inactivity_timeout.as_secs(), 600);
    assert!(warnings(text)[0].contains("is now node.ephemeral.inactivity_timeout"));
    let both = "ephemeral_node_inactivity_timeout: 10m\nnode: {ephemeral: {inactivity_timeout: 5m}}\n";
    assert_eq!(loaded(both).node.ephemeral_inactivity_timeout.as_secs(), 300);
}

#[test]
fn an_unknown_key_is_a_warning_that_names_the_nearest() {
    let cases = [
        ("sever_url: x", "unknown key sever_url has no effect: did you mean server_url?"),
        ("derp: {sever: {enabled: true}}", "unknown key derp.sever has no effect: did you mean derp.server?"),
        ("dns: {magicdns: true}", "unknown key dns.magicdns has no effect: did you mean dns.magic_dns?"),
        ("colour: blue", "unknown key colour has no effect"),
    ];
    for (text, warning) in cases {
        assert_eq!(warnings(text), [warning]);
    }
}

#[test]
fn keys_are_found_in_any_case() {
    assert_eq!(loaded("DNS: {Base_Domain: a.example}").dns.base_domain, "a.example");
}

#[test]
fn a_section_with_a_value_is_refused() {
    assert!(refused("dns: yes please").contains("dns \"yes please\": is a section"));
}
