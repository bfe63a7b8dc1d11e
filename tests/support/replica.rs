//! One server process and its files.

use super::cluster::Settings;
use super::disk::Disk;
use super::failing_disk::FailingDisk;
use super::process::Process;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The server under test.
const BINARY: &str = env!("CARGO_BIN_EXE_quorumscale");

/// The library that lies to a program about the time, as Debian installs it.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

pub struct Replica {
    pub id: u64,
    /// Where clients reach it.
    pub address: Ipv4Addr,
    /// Where other replicas do.
    pub peer: Ipv4Addr,
    pub dir: PathBuf,
    /// What the server's command line begins with: a program that runs it elsewhere.
    pub runner: Option<Command>,
    /// Whether its clock is what [`Self::set_clock`] says.
    pub own_clock: bool,
    /// What its writes and syncs go through, if they are to fail.
    pub failing_disk: Option<FailingDisk>,
    process: Option<Process>,
    disk: Option<Disk>,
}

impl Replica {
    pub fn new(id: u64, address: Ipv4Addr, peer: Ipv4Addr, dir: PathBuf) -> Replica {
        Replica {
            id,
            address,
            peer,
            dir,
            runner: None,
            own_clock: false,
            failing_disk: None,
            process: None,
            disk: None,
        }
    }

    /// Whether a replica can have a clock of its own here.
    pub fn can_have_own_clock() -> bool {
        Path::new(FAKETIME).exists()
    }

    /// Gives its data a small disk of its own, before its first start.
    pub fn mount_disk(&mut self) -> Result<(), String> {
        self.disk = Some(Disk::mount(&self.dir.join("data"))?);
        Ok(())
    }

    pub fn disk(&self) -> &Disk {
        self.disk.as_ref().unwrap_or_else(|| panic!("replica {} has no disk of its own", self.id))
    }

    /// How many seconds its clock is ahead, from now on; needs `own_clock`.
    pub fn set_clock(&self, ahead: i64) {
        let (new, file) = (self.dir.join("clock.new"), self.dir.join("clock"));
        let written = std::fs::write(&new, format!("{ahead:+}")).and_then(|()| std::fs::rename(new, file));
        written.expect("the clock can be set");
    }

    /// Writes its configuration, which is what `cluster/nodeN.yaml` is for a person.
    /// `peers` are the replicas that form the cluster, with their peer addresses.
    pub fn configure(&self, peers: &[(u64, Ipv4Addr)], secret: &str, settings: &Settings) {
        std::fs::create_dir_all(&self.dir).expect("a directory for the replica");
        std::fs::write(self.dir.join("secret"), secret).expect("its secret");
        self.set_clock(0);
        let Replica { id, address, peer, .. } = self;
        let Settings { config, cluster_config, insecure_relay, .. } = settings;
        let peers: String =
            peers.iter().map(|(id, address)| format!("    - {{ id: {id}, address: \"{address}:7946\" }}\n")).collect();
        let text = format!(
            "server_url: http://{address}:8080\n\
             listen_addr: {address}:8080\n\
             metrics_listen_addr: {address}:9090\n\
             data_dir: data\n\
             unix_socket: server.sock\n\
             cluster:\n\
             \x20 id: {id}\n\
             \x20 listen_addr: {peer}:7946\n\
             \x20 advertise_addr: {peer}:7946\n\
             \x20 secret_path: secret\n\
             \x20 client_addresses: [{address}]\n\
             {cluster_config}\
             \x20 peers:\n{peers}\
             derp:\n\
             \x20 server:\n\
             \x20   enabled: true\n\
             \x20   listen_addr: {address}:8443\n\
             \x20   stun_listen_addr: {address}:3478\n\
             \x20   ipv4: {address}\n\
             \x20   insecure_for_tests: {insecure_relay}\n\
             {config}"
        );
        std::fs::write(self.config(), text).expect("its configuration");
    }

    pub fn config(&self) -> PathBuf {
        self.dir.join("config.yaml")
    }

    pub fn url(&self) -> String {
        format!("http://{}:8080", self.address)
    }

    pub fn start(&mut self) {
        assert!(self.process.is_none(), "replica {} runs already", self.id);
        let mut command = Self::command(&self.dir);
        if let Some(runner) = &self.runner {
            let inner = std::mem::replace(&mut command, Command::new(runner.get_program()));
            command.args(runner.get_args()).arg(inner.get_program());
            command.current_dir(&self.dir);
            for (name, value) in inner.get_envs() {
                match value {
                    Some(value) => command.env(name, value),
                    None => command.env_remove(name),
                };
            }
        }
        command.arg("serve").arg("-c").arg(self.config());
        if self.own_clock {
            command.env("LD_PRELOAD", FAKETIME).env("FAKETIME_TIMESTAMP_FILE", self.dir.join("clock"));
            command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        if let Some(disk) = &self.failing_disk {
            disk.prepare(&mut command);
        }
        self.process = Some(Process::start(&mut command, &self.log_file()));
    }

    /// The binary, with nothing in its environment that could decide instead of the file.
    pub fn command(dir: &Path) -> Command {
        let mut command = Command::new(BINARY);
        command.current_dir(dir);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("HEADSCALE_") || text.starts_with("QUORUMSCALE_") {
                command.env_remove(&name);
            }
        }
        command
    }

    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().unwrap_or_else(|| panic!("replica {} does not run", self.id))
    }

    pub fn process_id(&self) -> u32 {
        self.process.as_ref().map(Process::id).unwrap_or_else(|| panic!("replica {} does not run", self.id))
    }

    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// As when power is lost, but for what the disk holds.
    pub fn kill(&mut self) {
        self.process().kill();
        self.process = None;
    }

    /// Asks it to stop, and forgets it; the caller waits with [`Process::ended`].
    pub fn take(&mut self) -> Process {
        self.process.take().unwrap_or_else(|| panic!("replica {} does not run", self.id))
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    fn log_file(&self) -> PathBuf {
        self.dir.join("log")
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // A process that waits for its disk cannot end.
        if let Some(disk) = &self.disk {
            disk.resume();
        }
    }
}
