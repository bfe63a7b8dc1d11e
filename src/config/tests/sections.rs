//! What each section means, and what is wrong with it.

use super::*;
use crate::config::{LogLevel, PolicySource, RelayListener, missing_files};
use crate::state::Allocation;
use std::time::Duration;

#[test]
fn all_problems_are_told_at_once() {
    let error = refused("server_url: example.com\nlisten_addr: nowhere\nnode: {expiry: soon}\n");
    assert!(error.contains(": 3 problems:"), "{error}");
    for line in [
        "\n  - listen_addr \"nowhere\": must be IP:PORT, such as 0.0.0.0:8080 or [::]:8080",
        "\n  - server_url \"example.com\": must start with http:// or https://",
        "\n  - node.expiry \"soon\": not a valid duration string: \"soon\": write for example 90d, or 0 for never",
    ] {
        assert!(error.contains(line), "{error}");
    }
}

#[test]
fn each_bad_value_is_refused_with_key_value_and_remedy() {
    let cases = [
        ("listen_addr: 0.0.0.0:8080", "server_url: must be set"),
        ("listen_addr: 127.0.0.1:0", "server_url: must be set"),
        ("trusted_proxies: [10.0.0.0/8, ten]", "trusted_proxies \"ten\": entry 1 must be a network"),
        ("trusted_proxies: [0.0.0.0/0]", "trusted_proxies \"0.0.0.0/0\": entry 0 would believe everybody"),
        ("tls_cert_path: a.pem", "tls_key_path: must be set too"),
        ("tls_key_path: a.pem", "tls_cert_path: must be set too"),
        ("unix_socket_permission: rwx", "unix_socket_permission \"rwx\": must be a mode in octal digits"),
        ("unix_socket_permission: 0o770", "unix_socket_permission \"504\": must be a mode in octal digits"),
        ("prefixes: {v4: '', v6: ''}", "no IPv4 or IPv6 prefix configured, minimum one prefix is required"),
        ("prefixes: {v4: ten}", "prefixes.v4 \"ten\": must be an IPv4 network"),
        ("prefixes: {allocation: best}", "invalid prefix allocation strategy, allowed options: sequential, random"),
        ("node: {ephemeral: {inactivity_timeout: 65s}}", "must be more than 1m5s"),
        ("node: {ephemeral: {inactivity_timeout: 120}}", "has no unit: write for example \"120s\""),
        ("offline_grace: 10m", "offline_grace \"10m0s\": must be from 1s to 2m0s"),
        ("policy: {mode: cloud}", "policy.mode \"cloud\": must be database or file"),
        ("log: {format: xml}", "log.format \"xml\": must be text or json"),
        ("logtail: {enabled: perhaps}", "logtail.enabled \"perhaps\": must be true or false"),
        ("cli: {timeout: 0}", "cli.timeout \"0\": must be more than nothing"),
        ("listen_addr: [a, b]", "listen_addr \"a b\": must be one value"),
        ("trusted_proxies: {a: b}", "trusted_proxies \"a: b\": must be a list"),
        ("dns: {base_domain: ''}", "dns.base_domain: must be set when dns.magic_dns is true"),
        ("dns: {base_domain: a b}", "dns.base_domain \"a b\": must be a domain name"),
        ("dns: {override_local_dns: true}", "needs at least one name server in dns.nameservers.global"),
        ("dns: {extra_records: [], extra_records_path: a}", "must not be set together with dns.extra_records"),
        ("dns: {extra_records: [{name: a, type: A, value: '::1'}]}", "must be an A with an IPv4 address"),
        ("dns: {extra_records: [{name: a}]}", "a record needs name and value"),
        ("dns: {nameservers: {split: [a]}}", "must be a map from domains"),
        ("derp: {server: {listen_addr: ''}}", "derp.server.listen_addr: must be set, because a relay needs TLS"),
        ("derp: {server: {listen_addr: 127.0.0.1:8080}}", "is listen_addr: choose another port"),
        ("derp: {server: {hostname: 'a:8443'}}", "without a port"),
        ("derp: {server: {ipv4: '::1'}}", "derp.server.ipv4 \"::1\": must be an IPv4 address"),
        ("derp: {server: {automatically_add_embedded_derp_region: false}}", "needs derp.paths"),
        ("derp: {update_frequency: 1s}", "derp.update_frequency \"1s\": must be at least 1m0s"),
        ("noise: {private_key_path: k}\nderp: {server: {private_key_path: k}}", "must not be noise.private_key_path"),
        ("cluster: {id: 0}", "cluster.id \"0\": must be a number from 1 on"),
        ("cluster: {id: one}", "cluster.id \"one\": must be a number from 1 on"),
        ("cluster: {listen_addr: 0.0.0.0:7946}", "cluster.advertise_addr: must be set to HOST:PORT"),
        ("cluster: {advertise_addr: here}", "cluster.advertise_addr \"here\": must be HOST:PORT"),
        ("cluster: {peers: {1: a}}", "cluster.peers \"a\": an address must be HOST:PORT"),
        ("cluster: {peers: {one: 'a:1'}}", "cluster.peers \"one\": an id must be a number"),
        ("cluster: {peers: [{id: 1}]}", "each must have an id and an address"),
        ("cluster: {peers: ['1=a:1', '1=b:1']}", "ids and addresses must differ"),
        ("cluster: {peers: ['1=a:1'], advertise_addr: 'b:1'}", "must be what cluster.peers says of this replica"),
        ("cluster: {client_addresses: [name]}", "cluster.client_addresses \"name\": must be an IP address"),
        ("cluster: {heartbeat_interval: 1ms}", "must be at least 10ms"),
        ("cluster: {election_timeout_min: 150ms}", "must be at least twice cluster.heartbeat_interval"),
        ("cluster: {election_timeout_max: 100ms}", "must be more than cluster.election_timeout_min"),
    ];
    for (text, why) in cases {
        let error = refused(text);
        assert!(error.contains(why), "{text}\ngave: {error}\nnot: {why}");
    }
}

#[test]
fn a_server_within_the_tailnets_domain_is_refused() {
    let within = |host: &str| format!("server_url: https://{host}\ndns: {{base_domain: ts.example.com}}\n");
    for host in ["ts.example.com", "head.ts.example.com"] {
        assert!(refused(&within(host)).contains("lies within it"), "{host}");
    }
    for host in ["example.com", "headts.example.com"] {
        loaded(&within(host));
    }
}

#[test]
fn plain_http_with_a_name_or_a_public_address_is_a_warning() {
    for host in ["head.example.com", "203.0.113.1:8080"] {
        let warnings = warnings(&format!("server_url: http://{host}"));
        assert!(warnings[0].contains("tls_cert_path"), "{warnings:?}");
    }
    assert!(warnings("server_url: http://192.168.1.2:8080").is_empty());
}

#[test]
fn every_path_is_relative_to_the_file() {
    let text = "data_dir: d\nunix_socket: ./s/x.sock\nnoise: {private_key_path: n}\ntls_cert_path: c\ntls_key_path: k\n\
                policy: {path: p}\ndns: {extra_records_path: ../e}\nderp: {paths: [m]}\ncluster: {secret_path: z}\n";
    let file = file(text);
    let config = load(Some(&file.path), &nowhere()).unwrap().config;
    let dir = file.dir.path();
    assert_eq!(config.data_dir, dir.join("d"));
    assert_eq!(config.unix_socket, dir.join("s/x.sock"));
    assert_eq!(config.noise_private_key_path.unwrap(), dir.join("n"));
    assert_eq!(config.tls.unwrap().cert, dir.join("c"));
    assert_eq!(config.policy, PolicySource::File(Some(dir.join("p"))));
    assert_eq!(config.dns.extra_records_path.unwrap(), dir.parent().unwrap().join("e"));
    assert_eq!(config.derp.paths, [dir.join("m")]);
    assert_eq!(config.cluster.secret_path, dir.join("z"));
}

#[test]
fn the_policy_is_in_the_database_unless_a_path_is_set() {
    assert_eq!(loaded("").policy, PolicySource::Database);
    assert!(matches!(loaded("policy: {path: p}").policy, PolicySource::File(Some(_))));
    assert_eq!(loaded("policy: {mode: database, path: p}").policy, PolicySource::Database);
    assert_eq!(loaded("policy: {mode: file}").policy, PolicySource::File(None));
}

#[test]
fn a_mode_may_be_written_with_and_without_quotes() {
    for text in ["\"0700\"", "0700", "700", "\"0o700\""] {
        assert_eq!(loaded(&format!("unix_socket_permission: {text}")).unix_socket_permission, 0o700, "{text}");
    }
}

#[test]
fn log_levels_are_headscales() {
    assert_eq!(loaded("log: {level: trace, format: json}").log.level, LogLevel::Trace);
    assert_eq!(loaded("log: {level: disabled}").log.level, LogLevel::Off);
    assert_eq!(loaded("log: {level: loud}").log.level, LogLevel::Debug);
    assert_eq!(warnings("log: {level: loud}").len(), 1);
}

#[test]
fn one_prefix_is_enough_and_a_strange_one_is_a_warning() {
    let config = loaded("prefixes: {v4: 100.64.1.7/16, allocation: random}");
    assert_eq!(config.prefixes.v4.unwrap().to_string(), "100.64.0.0/16");
    assert_eq!((config.prefixes.v6, config.prefixes.allocation), (None, Allocation::Random));
    assert!(warnings("prefixes: {v4: 10.0.0.0/8}")[0].contains("not within 100.64.0.0/10"));
}

#[test]
fn name_servers_that_are_none_are_left_out_with_a_warning() {
    let text = "dns: {nameservers: {global: [1.1.1.1, one, 'https://dns.nextdns.io/abc'], split: {a.example.: [x, 10.0.0.1]}}}";
    let dns = loaded(text).dns;
    assert_eq!(dns.nameservers, ["1.1.1.1", "https://dns.nextdns.io/abc"]);
    assert_eq!(dns.split, [("a.example".to_string(), vec!["10.0.0.1".to_string()])]);
    assert_eq!(warnings(text).len(), 2);
}

#[test]
fn extra_records_are_read() {
    let dns =
        loaded("dns: {extra_records: [{name: a.example, type: aaaa, value: '::1'}, {Name: b, Value: 10.0.0.1}]}").dns;
    let read: Vec<_> = dns.extra_records.iter().map(|r| (r.name.as_str(), r.kind.as_str(), r.value.as_str())).collect();
    assert_eq!(read, [("a.example", "AAAA", "::1"), ("b", "", "10.0.0.1")]);
}

#[test]
fn the_relay_is_where_there_is_tls() {
    let listener = |text: &str| loaded(text).derp.server.map(|relay| (relay.listener, relay.host_name));
    let own = |addr: &str| RelayListener::Own(addr.parse().unwrap());
    let main = |host: &str| Some((RelayListener::Main, host.to_string()));
    assert_eq!(listener(""), Some((own("127.0.0.1:8443"), "127.0.0.1".into())));
    assert_eq!(listener("server_url: https://a.example"), main("a.example"));
    assert_eq!(listener("server_url: https://a.example\ntls_cert_path: c\ntls_key_path: k"), main("a.example"));
    let text = "server_url: https://a.example\nderp: {server: {listen_addr: 0.0.0.0:8443, ipv4: 192.0.2.1}}";
    assert_eq!(listener(text), Some((own("0.0.0.0:8443"), "192.0.2.1".into())));
}

#[test]
fn there_is_a_relay_unless_the_file_names_others() {
    assert!(loaded("derp: {urls: [https://a.example/derpmap]}").derp.server.is_none());
    assert!(loaded("derp: {urls: [https://a.example/derpmap], server: {enabled: true}}").derp.server.is_some());
    assert!(warnings("derp: {server: {enabled: false}}")[0].contains("clients do not come up without one"));
    assert!(warnings("derp: {urls: [a.example]}")[0].contains("is not a URL"));
}

#[test]
fn several_relays_under_one_name_are_a_warning() {
    let text = "server_url: http://localhost:8080\nlisten_addr: 0.0.0.0:8080\n\
                cluster: {peers: ['1=a:1', '2=b:1', '3=c:1'], client_addresses: [192.0.2.1]}\n";
    let warnings = warnings(text);
    assert!(warnings.iter().any(|w| w.contains("Set derp.server.ipv4 to this replica's own address")), "{warnings:?}");
}

#[test]
fn a_cluster_of_one_is_the_default() {
    let cluster = loaded("data_dir: d").cluster;
    assert_eq!((cluster.id, cluster.listen_addr, cluster.peers.len()), (1, None, 0));
    assert!(cluster.secret_path.ends_with("d/secret"));
    assert_eq!(cluster.heartbeat_interval, Duration::from_millis(100));
    assert_eq!(cluster.election_timeout, Duration::from_millis(250)..Duration::from_millis(400));
}

#[test]
fn a_replica_that_joins_later_is_not_among_the_peers() {
    let text = "cluster: {id: 4, listen_addr: 192.0.2.4:7946, peers: {1: a:1, 2: b:1, 3: c:1}}";
    let cluster = loaded(text).cluster;
    assert_eq!(cluster.advertise_addr, "192.0.2.4:7946");
    assert!(cluster.peers.iter().all(|peer| peer.id != 4));
}

#[test]
fn an_even_number_of_peers_is_a_warning() {
    let warnings = warnings("cluster: {peers: ['1=127.0.0.1:1', '2=127.0.0.1:2']}");
    assert!(warnings[0].contains("has 2 replicas: that many tolerate no more failures than 1"), "{warnings:?}");
}

#[test]
fn a_socket_path_that_is_too_long_is_refused() {
    assert!(refused(&format!("unix_socket: /{}", "x".repeat(120))).contains("choose a shorter one"));
}

#[test]
fn files_that_the_server_needs_are_looked_for() {
    let file = file("tls_cert_path: c\ntls_key_path: config.yaml\npolicy: {path: p}\nderp: {paths: [m]}\n");
    let config = load(Some(&file.path), &nowhere()).unwrap().config;
    let missing = missing_files(&config);
    let keys: Vec<&str> = missing.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(keys, ["tls_cert_path", "policy.path", "derp.paths"]);
}

#[test]
fn dead_replicas_are_removed_only_where_a_file_says_so_and_never_rashly() {
    let autopilot = loaded("data_dir: d").cluster.autopilot;
    assert!(!autopilot.cleanup_dead_servers);
    let text =
        "cluster: {autopilot: {cleanup_dead_servers: true, dead_server_last_contact_threshold: 48h, min_quorum: 5}}";
    let autopilot = loaded(text).cluster.autopilot;
    assert!(autopilot.cleanup_dead_servers && autopilot.min_quorum == 5);
    assert_eq!(autopilot.dead_server_last_contact_threshold, Duration::from_secs(48 * 3600));
    assert!(refused("cluster: {autopilot: {dead_server_last_contact_threshold: 10s}}").contains("at least 1m"));
    assert!(refused("cluster: {autopilot: {min_quorum: 1}}").contains("at least 3"));
}

#[test]
fn the_limits_can_be_raised_as_far_as_memory_allows() {
    let config = loaded("limits: {pending_logins: 100000, pending_logins_per_address: 1000, relay_handshakes: 4096}");
    let limits = config.limits;
    assert_eq!(
        (limits.pending_logins, limits.pending_logins_per_address, limits.relay_handshakes),
        (100_000, 1000, 4096)
    );
    for (key, value, wanted) in [
        ("pending_logins", 100_001, "from 1 to 100000"),
        ("pending_logins_per_address", 0, "from 1 to 1000"),
        ("peer_handshakes", 1, "from 16 to 100000"),
        ("lookups_per_minute", 0, "from 1 to 60000"),
    ] {
        let text = refused(&format!("limits: {{{key}: {value}}}"));
        assert!(text.contains(&format!("limits.{key}")) && text.contains(wanted), "{text}");
    }
}
