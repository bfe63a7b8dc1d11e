//! The client's side of the handshake: for the load driver, and for tests.

use super::NoiseStream;
use super::handshake::{INITIATION_BODY, INITIATION_HEADER, PATTERN, PROLOGUE, RESPONSE};
use super::record::Keys;
use crate::tailcfg::PrivateKey;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

/// What a server says first on a new connection, before HTTP/2.
const EARLY_MAGIC: &[u8; 5] = b"\xff\xff\xffTS";
/// The longest early payload that is read.
const MAX_EARLY: u32 = 10 << 20;
/// The type of a frame in which the server says why it refuses.
const TYPE_ERROR: u8 = 3;

/// Why a server's answer to a handshake is none.
#[derive(Debug, thiserror::Error)]
pub enum InitiateError {
    #[error("the server refused the handshake: {0}")]
    Refused(String),
    #[error("a frame that begins with {0:?} where the handshake's response was expected")]
    NoResponse([u8; 3]),
    #[error("the server's response is not by the key that it announced")]
    Crypto(#[from] snow::Error),
    #[error("the server said something else than its early payload")]
    Early,
    #[error("the connection broke in the handshake: {0}")]
    Io(#[from] io::Error),
}

/// A client that has started its handshake.
pub struct Initiator {
    handshake: snow::HandshakeState,
    /// The frame for the server.
    pub initiation: Vec<u8>,
}

impl Initiator {
    /// For the server with this public key. The version goes into what is authenticated.
    pub fn new(machine: &PrivateKey, server: &[u8; 32], version: u16) -> Self {
        let prologue = format!("{PROLOGUE}{version}");
        let pattern = PATTERN.parse().expect("the pattern is a Noise pattern");
        let mut handshake = snow::Builder::new(pattern)
            .local_private_key(&machine.0)
            .and_then(|builder| builder.remote_public_key(server))
            .and_then(|builder| builder.prologue(prologue.as_bytes()))
            .and_then(|builder| builder.build_initiator())
            .expect("each part is given once");
        let mut initiation = version.to_be_bytes().to_vec();
        initiation.push(1);
        initiation.extend_from_slice(&(INITIATION_BODY as u16).to_be_bytes());
        initiation.resize(INITIATION_HEADER + INITIATION_BODY, 0);
        let written = handshake.write_message(&[], &mut initiation[INITIATION_HEADER..]);
        assert_eq!(written.ok(), Some(INITIATION_BODY), "an initiation has one length");
        Self { handshake, initiation }
    }

    /// The keys, from the server's response frame.
    pub fn finish(mut self, response: &[u8]) -> Result<Keys, InitiateError> {
        let (header, body) = response.split_first_chunk::<3>().ok_or(InitiateError::NoResponse([0; 3]))?;
        if *header != [2, 0, 48] {
            return Err(InitiateError::NoResponse(*header));
        }
        self.handshake.read_message(body, &mut [0; 64])?;
        let (client, server) = self.handshake.dangerously_get_raw_split();
        Ok(Keys { receive: server, send: client })
    }

    /// Reads the response, and goes on encrypted.
    pub async fn connect<S>(self, mut io: S) -> Result<NoiseStream<S>, InitiateError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut response = [0; RESPONSE];
        io.read_exact(&mut response[..3]).await?;
        if response[0] == TYPE_ERROR {
            let mut text = vec![0; usize::from(u16::from_be_bytes([response[1], response[2]]))];
            io.read_exact(&mut text).await?;
            return Err(InitiateError::Refused(String::from_utf8_lossy(&text).into_owned()));
        }
        io.read_exact(&mut response[3..]).await?;
        let keys = self.finish(&response)?;
        Ok(NoiseStream::new(io, &keys, &[]))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> NoiseStream<S> {
    /// Reads what a server says before HTTP/2, and forgets it.
    pub async fn skip_early_payload(&mut self) -> Result<(), InitiateError> {
        let mut magic = [0; EARLY_MAGIC.len()];
        self.read_exact(&mut magic).await?;
        let length = self.read_u32().await?;
        if magic != *EARLY_MAGIC || length > MAX_EARLY {
            return Err(InitiateError::Early);
        }
        self.read_exact(&mut vec![0; length as usize]).await?;
        Ok(())
    }
}
