//! A cluster of server processes on this machine.

use super::disk::Disk;
use super::failing_disk::FailingDisk;
use super::network::Network;
use super::replica::Replica;
use super::wait::{eventually, eventually_some};
use serde_json::Value;
use std::net::Ipv4Addr;
use std::process::Output;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A cluster that is not healthy by then will not be.
const HEALTHY: Duration = Duration::from_secs(60);

/// A graceful stop hands over leadership first, and waits for clients.
const STOPPED: Duration = Duration::from_secs(30);

/// Tests run side by side, except for those that need the whole machine.
static MACHINE: RwLock<()> = RwLock::const_new(());

enum Share {
    One { _guard: RwLockReadGuard<'static, ()> },
    All { _guard: RwLockWriteGuard<'static, ()> },
}

/// What is not as usual.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// No other cluster runs meanwhile: for tests that put a load on the machine.
    pub alone: bool,
    /// More lines for every replica's configuration.
    pub config: String,
    /// More lines for its `cluster:` section, indented by two.
    pub cluster_config: String,
    /// Each replica has network namespaces of its own: needs root. See [`Network`].
    pub network: bool,
    /// Each replica's data has a small disk of its own: needs root. See [`super::Disk`].
    pub disks: bool,
    /// Each replica has a clock of its own: needs libfaketime.
    pub clocks: bool,
    /// Writes and syncs of each replica's data can be made to fail: see [`FailingDisk`].
    pub failing_disks: bool,
    /// Clients are told not to check the relay's certificate: Tailscale's Rust client cannot pin one.
    pub insecure_relay: bool,
}

pub struct Cluster {
    replicas: Vec<Replica>,
    /// The replicas that formed it, with their peer addresses.
    founders: Vec<(u64, Ipv4Addr)>,
    /// The middle octets of addresses, where the replicas are all on this machine's loopback.
    loopback: [u8; 2],
    secret: String,
    settings: Settings,
    // After the replicas: they are dropped first.
    network: Option<Network>,
    dir: TempDir,
    _share: Share,
}

impl Cluster {
    /// `size` replicas, healthy, on loopback addresses that no other test uses.
    pub async fn start(size: u64) -> Cluster {
        Self::start_with(size, Settings::default()).await
    }

    pub async fn start_with(size: u64, settings: Settings) -> Cluster {
        let share = match settings.alone {
            true => Share::All { _guard: MACHINE.write().await },
            false => Share::One { _guard: MACHINE.read().await },
        };
        raise_file_limit();
        let network = settings.network.then(|| Network::new().unwrap_or_else(|e| panic!("a network: {e}")));
        let loopback = free_network();
        let mut cluster = Cluster {
            replicas: Vec::new(),
            founders: (1..=size).map(|id| (id, addresses(network.as_ref(), loopback, id).1)).collect(),
            loopback,
            network,
            secret: hex::encode(rand::random::<[u8; 32]>()),
            settings,
            dir: tempfile::Builder::new().prefix("quorumscale-").tempdir().expect("a directory"),
            _share: share,
        };
        for id in 1..=size {
            cluster.spare(id);
            cluster.start_replica(id);
        }
        cluster.healthy().await;
        cluster
    }

    /// Starts one more replica, which is no member until `cluster add` says so; returns when it listens to peers.
    pub async fn start_spare(&mut self) -> u64 {
        let id = self.replicas.len() as u64 + 1;
        self.spare(id);
        self.start_replica(id);
        self.listens(id).await;
        id
    }

    fn spare(&mut self, id: u64) {
        let (address, peer) = addresses(self.network.as_ref(), self.loopback, id);
        let mut replica = Replica::new(id, address, peer, self.dir.path().join(format!("node{id}")));
        replica.configure(&self.founders, &self.secret, &self.settings);
        if let Some(network) = &self.network {
            network.attach(id).unwrap_or_else(|e| panic!("a network for replica {id}: {e}"));
            replica.runner = Some(network.command(id));
        }
        if self.settings.disks {
            replica.mount_disk().unwrap_or_else(|e| panic!("a disk for replica {id}: {e}"));
        }
        replica.own_clock = self.settings.clocks;
        if self.settings.failing_disks {
            replica.failing_disk = Some(FailingDisk::new(&replica.dir, &replica.dir.join("data")));
        }
        self.replicas.push(replica);
    }

    fn replica(&self, id: u64) -> &Replica {
        &self.replicas[id as usize - 1]
    }

    fn replica_mut(&mut self, id: u64) -> &mut Replica {
        &mut self.replicas[id as usize - 1]
    }

    /// Where clients and the API reach it.
    pub fn url(&self, id: u64) -> String {
        self.replica(id).url()
    }

    pub fn address(&self, id: u64) -> Ipv4Addr {
        self.replica(id).address
    }

    /// The same, of one that may not be there yet.
    pub fn address_of(&self, id: u64) -> Ipv4Addr {
        addresses(self.network.as_ref(), self.loopback, id).0
    }

    /// Where peers reach it.
    pub fn peer_address(&self, id: u64) -> String {
        format!("{}:7946", self.replica(id).peer)
    }

    /// What is done to packets; needs [`Settings::network`].
    pub fn network(&self) -> &Network {
        self.network.as_ref().expect("a cluster with a network of its own")
    }

    /// What is done to a replica's disk; needs [`Settings::disks`].
    pub fn disk(&self, id: u64) -> &Disk {
        self.replica(id).disk()
    }

    /// What fails of a replica's writes; needs [`Settings::failing_disks`].
    pub fn failing_disk(&self, id: u64) -> &FailingDisk {
        self.replica(id).failing_disk.as_ref().expect("a cluster whose disks can fail")
    }

    /// How many seconds a replica's clock is ahead; needs [`Settings::clocks`].
    pub fn set_clock(&self, id: u64, ahead: i64) {
        self.replica(id).set_clock(ahead);
    }

    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    // ---- Processes ----

    pub fn start_replica(&mut self, id: u64) {
        self.replica_mut(id).start();
    }

    /// SIGKILL.
    pub fn kill(&mut self, id: u64) {
        self.replica_mut(id).kill();
    }

    /// SIGTERM, and waits for the end.
    pub async fn stop(&mut self, id: u64) {
        let mut process = self.replica_mut(id).take();
        process.signal("TERM");
        eventually(&format!("replica {id} stops on SIGTERM"), STOPPED, || process.ended().is_some()).await;
        let status = process.ended();
        assert!(
            status.is_some_and(|s| s.success()),
            "replica {id} stops with success: {status:?}\n{}",
            process.output()
        );
    }

    /// Until it has ended by itself, for which it has a reason: gives its log.
    pub async fn ends(&mut self, id: u64) -> String {
        let mut process = self.replica_mut(id).take();
        eventually(&format!("replica {id} ends"), HEALTHY, || process.ended().is_some()).await;
        assert_eq!(process.ended().and_then(|status| status.code()), Some(1), "{}", process.output());
        process.output()
    }

    /// Changes its configuration; it counts from its next start on.
    pub fn reconfigure(&self, id: u64, from: &str, to: &str) {
        let path = self.replica(id).config();
        let text = std::fs::read_to_string(&path).expect("its configuration");
        assert!(text.contains(from), "{from:?} is in {text}");
        std::fs::write(path, text.replacen(from, to, 1)).expect("its configuration can be written");
    }

    /// Where it keeps its files.
    pub fn replica_dir(&self, id: u64) -> std::path::PathBuf {
        self.replica(id).dir.clone()
    }

    /// Sends a signal, such as `TERM`, and waits for nothing.
    pub fn signal(&mut self, id: u64, name: &str) {
        self.replica_mut(id).process().signal(name);
    }

    /// Whether its process has ended by itself.
    pub fn has_ended(&mut self, id: u64) -> bool {
        self.replica_mut(id).process().ended().is_some()
    }

    /// Forgets a process that has ended; whether it had.
    pub fn forget_if_ended(&mut self, id: u64) -> bool {
        let replica = self.replica_mut(id);
        let ended = replica.runs() && replica.process().ended().is_some();
        if ended {
            replica.take();
        }
        ended
    }

    pub fn runs(&self, id: u64) -> bool {
        self.replica(id).runs()
    }

    /// Everything that a replica has logged.
    pub fn log(&self, id: u64) -> String {
        self.replica(id).log()
    }

    /// Freezes it: its sockets stay open, and nothing answers.
    pub fn freeze(&mut self, id: u64) {
        self.replica_mut(id).process().signal("STOP");
    }

    pub fn thaw(&mut self, id: u64) {
        self.replica_mut(id).process().signal("CONT");
    }

    // ---- Command line ----

    /// A command, by replica `id`'s socket.
    pub fn run(&self, id: u64, arguments: &[&str]) -> Output {
        let config = self.replica(id).config();
        let mut command = Replica::command(&self.dir.path().join(format!("node{id}")));
        command.arg("-c").arg(config).args(arguments);
        command.output().expect("the binary runs")
    }

    /// A command with these words and no configuration file.
    pub fn run_anywhere(&self, environment: &[(&str, &str)], arguments: &[&str]) -> Output {
        let mut command = Replica::command(self.dir.path());
        command.envs(environment.iter().copied()).args(arguments);
        command.output().expect("the binary runs")
    }

    /// The output of a command that succeeds, without its last newline.
    #[track_caller]
    pub fn ok(&self, id: u64, arguments: &[&str]) -> String {
        let output = self.run(id, arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?} on replica {id} succeeds:\n{errors}\n{}", self.ends_of_logs());
        String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').into()
    }

    /// What a command that fails says on standard error; it has printed nothing else, and its exit code is 1.
    #[track_caller]
    pub fn fails(&self, id: u64, arguments: &[&str]) -> String {
        let output = self.run(id, arguments);
        let errors = String::from_utf8_lossy(&output.stderr).trim_end().to_string();
        assert_eq!(output.status.code(), Some(1), "{arguments:?} on replica {id} fails: {output:?}");
        assert!(output.stdout.is_empty(), "{arguments:?} prints only an error: {output:?}");
        errors
    }

    /// The output of a command with `-o json`.
    #[track_caller]
    pub fn json(&self, id: u64, arguments: &[&str]) -> Value {
        let text = self.ok(id, &[arguments, &["-o", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{arguments:?} prints JSON: {e}: {text}"))
    }

    /// `cluster status`, if the replica runs. It has an answer without a quorum too, but fails.
    pub fn status(&self, id: u64) -> Option<Value> {
        serde_json::from_slice(&self.run(id, &["cluster", "status", "-o", "json"]).stdout).ok()
    }

    /// Nodes as replica `id` lists them.
    #[track_caller]
    pub fn nodes(&self, id: u64) -> Vec<Value> {
        match self.json(id, &["nodes", "list"]) {
            Value::Array(nodes) => nodes,
            other => panic!("nodes list prints a list: {other}"),
        }
    }

    /// A user, by name; gives its id.
    #[track_caller]
    pub fn create_user(&self, id: u64, name: &str) -> String {
        let user = self.json(id, &["users", "create", name]);
        user["id"].as_str().expect("an id").into()
    }

    // ---- Members ----

    pub fn add(&self, by: u64, id: u64) {
        self.ok(by, &["cluster", "add", &id.to_string(), &self.peer_address(id)]);
    }

    pub fn promote(&self, by: u64, id: u64) {
        self.ok(by, &["cluster", "promote", &id.to_string()]);
    }

    pub fn remove(&self, by: u64, id: u64) {
        self.ok(by, &["cluster", "remove", &id.to_string(), "--force"]);
    }

    // ---- Waiting ----

    /// Until every running replica is healthy, in the eyes of each of them, and there is a leader.
    pub async fn healthy(&mut self) {
        let running: Vec<u64> = self.replicas.iter().filter(|r| r.runs()).map(|r| r.id).collect();
        let deadline = std::time::Instant::now() + HEALTHY;
        while !running.iter().all(|id| self.is_healthy(*id, &running)) {
            self.panic_if_one_ended();
            if std::time::Instant::now() > deadline {
                let seen: Vec<_> = running.iter().map(|id| self.status(*id)).collect();
                panic!("not healthy within {} s: {seen:#?}\n{}", HEALTHY.as_secs(), self.ends_of_logs());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn is_healthy(&self, id: u64, running: &[u64]) -> bool {
        if !self.run(id, &["health"]).status.success() {
            return false;
        }
        let Some(status) = self.status(id) else { return false };
        let members = status["members"].as_array().cloned().unwrap_or_default();
        let well = |member: &Value| member["healthy"] == true || !running.iter().any(|id| member["id"] == *id);
        status["leader"].is_u64() && !members.is_empty() && members.iter().all(well)
    }

    fn panic_if_one_ended(&mut self) {
        for index in 0..self.replicas.len() {
            if !self.replicas[index].runs() {
                continue;
            }
            let id = self.replicas[index].id;
            if let Some(status) = self.replicas[index].process().ended() {
                panic!("replica {id} ended by itself: {status}\n{}", self.ends_of_logs());
            }
        }
    }

    /// Until a replica that is no member yet can be added.
    pub async fn listens(&self, id: u64) {
        // Seen from its process: the port may be in a namespace of its own.
        let sockets = format!("/proc/{}/net/tcp", self.replica(id).process_id());
        let peer = self.replica(id).peer;
        let is_it = |line: &str| listens_to_peers(line, peer);
        let listens = || std::fs::read_to_string(&sockets).is_ok_and(|text| text.lines().any(is_it));
        eventually(&format!("replica {id} listens to peers"), HEALTHY, listens).await;
    }

    /// Who leads, as replica `id` sees it; waits until there is one.
    pub async fn leader(&self, id: u64) -> u64 {
        eventually_some("a leader", HEALTHY, || self.status(id)?["leader"].as_u64()).await
    }

    /// Until `nodes list` on replica `id` shows this node as online or not.
    pub async fn shows_online(&self, id: u64, node: &str, online: bool, within: Duration) {
        let what = format!("replica {id} shows {node} with online {online}");
        eventually(&what, within, || self.nodes(id).iter().any(|n| n["givenName"] == node && n["online"] == online))
            .await;
    }

    fn ends_of_logs(&self) -> String {
        self.replicas.iter().map(|r| format!("--- replica {}\n{}\n", r.id, end_of(&r.log()))).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.ends_of_logs());
            return;
        }
        for replica in &self.replicas {
            let log = replica.log();
            assert!(!log.contains("panicked at"), "replica {} panicked:\n{}", replica.id, end_of(&log));
        }
    }
}

fn end_of(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}

/// Whether a line of `/proc/PID/net/tcp` is a listening socket (state 0A) at this address
/// and port 7946: other clusters of these tests have the port, too.
fn listens_to_peers(line: &str, peer: Ipv4Addr) -> bool {
    let mut words = line.split_whitespace().skip(1);
    let (local, _remote, state) = (words.next(), words.next(), words.next());
    let address = u32::from_ne_bytes(peer.octets());
    state == Some("0A") && local.is_some_and(|local| local == format!("{address:08X}:{:04X}", 7946))
}

/// Where clients reach a replica, and where its peers do.
fn addresses(network: Option<&Network>, [a, b]: [u8; 2], id: u64) -> (Ipv4Addr, Ipv4Addr) {
    let loopback = Ipv4Addr::new(127, a, b, u8::try_from(id).expect("few replicas"));
    network.map_or((loopback, loopback), |n| (n.client_address(id), n.peer_address(id)))
}

/// The middle octets of a loopback network in which nothing listens.
fn free_network() -> [u8; 2] {
    loop {
        let [a, b]: [u8; 2] = rand::random();
        // 127.0.0.x is what people use.
        if a != 0 && std::net::TcpListener::bind((Ipv4Addr::new(127, a, b, 1), 8080)).is_ok() {
            return [a, b];
        }
    }
}

/// A thousand connections at once need more files than most shells allow; it is a
/// limit of the process, and the servers inherit it.
fn raise_file_limit() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let own = std::process::id().to_string();
        let raised = std::process::Command::new("prlimit").args(["--pid", &own, "--nofile=8192:"]).status();
        assert!(raised.is_ok_and(|s| s.success()), "the limit of open files can be raised to 8192");
    });
}
