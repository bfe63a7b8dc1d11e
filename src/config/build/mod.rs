//! From keys and values to a [`Config`].
//!
//! Each function reads one section, fills in its defaults and notes what is
//! wrong with it. When something is wrong, it goes on with a stand-in, so that
//! everything that is wrong is found at once; nobody sees the stand-ins.

mod cluster;
mod derp;
mod dns;
pub(super) mod general;
mod limits;
mod oidc;

pub(super) use general::{cli, data_dir, unix_socket};

use super::reader::Reader;
use super::{Config, PolicySource, RelayListener};

/// Reads everything.
pub(super) fn config(reader: &mut Reader, root: bool) -> Config {
    let data_dir = general::data_dir(reader, root);
    let tls = general::tls(reader);
    let listen_addr = general::listen_addr(reader);
    let server_url = general::server_url(reader, listen_addr, tls.is_some());
    let cluster = cluster::cluster(reader, &data_dir, listen_addr, &server_url);
    let derp = derp::derp(
        reader,
        &derp::Around {
            data_dir: &data_dir,
            listen_addr,
            server_url: &server_url,
            tls: tls.is_some(),
            replica: cluster.id,
            alone: cluster.peers.len() < 2,
        },
    );
    Config {
        file: None,
        metrics_listen_addr: general::metrics_listen_addr(reader),
        trusted_proxies: general::trusted_proxies(reader),
        trusted_hosts: general::trusted_hosts(reader),
        unix_socket: general::unix_socket(reader, &data_dir, root),
        unix_socket_permission: general::unix_socket_permission(reader),
        noise_private_key_path: reader.path("noise.private_key_path"),
        prefixes: general::prefixes(reader),
        node: general::node(reader),
        offline_grace: general::offline_grace(reader),
        dns: dns::dns(reader, &server_url),
        policy: general::policy(reader),
        oidc: oidc::oidc(reader),
        log: general::log(reader),
        logtail_enabled: reader.boolean("logtail.enabled").unwrap_or(false),
        taildrop_enabled: reader.boolean("taildrop.enabled").unwrap_or(true),
        cli: general::cli(reader),
        server_url,
        listen_addr,
        limits: limits::limits(reader),
        tls,
        data_dir,
        derp,
        cluster,
    }
}

/// What an operator who wrote no file should know, a line each.
pub(super) fn summary(config: &Config) -> Vec<String> {
    let prefixes = [config.prefixes.v4.map(|p| p.to_string()), config.prefixes.v6.map(|p| p.to_string())];
    let prefixes: Vec<String> = prefixes.into_iter().flatten().collect();
    let relay = match config.derp.server.as_ref().map(|relay| relay.listener) {
        None => "none".into(),
        Some(RelayListener::Main) => config.listen_addr.to_string(),
        Some(RelayListener::Own(addr)) => addr.to_string(),
    };
    let stun = config.derp.server.as_ref().and_then(|relay| relay.stun_listen_addr);
    vec![
        format!("data_dir: {}", config.data_dir.display()),
        format!("server_url: {} (what clients are given)", config.server_url),
        format!("listen_addr: {}", config.listen_addr),
        format!("metrics_listen_addr: {}", config.metrics_listen_addr.map_or("none".into(), |a| a.to_string())),
        format!("unix_socket: {}", config.unix_socket.display()),
        format!("prefixes: {}", prefixes.join(", ")),
        format!("dns.base_domain: {}", config.dns.base_domain),
        format!("derp.server: relay on {relay}, STUN on {}", stun.map_or("none".into(), |a| a.to_string())),
        format!(
            "policy.mode: {}",
            if config.policy == PolicySource::Database { "database (see \"policy set\")" } else { "file" }
        ),
        format!("cluster: one replica, id {}, secret in {}", config.cluster.id, config.cluster.secret_path.display()),
    ]
}
