//! How much was synced: a file beside the database, so that a database that lost
//! something which others were promised is not taken for one that was only cut short.
//!
//! A write-ahead log whose end is missing looks like one to whose end nothing was ever
//! written. What is acknowledged is synced, and after each sync the database's sequence
//! number goes to this file. The file itself is not synced, so after a power failure it
//! may say less than was synced, but never more.

use blake2::{Blake2s256, Digest};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

const NAME: &str = "synced";
const CHECKSUM: usize = 8;

/// The open file.
pub struct Mark {
    file: File,
    failed: AtomicBool,
}

impl Mark {
    /// Opens or creates it in `dir`; with what it says. A file that is empty, or was torn by a
    /// power failure, says nothing.
    pub fn open(dir: &Path) -> io::Result<(Self, Option<u64>)> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(dir.join(NAME))?;
        let mut bytes = [0; 8 + CHECKSUM];
        let synced = file.read_exact_at(&mut bytes, 0).ok().and_then(|()| decode(&bytes));
        Ok((Self { file, failed: AtomicBool::new(false) }, synced))
    }

    /// Everything up to this sequence number is synced.
    pub fn set(&self, sequence: u64) {
        let mut bytes = [0; 8 + CHECKSUM];
        bytes[..8].copy_from_slice(&sequence.to_be_bytes());
        bytes[8..].copy_from_slice(&checksum(sequence));
        // What it guards is safe without it, so nothing has to stop.
        if let Err(error) = self.file.write_all_at(&bytes, 0)
            && !self.failed.swap(true, Ordering::Relaxed)
        {
            tracing::warn!("cannot note how much is synced, so a store that is cut short may not be noticed: {error}");
        }
    }
}

fn decode(bytes: &[u8; 8 + CHECKSUM]) -> Option<u64> {
    let (sequence, sum) = bytes.split_first_chunk::<8>()?;
    let sequence = u64::from_be_bytes(*sequence);
    (sum == checksum(sequence)).then_some(sequence)
}

fn checksum(sequence: u64) -> [u8; CHECKSUM] {
    let hash = Blake2s256::digest(sequence.to_be_bytes());
    hash[..CHECKSUM].try_into().expect("a hash has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_says_what_was_synced_and_a_torn_one_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (mark, nothing) = Mark::open(dir.path()).unwrap();
        assert_eq!(nothing, None);
        mark.set(7);
        mark.set(8);
        assert_eq!(Mark::open(dir.path()).unwrap().1, Some(8));
        mark.file.write_all_at(&[1], 3).unwrap();
        assert_eq!(Mark::open(dir.path()).unwrap().1, None);
    }
}
