//! The server's log, on standard error.

use crate::config::Log;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Starts it as `log.level` and `log.format` say; `RUST_LOG` goes before the level.
/// openraft tells every step at `info`, which is too much for an operator.
pub fn start(log: &Log) {
    let level = log.level.as_str();
    let usual = format!("{level},openraft={}", if level == "info" { "error" } else { level });
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start in one process (a test) keeps the first one's.
    let _ = if log.json {
        builder.json().try_init()
    } else {
        builder.with_target(false).with_ansi(std::io::stderr().is_terminal()).try_init()
    };
}
