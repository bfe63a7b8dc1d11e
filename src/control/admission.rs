//! Whose handshake comes next, and who may stay.
//!
//! A machine that has a node has proven in its handshake that it is that machine, so
//! after a whole office's outage its thousand clients are not limited by their one
//! address: only the work under way is bounded. Everybody else is counted by address.

use super::noise::{self, Accepted, HandshakeError};
use crate::cluster::Cluster;
use crate::limits::{Crowd, FairQueue, Guest, Limits, Slot, Source};
use crate::tailcfg::{MachineKey, PrivateKey};
use std::net::IpAddr;

/// Handshakes of one machine under way: a client dials several servers at once, and has
/// up to three connections. Who repeats what it has heard of a node's handshake gets no
/// further with more.
const PER_MACHINE: usize = 8;

/// What the connections of one replica share.
pub(super) struct Admission {
    /// The work of answering. It leaves a part of the processors to everything else.
    answering: FairQueue<Source>,
    of_strangers: FairQueue<Source>,
    of_nodes: FairQueue<MachineKey>,
    strangers: Crowd,
}

/// A handshake that was answered, and is under way until this is dropped.
pub(super) struct Underway(#[expect(dead_code, reason = "held until it is dropped")] Hold);

#[expect(dead_code, reason = "held until it is dropped")]
enum Hold {
    Stranger(Slot<Source>),
    Node(Slot<MachineKey>),
}

/// Whether a connection may stay when there are too many of strangers.
pub(super) struct Stay {
    /// `None`: a node's.
    guest: Option<Guest>,
    machine: MachineKey,
}

impl Admission {
    pub fn new(limits: Limits) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let answering = processors.saturating_sub(1).max(1);
        Self {
            answering: FairQueue::new(answering, answering),
            of_strangers: FairQueue::new(limits.handshakes, limits.handshakes_per_address),
            of_nodes: FairQueue::new(limits.handshakes, PER_MACHINE),
            strangers: Crowd::new(limits.strangers),
        }
    }

    /// Answers a handshake when it is this address's turn.
    pub async fn respond(&self, key: &PrivateKey, initiation: &[u8], ip: IpAddr) -> Result<Accepted, HandshakeError> {
        let _turn = self.answering.enter(Source::of(ip)).await;
        noise::respond(key, initiation)
    }

    /// Waits until the answer may go out.
    pub async fn underway(
        &self,
        cluster: &Cluster,
        ip: IpAddr,
        result: &Result<Accepted, HandshakeError>,
    ) -> (Underway, Stay) {
        let machine = result.as_ref().map_or(MachineKey([0; 32]), |accepted| accepted.machine_key);
        if has_node(cluster, &machine) {
            let slot = self.of_nodes.enter(machine).await;
            return (Underway(Hold::Node(slot)), Stay { guest: None, machine });
        }
        let guest = Some(self.strangers.enter(Source::of(ip)));
        let slot = self.of_strangers.enter(Source::of(ip)).await;
        (Underway(Hold::Stranger(slot)), Stay { guest, machine })
    }
}

impl Stay {
    /// Returns when the connection has to make room for others; not for a machine that
    /// got a node meanwhile.
    pub async fn ends(&self, cluster: &Cluster) {
        if let Some(guest) = &self.guest {
            guest.shown_out().await;
            if !has_node(cluster, &self.machine) {
                return;
            }
        }
        std::future::pending().await
    }
}

fn has_node(cluster: &Cluster, machine: &MachineKey) -> bool {
    cluster.view().nodes_of_machine(machine).next().is_some()
}
