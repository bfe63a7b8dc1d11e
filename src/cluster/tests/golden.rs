//! What earlier releases wrote, read by this one.
//!
//! `tests/fixtures/golden/VERSION` holds what release VERSION puts on disk and on the
//! wire: a log entry of every kind of command, the outcomes and the records that a log of
//! all of them leads to (`forms.json` has their very bytes), a snapshot, every message between replicas, and the data
//! directory of a replica. The tests here read the files of all versions.
//!
//! `QUORUMSCALE_GOLDEN=write cargo test --lib golden` writes the files of the version that
//! Cargo.toml names. It is run before that version is released, and never after: what a
//! release wrote does not change any more.

pub(super) mod samples;

use super::*;
use crate::cluster::store::{Machine, SnapshotFile, Store};
use crate::cluster::types::{Entry, Logged};
use crate::cluster::wire;
use crate::state::{NodeId, Outcome, Owner, Proposal, Row, State, UserId};
use openraft::RaftSnapshotBuilder;
use openraft::storage::RaftStateMachine;
use samples::Sample;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Where all versions are.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/golden")
}

/// The directories of the versions that there are.
fn versions() -> Vec<PathBuf> {
    let is_directory = |path: &PathBuf| path.is_dir();
    let versions: Vec<_> =
        fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path()).filter(is_directory).collect();
    assert!(!versions.is_empty());
    versions
}

/// Whether the files are to be written, not read.
fn writes() -> bool {
    std::env::var("QUORUMSCALE_GOLDEN").is_ok_and(|value| value == "write")
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> T {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn write(path: &Path, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// The proposals of a version, in the order of the log.
fn log_of(version: &Path) -> Vec<Proposal> {
    let names: Vec<String> = read(&version.join("log.json"));
    names.iter().map(|name| read(&version.join("commands").join(format!("{name}.json")))).collect()
}

/// What a log leads to.
fn apply(log: &[Proposal]) -> (State, Vec<Outcome>) {
    let mut state = State::default();
    let outcomes = (1..).zip(log).map(|(index, proposal)| state.apply(index, proposal).outcome).collect();
    (state, outcomes)
}

/// A state's records: their stored keys in hex, and what is stored.
fn records(state: &State) -> BTreeMap<String, Value> {
    let record = |row: Row| (hex::encode(&row.key), serde_json::from_slice(&row.value.unwrap()).unwrap());
    state.rows().map(record).collect()
}

/// The same, as the very texts that are stored.
fn forms(state: &State) -> BTreeMap<String, String> {
    let form = |row: Row| (hex::encode(&row.key), String::from_utf8(row.value.unwrap()).unwrap());
    state.rows().map(form).collect()
}

/// Whether everything that was said there is said here: fields may be new, not different.
fn says(here: &Value, there: &Value) -> bool {
    match (here, there) {
        (Value::Object(here), Value::Object(there)) => {
            there.iter().all(|(key, value)| here.get(key).is_some_and(|here| says(here, value)))
        }
        (Value::Array(here), Value::Array(there)) => {
            here.len() == there.len() && here.iter().zip(there).all(|(here, there)| says(here, there))
        }
        _ => here == there,
    }
}

#[test]
fn this_releases_files_are_written_when_asked_for() {
    if !writes() {
        return;
    }
    let version = root().join(env!("CARGO_PKG_VERSION"));
    let log = samples::log();
    let names: Vec<&str> = log.iter().map(|proposal| proposal.command.name()).collect();
    write(&version.join("log.json"), pretty(&names));
    for proposal in &log {
        write(&version.join("commands").join(format!("{}.json", proposal.command.name())), pretty(proposal));
    }
    let (state, outcomes) = apply(&log);
    write(&version.join("outcomes.json"), pretty(&outcomes));
    write(&version.join("records.json"), pretty(&records(&state)));
    write(&version.join("forms.json"), pretty(&forms(&state)));
    for Sample { name, bytes, .. } in samples::messages() {
        write(&version.join("messages").join(format!("{name}.bin")), bytes);
    }
    write(&version.join("snapshot.bin"), snapshot_of(&log));
    // It is another one each time; a file that is there stays.
    if !version.join("replica").exists() {
        write_store(&version.join("replica"));
    }
}

fn pretty(value: &impl serde::Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).unwrap();
    text.push(b'\n');
    text
}

#[test]
fn every_kind_of_command_has_a_golden_file() {
    if writes() {
        return;
    }
    let version = root().join(env!("CARGO_PKG_VERSION"));
    let known: BTreeSet<_> = samples::log().iter().map(|proposal| proposal.command.name()).collect();
    for name in known {
        let path = version.join("commands").join(format!("{name}.json"));
        assert!(path.exists(), "{} is missing: run QUORUMSCALE_GOLDEN=write cargo test --lib golden", path.display());
    }
    assert!(samples::log().iter().all(|proposal| proposal.command.format() <= crate::state::COMMAND_FORMAT));
}

#[test]
fn the_log_of_an_earlier_release_means_the_same_to_this_one() {
    if writes() {
        return;
    }
    for version in versions() {
        let log = log_of(&version);
        for proposal in &log {
            let today = samples::log().into_iter().find(|sample| sample.command.name() == proposal.command.name());
            assert_eq!(Some(proposal), today.as_ref(), "{}", version.display());
        }
        let (state, outcomes) = apply(&log);
        let expected: Vec<Outcome> = read(&version.join("outcomes.json"));
        for ((proposal, now), then) in log.iter().zip(&outcomes).zip(&expected) {
            assert_eq!(now, then, "{}: {}", version.display(), proposal.command.name());
        }
        check(&state);
        let (now, then) = (records(&state), read::<BTreeMap<String, Value>>(&version.join("records.json")));
        assert_eq!(now.keys().collect::<Vec<_>>(), then.keys().collect::<Vec<_>>(), "{}", version.display());
        for (key, value) in &then {
            let kind = Row::kind(&hex::decode(key).unwrap());
            assert!(says(&now[key], value), "{kind} {key}: {} was {value}", now[key]);
        }
        let rows = then.iter().map(|(key, value)| (hex::decode(key).unwrap(), serde_json::to_vec(value).unwrap()));
        let loaded = State::load(rows).unwrap();
        assert_eq!(loaded.hash(), state.hash(), "a record that was read is the one that the log leads to");
    }
}

/// Replicas of two releases in one cluster are compared by hashes of these bytes.
#[test]
fn the_log_of_an_earlier_release_leads_to_records_with_the_very_bytes_that_it_wrote() {
    if writes() {
        return;
    }
    for version in versions() {
        let (now, then) =
            (forms(&apply(&log_of(&version)).0), read::<BTreeMap<String, String>>(&version.join("forms.json")));
        for key in now.keys().chain(then.keys()) {
            let kind = Row::kind(&hex::decode(key).unwrap());
            assert_eq!(
                now.get(key),
                then.get(key),
                "{kind}: this release writes other bytes than {} did, so its replicas would be told to differ while \
                 a cluster is upgraded. A new field is left out while it has its default, and is set only by \
                 commands of a new format",
                version.display()
            );
        }
    }
}

/// What the log of all commands leads to, in words.
fn check(state: &State) {
    let alice = state.user(UserId(1)).unwrap();
    assert_eq!((&*alice.name, &*alice.email), ("alicia", "alice@example.com"));
    let node = state.node(NodeId(1)).unwrap();
    assert_eq!((&*node.given_name, node.ipv4.unwrap().to_string().as_str()), ("chosen", "100.64.0.1"));
    assert!(matches!(&node.owner, Owner::Tags(tags) if tags.iter().any(|tag| tag.as_str() == "tag:server")));
    assert!(state.is_online(node.id) && state.node(NodeId(2)).is_none());
    assert_eq!(state.primary_routes(node.id).len(), 1);
    assert_eq!(state.policy().unwrap().text, "{\"acls\":[]}");
    assert_eq!(state.server_keys().unwrap().cluster_id, "golden");
    assert_eq!(state.settings().unwrap().base_domain, "example.net");
    assert_eq!(state.replica(ReplicaId(1)).unwrap().client_addresses.len(), 1);
    assert_eq!((state.pre_auth_keys().count(), state.api_keys().count()), (1, 1));
}

#[test]
fn what_a_newer_release_adds_to_a_command_or_record_is_passed_over() {
    if writes() {
        return;
    }
    let addition = || Value::from("from a newer release");
    for version in versions() {
        for proposal in log_of(&version) {
            let mut json = serde_json::to_value(&proposal).unwrap();
            json["novelty"] = addition();
            if let Some(fields) = json["command"].get_mut(proposal.command.name()).and_then(Value::as_object_mut) {
                fields.insert("novelty".into(), addition());
            }
            assert_eq!(serde_json::from_value::<Proposal>(json).unwrap(), proposal);
        }
        let mut rows: BTreeMap<String, Value> = read(&version.join("records.json"));
        // An outcome is one of several kinds, and has no fields of its own.
        let has_fields = |key: &str| Row::kind(&hex::decode(key).unwrap()) != "requests";
        for (_, record) in rows.iter_mut().filter(|(key, record)| record.is_object() && has_fields(key)) {
            record["novelty"] = addition();
        }
        let rows = rows.iter().map(|(key, value)| (hex::decode(key).unwrap(), serde_json::to_vec(value).unwrap()));
        check(&State::load(rows).unwrap());
    }
}

#[test]
fn the_messages_of_an_earlier_release_mean_the_same_to_this_one() {
    if writes() {
        return;
    }
    for version in versions() {
        for entry in fs::read_dir(version.join("messages")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            let sample = samples::messages().into_iter().find(|sample| sample.name == name);
            let sample = sample.unwrap_or_else(|| panic!("{name}: this release has no such message"));
            let bytes = fs::read(&path).unwrap();
            assert_eq!((sample.read)(&bytes).unwrap(), sample.bytes, "{}", path.display());
            // Field 1000, a number: a newer release's.
            let newer = [bytes.as_slice(), &[0xc0, 0x3e, 0x07]].concat();
            assert_eq!((sample.read)(&newer).unwrap(), sample.bytes, "{name} with a field that is not known");
        }
    }
    let all: BTreeSet<_> = samples::messages().into_iter().map(|sample| sample.name).collect();
    let files = fs::read_dir(root().join(env!("CARGO_PKG_VERSION")).join("messages")).unwrap();
    assert_eq!(all.len(), files.count(), "run QUORUMSCALE_GOLDEN=write cargo test --lib golden");
}

fn machine(log: &[Proposal], dir: &Path) -> (Store, Machine, Arc<crate::cluster::feed::Feed>) {
    let (store, mut machine, feed) = Store::open(dir, ReplicaId(1)).unwrap();
    let entry = |(index, proposal): (u64, &Proposal)| {
        let log_id = (&wire::LogId { term: 1, replica: 1, index }).into();
        let payload = openraft::EntryPayload::Normal(Logged(serde_json::to_vec(proposal).unwrap().into()));
        std::io::Result::Ok((Entry { log_id, payload }, None))
    };
    let entries: Vec<_> = (1..).zip(log).map(entry).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(machine.apply(futures::stream::iter(entries))).unwrap();
    (store, machine, feed)
}

fn snapshot_of(log: &[Proposal]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut machine, _feed) = machine(log, dir.path());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let file: SnapshotFile = runtime.block_on(async {
        let mut builder = machine.try_create_snapshot_builder(true).await.unwrap();
        builder.build_snapshot().await.unwrap().snapshot
    });
    let bytes = fs::read(file.path()).unwrap();
    drop(machine);
    store.close();
    bytes
}

#[test]
fn the_snapshot_of_an_earlier_release_is_installed() {
    if writes() {
        return;
    }
    for version in versions() {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut machine, feed) = Store::open(dir.path(), ReplicaId(2)).unwrap();
        let bytes = fs::read(version.join("snapshot.bin")).unwrap();
        let mut incoming = store.snapshots().receive(bytes.len() as u64).unwrap();
        incoming.write(&bytes).unwrap();
        let file = incoming.finish().unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let meta = openraft::alias::SnapshotMetaOf::<crate::cluster::types::TypeConfig> {
            last_log_id: Some((&wire::LogId { term: 1, replica: 1, index: log_of(&version).len() as u64 }).into()),
            last_membership: Default::default(),
        };
        runtime.block_on(machine.install_snapshot(&meta, file)).unwrap();
        check(&feed.view());
        assert_eq!(feed.view().hash(), apply(&log_of(&version)).0.hash());
        drop(machine);
        store.close();
    }
}

/// A replica's data directory and its secret, as its release leaves them.
fn write_store(to: &Path) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut field = Field::new(1, 1);
    runtime.block_on(async {
        field.start_all(&[1]).await;
        for n in 0..60 {
            create(field.at(1), &format!("user{n}")).await;
        }
        field.stop(1).await;
    });
    let _ = fs::remove_dir_all(to);
    copy(&field.data_dir(1), &to.join("data"));
    write(&to.join("secret"), fs::read(field.secret_path()).unwrap());
}

/// Copies what a store needs: not its lock, its own log for people, or its options.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name().into_string().unwrap())).unwrap();
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else if !(name == "LOCK" || name.starts_with("LOG") || name.starts_with("OPTIONS")) {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

#[test]
fn a_replica_starts_with_the_data_of_an_earlier_release() {
    if writes() {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for version in versions() {
        let mut field = Field::new(1, 1);
        copy(&version.join("replica/data"), &field.data_dir(1));
        fs::copy(version.join("replica/secret"), field.secret_path()).unwrap();
        runtime.block_on(async {
            field.start_all(&[1]).await;
            let view = field.at(1).linearizable().await.unwrap();
            assert!((0..60).all(|n| view.user_by_name(&format!("user{n}")).is_some()), "{}", version.display());
            assert!(field.at(1).noise_key().is_some(), "its keys open with its secret");
            create(field.at(1), "user0-afterwards").await;
            // A request of that time is remembered.
            create(field.at(1), "user0").await;
            let verified = field.at(1).verify().await.unwrap();
            assert!(verified.equal, "{verified:?}");
            field.stop_all().await;
        });
    }
}
