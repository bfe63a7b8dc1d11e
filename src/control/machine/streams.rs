//! How many map streams one machine holds.

use crate::tailcfg::MachineKey;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

/// Streams of one machine at a time. A client has one, and for a moment two while
/// it replaces it; a machine with several profiles has one for each that is up.
pub(super) const MAX_STREAMS: u32 = 16;

/// Counts streams by machine.
#[derive(Clone, Default)]
pub(super) struct Streams {
    open: Arc<Mutex<HashMap<MachineKey, u32>>>,
}

/// One stream's place; dropping it gives it back.
pub(super) struct StreamPlace {
    streams: Streams,
    machine: MachineKey,
}

impl Streams {
    /// A place for one more stream; `None`: the machine has [`MAX_STREAMS`].
    pub fn enter(&self, machine: MachineKey) -> Option<StreamPlace> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(machine).or_default();
        if *count >= MAX_STREAMS {
            return None;
        }
        *count += 1;
        Some(StreamPlace { streams: self.clone(), machine })
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let mut open = self.streams.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = open.entry(self.machine) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_gets_its_places_back() {
        let streams = Streams::default();
        let (one, other) = (MachineKey([1; 32]), MachineKey([2; 32]));
        let mut places: Vec<_> = (0..MAX_STREAMS).map(|_| streams.enter(one).unwrap()).collect();
        assert!(streams.enter(one).is_none());
        assert!(streams.enter(other).is_some());
        places.pop();
        assert!(streams.enter(one).is_some());
        places.clear();
        assert!(streams.open.lock().unwrap().is_empty());
    }
}
