//! Client programs that are built outside of cargo, by `tools/clients`.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The path of `tsclient`, `tailscale`, `tailscaled`, `rust-client` or the OpenID provider's script.
/// Where `make test` has not built them, the first test to ask does.
pub fn program(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| match std::env::var_os("QUORUMSCALE_CLIENTS") {
        Some(directory) => directory.into(),
        None => build(),
    });
    let path = directory.join(name);
    assert!(path.is_file(), "{} is there: tools/clients builds it", path.display());
    path
}

fn build() -> PathBuf {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/clients");
    let output = Command::new(script).stderr(Stdio::inherit()).output().expect("tools/clients runs");
    assert!(output.status.success(), "tools/clients succeeds");
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}
