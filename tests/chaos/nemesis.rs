//! What is done to the replicas.

use crate::dice::Dice;
use crate::history::{Created, History, Kind, Outcome};
use crate::support::Cluster;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

/// Nothing is attacked for so long between two faults.
const CALM: Duration = Duration::from_millis(1500);
/// A fault that is not seen by the others within this time did not take hold.
const SEEN_WITHIN: Duration = Duration::from_secs(10);
/// A refusal that takes longer is a hang: the server's own bound is 10 s.
const REFUSED_WITHIN: Duration = Duration::from_secs(15);
/// What a graceful stop is promised to take.
const STOP: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    KillLeader,
    KillFollower,
    PauseLeader,
    PauseFollower,
    /// No packet arrives at its peer port; what it sends to the others' ports does.
    CutLeader,
    CutFollower,
    Transfer,
    RollingRestart,
    KillAll,
    StopAll,
    LoseQuorum,
}

impl Fault {
    pub const ALL: [Fault; 11] = [
        Fault::KillLeader,
        Fault::PauseLeader,
        Fault::Transfer,
        Fault::KillFollower,
        Fault::RollingRestart,
        Fault::PauseFollower,
        Fault::CutLeader,
        Fault::CutFollower,
        Fault::KillAll,
        Fault::StopAll,
        Fault::LoseQuorum,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Fault::KillLeader => "SIGKILL the leader",
            Fault::KillFollower => "SIGKILL a follower",
            Fault::PauseLeader => "SIGSTOP the leader",
            Fault::PauseFollower => "SIGSTOP a follower",
            Fault::CutLeader => "nothing reaches the leader",
            Fault::CutFollower => "nothing reaches a follower",
            Fault::Transfer => "transfer the lead",
            Fault::RollingRestart => "rolling restart, SIGTERM",
            Fault::KillAll => "SIGKILL all",
            Fault::StopAll => "SIGTERM all, one by one",
            Fault::LoseQuorum => "SIGKILL a majority",
        }
    }

    fn needs_root(self) -> bool {
        matches!(self, Fault::CutLeader | Fault::CutFollower)
    }

    /// Whether writes must stop while it lasts.
    pub fn takes_the_quorum(self) -> bool {
        matches!(self, Fault::KillAll | Fault::StopAll | Fault::LoseQuorum)
    }
}

/// One fault that was inflicted, from its begin until all were healthy again.
pub struct Attack {
    pub fault: Fault,
    pub from: Instant,
    pub to: Instant,
    /// Whether the others noticed.
    pub held: bool,
    /// Terms that it cost.
    pub elections: u64,
    /// Terms that passed in the calm before it.
    pub spurious: u64,
    pub slowest_stop: Option<Duration>,
}

/// Inflicts one fault after the other until the time is over.
pub async fn attack(cluster: &mut Cluster, time: Duration, mut dice: Dice, history: &History) -> Vec<Attack> {
    let begun = Instant::now();
    let mut faults: Vec<Fault> = Vec::new();
    let mut attacks = Vec::new();
    let can_cut = Cut::is_possible();
    if !can_cut {
        println!("  (packets can only be dropped by root with iptables: no replica is cut off)");
    }
    let wanted = std::env::var("CHAOS_FAULTS").unwrap_or_default();
    let mut term = newest_term(cluster, 1);
    while begun.elapsed() < time {
        if faults.is_empty() {
            faults = Fault::ALL.into_iter().filter(|f| can_cut || !f.needs_root()).collect();
            faults.retain(|fault| fault.name().contains(&wanted));
            assert!(!faults.is_empty(), "CHAOS_FAULTS={wanted} names a fault");
            dice.shuffle(&mut faults);
        }
        tokio::time::sleep(CALM).await;
        let calm_term = newest_term(cluster, 1);
        let fault = faults.pop().expect("filled above");
        let from = Instant::now();
        let Inflicted { held, slowest_stop } = inflict(cluster, fault, &mut dice, history).await;
        cluster.healthy().await;
        let to = Instant::now();
        if slowest_stop.is_some_and(|stop| stop > STOP * 5) {
            history.wrong(format!("a graceful stop took {slowest_stop:?}"));
        }
        let next_term = newest_term(cluster, 1);
        let attack = Attack {
            fault,
            from,
            to,
            held,
            elections: next_term - calm_term,
            spurious: calm_term - term,
            slowest_stop,
        };
        println!(
            "  {:>4} s  {:<28} {:>5.1} s without a write{}",
            begun.elapsed().as_secs(),
            fault.name(),
            history.longest_gap(from, to).as_secs_f64(),
            if held { "" } else { ", did not take hold" },
        );
        term = next_term;
        attacks.push(attack);
    }
    // So that the last one's gap has an end.
    tokio::time::sleep(CALM).await;
    attacks
}

struct Inflicted {
    held: bool,
    slowest_stop: Option<Duration>,
}

async fn inflict(cluster: &mut Cluster, fault: Fault, dice: &mut Dice, history: &History) -> Inflicted {
    let size = size(cluster);
    let leader = cluster.leader(1).await;
    let follower = (leader - 1 + dice.between(1, size - 1)) % size + 1;
    let (victim, witness) = match fault {
        Fault::KillLeader | Fault::PauseLeader | Fault::CutLeader => (leader, follower),
        _ => (follower, leader),
    };
    let pause = Duration::from_millis(dice.between(2000, 5000));
    let mut slowest_stop = None;
    let held = match fault {
        Fault::KillLeader | Fault::KillFollower => {
            cluster.kill(victim);
            let held = misses(cluster, witness, victim).await;
            tokio::time::sleep(pause / 2).await;
            cluster.start_replica(victim);
            held
        }
        Fault::PauseLeader | Fault::PauseFollower => {
            cluster.freeze(victim);
            let begun = Instant::now();
            let held = misses(cluster, witness, victim).await;
            tokio::time::sleep(pause.saturating_sub(begun.elapsed())).await;
            cluster.thaw(victim);
            held
        }
        Fault::CutLeader | Fault::CutFollower => {
            let cut = Cut::off(cluster.address(victim));
            let begun = Instant::now();
            let held = misses(cluster, witness, victim).await;
            tokio::time::sleep(pause.saturating_sub(begun.elapsed())).await;
            drop(cut);
            held
        }
        Fault::Transfer => {
            cluster.run(follower, &["cluster", "transfer-leader", &follower.to_string()]).status.success()
                && cluster.leader(follower).await == follower
        }
        Fault::RollingRestart => {
            for id in 1..=size {
                slowest_stop = slowest_stop.max(Some(stop(cluster, id).await));
                cluster.start_replica(id);
                cluster.healthy().await;
            }
            true
        }
        Fault::KillAll => {
            (1..=size).for_each(|id| cluster.kill(id));
            (1..=size).for_each(|id| cluster.start_replica(id));
            true
        }
        Fault::StopAll => {
            // The last ones stop without a quorum.
            for id in 1..=size {
                slowest_stop = slowest_stop.max(Some(stop(cluster, id).await));
            }
            (1..=size).for_each(|id| cluster.start_replica(id));
            true
        }
        Fault::LoseQuorum => {
            let dead: Vec<u64> = (1..=size).filter(|id| *id != victim).take(size as usize / 2 + 1).collect();
            dead.iter().for_each(|id| cluster.kill(*id));
            let held = within(SEEN_WITHIN, || !cluster.run(victim, &["health"]).status.success()).await;
            is_refused(cluster, victim, history);
            tokio::time::sleep(pause).await;
            dead.iter().for_each(|id| cluster.start_replica(*id));
            held
        }
    };
    Inflicted { held, slowest_stop }
}

/// Without a quorum a write is refused with the reason, and in time.
fn is_refused(cluster: &Cluster, victim: u64, history: &History) {
    let name = format!("refused{}", history.events().created.len());
    let begun = Instant::now();
    let output = cluster.run(victim, &["users", "create", &name]);
    let time = begun.elapsed();
    let error = String::from_utf8_lossy(&output.stderr);
    if output.status.success() || !error.contains("majority") {
        history.wrong(format!("without a quorum a write is not refused: {output:?}"));
    }
    if time > REFUSED_WITHIN {
        history.wrong(format!("without a quorum a refusal took {time:?}"));
    }
    let (kind, outcome) = (Kind::User, Outcome::Refused);
    let mut events = history.events();
    events.slowest_refusal = events.slowest_refusal.max(time);
    events.created.push(Created { kind, idempotency_key: String::new(), name, outcome, id: None });
}

async fn stop(cluster: &mut Cluster, id: u64) -> Duration {
    let begun = Instant::now();
    cluster.stop(id).await;
    begun.elapsed()
}

/// Whether this replica notices that another one is missing.
async fn misses(cluster: &Cluster, witness: u64, victim: u64) -> bool {
    within(SEEN_WITHIN, || {
        let status = cluster.status(witness).unwrap_or_default();
        let members = status["members"].as_array().cloned().unwrap_or_default();
        members.iter().any(|member| member["id"] == victim && member["healthy"] == false)
    })
    .await
}

async fn within(time: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < time {
        if holds() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

fn size(cluster: &Cluster) -> u64 {
    cluster.status(1).and_then(|s| s["members"].as_array().map(Vec::len)).expect("a status") as u64
}

fn newest_term(cluster: &Cluster, by: u64) -> u64 {
    let status = cluster.status(by).unwrap_or_default();
    let members = status["members"].as_array().cloned().unwrap_or_default();
    members.iter().filter_map(|member| member["term"].as_u64()).max().unwrap_or(0)
}

/// Packets to a replica's peer port are dropped as long as this lives.
struct Cut(Ipv4Addr);

impl Cut {
    fn is_possible() -> bool {
        Command::new("iptables").args(["-w", "-n", "-L", "INPUT"]).output().is_ok_and(|o| o.status.success())
    }

    fn off(address: Ipv4Addr) -> Cut {
        assert!(rule("-I", address), "iptables takes a rule");
        Cut(address)
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        if !rule("-D", self.0) {
            eprintln!("iptables still drops packets to {}", self.0);
        }
    }
}

fn rule(action: &str, address: Ipv4Addr) -> bool {
    let to = address.to_string();
    let rule = ["-w", action, "INPUT", "-i", "lo", "-d", &to, "-p", "tcp", "--dport", "7946", "-j", "DROP"];
    Command::new("iptables").args(rule).status().is_ok_and(|status| status.success())
}
