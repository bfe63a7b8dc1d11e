//! The relay's counters, looked up once: they are used for each packet.

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

/// Made after the recorder is installed, or nothing is counted.
pub(super) struct Meters {
    pub(super) clients: Gauge,
    pub(super) accepted: Counter,
    /// Connections that ended before they were let in, by reason.
    pub(super) refused_busy: Counter,
    pub(super) refused_handshake: Counter,
    pub(super) refused_not_admitted: Counter,
    pub(super) refused_full: Counter,
    pub(super) packets_in: Counter,
    pub(super) bytes_in: Counter,
    pub(super) packets_out: Counter,
    pub(super) bytes_out: Counter,
    /// The destination was not connected.
    pub(super) dropped_unknown: Counter,
    /// The destination's queue was full.
    pub(super) dropped_full: Counter,
    pub(super) write_timeouts: Counter,
}

impl Meters {
    pub(super) fn new() -> Self {
        describe_gauge!("quorumscale_derp_clients", "Clients that are connected to this replica's relay.");
        describe_counter!("quorumscale_derp_accepted_total", "Clients that the relay let in.");
        describe_counter!("quorumscale_derp_refused_total", "Connections that the relay did not let in, by reason.");
        describe_counter!("quorumscale_derp_packets_total", "Packets that came in and went out.");
        describe_counter!("quorumscale_derp_bytes_total", "Bytes of packets that came in and went out.");
        describe_counter!("quorumscale_derp_dropped_packets_total", "Packets that were not delivered, by reason.");
        describe_counter!(
            "quorumscale_derp_write_timeouts_total",
            "Clients that were disconnected because they did not read."
        );
        let refused = |reason: &'static str| counter!("quorumscale_derp_refused_total", "reason" => reason);
        let packets = |way: &'static str| counter!("quorumscale_derp_packets_total", "direction" => way);
        let bytes = |way: &'static str| counter!("quorumscale_derp_bytes_total", "direction" => way);
        let dropped = |reason: &'static str| counter!("quorumscale_derp_dropped_packets_total", "reason" => reason);
        Self {
            clients: gauge!("quorumscale_derp_clients"),
            accepted: counter!("quorumscale_derp_accepted_total"),
            refused_busy: refused("busy"),
            refused_handshake: refused("handshake"),
            refused_not_admitted: refused("not_admitted"),
            refused_full: refused("full"),
            packets_in: packets("in"),
            bytes_in: bytes("in"),
            packets_out: packets("out"),
            bytes_out: bytes("out"),
            dropped_unknown: dropped("unknown_destination"),
            dropped_full: dropped("queue_full"),
            write_timeouts: counter!("quorumscale_derp_write_timeouts_total"),
        }
    }
}
