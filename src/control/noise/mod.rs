//! The Noise transport that clients speak inside `/ts2021` (protocol section 2.3).

mod handshake;
mod initiate;
mod record;
mod stream;

pub(crate) use handshake::respond;
pub(super) use handshake::{Accepted, HandshakeError};
pub(crate) use initiate::{InitiateError, Initiator};
pub(crate) use record::Sealer;
pub(super) use stream::NoiseStream;

#[cfg(test)]
mod tests;
