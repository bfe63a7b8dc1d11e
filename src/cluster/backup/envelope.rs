//! Encryption of a backup: a head in the clear, then ChaCha20-Poly1305 in STREAM mode
//! (Hoang, Reyhanitabar, Rogaway, Vizár, 2015), so that any size takes constant
//! memory, and no chunk can be changed, moved, left out or cut off unnoticed.
//!
//! A file is a magic number, the head's length (2 bytes, little-endian), the head in
//! JSON, and chunks of 64 KiB with 16 bytes of tag each; the last one is shorter. Each
//! file has a key of its own, from its random salt and the passphrase (Argon2id) or
//! the key file (32 random bytes); the head is authenticated with every chunk.

use super::BackupError;
use crate::cluster::keys::derive;
use crate::sensitive::Sensitive;
use aead_stream::{DecryptorBE32, EncryptorBE32};
use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::Payload;
use chacha20poly1305::{ChaCha20Poly1305, Key};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

/// What every backup begins with.
pub const MAGIC: &[u8; 8] = b"QSbackup";
/// The version of the envelope.
const FORMAT: u32 = 1;
/// Bytes of plain text in a chunk.
const CHUNK: usize = 64 << 10;
/// Bytes that a tag adds.
const TAG: usize = 16;
/// The longest head: a bound on what a wrong file makes us read.
const HEAD_LIMIT: usize = 4096;

/// Argon2id as RFC 9106 recommends where memory is scarce: 64 MiB, three passes.
const COST: Cost = Cost { memory_kib: 64 << 10, passes: 3, lanes: 4 };
/// More than this is no cost that a release ever asked for.
const HIGHEST_COST: Cost = Cost { memory_kib: 1 << 20, passes: 16, lanes: 16 };

/// What a backup is encrypted under.
#[derive(Clone)]
pub enum Lock {
    Passphrase(Sensitive<String>),
    /// The 32 bytes of a key file, which "generate secret" makes.
    Key(Sensitive<[u8; 32]>),
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lock::Passphrase(_) => "Passphrase(redacted)",
            Lock::Key(_) => "Key(redacted)",
        })
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Head {
    format: u32,
    lock: HeadLock,
    /// 16 random bytes, hex.
    salt: String,
    /// Tells a wrong passphrase from a damaged file: 8 bytes, hex.
    check: String,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum HeadLock {
    Passphrase(Cost),
    KeyFile,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// The key of one file, and the check of it.
struct FileKey {
    key: Sensitive<[u8; 32]>,
    check: String,
}

impl FileKey {
    fn new(lock: &Lock, head: &HeadLock, salt: &[u8]) -> Result<Self, String> {
        let base = match (lock, head) {
            (Lock::Key(key), _) => key.clone(),
            (Lock::Passphrase(passphrase), HeadLock::Passphrase(cost)) => stretch(passphrase, salt, cost)?,
            (Lock::Passphrase(passphrase), HeadLock::KeyFile) => stretch(passphrase, salt, &COST)?,
        };
        let check = hex::encode(&derive(&base, "backup check", salt)[..8]);
        Ok(Self { key: Sensitive::new(derive(&base, "backup", salt)), check })
    }

    fn cipher(&self) -> (Key, aead_stream::Nonce<ChaCha20Poly1305, aead_stream::StreamBE32<ChaCha20Poly1305>>) {
        // No other file has this key, so the nonce is the chunk's number alone.
        (Key::from(*self.key), Default::default())
    }
}

fn stretch(passphrase: &str, salt: &[u8], cost: &Cost) -> Result<Sensitive<[u8; 32]>, String> {
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32)).map_err(|e| e.to_string())?;
    let mut key = Sensitive::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), salt, &mut *key)
        .map_err(|e| e.to_string())?;
    Ok(key)
}

/// Encrypts what is written to it. Without [`Sealer::finish`] the file is cut short.
pub struct Sealer<W> {
    out: W,
    head: Vec<u8>,
    encryptor: EncryptorBE32<ChaCha20Poly1305>,
    chunk: Sensitive<Vec<u8>>,
}

impl<W: Write> Sealer<W> {
    pub fn new(mut out: W, lock: &Lock) -> io::Result<Self> {
        let salt: [u8; 16] = rand::random();
        let kind = match lock {
            Lock::Passphrase(_) => HeadLock::Passphrase(COST),
            Lock::Key(_) => HeadLock::KeyFile,
        };
        let file_key = FileKey::new(lock, &kind, &salt).map_err(io::Error::other)?;
        let head = Head { format: FORMAT, lock: kind, salt: hex::encode(salt), check: file_key.check.clone() };
        let head = serde_json::to_vec(&head)?;
        let length = u16::try_from(head.len()).map_err(io::Error::other)?;
        out.write_all(MAGIC)?;
        out.write_all(&length.to_le_bytes())?;
        out.write_all(&head)?;
        let (key, nonce) = file_key.cipher();
        let encryptor = EncryptorBE32::new(&key, &nonce);
        Ok(Self { out, head, encryptor, chunk: Sensitive::new(Vec::with_capacity(CHUNK)) })
    }

    /// Writes the last chunk.
    pub fn finish(mut self) -> io::Result<W> {
        let payload = Payload { msg: &self.chunk, aad: &self.head };
        let sealed = self.encryptor.encrypt_last(payload).map_err(|_| too_long())?;
        self.out.write_all(&sealed)?;
        Ok(self.out)
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.chunk.len() == CHUNK {
            let payload = Payload { msg: &self.chunk, aad: &self.head };
            let sealed = self.encryptor.encrypt_next(payload).map_err(|_| too_long())?;
            self.out.write_all(&sealed)?;
            self.chunk.clear();
        }
        let taken = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    /// A chunk is written when it is full.
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn too_long() -> io::Error {
    io::Error::other("a backup is longer than its cipher allows")
}

/// Decrypts a file while it is read. An error of kind `InvalidData` means that it is
/// damaged or cut short.
pub struct Opener<R> {
    input: BufReader<R>,
    head: Vec<u8>,
    /// `None`: everything was read.
    decryptor: Option<DecryptorBE32<ChaCha20Poly1305>>,
    chunk: Sensitive<Vec<u8>>,
    taken: usize,
    /// Where the next chunk begins in the file.
    offset: u64,
}

impl<R: Read> Opener<R> {
    /// Reads the head; `path` is for errors.
    pub fn new(input: R, path: &Path, lock: &Lock) -> Result<Self, BackupError> {
        let mut input = BufReader::with_capacity(CHUNK + TAG, input);
        let head = read_head(&mut input).map_err(|_| BackupError::NotOne(path.to_owned()))?;
        let offset = (MAGIC.len() + 2 + head.len()) as u64;
        let parsed = parse_head(&head, path)?;
        let salt = hex::decode(&parsed.salt).unwrap_or_default();
        match (&parsed.lock, lock) {
            (HeadLock::Passphrase(_), Lock::Key(_)) => return Err(BackupError::WantsPassphrase(path.to_owned())),
            (HeadLock::KeyFile, Lock::Passphrase(_)) => return Err(BackupError::WantsKeyFile(path.to_owned())),
            _ => {}
        }
        let damaged = |reason: String| BackupError::Damaged { path: path.to_owned(), reason };
        let file_key = FileKey::new(lock, &parsed.lock, &salt).map_err(damaged)?;
        if file_key.check != parsed.check {
            return Err(match lock {
                Lock::Passphrase(_) => BackupError::WrongPassphrase(path.to_owned()),
                Lock::Key(_) => BackupError::WrongKeyFile(path.to_owned()),
            });
        }
        let (key, nonce) = file_key.cipher();
        let decryptor = Some(DecryptorBE32::new(&key, &nonce));
        Ok(Self { input, head, decryptor, chunk: Sensitive::default(), taken: 0, offset })
    }

    fn open_next(&mut self) -> io::Result<()> {
        let Some(mut decryptor) = self.decryptor.take() else {
            self.chunk.clear();
            return Ok(());
        };
        let mut sealed = Vec::with_capacity(CHUNK + TAG);
        (&mut self.input).take((CHUNK + TAG) as u64).read_to_end(&mut sealed)?;
        let last = self.input.fill_buf()?.is_empty();
        let damaged = |_| io::Error::new(io::ErrorKind::InvalidData, format!("from byte {} on", self.offset));
        let payload = Payload { msg: &sealed, aad: &self.head };
        let plain = if last {
            decryptor.decrypt_last(payload).map_err(damaged)?
        } else {
            let plain = decryptor.decrypt_next(payload).map_err(damaged)?;
            self.decryptor = Some(decryptor);
            plain
        };
        self.chunk = Sensitive::new(plain);
        self.offset += sealed.len() as u64;
        self.taken = 0;
        Ok(())
    }
}

impl<R: Read> Read for Opener<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.chunk.len() {
            self.taken = 0;
            self.open_next()?;
        }
        let count = buffer.len().min(self.chunk.len() - self.taken);
        buffer[..count].copy_from_slice(&self.chunk[self.taken..self.taken + count]);
        self.taken += count;
        Ok(count)
    }
}

fn read_head(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let wrong = || io::Error::from(io::ErrorKind::InvalidData);
    let mut magic = [0; MAGIC.len()];
    input.read_exact(&mut magic)?;
    let mut length = [0; 2];
    input.read_exact(&mut length)?;
    let length = usize::from(u16::from_le_bytes(length));
    if magic != *MAGIC || length > HEAD_LIMIT {
        return Err(wrong());
    }
    let mut head = vec![0; length];
    input.read_exact(&mut head)?;
    Ok(head)
}

fn parse_head(bytes: &[u8], path: &Path) -> Result<Head, BackupError> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let damaged = |reason: &str| BackupError::Damaged { path: path.to_owned(), reason: reason.into() };
    let malformed = |_| damaged("its head is malformed");
    let Format { format } = serde_json::from_slice(bytes).map_err(malformed)?;
    if format > FORMAT {
        return Err(BackupError::TooNew { path: path.to_owned(), found: format, known: FORMAT });
    }
    let head: Head = serde_json::from_slice(bytes).map_err(malformed)?;
    match &head.lock {
        HeadLock::Passphrase(cost)
            if cost.memory_kib > HIGHEST_COST.memory_kib
                || cost.passes > HIGHEST_COST.passes
                || cost.lanes > HIGHEST_COST.lanes =>
        {
            Err(damaged("its head asks for too much memory or time"))
        }
        _ => Ok(head),
    }
}
