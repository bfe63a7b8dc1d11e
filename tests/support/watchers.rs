//! Nodes that hold their map streams, and move as Tailscale's Go client moves
//! (protocol sections 2.6 and 4.6), and that watch each other: every mark by which one
//! could be told that another is offline is compared with where that one really is.

use super::cluster::Cluster;
use super::stream::MapStream;
use super::ts2021::{Machine, Session, server_key};
use super::wait::eventually;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::Value;
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Without a frame for so long a Go client gives a stream up.
const WATCHDOG: Duration = Duration::from_secs(120);
/// How long it waits before it tries again: n² times this, by chance half or half as much again.
const BACK_OFF: Duration = Duration::from_millis(10);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(30);
/// A dial without a plan.
const DIAL: Duration = Duration::from_secs(10);
/// By then everybody has heard that a node is back.
const NEWS: Duration = Duration::from_secs(2);
/// All streams are there by then, when nothing is wrong.
const UP: Duration = Duration::from_secs(60);

/// A stream that ended.
#[derive(Clone, Debug)]
pub struct Ended {
    pub node: usize,
    pub at: Instant,
    /// The replica that had it.
    pub replica: u64,
    pub why: String,
    /// When, and where, the next one had its first map.
    pub back: Option<(Instant, u64)>,
    /// Requests that failed before.
    pub failed: u32,
}

/// A peer was shown as offline to another node.
#[derive(Clone, Debug)]
pub struct Mark {
    pub at: Instant,
    /// Who was told so, and of whom.
    pub by: usize,
    pub of: usize,
    /// In which part of which message.
    pub form: &'static str,
    /// For how long the node had been without a stream; `None`: it had one.
    pub away: Option<Duration>,
    /// How long it was away the last time, and for how long it had been back.
    pub returned: Option<(Duration, Duration)>,
    /// The replica that told it, and the one that has the node's stream.
    pub told_by: Option<u64>,
    pub at_replica: Option<u64>,
}

/// Nodes that register at one time: what is tested comes afterwards.
const JOINING: usize = 100;

/// Any number of nodes; dropping it ends them.
pub struct Watchers {
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    /// The replicas, by address.
    replicas: HashMap<Ipv4Addr, u64>,
    server_key: [u8; 32],
    /// The nodes' numbers here, by their ids.
    numbers: Mutex<HashMap<u64, usize>>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// For each node.
    places: Vec<Place>,
    ended: Vec<Ended>,
    marks: Vec<Mark>,
    /// What no right server does.
    wrong: Vec<String>,
}

#[derive(Clone, Debug)]
struct Place {
    /// Where its stream is.
    at: Option<u64>,
    /// Since when it has been there, or nowhere.
    since: Instant,
    /// How long it was nowhere before that.
    away: Option<Duration>,
    /// The names of nodes, as it was told last.
    names: HashMap<u64, String>,
}

impl Watchers {
    /// Registers `count` nodes, each at one of the replicas `homes`, and returns when each has its stream.
    pub async fn start(cluster: &Cluster, homes: &[u64], count: usize, auth_key: &str) -> Watchers {
        let now = Instant::now();
        let nowhere = Place { at: None, since: now, away: None, names: HashMap::new() };
        let shared = Arc::new(Shared {
            // Also those that are yet to come.
            replicas: (1..=u64::from(u8::MAX)).map(|id| (cluster.address_of(id), id)).collect(),
            server_key: server_key(&cluster.url(homes[0])).await,
            numbers: Mutex::default(),
            seen: Mutex::new(Seen { places: vec![nowhere; count], ..Seen::default() }),
        });
        let mut joining = JoinSet::new();
        let slots = Arc::new(tokio::sync::Semaphore::new(JOINING));
        for number in 0..count {
            let (shared, auth_key, slots) = (shared.clone(), auth_key.to_owned(), slots.clone());
            let home = cluster.address(homes[number % homes.len()]);
            joining.spawn(async move {
                let _slot = slots.acquire().await.expect("it is never closed");
                let machine = Machine::new(&format!("watcher-{number}"));
                let registered = machine.register(home, &shared.server_key, &auth_key).await;
                let registered = registered.unwrap_or_else(|e| panic!("watcher {number} registers: {e}"));
                assert!(registered.accepted(), "watcher {number} registers: {registered:?}");
                Watcher { number, machine, home, plan: Vec::new(), session: None, fails: 0, shared }
            });
        }
        let watchers = joining.join_all().await;
        let mut tasks = JoinSet::new();
        for watcher in watchers {
            tasks.spawn(watcher.run());
        }
        let watchers = Watchers { shared, _tasks: tasks };
        watchers.all_up().await;
        watchers
    }

    /// Until every node has a stream.
    pub async fn all_up(&self) {
        let up = || self.shared.seen().places.iter().all(|place| place.at.is_some());
        eventually("every stream is up", UP, up).await;
    }

    pub fn count(&self) -> usize {
        self.shared.seen().places.len()
    }

    /// Streams that ended so far.
    pub fn ended(&self) -> Vec<Ended> {
        self.shared.seen().ended.clone()
    }

    /// Offline marks of nodes that were there, or had not been away for longer than `grace`.
    pub fn false_marks(&self, grace: Duration) -> Vec<Mark> {
        let wrong = |mark: &&Mark| match (mark.away, mark.returned) {
            (Some(away), _) => away < grace,
            // Of one that was away for too long, the news that it is back may still be on its way.
            (None, Some((away, back))) => away < grace || back > NEWS,
            (None, None) => true,
        };
        self.shared.seen().marks.iter().filter(wrong).cloned().collect()
    }

    pub fn wrong(&self) -> Vec<String> {
        self.shared.seen().wrong.clone()
    }

    /// Nodes whose streams are at this replica.
    pub fn at(&self, replica: u64) -> Vec<usize> {
        let places = &self.shared.seen().places;
        (0..places.len()).filter(|n| places[*n].at == Some(replica)).collect()
    }

    /// A node's id in the cluster; it has had a map.
    pub fn id(&self, number: usize) -> u64 {
        let numbers = self.shared.numbers.lock().expect("nobody panics while it is held");
        let found = numbers.iter().find(|(_, n)| **n == number);
        *found.expect("it has had a map").0
    }

    /// Nodes that have not been told yet that this one has that name.
    pub fn unaware(&self, id: u64, name: &str) -> Vec<usize> {
        let places = &self.shared.seen().places;
        let knows = |place: &Place| place.names.get(&id).is_some_and(|known| known == name);
        (0..places.len()).filter(|n| !knows(&places[*n])).collect()
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("nobody panics while it is held")
    }

    fn number(&self, id: u64) -> Option<usize> {
        self.numbers.lock().expect("nobody panics while it is held").get(&id).copied()
    }
}

/// One node.
struct Watcher {
    number: usize,
    machine: Machine,
    /// The address of its login URL.
    home: Ipv4Addr,
    plan: Vec<Candidate>,
    session: Option<(Session, u64)>,
    fails: u32,
    shared: Arc<Shared>,
}

#[derive(Clone, Copy)]
struct Candidate {
    address: Ipv4Addr,
    delay: Duration,
    timeout: Duration,
}

impl Watcher {
    async fn run(mut self) {
        loop {
            match self.open().await {
                Ok((stream, replica)) => self.follow(stream, replica).await,
                Err(error) => {
                    if error.contains("map: 4") {
                        let what = format!("watcher {} was refused: {error}", self.number);
                        self.shared.seen().wrong.push(what);
                    }
                    self.fails += 1;
                }
            }
            self.fails = self.fails.max(1);
            let wait = (BACK_OFF * self.fails.pow(2)).mul_f64(0.5 + f64::from(rand::random::<u16>()) / 65_536.0);
            tokio::time::sleep(wait.min(LONGEST_BACK_OFF)).await;
        }
    }

    /// Asks on the connection that is open, else dials.
    async fn open(&mut self) -> Result<(MapStream, u64), String> {
        let open = self.session.take().filter(|(session, _)| !session.is_closed());
        let (mut session, replica) = match open {
            Some(open) => open,
            None => self.dial().await?,
        };
        let stream = match tokio::time::timeout(WATCHDOG, session.map(&self.machine)).await {
            Ok(stream) => stream,
            Err(_) => return Err("map: no answer".into()),
        };
        // A refusal leaves the connection as it is.
        let refused = stream.as_ref().is_err_and(|e| e.starts_with("map: ") && e[5..].starts_with(['4', '5']));
        if stream.is_ok() || refused {
            self.session = Some((session, replica));
        }
        Ok((stream?, replica))
    }

    /// All candidates, each after its delay: the first that completes the upgrade.
    async fn dial(&self) -> Result<(Session, u64), String> {
        let whole = self.plan.iter().map(|candidate| candidate.delay + candidate.timeout).max();
        let whole = whole.map_or(DIAL, |plan| (plan + Duration::from_secs(5)).clamp(DIAL / 2, DIAL * 6));
        let mut racing: FuturesUnordered<_> = self.plan.iter().map(|candidate| self.try_one(*candidate)).collect();
        let race = async {
            while let Some(result) = racing.next().await {
                if result.is_ok() {
                    return result;
                }
            }
            self.try_one(Candidate { address: self.home, delay: Duration::ZERO, timeout: DIAL }).await
        };
        tokio::time::timeout(whole, race).await.unwrap_or_else(|_| Err("no replica answers".into()))
    }

    async fn try_one(&self, candidate: Candidate) -> Result<(Session, u64), String> {
        tokio::time::sleep(candidate.delay).await;
        let open = Session::open(candidate.address, &self.shared.server_key, &self.machine);
        let session = tokio::time::timeout(candidate.timeout, open).await.map_err(|_| "a candidate timed out")??;
        let replica = self.shared.replicas.get(&candidate.address).copied();
        Ok((session, replica.ok_or_else(|| format!("{} is no replica", candidate.address))?))
    }

    async fn follow(&mut self, mut stream: MapStream, replica: u64) {
        let mut first = true;
        let why = loop {
            let message = match tokio::time::timeout(WATCHDOG, stream.next()).await {
                Err(_) => {
                    let what = format!("watcher {} sat on a silent stream of replica {replica}", self.number);
                    self.shared.seen().wrong.push(what);
                    break "silent".into();
                }
                Ok(Err(why)) => break why,
                Ok(Ok(message)) => message,
            };
            if message["KeepAlive"] == true {
                continue;
            }
            if std::mem::take(&mut first) {
                self.first(&message, replica);
            }
            self.read(&message);
        };
        if first {
            self.fails += 1;
            return;
        }
        let now = Instant::now();
        let mut seen = self.shared.seen();
        let place = &mut seen.places[self.number];
        (place.at, place.since) = (None, now);
        seen.ended.push(Ended { node: self.number, at: now, replica, why, back: None, failed: 0 });
    }

    /// A whole map: this node is there.
    fn first(&mut self, message: &Value, replica: u64) {
        let failed = std::mem::take(&mut self.fails);
        let Some(id) = message["Node"]["ID"].as_u64() else {
            let what = format!("watcher {}: a first message without a node: {message}", self.number);
            return self.shared.seen().wrong.push(what);
        };
        self.shared.numbers.lock().expect("nobody panics while it is held").insert(id, self.number);
        let known: Vec<u64> = {
            let seen = self.shared.seen();
            let numbers = self.shared.numbers.lock().expect("nobody panics while it is held");
            // Those whom it knew: they were there before.
            numbers.keys().copied().filter(|id| seen.places[self.number].names.contains_key(id)).collect()
        };
        let peers: Vec<u64> = list(&message["Peers"]).iter().filter_map(|peer| peer["ID"].as_u64()).collect();
        for missing in known.into_iter().filter(|other| *other != id && !peers.contains(other)) {
            self.mark(missing, "not in a full map");
        }
        let now = Instant::now();
        let mut seen = self.shared.seen();
        let place = &mut seen.places[self.number];
        // Who was never there before was rightly offline until now.
        let was_there = !place.names.is_empty();
        place.away = place.at.is_none().then(|| if was_there { now - place.since } else { Duration::MAX });
        (place.at, place.since) = (Some(replica), now);
        let mine = seen.ended.iter_mut().rev().find(|ended| ended.node == self.number);
        if let Some(ended) = mine.filter(|ended| ended.back.is_none()) {
            (ended.back, ended.failed) = (Some((now, replica)), failed.saturating_sub(1));
        }
    }

    fn read(&mut self, message: &Value) {
        let plan = list(&message["ControlDialPlan"]["Candidates"]);
        if !plan.is_empty() {
            self.plan = plan.iter().filter_map(candidate).collect();
        }
        if message["Node"].is_object() {
            self.learn(&message["Node"]);
        }
        for (field, form) in [("Peers", "full map"), ("PeersChanged", "PeersChanged")] {
            for peer in list(&message[field]) {
                self.learn(peer);
                if let (Some(id), false) = (peer["ID"].as_u64(), peer["Online"] == true) {
                    self.mark(id, form);
                }
            }
        }
        for gone in list(&message["PeersRemoved"]) {
            gone.as_u64().inspect(|id| self.mark(*id, "PeersRemoved"));
        }
        for patch in list(&message["PeersChangedPatch"]) {
            if let (Some(id), true) = (patch["NodeID"].as_u64(), patch["Online"] == false) {
                self.mark(id, "PeersChangedPatch");
            }
        }
        for form in ["OnlineChange", "PeerSeenChange"] {
            for (id, _) in message[form].as_object().into_iter().flatten().filter(|(_, value)| **value == false) {
                id.parse().into_iter().for_each(|id| self.mark(id, form));
            }
        }
    }

    fn learn(&self, node: &Value) {
        let name = node["Name"].as_str().unwrap_or_default().split('.').next().unwrap_or_default();
        if let Some(id) = node["ID"].as_u64() {
            self.shared.seen().places[self.number].names.insert(id, name.into());
        }
    }

    /// This node is told that another is offline.
    fn mark(&self, id: u64, form: &'static str) {
        // Other nodes may come and go; and who has never been there yet may be offline.
        let Some(of) = self.shared.number(id).filter(|of| *of != self.number) else { return };
        let mut seen = self.shared.seen();
        let place = &seen.places[of];
        if place.at.is_none() && place.names.is_empty() {
            return;
        }
        let away = place.at.is_none().then(|| place.since.elapsed());
        let returned = place.away.filter(|_| place.at.is_some()).map(|away| (away, place.since.elapsed()));
        let (told_by, at_replica) = (seen.places[self.number].at, place.at);
        let mark = Mark { at: Instant::now(), by: self.number, of, form, away, returned, told_by, at_replica };
        seen.marks.push(mark);
    }
}

fn candidate(value: &Value) -> Option<Candidate> {
    let seconds = |field: &str| Duration::from_secs_f64(value[field].as_f64().unwrap_or(0.0).max(0.0));
    Some(Candidate {
        address: value["IP"].as_str()?.parse().ok()?,
        delay: seconds("DialStartDelaySec"),
        timeout: seconds("DialTimeoutSec"),
    })
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
