//! What is inside a backup: one zstd stream of frames, each a length (4 bytes,
//! little-endian) and that many bytes: a manifest in JSON, then the records in the
//! order of their keys (`SnapshotRow` of `proto/peer.proto`). A frame of length 0 ends
//! them; a frame with the [`Totals`] in JSON follows, and nothing after it.

use super::Kind;
use crate::cluster::wire;
use crate::sensitive::Sensitive;
use crate::state::{Row, State};
use blake2::{Blake2s256, Digest};
use prost::Message;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};

/// The version of the layout.
const FORMAT: u32 = 1;
/// The longest frame: as long as the longest log entry.
const FRAME_LIMIT: u32 = 64 << 20;
/// Backups are kept: size before speed, still far faster than a disk.
const COMPRESSION: i32 = 3;

/// What a backup says of itself first.
#[derive(Clone, Deserialize, Serialize)]
pub struct Manifest {
    pub format: u32,
    pub release: String,
    pub cluster_id: String,
    pub replica: u64,
    pub index: u64,
    pub term: u64,
    /// RFC 3339.
    pub time: String,
    /// Opens the server's keys.
    pub data_key: DataKey,
}

/// The cluster's data key; in JSON 64 hex digits.
#[derive(Clone, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct DataKey(pub Sensitive<[u8; 32]>);

impl TryFrom<String> for DataKey {
    type Error = hex::FromHexError;
    fn try_from(text: String) -> Result<Self, hex::FromHexError> {
        let mut key = Sensitive::new([0; 32]);
        hex::decode_to_slice(Sensitive::new(text).as_bytes(), &mut *key)?;
        Ok(Self(key))
    }
}

impl From<DataKey> for String {
    fn from(key: DataKey) -> String {
        hex::encode(*key.0)
    }
}

/// What a backup says last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Totals {
    pub records: u64,
    pub hash: String,
    pub kinds: Vec<Kind>,
}

/// What is wrong with an archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("its format is {0}")]
    TooNew(u32),
    #[error("{0}")]
    Damaged(String),
}

impl Manifest {
    pub const FORMAT: u32 = FORMAT;
}

/// Writes everything in `state`.
pub fn write(out: impl Write, manifest: &Manifest, state: &State) -> io::Result<()> {
    let mut out = zstd::Encoder::new(out, COMPRESSION)?;
    frame(&mut out, &serde_json::to_vec(manifest)?)?;
    let mut sums = Sums::default();
    for row in state.rows() {
        let value = row.value.unwrap_or_default();
        sums.add(&row.key, &value);
        frame(&mut out, &wire::SnapshotRow { key: row.key, value }.encode_to_vec())?;
    }
    out.write_all(&0u32.to_le_bytes())?;
    frame(&mut out, &serde_json::to_vec(&sums.totals())?)?;
    out.finish()?.flush()
}

/// Reads everything, gives each record to `each`, and checks that nothing is missing or changed.
pub fn read(input: impl Read, mut each: impl FnMut(Vec<u8>, Vec<u8>)) -> Result<(Manifest, Totals), ArchiveError> {
    let damaged = |what: &str| ArchiveError::Damaged(what.into());
    let mut input = zstd::Decoder::new(input)?;
    let manifest = next(&mut input)?.ok_or_else(|| damaged("its manifest is missing"))?;
    let format: Format = serde_json::from_slice(&manifest).map_err(|_| damaged("its manifest is malformed"))?;
    if format.format > FORMAT {
        return Err(ArchiveError::TooNew(format.format));
    }
    let manifest: Manifest = serde_json::from_slice(&manifest).map_err(|_| damaged("its manifest is malformed"))?;
    let mut sums = Sums::default();
    while let Some(bytes) = next(&mut input)? {
        let row = wire::SnapshotRow::decode(bytes.as_slice()).map_err(|_| damaged("a record is malformed"))?;
        sums.add(&row.key, &row.value);
        each(row.key, row.value);
    }
    let said = next(&mut input)?.ok_or_else(|| damaged("its end is missing"))?;
    let said: Totals = serde_json::from_slice(&said).map_err(|_| damaged("its end is malformed"))?;
    let found = sums.totals();
    if said != found {
        return Err(damaged("its hash is wrong"));
    }
    // An error in what follows the last frame is one of the whole.
    if io::copy(&mut input, &mut io::sink())? != 0 {
        return Err(damaged("something follows its end"));
    }
    Ok((manifest, found))
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

fn frame(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= FRAME_LIMIT);
    let length = length.ok_or_else(|| io::Error::other(format!("a record of {} bytes is too long", bytes.len())))?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(bytes)
}

/// `None`: a frame of length 0.
fn next(input: &mut impl Read) -> Result<Option<Vec<u8>>, ArchiveError> {
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > FRAME_LIMIT {
        return Err(ArchiveError::Damaged(format!("a record of {length} bytes")));
    }
    if length == 0 {
        return Ok(None);
    }
    let mut bytes = vec![0; length as usize];
    input.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}

/// Counts and hashes records, all and by kind.
#[derive(Default)]
struct Sums {
    records: u64,
    hash: Blake2s256,
    kinds: Vec<(&'static str, u64, Blake2s256)>,
}

impl Sums {
    fn add(&mut self, key: &[u8], value: &[u8]) {
        let name = Row::kind(key);
        if self.kinds.last().is_none_or(|(last, ..)| *last != name) {
            self.kinds.push((name, 0, Blake2s256::new()));
        }
        self.records += 1;
        let Some((_, records, hash)) = self.kinds.last_mut() else { return };
        *records += 1;
        for part in [key, value] {
            for hash in [&mut self.hash, &mut *hash] {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
        }
    }

    fn totals(self) -> Totals {
        let kind = |(name, records, hash): (&str, u64, Blake2s256)| Kind {
            name: name.into(),
            records,
            hash: hex::encode(hash.finalize()),
        };
        Totals {
            records: self.records,
            hash: hex::encode(self.hash.finalize()),
            kinds: self.kinds.into_iter().map(kind).collect(),
        }
    }
}
