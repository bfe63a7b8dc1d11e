//! Waiting for a condition, instead of for a time.

use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(100);

/// Returns once `holds` does; fails the test after `within`.
pub async fn eventually(what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
    eventually_some(what, within, || holds().then_some(())).await;
}

/// Returns what `find` finds; fails the test after `within`.
pub async fn eventually_some<T>(what: &str, within: Duration, mut find: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {} s: {what}", within.as_secs());
        tokio::time::sleep(POLL).await;
    }
}
