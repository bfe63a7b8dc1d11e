//! A small set of ids that mostly lie close together.

use std::collections::BTreeMap;

/// Ids count up, so 64 neighbours share a word: what one stream has sent of 5,000
/// peers takes about 2 KiB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct IdSet {
    words: BTreeMap<u64, u64>,
}

impl IdSet {
    pub fn contains(&self, id: u64) -> bool {
        self.words.get(&(id / 64)).is_some_and(|word| word & bit(id) != 0)
    }

    /// Whether it is new.
    pub fn insert(&mut self, id: u64) -> bool {
        let word = self.words.entry(id / 64).or_default();
        let is_new = *word & bit(id) == 0;
        *word |= bit(id);
        is_new
    }

    /// Whether it was there.
    pub fn remove(&mut self, id: u64) -> bool {
        let Some(word) = self.words.get_mut(&(id / 64)) else { return false };
        let was_there = *word & bit(id) != 0;
        *word &= !bit(id);
        if *word == 0 {
            self.words.remove(&(id / 64));
        }
        was_there
    }

    /// Inserts or removes.
    pub fn set(&mut self, id: u64, is_in: bool) {
        if is_in {
            self.insert(id)
        } else {
            self.remove(id)
        };
    }

    /// Sets which of the ids from `64 * high` on are in it: a bit for each.
    pub fn set_word(&mut self, high: u64, word: u64) {
        if word == 0 {
            self.words.remove(&high);
        } else {
            self.words.insert(high, word);
        }
    }

    /// Ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.words
            .iter()
            .flat_map(|(&high, &word)| (0..64).filter(move |n| word >> n & 1 == 1).map(move |n| high * 64 + n))
    }
}

fn bit(id: u64) -> u64 {
    1 << (id % 64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    proptest::proptest! {
        #[test]
        fn it_is_a_set(steps in proptest::collection::vec((0u64..300, proptest::bool::ANY), 0..300)) {
            let (mut set, mut model) = (IdSet::default(), BTreeSet::new());
            for (id, is_in) in steps {
                let id = if id > 290 { u64::MAX - id } else { id };
                if is_in {
                    assert_eq!(set.insert(id), model.insert(id));
                } else {
                    assert_eq!(set.remove(id), model.remove(&id));
                }
                assert_eq!(set.contains(id), model.contains(&id));
            }
            assert!(set.iter().eq(model.iter().copied()));
        }
    }
}
