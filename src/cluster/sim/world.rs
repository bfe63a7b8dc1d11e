//! A cluster, its clients and its faults, from one seed.

use super::clients::{self, Answer, Answers, Ask, Busy, Client, Knowledge};
use super::disk::{self, SimDisk};
use super::history::{self, Count, Operation};
use super::machine::Machine;
use super::nemesis::{Fault, Nemesis};
use super::net::{MS, MachineId, Net, Presence, Task, Weather};
use super::reference::{Reference, Violation};
use super::trace::Trace;
use crate::cluster::peer::{PeerInfo, PeerTls, certificate};
use crate::cluster::replica::Replica;
use crate::cluster::secret::{Secret, Secrets};
use crate::cluster::{Cluster, Options, membership};
use crate::state::ReplicaId;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long there are faults, in nanoseconds of the simulation.
const TROUBLE: u64 = 30_000 * MS;
/// How long the cluster has to become whole again. A replica that was silent for a
/// moment keeps its sessions for 130 s.
const RECOVERY: u64 = 200_000 * MS;
const CLIENTS: usize = 6;
/// After this long a request must have its answer. Five times what is promised.
const ANSWERED: u64 = 60_000 * MS;
/// Machines that may join in one run.
const JOINERS: u64 = 2;
/// Deliveries and turns at one moment: more is a loop.
const TURNS: usize = 200_000;

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub fault: disk::Fault,
    /// An empty directory, for files of snapshots.
    pub dir: PathBuf,
    /// Shows every event.
    pub print: bool,
}

/// What a run found.
#[derive(Debug)]
pub struct Report {
    pub trace: (String, u64),
    pub count: Count,
    pub faults: usize,
    pub committed: u64,
}

/// A run that broke a promise.
#[derive(Debug)]
pub struct Failure {
    pub why: Violation,
    pub last: Vec<String>,
}

/// Everything there is.
struct World {
    dir: PathBuf,
    now: u64,
    rng: StdRng,
    trace: Trace,
    net: Net,
    nemesis: Nemesis,
    secrets: Secrets,
    machines: BTreeMap<MachineId, Machine>,
    voters: Vec<MachineId>,
    removed: BTreeSet<MachineId>,
    joined: u64,
    cuts: BTreeMap<u64, BTreeSet<(MachineId, MachineId)>>,
    /// What is to happen at a time.
    agenda: BTreeMap<(u64, u64), Fault>,
    planned: u64,
    clients: Vec<Client>,
    requests: u64,
    answers: Answers,
    /// Processes that have stopped in order.
    stopped: Arc<Mutex<Vec<MachineId>>>,
    knowledge: Knowledge,
    history: Vec<Operation>,
    reference: Reference,
    faults: usize,
}

/// Runs a seed.
pub fn run(plan: Plan) -> Result<Report, Failure> {
    let mut world = World::new(plan);
    let trace = world.trace.clone();
    world.live().map_err(|why| {
        let why = super::host::stopped().map_or(why.clone(), |stopped| format!("{why} (a replica stopped: {stopped})"));
        Failure { why, last: trace.last() }
    })
}

impl World {
    fn new(plan: Plan) -> Self {
        // Before anything else: what is random on this thread follows from the seed.
        super::host::simulate(plan.seed);
        let secret = Secret::random_for_tests();
        let secrets = Secrets::from(secret.clone());
        let mut rng = StdRng::seed_from_u64(plan.seed);
        let trace = Trace::new(plan.print);
        let first = if rng.random_bool(0.3) { 5 } else { 3 };
        let voters: Vec<MachineId> = (1..=first).collect();
        let mut machines = BTreeMap::new();
        for id in 1..=5 + JOINERS {
            let certificate = certificate(&secret, ReplicaId(id));
            let machine = Machine {
                id,
                disk: SimDisk::new(plan.fault),
                tls: PeerTls::new(&secrets, ReplicaId(id)).expect("a whole secret"),
                peer: PeerInfo { certificate: Arc::new(certificate) },
                skew: rng.random_range(-200..200) * MS.cast_signed(),
                drift: rng.random_range(-5000..5000),
                process: None,
                frozen: false,
                starts: 0,
            };
            machine.disk.set_speed(Duration::from_millis(1), Duration::from_millis(80));
            machines.insert(id, machine);
        }
        Self {
            dir: plan.dir,
            now: 0,
            net: Net::new(rng.random(), trace.clone()),
            nemesis: Nemesis::new(StdRng::seed_from_u64(rng.random())),
            rng,
            trace,
            secrets: secrets.clone(),
            machines,
            voters,
            removed: BTreeSet::new(),
            joined: 0,
            cuts: BTreeMap::new(),
            agenda: BTreeMap::new(),
            planned: 0,
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            requests: 0,
            answers: Answers::default(),
            stopped: Arc::default(),
            knowledge: Knowledge::default(),
            history: Vec::new(),
            reference: Reference::default(),
            faults: 0,
        }
    }

    fn live(&mut self) -> Result<Report, Violation> {
        for id in self.voters.clone() {
            self.start(id);
        }
        self.until("the cluster begins", 60_000 * MS, Self::has_begun)?;
        let end = self.now + TROUBLE;
        let mut next_fault = self.now + self.nemesis.pause();
        while self.now < end {
            self.clients_ask(end);
            if self.now >= next_fault {
                self.trouble();
                next_fault = self.now + self.nemesis.pause();
            }
            self.step(next_fault.min(end))?;
        }
        self.calm_down();
        self.until("everything is whole again", RECOVERY, Self::is_whole)?;
        let count = history::check(&self.history, &mut self.reference)?;
        if count.done == 0 || count.reads == 0 || self.faults == 0 {
            return Err(format!("nothing was shown: {count:?}, {} faults", self.faults));
        }
        let (trace, faults) = (self.trace.hash(), self.faults);
        Ok(Report { trace, count, faults, committed: self.reference.applied() })
    }

    /// Goes on until something is true, without new faults.
    fn until(&mut self, what: &str, patience: u64, mut is_so: impl FnMut(&mut Self) -> bool) -> Result<(), Violation> {
        let deadline = self.now + patience;
        while !is_so(self) {
            if self.now >= deadline {
                return Err(format!("in vain for {} s: {what}; {}", patience / 1000 / MS, self.describe()));
            }
            let next = (self.now + 100 * MS).min(deadline);
            while self.now < next {
                self.step(next)?;
            }
        }
        Ok(())
    }

    /// Moves on to what happens next, but not beyond `limit`.
    fn step(&mut self, limit: u64) -> Result<(), Violation> {
        let wakes = self.machines.values().filter(|m| !m.frozen).filter_map(|m| m.process.as_ref()).map(|p| p.wake_at);
        let clients = self.clients.iter().filter(|client| client.busy.is_none()).map(|client| client.next);
        let agenda = self.agenda.keys().next().map(|(at, _)| *at);
        let next = wakes.chain(clients.filter(|next| *next > self.now)).chain(self.net.next()).chain(agenda).min();
        self.now = next.unwrap_or(limit).clamp(self.now, limit);
        self.net.set_now(self.now);
        while let Some((&key, _)) = self.agenda.iter().next().filter(|((at, _), _)| *at <= self.now) {
            let fault = self.agenda.remove(&key).expect("it was there");
            self.inflict(fault);
        }
        for _ in 0..TURNS {
            let delivered = self.deliver();
            let ran = self.turns()?;
            if !delivered && !ran {
                self.stop_processes();
                return self.hear();
            }
        }
        Err(format!("no end of events at {}", self.now))
    }

    /// Delivers what is due.
    fn deliver(&mut self) -> bool {
        let mut any = false;
        while self.net.next().is_some_and(|at| at <= self.now) {
            any = true;
            match self.net.deliver() {
                Task::Accept { call, from, to, parts } => {
                    let peer = self.machines[&from].peer.clone();
                    let machine = self.machines.get_mut(&to).expect("a machine of that number");
                    let Some(port) = machine.up().port else { continue };
                    self.net.accepted(call, port.accept(call, *parts, peer));
                    self.wake(to);
                }
                Task::Wake(id) => self.wake(id),
                Task::Nothing => {}
            }
        }
        any
    }

    fn wake(&mut self, id: MachineId) {
        if let Some(process) = self.machines.get_mut(&id).and_then(|machine| machine.process.as_mut()) {
            process.dirty = true;
        }
    }

    /// Everyone who has something to do does it.
    fn turns(&mut self) -> Result<bool, Violation> {
        let mut any = false;
        for (id, machine) in &mut self.machines {
            let due = |process: &super::machine::Process| process.dirty || process.wake_at <= self.now;
            if machine.frozen || !machine.process.as_ref().is_some_and(due) {
                continue;
            }
            any = true;
            machine.run(self.now);
            if let Some(why) = super::host::stopped() {
                return Err(format!("replica {id} stopped by itself: {why}"));
            }
            let before = self.reference.applied();
            self.reference.look(machine)?;
            let (after, id) = (self.reference.applied(), *id);
            if after != before {
                self.trace.event(self.now, || format!("replica {id} is the first to apply {after}"));
            }
            if machine.up().port.is_some() {
                self.net.set_presence(id, Presence::Running);
            }
        }
        Ok(any)
    }

    fn start(&mut self, id: MachineId) {
        let options = self.options(id);
        let machine = self.machines.get_mut(&id).expect("a machine of that number");
        if machine.process.is_some() || self.removed.contains(&id) {
            return;
        }
        self.trace.event(self.now, || format!("replica {id} starts"));
        self.net.set_presence(id, Presence::NoProcess);
        machine.start(self.now, &self.net, &self.secrets, options);
    }

    fn options(&self, id: MachineId) -> Options {
        Options {
            id: ReplicaId(id),
            data_dir: self.dir.join(id.to_string()),
            // It is not listened on.
            listen_addr: Some(([127, 0, 0, 1], 1).into()),
            advertise_addr: address(id),
            peers: self.voters.iter().map(|id| (ReplicaId(*id), address(*id))).collect(),
            secret_path: "secret".into(),
            previous_secret_path: None,
            settings: crate::cluster::tests::settings(),
            noise_key_path: None,
            heartbeat_interval: Options::HEARTBEAT_INTERVAL,
            election_timeout: Options::ELECTION_TIMEOUT,
            snapshot_every: 40,
            keep_log: 12,
            compare_every: Options::COMPARE_EVERY,
            // It is done on threads of its own.
            scrub_interval: Duration::ZERO,
            disk_reserve: 0,
            slow_sync: Duration::ZERO,
            peer_handshakes: 256,
            autopilot: crate::cluster::Autopilot::default(),
        }
    }

    fn plan(&mut self, at: u64, fault: Fault) {
        self.planned += 1;
        self.agenda.insert((at, self.planned), fault);
    }

    fn trouble(&mut self) {
        let up: Vec<MachineId> =
            self.machines.values().filter(|m| m.process.is_some() && !m.frozen).map(|m| m.id).collect();
        if up.is_empty() {
            return;
        }
        let (fault, end) = self.nemesis.choose(&up);
        self.faults += 1;
        self.inflict(fault);
        if let Some((after, end)) = end {
            self.plan(self.now + after, end);
        }
    }

    fn inflict(&mut self, fault: Fault) {
        self.trace.event(self.now, || format!("fault: {fault:?}"));
        match fault {
            Fault::Kill(id) => self.end(id, Presence::NoProcess),
            Fault::LosePower(ids) => {
                for id in ids {
                    self.end(id, Presence::Off);
                    let disk = self.machines[&id].disk.clone();
                    disk.lose_power(self.nemesis.kept(disk.unsynced()));
                    let down = self.nemesis.down();
                    self.plan(self.now + down, Fault::Start(id));
                }
            }
            Fault::Start(id) => self.start(id),
            Fault::Freeze(id) => self.freeze(id, true),
            Fault::Thaw(id) => self.freeze(id, false),
            Fault::Stop(id) => self.stop(id),
            Fault::Cut(number, pairs) => {
                self.cuts.insert(number, pairs);
                self.net.set_cuts(self.cuts.values().flatten().copied().collect());
            }
            Fault::Heal(number) => {
                self.cuts.remove(&number);
                self.net.set_cuts(self.cuts.values().flatten().copied().collect());
            }
            Fault::Weather(weather) => self.net.set_weather(weather),
            Fault::SlowDisk(id) => {
                let (usual, stall) = self.nemesis.slow();
                self.machines[&id].disk.set_speed(usual, stall);
            }
            Fault::QuickDisk(id) => {
                self.machines[&id].disk.set_speed(Duration::from_millis(1), Duration::from_millis(80));
            }
            Fault::Skew(id, skew) => self.machines.get_mut(&id).expect("a machine of that number").skew = skew,
            Fault::Transfer => {
                self.at_some_edge(|edges, _| async move { drop(edges.cluster.transfer_leader(None).await) });
            }
            Fault::Snapshot(id) => {
                if let Some(replica) = self.machines[&id].up().replica {
                    let machine = self.machines.get_mut(&id).and_then(|machine| machine.process.as_mut());
                    let snapshot = async move { drop(replica.raft.trigger().snapshot().await) };
                    machine.expect("it is up").spawn(snapshot);
                }
            }
            Fault::Join => self.join(),
            Fault::Remove(id) => self.remove(id),
        }
    }

    fn end(&mut self, id: MachineId, presence: Presence) {
        // The network goes first: the dead say nothing.
        self.net.set_presence(id, presence);
        let (monotonic, real) = self.machines[&id].clocks(self.now);
        super::host::set_clocks(monotonic, real);
        self.machines.get_mut(&id).expect("a machine of that number").end();
        for client in 0..self.clients.len() {
            if self.clients[client].busy.as_ref().is_some_and(|busy| busy.machine == id) {
                self.answer(client, Answer::Unknown);
            }
        }
    }

    fn freeze(&mut self, id: MachineId, frozen: bool) {
        let machine = self.machines.get_mut(&id).expect("a machine of that number");
        if machine.process.is_none() || machine.frozen == frozen {
            return;
        }
        machine.frozen = frozen;
        let presence = match (frozen, machine.up().port.is_some()) {
            (true, _) => Presence::Frozen,
            (false, true) => Presence::Running,
            (false, false) => Presence::NoProcess,
        };
        self.net.set_presence(id, presence);
        self.wake(id);
    }

    fn stop(&mut self, id: MachineId) {
        let machine = self.machines.get_mut(&id).expect("a machine of that number");
        let (Some(edges), Some(process)) = (machine.up().edges, machine.process.as_mut()) else { return };
        let stopped = self.stopped.clone();
        process.spawn(async move {
            edges.shut_down().await;
            stopped.lock().unwrap_or_else(PoisonError::into_inner).push(id);
        });
    }

    /// Ends the processes that have stopped in order, and those that were removed.
    fn stop_processes(&mut self) {
        let stopped = std::mem::take(&mut *self.stopped.lock().unwrap_or_else(PoisonError::into_inner));
        for id in stopped {
            self.end(id, Presence::NoProcess);
            let down = self.nemesis.down();
            self.plan(self.now + down, Fault::Start(id));
        }
    }

    fn at_some_edge<F>(&mut self, work: impl FnOnce(super::machine::Edges, MachineId) -> F) -> Option<MachineId>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let serving = clients::serving(&self.machines);
        let id = (!serving.is_empty()).then(|| serving[self.rng.random_range(0..serving.len())])?;
        let machine = self.machines.get_mut(&id)?;
        let edges = machine.up().edges?;
        machine.process.as_mut()?.spawn(work(edges, id));
        Some(id)
    }

    fn join(&mut self) {
        let newest = self.machines.keys().copied().max().unwrap_or(0);
        let id = newest - JOINERS + 1 + self.joined;
        if self.joined == JOINERS || self.machines[&id].process.is_some() {
            return;
        }
        self.joined += 1;
        self.start(id);
        self.at_some_edge(|edges, _| async move {
            let add = || edges.cluster.add(ReplicaId(id), address(id));
            while add().await.is_err() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            while edges.cluster.promote(ReplicaId(id)).await.is_err() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
    }

    fn remove(&mut self, id: MachineId) {
        let Some(members) = self.membership() else { return };
        let voters = members.values().filter(|(_, voter)| *voter).count();
        if voters <= 3 || !members.contains_key(&ReplicaId(id)) {
            return;
        }
        self.at_some_edge(|edges, _| async move { drop(edges.cluster.remove(ReplicaId(id)).await) });
    }

    /// The members, as the replica says that has applied most.
    fn membership(&self) -> Option<BTreeMap<ReplicaId, (String, bool)>> {
        let replicas = self.machines.values().filter_map(|machine| machine.up().replica);
        let newest = replicas.max_by_key(|replica: &Arc<Replica>| *replica.feed.applied().borrow())?;
        Some(membership::members(newest.metrics().membership_config.membership()))
    }

    fn clients_ask(&mut self, end: u64) {
        let serving = clients::serving(&self.machines);
        for client in 0..self.clients.len() {
            if self.clients[client].busy.is_some() || self.clients[client].next > self.now || self.now >= end {
                continue;
            }
            self.clients[client].next = self.now + clients::pause(&mut self.rng);
            if serving.is_empty() {
                continue;
            }
            let id = serving[self.rng.random_range(0..serving.len())];
            let again = self.clients[client].again.take();
            let ask = again.unwrap_or_else(|| self.knowledge.choose(client, &mut self.rng));
            self.send(client, id, ask);
        }
    }

    fn send(&mut self, client: usize, id: MachineId, ask: Ask) {
        let Some(machine) = self.machines.get_mut(&id) else { return };
        let (start, edges) = (machine.starts, machine.up().edges);
        let (Some(edges), Some(process)) = (edges, machine.process.as_mut()) else { return };
        self.requests += 1;
        let request = self.requests;
        self.trace.event(self.now, || format!("client {client} asks replica {id}: {}", describe(&ask)));
        process.spawn(clients::ask(edges, ask.clone(), client, request, self.answers.clone()));
        self.clients[client].busy = Some(Busy { request, ask, machine: id, start, since: self.now });
    }

    /// Clients hear what was answered.
    fn hear(&mut self) -> Result<(), Violation> {
        let answers = std::mem::take(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner));
        for (client, request, answer) in answers {
            if self.clients[client].busy.as_ref().is_some_and(|busy| busy.request == request) {
                self.answer(client, answer);
            }
        }
        for (number, client) in self.clients.iter().enumerate() {
            let Some(busy) = &client.busy else { continue };
            let same = self.machines[&busy.machine].starts == busy.start;
            if same && self.now > busy.since + ANSWERED {
                return Err(format!("client {number} has no answer after {} s: {:?}", ANSWERED / 1000 / MS, busy.ask));
            }
        }
        Ok(())
    }

    fn answer(&mut self, client: usize, answer: Answer) {
        let Some(busy) = self.clients[client].busy.take() else { return };
        self.trace.event(self.now, || format!("client {client} hears {}", describe_answer(&answer)));
        self.knowledge.learn(client, &busy.ask, &answer);
        let failed = matches!(answer, Answer::Unknown | Answer::Never);
        let repeatable = matches!(&busy.ask, Ask::Write { key: Some(_), .. });
        if failed && repeatable && self.rng.random_bool(0.6) {
            self.clients[client].again = Some(busy.ask.clone());
        }
        self.clients[client].next = self.now + clients::pause(&mut self.rng);
        let (begun, ended) = (busy.since, (answer_is_known(&answer)).then_some(self.now));
        self.history.push(Operation { client, ask: busy.ask, begun, ended, answer });
    }

    fn has_begun(&mut self) -> bool {
        clients::serving(&self.machines).len() == self.voters.len()
    }

    /// Faults end, and everyone comes back.
    fn calm_down(&mut self) {
        self.trace.event(self.now, || "calm".into());
        self.agenda.clear();
        self.cuts.clear();
        self.net.set_cuts(BTreeSet::new());
        self.net.set_weather(Weather::FAIR);
        for id in self.machines.keys().copied().collect::<Vec<_>>() {
            self.inflict(Fault::QuickDisk(id));
            self.freeze(id, false);
            if self.machines[&id].starts > 0 {
                self.start(id);
            }
        }
    }

    /// All members have the same, are in touch, and no session is left of those that ended.
    fn is_whole(&mut self) -> bool {
        let Some(members) = self.membership() else { return false };
        if self.clients.iter().any(|client| client.busy.is_some()) || !self.agenda.is_empty() {
            return false;
        }
        let edges = members.keys().filter_map(|id| self.machines.get(&id.0)?.up().edges);
        let clusters: Vec<Cluster> = edges.map(|edges| edges.cluster).collect();
        let in_touch = |cluster: &Cluster| *cluster.quorum().borrow() && cluster.view().sessions().next().is_none();
        let index: BTreeSet<u64> = clusters.iter().map(|cluster| cluster.view().index()).collect();
        clusters.len() == members.len()
            && index.len() == 1
            && clusters.iter().all(in_touch)
            && clusters.iter().filter(|cluster| cluster.is_leader()).count() == 1
            && clusters.iter().map(|cluster| cluster.view().hash()).collect::<BTreeSet<_>>().len() == 1
    }

    fn describe(&self) -> String {
        let one = |machine: &Machine| {
            let replica = machine.up().replica?;
            let metrics = replica.metrics();
            let view = replica.feed.view();
            Some(format!(
                "replica {}: {:?} of term {}, last {:?}, applied {:?}, quorum {}, {} sessions",
                machine.id,
                metrics.state,
                metrics.current_term,
                metrics.last_log_index,
                metrics.last_applied.map(|id| id.index),
                replica.contact.has_quorum(),
                view.sessions().count(),
            ))
        };
        let lines: Vec<String> = self.machines.values().filter_map(one).collect();
        format!("members {:?}; {}", self.membership().map(|m| m.into_keys().collect::<Vec<_>>()), lines.join("; "))
    }
}

fn address(id: MachineId) -> String {
    format!("r{id}:1")
}

fn answer_is_known(answer: &Answer) -> bool {
    !matches!(answer, Answer::Unknown)
}

fn describe(ask: &Ask) -> String {
    match ask {
        Ask::Write { command, .. } => command.name().into(),
        Ask::Read => "a read".into(),
        Ask::Stream { node, hold, .. } => format!("a stream for node {node}, for {hold:?}"),
    }
}

fn describe_answer(answer: &Answer) -> String {
    match answer {
        Answer::Read(state) => format!("the state at {}", state.index()),
        other => format!("{other:?}"),
    }
}
