//! Replicas in network namespaces of their own, so that every packet between two of
//! them can be dropped, lost or slowed, in one direction or both.
//!
//! Each replica has two networks. By the first it is reached by clients, from the
//! namespace of the test; by the second, a bridge in a namespace of its own, by the
//! other replicas. Faults are in the second, so clients reach a replica that its
//! peers have lost.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// What every name of a namespace begins with; the process's number follows, so that what a killed run left is known.
const PREFIX: &str = "qs-";

/// The peers' port.
const PEER_PORT: &str = "7946";

/// What a slow link lets through: Raft's traffic under load waits in its queue.
const SLOW: &[&str] = &["tbf", "rate", "192kbit", "burst", "3kb", "latency", "300ms"];
/// The same where the kernel can delay packets.
const DELAYED: &[&str] = &["netem", "delay", "40ms", "15ms"];
/// How many packets a lossy link loses.
const LOST: &str = "0.15";

pub struct Network {
    /// What the names of this network's namespaces and links begin with.
    name: String,
    /// The second octets of the clients' and of the peers' network.
    octets: [u8; 2],
    attached: Mutex<BTreeSet<u64>>,
}

impl Network {
    /// A network without replicas; or why there cannot be one here.
    pub fn new() -> Result<Network, String> {
        remove_leftovers();
        let token: [u8; 2] = rand::random();
        let network = Network {
            name: format!("{}{}", std::process::id(), hex::encode(token)),
            octets: free_octets(),
            attached: Mutex::new(BTreeSet::new()),
        };
        let hub = network.namespace("hub");
        ip(&["netns", "add", &hub])?;
        inside(&hub, &["iptables", "-w", "-n", "-L", "INPUT"])?;
        ip(&["-n", &hub, "link", "add", "bridge", "type", "bridge"])?;
        ip(&["-n", &hub, "link", "set", "bridge", "up"])?;
        // Where the test itself is in a new namespace, its loopback is down.
        ip(&["link", "set", "lo", "up"])?;
        Ok(network)
    }

    /// Gives a replica its namespace.
    pub fn attach(&self, id: u64) -> Result<(), String> {
        if !self.attached.lock().expect("nobody panics while it is held").insert(id) {
            return Ok(());
        }
        let (hub, own) = (self.namespace("hub"), self.replica(id));
        let outside = self.link(id);
        let [client, peer] = [self.client_address(id), self.peer_address(id)].map(|a| format!("{a}/24"));
        ip(&["netns", "add", &own])?;
        ip(&["link", "add", &outside, "type", "veth", "peer", "name", "clients", "netns", &own])?;
        let port = format!("replica{id}");
        ip(&["-n", &own, "link", "add", "peers", "type", "veth", "peer", "name", &port, "netns", &hub])?;
        ip(&["-n", &hub, "link", "set", &port, "master", "bridge", "up"])?;
        let [_, second, third, _] = self.client_address(id).octets();
        let gateway = format!("10.{second}.{third}.{}/32", 100 + id);
        ip(&["addr", "add", &gateway, "peer", &self.client_address(id).to_string(), "dev", &outside])?;
        ip(&["link", "set", &outside, "up"])?;
        for (link, address) in [("clients", &client), ("peers", &peer)] {
            ip(&["-n", &own, "addr", "add", address, "dev", link])?;
            ip(&["-n", &own, "link", "set", link, "up"])?;
        }
        ip(&["-n", &own, "link", "set", "lo", "up"])
    }

    /// Where clients reach a replica.
    pub fn client_address(&self, id: u64) -> Ipv4Addr {
        Ipv4Addr::new(10, self.octets[0], self.octets[1], u8::try_from(id).expect("few replicas"))
    }

    /// Where other replicas reach it.
    pub fn peer_address(&self, id: u64) -> Ipv4Addr {
        let [_, second, third, last] = self.client_address(id).octets();
        Ipv4Addr::new(10, second, third ^ 1, last)
    }

    /// What runs a program as a replica: a command that its name and arguments are added to.
    pub fn command(&self, id: u64) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.replica(id)));
        command
    }

    // ---- Faults ----

    /// What one replica sends does not arrive at another.
    pub fn cut(&self, from: u64, to: u64) {
        self.rule(to, &["-A", "INPUT", "-s", &self.peer_address(from).to_string(), "-j", "DROP"]);
    }

    /// Neither hears the other.
    pub fn part(&self, one: u64, other: u64) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// Nothing that its peers send arrives.
    pub fn deafen(&self, id: u64) {
        self.rule(id, &["-A", "INPUT", "-i", "peers", "-j", "DROP"]);
    }

    /// Nothing that it sends to its peers arrives.
    pub fn mute(&self, id: u64) {
        self.rule(id, &["-A", "OUTPUT", "-o", "peers", "-j", "DROP"]);
    }

    /// Cut off from its peers in both directions.
    pub fn isolate(&self, id: u64) {
        self.deafen(id);
        self.mute(id);
    }

    /// Its peers do not reach its port; it reaches theirs.
    pub fn close_port(&self, id: u64) {
        self.rule(id, &["-A", "INPUT", "-i", "peers", "-p", "tcp", "--dport", PEER_PORT, "-j", "DROP"]);
    }

    /// Packets from its peers get lost by chance.
    pub fn lose(&self, id: u64) {
        let rule = ["-A", "INPUT", "-i", "peers", "-m", "statistic", "--mode", "random", "--probability", LOST];
        self.rule(id, &[&rule[..], &["-j", "DROP"]].concat());
    }

    /// What it sends to its peers is late.
    pub fn slow(&self, id: u64) {
        let add = ["-n", &self.replica(id), "qdisc", "replace", "dev", "peers", "root"].map(str::to_owned);
        let tc = |with: &[&str]| {
            let mut command = Command::new("tc");
            command.args(&add).args(with);
            run(command)
        };
        tc(DELAYED).or_else(|_| tc(SLOW)).unwrap_or_else(|e| panic!("a slow link: {e}"));
    }

    /// How many packets were dropped on their way to a replica.
    pub fn dropped(&self, id: u64) -> u64 {
        let mut command = Command::new("nsenter");
        let list = ["iptables", "-w", "-n", "-v", "-x", "-L", "INPUT"];
        command.arg(format!("--net=/run/netns/{}", self.replica(id))).args(list);
        let output = command.output().map(|output| output.stdout).unwrap_or_default();
        let text = String::from_utf8_lossy(&output).into_owned();
        let count = |line: &str| line.split_whitespace().next().and_then(|first| first.parse::<u64>().ok());
        text.lines().filter(|line| line.contains("DROP")).filter_map(count).sum()
    }

    /// Ends all faults.
    pub fn heal(&self) {
        for id in self.attached.lock().expect("nobody panics while it is held").iter() {
            self.rule(*id, &["-F"]);
            let mut command = Command::new("tc");
            command.args(["-n", &self.replica(*id), "qdisc", "del", "dev", "peers", "root"]);
            // There may be none.
            run(command).ok();
        }
    }

    fn rule(&self, id: u64, rule: &[&str]) {
        let done = inside(&self.replica(id), &[&["iptables", "-w"], rule].concat());
        done.unwrap_or_else(|e| panic!("a rule for replica {id}: {e}"));
    }

    // ---- Names ----

    fn namespace(&self, part: &str) -> String {
        format!("{PREFIX}{}-{part}", self.name)
    }

    fn replica(&self, id: u64) -> String {
        self.namespace(&id.to_string())
    }

    /// The test's end of a replica's link to its clients; at most 15 characters.
    fn link(&self, id: u64) -> String {
        let [second, third] = self.octets;
        format!("qs{second}x{third}x{id}")
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for id in self.attached.lock().map(|ids| ids.clone()).unwrap_or_default() {
            remove(&self.replica(id));
        }
        remove(&self.namespace("hub"));
    }
}

/// Ends what a run that was killed has left: its replicas, and their namespaces.
fn remove_leftovers() {
    let Ok(list) = std::fs::read_dir("/run/netns") else { return };
    for name in list.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        // The process's number, then four digits of chance.
        let pid = rest.split('-').next().and_then(|own| own.get(..own.len().checked_sub(4)?));
        let runs = |pid: &str| std::path::Path::new("/proc").join(pid).exists();
        if pid.is_some_and(|pid| !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit()) && !runs(pid)) {
            remove(&name);
        }
    }
}

/// Removes a namespace, and with it all that runs there.
fn remove(namespace: &str) {
    if let Ok(output) = Command::new("ip").args(["netns", "pids", namespace]).output() {
        for pid in String::from_utf8_lossy(&output.stdout).split_whitespace() {
            Command::new("sh").args(["-c", &format!("kill -KILL {pid}")]).stderr(Stdio::null()).status().ok();
        }
    }
    ip(&["netns", "del", namespace]).ok();
}

/// A network `10.x.y.0/24`, and the one beside it, that this machine does not have.
fn free_octets() -> [u8; 2] {
    let taken = Command::new("ip").args(["-4", "-o", "addr"]).output().map(|output| output.stdout).unwrap_or_default();
    let taken = String::from_utf8_lossy(&taken).into_owned();
    loop {
        let [second, third]: [u8; 2] = rand::random();
        let (second, third) = (100 + second % 150, third & !1);
        if [third, third | 1].iter().all(|third| !taken.contains(&format!(" 10.{second}.{third}."))) {
            return [second, third];
        }
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new("ip");
    command.args(arguments);
    run(command)
}

fn inside(namespace: &str, words: &[&str]) -> Result<(), String> {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{namespace}")).args(words);
    run(command)
}

fn run(mut command: Command) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}
