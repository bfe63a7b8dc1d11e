//! The Noise transport that clients speak inside `/ts2021` (protocol section 2.3).

mod handshake;
mod record;
mod stream;

pub(super) use handshake::{Accepted, HandshakeError, respond};
pub(super) use stream::NoiseStream;

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
