//! Whatever peers send and disks hold, and whatever is in the log.

use super::golden::samples;
use crate::cluster::store::{SnapshotFile, SnapshotRows};
use crate::cluster::{types, wire};
use crate::fuzzing::{Bent, bent, bent_json};
use crate::state::{Proposal, State};
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest};
use prost::Message;
use serde_json::Value;

/// Reads bytes as a message, and the message as what it means.
fn means<M: Message + Default, T>(bytes: &[u8], read: impl Fn(M) -> Result<T, wire::WireError>) {
    let _ = M::decode(bytes).map(read);
}

fn read_as_everything(bytes: &[u8]) {
    type Config = types::TypeConfig;
    means(bytes, |m: wire::AppendRequest| AppendEntriesRequest::<Config>::try_from(m));
    means(bytes, |m: wire::AppendResponse| wire::Appended::try_from(&m));
    means(bytes, |m: wire::VoteRequest| openraft::raft::VoteRequest::<Config>::try_from(&m));
    means(bytes, |m: wire::VoteResponse| openraft::raft::VoteResponse::<Config>::try_from(&m));
    means(bytes, |m: wire::TransferRequest| TransferLeaderRequest::<Config>::try_from(&m));
    means(bytes, |m: wire::TransferResponse| wire::Transferred::try_from(&m));
    means(bytes, |m: wire::Membership| types::Membership::try_from(&m));
    means(bytes, |m: wire::Entry| m.decode_entry());
}

#[test]
fn fuzz_messages_of_peers() {
    let messages = samples::messages();
    bolero::check!().with_type::<(u8, Bent)>().for_each(|(which, input)| {
        let sample = &messages[usize::from(*which) % messages.len()];
        let bytes = bent(std::slice::from_ref(&sample.bytes), input);
        let _ = (sample.read)(&bytes);
        read_as_everything(&bytes);
    });
}

#[test]
fn fuzz_snapshots() {
    let version = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/golden/0.1.0");
    let good = [std::fs::read(version.join("snapshot.bin")).unwrap()];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fuzz.snapshot");
    let rows = |file: &SnapshotFile| SnapshotRows::open(file).map(|rows| rows.collect::<Vec<_>>());
    std::fs::write(&path, &good[0]).unwrap();
    let expected = rows(&SnapshotFile::open(&path).unwrap()).unwrap();
    bolero::check!().with_type::<Bent>().for_each(|input| {
        let bytes = bent(&good, input);
        std::fs::write(&path, &bytes).unwrap();
        let Ok(file) = SnapshotFile::open(&path) else { return };
        let is_good = file.check().is_ok();
        assert!(is_good || bytes != good[0]);
        let Ok(rows) = rows(&file) else { return assert!(!is_good) };
        // Compression has bits that mean nothing: what counts are the records.
        assert!(!is_good || rows == expected, "a snapshot whose records were changed is found out");
        let _ = State::load(rows);
    });
}

#[test]
fn fuzz_records_on_disk() {
    let rows: Vec<(Vec<u8>, Value)> = state()
        .rows()
        .map(|row| (row.key.clone(), serde_json::from_slice(&row.value.unwrap_or_default()).unwrap_or_default()))
        .collect();
    let values: Vec<Value> = rows.iter().map(|(_, value)| value.clone()).collect();
    bolero::check!().with_type::<Bent>().for_each(|input| {
        let which = usize::from(input.0) % rows.len();
        let changed = bent_json(&values, input);
        let rows = rows.iter().enumerate().map(|(number, (key, value))| {
            let value = if number == which { &changed } else { value };
            (key.clone(), value.to_string().into_bytes())
        });
        let _ = State::load(rows);
    });
}

/// What the log of one of each kind of command leads to.
fn state() -> State {
    let mut state = State::default();
    (1..).zip(&samples::log()).for_each(|(index, proposal)| drop(state.apply(index, proposal)));
    state
}

/// In one run, so that there can be many runs.
const MAX_COMMANDS: usize = 8;

/// No command may end a replica, since it would end all of them, again and again.
#[test]
fn fuzz_apply() {
    let good: Vec<Value> = samples::log().iter().map(|proposal| serde_json::to_value(proposal).unwrap()).collect();
    // Before the first command, in the middle of the log, and after its end.
    let starts: Vec<State> = [0, good.len() / 2, good.len()]
        .map(|length| {
            let mut state = State::default();
            (1..).zip(&samples::log()[..length]).for_each(|(index, proposal)| drop(state.apply(index, proposal)));
            state
        })
        .into();
    bolero::check!().with_type::<(u8, Vec<Bent>)>().for_each(|(start, inputs)| {
        let mut state = starts[usize::from(*start) % starts.len()].clone();
        for input in inputs.iter().take(MAX_COMMANDS) {
            // What is no command does not get into the log.
            let Ok(proposal) = serde_json::from_value::<Proposal>(bent_json(&good, input)) else { continue };
            state.apply(state.index() + 1, &proposal);
        }
        let again = State::load(state.rows().map(|row| (row.key, row.value.unwrap_or_default())));
        assert_eq!(again.expect("what was stored can be read").hash(), state.hash());
    });
}
