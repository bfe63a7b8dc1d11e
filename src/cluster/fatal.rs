//! The end of a replica that cannot go on.

use std::fmt::Display;
use std::time::Duration;

/// Says what happened and what to do, and ends the process with status 1. For what
/// cannot be retried: after a failed write or sync nobody knows what is on disk,
/// and a replica that goes on could acknowledge what it does not have.
pub(super) fn die(what: &str, error: impl Display, remedy: &str) -> ! {
    #[cfg(test)]
    super::sim::host::stop_replica(&format!("{what}: {error}"));
    tracing::error!("{what}: {error}; this replica stops now; {remedy}, then start it again");
    exit_now(1)
}

/// Ends the process with status 0 when that time has passed, if it is still there:
/// for a stop that takes too long. What was acknowledged is on disk, as after a crash.
pub fn end_process_after(patience: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(patience);
        tracing::warn!("stopping takes longer than {patience:?}: ending without waiting for the rest");
        exit_now(0)
    });
}

/// Ends the process without running destructors: RocksDB's would run while its
/// threads still work, and crash.
#[allow(unsafe_code)]
fn exit_now(status: i32) -> ! {
    unsafe extern "C" {
        safe fn _exit(status: i32) -> !;
    }
    _exit(status)
}
