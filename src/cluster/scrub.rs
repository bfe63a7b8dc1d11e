//! Reads everything now and then: the records on disk and in memory, and the snapshot.
//! What nobody reads can rot unseen until it is needed.

use super::replica::Replica;
use super::store::{Audit, Auditor, REPLACE};
use metrics::{counter, histogram};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Bytes a second, so that it is not felt.
const RATE: u64 = 16 << 20;
/// Bytes between two looks at the clock.
const PORTION: u64 = 256 << 10;
/// What to do when memory is wrong: the disk has the right records, or the next start finds out.
const MEMORY_REMEDY: &str = "look at this machine's memory (its kernel log, a memory test)";

impl Replica {
    /// Every `cluster.scrub_interval`; never if that is 0.
    pub async fn scrub_continuously(self: Arc<Self>) {
        let pause = self.options.scrub_interval;
        if pause.is_zero() {
            return;
        }
        loop {
            tokio::time::sleep(pause).await;
            self.scrub().await;
            self.check_snapshot().await;
        }
    }

    /// Reads all records once; a difference ends this replica.
    pub async fn scrub(&self) {
        let (auditor, stopping) = (self.auditor.clone(), self.stopping.clone());
        let begun = Instant::now();
        let result = tokio::task::spawn_blocking(move || read(&auditor, &stopping)).await;
        if self.stopping.is_cancelled() {
            return;
        }
        let (result, problem) = match result {
            Ok(Ok(audit)) if audit == Audit::default() => ("equal", None),
            Ok(Ok(audit)) => ("different", Some(explain(&audit))),
            Ok(Err(error)) => {
                let what = "the store cannot be read";
                ("unreadable", Some((what, error.to_string(), REPLACE)))
            }
            Err(panic) => return tracing::error!("the comparison of disk and memory did not end: {panic}"),
        };
        counter!("quorumscale_scrubs_total", "result" => result).increment(1);
        histogram!("quorumscale_scrub_seconds").record(begun.elapsed());
        if let Some((what, reason, remedy)) = problem {
            self.fall(what, &reason, remedy);
        }
    }

    /// A damaged snapshot is of no use to anybody, and is made anew.
    pub async fn check_snapshot(&self) {
        let Some(file) = self.snapshots.current() else { return };
        let path = file.path().to_owned();
        let Ok(Err(error)) = tokio::task::spawn_blocking(move || file.check()).await else { return };
        // Deleted by a newer one meanwhile: it stays readable, so that is not it.
        tracing::error!("snapshot {} is damaged ({error}): it is made anew", path.display());
        counter!("quorumscale_damaged_snapshots_total").increment(1);
        // If the core is dead, this replica ends anyway.
        let _ = self.raft.trigger().snapshot().await;
    }
}

fn read(auditor: &Auditor, stopping: &CancellationToken) -> std::io::Result<Audit> {
    let begun = Instant::now();
    let (mut read, mut looked) = (0u64, 0u64);
    auditor.audit(|bytes| {
        read += bytes as u64;
        if read - looked >= PORTION {
            looked = read;
            let due = Duration::from_micros(read.saturating_mul(1_000_000) / RATE);
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
        }
        !stopping.is_cancelled()
    })
}

/// What is wrong, in words, and what to do.
fn explain(audit: &Audit) -> (&'static str, String, &'static str) {
    let names = |kinds: &std::collections::BTreeSet<&str>| kinds.iter().copied().collect::<Vec<_>>().join(", ");
    if let Some(reason) = &audit.applied {
        ("the disk changed or lost records", reason.clone(), REPLACE)
    } else if audit.memory.is_empty() {
        let reason = format!("records of kind {} on disk are not those that were written", names(&audit.disk));
        ("the disk changed or lost records", reason, REPLACE)
    } else {
        let reason = format!("records of kind {} in memory are not those that were applied", names(&audit.memory));
        ("this machine's memory changed records", reason, MEMORY_REMEDY)
    }
}
