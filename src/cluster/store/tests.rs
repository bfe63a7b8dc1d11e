//! openraft's own suite on our store, and what it does not ask.

use super::*;
use crate::cluster::types::TypeConfig;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

struct Builder;

/// Dropped last: first the store is closed, then its directory is deleted.
struct Guard {
    _store: Store,
    _dir: TempDir,
}

impl StoreBuilder<TypeConfig, Log, Machine, Guard> for Builder {
    async fn build(&self) -> Result<(Guard, Log, Machine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let (store, machine, _feed) = Store::open(dir.path(), ReplicaId(1)).unwrap();
        let log = store.log();
        Ok((Guard { _store: store, _dir: dir }, log, machine))
    }
}

#[test]
fn the_store_passes_openrafts_suite() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(Suite::test_all(Builder)).unwrap();
}

#[test]
fn a_directory_of_another_replica_or_of_a_newer_release_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (store, machine, _) = Store::open(dir.path(), ReplicaId(1)).unwrap();
    drop(machine);
    store.close();
    let error = Store::open(dir.path(), ReplicaId(2)).err().unwrap().to_string();
    assert!(error.contains("replica 1's") && error.contains("cluster.id is 2"), "{error}");

    let disk = Disk::open(&dir.path().join("store")).unwrap();
    let mut batch = disk.batch();
    batch.put(disk::Family::LogMeta, b"format", &99u64.to_be_bytes());
    batch.write();
    drop(disk);
    let error = Store::open(dir.path(), ReplicaId(1)).err().unwrap().to_string();
    assert!(error.contains("format 99") && error.contains("newer release"), "{error}");
}
