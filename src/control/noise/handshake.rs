//! The responder's side of the Noise IK handshake.

use super::record::Keys;
use crate::tailcfg::{CapVer, MachineKey, PrivateKey};

/// The pattern that clients speak.
pub(super) const PATTERN: &str = "Noise_IK_25519_ChaChaPoly_BLAKE2s";
/// What the version follows in the prologue.
pub(super) const PROLOGUE: &str = "Tailscale Control Protocol v";

const TYPE_INITIATION: u8 = 1;
const TYPE_RESPONSE: u8 = 2;
const TYPE_ERROR: u8 = 3;
/// Version, type and length of an initiation.
pub(super) const INITIATION_HEADER: usize = 5;
/// Ephemeral key, encrypted static key, and the tag of an empty payload.
pub(super) const INITIATION_BODY: usize = 32 + 48 + 16;
const RESPONSE_HEADER: usize = 3;
/// Ephemeral key and the tag of an empty payload.
const RESPONSE_BODY: usize = 32 + 16;
/// A whole response frame.
pub(super) const RESPONSE: usize = RESPONSE_HEADER + RESPONSE_BODY;

/// Why a handshake came to nothing. The text goes to the client, unauthenticated.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The frame has another length than an initiation.
    #[error("malformed handshake: {0} bytes instead of {expected}", expected = INITIATION_HEADER + INITIATION_BODY)]
    Length(usize),
    /// Its header is not an initiation's.
    #[error("malformed handshake: not an initiation frame")]
    Header,
    /// The client is older than [`CapVer::MIN`].
    #[error("unsupported client version {0}: Tailscale 1.80 or newer is needed")]
    Version(u16),
    /// Decryption failed: most often, the client has another key for this server.
    #[error("handshake failed: the client does not use this server's key, or the frame was changed on its way")]
    Crypto(#[from] snow::Error),
    /// The client has no machine key.
    #[error("handshake failed: the client's machine key is zero")]
    NoMachineKey,
}

impl HandshakeError {
    /// The frame that tells the client.
    pub fn frame(&self) -> Vec<u8> {
        let text = self.to_string();
        // Far shorter than a frame may be, whatever the text.
        let length = u16::try_from(text.len()).unwrap_or(0);
        let mut frame = vec![TYPE_ERROR];
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(&text.as_bytes()[..usize::from(length)]);
        frame
    }
}

/// A handshake that succeeded.
#[derive(Debug)]
pub struct Accepted {
    /// Who the client is.
    pub machine_key: MachineKey,
    pub version: CapVer,
    /// The frame to answer.
    pub response: [u8; RESPONSE],
    pub keys: Keys,
}

/// Answers a client's initiation frame.
pub fn respond(key: &PrivateKey, initiation: &[u8]) -> Result<Accepted, HandshakeError> {
    let (version, message) = parse(initiation)?;
    let prologue = format!("{PROLOGUE}{version}");
    let mut handshake = snow::Builder::new(PATTERN.parse()?)
        .local_private_key(&key.0)?
        .prologue(prologue.as_bytes())?
        .build_responder()?;
    handshake.read_message(message, &mut [0; INITIATION_BODY])?;

    let remote = handshake.get_remote_static().and_then(|key| <[u8; 32]>::try_from(key).ok());
    let machine_key = remote.map(MachineKey).filter(|key| !key.is_zero()).ok_or(HandshakeError::NoMachineKey)?;

    let mut response = [0; RESPONSE];
    response[0] = TYPE_RESPONSE;
    response[1..RESPONSE_HEADER].copy_from_slice(&(RESPONSE_BODY as u16).to_be_bytes());
    handshake.write_message(&[], &mut response[RESPONSE_HEADER..])?;
    let (client, server) = handshake.dangerously_get_raw_split();
    let keys = Keys { receive: client, send: server };
    Ok(Accepted { machine_key, version: CapVer(version.into()), response, keys })
}

/// The version and the Noise message of an initiation. The version is looked at
/// first, since an older client's frame may have another shape.
fn parse(frame: &[u8]) -> Result<(u16, &[u8]), HandshakeError> {
    let Some((header, message)) = frame.split_first_chunk::<INITIATION_HEADER>() else {
        return Err(HandshakeError::Length(frame.len()));
    };
    let version = u16::from_be_bytes([header[0], header[1]]);
    if header[2] != TYPE_INITIATION {
        return Err(HandshakeError::Header);
    }
    if CapVer(version.into()) < CapVer::MIN {
        return Err(HandshakeError::Version(version));
    }
    if message.len() != INITIATION_BODY {
        return Err(HandshakeError::Length(frame.len()));
    }
    if usize::from(u16::from_be_bytes([header[3], header[4]])) != INITIATION_BODY {
        return Err(HandshakeError::Header);
    }
    Ok((version, message))
}
