//! Tailscale nodes in a process of Tailscale's Go library (`tests/clients/tsclient`).

use super::programs::program;
use super::wait::{eventually, eventually_some};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

/// A client that joins needs a few seconds; five times that, on a busy machine, and more.
const RUNNING: Duration = Duration::from_secs(90);
/// The program itself gives up on a command after 30 s.
const ANSWER: Duration = Duration::from_secs(40);

/// A process with any number of nodes.
pub struct Fleet {
    child: Child,
    input: Mutex<ChildStdin>,
    said: Arc<Mutex<Vec<Value>>>,
    next: AtomicU64,
    dir: TempDir,
}

/// How a node joins.
#[derive(Clone, Debug)]
pub struct Up {
    control: String,
    auth_key: String,
    tags: Vec<String>,
    ephemeral: bool,
}

impl Up {
    pub fn at(control: String) -> Up {
        Up { control, auth_key: String::new(), tags: Vec::new(), ephemeral: false }
    }

    pub fn key(self, auth_key: &str) -> Up {
        Up { auth_key: auth_key.into(), ..self }
    }

    pub fn tags(self, tags: &[&str]) -> Up {
        Up { tags: tags.iter().map(|tag| tag.to_string()).collect(), ..self }
    }

    pub fn ephemeral(self) -> Up {
        Up { ephemeral: true, ..self }
    }
}

impl Fleet {
    /// `environment` is for all of its nodes.
    pub fn start(environment: &[(&str, &str)]) -> Fleet {
        let dir = tempfile::Builder::new().prefix("quorumscale-fleet-").tempdir().expect("a directory");
        let log = File::create(dir.path().join("log")).expect("a log");
        let mut child = Command::new(program("tsclient"))
            .envs(environment.iter().copied())
            .env("TS_NO_LOGS_NO_SUPPORT", "true")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("tsclient starts");
        let said = Arc::new(Mutex::new(Vec::new()));
        let (into, output) = (said.clone(), child.stdout.take().expect("piped"));
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or_else(|_| json!({ "error": line }));
                into.lock().expect("no panic while held").push(value);
            }
        });
        let input = Mutex::new(child.stdin.take().expect("piped"));
        Fleet { child, input, said, next: AtomicU64::new(1), dir }
    }

    /// Starts a node, which has the fleet's next directory, or the one that it had before.
    pub async fn up(&self, name: &str, up: Up) -> Tsnet<'_> {
        let node = Tsnet { fleet: self, name: name.into(), since: self.heard() };
        let command = json!({
            "node": name, "cmd": "up", "control": up.control, "dir": self.node_dir(name),
            "auth_key": up.auth_key, "tags": up.tags, "ephemeral": up.ephemeral,
        });
        self.call(command).await.unwrap_or_else(|e| panic!("node {name} starts: {e}"));
        node
    }

    /// A node that was started before.
    pub fn node(&self, name: &str) -> Tsnet<'_> {
        Tsnet { fleet: self, name: name.into(), since: 0 }
    }

    async fn call(&self, mut command: Value) -> Result<Value, String> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        command["id"] = json!(id);
        let line = format!("{command}\n");
        self.input.lock().expect("no panic while held").write_all(line.as_bytes()).map_err(|e| e.to_string())?;
        let answer =
            eventually_some(&format!("an answer to {command}"), ANSWER, || self.find(0, |said| said["id"] == id)).await;
        match answer.get("error") {
            Some(error) => Err(error.as_str().unwrap_or_default().into()),
            None => Ok(answer["ok"].clone()),
        }
    }

    fn heard(&self) -> usize {
        self.said.lock().expect("no panic while held").len()
    }

    /// The newest of what was said after the first `since` lines.
    fn find(&self, since: usize, is_it: impl Fn(&Value) -> bool) -> Option<Value> {
        let said = self.said.lock().expect("no panic while held");
        said.iter().skip(since).rev().find(|value| is_it(value)).cloned()
    }

    /// What its nodes have logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.dir.path().join("log")).unwrap_or_default()).into_owned()
    }

    fn node_dir(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = self.said.lock().map(|said| said.clone()).unwrap_or_default();
            eprintln!("--- clients");
            for value in said.iter().rev().take(30).rev() {
                eprintln!("{value}");
            }
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A node of a [`Fleet`].
pub struct Tsnet<'a> {
    fleet: &'a Fleet,
    name: String,
    /// How much the fleet had said when this node was started.
    since: usize,
}

impl Tsnet<'_> {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Until it is in the tailnet; gives its addresses, IPv4 first.
    pub async fn running(&self) -> Vec<IpAddr> {
        let value = self.event("running", RUNNING).await;
        let addresses = value.as_array().expect("a list of addresses");
        addresses.iter().map(|a| a.as_str().and_then(|a| a.parse().ok()).expect("an address")).collect()
    }

    /// Whether it is in the tailnet by then.
    pub async fn runs_within(&self, within: Duration) -> bool {
        let until = tokio::time::Instant::now() + within;
        while self.said("running").is_none() {
            if tokio::time::Instant::now() >= until {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        true
    }

    /// The page to visit.
    pub async fn auth_url(&self) -> String {
        self.event("auth_url", RUNNING).await.as_str().expect("text").into()
    }

    /// What the server says of a failed login.
    pub async fn login_error(&self) -> String {
        self.event("login_error", RUNNING).await.as_str().expect("text").into()
    }

    /// Until it says that it is in this state, such as `NeedsLogin`.
    pub async fn state(&self, state: &str) {
        eventually(&format!("{} is {state}", self.name), RUNNING, || self.said("state").is_some_and(|s| s == state))
            .await;
    }

    async fn event(&self, kind: &str, within: Duration) -> Value {
        eventually_some(&format!("{} says {kind:?}", self.name), within, || self.said(kind)).await
    }

    fn said(&self, kind: &str) -> Option<Value> {
        let found = self.fleet.find(self.since, |said| said["node"] == *self.name && said["event"] == kind)?;
        Some(found["value"].clone())
    }

    async fn call(&self, command: &str, mut rest: Value) -> Result<Value, String> {
        rest["node"] = json!(self.name);
        rest["cmd"] = json!(command);
        self.fleet.call(rest).await
    }

    /// Fetches a page through the tunnel.
    pub async fn get(&self, url: &str) -> Result<String, String> {
        Ok(self.call("get", json!({ "url": url })).await?.as_str().unwrap_or_default().into())
    }

    /// Fetches the page of a node by its address, which says the node's name.
    /// A first try may fail while the tunnel is made.
    pub async fn reaches(&self, address: IpAddr, name: &str) {
        let url = match address {
            IpAddr::V4(address) => format!("http://{address}/"),
            IpAddr::V6(address) => format!("http://[{address}]/"),
        };
        let mut last = String::new();
        for _ in 0..3 {
            match self.get(&url).await {
                Ok(body) => return assert_eq!(body, format!("hello from {name}"), "{url} is {name}"),
                Err(error) => last = error,
            }
        }
        panic!("{} reaches {name} at {url}: {last}", self.name);
    }

    /// `state`, `self` and `peers` as the node sees them; see `tsclient`.
    pub async fn status(&self) -> Value {
        self.call("status", json!({})).await.unwrap_or_else(|e| panic!("{}: status: {e}", self.name))
    }

    /// A ping; `kind` is `disco`, `TSMP` or `ICMP`. Gives how it was answered.
    pub async fn ping(&self, address: IpAddr, kind: &str) -> Result<Value, String> {
        self.call("ping", json!({ "ip": address.to_string(), "type": kind })).await
    }

    /// Makes the relay with this address its home; gives the region's code.
    pub async fn home(&self, address: &str) -> String {
        let code = self.call("home", json!({ "address": address })).await;
        code.unwrap_or_else(|e| panic!("{}: home at {address}: {e}", self.name)).as_str().unwrap_or_default().into()
    }

    pub async fn logout(&self) {
        self.call("logout", json!({})).await.unwrap_or_else(|e| panic!("{}: logout: {e}", self.name));
    }

    /// Stops the node; the server only sees that it is gone.
    pub async fn close(self) {
        self.call("close", json!({})).await.unwrap_or_else(|e| panic!("{}: close: {e}", self.name));
    }
}
