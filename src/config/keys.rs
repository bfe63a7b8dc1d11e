//! Every key that is known, and what becomes of it.

/// A key of the configuration.
pub(super) struct Key {
    /// In lower case, with dots.
    pub(super) path: &'static str,
    pub(super) status: Status,
}

/// What becomes of a key that is set.
pub(super) enum Status {
    /// It works.
    Works,
    /// It works, and its value is a map, which the environment writes as JSON.
    WorksAsMap,
    /// It has no meaning here, and does no harm: one line says why.
    Harmless(&'static str),
    /// What it asks for is not there yet: any other value than these stops the start.
    NotYet {
        feature: &'static str,
        /// Headscale's default, and the value in its example file.
        defaults: &'static [&'static str],
    },
    /// It has another name now, and stops the start unless that is set too.
    Renamed(&'static str),
    /// As [`Status::Renamed`], but it still works while the new one is not set.
    Alias(&'static str),
    /// It is gone: it stops the start, and this says what to do.
    Gone(&'static str),
}

use Status::{Alias, Gone, Harmless, Renamed, Works, WorksAsMap};

const NO_DATABASE: &str = "there is no external database: data is kept in data_dir";
const NO_TUNING: &str = "there is nothing to tune here";
const NO_GRPC: &str = "there is no gRPC: the command line speaks the REST API, on the socket or on listen_addr";

const fn key(path: &'static str, status: Status) -> Key {
    Key { path, status }
}

const fn acme(path: &'static str, defaults: &'static [&'static str]) -> Key {
    Key { path, status: Status::NotYet { feature: "getting certificates from Let's Encrypt", defaults } }
}

const fn probing(path: &'static str, defaults: &'static [&'static str]) -> Key {
    Key { path, status: Status::NotYet { feature: "probing of subnet routers", defaults } }
}

/// All of them, by section.
pub(super) const KEYS: &[Key] = &[
    key("server_url", Works),
    key("listen_addr", Works),
    key("metrics_listen_addr", Works),
    key("trusted_proxies", Works),
    key("trusted_hosts", Works),
    key("data_dir", Works),
    key("offline_grace", Works),
    key("unix_socket", Works),
    key("unix_socket_permission", Works),
    key("noise.private_key_path", Works),
    key("tls_cert_path", Works),
    key("tls_key_path", Works),
    key("cluster.id", Works),
    key("cluster.listen_addr", Works),
    key("cluster.advertise_addr", Works),
    key("cluster.peers", WorksAsMap),
    key("cluster.secret_path", Works),
    key("cluster.previous_secret_path", Works),
    key("cluster.client_addresses", Works),
    key("cluster.autopilot.cleanup_dead_servers", Works),
    key("cluster.autopilot.dead_server_last_contact_threshold", Works),
    key("cluster.autopilot.min_quorum", Works),
    key("cluster.heartbeat_interval", Works),
    key("cluster.snapshot_every", Works),
    key("cluster.keep_log", Works),
    key("cluster.scrub_interval", Works),
    key("cluster.disk_reserve", Works),
    key("cluster.slow_sync", Works),
    key("cluster.election_timeout_min", Works),
    key("cluster.election_timeout_max", Works),
    key("limits.connections", Works),
    key("limits.strangers", Works),
    key("limits.handshakes", Works),
    key("limits.handshakes_per_address", Works),
    key("limits.failed_keys_per_minute", Works),
    key("limits.lookups_per_minute", Works),
    key("limits.relay_handshakes", Works),
    key("limits.peer_handshakes", Works),
    key("limits.pending_logins_per_address", Works),
    key("limits.pending_logins", Works),
    key("prefixes.v4", Works),
    key("prefixes.v6", Works),
    key("prefixes.allocation", Works),
    key("derp.server.enabled", Works),
    key("derp.server.listen_addr", Works),
    key("derp.server.hostname", Works),
    key("derp.server.region_id", Works),
    key("derp.server.region_code", Works),
    key("derp.server.region_name", Works),
    key("derp.server.verify_clients", Works),
    key("derp.server.stun_listen_addr", Works),
    key("derp.server.private_key_path", Works),
    key("derp.server.automatically_add_embedded_derp_region", Works),
    key("derp.server.ipv4", Works),
    key("derp.server.ipv6", Works),
    key("derp.server.insecure_for_tests", Works),
    key("derp.server.stun.enabled", Harmless("an empty derp.server.stun_listen_addr switches STUN off")),
    key("derp.urls", Works),
    key("derp.paths", Works),
    key("derp.auto_update_enabled", Works),
    key("derp.update_frequency", Works),
    key("node.expiry", Works),
    key("node.ephemeral.inactivity_timeout", Works),
    key("ephemeral_node_inactivity_timeout", Alias("node.ephemeral.inactivity_timeout")),
    probing("node.routes.ha.probe_interval", &["10s", "0", "0s"]),
    probing("node.routes.ha.probe_timeout", &["5s", "0", "0s"]),
    key("dns.magic_dns", Works),
    key("dns.base_domain", Works),
    key("dns.override_local_dns", Works),
    key("dns.nameservers.global", Works),
    key("dns.nameservers.split", WorksAsMap),
    key("dns.search_domains", Works),
    key("dns.extra_records", WorksAsMap),
    key("dns.extra_records_path", Works),
    key("policy.mode", Works),
    key("policy.path", Works),
    key("log.level", Works),
    key("log.format", Works),
    key("logtail.enabled", Works),
    key("taildrop.enabled", Works),
    key("cli.address", Works),
    key("cli.api_key", Works),
    key("cli.timeout", Works),
    key("cli.insecure", Works),
    key(
        "auto_update.enabled",
        Status::NotYet { feature: "telling clients to update themselves", defaults: &["false"] },
    ),
    key("preauth_keys.revoked_retention", Harmless("no key is kept once it is deleted")),
    key("disable_check_updates", Harmless("nothing here asks for updates")),
    key("database.type", Harmless(NO_DATABASE)),
    key("database.debug", Harmless(NO_DATABASE)),
    key("database.gorm.prepare_stmt", Harmless(NO_DATABASE)),
    key("database.gorm.parameterized_queries", Harmless(NO_DATABASE)),
    key("database.gorm.skip_err_record_not_found", Harmless(NO_DATABASE)),
    key("database.gorm.slow_threshold", Harmless(NO_DATABASE)),
    key("database.sqlite.path", Harmless(NO_DATABASE)),
    key("database.sqlite.write_ahead_log", Harmless(NO_DATABASE)),
    key("database.sqlite.wal_autocheckpoint", Harmless(NO_DATABASE)),
    key("database.postgres.host", Harmless(NO_DATABASE)),
    key("database.postgres.port", Harmless(NO_DATABASE)),
    key("database.postgres.name", Harmless(NO_DATABASE)),
    key("database.postgres.user", Harmless(NO_DATABASE)),
    key("database.postgres.pass", Harmless(NO_DATABASE)),
    key("database.postgres.ssl", Harmless(NO_DATABASE)),
    key("database.postgres.max_open_conns", Harmless(NO_DATABASE)),
    key("database.postgres.max_idle_conns", Harmless(NO_DATABASE)),
    key("database.postgres.conn_max_idle_time_secs", Harmless(NO_DATABASE)),
    key("tuning.notifier_send_timeout", Harmless(NO_TUNING)),
    key("tuning.batch_change_delay", Harmless(NO_TUNING)),
    key("tuning.node_mapsession_buffered_chan_size", Harmless(NO_TUNING)),
    key("tuning.batcher_workers", Harmless(NO_TUNING)),
    key("tuning.register_cache_expiration", Harmless(NO_TUNING)),
    key("tuning.register_cache_max_entries", Harmless(NO_TUNING)),
    key("tuning.node_store_batch_size", Harmless(NO_TUNING)),
    key("tuning.node_store_batch_timeout", Harmless(NO_TUNING)),
    key("grpc_listen_addr", Harmless(NO_GRPC)),
    key("grpc_allow_insecure", Harmless(NO_GRPC)),
    acme("acme_url", &["", "https://acme-v02.api.letsencrypt.org/directory"]),
    acme("acme_email", &[""]),
    acme("tls_letsencrypt_hostname", &[""]),
    acme("tls_letsencrypt_cache_dir", &["/var/www/.cache", "/var/lib/headscale/cache"]),
    acme("tls_letsencrypt_challenge_type", &["HTTP-01"]),
    acme("tls_letsencrypt_listen", &["", ":http"]),
    key("oidc.issuer", Works),
    key("oidc.only_start_if_oidc_is_available", Works),
    key("oidc.client_id", Works),
    key("oidc.client_secret", Works),
    key("oidc.client_secret_path", Works),
    key("oidc.scope", Works),
    key("oidc.extra_params", WorksAsMap),
    key("oidc.allowed_domains", Works),
    key("oidc.allowed_users", Works),
    key("oidc.allowed_groups", Works),
    key("oidc.email_verified_required", Works),
    key("oidc.use_expiry_from_token", Works),
    key("oidc.pkce.enabled", Works),
    key("oidc.pkce.method", Works),
    key("acl_policy_path", Renamed("policy.path")),
    key("dns_config.magic_dns", Renamed("dns.magic_dns")),
    key("dns_config.base_domain", Renamed("dns.base_domain")),
    key("dns_config.override_local_dns", Renamed("dns.override_local_dns")),
    key("dns_config.nameservers", Renamed("dns.nameservers.global")),
    key("dns_config.restricted_nameservers", Renamed("dns.nameservers.split")),
    key("dns_config.domains", Renamed("dns.search_domains")),
    key("dns_config.extra_records", Renamed("dns.extra_records")),
    key("dns.use_username_in_magic_dns", Gone("remove it: names in MagicDNS have no user name in them")),
    key("dns_config.use_username_in_magic_dns", Gone("remove it: names in MagicDNS have no user name in them")),
    key("oidc.strip_email_domain", Gone("remove it")),
    key("oidc.map_legacy_users", Gone("remove it")),
    key("oidc.expiry", Gone("set node.expiry instead")),
    key("randomize_client_port", Gone("set randomizeClientPort in the policy instead")),
];

/// The key with this path, which is in lower case.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// Whether known keys lie below this path.
pub(super) fn is_section(path: &str) -> bool {
    KEYS.iter().any(|key| key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// The known key or section that `path` was probably meant to be.
pub(super) fn nearest(path: &str) -> Option<&'static str> {
    let usable = KEYS.iter().filter(|key| !matches!(key.status, Renamed(_) | Gone(_)));
    let sections = [
        "cluster",
        "cluster.autopilot",
        "limits",
        "noise",
        "prefixes",
        "derp",
        "derp.server",
        "node",
        "dns",
        "dns.nameservers",
        "policy",
    ];
    let sections =
        sections.into_iter().chain(["log", "logtail", "taildrop", "cli", "database", "oidc", "oidc.pkce", "tuning"]);
    super::nearest::nearest(path, usable.map(|key| key.path).chain(sections))
}
