//! What the cluster measures of itself: how long writes take, and how many share a step.

use metrics::{Gauge, Histogram, describe_gauge, describe_histogram, gauge, histogram};
use std::sync::LazyLock;
use std::time::Instant;

/// The meters, looked up once. Before [`crate::metrics::install`] they would count nothing.
pub(super) static METERS: LazyLock<Meters> = LazyLock::new(Meters::new);

/// One for the process.
pub(super) struct Meters {
    pub propose: Histogram,
    pub commit: Histogram,
    pub apply: Histogram,
    pub apply_entries: Histogram,
    pub append_entries: Histogram,
    pub sync_writes: Histogram,
    pub in_flight: Gauge,
}

impl Meters {
    fn new() -> Self {
        describe_histogram!(
            "quorumscale_propose_seconds",
            "From a command at this replica to its outcome here: to the leader, through the log, applied."
        );
        describe_histogram!(
            "quorumscale_commit_seconds",
            "From a command at the leader until a quorum has it on disk; the replica that leads measures it."
        );
        describe_histogram!(
            "quorumscale_apply_seconds",
            "To apply committed entries that came together, write their records and show them."
        );
        describe_histogram!("quorumscale_apply_batch_entries", "Entries that were applied together.");
        describe_histogram!("quorumscale_append_batch_entries", "Entries that were appended to the log together.");
        describe_histogram!("quorumscale_sync_batch_writes", "Writes to the log that one sync of the disk covered.");
        describe_histogram!("quorumscale_store_sync_seconds", "One sync of the log to the disk.");
        describe_gauge!(
            "quorumscale_writes_in_flight",
            "Commands of this replica that have no outcome yet, or wait for their turn."
        );
        Self {
            propose: histogram!("quorumscale_propose_seconds"),
            commit: histogram!("quorumscale_commit_seconds"),
            apply: histogram!("quorumscale_apply_seconds"),
            apply_entries: histogram!("quorumscale_apply_batch_entries"),
            append_entries: histogram!("quorumscale_append_batch_entries"),
            sync_writes: histogram!("quorumscale_sync_batch_writes"),
            in_flight: gauge!("quorumscale_writes_in_flight"),
        }
    }

    /// A write that is under way, until it is dropped.
    pub fn write(&self) -> Write {
        self.in_flight.increment(1);
        Write(Instant::now())
    }
}

/// Measures one write, whatever becomes of it.
pub(super) struct Write(Instant);

impl Drop for Write {
    fn drop(&mut self) {
        METERS.in_flight.decrement(1);
        METERS.propose.record(self.0.elapsed());
    }
}
