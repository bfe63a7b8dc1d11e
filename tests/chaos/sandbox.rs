//! Namespaces for the whole run: network, mounts and processes, so that whatever
//! becomes of it, SIGKILL included, no process, no link, no rule and no mount of it stays. What may
//! stay, its directory and a disk that was halted at that moment, is removed by the next run.

use crate::support::{Disk, Network, Replica, Settings};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Set inside: the number of the process that went in.
const INSIDE: &str = "CHAOS_INSIDE";
const DIRECTORY: &str = "quorumscale-chaos-";

/// What faults can be inflicted with on this machine.
#[derive(Clone, Copy, Debug)]
pub struct Means {
    pub network: bool,
    pub disks: bool,
    pub clocks: bool,
}

impl Means {
    pub fn settings(&self) -> Settings {
        let Means { network, disks, clocks } = *self;
        // All machines have one address here, and those that lose a race show a spent key.
        let config = "limits:\n  failed_keys_per_minute: 60000\n".into();
        Settings { network, disks, clocks, config, ..Settings::default() }
    }
}

/// Goes in, where that is possible: the process becomes another one, which comes here again.
pub fn enter() {
    if std::env::var_os(INSIDE).is_some() {
        let mounted = Command::new("sh")
            .args(["-c", "mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns && ip link set lo up"])
            .status();
        if !mounted.is_ok_and(|status| status.success()) {
            println!("  (/run/netns cannot be mounted anew)");
        }
        return;
    }
    remove_leftovers();
    let unshare = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let possible = Command::new("unshare").args(unshare).arg("true").output().is_ok_and(|o| o.status.success());
    if !possible {
        println!("  (no namespaces without root and unshare: replicas share this machine's network and disk)");
        return;
    }
    let own = std::process::id();
    let directory = std::env::temp_dir().join(format!("{DIRECTORY}{own}"));
    let made = std::fs::create_dir_all(&directory).and_then(|()| std::env::current_exe());
    let program = made.unwrap_or_else(|e| panic!("a directory for the run, {}: {e}", directory.display()));
    let mut command = Command::new("unshare");
    command.args(unshare).arg(program).args(std::env::args_os().skip(1));
    let error = command.env(INSIDE, own.to_string()).env("TMPDIR", &directory).exec();
    panic!("unshare: {error}");
}

/// Removes the run's directory.
pub fn leave() {
    if std::env::var_os(INSIDE).is_some() {
        std::fs::remove_dir_all(std::env::temp_dir()).ok();
    }
}

/// Removes directories of runs that were killed, and disks that were halted when that happened.
fn remove_leftovers() {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix(DIRECTORY) else { continue };
        if !Path::new("/proc").join(pid).exists() {
            Disk::release_below(&entry.path());
            std::fs::remove_dir_all(entry.path()).ok();
        }
    }
}

/// Tries what can be done here, and says what cannot, with the reason.
pub fn means() -> Means {
    let inside = std::env::var_os(INSIDE).is_some();
    let left_out = |what: &str, reason: String| {
        println!("  (left out: {what}: {reason})");
        false
    };
    let network = match (inside, Network::new()) {
        (true, Ok(_)) => true,
        (true, Err(reason)) => left_out("cuts, and slow or lossy links", reason),
        (false, _) => left_out("cuts, and slow or lossy links", "no namespaces".into()),
    };
    let disks = inside && {
        let directory: PathBuf = std::env::temp_dir().join("try");
        match Disk::mount(&directory) {
            Ok(_) => true,
            Err(reason) => left_out("full and slow disks", reason),
        }
    };
    let clocks = Replica::can_have_own_clock()
        || left_out("clocks that are wrong", "libfaketime is not installed (Debian's package libfaketime)".into());
    Means { network, disks, clocks }
}
