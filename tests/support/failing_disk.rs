//! A disk whose writes or syncs fail when they are told to: a small library that is
//! preloaded into the server's process (`failing_disk.c`).

use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/failing_disk.c");

/// What fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    Syncs,
    Writes,
}

/// The disk of one replica. Its process sees it once it was started with [`FailingDisk::prepare`].
pub struct FailingDisk {
    library: PathBuf,
    data: PathBuf,
    switch: PathBuf,
}

impl FailingDisk {
    /// Of the data in `data`; its own files are in `dir`, which is elsewhere.
    pub fn new(dir: &Path, data: &Path) -> FailingDisk {
        let library = dir.join("failing-disk.so");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).args([SOURCE, "-ldl"]);
        let output = compiler.output().expect("cc, which Rust needs as well, is there");
        assert!(output.status.success(), "cc compiles it: {}", String::from_utf8_lossy(&output.stderr));
        FailingDisk { library, data: data.into(), switch: dir.join("failing-disk") }
    }

    /// Gives a process this disk.
    pub fn prepare(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library);
        command.env("FAILING_DISK", &self.data).env("FAILING_DISK_SWITCH", &self.switch);
    }

    /// From now on these fail.
    pub fn fail(&self, what: Failing) {
        let letter = match what {
            Failing::Syncs => "s",
            Failing::Writes => "w",
        };
        std::fs::write(&self.switch, letter).expect("the switch can be set");
    }

    /// Nothing fails any more. Gives the calls that failed, each with its file.
    pub fn heal(&self) -> Vec<String> {
        std::fs::remove_file(&self.switch).expect("the switch was set");
        let log = self.switch.with_extension("log");
        let failed = std::fs::read_to_string(&log).unwrap_or_default();
        let _ = std::fs::remove_file(log);
        failed.lines().map(str::to_owned).collect()
    }
}
