//! Starting a replica's part of the cluster: everything is checked before anything runs.

use super::bootstrap::Place;
use super::disk_latency::Syncs;
use super::fatal::die;
use super::feed::Feed;
use super::integrity::Integrity;
use super::keys::{self, Keyring};
use super::peer::{Checker, Links, Listener, Network, PeerTls, Server};
use super::removed::was_removed;
use super::replica::{Machinery, OwnRuntime, Parts, Replica};
use super::secret::Secrets;
use super::store::{Machine, Store};
use super::types::Raft;
use super::{Options, StartError};
use openraft::{Config, SnapshotPolicy};
use std::sync::Arc;
use std::time::Duration;

/// Threads for Raft, its store and its peers. What edges do cannot delay these.
const THREADS: usize = 2;
/// How long the start waits until this replica is in touch with its cluster, and
/// the cluster is set up. After that it starts without, and says so in its status.
const READY_PATIENCE: Duration = Duration::from_secs(5);

/// Starts a replica.
pub async fn start(options: Options) -> Result<Arc<Replica>, StartError> {
    let system = |what: &str| {
        let what = what.to_owned();
        move |source| StartError::System { what, source }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("raft")
        .enable_all()
        .build()
        .map_err(system("a runtime for Raft"))?;
    let runtime = OwnRuntime::new(runtime);
    let handle = runtime.handle();
    let started = handle.spawn(assemble(options, runtime)).await;
    match started {
        Ok(replica) => replica,
        Err(panic) => Err(StartError::System { what: "its tasks".into(), source: std::io::Error::other(panic) }),
    }
}

/// On the runtime that it is for.
async fn assemble(options: Options, runtime: OwnRuntime) -> Result<Arc<Replica>, StartError> {
    let secrets = Secrets::load(&options.secret_path, options.previous_secret_path.as_deref())?;
    let tls = PeerTls::new(&secrets, options.id).map_err(|e| StartError::Config(e.to_string()))?;
    let listener = match options.listen_addr {
        Some(address) => {
            let listener = Listener::bind(address, tls.clone(), options.peer_handshakes).await;
            Some(listener.map_err(|source| StartError::Listen { address, source })?)
        }
        None => None,
    };

    let (data_dir, id) = (options.data_dir.clone(), options.id);
    let syncs = Syncs::new(options.slow_sync);
    let opened = tokio::task::spawn_blocking(move || Store::open_watched(&data_dir, id, syncs)).await;
    let (store, machine, feed) =
        opened.map_err(|e| StartError::System { what: "its store".into(), source: std::io::Error::other(e) })??;
    match (feed.view().server_keys(), &options.noise_key_path) {
        (Some(sealed), _) => tls.present(Keyring::open(&secrets, sealed)?.1),
        (None, Some(path)) => drop(keys::import_noise_key(path)?),
        (None, None) => {}
    }

    let links = Arc::new(Links::new(id, tls.clone(), options.secret_path.clone(), feed.clone()));
    let replica = build(options, (secrets, tls), links, (&store, machine, feed)).await?;
    replica.own(Machinery { runtime, store });
    if let Some(listener) = listener {
        let checker = Checker { own: id, feed: replica.feed.clone() };
        spawn(&replica, listener.serve(Server::new(&replica), checker));
    }
    run(&replica).await?;
    Ok(replica)
}

/// Makes a replica that does nothing yet, for the runtime that this is called on.
pub async fn build(
    options: Options,
    (secrets, tls): (Secrets, PeerTls),
    links: Arc<Links>,
    (store, machine, feed): (&Store, Machine, Arc<Feed>),
) -> Result<Arc<Replica>, StartError> {
    let config = Arc::new(raft_config(&options)?);
    let network = Network { links: links.clone(), own: options.id.0 };
    let auditor = machine.auditor();
    let raft = Raft::build(options.id.0, config, network, store.log(), machine).await;
    let raft = raft.map_err(|e| StartError::Raft(e.to_string(), options.data_dir.clone()))?;
    let (snapshots, handle) = (store.snapshots().clone(), tokio::runtime::Handle::current());
    let halted = auditor.halted().map_err(|e| StartError::Raft(e.to_string(), options.data_dir.clone()))?;
    let (syncs, integrity) = (store.syncs().clone(), Integrity::new(halted));
    Ok(Arc::new(Replica::new(Parts {
        options,
        raft,
        feed,
        snapshots,
        auditor,
        links,
        secrets,
        tls,
        handle,
        syncs,
        integrity,
    })))
}

/// Lets Raft go, and waits a while for it to be of use.
pub async fn run(replica: &Arc<Replica>) -> Result<(), StartError> {
    replica.raft.run();
    spawn(replica, replica.clone().follow_raft());
    spawn(replica, replica.clone().keep_contact());
    spawn(replica, replica.clone().provide_keys());
    spawn(replica, replica.clone().follow_secret());
    spawn(replica, replica.clone().run_autopilot());
    spawn(replica, replica.clone().watch_removal());
    spawn(replica, replica.clone().compare_continuously());
    spawn(replica, replica.clone().scrub_continuously());
    spawn(replica, replica.clone().watch_machine());
    if was_removed(&replica.options.data_dir) {
        replica.set_removed();
        return Ok(());
    }

    if replica.options.listen_addr.is_some() {
        spawn(replica, replica.clone().announce_address());
    }
    let (tell, found) = tokio::sync::oneshot::channel();
    spawn(replica, found_cluster(replica.clone(), tell));
    let ready = async {
        if found.await.unwrap_or(Ok(Place::Waiting))? == Place::Waiting {
            return Ok(());
        }
        elect_alone(replica).await;
        replica.ready().await;
        Ok(())
    };
    match tokio::time::timeout(READY_PATIENCE, ready).await {
        Ok(result) => result,
        Err(_) => {
            tracing::warn!("replica {} starts without being in touch with its cluster yet", replica.id);
            Ok(())
        }
    }
}

/// Finds this replica's place; it may take longer than the start does.
async fn found_cluster(replica: Arc<Replica>, tell: tokio::sync::oneshot::Sender<Result<Place, StartError>>) {
    let result = replica.found().await;
    if let Err(Err(error)) = tell.send(result) {
        die("this replica cannot take its place in the cluster", error, "do that");
    }
}

/// A cluster of one need not wait for an election to be due.
async fn elect_alone(replica: &Replica) {
    let metrics = replica.metrics();
    let mut voters = metrics.membership_config.membership().voter_ids();
    if voters.next() == Some(replica.id.0) && voters.next().is_none() {
        // If the core is dead, whoever waits for it finds out.
        let _ = replica.raft.trigger().elect(false).await;
    }
}

/// Runs a task until this replica stops.
fn spawn(replica: &Arc<Replica>, task: impl Future<Output = ()> + Send + 'static) {
    let stopping = replica.stopping.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = stopping.cancelled() => {}
            () = task => {}
        }
    });
}

impl Replica {
    /// Returns when this replica is in touch with its cluster, and the cluster is set up.
    async fn ready(&self) {
        let mut quorum = self.contact.quorum();
        let mut applied = self.feed.applied();
        // They end only with the replica.
        let _ = quorum.wait_for(|quorum| *quorum).await;
        while self.feed.view().server_keys().is_none() && applied.changed().await.is_ok() {}
    }
}

fn raft_config(options: &Options) -> Result<Config, StartError> {
    let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let election_max = millis(options.election_timeout.end);
    let config = Config {
        cluster_name: "quorumscale".into(),
        heartbeat_interval: millis(options.heartbeat_interval),
        election_timeout_min: millis(options.election_timeout.start),
        election_timeout_max: election_max,
        enable_pre_vote: Some(true),
        // Lets a leader that sends but does not hear be replaced; at least the lease and an election.
        quorum_loss_probe_interval: Some((2 * election_max).max(1000)),
        // It would lead with an older state than it had, as apply is not synced.
        enable_leader_restore: Some(false),
        install_snapshot_timeout: 600_000,
        max_payload_entries: 512,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(options.snapshot_every),
        // Beyond the distance of two snapshots, or one would be sent again and again.
        replication_lag_threshold: options.snapshot_every.saturating_mul(2),
        max_in_snapshot_log_to_keep: options.keep_log,
        purge_batch_size: options.keep_log.clamp(1, 1024),
        backoff: "50ms 100ms 200ms ...2s".into(),
        ..Config::default()
    };
    config.validate().map_err(|e| StartError::Config(format!("heartbeat and election times do not fit: {e}")))
}
