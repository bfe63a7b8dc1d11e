//! The embedded relay (DERP) with its STUN server, and the map of relays that
//! clients are given.
//!
//! Clients that cannot reach each other directly send their packets, which are
//! encrypted end to end, through a relay; and a client needs a relay over TLS
//! before it says "Running" at all. Each replica is a region of its own, so
//! relays know nothing of each other. (Protocol sections 6.7 and 8.)
//!
//! A connection goes through `listen` (TLS), `http` (the upgrade),
//! `handshake` (who is it), `admit` (may it) and then `session`, which
//! reads frames and puts packets into other clients' `outbox`es, found
//! through the `registry`.

mod admit;
mod bootstrap;
mod certificate;
mod fast_start;
mod files;
mod frame;
mod handshake;
mod http;
mod listen;
mod map;
mod meters;
mod outbox;
mod registry;
mod relay;
mod session;
mod stun;

#[cfg(test)]
mod tests;

pub use admit::{Admit, admit_all, verify_against, verify_router};
pub use bootstrap::Bootstrap;
pub use certificate::{Certificate, CertificateError};
pub use files::{FileError, load_or_make_key};
pub use http::router;
pub use listen::serve_relay;
pub use map::{Loaded, MapError, MapLoader, Source, Sources, keep_current};
pub use relay::{Options, Relay, debug_page};
pub use stun::serve_stun;

#[cfg(test)]
mod fuzz_tests;
