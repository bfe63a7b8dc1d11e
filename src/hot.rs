//! The hot paths one by one, for `benches/hot.rs`: not an interface.

use crate::control::{Initiator, Sealer, respond};
use crate::netmap::{Bench, StreamOptions, compressed_len};
use crate::policy::Policies;
use crate::state::{NodeId, State};
use crate::tailcfg::{CapVer, PrivateKey};
use std::sync::Arc;

/// Renders for one node's stream.
pub struct Rendering(Bench);

impl Rendering {
    /// A stream of the first node, with zstd.
    pub fn new(state: &State) -> Self {
        let options = StreamOptions { cap_ver: CapVer(142), zstd: true, keep_alive: true, omit_peers: false };
        Self(Bench::new(Arc::<Policies>::default(), state, NodeId(1), options))
    }

    /// Its complete map, framed; gives the bytes of it.
    pub fn whole(&self, state: &State) -> usize {
        self.0.whole(state)
    }

    /// What it is told when this node's endpoints have changed; gives the bytes of it.
    pub fn change(&mut self, state: &State, node: NodeId) -> usize {
        self.0.change(state, node)
    }
}

/// Compresses as a delta is; gives the bytes that it takes.
pub fn compress(json: &[u8]) -> usize {
    compressed_len(json)
}

/// Encrypts records of one connection.
pub struct Records(Sealer);

impl Default for Records {
    fn default() -> Self {
        Self(Sealer::new(&[7; 32]))
    }
}

impl Records {
    /// Plaintext bytes of a record that is full.
    pub const BYTES: usize = Sealer::BYTES;

    /// Encrypts a full record.
    pub fn seal(&mut self) {
        self.0.seal_full();
    }
}

/// Both sides of a Noise handshake; the server's is the half of it.
pub fn handshake(server: &PrivateKey, machine: &PrivateKey) -> bool {
    let client = Initiator::new(machine, &server.public(), 142);
    let accepted = respond(server, &client.initiation);
    accepted.is_ok_and(|accepted| client.finish(&accepted.response).is_ok())
}
