//! openraft's own suite on our store, and what it does not ask.

use super::*;
use crate::cluster::types::{Entry, Logged, TypeConfig};
use crate::cluster::wire;
use crate::state::{Command, Proposal, RequestId, State};
use openraft::storage::RaftStateMachine;
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{EntryPayload, RaftSnapshotBuilder, StorageError};
use prost::Message;
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
        origin: None,
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
    assert!(auditor.audit(|_| true).unwrap() == Audit::default());

    let (key, _) = store.disk.last(disk::Family::State).unwrap().unwrap();
    let mut batch = store.disk.batch();
    batch.put(disk::Family::State, &key, b"{}");
    batch.write();
    assert_eq!(auditor.audit(|_| true).unwrap().disk.into_iter().collect::<Vec<_>>(), [crate::state::Row::kind(&key)]);

    let mut batch = store.disk.batch();
    batch.delete(disk::Family::State, &key);
    batch.put(disk::Family::State, &[7, 0xff, 0, 0, 0, 0, 0, 0, 0], b"{}");
    batch.write();
    assert_eq!(auditor.audit(|_| true).unwrap().disk.len(), 2, "one is missing, and one too many is there");
    drop(machine);
    store.close();
}

/// Does to a command what a test wants to go wrong with it on this replica.
pub fn mischief(feed: &Feed, state: &mut State, entry: Entry) -> Entry {
    use crate::cluster::feed::Mischief;
    let EntryPayload::Normal(Logged(bytes)) = &entry.payload else { return entry };
    let mut proposal: Proposal = match serde_json::from_slice(bytes) {
        Ok(proposal) => proposal,
        Err(_) => return entry,
    };
    let mut planned = feed.mischief.lock().unwrap();
    match (planned.clone(), &mut proposal.command) {
        (Some(Mischief::Memory), _) => state.spoil_a_user(),
        (Some(Mischief::Apply(other)), Command::CreateUser { name, .. }) => *name = other,
        _ => return entry,
    }
    *planned = None;
    let payload = EntryPayload::Normal(Logged(serde_json::to_vec(&proposal).unwrap().into()));
    Entry { payload, ..entry }
}

#[test]
fn one_changed_byte_in_a_stored_record_is_found_at_the_next_start_by_its_kind() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut machine, _) = Store::open(dir.path(), ReplicaId(1)).unwrap();
    filled(&mut machine, 3);
    drop(machine);
    store.close();
    let (store, machine, _) = Store::open(dir.path(), ReplicaId(1)).unwrap();
    let users = |(key, _): &disk::Pair| crate::state::Row::kind(key) == "users";
    let (key, value) =
        store.disk.scan(disk::Family::State, &[], None).map(std::io::Result::unwrap).find(users).unwrap();
    let mut spoiled = value.into_vec();
    let at = spoiled.windows(4).position(|w| w == b"user").unwrap();
    spoiled[at] ^= 1;
    let mut batch = store.disk.batch();
    batch.put(disk::Family::State, &key, &spoiled);
    batch.write();
    drop(machine);
    store.close();
    for _ in 0..2 {
        let error = Store::open(dir.path(), ReplicaId(1)).err().unwrap().to_string();
        assert!(error.contains("records of kind users") && error.contains("cluster remove"), "{error}");
    }
}

#[test]
fn records_in_the_form_of_another_release_are_read_and_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut machine, feed) = Store::open(dir.path(), ReplicaId(1)).unwrap();
    filled(&mut machine, 3);
    let (hash, tally) = (feed.view().hash(), feed.view().tally().clone());
    // The older form has blanks, say; its release kept no tally.
    let mut batch = store.disk.batch();
    for row in store.disk.scan(disk::Family::State, &[], None) {
        let (key, value) = row.unwrap();
        let value: serde_json::Value = serde_json::from_slice(&value).unwrap();
        batch.put(disk::Family::State, &key, &serde_json::to_vec_pretty(&value).unwrap());
    }
    let applied = store.disk.get(disk::Family::StateMeta, b"applied").unwrap().unwrap();
    let mut applied = wire::Applied::decode(seal::open("it", &applied).unwrap()).unwrap();
    applied.tally.clear();
    batch.put(disk::Family::StateMeta, b"applied", &applied.encode_to_vec());
    batch.write();
    drop(machine);
    store.close();
    for _ in 0..2 {
        let (store, machine, feed) = Store::open(dir.path(), ReplicaId(1)).unwrap();
        assert_eq!((feed.view().hash(), feed.view().tally()), (hash, &tally));
        assert_eq!(machine.auditor().audit(|_| true).unwrap(), Audit::default());
        drop(machine);
        store.close();
    }
}

/// A store whose log has entries 1 to `last`, each synced.
fn with_log(dir: &Path, last: u64) -> (Store, Machine) {
    let (store, machine, _) = Store::open(dir, ReplicaId(1)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut log = store.log();
        for index in 1..=last {
            let command = crate::cluster::tests::user(&format!("user{index}"));
            openraft::storage::RaftLogStorageExt::blocking_append(&mut log, [entry(index, command)]).await.unwrap();
        }
    });
    (store, machine)
}

#[test]
fn a_damaged_log_entry_is_found_at_the_start_and_when_it_is_read() {
    use openraft::storage::{RaftLogReader, RaftLogStorage};
    let dir = tempfile::tempdir().unwrap();
    let (store, machine) = with_log(dir.path(), 5);
    let key = 3u64.to_be_bytes();
    let mut bytes = store.disk.get(disk::Family::Log, &key).unwrap().unwrap();
    let at = bytes.windows(5).position(|w| w == b"user3").unwrap();
    bytes[at] ^= 1;
    let mut batch = store.disk.batch();
    batch.put(disk::Family::Log, &key, &bytes);
    batch.write();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let read = runtime.block_on(async {
        let mut reader = store.log().get_log_reader().await;
        reader.try_get_log_entries(2..5).await
    });
    assert!(read.unwrap_err().to_string().contains("log entry 3 is damaged"));
    drop(machine);
    store.close();
    let error = Store::open(dir.path(), ReplicaId(1)).err().unwrap().to_string();
    assert!(error.contains("log entry 3 is damaged") && error.contains("cluster remove"), "{error}");
}

#[test]
fn a_missing_log_entry_and_a_damaged_vote_end_the_start() {
    use openraft::storage::RaftLogStorage;
    let dir = tempfile::tempdir().unwrap();
    let (store, machine) = with_log(dir.path(), 5);
    let mut batch = store.disk.batch();
    batch.delete(disk::Family::Log, &3u64.to_be_bytes());
    batch.write();
    drop(machine);
    store.close();
    let error = Store::open(dir.path(), ReplicaId(1)).err().unwrap().to_string();
    assert!(error.contains("log entry 3 is missing"), "{error}");

    let dir = tempfile::tempdir().unwrap();
    let (store, machine) = with_log(dir.path(), 1);
    let vote = wire::Vote { term: 4, replica: 1, committed: false };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(store.log().save_vote(&(&vote).into())).unwrap();
    let mut bytes = store.disk.get(disk::Family::LogMeta, b"vote").unwrap().unwrap();
    bytes[1] ^= 1;
    let mut batch = store.disk.batch();
    batch.put(disk::Family::LogMeta, b"vote", &bytes);
    batch.write();
    drop(machine);
    store.close();
    let error = Store::open(dir.path(), ReplicaId(1)).err().unwrap().to_string();
    assert!(error.contains("the vote is damaged"), "{error}");
}

/// A copy of a store as a SIGKILL leaves it, and the file of its write-ahead log.
fn crashed_copy(from: &Path) -> (TempDir, std::path::PathBuf) {
    let copy = tempfile::tempdir().unwrap();
    let to = copy.path().join("store");
    std::fs::create_dir_all(&to).unwrap();
    let mut wal = None;
    for file in std::fs::read_dir(from.join("store")).unwrap() {
        let path = file.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.file_name().unwrap() != "LOCK" {
            std::fs::copy(&path, &target).unwrap();
        }
        if path.extension().is_some_and(|e| e == "log") && path.metadata().unwrap().len() > 0 {
            wal = Some(target);
        }
    }
    (copy, wal.expect("a write-ahead log"))
}

#[test]
fn a_write_ahead_log_that_was_cut_before_what_was_synced_is_refused_and_else_a_prefix_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let (store, machine) = with_log(dir.path(), 30);
    let whole = crashed_copy(dir.path()).1.metadata().unwrap().len();
    let (mut refused, mut read) = (0, 0);
    for n in 0..24 {
        // Also without the mark, as after a power failure that took it: then it is a prefix.
        let marked = n % 2 == 0;
        let (copy, wal) = crashed_copy(dir.path());
        std::fs::OpenOptions::new().write(true).open(&wal).unwrap().set_len(rand::random_range(1..whole)).unwrap();
        if !marked {
            std::fs::remove_file(copy.path().join("store/synced")).unwrap();
        }
        match Store::open(copy.path(), ReplicaId(1)) {
            Err(error) => {
                assert!(matches!(error, StoreError::Lost { .. }) && marked, "{error}");
                assert!(error.to_string().contains("its write-ahead log was cut"), "{error}");
                refused += 1;
            }
            Ok((store, machine, _)) => {
                assert!(!marked, "something synced is missing");
                let rows = store.disk.scan(disk::Family::Log, &[], None);
                let found: Vec<u64> =
                    rows.map(|row| u64::from_be_bytes((*row.unwrap().0).try_into().unwrap())).collect();
                assert_eq!(found, (1..=found.len() as u64).collect::<Vec<_>>(), "a prefix");
                read += 1;
                drop(machine);
                store.close();
            }
        }
    }
    assert_eq!((refused, read), (12, 12));
    drop(machine);
    store.close();
}

#[test]
fn what_was_being_written_when_the_process_died_may_be_torn() {
    use std::io::Write;
    let dir = tempfile::tempdir().unwrap();
    let (store, machine) = with_log(dir.path(), 10);
    let (copy, wal) = crashed_copy(dir.path());
    // The head of a record that promises more than there is.
    let mut file = std::fs::OpenOptions::new().append(true).open(&wal).unwrap();
    file.write_all(&[0x11, 0x22, 0x33, 0x44, 0xff, 0x00, 0x01, 0x7b]).unwrap();
    let (copied, copied_machine, _) = Store::open(copy.path(), ReplicaId(1)).unwrap();
    assert_eq!(copied.disk.scan(disk::Family::Log, &[], None).count(), 10, "all that was acknowledged");
    drop((copied_machine, machine));
    copied.close();
    store.close();
}

#[test]
fn a_changed_byte_in_the_middle_of_the_write_ahead_log_ends_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let (store, machine) = with_log(dir.path(), 30);
    for part in [3, 2] {
        let (copy, wal) = crashed_copy(dir.path());
        let mut bytes = std::fs::read(&wal).unwrap();
        let at = bytes.len() / part;
        bytes[at] ^= 1;
        std::fs::write(&wal, bytes).unwrap();
        let error = Store::open(copy.path(), ReplicaId(1)).err().unwrap().to_string();
        assert!(error.contains("cannot open the store") && error.contains("cluster remove"), "{error}");
    }
    drop(machine);
    store.close();
}

#[test]
fn a_changed_byte_in_a_table_on_disk_is_found_while_the_replica_runs_and_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut machine, _) = Store::open(dir.path(), ReplicaId(1)).unwrap();
    filled(&mut machine, 2000);
    drop(machine);
    store.close();
    // The start writes what is in the write-ahead log to tables.
    let (store, machine, _) = Store::open(dir.path(), ReplicaId(1)).unwrap();
    assert_eq!(machine.auditor().audit(|_| true).unwrap(), Audit::default());
    let tables = std::fs::read_dir(dir.path().join("store")).unwrap().map(|file| file.unwrap().path());
    let largest = tables.filter(|path| path.extension().is_some_and(|e| e == "sst"));
    let largest = largest.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = std::fs::read(&largest).unwrap();
    let at = bytes.len() / 4;
    bytes[at] ^= 1;
    // In place: the database has the file open.
    std::os::unix::fs::FileExt::write_all_at(
        &std::fs::OpenOptions::new().write(true).open(&largest).unwrap(),
        &bytes[at..=at],
        at as u64,
    )
    .unwrap();
    let error = machine.auditor().audit(|_| true).unwrap_err().to_string();
    assert!(error.contains("Corruption"), "{error}");
    drop(machine);
    store.close();
    let error = Store::open(dir.path(), ReplicaId(1)).err().unwrap().to_string();
    assert!(error.contains("Corruption") && error.contains("cluster remove"), "{error}");
}

#[test]
fn a_snapshot_that_was_damaged_on_disk_is_not_taken_for_one() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut machine, _) = Store::open(dir.path(), ReplicaId(1)).unwrap();
    filled(&mut machine, 50);
    let file = snapshot_of(&mut machine);
    assert!(file.check().is_ok());
    let mut bytes = std::fs::read(file.path()).unwrap();
    let at = bytes.len() - 40;
    bytes[at] ^= 1;
    std::fs::write(file.path(), bytes).unwrap();
    assert!(store.snapshots().current().unwrap().check().is_err());
    drop(machine);
    store.close();
    let (store, machine, _) = Store::open(dir.path(), ReplicaId(1)).unwrap();
    assert!(store.snapshots().current().is_none(), "another one is made when it is needed");
    drop(machine);
    store.close();
}
