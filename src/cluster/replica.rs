//! One running replica: Raft on a runtime of its own, and what works around it.

use super::Asked;
use super::clocks::Clocks;
use super::contact::Contact;
use super::disk_latency::Syncs;
use super::disk_space::Space;
use super::feed::Feed;
use super::forward::Forwards;
use super::integrity::Integrity;
use super::keys::{self, Keyring};
use super::peer::{Links, PeerTls};
use super::propose::{Requests, Writes};
use super::secret::Secrets;
use super::store::{Auditor, Snapshots, Store};
use super::types::{Raft, TypeConfig};
use super::{Options, PeerContact, ProblemKind};
use crate::state::{Command, ReplicaId, Standing, Time};
use crate::tailcfg::PrivateKey;
use arc_swap::ArcSwapOption;
use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

/// How long a stopping replica tries to tell the others.
const LEAVE_PATIENCE: Duration = Duration::from_millis(500);
/// How long a stopping leader waits for another to take over.
const HANDOVER_PATIENCE: Duration = Duration::from_secs(2);
/// How long what still runs may take to end.
const RUNTIME_PATIENCE: Duration = Duration::from_secs(2);

/// What Raft says about itself.
pub type Metrics = openraft::RaftMetrics<TypeConfig>;

/// This replica's core is dead, or is being stopped.
#[derive(Debug)]
pub struct Stopped;

/// A running replica; shared by all handles, its tasks and its peer server.
pub struct Replica {
    pub id: ReplicaId,
    pub incarnation: u64,
    pub options: Options,
    pub raft: Raft,
    pub feed: Arc<Feed>,
    pub snapshots: Snapshots,
    pub auditor: Auditor,
    pub links: Arc<Links>,
    pub requests: Requests,
    pub in_flight: Semaphore,
    pub writes: Writes,
    pub forwards: Forwards,
    /// The last time that was stamped on a proposal, as [`Time`].
    pub clock: AtomicI64,
    /// Whether its log is known to have something.
    pub has_data: AtomicBool,
    pub clocks: Clocks,
    pub space: Space,
    pub syncs: Arc<Syncs>,
    pub integrity: Integrity,
    /// The problems of this machine that were logged, and are not over.
    pub said: Mutex<BTreeSet<ProblemKind>>,
    pub contact: Contact,
    pub leads: watch::Sender<bool>,
    pub clients: AtomicU64,
    /// What an operator should know about this replica.
    pub note: Mutex<Option<String>>,
    /// No client should come any more.
    pub leaving: CancellationToken,
    pub stopping: CancellationToken,
    pub handle: Handle,
    pub secrets: Secrets,
    pub tls: PeerTls,
    keyring: ArcSwapOption<Keyring>,
    /// For [`Replica::derive`] before there is a data key: unknown to everybody.
    stopgap_key: [u8; 32],
    machinery: Mutex<Option<Machinery>>,
}

/// What has to be stopped in order.
pub struct Machinery {
    pub runtime: OwnRuntime,
    pub store: Store,
}

/// A runtime that may be dropped anywhere.
pub struct OwnRuntime {
    runtime: Option<Runtime>,
    handle: Handle,
}

impl OwnRuntime {
    pub fn new(runtime: Runtime) -> Self {
        Self { handle: runtime.handle().clone(), runtime: Some(runtime) }
    }

    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Ends all its tasks, and waits for them for a while. Not from an async context.
    fn stop(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(RUNTIME_PATIENCE);
        }
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What a replica is made of.
pub struct Parts {
    pub options: Options,
    pub raft: Raft,
    pub feed: Arc<Feed>,
    pub snapshots: Snapshots,
    pub auditor: Auditor,
    pub links: Arc<Links>,
    pub secrets: Secrets,
    pub tls: PeerTls,
    pub handle: Handle,
    pub syncs: Arc<Syncs>,
    pub integrity: Integrity,
}

impl Replica {
    pub fn new(parts: Parts) -> Self {
        let incarnation = rand::random();
        let space = Space::new(parts.options.disk_reserve);
        Self {
            id: parts.options.id,
            incarnation,
            options: parts.options,
            raft: parts.raft,
            feed: parts.feed,
            snapshots: parts.snapshots,
            auditor: parts.auditor,
            links: parts.links,
            requests: Requests::new(incarnation),
            in_flight: Semaphore::new(super::propose::IN_FLIGHT),
            writes: Writes::new(super::propose::BATCHES),
            forwards: Forwards::default(),
            clock: AtomicI64::new(0),
            has_data: AtomicBool::new(false),
            clocks: Clocks::default(),
            space,
            syncs: parts.syncs,
            integrity: parts.integrity,
            said: Mutex::default(),
            contact: Contact::new(),
            leads: watch::Sender::new(false),
            clients: AtomicU64::new(0),
            note: Mutex::default(),
            leaving: CancellationToken::new(),
            stopping: CancellationToken::new(),
            handle: parts.handle,
            secrets: parts.secrets,
            tls: parts.tls,
            keyring: ArcSwapOption::empty(),
            stopgap_key: rand::random(),
            machinery: Mutex::new(None),
        }
    }

    /// Gives it what it has to stop at its end.
    pub fn own(&self, machinery: Machinery) {
        *self.machinery.lock().unwrap_or_else(PoisonError::into_inner) = Some(machinery);
    }

    /// What Raft says now. Copied at once: the core waits for whoever reads it.
    pub fn metrics(&self) -> Metrics {
        self.raft.metrics().borrow_watched().clone()
    }

    /// Whether this replica leads. Raft itself is asked: when [`Replica::transfer`] has returned, so it is here.
    pub fn is_leader(&self) -> bool {
        self.raft.metrics().borrow_watched().state == ServerState::Leader
    }

    /// Who leads, as far as this replica knows.
    pub fn leader(&self) -> Option<ReplicaId> {
        self.raft.server_metrics().borrow_watched().current_leader.map(ReplicaId)
    }

    /// Where a member's peers reach it.
    pub fn address(&self, id: ReplicaId) -> Option<String> {
        let metrics = self.raft.server_metrics().borrow_watched().clone();
        metrics.membership_config.membership().get_node(&id.0).map(|node| node.addr.clone())
    }

    fn addresses(&self) -> HashMap<ReplicaId, String> {
        let metrics = self.raft.server_metrics().borrow_watched().clone();
        let nodes = metrics.membership_config.membership().nodes();
        nodes.map(|(id, node)| (ReplicaId(*id), node.addr.clone())).collect()
    }

    /// The server's keys; `None` before they are in state, or if they do not open.
    pub fn keyring(&self) -> Option<Arc<Keyring>> {
        let view = self.feed.view();
        let keys = view.server_keys()?;
        if let Some(keyring) = self.keyring.load_full().filter(|keyring| keyring.fits(keys)) {
            return Some(keyring);
        }
        match Keyring::open(&self.secrets, keys) {
            Ok((keyring, _)) => {
                let keyring = Arc::new(keyring);
                self.keyring.store(Some(keyring.clone()));
                Some(keyring)
            }
            Err(error) => {
                tracing::error!("{error}");
                None
            }
        }
    }

    pub fn noise_key(&self) -> Option<Arc<PrivateKey>> {
        self.keyring().map(|keyring| keyring.noise())
    }

    pub fn derive(&self, label: &str, input: &[u8]) -> [u8; 32] {
        match self.keyring() {
            Some(keyring) => keyring.derive(label, input),
            None => keys::derive(&self.stopgap_key, label, input),
        }
    }

    /// The time for a new proposal: this machine's, as far as the other replicas' clocks bear
    /// it out, but never before one that was given, here or by an earlier leader.
    pub fn stamp(&self) -> Time {
        let now = self.clocks.now().max(self.feed.view().clock());
        let before = self.clock.fetch_max(now.0, std::sync::atomic::Ordering::Relaxed);
        now.max(Time(before))
    }

    /// While this replica leads: how alive each other member is.
    pub fn peer_contact(&self) -> Vec<PeerContact> {
        let metrics = self.metrics();
        let Some(heartbeats) = metrics.heartbeat.filter(|_| metrics.state == ServerState::Leader) else {
            return Vec::new();
        };
        let membership = metrics.membership_config.membership().clone();
        let others = membership.nodes().filter(|(id, _)| **id != self.id.0);
        let contact = others.map(|(id, node)| PeerContact {
            id: ReplicaId(*id),
            last: heartbeats.get(id).copied().flatten().map(super::types::instant),
            refused: self.links.problem(ReplicaId(*id), &node.addr) == Some(super::peer::Problem::Refused),
        });
        contact.collect()
    }

    /// Begins to stop: see [`Cluster::leave`](super::Cluster::leave).
    pub async fn leave(self: &Arc<Self>) {
        self.leaving.cancel();
        let metrics = self.metrics();
        let is_alone = metrics.membership_config.membership().voter_ids().count() < 2;
        let in_vain = metrics.state == ServerState::Leader && !self.majority_answers(&metrics);
        if is_alone || in_vain || !self.contact.has_quorum() {
            return;
        }
        let standing = Standing::Leaving;
        let tell = Command::SetStanding { replica: self.id, incarnation: self.incarnation, standing };
        match tokio::time::timeout(LEAVE_PATIENCE, self.write(Asked::default(), tell)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::info!("stopping without telling the others first: {error}"),
            Err(_) => tracing::info!("stopping without telling the others first: no answer in time"),
        }
        self.hand_over().await;
        // Or it could be elected again, only to go.
        self.raft.runtime_config().elect(false);
    }

    /// Stops for good: hands leadership over, then stops Raft, closes the store.
    pub async fn shutdown(&self) {
        if self.stopping.is_cancelled() {
            return;
        }
        // One that has left has tried to.
        if !self.leaving.is_cancelled() {
            self.leaving.cancel();
            self.hand_over().await;
        }
        self.stopping.cancel();
        if let Err(error) = self.raft.shutdown().await {
            tracing::error!("raft did not stop cleanly: {error}");
        }
        let machinery = self.machinery.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Machinery { runtime, store }) = machinery else { return };
        let stop = move || {
            runtime.stop();
            store.close();
        };
        if tokio::task::spawn_blocking(stop).await.is_err() {
            tracing::error!("the store did not close cleanly");
        }
    }

    /// The last handle is gone without a shutdown: ends without handing over.
    pub fn abandon(&self) {
        self.stopping.cancel();
        drop(self.machinery.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    async fn hand_over(&self) {
        let metrics = self.metrics();
        let voters = metrics.membership_config.membership().voter_ids().count();
        if metrics.state != ServerState::Leader || voters < 2 || !self.majority_answers(&metrics) {
            return;
        }
        match tokio::time::timeout(HANDOVER_PATIENCE, self.transfer(None)).await {
            Ok(Ok(Ok(to))) => tracing::info!("replica {to} leads now"),
            Ok(Ok(Err(_))) => {}
            Ok(Err(reason)) => tracing::warn!("stopping without handing leadership over: {reason}"),
            Err(_) => tracing::warn!("stopping without handing leadership over: nobody took it in time"),
        }
    }

    /// Follows Raft: publishes who leads, and ends the process if the core died.
    pub async fn follow_raft(self: Arc<Self>) {
        let mut metrics = self.raft.server_metrics();
        let fatal = self.raft.metrics();
        loop {
            let leads = metrics.borrow_watched().state == ServerState::Leader;
            self.leads.send_if_modified(|before| std::mem::replace(before, leads) != leads);
            self.links.set_members(self.addresses());
            let failure = fatal.borrow_watched().running_state.clone().err();
            if self.stopping.is_cancelled() {
                return;
            }
            if let Some(failure) = failure {
                super::fatal::die(
                    "raft stopped",
                    failure,
                    &format!("see the log above; the data is in {}", self.options.data_dir.display()),
                );
            }
            tokio::select! {
                () = self.stopping.cancelled() => return,
                changed = metrics.changed() => if changed.is_err() { self.core_ended().await; return },
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
        }
    }

    /// The core dropped its channels: on purpose, or not.
    async fn core_ended(&self) {
        // A shutdown says so first.
        tokio::time::sleep(Duration::from_millis(100)).await;
        if !self.stopping.is_cancelled() {
            let remedy = format!("see the log above; the data is in {}", self.options.data_dir.display());
            super::fatal::die("raft stopped", "its core ended", &remedy);
        }
    }
}
