//! The state machine: the log's commands become state, records on disk, views and answers.

use super::audit::Auditor;
use super::disk::{Batch, Disk, Family, Frozen};
use super::seal;
use super::snapshot::{self, SnapshotFile, Snapshots};
use crate::cluster::blocking::blocking;
use crate::cluster::feed::Feed;
use crate::cluster::meters::METERS;
use crate::cluster::types::{Answer, Entry, LogId, Logged, SnapshotMeta, StoredMembership, TypeConfig};
use crate::cluster::wire;
use crate::state::{COMMAND_FORMAT, Change, Command, LoadError, Proposal, ReplicaId, Row, State, Tally};
use futures::{Stream, StreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine, Snapshot};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use prost::Message;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Entries that become one batch on disk and one step for everyone who watches.
const STEP_ENTRIES: usize = 1024;
/// Bytes of records after which a step ends earlier.
const STEP_BYTES: usize = 4 << 20;
/// Bytes of records in one batch while a snapshot is installed.
const INSTALL_BATCH: usize = 1 << 20;

pub const APPLIED: &[u8] = b"applied";
const INSTALLING: &[u8] = b"installing";

/// What is applied, besides the state itself.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    pub last: Option<LogId>,
    pub membership: StoredMembership,
    /// Numbers that are never used again.
    pub removed: BTreeSet<ReplicaId>,
}

/// The state machine. Only Raft writes to it; everyone else reads its [`Feed`].
pub struct Machine {
    disk: Arc<Disk>,
    state: State,
    applied: Applied,
    feed: Arc<Feed>,
    snapshots: Snapshots,
    auditor: Auditor,
}

/// Entries that are applied, and not written and shown yet.
struct Step<'a> {
    batch: Batch<'a>,
    entries: usize,
    changes: Vec<Change>,
    answers: Vec<(ApplyResponder<TypeConfig>, Answer)>,
    /// What it took so far.
    took: Duration,
}

impl Machine {
    /// Reads the state from disk; finishes the installation of a snapshot first.
    pub fn open(disk: Arc<Disk>, snapshots: Snapshots) -> io::Result<(Self, Arc<Feed>)> {
        if let Some(name) = disk.get(Family::StateMeta, INSTALLING)? {
            let name = String::from_utf8(name).map_err(io::Error::other)?;
            tracing::info!("finishing the installation of snapshot {name}");
            install(&disk, &snapshots.named(&name)?)?;
        }
        let record = disk.get(Family::StateMeta, APPLIED)?.map(|bytes| read_applied(&bytes)).transpose()?;
        let record = record.unwrap_or_default();
        let written = tally_of(&record)?;
        let applied: Applied = record.try_into()?;
        let state = load(&disk, written.as_ref())?;
        rewrite_older_forms(&disk, &state, &applied)?;
        let feed = Arc::new(Feed::new(state.clone(), applied.index(), applied.removed.clone()));
        let auditor = Auditor::new(&disk, &feed);
        Ok((Self { disk, state, applied, feed: feed.clone(), snapshots, auditor }, feed))
    }

    /// Compares what is on disk with what is in memory.
    pub fn auditor(&self) -> Auditor {
        self.auditor.clone()
    }

    /// What is applied, before anything runs.
    pub fn contents(&self) -> (State, Applied) {
        (self.state.clone(), self.applied.clone())
    }

    /// Applies entries in memory alone.
    pub fn replay(&self, state: &mut State, applied: &mut Applied, entries: Vec<Entry>) -> io::Result<()> {
        let mut step = Step::new(&self.disk);
        entries.into_iter().try_for_each(|entry| step.take(state, applied, entry).map(drop))
    }

    /// Replaces all records on disk, while nothing runs.
    pub fn reset(&self, state: &State, applied: &Applied) -> io::Result<()> {
        install(&self.disk, &self.snapshots.write(state, applied)?).map(drop)
    }

    fn builder(&self) -> Builder {
        Builder { state: self.state.clone(), applied: self.applied.clone(), snapshots: self.snapshots.clone() }
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied.last, self.applied.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let disk = self.disk.clone();
        let mut step = Step::new(&disk);
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            #[cfg(test)]
            let entry = super::tests::mischief(&self.feed, &mut self.state, entry);
            let begun = Instant::now();
            let answer = step.take(&mut self.state, &mut self.applied, entry)?;
            step.took += begun.elapsed();
            self.feed.reached(self.applied.index(), &self.state);
            step.answers.extend(responder.map(|responder| (responder, answer)));
            if step.is_full() {
                let full = std::mem::replace(&mut step, Step::new(&disk));
                full.finish(&self.state, &self.applied, &self.feed, &self.auditor);
            }
        }
        step.finish(&self.state, &self.applied, &self.feed, &self.auditor);
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Builder> {
        Some(self.builder())
    }

    #[allow(deprecated)]
    async fn get_snapshot_builder(&mut self) -> Builder {
        self.builder()
    }

    async fn install_snapshot(&mut self, _meta: &SnapshotMeta, snapshot: SnapshotFile) -> io::Result<()> {
        let disk = self.disk.clone();
        let (snapshots, feed, auditor) = (self.snapshots.clone(), self.feed.clone(), self.auditor.clone());
        let (state, applied) = blocking(move || {
            let adopted = snapshots.adopt(snapshot)?;
            let result = auditor.in_step(|| {
                let (state, applied) = install(&disk, &adopted)?;
                feed.replace(applied.index(), Arc::new(state.clone()), applied.removed.clone());
                io::Result::Ok((state, applied))
            })?;
            snapshots.set_current(adopted);
            Ok(result)
        })
        .await?;
        self.state = state;
        self.applied = applied;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf>> {
        Ok(self.snapshots.current().map(SnapshotOf::from))
    }
}

type SnapshotOf = openraft::alias::SnapshotOf<TypeConfig, SnapshotFile>;

impl From<SnapshotFile> for SnapshotOf {
    fn from(file: SnapshotFile) -> Self {
        Snapshot { meta: file.applied().meta(), snapshot: file }
    }
}

/// A view of the state, to be written to a file while apply goes on.
pub struct Builder {
    state: State,
    applied: Applied,
    snapshots: Snapshots,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf> {
        let (state, applied, snapshots) = (self.state.clone(), self.applied.clone(), self.snapshots.clone());
        let file = blocking(move || snapshots.write(&state, &applied)).await?;
        Ok(file.into())
    }
}

impl<'a> Step<'a> {
    fn new(disk: &'a Disk) -> Self {
        Self { batch: disk.batch(), entries: 0, changes: Vec::new(), answers: Vec::new(), took: Duration::ZERO }
    }

    fn is_full(&self) -> bool {
        self.entries >= STEP_ENTRIES || self.batch.bytes() >= STEP_BYTES
    }

    /// Applies one entry; what is to be written and shown gathers here.
    fn take(&mut self, state: &mut State, applied: &mut Applied, entry: Entry) -> io::Result<Answer> {
        self.entries += 1;
        applied.last = Some(entry.log_id);
        match entry.payload {
            EntryPayload::Blank => Ok(Answer(None)),
            EntryPayload::Membership(membership) => {
                applied.membership = StoredMembership::new(Some(entry.log_id), membership);
                Ok(Answer(None))
            }
            EntryPayload::Normal(logged) => {
                let index = entry.log_id.index;
                let proposal = decode(index, &logged)?;
                let result = state.apply(index, &proposal);
                for row in result.rows {
                    match row.value {
                        Some(value) => self.batch.put(Family::State, &row.key, &value),
                        None => self.batch.delete(Family::State, &row.key),
                    }
                }
                if let Command::ReplicaRemoved(id) = proposal.command {
                    applied.removed.insert(id);
                }
                self.changes.extend(result.changes);
                Ok(Answer(Some(result.outcome)))
            }
        }
    }

    /// Records and applied index are written in one batch; then everyone may see
    /// them; then those who asked get their answers, and find them in the view.
    fn finish(mut self, state: &State, applied: &Applied, feed: &Feed, auditor: &Auditor) {
        if self.entries == 0 {
            return;
        }
        let begun = Instant::now();
        put_applied(&mut self.batch, applied, state);
        auditor.in_step(|| {
            self.batch.write();
            feed.publish(applied.index(), Arc::new(state.clone()), self.changes, &applied.removed);
        });
        METERS.apply.record(self.took + begun.elapsed());
        METERS.apply_entries.record(self.entries as f64);
        for (responder, answer) in self.answers {
            responder.send(answer);
        }
    }
}

impl Applied {
    /// The index of the last applied entry; 0 for none.
    pub fn index(&self) -> u64 {
        self.last.map_or(0, |id| id.index)
    }

    /// What Raft wants to know of a snapshot.
    fn meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.last, last_membership: self.membership.clone() }
    }
}

impl From<&Applied> for wire::Applied {
    fn from(applied: &Applied) -> Self {
        Self {
            last: wire::to_wire(applied.last.as_ref()),
            membership_id: wire::to_wire(applied.membership.log_id().as_ref()),
            membership: Some(applied.membership.membership().into()),
            removed: applied.removed.iter().map(|id| id.0).collect(),
            tally: Vec::new(),
        }
    }
}

impl TryFrom<wire::Applied> for Applied {
    type Error = wire::WireError;
    fn try_from(record: wire::Applied) -> Result<Self, wire::WireError> {
        let membership = record.membership.as_ref().map(TryInto::try_into).transpose()?.unwrap_or_default();
        Ok(Self {
            last: wire::from_wire(record.last.as_ref()),
            membership: StoredMembership::new(wire::from_wire(record.membership_id.as_ref()), membership),
            removed: record.removed.into_iter().map(ReplicaId).collect(),
        })
    }
}

/// A command that this release does not know must not be skipped: the replicas would differ.
fn decode(index: u64, logged: &Logged) -> io::Result<Proposal> {
    let too_new = |reason: String| {
        io::Error::other(format!(
            "log entry {index} holds a command that this release cannot apply ({reason}): start the release that \
             the other replicas run"
        ))
    };
    let proposal: Proposal = serde_json::from_slice(&logged.0).map_err(|e| too_new(e.to_string()))?;
    if proposal.format > COMMAND_FORMAT {
        return Err(too_new(format!("its format is {}, this release knows up to {COMMAND_FORMAT}", proposal.format)));
    }
    Ok(proposal)
}

/// What was applied, with the tally of the records beside which it is written.
fn put_applied(batch: &mut Batch<'_>, applied: &Applied, state: &State) {
    let mut record = wire::Applied::from(applied);
    record.tally = state.tally().kinds().map(Into::into).collect();
    batch.put(Family::StateMeta, APPLIED, &seal::seal(record.encode_to_vec()));
}

fn read_applied(bytes: &[u8]) -> io::Result<wire::Applied> {
    let bytes = seal::open("the record of what is applied", bytes)?;
    Ok(wire::Applied::decode(bytes).map_err(wire::WireError::from)?)
}

/// What is wrong with the record of what is applied, on disk as it was when memory had all
/// up to `index`, and records of this tally.
pub fn check_applied(disk: &Frozen<'_>, index: u64, tally: &Tally) -> io::Result<Option<String>> {
    let Some(bytes) = disk.get(Family::StateMeta, APPLIED)? else {
        return Ok((index > 0).then(|| "the record of what is applied is gone".into()));
    };
    let record = match read_applied(&bytes) {
        Ok(record) => record,
        Err(error) => return Ok(Some(error.to_string())),
    };
    let written = tally_of(&record)?;
    let on_disk = record.last.map_or(0, |last| last.index);
    Ok(if on_disk != index {
        Some(format!("the record of what is applied says log entry {on_disk}, and it is {index}"))
    } else if written.is_some_and(|written| written != *tally) {
        Some("the hash that is stored with the records is not the one that was written".into())
    } else {
        None
    })
}

/// The tally of the records as they were written; `None`: by a release that kept none.
fn tally_of(record: &wire::Applied) -> io::Result<Option<Tally>> {
    if record.tally.is_empty() {
        return Ok(None);
    }
    let kinds: Result<Vec<_>, wire::WireError> = record.tally.iter().map(TryInto::try_into).collect();
    Ok(Some(Tally::from_kinds(kinds?)))
}

/// Reads the whole state from disk. Its records must be those that were written: a byte
/// that changed since is found here, whatever it means now.
fn load(disk: &Disk, written: Option<&Tally>) -> io::Result<State> {
    let mut failure = None;
    let mut found = Tally::default();
    let rows = disk.scan(Family::State, &[], None).map_while(|row| match row {
        Ok((key, value)) => {
            found.add(&key, &value);
            Some((key.into_vec(), value.into_vec()))
        }
        Err(error) => {
            failure = Some(error);
            None
        }
    });
    let state = state_of(rows);
    if let Some(error) = failure {
        return Err(error);
    }
    match (state, written) {
        // A record that cannot be read any more ends the tally early, but says where it is.
        (Ok(state), Some(written)) if found != *written => {
            drop(state);
            let kinds: Vec<_> = written.differences(&found).into_iter().collect();
            Err(io::Error::other(format!(
                "records of kind {} are not those that this replica wrote: the disk changed or lost something",
                kinds.join(", ")
            )))
        }
        (state, _) => state.map_err(io::Error::other),
    }
}

/// Another release may write a record in another form (it has a field more). From here on
/// the disk has what this one writes, byte by byte, so that the two can be compared.
fn rewrite_older_forms(disk: &Disk, state: &State, applied: &Applied) -> io::Result<()> {
    let mut batch = disk.batch();
    let mut kinds = BTreeSet::new();
    let mut stored = disk.scan(Family::State, &[], None);
    for row in state.rows() {
        let same = stored.next().transpose()?.is_some_and(|(_, value)| row.value.as_deref() == Some(&*value));
        if !same {
            kinds.insert(Row::kind(&row.key));
            batch.put(Family::State, &row.key, row.value.as_deref().unwrap_or_default());
        }
    }
    drop(stored);
    if !kinds.is_empty() {
        let kinds: Vec<_> = kinds.into_iter().collect();
        tracing::info!("records of kind {} are written anew, in this release's form", kinds.join(", "));
        put_applied(&mut batch, applied, state);
        batch.write();
        disk.sync();
    }
    Ok(())
}

/// No rows are the empty state.
fn state_of(rows: impl Iterator<Item = (Vec<u8>, Vec<u8>)>) -> Result<State, LoadError> {
    let mut rows = rows.peekable();
    if rows.peek().is_none() { Ok(State::default()) } else { State::load(rows) }
}

/// Replaces all records by a snapshot's. It is read to its end, checked and
/// understood before anything is touched. If it is cut short after that, the marker
/// makes the next start do it again.
fn install(disk: &Disk, file: &SnapshotFile) -> io::Result<(State, Applied)> {
    let mut rows = snapshot::Rows::open(file)?;
    let state = state_of(&mut rows).map_err(io::Error::other)?;
    let applied = rows.finish()?;

    let mut batch = disk.batch();
    batch.put(Family::StateMeta, INSTALLING, file_name(file.path())?.as_bytes());
    batch.write();
    disk.sync();

    let mut batch = disk.batch();
    delete_all(disk, &mut batch)?;
    for row in state.rows() {
        batch.put(Family::State, &row.key, row.value.as_deref().unwrap_or_default());
        if batch.bytes() >= INSTALL_BATCH {
            std::mem::replace(&mut batch, disk.batch()).write();
        }
    }
    put_applied(&mut batch, &applied, &state);
    batch.delete(Family::StateMeta, INSTALLING);
    batch.write();
    disk.sync();
    Ok((state, applied))
}

fn delete_all(disk: &Disk, batch: &mut Batch<'_>) -> io::Result<()> {
    if let Some((last, _)) = disk.last(Family::State)? {
        batch.delete_range(Family::State, &[], &last);
        batch.delete(Family::State, &last);
    }
    Ok(())
}

fn file_name(path: &Path) -> io::Result<&str> {
    path.file_name().and_then(|name| name.to_str()).ok_or_else(|| io::Error::other("a snapshot has no file name"))
}
