//! Which file is read, and what the environment adds to it.

use super::*;
use crate::config::{RelayListener, load_client};
use std::time::Duration;

#[test]
fn without_a_file_everything_has_a_default_and_is_told() {
    let loaded = load(None, &nowhere()).unwrap();
    let config = &loaded.config;
    assert_eq!(config.server_url.as_str(), "http://127.0.0.1:8080");
    assert_eq!(config.listen_addr.to_string(), "127.0.0.1:8080");
    assert!(config.data_dir.ends_with("quorumscale-data") && config.data_dir.is_absolute());
    assert!(config.unix_socket.ends_with("quorumscale-data/quorumscale.sock"));
    assert_eq!(config.prefixes.v4.unwrap().to_string(), "100.64.0.0/10");
    assert_eq!(config.prefixes.v6.unwrap().to_string(), "fd7a:115c:a1e0::/48");
    assert_eq!(config.dns.base_domain, "tailnet.internal");
    assert_eq!(config.derp.server.as_ref().unwrap().listener, RelayListener::Own("127.0.0.1:8443".parse().unwrap()));
    let told: String = loaded.notes.iter().map(|note| format!("{note}\n")).collect();
    for value in ["quorumscale-data", "http://127.0.0.1:8080", "100.64.0.0/10", "tailnet.internal", "8443", "secret"] {
        assert!(told.contains(value), "{value} is not in:\n{told}");
    }
}

#[test]
fn root_uses_headscales_places() {
    let config = load(None, &Surroundings { root: true, ..nowhere() }).unwrap().config;
    assert_eq!(config.data_dir, Path::new("/var/lib/headscale"));
    assert_eq!(config.unix_socket, Path::new("/var/run/headscale/headscale.sock"));
}

#[test]
fn a_file_made_for_headscale_keeps_its_data_where_it_did() {
    let config = loaded("noise: {private_key_path: /var/lib/headscale/noise_private.key}");
    assert_eq!(config.data_dir, Path::new("/var/lib/headscale"));
}

#[test]
fn the_first_directory_with_a_file_wins_and_a_named_file_before_it() {
    let (first, second) = (file("cluster: {id: 11}"), file("cluster: {id: 12}"));
    let empty = tempfile::tempdir().unwrap();
    let directories = [empty.path(), first.dir.path(), second.dir.path()].map(PathBuf::from).to_vec();
    let mut surroundings = Surroundings { directories, ..nowhere() };
    assert_eq!(load(None, &surroundings).unwrap().config.cluster.id, 11);
    surroundings.env.insert("HEADSCALE_CONFIG".into(), second.path.display().to_string());
    assert_eq!(load(None, &surroundings).unwrap().config.cluster.id, 12);
    assert_eq!(load(Some(&first.path), &surroundings).unwrap().config.cluster.id, 11);
    surroundings.env.insert("QUORUMSCALE_CONFIG".into(), first.path.display().to_string());
    assert_eq!(load(None, &surroundings).unwrap().config.cluster.id, 11);
}

#[test]
fn a_named_file_that_is_not_there_is_an_error() {
    let error = load(Some(Path::new("no/such.yaml")), &nowhere()).unwrap_err().to_string();
    assert!(error.starts_with("reading no/such.yaml: No such file"), "{error}");
}

#[test]
fn toml_is_refused_by_name() {
    let error = load(Some(Path::new("config.toml")), &nowhere()).unwrap_err().to_string();
    assert!(error.contains("not TOML"), "{error}");
}

#[test]
fn malformed_yaml_is_refused_with_its_place() {
    let error = refused("server_url: http://127.0.0.1\n  x: [\n");
    assert!(error.contains("parsing ") && error.contains("line 2"), "{error}");
    assert!(refused("- a list").contains("not a map"));
}

#[test]
fn the_environment_beats_the_file_and_our_name_beats_headscales() {
    let text = "listen_addr: 127.0.0.1:1\nmetrics_listen_addr: 127.0.0.1:2\n";
    let env = [
        ("HEADSCALE_LISTEN_ADDR", "127.0.0.1:3"),
        ("QUORUMSCALE_LISTEN_ADDR", "127.0.0.1:4"),
        ("HEADSCALE_METRICS_LISTEN_ADDR", ""),
    ];
    let config = loaded_with(text, &with_env(env));
    assert_eq!(config.listen_addr.port(), 4);
    assert_eq!(config.metrics_listen_addr.unwrap().port(), 2, "an empty variable is not set");
}

#[test]
fn lists_and_maps_come_from_the_environment_too() {
    let env = with_env([
        ("HEADSCALE_DNS_NAMESERVERS_GLOBAL", "127.0.0.11 1.1.1.1"),
        ("HEADSCALE_DNS_NAMESERVERS_SPLIT", r#"{"corp.example": ["10.0.0.1"]}"#),
        ("HEADSCALE_NODE_EPHEMERAL_INACTIVITY_TIMEOUT", "30m"),
        ("QUORUMSCALE_CLUSTER_ID", "2"),
        ("QUORUMSCALE_CLUSTER_PEERS", "1=10.0.0.1:7946 2=10.0.0.2:7946 3=10.0.0.3:7946"),
    ]);
    let config = load(None, &env).unwrap().config;
    assert_eq!(config.dns.nameservers, ["127.0.0.11", "1.1.1.1"]);
    assert!(config.dns.override_local_dns);
    assert_eq!(config.dns.split, [("corp.example".to_string(), vec!["10.0.0.1".to_string()])]);
    assert_eq!(config.node.ephemeral_inactivity_timeout, Duration::from_secs(1800));
    assert_eq!(config.cluster.peers.len(), 3);
    assert_eq!(config.cluster.advertise_addr, "10.0.0.2:7946");
}

#[test]
fn every_key_can_come_from_the_environment_alone() {
    for key in crate::config::keys::KEYS {
        let variable = format!("HEADSCALE_{}", key.path.to_uppercase().replace('.', "_"));
        let surroundings = with_env([(&variable, "bogus")]);
        let quiet = load(None, &with_env([])).unwrap();
        let changed = match load(None, &surroundings) {
            Err(_) => true,
            Ok(loaded) => loaded.config != quiet.config || loaded.notes != quiet.notes,
        };
        assert!(changed, "{variable} changed nothing");
    }
}

#[test]
fn a_problem_names_the_variable_that_it_came_from() {
    let error = load(None, &with_env([("HEADSCALE_LISTEN_ADDR", "bogus")])).unwrap_err().to_string();
    assert!(error.contains("listen_addr (from HEADSCALE_LISTEN_ADDR) \"bogus\": must be IP:PORT"), "{error}");
}

#[test]
fn a_slip_in_a_variable_is_a_warning_and_a_stranger_is_not() {
    let env =
        with_env([("HEADSCALE_LISTEN_ADR", "x"), ("HEADSCALE_SERVICE_HOST", "10.0.0.1"), ("HEADSCALE_CONFIG", "")]);
    let notes = load(None, &env).unwrap().notes;
    let warnings: Vec<_> = notes.iter().filter(|note| matches!(note, Note::Warning(_))).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].to_string().contains("did you mean HEADSCALE_LISTEN_ADDR?"), "{warnings:?}");
}

#[test]
fn a_command_reads_its_own_keys_and_checks_no_other() {
    let text = "oidc: {issuer: https://x}\nlisten_addr: bogus\nunix_socket: here.sock\ncli: {address: a, api_key: k, timeout: 7s, insecure: true}\n";
    let file = file(text);
    let client = load_client(Some(&file.path), &nowhere()).unwrap();
    assert_eq!(client.unix_socket, file.dir.path().join("here.sock"));
    assert_eq!((client.cli.address.as_str(), client.cli.api_key.as_str()), ("a", "k"));
    assert_eq!((client.cli.timeout, client.cli.insecure), (Duration::from_secs(7), true));
    assert!(!format!("{:?}", client.cli).contains("\"k\""), "the key is printed");
}
