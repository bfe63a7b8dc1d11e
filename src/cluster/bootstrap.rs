//! How a cluster begins: its first membership, and the server's keys.

use super::Asked;
use super::keys::{self, Keyring};
use super::peer::Purpose;
use super::replica::Replica;
use super::wire;
use super::{StartError, WriteError};
use crate::state::{Command, Refused, ReplicaId};
use futures::future::join_all;
use openraft::BasicNode;
use openraft::errors::{InitializeError, RaftError};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a peer may take to say whether it is in a cluster.
const ASK_PATIENCE: Duration = Duration::from_secs(2);
/// How often peers that did not answer are asked again.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// How often the log says that this replica still waits for them.
const SAY_EVERY: u32 = 50;

/// What a replica is when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// One of the cluster, or of those that begin it.
    Member,
    /// Nobody yet: an administrator adds it.
    Waiting,
}

impl Replica {
    /// Gives an empty store its place: alone, as one of the first voters, or waiting
    /// to be added. A replica that lost its data is refused: it may have acknowledged
    /// what it no longer has, and with it as a voter that could be lost.
    pub async fn found(&self) -> Result<Place, StartError> {
        if self.is_initialized().await? {
            self.check_same_cluster().await?;
            return Ok(Place::Member);
        }
        let peers = &self.options.peers;
        if peers.iter().all(|(id, _)| *id == self.id) {
            self.initialize(&[(self.id, self.options.advertise_addr.clone())]).await?;
            return Ok(Place::Member);
        }
        if !peers.iter().any(|(id, _)| *id == self.id) {
            tracing::info!(
                "replica {0} waits to be added to the cluster: run \"cluster add {0} {1}\" on a member",
                self.id,
                self.options.advertise_addr
            );
            return Ok(Place::Waiting);
        }
        let mut said = 0u32;
        while !self.is_initialized().await? {
            let waiting = self.ask_peers().await?;
            let Some(waiting) = waiting else { return Ok(Place::Member) };
            // A majority with empty stores: there is no cluster that could have lost something.
            if peers.len() - waiting.len() > peers.len() / 2 {
                tracing::info!("beginning a cluster of {} replicas", peers.len());
                self.initialize(peers).await?;
                return Ok(Place::Member);
            }
            if said.is_multiple_of(SAY_EVERY) {
                tracing::info!("waiting for a majority of the first replicas: {}", waiting.join("; "));
            }
            said += 1;
            tokio::time::sleep(ASK_EVERY).await;
        }
        Ok(Place::Member)
    }

    /// Asks the other first voters whether there is a cluster already: `None` if there
    /// is, and this replica will hear from its leader; else why each that did not
    /// answer did not.
    async fn ask_peers(&self) -> Result<Option<Vec<String>>, StartError> {
        let others = self.options.peers.iter().filter(|(id, _)| *id != self.id);
        let answers = join_all(others.map(|(id, address)| self.ask(*id, address))).await;
        let mut waiting = Vec::new();
        for answer in answers {
            match answer {
                Err(reason) => waiting.push(reason),
                Ok(status) if status.initialized => {
                    if status.knows_caller {
                        return Err(StartError::Config(self.lost_its_data(ReplicaId(status.id))));
                    }
                    tracing::info!("replica {} is in a cluster already: waiting for its leader", status.id);
                    return Ok(None);
                }
                Ok(status) => self.check_same_peers(&status)?,
            }
        }
        Ok(Some(waiting))
    }

    async fn ask(&self, id: ReplicaId, address: &str) -> Result<wire::StatusResponse, String> {
        let mut client = self.links.client(id, address, Purpose::Calls);
        let call = client.status(self.status_request());
        match tokio::time::timeout(ASK_PATIENCE, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.links.explain(id, address).unwrap_or_else(|| status.message().to_owned())),
            Err(_) => Err(format!("replica {id} at {address} does not answer")),
        }
    }

    /// Raft's messages of a replica that knows this one, to an empty store: its leader would
    /// fill it, as if this one had never promised anything.
    pub async fn admit(&self, caller: ReplicaId, knows_us: bool) -> Result<(), tonic::Status> {
        if !knows_us || self.has_data.load(Ordering::Relaxed) {
            return Ok(());
        }
        if self.raft.is_initialized().await.unwrap_or(true) {
            self.has_data.store(true, Ordering::Relaxed);
            return Ok(());
        }
        let reason = self.lost_its_data(caller);
        self.fall("this replica cannot take its place in the cluster", &reason, "do that");
        Err(tonic::Status::failed_precondition(reason))
    }

    fn lost_its_data(&self, says: ReplicaId) -> String {
        format!(
            "replica {0} was a member of this cluster before (replica {1} says so), but {2} is empty: a replica that \
             lost its data must not come back under its number; run \"cluster remove {0}\" on a member, then start \
             this one with a new cluster.id and add it",
            self.id,
            says,
            self.options.data_dir.display()
        )
    }

    fn check_same_peers(&self, status: &wire::StatusResponse) -> Result<(), StartError> {
        let theirs: BTreeMap<u64, &str> = status.configured_peers.iter().map(|m| (m.id, &*m.address)).collect();
        let ours: BTreeMap<u64, &str> = self.options.peers.iter().map(|(id, addr)| (id.0, &**addr)).collect();
        if theirs == ours {
            return Ok(());
        }
        Err(StartError::Config(format!(
            "cluster.peers differs: here {ours:?}, on replica {} {theirs:?}; make them the same",
            status.id
        )))
    }

    async fn is_initialized(&self) -> Result<bool, StartError> {
        self.raft.is_initialized().await.map_err(|e| self.raft_failed(e))
    }

    async fn initialize(&self, members: &[(ReplicaId, String)]) -> Result<(), StartError> {
        let members: BTreeMap<u64, BasicNode> =
            members.iter().map(|(id, address)| (id.0, BasicNode::new(address))).collect();
        match self.raft.initialize(members).await {
            // Meanwhile another one's leader has begun to replicate to this replica.
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(self.raft_failed(error)),
        }
    }

    fn raft_failed(&self, error: impl ToString) -> StartError {
        StartError::Raft(error.to_string(), self.options.data_dir.clone())
    }

    /// Until the cluster has its keys: makes them whenever this replica leads.
    pub async fn provide_keys(self: Arc<Self>) {
        let mut leads = self.leads.subscribe();
        let mut applied = self.feed.applied();
        while self.feed.view().server_keys().is_none() {
            if *leads.borrow_and_update() {
                self.make_keys().await;
            }
            tokio::select! {
                () = self.stopping.cancelled() => return,
                _ = leads.changed() => {}
                _ = applied.changed() => {}
            }
        }
    }

    async fn make_keys(self: &Arc<Self>) {
        // It was read when this replica started, and was well formed.
        let path = self.options.noise_key_path.as_deref();
        let noise = path.and_then(|path| keys::import_noise_key(path).ok().flatten());
        let (_, keys) = Keyring::generate(self.secrets.get(self.tls.presented()), noise);
        let command = Command::Bootstrap { settings: self.options.settings.clone(), keys };
        match self.write(Asked::default(), command).await {
            Ok(_) => tracing::info!("the cluster is set up"),
            Err(WriteError::Refused(Refused::Bootstrapped)) => {}
            Err(error) => tracing::warn!("the cluster is not set up yet: {error}"),
        }
    }
}
