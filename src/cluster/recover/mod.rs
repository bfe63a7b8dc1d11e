//! A new cluster out of a survivor, when the majority is gone for good.
//!
//! It is done on the data directory of a stopped replica: its whole log is applied,
//! committed or not, and everything is written anew for a cluster of one with a new
//! name. The old name is remembered, so that old replicas that come back are refused
//! and stop; their numbers are never used again. See `plan` for when it is refused.

mod plan;

pub use plan::{Plan, Survivor};

use super::keys::Keyring;
use super::peer::{Links, PeerTls, Purpose};
use super::removed::was_removed;
use super::renew::{RenewError, renew};
use super::secret::Secrets;
use super::store::{Held, Offline, Seed};
use super::{KeysError, SecretError, StoreError, wire};
use crate::state::{ReplicaId, State};
use futures::future::join_all;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a member may take to answer: a mistake here costs more than a wait.
const ASK_PATIENCE: Duration = Duration::from_secs(5);

/// The survivor.
#[derive(Clone, Debug)]
pub struct Survivors {
    pub id: ReplicaId,
    pub data_dir: PathBuf,
    /// What its peers dial: `host:port`.
    pub address: String,
    pub secret_path: PathBuf,
    pub previous_secret_path: Option<PathBuf>,
}

/// A cluster is not recovered; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    #[error("{0} has no replica's data: run this on a replica that survived, with its configuration")]
    NoData(PathBuf),
    #[error(
        "the data in {path} is in use ({reason}): stop the replica first, then run this again; \"cluster status\" \
         shows whether there is a quorum"
    )]
    InUse { path: PathBuf, reason: String },
    #[error(
        "replica {0} was removed from its cluster: what it has may be long out of date; run this on a replica that was \
         a member, or restore a snapshot"
    )]
    Removed(ReplicaId),
    /// There is no need, and it would lose writes.
    #[error("{0}")]
    NotNeeded(String),
    #[error("{0}: {1}")]
    Io(PathBuf, std::io::Error),
    #[error("the records in {path} cannot be read: {reason}")]
    Unreadable { path: PathBuf, reason: String },
    #[error("the data in {0} has changed meanwhile: run this again")]
    Changed(PathBuf),
    #[error("{0}")]
    Tls(String),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A recovery that may go on.
pub struct Recovering {
    own: Survivors,
    secrets: Secrets,
    held: Held,
    plan: Plan,
}

impl Recovering {
    /// Looks at this replica's data, asks every other member, and makes a plan. Nothing is written.
    /// It may be refused: see [`Plan::refusal`].
    pub async fn survey(own: Survivors) -> Result<Self, RecoverError> {
        if !own.data_dir.join("store").exists() {
            return Err(RecoverError::NoData(own.data_dir));
        }
        if was_removed(&own.data_dir) {
            return Err(RecoverError::Removed(own.id));
        }
        let secrets = Secrets::load(&own.secret_path, own.previous_secret_path.as_deref())?;
        let (held, state, store) = read(&own).await?;
        let feed = store.feed();
        store.close();
        let keys = state.server_keys().ok_or_else(|| RecoverError::NoData(own.data_dir.clone()))?;
        let (_, which) = Keyring::open(&secrets, keys)?;
        let tls = PeerTls::new(&secrets, own.id).map_err(|error| RecoverError::Tls(error.to_string()))?;
        tls.present(which);
        let links = Links::new(own.id, tls, own.secret_path.clone(), feed);
        let others = held.membership.nodes().filter(|(id, _)| **id != own.id.0);
        let answers = join_all(others.map(async |(id, node)| {
            let id = ReplicaId(*id);
            (id, ask(&links, id, &node.addr).await)
        }));
        let plan = Plan::new(own.id, &keys.cluster_id, &held, answers.await.into_iter().collect());
        Ok(Self { own, secrets, held, plan })
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Makes the new cluster; gives its id, and where a copy of the data before is.
    pub async fn run(self) -> Result<(String, PathBuf), RecoverError> {
        if let Some(refusal) = self.plan.refusal() {
            return Err(RecoverError::NotNeeded(refusal));
        }
        let copy = self.keep_copy().map_err(|error| RecoverError::Io(self.own.data_dir.clone(), error))?;
        let (held, state, store) = read(&self.own).await?;
        let made = match held.last == self.held.last {
            true => self.replace(&held, &state, &store).await,
            false => Err(RecoverError::Changed(self.own.data_dir.clone())),
        };
        store.close();
        made.map(|cluster_id| (cluster_id, copy))
    }

    async fn replace(&self, held: &Held, state: &State, store: &Offline) -> Result<String, RecoverError> {
        let unreadable =
            |reason: &str| RecoverError::Unreadable { path: self.own.data_dir.clone(), reason: reason.into() };
        let keys = state.server_keys().ok_or_else(|| unreadable("there are no server keys"))?;
        let (keyring, which) = Keyring::open(&self.secrets, keys)?;
        let mut previous = keys.previous_cluster_ids.clone();
        previous.push(keys.cluster_id.clone());
        let state = renew(state, &keyring, self.secrets.get(which), previous).map_err(|error| match error {
            RenewError::Keys(keys) => keys.into(),
            RenewError::Unreadable(reason) => unreadable(&reason),
        })?;
        let cluster_id = state.server_keys().map(|keys| keys.cluster_id.clone()).unwrap_or_default();
        let members = held.membership.nodes().map(|(id, _)| ReplicaId(*id)).filter(|id| *id != self.own.id);
        let removed: BTreeSet<ReplicaId> = members.chain(held.removed.iter().copied()).collect();
        let index = held.last.map_or(0, |id| id.index) + 1;
        let seed = Seed { state, index, term: held.term + 1, address: self.own.address.clone(), removed };
        store.replace(seed).await?;
        Ok(cluster_id)
    }

    /// Nobody can say now whether this was the right survivor.
    fn keep_copy(&self) -> std::io::Result<PathBuf> {
        let index = self.held.last.map_or(0, |id| id.index);
        let name = format!("before-recovery-{index}-{:08x}", rand::random::<u32>());
        let copy = self.own.data_dir.join(name);
        for part in ["store", "snapshots"] {
            copy_directory(&self.own.data_dir.join(part), &copy.join(part))?;
        }
        Ok(copy)
    }
}

async fn read(own: &Survivors) -> Result<(Held, State, Offline), RecoverError> {
    let store = Offline::open(&own.data_dir, own.id).map_err(|error| match error {
        StoreError::Open { path, reason } if reason.contains("lock") => RecoverError::InUse { path, reason },
        other => other.into(),
    })?;
    match store.read().await {
        Ok((held, state)) => Ok((held, state, store)),
        Err(error) => {
            store.close();
            Err(error.into())
        }
    }
}

async fn ask(links: &Links, id: ReplicaId, address: &str) -> Result<wire::StatusResponse, String> {
    let mut client = links.client(id, address, Purpose::Calls);
    let call = client.status(wire::StatusRequest::default());
    match tokio::time::timeout(ASK_PATIENCE, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(links.explain(id, address).unwrap_or_else(|| status.message().to_owned())),
        Err(_) => {
            Err(links.explain(id, address).unwrap_or_else(|| format!("replica {id} at {address} does not answer")))
        }
    }
}

fn copy_directory(from: &Path, to: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target)?;
            std::fs::File::open(&target)?.sync_all()?;
        }
    }
    std::fs::File::open(to)?.sync_all()
}
