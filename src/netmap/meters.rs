//! What is measured of map streams. Names that start with `headscale_` are Headscale's,
//! so that what reads them there reads them here.

use super::mailbox::End;
use metrics::{Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram};
use metrics::{gauge, histogram};
use std::sync::LazyLock;

/// The meters, looked up once. Before [`crate::metrics::install`] they would count nothing.
pub(super) static METERS: LazyLock<Meters> = LazyLock::new(Meters::new);

/// One for the process.
pub(super) struct Meters {
    pub streams: Gauge,
    pub changes: Counter,
    pub changes_lost: Counter,
    pub marked: Counter,
    pub coalesced: Counter,
    pub told: Histogram,
    pub reports_waiting: Gauge,
    pub report_batch: Histogram,
    pub rendered_bytes: Counter,
    pub compressed_bytes: Counter,
    pub sent_bytes: Counter,
    pub sent_full: Counter,
    pub sent_change: Counter,
    pub sent_keep_alive: Counter,
    pub generated_full: Counter,
    pub generated_change: Counter,
    pub updates_ok: Counter,
    pub updates_error: Counter,
}

impl Meters {
    fn new() -> Self {
        describe();
        let generated = |kind: &'static str| counter!("headscale_mapresponse_generated_total", "response_type" => kind);
        let sent = |kind: &'static str| counter!("headscale_mapresponse_sent_total", "status" => "ok", "type" => kind);
        let updates =
            |status: &'static str| counter!("headscale_mapresponse_endpoint_updates_total", "status" => status);
        Self {
            streams: gauge!("quorumscale_streams"),
            changes: counter!("quorumscale_changes_total"),
            changes_lost: counter!("quorumscale_changes_lost_total"),
            marked: counter!("quorumscale_changes_marked_total"),
            coalesced: counter!("quorumscale_changes_coalesced_total"),
            told: histogram!("quorumscale_change_told_seconds"),
            reports_waiting: gauge!("quorumscale_reports_waiting"),
            report_batch: histogram!("quorumscale_report_batch_reports"),
            rendered_bytes: counter!("quorumscale_map_rendered_bytes_total"),
            compressed_bytes: counter!("quorumscale_map_compressed_bytes_total"),
            sent_bytes: counter!("quorumscale_map_sent_bytes_total"),
            sent_full: sent("full"),
            sent_change: sent("change"),
            sent_keep_alive: sent("keepalive"),
            generated_full: generated("full"),
            generated_change: generated("change"),
            updates_ok: updates("ok"),
            updates_error: updates("error"),
        }
    }

    /// A stream has ended; `None`: its client went.
    pub fn ended(&self, why: Option<End>) {
        let reason = match why {
            None => "client_gone",
            Some(End::Replaced) => "replaced",
            Some(End::NodeGone) => "node_gone",
            Some(End::Stopping) => "stopping",
        };
        counter!("headscale_mapresponse_ended_total", "reason" => reason).increment(1);
    }
}

fn describe() {
    describe_gauge!("quorumscale_streams", "Map streams that this replica holds.");
    describe_counter!("quorumscale_changes_total", "Changes of nodes, users, policy and replicas that were applied.");
    describe_counter!(
        "quorumscale_changes_lost_total",
        "Times that streams had to be sent everything, since the changes came faster than they could be sorted."
    );
    describe_counter!(
        "quorumscale_changes_marked_total",
        "Changes that a stream had to be told, counted for each stream."
    );
    describe_counter!(
        "quorumscale_changes_coalesced_total",
        "Of these, changes that went into one message with one that was still to be told."
    );
    describe_histogram!(
        "quorumscale_change_told_seconds",
        "From an applied change until the last stream that had to be told handed it to its connection."
    );
    describe_gauge!("quorumscale_reports_waiting", "What clients reported and no command has taken yet.");
    describe_histogram!("quorumscale_report_batch_reports", "Reports of clients that became one command.");
    describe_counter!("quorumscale_map_rendered_bytes_total", "Bytes of JSON that were rendered for map messages.");
    describe_counter!("quorumscale_map_compressed_bytes_total", "Bytes that compression made of them.");
    describe_counter!("quorumscale_map_sent_bytes_total", "Bytes of map messages that streams handed out.");
    describe_counter!("headscale_mapresponse_generated_total", "Map messages that were rendered, by kind.");
    describe_counter!("headscale_mapresponse_sent_total", "Map messages that streams handed out, by kind.");
    describe_counter!("headscale_mapresponse_ended_total", "Map streams that ended, by reason.");
    describe_counter!(
        "headscale_mapresponse_endpoint_updates_total",
        "What clients reported of themselves outside of their streams."
    );
}
