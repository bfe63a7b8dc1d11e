//! Inflicts one fault after the other.

use crate::dice::Dice;
use crate::fault::Fault;
use crate::history::{Created, History, Kind, Outcome};
use crate::sandbox::Means;
use crate::support::{Cluster, request};
use std::time::{Duration, Instant};

/// Nothing is attacked for so long between two faults.
const CALM: Duration = Duration::from_millis(1500);
/// A fault that is not seen by the others within this time did not take hold.
const SEEN_WITHIN: Duration = Duration::from_secs(10);
/// A refusal that takes longer is a hang: the server's own bound is 10 s.
const REFUSED_WITHIN: Duration = Duration::from_secs(15);
/// What a graceful stop is promised to take.
const STOP: Duration = Duration::from_secs(5);
/// How long a change of members may take under a fault.
const CHANGED: Duration = Duration::from_secs(40);
/// A slow disk writes nothing for the first time, then goes on for the second.
const SLOW_DISK: (Duration, Duration) = (Duration::from_millis(250), Duration::from_millis(30));
/// How far clocks jump, in seconds.
const JUMPS: [i64; 4] = [-290, -40, 40, 290];
/// A follower comes and goes so often.
const FLAPS: u64 = 10;

/// One fault that was inflicted, from its begin until all were healthy again.
pub struct Attack {
    pub fault: Fault,
    pub from: Instant,
    pub to: Instant,
    /// Whether the others noticed.
    pub held: bool,
    /// Replicas whose streams may end by it.
    pub victims: Vec<u64>,
    /// Terms that it cost.
    pub elections: u64,
    /// Terms that passed in the calm before it.
    pub spurious: u64,
    pub slowest_stop: Option<Duration>,
}

pub struct Nemesis<'a> {
    pub size: u64,
    pub means: Means,
    pub dice: Dice,
    pub history: &'a History,
}

struct Inflicted {
    held: bool,
    slowest_stop: Option<Duration>,
    /// One that was a member for a while.
    spare: Option<u64>,
}

/// Whom a fault is done to, and who looks on.
#[derive(Clone, Copy)]
struct Roles {
    leader: u64,
    victim: u64,
    witness: u64,
    /// How long it lasts at least, once it has been seen.
    pause: Duration,
}

impl Nemesis<'_> {
    /// Inflicts one fault after the other until the time is over.
    pub async fn attack(mut self, cluster: &mut Cluster, time: Duration) -> Vec<Attack> {
        let begun = Instant::now();
        let mut faults: Vec<Fault> = Vec::new();
        let mut attacks = Vec::new();
        let wanted = std::env::var("CHAOS_FAULTS").unwrap_or_default();
        let mut term = newest_term(cluster, 1);
        while begun.elapsed() < time {
            if faults.is_empty() {
                faults = Fault::ALL.iter().copied().filter(|fault| fault.is_possible(&self.means)).collect();
                faults.retain(|fault| fault.name().contains(&wanted));
                assert!(!faults.is_empty(), "CHAOS_FAULTS={wanted} names a fault that is possible here");
                self.dice.shuffle(&mut faults);
            }
            tokio::time::sleep(CALM).await;
            let calm_term = newest_term(cluster, 1);
            let fault = faults.pop().expect("filled above");
            let mut attack = self.one(cluster, fault).await;
            let next_term = newest_term(cluster, 1);
            (attack.elections, attack.spurious) = (next_term - calm_term, calm_term - term);
            println!(
                "  {:>4} s  {:<30} {:>5.1} s without a write{}",
                begun.elapsed().as_secs(),
                fault.name(),
                self.history.longest_gap(attack.from, attack.to).as_secs_f64(),
                if attack.held { "" } else { ", did not take hold" },
            );
            term = next_term;
            attacks.push(attack);
        }
        // So that the last one's gap has an end.
        tokio::time::sleep(CALM).await;
        attacks
    }

    async fn one(&mut self, cluster: &mut Cluster, fault: Fault) -> Attack {
        let size = self.size;
        let leader = cluster.leader(1).await;
        let follower = (leader - 1 + self.dice.between(1, size - 1)) % size + 1;
        let (victim, witness) = if fault.is_of_the_leader() { (leader, follower) } else { (follower, leader) };
        let pause = Duration::from_millis(self.dice.between(2000, 7000));
        let from = Instant::now();
        let roles = Roles { leader, victim, witness, pause };
        let Inflicted { held, slowest_stop, spare } = self.inflict(cluster, fault, roles).await;
        for id in 1..=size {
            if cluster.forget_if_ended(id) {
                println!("          replica {id} has ended by itself: {}", last_line(&cluster.log(id)));
                cluster.start_replica(id);
            }
        }
        cluster.healthy().await;
        if slowest_stop.is_some_and(|stop| stop > STOP * 5) {
            self.history.wrong(format!("a graceful stop took {slowest_stop:?}"));
        }
        let mut victims: Vec<u64> = match fault {
            fault if fault.is_of_all() => (1..=size).collect(),
            fault if fault.is_of_nobody() => Vec::new(),
            _ => vec![victim],
        };
        // Clients of others may have come to the one that is removed again.
        victims.extend(spare);
        Attack { fault, from, to: Instant::now(), held, victims, elections: 0, spurious: 0, slowest_stop }
    }

    async fn inflict(&mut self, cluster: &mut Cluster, fault: Fault, roles: Roles) -> Inflicted {
        use Fault::*;
        let (mut slowest_stop, mut spare) = (None, None);
        let held = match fault {
            KillLeader | KillFollower => {
                cluster.kill(roles.victim);
                let held = misses(cluster, roles.witness, roles.victim).await;
                tokio::time::sleep(roles.pause / 3).await;
                cluster.start_replica(roles.victim);
                held
            }
            PauseLeader | PauseFollower => {
                cluster.freeze(roles.victim);
                let held = lasts(cluster, roles).await;
                cluster.thaw(roles.victim);
                held
            }
            IsolateLeader | IsolateFollower | DeafLeader | DeafFollower | MuteLeader | MuteFollower | ClosePort => {
                match fault {
                    IsolateLeader | IsolateFollower => cluster.network().isolate(roles.victim),
                    DeafLeader | DeafFollower => cluster.network().deafen(roles.victim),
                    ClosePort => cluster.network().close_port(roles.victim),
                    _ => cluster.network().mute(roles.victim),
                }
                let held = lasts(cluster, roles).await;
                cluster.network().heal();
                held
            }
            Bridge | Flap | SlowLinks | LossyLinks => self.disturb_links(cluster, fault, roles).await,
            SlowDiskLeader | SlowDiskFollower | FullDiskLeader | FullDiskFollower => {
                self.disturb_disk(cluster, fault, roles).await
            }
            ClockLeader | ClockFollower => self.jump(cluster, roles).await,
            Transfer => {
                let to = roles.victim.to_string();
                cluster.run(roles.victim, &["cluster", "transfer-leader", &to]).status.success()
                    && cluster.leader(roles.victim).await == roles.victim
            }
            Members | MembersKill | MembersLossy => {
                let new = cluster.start_spare().await;
                spare = Some(new);
                self.change_members(cluster, fault, roles, new).await
            }
            RollingRestart => {
                for id in 1..=self.size {
                    slowest_stop = slowest_stop.max(Some(stop(cluster, id).await));
                    cluster.start_replica(id);
                    cluster.healthy().await;
                }
                true
            }
            KillAll => {
                (1..=self.size).for_each(|id| cluster.kill(id));
                (1..=self.size).for_each(|id| cluster.start_replica(id));
                true
            }
            StopAll => {
                // The last ones stop without a quorum.
                for id in 1..=self.size {
                    slowest_stop = slowest_stop.max(Some(stop(cluster, id).await));
                }
                (1..=self.size).for_each(|id| cluster.start_replica(id));
                true
            }
            LoseQuorum => self.lose_quorum(cluster, roles).await,
        };
        Inflicted { held, slowest_stop, spare }
    }

    async fn disturb_links(&mut self, cluster: &Cluster, fault: Fault, roles: Roles) -> bool {
        let all = 1..=self.size;
        let network = cluster.network();
        let mut dropped = 0;
        match fault {
            Fault::Bridge => {
                // One is in the middle, and hears everyone; the others are two halves.
                let middle = self.dice.between(1, self.size);
                let rest: Vec<u64> = all.filter(|id| *id != middle).collect();
                let (left, right) = rest.split_at(rest.len() / 2);
                for (one, other) in left.iter().flat_map(|one| right.iter().map(move |other| (*one, *other))) {
                    network.part(one, other);
                }
                tokio::time::sleep(roles.pause).await;
            }
            Fault::Flap => {
                for _ in 0..FLAPS {
                    network.isolate(roles.victim);
                    tokio::time::sleep(Duration::from_millis(self.dice.between(100, 700))).await;
                    dropped += network.dropped(roles.victim);
                    network.heal();
                    tokio::time::sleep(Duration::from_millis(self.dice.between(50, 400))).await;
                }
            }
            Fault::SlowLinks => {
                all.for_each(|id| network.slow(id));
                tokio::time::sleep(roles.pause).await;
            }
            _ => {
                all.for_each(|id| network.lose(id));
                tokio::time::sleep(roles.pause).await;
            }
        }
        // Packets that a rule has met are counted; a queue is there or adding it has failed.
        dropped += (1..=self.size).map(|id| network.dropped(id)).sum::<u64>();
        let held = fault == Fault::SlowLinks || dropped > 0;
        network.heal();
        held
    }

    async fn disturb_disk(&mut self, cluster: &mut Cluster, fault: Fault, roles: Roles) -> bool {
        let begun = Instant::now();
        if matches!(fault, Fault::FullDiskLeader | Fault::FullDiskFollower) {
            cluster.disk(roles.victim).fill();
            let full = cluster.disk(roles.victim).free() < 64 << 10;
            tokio::time::sleep(roles.pause).await;
            cluster.disk(roles.victim).empty();
            return full;
        }
        while begun.elapsed() < roles.pause {
            cluster.disk(roles.victim).halt();
            tokio::time::sleep(SLOW_DISK.0).await;
            cluster.disk(roles.victim).resume();
            tokio::time::sleep(SLOW_DISK.1).await;
        }
        true
    }

    /// A clock jumps, and jumps back.
    async fn jump(&mut self, cluster: &Cluster, roles: Roles) -> bool {
        let ahead = JUMPS[self.dice.between(0, JUMPS.len() as u64 - 1) as usize];
        let before = date(cluster, roles.victim).await;
        cluster.set_clock(roles.victim, ahead);
        // The answer's date is of this second, or of one second before.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let after = date(cluster, roles.victim).await;
        tokio::time::sleep(roles.pause).await;
        cluster.set_clock(roles.victim, 0);
        // A server's date never goes back: while its clock is behind, it stands still.
        let held = |before: i64, after: i64| if ahead > 0 { after - before > 20 } else { after == before };
        before.zip(after).is_some_and(|(before, after)| held(before, after))
    }

    /// One more member, which becomes a voter and leaves again.
    async fn change_members(&mut self, cluster: &mut Cluster, fault: Fault, roles: Roles, new: u64) -> bool {
        let by = roles.witness;
        let (id, address) = (new.to_string(), cluster.peer_address(new));
        if fault == Fault::MembersLossy {
            (1..=self.size).for_each(|id| cluster.network().lose(id));
        }
        let added = changes(cluster, by, &["cluster", "add", &id, &address]).await;
        if fault == Fault::MembersKill {
            cluster.kill(roles.leader);
        }
        let promoted = changes(cluster, by, &["cluster", "promote", &id]).await;
        if fault == Fault::MembersKill {
            cluster.start_replica(roles.leader);
        }
        if fault == Fault::MembersLossy {
            cluster.network().heal();
        }
        let votes = || member(cluster, by, new).is_some_and(|member| member["role"] != "learner");
        let held = added && promoted && within(SEEN_WITHIN, votes).await;
        let removed = changes(cluster, by, &["cluster", "remove", &id, "--force"]).await;
        if !(added && promoted && removed) {
            let what = format!("a member was added: {added}, promoted: {promoted}, removed: {removed}");
            self.history.wrong(what);
        }
        if !cluster.forget_if_ended(new) {
            cluster.kill(new);
        }
        held && removed
    }

    async fn lose_quorum(&mut self, cluster: &mut Cluster, roles: Roles) -> bool {
        let all = 1..=self.size;
        let dead: Vec<u64> = all.filter(|id| *id != roles.victim).take(self.size as usize / 2 + 1).collect();
        dead.iter().for_each(|id| cluster.kill(*id));
        let held = within(SEEN_WITHIN, || !cluster.run(roles.victim, &["health"]).status.success()).await;
        self.is_refused(cluster, roles.victim);
        tokio::time::sleep(roles.pause / 2).await;
        dead.iter().for_each(|id| cluster.start_replica(*id));
        held
    }

    /// Without a quorum a write is refused with the reason, and in time.
    fn is_refused(&self, cluster: &Cluster, victim: u64) {
        let history = self.history;
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
}

async fn stop(cluster: &mut Cluster, id: u64) -> Duration {
    let begun = Instant::now();
    cluster.stop(id).await;
    begun.elapsed()
}

/// Waits until a fault is seen, and has lasted; whether it was seen.
async fn lasts(cluster: &Cluster, roles: Roles) -> bool {
    let begun = Instant::now();
    let held = misses(cluster, roles.witness, roles.victim).await;
    tokio::time::sleep(roles.pause.saturating_sub(begun.elapsed())).await;
    held
}

/// Whether this replica notices that another one is missing.
async fn misses(cluster: &Cluster, witness: u64, victim: u64) -> bool {
    within(SEEN_WITHIN, || member(cluster, witness, victim).is_some_and(|member| member["healthy"] == false)).await
}

/// A member, as a replica sees it.
fn member(cluster: &Cluster, by: u64, id: u64) -> Option<serde_json::Value> {
    let members = cluster.status(by)?["members"].as_array().cloned()?;
    members.into_iter().find(|member| member["id"] == id)
}

/// Tries a change until it succeeds.
async fn changes(cluster: &Cluster, by: u64, command: &[&str]) -> bool {
    let mut last = String::new();
    let done = within(CHANGED, || {
        let output = cluster.run(by, command);
        last = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        // An attempt whose answer was lost may have done it.
        output.status.success() || last.contains("already") || (command[1] == "remove" && last.contains("no member"))
    })
    .await;
    if !done {
        println!("          {command:?}: {last}");
    }
    done
}

/// The time of day that a replica shows, in seconds.
async fn date(cluster: &Cluster, id: u64) -> Option<i64> {
    let reply = request("GET", &format!("{}/livez", cluster.url(id)), &[], b"").await.ok()?;
    let time = jiff::fmt::rfc2822::parse(reply.header("date")).ok()?;
    Some(time.timestamp().as_second())
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

fn newest_term(cluster: &Cluster, by: u64) -> u64 {
    let status = cluster.status(by).unwrap_or_default();
    let members = status["members"].as_array().cloned().unwrap_or_default();
    members.iter().filter_map(|member| member["term"].as_u64()).max().unwrap_or(0)
}

fn last_line(log: &str) -> &str {
    log.lines().rev().find(|line| !line.is_empty()).unwrap_or_default()
}
