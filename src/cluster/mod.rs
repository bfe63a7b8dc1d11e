//! Replication: the one way in for changes, and the views that come out.
//!
//! Edges know [`Cluster`] alone. openraft's types stay inside this module, off
//! disk and off the wire.

mod asked;
mod autopilot;
pub mod backup;
mod blocking;
mod bootstrap;
mod clocks;
mod compare;
mod compat;
mod contact;
#[cfg(test)]
mod disaster_tests;
mod disk_latency;
mod disk_space;
mod errors;
mod everywhere;
mod fatal;
mod feed;
mod foreign;
mod forward;
mod gathering;
mod history;
mod integrity;
mod keys;
mod machine_watch;
mod membership;
mod memory;
mod meters;
mod options;
mod peer;
mod propose;
mod read;
pub mod recover;
mod removed;
mod renew;
mod replica;
mod report;
mod rotation;
mod scrub;
mod secret;
#[cfg(test)]
mod sim;
mod start;
mod status;
mod store;
#[cfg(test)]
mod tests;
mod types;
mod verify;
mod wire;

pub use asked::Asked;
pub use autopilot::Autopilot;
pub use errors::{MembershipError, StartError, Unavailable, WriteError};
pub use fatal::end_process_after;
pub use keys::KeysError;
pub use options::Options;
pub use secret::SecretError;
pub use status::{
    ClusterStatus, MemberStatus, PeerContact, Problem, ProblemKind, Rotation, Verification, VerifiedReplica,
};
pub use store::StoreError;

use crate::state::{Batch, Command, Done, ReplicaId, Settings, State};
use membership::Change;
use memory::Memory;
use replica::Replica;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

/// A handle on the replica's part of the cluster. Cloning is cheap.
#[derive(Clone)]
pub struct Cluster {
    inner: Inner,
}

#[derive(Clone)]
enum Inner {
    Replica(Arc<Running>),
    Memory(Arc<Memory>),
}

/// Ends the replica with its last handle, if nobody shut it down before.
struct Running(Arc<Replica>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl Cluster {
    /// Starts this replica's part of the cluster: opens its store, joins its peers, or
    /// begins a cluster if its store is empty and `options` says so. It returns when
    /// the replica is in touch with its cluster, or after some seconds without that.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let replica = start::start(options).await?;
        Ok(Self { inner: Inner::Replica(Arc::new(Running(replica))) })
    }

    /// For tests of other modules: a cluster of one without disk, network or Raft,
    /// set up with `settings`. A write is applied at once, where it is made.
    pub fn in_memory(settings: Settings) -> Self {
        Self { inner: Inner::Memory(Arc::new(Memory::new(settings))) }
    }

    /// A handle on a replica that a simulation runs.
    #[cfg(test)]
    fn of(replica: Arc<Replica>) -> Self {
        Self { inner: Inner::Replica(Arc::new(Running(replica))) }
    }

    /// This replica's number.
    pub fn id(&self) -> ReplicaId {
        match &self.inner {
            Inner::Replica(running) => running.0.id,
            Inner::Memory(memory) => memory.id,
        }
    }

    /// A number that is new each time this replica starts.
    pub fn incarnation(&self) -> u64 {
        match &self.inner {
            Inner::Replica(running) => running.0.incarnation,
            Inner::Memory(memory) => memory.incarnation,
        }
    }

    /// What this replica has applied: free, and never older than what it has shown before.
    pub fn view(&self) -> Arc<State> {
        match &self.inner {
            Inner::Replica(running) => running.0.feed.view(),
            Inner::Memory(memory) => memory.feed.view(),
        }
    }

    /// A view that holds everything that was acknowledged, by any replica, before the call.
    pub async fn linearizable(&self) -> Result<Arc<State>, Unavailable> {
        match &self.inner {
            Inner::Replica(running) => running.0.linearizable().await,
            Inner::Memory(memory) => memory.connected().map(|()| memory.feed.view()),
        }
    }

    /// Makes a change. When it returns, [`Cluster::view`] on this replica has it.
    /// Whatever fails underneath, it is applied at most once.
    pub async fn write(&self, command: Command) -> Result<Done, WriteError> {
        self.write_once(Asked::default(), command).await
    }

    /// As [`Cluster::write`], for somebody outside: it may carry an `Idempotency-Key`, and
    /// is recorded if it says on whose behalf it is.
    pub async fn write_once(&self, asked: Asked, command: Command) -> Result<Done, WriteError> {
        match &self.inner {
            Inner::Replica(running) => running.0.write(asked, command).await,
            Inner::Memory(memory) => memory.connected().map(|()| memory.write(asked, command))?.map_err(Into::into),
        }
    }

    /// Returns when every replica has applied all that this one has, after `patience` at
    /// the latest: one that does not answer may be gone.
    pub async fn applied_everywhere(&self, patience: std::time::Duration) {
        match &self.inner {
            Inner::Replica(running) => running.0.applied_everywhere(self.view().index(), patience).await,
            Inner::Memory(_) => {}
        }
    }

    /// Everything that is applied from now on, batch by batch. A receiver that
    /// lags has to look at the whole view again.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Batch>> {
        match &self.inner {
            Inner::Replica(running) => running.0.feed.subscribe(),
            Inner::Memory(memory) => memory.feed.subscribe(),
        }
    }

    /// Whether this replica is in touch with a quorum (with about 5 s of patience).
    pub fn quorum(&self) -> watch::Receiver<bool> {
        match &self.inner {
            Inner::Replica(running) => running.0.contact.quorum(),
            Inner::Memory(memory) => memory.quorum.subscribe(),
        }
    }

    /// Whether this replica leads the cluster, as far as it knows.
    pub fn is_leader(&self) -> bool {
        match &self.inner {
            Inner::Replica(running) => running.0.is_leader(),
            Inner::Memory(memory) => *memory.leads.borrow(),
        }
    }

    /// [`Cluster::is_leader`], to wait for its changes: it follows a moment later.
    pub fn leadership(&self) -> watch::Receiver<bool> {
        match &self.inner {
            Inner::Replica(running) => running.0.leads.subscribe(),
            Inner::Memory(memory) => memory.leads.subscribe(),
        }
    }

    /// This machine's time, as far as the other replicas' clocks bear it out: what a command
    /// that is proposed now would be stamped with, or more.
    pub fn now(&self) -> crate::state::Time {
        match &self.inner {
            Inner::Replica(running) => running.0.clocks.now(),
            Inner::Memory(_) => crate::state::Time::now(),
        }
    }

    /// While this replica leads: how alive each other member is. Empty otherwise.
    pub fn peer_contact(&self) -> Vec<PeerContact> {
        match &self.inner {
            Inner::Replica(running) => running.0.peer_contact(),
            Inner::Memory(_) => Vec::new(),
        }
    }

    /// The server's Noise key, opened with the shared secret. `None` before bootstrap.
    pub fn noise_key(&self) -> Option<Arc<crate::tailcfg::PrivateKey>> {
        match &self.inner {
            Inner::Replica(running) => running.0.noise_key(),
            Inner::Memory(memory) => memory.noise_key(),
        }
    }

    /// The server's private keys with another Noise key among them, as state keeps them;
    /// `None` before bootstrap, or if the keys do not open.
    pub fn seal_noise_key(&self, noise: &crate::tailcfg::PrivateKey) -> Option<String> {
        let view = self.view();
        let keys = view.server_keys()?;
        let sealed = match &self.inner {
            Inner::Replica(running) => running.0.keyring()?.seal_noise(noise, keys),
            Inner::Memory(memory) => memory.keys.seal_noise(noise, keys),
        };
        sealed.inspect_err(|error| tracing::error!("{error}")).ok()
    }

    /// 32 bytes that only holders of the cluster's secret can compute: the same on
    /// every replica for the same label and input, and unguessable.
    pub fn derive(&self, label: &str, input: &[u8]) -> [u8; 32] {
        match &self.inner {
            Inner::Replica(running) => running.0.derive(label, input),
            Inner::Memory(memory) => memory.keys.derive(label, input),
        }
    }

    /// Every replica as this one sees it, asked just now (within a second).
    pub async fn status(&self) -> ClusterStatus {
        match &self.inner {
            Inner::Replica(running) => running.0.status().await,
            Inner::Memory(memory) => memory.status(),
        }
    }

    /// Compares the records of all replicas at one index of the log, and each one's
    /// disk with its memory. It takes as long as reading everything does.
    pub async fn verify(&self) -> Result<Verification, Unavailable> {
        match &self.inner {
            Inner::Replica(running) => running.0.verify().await,
            Inner::Memory(memory) => memory.connected().map(|()| memory.verify()),
        }
    }

    /// Adds a replica as a learner; returns when it has caught up.
    pub async fn add(&self, id: ReplicaId, address: String) -> Result<(), MembershipError> {
        match &self.inner {
            Inner::Replica(running) => running.0.change(Change::Add(id, address)).await.map(drop),
            Inner::Memory(_) => Err(memory::no_members()),
        }
    }

    /// Makes a learner a voter.
    pub async fn promote(&self, id: ReplicaId) -> Result<(), MembershipError> {
        match &self.inner {
            Inner::Replica(running) => running.0.change(Change::Promote(id)).await.map(drop),
            Inner::Memory(_) => Err(memory::no_members()),
        }
    }

    /// Removes a replica, voter or learner. Its number is never used again.
    pub async fn remove(&self, id: ReplicaId) -> Result<(), MembershipError> {
        match &self.inner {
            Inner::Replica(running) => running.0.change(Change::Remove(id)).await.map(drop),
            Inner::Memory(_) => Err(memory::no_members()),
        }
    }

    /// Hands leadership to another voter; `None`: to the one that is most up to date.
    pub async fn transfer_leader(&self, to: Option<ReplicaId>) -> Result<ReplicaId, MembershipError> {
        match &self.inner {
            Inner::Replica(running) => running.0.change(Change::Transfer(to)).await,
            Inner::Memory(_) => Err(memory::no_members()),
        }
    }

    /// Goes over to the secret in `cluster.secret_path`, when all replicas accept it
    /// beside the one in `cluster.previous_secret_path`.
    pub async fn rotate_secret(&self) -> Result<Rotation, MembershipError> {
        match &self.inner {
            Inner::Replica(running) => running.0.rotate_secret().await,
            Inner::Memory(_) => Err(memory::no_members()),
        }
    }

    /// A backup of `view`, as an archive in parts; `None` before the cluster is set up.
    /// It has the server's keys in the clear: whoever gets it encrypts it.
    pub fn backup(&self, view: Arc<State>) -> Option<tokio::sync::mpsc::Receiver<std::io::Result<bytes::Bytes>>> {
        match &self.inner {
            Inner::Replica(running) => running.0.backup(view),
            Inner::Memory(memory) => backup::stream(view, &memory.keys, memory.id, 1),
        }
    }

    /// Tells the cluster how many streams this replica serves, for its status.
    pub fn set_clients(&self, count: u64) {
        match &self.inner {
            Inner::Replica(running) => running.0.clients.store(count, Ordering::Relaxed),
            Inner::Memory(memory) => memory.clients.store(count, Ordering::Relaxed),
        }
    }

    /// What `cluster status` says about this replica beside how it is; `None`: nothing.
    pub fn set_note(&self, note: Option<String>) {
        match &self.inner {
            Inner::Replica(running) => *running.0.note.lock().unwrap_or_else(PoisonError::into_inner) = note,
            Inner::Memory(memory) => *memory.note.lock().unwrap_or_else(PoisonError::into_inner) = note,
        }
    }

    /// Whether this replica was removed from its cluster. It then never has a quorum again.
    pub fn is_removed(&self) -> bool {
        match &self.inner {
            Inner::Replica(running) => running.0.contact.is_removed(),
            Inner::Memory(_) => false,
        }
    }

    /// Cancelled when this replica begins to stop: no client should come any more.
    pub fn leaving(&self) -> CancellationToken {
        match &self.inner {
            Inner::Replica(running) => running.0.leaving.clone(),
            Inner::Memory(memory) => memory.leaving.clone(),
        }
    }

    /// Begins to stop: cancels [`Cluster::leaving`], tells the others, so that clients are
    /// sent elsewhere, and hands leadership over if this replica has it. Best effort, in
    /// about a second; what is under way goes on.
    pub async fn leave(&self) {
        match &self.inner {
            Inner::Replica(running) => running.0.leave().await,
            Inner::Memory(memory) => memory.leaving.cancel(),
        }
    }

    /// Stops: hands leadership over if this replica has it, then closes the store.
    pub async fn shutdown(self) {
        match self.inner {
            Inner::Replica(running) => running.0.shutdown().await,
            Inner::Memory(_) => {}
        }
    }
}
