//! The end of a replica that cannot go on.

use std::fmt::Display;

/// Says what happened and what to do, and ends the process with status 1. For what
/// cannot be retried: after a failed write or sync nobody knows what is on disk,
/// and a replica that goes on could acknowledge what it does not have.
pub(super) fn die(what: &str, error: impl Display, remedy: &str) -> ! {
    #[cfg(test)]
    super::sim::host::stop_replica(&format!("{what}: {error}"));
    tracing::error!("{what}: {error}; this replica stops now; {remedy}, then start it again");
    exit_now()
}

/// Ends the process without running destructors: RocksDB's would run while its
/// threads still work, and crash.
#[allow(unsafe_code)]
fn exit_now() -> ! {
    unsafe extern "C" {
        safe fn _exit(status: i32) -> !;
    }
    _exit(1)
}
