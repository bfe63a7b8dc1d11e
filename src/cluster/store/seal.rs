//! A checksum of our own on what Raft relies on: log entries, vote, log ids, the applied
//! index. RocksDB's protect what is in its files; this one protects a record from where
//! it was made to where it is read.
//!
//! The seal follows the protobuf message as one more field (number 2047, fixed64) that
//! releases without seals skip. Records of such releases have none, and are taken as
//! they are.

use blake2::{Blake2s256, Digest};
use std::io;

/// The tag of field 2047, fixed64. Its first byte never occurs in JSON, which entries end with.
const TAG: [u8; 2] = [0xf9, 0x7f];
const LENGTH: usize = TAG.len() + 8;

/// A record with its seal.
pub fn seal(mut record: Vec<u8>) -> Vec<u8> {
    let sum = checksum(&record);
    record.extend(TAG);
    record.extend(sum);
    record
}

/// The same record, if it is as it was sealed. `what` says in the error what it is.
pub fn open<'a>(what: &str, sealed: &'a [u8]) -> io::Result<&'a [u8]> {
    let Some((record, seal)) = sealed.len().checked_sub(LENGTH).map(|length| sealed.split_at(length)) else {
        return Ok(sealed);
    };
    match seal.strip_prefix(&TAG) {
        Some(sum) if sum != checksum(record) => {
            Err(io::Error::new(io::ErrorKind::InvalidData, format!("{what} is damaged: its checksum is wrong")))
        }
        Some(_) => Ok(record),
        None => Ok(sealed),
    }
}

fn checksum(record: &[u8]) -> [u8; 8] {
    let hash = Blake2s256::digest(record);
    hash[..8].try_into().expect("a hash has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::wire;
    use prost::Message;

    #[test]
    fn any_changed_byte_of_a_sealed_record_is_found_and_older_readers_skip_the_seal() {
        let vote = wire::Vote { term: 7, replica: 2, committed: true };
        let sealed = seal(vote.encode_to_vec());
        assert_eq!(open("the vote", &sealed).unwrap(), vote.encode_to_vec());
        assert_eq!(wire::Vote::decode(sealed.as_slice()).unwrap(), vote, "as a release without seals reads it");
        for at in 0..sealed.len() - LENGTH {
            let mut damaged = sealed.clone();
            damaged[at] ^= 4;
            let error = open("the vote", &damaged).unwrap_err().to_string();
            assert!(error.contains("the vote is damaged"), "{error}");
        }
    }

    #[test]
    fn a_record_without_a_seal_is_taken_as_it_is() {
        for record in [&b""[..], b"short", br#"{"format":1,"command":{"Tick":{}}}}}}}}}}}"#] {
            assert_eq!(open("it", record).unwrap(), record);
        }
    }
}
