//! A full disk: below a reserve this replica takes no writes and leaves the lead to others,
//! while there is still room for what others write.

use super::replica::Replica;
use crate::state::ReplicaId;
use metrics::gauge;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What is left on the disk.
pub struct Space {
    /// Bytes that are kept; 0: nothing is watched.
    reserve: u64,
    free: AtomicU64,
    low: AtomicBool,
    /// What a test says is free; `u64::MAX`: it says nothing.
    #[cfg(test)]
    pub pretended: AtomicU64,
}

impl Space {
    pub fn new(reserve: u64) -> Self {
        Self {
            reserve,
            free: AtomicU64::new(u64::MAX),
            low: AtomicBool::new(false),
            #[cfg(test)]
            pretended: AtomicU64::new(u64::MAX),
        }
    }

    /// Whether less than the reserve is free.
    pub fn is_low(&self) -> bool {
        self.low.load(Ordering::Relaxed)
    }

    /// In words, for people.
    pub fn problem(&self) -> Option<String> {
        self.is_low().then(|| {
            format!(
                "its disk has {} left, less than cluster.disk_reserve ({}): free space there",
                size(self.free.load(Ordering::Relaxed)),
                size(self.reserve)
            )
        })
    }

    /// Why replica `id` takes no writes.
    pub fn refusal(&self, id: ReplicaId) -> Option<String> {
        let problem = self.problem()?;
        Some(format!("nothing can be written: replica {id} leads, and {problem}; reads go on"))
    }

    /// Looks again. It is low until a tenth more than the reserve is free, so that it does not
    /// change with every file that comes and goes.
    fn update(&self, free: u64) {
        self.free.store(free, Ordering::Relaxed);
        gauge!("quorumscale_disk_free_bytes").set(free as f64);
        let was = self.is_low();
        let enough = if was { self.reserve + self.reserve / 10 } else { self.reserve };
        let low = free < enough;
        self.low.store(low, Ordering::Relaxed);
        gauge!("quorumscale_disk_low").set(if low { 1.0 } else { 0.0 });
        match (was, low) {
            (false, true) => tracing::error!(
                "{} are left on the disk, less than cluster.disk_reserve ({}): this replica takes no writes, and \
                 leaves the lead to others, until there is more",
                size(free),
                size(self.reserve)
            ),
            (true, false) => tracing::info!("{} are left on the disk: this replica takes writes again", size(free)),
            _ => {}
        }
    }
}

impl Replica {
    /// Looks how much is left.
    pub fn look_at_space(&self) {
        #[cfg(test)]
        if self.space.pretended.load(Ordering::Relaxed) != u64::MAX {
            return self.space.update(self.space.pretended.load(Ordering::Relaxed));
        }
        if self.space.reserve == 0 {
            return;
        }
        match free(&self.options.data_dir) {
            Ok(free) => self.space.update(free),
            Err(error) => tracing::warn!("how much is free in {}: {error}", self.options.data_dir.display()),
        }
    }
}

/// Bytes that this process may still write below `path`.
fn free(path: &Path) -> io::Result<u64> {
    let of = rustix::fs::statvfs(path)?;
    Ok(of.f_bavail.saturating_mul(of.f_frsize))
}

/// A number of bytes for people.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        1_048_576..10_737_418_240 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_low_below_the_reserve_and_well_again_a_tenth_above_it() {
        let space = Space::new(100 << 20);
        space.update(100 << 20);
        assert!(space.refusal(ReplicaId(1)).is_none());
        space.update((100 << 20) - 1);
        let refusal = space.refusal(ReplicaId(1)).unwrap();
        assert!(refusal.contains("99 MiB left") && refusal.contains("cluster.disk_reserve (100 MiB)"), "{refusal}");
        space.update(105 << 20);
        assert!(space.is_low(), "it does not change its mind for a little");
        space.update(110 << 20);
        assert!(!space.is_low());
    }

    #[test]
    fn a_real_directory_has_room() {
        assert!(free(tempfile::tempdir().unwrap().path()).unwrap() > 0);
    }
}
