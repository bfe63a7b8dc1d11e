//! What strangers may make a replica do: bounds for each address, and fairness between them.
//!
//! A stranger is whoever has proven nothing yet. What costs a replica something is
//! counted for the address that asks ([`Source`]), each kind of it by itself:
//!
//! | what | bound | beyond it |
//! |---|---|---|
//! | handshakes under way | [`FairQueue`] | they wait, one address after the other |
//! | connections that have proven nothing | [`Crowd`] | the address with the most loses its oldest |
//! | keys that are none | [`Budget`] | the next ones are answered "later" without being looked up |
//! | questions to the leader about what nobody here knows | [`Budget`] | the same |
//!
//! Who has proven to be a node is in none of them.

mod budget;
mod crowd;
mod queue;
mod source;

pub use budget::Budget;
pub use crowd::{Crowd, Guest};
pub use queue::{FairQueue, Slot};
pub use source::Source;

/// The bounds themselves: the section `limits` of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections on one listener that have proven nothing.
    pub connections: usize,
    /// Noise connections of machines that have no node.
    pub strangers: usize,
    /// Handshakes under way: TLS by itself, Noise by itself.
    pub handshakes: usize,
    /// Of them, those of one address.
    pub handshakes_per_address: usize,
    /// Keys that are none, of one address, in a minute: keys for nodes by themselves, API
    /// keys by themselves.
    pub failed_keys_per_minute: u32,
    /// Questions of one address in a minute about what this replica does not know, and has
    /// to ask the leader about. Map requests, registrations, SSH sessions and pages of logins
    /// are counted each by themselves.
    pub lookups_per_minute: u32,
    /// Connections to the relay that it has not let in yet.
    pub relay_handshakes: usize,
    /// Handshakes at the port for peers.
    pub peer_handshakes: usize,
    /// Logins of one address that wait for somebody's decision.
    pub pending_logins_per_address: usize,
    /// Logins that are kept in all.
    pub pending_logins: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            strangers: 16_384,
            handshakes: 512,
            handshakes_per_address: 128,
            failed_keys_per_minute: 60,
            lookups_per_minute: 600,
            // Each may cost a TLS handshake and some 50 KiB for as long as a handshake may take.
            relay_handshakes: 1024,
            peer_handshakes: 256,
            pending_logins_per_address: crate::state::MAX_LOGINS_PER_SOURCE,
            pending_logins: crate::state::MAX_LOGINS,
        }
    }
}
