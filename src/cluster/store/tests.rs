//! openraft's own suite on our store, and what it does not ask.

use super::*;
use crate::cluster::types::{Entry, Logged, TypeConfig};
use crate::cluster::wire;
use crate::state::{Command, Proposal, RequestId, State};
use openraft::storage::RaftStateMachine;
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{EntryPayload, RaftSnapshotBuilder, StorageError};
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

struct Simulated;

impl StoreBuilder<TypeConfig, Log, Machine, Guard> for Simulated {
    async fn build(&self) -> Result<(Guard, Log, Machine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::simulated(crate::cluster::sim::disk::SimDisk::default());
        let (store, machine, _feed) = Store::on(disk, dir.path(), ReplicaId(1)).unwrap();
        let log = store.log();
        Ok((Guard { _store: store, _dir: dir }, log, machine))
    }
}

#[test]
fn a_simulated_disk_is_as_good_as_a_real_one() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(Suite::test_all(Simulated)).unwrap();
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

/// What a leader would have: rows, an applied index and a membership.
fn filled(machine: &mut Machine, users: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let secret = crate::cluster::secret::Secret::random_for_tests();
        let (_, keys) = crate::cluster::keys::Keyring::generate(&secret, None);
        let settings = crate::cluster::tests::settings();
        let mut commands = vec![Command::Bootstrap { settings, keys }];
        commands.extend((0..users).map(|n| crate::cluster::tests::user(&format!("user{n}"))));
        let entries = commands.into_iter().enumerate().map(|(n, command)| {
            let index = n as u64 + 1;
            Ok((entry(index, command), None))
        });
        let entries: Vec<std::io::Result<_>> = entries.collect();
        machine.apply(futures::stream::iter(entries)).await.unwrap();
    });
}

fn entry(index: u64, command: Command) -> Entry {
    let proposal = Proposal {
        format: crate::state::COMMAND_FORMAT,
        request: RequestId { incarnation: 1, sequence: index, acknowledged: index - 1 },
        deadline: crate::state::Time(i64::MAX),
        time: crate::state::Time(1_000_000),
        idempotency_key: None,
        command,
    };
    let id = wire::LogId { term: 1, replica: 1, index };
    let payload = EntryPayload::Normal(Logged(serde_json::to_vec(&proposal).unwrap().into()));
    Entry { log_id: (&id).into(), payload }
}

fn snapshot_of(machine: &mut Machine) -> SnapshotFile {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut builder = machine.try_create_snapshot_builder(true).await.unwrap();
        builder.build_snapshot().await.unwrap().snapshot
    })
}

#[test]
fn an_installation_that_was_cut_short_is_finished_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut machine, feed) = Store::open(dir.path(), ReplicaId(1)).unwrap();
    filled(&mut machine, 5);
    let hash = feed.view().hash();
    let file = snapshot_of(&mut machine);
    let name = file.path().file_name().unwrap().to_str().unwrap().to_owned();
    // As a crash would leave it: the marker is there, the records are half deleted.
    let mut batch = store.disk.batch();
    batch.put(disk::Family::StateMeta, b"installing", name.as_bytes());
    batch.delete_range(disk::Family::State, &[], &[0xff; 64]);
    batch.write();
    drop(machine);
    store.close();
    let (store, machine, feed) = Store::open(dir.path(), ReplicaId(1)).unwrap();
    assert_eq!(feed.view().hash(), hash);
    assert_eq!(feed.view().users().count(), 5);
    assert_eq!(*feed.applied().borrow(), 6);
    assert_eq!(store.disk.get(disk::Family::StateMeta, b"installing").unwrap(), None);
    drop(machine);
    store.close();
}

#[test]
fn a_snapshot_holds_the_whole_state_and_a_damaged_one_is_refused_before_anything_changes() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, mut machine, feed) = Store::open(from.path(), ReplicaId(1)).unwrap();
    filled(&mut machine, 50);
    let file = snapshot_of(&mut machine);
    let bytes = file.read_at(0, usize::try_from(file.size()).unwrap()).unwrap();

    let (other, other_machine, _) = Store::open(to.path(), ReplicaId(2)).unwrap();
    let receive = |bytes: &[u8]| {
        let mut incoming = other.snapshots().receive(bytes.len() as u64)?;
        bytes.chunks(1000).try_for_each(|chunk| incoming.write(chunk))?;
        incoming.finish()
    };
    let received = receive(&bytes).unwrap();
    let mut rows = snapshot::Rows::open(&received).unwrap();
    let state = State::load(&mut rows).unwrap();
    rows.finish().unwrap();
    assert_eq!(state.hash(), feed.view().hash());

    for at in [9, bytes.len() / 2, bytes.len() - 1] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert!(receive(&damaged).is_err(), "byte {at} of {}", bytes.len());
    }
    assert!(receive(&bytes[..bytes.len() - 1]).is_err(), "the last byte is missing");
    let left = std::fs::read_dir(to.path().join("snapshots")).unwrap().count();
    assert_eq!(left, 1, "what was refused leaves no file");
    drop((machine, other_machine));
    store.close();
    other.close();
}

#[test]
fn a_command_of_a_newer_release_stops_the_replica_and_is_not_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut machine, feed) = Store::open(dir.path(), ReplicaId(1)).unwrap();
    filled(&mut machine, 1);
    let mut newer = entry(3, crate::cluster::tests::user("bob"));
    let json = br#"{"format":99,"request":{"incarnation":1,"sequence":3,"acknowledged":2},"deadline":9,"time":9,"command":{"Teleport":{}}}"#;
    newer.payload = EntryPayload::Normal(Logged(json.to_vec().into()));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let applied = runtime.block_on(machine.apply(futures::stream::iter([Ok((newer, None))])));
    let error = applied.unwrap_err().to_string();
    assert!(error.contains("log entry 3") && error.contains("release"), "{error}");
    assert_eq!(*feed.applied().borrow(), 2);
    drop(machine);
    store.close();
}

#[test]
fn a_record_on_disk_that_is_not_the_one_in_memory_is_found_by_its_kind() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut machine, _feed) = Store::open(dir.path(), ReplicaId(1)).unwrap();
    filled(&mut machine, 3);
    let auditor = machine.auditor();
    assert!(auditor.differences().unwrap().is_empty());

    let (key, _) = store.disk.last(disk::Family::State).unwrap().unwrap();
    let mut batch = store.disk.batch();
    batch.put(disk::Family::State, &key, b"{}");
    batch.write();
    assert_eq!(auditor.differences().unwrap().into_iter().collect::<Vec<_>>(), [crate::state::Row::kind(&key)]);

    let mut batch = store.disk.batch();
    batch.delete(disk::Family::State, &key);
    batch.put(disk::Family::State, &[7, 0xff, 0, 0, 0, 0, 0, 0, 0], b"{}");
    batch.write();
    assert_eq!(auditor.differences().unwrap().len(), 2, "one is missing, and one too many is there");
    drop(machine);
    store.close();
}
