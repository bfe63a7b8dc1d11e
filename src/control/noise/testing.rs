//! The client's side of the handshake, for tests.

use super::NoiseStream;
use super::handshake::{INITIATION_BODY, INITIATION_HEADER, PATTERN, PROLOGUE, RESPONSE};
use super::record::Keys;
use crate::tailcfg::PrivateKey;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

/// A client that has started its handshake.
pub struct Initiator {
    handshake: snow::HandshakeState,
    /// The frame for the server.
    pub initiation: Vec<u8>,
}

impl Initiator {
    pub fn new(machine: &PrivateKey, server: &[u8; 32], version: u16) -> Self {
        let prologue = format!("{PROLOGUE}{version}");
        let mut handshake = snow::Builder::new(PATTERN.parse().unwrap())
            .local_private_key(&machine.0)
            .unwrap()
            .remote_public_key(server)
            .unwrap()
            .prologue(prologue.as_bytes())
            .unwrap()
            .build_initiator()
            .unwrap();
        let mut initiation = version.to_be_bytes().to_vec();
        initiation.push(1);
        initiation.extend_from_slice(&(INITIATION_BODY as u16).to_be_bytes());
        initiation.resize(INITIATION_HEADER + INITIATION_BODY, 0);
        let written = handshake.write_message(&[], &mut initiation[INITIATION_HEADER..]).unwrap();
        assert_eq!(written, INITIATION_BODY);
        Self { handshake, initiation }
    }

    /// The keys, from the server's response frame.
    pub fn finish(mut self, response: &[u8]) -> Keys {
        assert_eq!(response[..3], [2, 0, 48], "a response frame: {:?}", String::from_utf8_lossy(response));
        self.handshake.read_message(&response[3..], &mut [0; 64]).unwrap();
        let (client, server) = self.handshake.dangerously_get_raw_split();
        Keys { receive: server, send: client }
    }

    /// Reads the response, and goes on encrypted.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(self, mut io: S) -> NoiseStream<S> {
        let mut response = [0; RESPONSE];
        io.read_exact(&mut response).await.unwrap();
        let keys = self.finish(&response);
        NoiseStream::new(io, &keys, &[])
    }
}
