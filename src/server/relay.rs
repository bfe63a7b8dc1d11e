//! The embedded relay's parts, and the relay maps from elsewhere.

use super::StartError;
use crate::cluster::Cluster;
use crate::config::{Config, RelayConfig, RelayListener};
use crate::derp::{self, Bootstrap, Certificate, MapLoader, Relay, Sources};
use crate::tailcfg::DerpMap;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Nodes that one relay serves at a time.
const MAX_CLIENTS: usize = 20_000;

/// The replica's relay, ready to be served.
pub struct Parts {
    pub relay: Relay,
    /// Its own TLS; `None`: it is served on the main listener.
    pub listener: Option<Arc<rustls::ServerConfig>>,
    config: RelayConfig,
    /// What clients dial, where that is the main listener.
    main_port: u16,
    cert_sha256: Option<String>,
}

impl Parts {
    /// `None` when the configuration has no relay.
    pub fn new(config: &Config, cluster: &Cluster) -> Result<Option<Self>, StartError> {
        let Some(section) = config.derp.server.clone() else { return Ok(None) };
        let key = derp::load_or_make_key(Some(&section.private_key_path))
            .map_err(|e| StartError::new("derp.server.private_key_path", e))?;
        let relay = Relay::new(derp::Options {
            key,
            admit: if section.verify_clients { derp::verify_against(cluster) } else { derp::admit_all() },
            bootstrap: bootstrap(config, cluster),
            max_clients: MAX_CLIENTS,
            max_newcomers: config.limits.relay_handshakes,
        });
        let (listener, cert_sha256) = match section.listener {
            RelayListener::Main => (None, None),
            RelayListener::Own(_) => {
                let path = config.data_dir.join("relay-certificate.pem");
                let certificate = Certificate::load_or_make(&path, &section.host_name)
                    .map_err(|e| StartError::new("the relay's certificate", e))?;
                let tls = certificate.server_config().map_err(|e| StartError::new("the relay's certificate", e))?;
                (Some(tls), certificate.cert_sha256())
            }
        };
        Ok(Some(Self { relay, listener, config: section, main_port: config.server_url.port(), cert_sha256 }))
    }

    /// The relay's paths.
    pub fn router(&self) -> axum::Router {
        derp::router(self.relay.clone())
    }

    /// What the other replicas tell their clients of it; `None`: nothing.
    pub fn record(&self) -> Option<crate::state::Relay> {
        let section = &self.config;
        section.in_map.then(|| crate::state::Relay {
            region_id: section.region_id,
            region_code: section.region_code.clone(),
            region_name: section.region_name.clone(),
            host_name: section.host_name.clone(),
            ipv4: section.ipv4,
            ipv6: section.ipv6,
            derp_port: match section.listener {
                RelayListener::Main => self.main_port,
                RelayListener::Own(addr) => addr.port(),
            },
            stun_port: section.stun_listen_addr.map_or(0, |addr| addr.port()),
            cert_sha256: self.cert_sha256.clone(),
            insecure_for_tests: section.insecure_for_tests,
        })
    }
}

/// The relay maps of `derp.urls` and `derp.paths`, kept current until `stop`.
pub async fn maps(
    config: &Config,
    has_relay: bool,
    stop: &CancellationToken,
) -> Result<watch::Receiver<Arc<DerpMap>>, StartError> {
    let section = &config.derp;
    let mut loader = MapLoader::new(Sources { urls: section.urls.clone(), paths: section.paths.clone() });
    let loaded = loader.load().await;
    for failed in &loaded.failed {
        tracing::warn!("{failed}");
    }
    if loaded.map.regions.is_empty() && !has_relay {
        return Err(StartError::new(
            "derp",
            "there is no relay, and clients need one: leave derp.server.enabled on, or name maps in derp.urls or derp.paths",
        ));
    }
    let (sender, receiver) = watch::channel(Arc::new(loaded.map));
    if let Some(every) = section.update_every {
        let stop = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = derp::keep_current(loader, every, sender) => {}
                () = stop.cancelled() => {}
            }
        });
    }
    Ok(receiver)
}

/// A client whose DNS fails asks relays for the login server's addresses: those are
/// the replicas' own.
fn bootstrap(config: &Config, cluster: &Cluster) -> Bootstrap {
    let cluster = cluster.clone();
    Bootstrap::new(config.server_url.host(), move || {
        let view = cluster.view();
        let mut addresses: Vec<IpAddr> = view.replicas().flat_map(|r| r.client_addresses.iter().copied()).collect();
        addresses.dedup();
        addresses
    })
}
