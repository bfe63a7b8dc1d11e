//! Stock programs: `tailscaled` with `tailscale`, and Tailscale's Rust client.

use super::process::Process;
use super::programs::program;
use super::wait::eventually_some;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;
use tempfile::TempDir;

/// A daemon without a tunnel device, so that no root is needed.
pub struct Tailscaled {
    process: Process,
    dir: TempDir,
}

/// How long `tailscale up` waits before it gives up.
const UP: &str = "--timeout=40s";
const JOINED: Duration = Duration::from_secs(90);

impl Tailscaled {
    pub async fn start() -> Tailscaled {
        let dir = tempfile::Builder::new().prefix("quorumscale-tailscaled-").tempdir().expect("a directory");
        let mut command = Command::new(program("tailscaled"));
        command
            .arg("--tun=userspace-networking")
            .arg("--port=0")
            .arg("--no-logs-no-support")
            .arg(format!("--socket={}", dir.path().join("sock").display()))
            .arg(format!("--statedir={}", dir.path().display()));
        let process = Process::start(&mut command, &dir.path().join("log"));
        let daemon = Tailscaled { process, dir };
        let socket = daemon.socket();
        eventually_some("tailscaled's socket", Duration::from_secs(30), || socket.exists().then_some(())).await;
        daemon
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("sock")
    }

    /// A `tailscale` command, to its end.
    pub fn tailscale(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("tailscale runs")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("tailscale"));
        command.arg(format!("--socket={}", self.socket().display())).args(arguments);
        command
    }

    /// `tailscale up --reset` with these, and what it printed if it succeeded or failed.
    pub fn up(&self, server: &str, more: &[&str]) -> Result<String, String> {
        let login = format!("--login-server={server}");
        let output = self.tailscale(&[&["up", "--reset", UP, &login, "--accept-dns=false"], more].concat());
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(text) } else { Err(text) }
    }

    /// `tailscale up` in the background, for logins that wait for somebody.
    pub fn start_up(&self, server: &str, more: &[&str]) -> Process {
        let login = format!("--login-server={server}");
        let arguments = [&["up", "--reset", &login, "--accept-dns=false"], more].concat();
        Process::start(&mut self.command(&arguments), &self.dir.path().join("up"))
    }

    pub fn log(&self) -> String {
        self.process.output()
    }
}

impl Drop for Tailscaled {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("--- tailscaled\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
        }
    }
}

/// Tailscale's Rust client in a process of its own (`tests/rust-client`).
pub struct RustClient {
    process: Process,
    _dir: TempDir,
}

impl RustClient {
    /// `more` as the program takes it: a key, `--get IP:PORT`, `--serve`.
    pub fn start(server: &str, name: &str, more: &[&str]) -> RustClient {
        let dir = tempfile::Builder::new().prefix("quorumscale-rust-client-").tempdir().expect("a directory");
        let mut command = Command::new(program("rust-client"));
        command.current_dir(dir.path()).arg(server).arg(name).args(more);
        command.env("TS_RS_EXPERIMENT", "this_is_unstable_software");
        RustClient { process: Process::start(&mut command, &dir.path().join("log")), _dir: dir }
    }

    /// The value of an event; fails the test if the program reports an error instead.
    pub async fn event(&mut self, kind: &str) -> String {
        let found = eventually_some(&format!("the Rust client says {kind:?}"), JOINED, || self.find(kind)).await;
        found.unwrap_or_else(|error| panic!("the Rust client says {kind:?}, not: {error}\n{}", self.process.output()))
    }

    fn find(&mut self, kind: &str) -> Option<Result<String, String>> {
        let output = self.process.output();
        let events = output.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        for event in events {
            let value = event["value"].as_str().unwrap_or_default().to_string();
            if event["event"] == kind {
                return Some(Ok(value));
            }
            if event["event"] == "error" {
                return Some(Err(value));
            }
        }
        self.process.ended().map(|status| Err(format!("it ended: {status}")))
    }
}
