//! Starts the parts in order, and stops them in reverse.

mod approver;
mod body;
mod debug;
mod debug_access;
mod door;
pub(crate) mod duties;
mod gauges;
mod identity;
mod listen;
mod log;
mod not_after;
mod policy_file;
mod private;
mod relay;
mod sockets;
mod tls_files;

use crate::cluster::Cluster;
use crate::config::{Config, PolicySource};
use crate::dns::DnsSettings;
use crate::netmap::{Environment, Hub};
use crate::oidc::{self, Oidc};
use crate::policy::Policies;
use crate::state::{ReplicaId, Settings};
use crate::{api, cluster, control, derp, dns, metrics, web};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// Over how long a stopping replica spreads the end of its streams at most, so that their
/// clients do not all come to the other replicas in one moment.
const DRAIN: Duration = Duration::from_millis(1500);
/// A few streams need not wait for each other as long as many.
const DRAIN_PER_STREAM: Duration = Duration::from_millis(10);
/// A stop takes five seconds at most. What is not done by then is not needed: all that was
/// acknowledged is on disk.
const STOP_PATIENCE: Duration = Duration::from_millis(4800);

/// A part could not be started. Says which, why, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {reason}")]
pub struct StartError {
    what: String,
    reason: String,
}

impl StartError {
    fn new(what: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Self { what: what.into(), reason: reason.to_string() }
    }
}

/// Runs a replica until SIGTERM, SIGINT or SIGQUIT. SIGHUP reads the policy file and the certificate again.
pub async fn run(mut config: Config) -> Result<(), StartError> {
    log::start(&config.log);
    config.limits = door::within_open_files(config.limits);
    let recorder = metrics::install().map_err(|e| StartError::new("metrics", e))?;
    let mut signals = Signals::new().map_err(|e| StartError::new("signals", e))?;
    private::settle(&config)?;
    // Sockets first: a port that is taken is told before anything is written.
    let sockets = sockets::Sockets::open(&config).await?;
    let provider = match &config.oidc {
        Some(rules) => {
            Some(oidc::Found::look(rules).await.map_err(|e| StartError::new("login with OpenID Connect", e))?)
        }
        None => None,
    };

    let cluster =
        Cluster::start(cluster_options(&config)).await.map_err(|e| StartError::new("starting the cluster", e))?;
    let stop = CancellationToken::new();
    let policies = Arc::new(Policies::default());
    let relay = relay::Parts::new(&config, &cluster)?;
    let derp_map = relay::maps(&config, relay.is_some(), &stop).await?;
    let hub = Hub::start(Environment {
        cluster: cluster.clone(),
        policies: policies.clone(),
        derp_map: derp_map.clone(),
        dns: dns_settings(&config, &stop),
        domain: config.server_url.host().to_owned(),
        taildrop: config.taildrop_enabled,
        logtail: config.logtail_enabled,
        auto_update: false,
        offline_grace: config.offline_grace,
    });

    // One for each that is told: a notification is for one waiter.
    let (reload, reload_certificate) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let oidc = provider.map(|found| {
        let environment = oidc::Environment {
            cluster: cluster.clone(),
            policies: policies.clone(),
            server_url: config.server_url.as_str().to_owned(),
            limits: config.limits,
        };
        found.serve(environment, stop.clone())
    });
    let edges = Edges {
        config: &config,
        cluster: &cluster,
        hub: &hub,
        policies: &policies,
        relay: relay.as_ref(),
        derp_map,
        oidc,
        stop: &stop,
    };
    let routers = edges.routers(recorder);
    let relay_handle = relay.as_ref().map(|parts| parts.relay.clone());
    let identity = identity::of(&config, &cluster, relay.as_ref());
    let proxies = Arc::new(web::TrustedProxies::new(config.trusted_proxies.clone()));
    if let Some(certificate) = sockets.certificate.clone() {
        tokio::spawn(certificate.follow(reload_certificate.clone(), stop.clone()));
    }
    sockets.serve(routers, relay, || door::Door::new(config.limits, proxies.clone()), &stop);
    tokio::spawn(gauges::keep(cluster.clone(), stop.clone()));
    tokio::spawn(identity::announce(cluster.clone(), identity, settings(&config), stop.clone()));
    tokio::spawn(approver::run(cluster.clone(), policies.clone(), stop.clone()));
    tokio::spawn(duties::run(cluster.clone(), config.offline_grace, stop.clone()));
    if let PolicySource::File(Some(path)) = &config.policy {
        let memory = config.data_dir.join("policy-proposed");
        tokio::spawn(policy_file::follow(cluster.clone(), path.clone(), memory, reload.clone(), stop.clone()));
    }
    tracing::info!(
        replica = %cluster.id(), url = config.server_url.as_str(), listen = %config.listen_addr,
        "serving"
    );

    signals.wait(&[&reload, &reload_certificate]).await;
    tracing::info!("stopping");
    cluster::end_process_after(STOP_PATIENCE);
    cluster.leave().await;
    let streams = u32::try_from(hub.streams()).unwrap_or(u32::MAX);
    hub.drain(DRAIN.min(DRAIN_PER_STREAM.saturating_mul(streams))).await;
    stop.cancel();
    if let Some(relay) = relay_handle {
        relay.shutdown().await;
    }
    cluster.shutdown().await;
    tracing::info!("stopped");
    Ok(())
}

/// What each listener serves.
struct Routers {
    public: axum::Router,
    socket: axum::Router,
    metrics: axum::Router,
}

/// What the edges are made of.
struct Edges<'a> {
    config: &'a Config,
    cluster: &'a Cluster,
    hub: &'a Hub,
    policies: &'a Arc<Policies>,
    relay: Option<&'a relay::Parts>,
    derp_map: watch::Receiver<Arc<crate::tailcfg::DerpMap>>,
    oidc: Option<Arc<Oidc>>,
    stop: &'a CancellationToken,
}

impl Edges<'_> {
    fn routers(self, recorder: metrics::Handle) -> Routers {
        let Self { config, cluster, hub, policies, relay, derp_map, oidc, stop } = self;
        let api = api::Options {
            cluster: cluster.clone(),
            policies: policies.clone(),
            policy_mode: match config.policy {
                PolicySource::Database => api::PolicyMode::Database,
                PolicySource::File(_) => api::PolicyMode::File,
            },
        };
        let server_url = config.server_url.as_str().to_owned();
        let hosts = hosts(config, cluster);
        let by_provider = oidc.is_some();
        let pages = web::Options {
            cluster: cluster.clone(),
            server_url: server_url.clone(),
            hosts: hosts.clone(),
            limits: config.limits,
            oidc,
        };
        let mut public = web::router(pages)
            .merge(control::router(control::Options {
                cluster: cluster.clone(),
                hub: hub.clone(),
                policies: policies.clone(),
                server_url,
                limits: config.limits,
                by_provider,
                stop: stop.clone(),
            }))
            .merge(derp::verify_router(derp::verify_against(cluster)))
            .merge(web::no_foreign_origin(
                api::limited(api::authenticated(api.clone()), cluster.clone(), config.limits),
                hosts.clone(),
            ));
        if let Some(parts) = relay.filter(|parts| parts.listener.is_none()) {
            public = public.merge(parts.router());
        }
        let inside = debug::Inside {
            cluster: cluster.clone(),
            policies: policies.clone(),
            hub: hub.clone(),
            derp_map: derp_map.clone(),
            config: Arc::new(config.clone()),
            has_relay: relay.is_some(),
        };
        let mut pages = debug::pages(&inside);
        pages.push(derp::debug_page(relay.map(|parts| parts.relay.clone()), derp_map));
        let prefixes = [config.prefixes.v4.map(Into::into), config.prefixes.v6.map(Into::into)];
        let access = debug_access::DebugAccess::of_this_process(prefixes.into_iter().flatten().collect());
        Routers {
            public: web::common(public, web::TrustedProxies::new(config.trusted_proxies.clone())),
            socket: api::router(api),
            metrics: web::inside(metrics::router(recorder, pages, |pages| access.guard(pages)), hosts),
        }
    }
}

/// Under which names browsers find this replica. (Those of others are in the state.)
fn hosts(config: &Config, cluster: &Cluster) -> web::Hosts {
    let system = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let relay = config.derp.server.as_ref().map(|relay| relay.host_name.clone());
    let own = [config.server_url.host().to_owned(), system].into_iter().chain(relay);
    web::Hosts::new(cluster.clone(), own.chain(config.trusted_hosts.iter().cloned()))
}

fn settings(config: &Config) -> Settings {
    Settings {
        prefix_v4: config.prefixes.v4,
        prefix_v6: config.prefixes.v6,
        allocation: config.prefixes.allocation,
        base_domain: config.dns.base_domain.clone(),
        node_expiry: config.node.expiry,
        ephemeral_timeout: config.node.ephemeral_inactivity_timeout,
    }
}

fn cluster_options(config: &Config) -> cluster::Options {
    let section = &config.cluster;
    cluster::Options {
        id: ReplicaId(section.id),
        data_dir: config.data_dir.clone(),
        listen_addr: section.listen_addr,
        advertise_addr: section.advertise_addr.clone(),
        peers: section.peers.iter().map(|peer| (ReplicaId(peer.id), peer.address.clone())).collect(),
        secret_path: section.secret_path.clone(),
        previous_secret_path: section.previous_secret_path.clone(),
        settings: settings(config),
        noise_key_path: config.noise_private_key_path.clone(),
        heartbeat_interval: section.heartbeat_interval,
        snapshot_every: section.snapshot_every,
        keep_log: section.keep_log,
        compare_every: cluster::Options::COMPARE_EVERY,
        scrub_interval: section.scrub_interval,
        disk_reserve: section.disk_reserve,
        slow_sync: section.slow_sync,
        peer_handshakes: config.limits.peer_handshakes,
        autopilot: section.autopilot,
        election_timeout: section.election_timeout.clone(),
    }
}

fn dns_settings(config: &Config, stop: &CancellationToken) -> watch::Receiver<Arc<DnsSettings>> {
    let section = &config.dns;
    let settings = DnsSettings {
        magic_dns: section.magic_dns,
        override_local_dns: section.override_local_dns,
        nameservers: section.nameservers.clone(),
        split: section.split.clone(),
        search_domains: section.search_domains.clone(),
        extra_records: section.extra_records.clone(),
    };
    let (sender, receiver) = watch::channel(Arc::new(settings));
    if let Some(path) = section.extra_records_path.clone() {
        let stop = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = dns::watch_extra_records(path, sender) => {}
                () = stop.cancelled() => {}
            }
        });
    }
    receiver
}

struct Signals {
    stop: [tokio::signal::unix::Signal; 3],
    reload: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            stop: [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::quit())?],
            reload: signal(SignalKind::hangup())?,
        })
    }

    /// Returns when the process is told to stop.
    async fn wait(&mut self, reload: &[&Notify]) {
        let [terminate, interrupt, quit] = &mut self.stop;
        loop {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                _ = quit.recv() => return,
                _ = self.reload.recv() => {
                    tracing::info!("SIGHUP: reading the policy file and the certificate again");
                    reload.iter().for_each(|reload| reload.notify_one());
                }
            }
        }
    }
}
