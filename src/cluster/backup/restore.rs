//! A new cluster's data directory, out of a backup.

use super::archive::Manifest;
use super::file::{contents, read};
use super::{BackupError, Contents, Lock};
use crate::cluster::keys::Keyring;
use crate::cluster::renew::{RenewError, renew};
use crate::cluster::secret::Secrets;
use crate::cluster::store::{Offline, Seed};
use crate::state::{ReplicaId, State};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// What in a data directory is a replica's data.
const DATA: [&str; 3] = ["store", "snapshots", "removed"];

/// The replica that begins the new cluster.
#[derive(Clone, Debug)]
pub struct Target {
    pub id: ReplicaId,
    pub data_dir: PathBuf,
    /// What its peers dial: `host:port`.
    pub address: String,
    /// The new cluster's secret; made if it is not there.
    pub secret_path: PathBuf,
}

/// A backup that was read and found whole, and a place for it that is empty.
pub struct Restoring {
    path: PathBuf,
    target: Target,
    manifest: Manifest,
    contents: Contents,
    state: State,
}

impl Restoring {
    /// Reads the backup. Nothing is written yet.
    pub fn read(path: &Path, lock: &Lock, target: Target) -> Result<Self, BackupError> {
        refuse_data(&target.data_dir)?;
        let mut rows = Vec::new();
        let (manifest, totals, size) = read(path, lock, |key, value| rows.push((key, value)))?;
        let unreadable = |error: &dyn std::fmt::Display| BackupError::Unreadable {
            path: path.to_owned(),
            reason: format!("{error}; it was saved by release {}", manifest.release),
        };
        let state = State::load(rows).map_err(|e| unreadable(&e))?;
        let contents = contents(&manifest, totals, size);
        Ok(Self { path: path.to_owned(), target, manifest, contents, state })
    }

    /// What will be there.
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Makes the data directory, all of it or nothing; gives the new cluster's id.
    pub async fn run(self) -> Result<String, BackupError> {
        let Target { id, data_dir, address, secret_path } = &self.target;
        let secrets = Secrets::load(secret_path, None)?;
        let state = self.renewed(&secrets)?;
        let cluster_id = state.server_keys().map(|keys| keys.cluster_id.clone()).unwrap_or_default();
        let (index, term) = (self.manifest.index + 1, self.manifest.term + 1);
        let seed = Seed { state, index, term, address: address.clone(), removed: BTreeSet::new() };

        let io = |source| BackupError::Io { path: data_dir.clone(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(io)?;
        let unfinished = data_dir.join(format!(".restoring-{:08x}", rand::random::<u32>()));
        let made = fill(&unfinished, *id, seed).await.and_then(|()| {
            refuse_data(data_dir)?;
            move_all(&unfinished, data_dir).map_err(io)
        });
        if let Err(error) = fs::remove_dir_all(&unfinished) {
            tracing::warn!("cannot remove {}: {error}", unfinished.display());
        }
        made.map(|()| cluster_id)
    }

    fn renewed(&self, secrets: &Secrets) -> Result<State, BackupError> {
        let unreadable = |reason: String| BackupError::Unreadable { path: self.path.clone(), reason };
        let keys = self.state.server_keys().ok_or_else(|| unreadable("it has no server keys".into()))?;
        let keyring = Keyring::with_data_key(&self.manifest.data_key.0, keys)?;
        renew(&self.state, &keyring, secrets.current(), Vec::new()).map_err(|error| match error {
            RenewError::Keys(keys) => keys.into(),
            RenewError::Unreadable(reason) => unreadable(reason),
        })
    }
}

async fn fill(directory: &Path, id: ReplicaId, seed: Seed) -> Result<(), BackupError> {
    let store = Offline::open(directory, id)?;
    let filled = store.replace(seed).await;
    store.close();
    Ok(filled?)
}

/// Files of others may be there, such as the secret.
fn refuse_data(data_dir: &Path) -> Result<(), BackupError> {
    let there = DATA.map(|name| data_dir.join(name)).into_iter().find(|path| path.exists());
    there.map_or(Ok(()), |path| Err(BackupError::NotEmpty { path }))
}

/// The store goes last: without it there is no data.
fn move_all(from: &Path, to: &Path) -> io::Result<()> {
    let mut names: Vec<_> =
        fs::read_dir(from)?.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<_, _>>()?;
    names.sort_by_key(|name| name == "store");
    for name in names {
        fs::rename(from.join(&name), to.join(&name))?;
    }
    fs::File::open(to)?.sync_all()
}
