//! Simulation of whole clusters: everything from one seed, and again exactly the same.
//!
//! Three or five replicas run in one thread: the real Raft, store, state machine,
//! proposer, reads, membership, leases, sessions and streams, over gRPC's own encoding.
//! What is simulated is beneath them: the time and random bytes of the operating system
//! ([`host`]), the disk ([`disk`]), and what carries calls between replicas ([`wire`]
//! is its ends, `net` the way). A `machine` has a disk, clocks and perhaps a process;
//! the `world` gives each its turn, and moves the time to whatever happens next.
//!
//! `clients` ask, the `nemesis` breaks things. After every turn the `reference`, which
//! applies the committed log for itself, looks at the replica that had it; when the
//! faults are over all must become equal and whole, and the `history` of what clients
//! asked and heard is checked (`wrong_histories` shows that the check sees through them). The `runner` starts all this, a process for each seed.

mod clients;
pub mod disk;
mod history;
pub mod host;
mod machine;
mod nemesis;
mod net;
mod reference;
mod runner;
mod trace;
pub mod wire;
mod world;
mod wrong_histories;
