//! The Noise transport that clients speak inside `/ts2021` (protocol section 2.3).

mod handshake;
mod initiate;
mod record;
mod stream;

pub(super) use handshake::{Accepted, HandshakeError, respond};
pub(crate) use initiate::{InitiateError, Initiator};
pub(super) use stream::NoiseStream;

#[cfg(test)]
mod tests;
