//! A hash over all records that is kept up to date with each command: equal on
//! replicas that have the same, at the cost of hashing what a command wrote.

use super::table;
use blake2::{Blake2s256, Digest};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Number and hash of the records of each kind. Cloning is cheap.
///
/// A kind's hash is the sum of its records' BLAKE2s-256 hashes, as four little-endian
/// 64-bit numbers, each modulo 2^64: the order in which records came does not matter, and
/// a record is taken out by subtraction. It finds damage and wrong code; it is no proof
/// against somebody who can choose records at will.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// By the first byte of the stored keys. Kinds without records are not there.
    kinds: Arc<BTreeMap<u8, KindTally>>,
}

/// Of the records of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindTally {
    pub records: u64,
    sum: [u64; 4],
}

impl Tally {
    /// Counts a stored record in.
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        let kind = self.kind(key);
        kind.records = kind.records.wrapping_add(1);
        for (sum, part) in kind.sum.iter_mut().zip(hash(key, value)) {
            *sum = sum.wrapping_add(part);
        }
    }

    /// Takes a stored record out.
    pub fn remove(&mut self, key: &[u8], value: &[u8]) {
        let kind = self.kind(key);
        kind.records = kind.records.wrapping_sub(1);
        for (sum, part) in kind.sum.iter_mut().zip(hash(key, value)) {
            *sum = sum.wrapping_sub(part);
        }
        if *kind == KindTally::default() {
            Arc::make_mut(&mut self.kinds).remove(&number(key));
        }
    }

    /// Each kind's number and tally, by number.
    pub fn kinds(&self) -> impl Iterator<Item = (u8, KindTally)> + '_ {
        self.kinds.iter().map(|(number, kind)| (*number, *kind))
    }

    /// The tally that [`Tally::kinds`] came from.
    pub fn from_kinds(kinds: impl IntoIterator<Item = (u8, KindTally)>) -> Self {
        Self { kinds: Arc::new(kinds.into_iter().filter(|(_, kind)| *kind != KindTally::default()).collect()) }
    }

    /// The names of the kinds that are not the same in both.
    pub fn differences(&self, other: &Self) -> BTreeSet<&'static str> {
        let numbers = self.kinds.keys().chain(other.kinds.keys());
        let different = numbers.filter(|number| self.kinds.get(number) != other.kinds.get(number));
        different.map(|number| table::kind(&[*number])).collect()
    }

    fn kind(&mut self, key: &[u8]) -> &mut KindTally {
        Arc::make_mut(&mut self.kinds).entry(number(key)).or_default()
    }
}

impl KindTally {
    pub fn new(records: u64, hash: [u8; 32]) -> Self {
        Self { records, sum: words(&hash) }
    }

    pub fn hash(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (to, from) in bytes.chunks_exact_mut(8).zip(self.sum) {
            to.copy_from_slice(&from.to_le_bytes());
        }
        bytes
    }
}

fn number(key: &[u8]) -> u8 {
    key.first().copied().unwrap_or(0)
}

fn hash(key: &[u8], value: &[u8]) -> [u64; 4] {
    let mut hash = Blake2s256::new();
    for part in [key, value] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    words(&hash.finalize().into())
}

fn words(bytes: &[u8; 32]) -> [u64; 4] {
    let mut words = [0; 4];
    for (to, from) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *to = from.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_depends_on_what_is_there_and_not_on_how_it_came() {
        let (mut one, mut other) = (Tally::default(), Tally::default());
        one.add(&[7, 1], b"alice");
        one.add(&[10, 1], b"node");
        one.add(&[7, 2], b"bob");
        one.remove(&[7, 1], b"alice");
        other.add(&[7, 2], b"bob");
        other.add(&[10, 1], b"node");
        assert_eq!(one, other);
        other.remove(&[10, 1], b"node");
        assert_eq!(one.differences(&other).into_iter().collect::<Vec<_>>(), ["nodes"]);
        other.remove(&[7, 2], b"bob");
        assert_eq!(other, Tally::default());
    }

    #[test]
    fn one_changed_byte_in_key_or_value_changes_the_tally_of_its_kind() {
        let of = |key: &[u8], value: &[u8]| {
            let mut tally = Tally::default();
            tally.add(key, value);
            tally
        };
        let right = of(&[7, 1], b"alice");
        for wrong in [of(&[7, 1], b"alicf"), of(&[7, 3], b"alice"), of(&[7, 1, b'a'], b"lice")] {
            assert_eq!(right.differences(&wrong).into_iter().collect::<Vec<_>>(), ["users"]);
        }
        assert_eq!(Tally::from_kinds(right.kinds().map(|(n, k)| (n, KindTally::new(k.records, k.hash())))), right);
    }
}
