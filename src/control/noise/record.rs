//! Records: what is encrypted, one frame at a time. Not a Noise library's
//! transport, since nonces count in big-endian here.

use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit, Tag};

/// The largest frame, header included.
pub const MAX_FRAME: usize = 4096;
/// Type and length.
pub(super) const HEADER: usize = 3;
/// What authentication adds.
pub(super) const TAG: usize = 16;
/// The most that one frame carries.
pub const MAX_PLAINTEXT: usize = MAX_FRAME - HEADER - TAG;
const TYPE_RECORD: u8 = 4;

/// The keys of a connection's two directions.
pub struct Keys {
    pub receive: [u8; 32],
    pub send: [u8; 32],
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(redacted)")
    }
}

/// A record that cannot be; the connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("a frame of type {0} where a record was expected")]
    Type(u8),
    #[error("a record of {0} bytes: at most 4093 are allowed, at least 16")]
    Length(u16),
    #[error("a record was changed on its way")]
    Forged,
    /// After 2⁶⁴-1 records.
    #[error("this connection has no nonce left")]
    Exhausted,
}

impl From<RecordError> for std::io::Error {
    fn from(error: RecordError) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, error)
    }
}

/// How many bytes follow a record's header.
pub(super) fn ciphertext_len(header: [u8; HEADER]) -> Result<usize, RecordError> {
    if header[0] != TYPE_RECORD {
        return Err(RecordError::Type(header[0]));
    }
    let length = u16::from_be_bytes([header[1], header[2]]);
    match usize::from(length) {
        good if (TAG..=MAX_FRAME - HEADER).contains(&good) => Ok(good),
        _ => Err(RecordError::Length(length)),
    }
}

/// One direction's cipher.
pub(super) struct Cipher {
    aead: ChaCha20Poly1305,
    counter: u64,
}

impl Cipher {
    pub fn new(key: &[u8; 32]) -> Self {
        Self { aead: ChaCha20Poly1305::new(&(*key).into()), counter: 0 }
    }

    /// Encrypts a frame in place: room for the header, plaintext, room for the tag.
    pub fn seal(&mut self, frame: &mut [u8]) -> Result<(), RecordError> {
        let nonce = self.nonce()?;
        let body = frame.len() - HEADER;
        assert!(frame.len() <= MAX_FRAME && body >= TAG, "a frame has a tag and is not too long: {}", frame.len());
        let (header, rest) = frame.split_at_mut(HEADER);
        let (plaintext, tag) = rest.split_at_mut(body - TAG);
        header[0] = TYPE_RECORD;
        header[1..].copy_from_slice(&(body as u16).to_be_bytes());
        let made = self.aead.encrypt_inout_detached(&nonce.into(), &[], InOutBuf::from(plaintext));
        tag.copy_from_slice(&made.map_err(|_| RecordError::Exhausted)?);
        Ok(())
    }

    /// Decrypts what follows a header, in place; the plaintext is in front of the tag.
    pub fn open(&mut self, ciphertext: &mut [u8]) -> Result<(), RecordError> {
        let nonce = self.nonce()?;
        let (text, tag) = ciphertext.split_last_chunk_mut::<TAG>().ok_or(RecordError::Forged)?;
        let opened = self.aead.decrypt_inout_detached(&nonce.into(), &[], InOutBuf::from(text), &Tag::from(*tag));
        opened.map_err(|_| RecordError::Forged)
    }

    /// Four zero bytes, and the number of the record in big-endian.
    fn nonce(&mut self) -> Result<[u8; 12], RecordError> {
        if self.counter == u64::MAX {
            return Err(RecordError::Exhausted);
        }
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.counter.to_be_bytes());
        self.counter += 1;
        Ok(nonce)
    }
}

/// Encrypts full records one after the other, for `benches/hot.rs`.
pub(crate) struct Sealer {
    cipher: Cipher,
    frame: Vec<u8>,
}

impl Sealer {
    /// Plaintext bytes of a full record.
    pub const BYTES: usize = MAX_PLAINTEXT;

    /// With the key of one direction.
    pub fn new(key: &[u8; 32]) -> Self {
        Self { cipher: Cipher::new(key), frame: vec![0; MAX_FRAME] }
    }

    /// Encrypts what is there.
    pub fn seal_full(&mut self) {
        self.cipher.seal(&mut self.frame).expect("a connection has nonces for centuries");
    }
}
