//! A load driver: many nodes in one process that speak the clients' protocol, and measure
//! how fast a server serves them. `quorumscale debug swarm` runs it, and `make bench`.
//!
//! It knows nothing of the server but its protocol. [`run`] goes through the phases in
//! order: `join`, a `restart`, `connect`, what changes cost (`fanout`, `flap`), a `storm`, and at
//! last the nodes log out. `connection` is one Noise connection with HTTP/2 inside, `frames` a map stream's
//! messages, `node` a client that holds its stream and comes back, `observe` what it
//! reads in messages without decoding their JSON.

mod bare;
mod connection;
mod fanout;
mod frames;
mod node;
mod observe;
mod phases;
mod processes;
mod progress;
mod quantiles;
mod report;
mod storm;

pub use connection::{Server, UnfitServer};
pub use progress::Progress;
pub use quantiles::Quantiles;
pub use report::{Bare, Connect, Fanout, Flap, Idle, Join, Kind, Leave, Phase, Report, Restart, Storm, Usage};

use arc_swap::ArcSwapOption;
use node::Node;
use observe::Watch;
use processes::Used;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

/// What the nodes claim to be: Tailscale 1.102 (protocol section 1.2).
const VERSION: u16 = 142;
/// Complaints that are kept; thousands of nodes may all have the same one.
const COMPLAINTS: usize = 10;

/// What to do.
pub struct Plan {
    /// The nodes are spread over them; a node whose stream broke goes to the next one.
    pub servers: Vec<Server>,
    pub keys: AuthKeys,
    pub nodes: usize,
    /// Registrations, and streams that open, at a time.
    pub concurrency: usize,
    /// Changes of each kind that are measured.
    pub rounds: usize,
    /// Streams that are dropped and opened again, one after the other.
    pub flaps: usize,
    /// How long nothing happens after all are connected, to see what idle streams cost.
    pub idle: Duration,
    /// A shell command that restarts all servers, to run with all nodes registered and
    /// none connected.
    pub restart: Option<String>,
    /// A shell command to run with all nodes connected.
    pub storm: Option<String>,
    /// The last phase before the nodes leave.
    pub until: Until,
    /// How long after the storm marks of offline peers are still counted.
    pub watch_offline: Duration,
    /// The servers' processes, whose memory and processor time are measured. `None`: those
    /// that listen where the servers are.
    pub pids: Option<Vec<u32>>,
    /// How long a phase may take.
    pub patience: Duration,
    /// How long it is quiet between two phases.
    pub settle: Duration,
    /// What the nodes' names begin with.
    pub prefix: String,
    /// Whether the nodes log out at the end; a server deletes ephemeral nodes then.
    pub leave: bool,
}

/// Where to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Until {
    Join,
    Connect,
    Fanout,
    /// All phases.
    Storm,
}

/// Nodes that join while changes are measured, one after the other: each is seen coming
/// online. Single-use keys are needed for them, too.
pub const SPARES: usize = 10;

/// What nodes register with.
pub enum AuthKeys {
    /// One reusable key.
    One(String),
    /// A single-use key for each node.
    Each(Vec<String>),
}

impl AuthKeys {
    /// The key of a node by its number; `None`: there are too few.
    fn of(&self, node: usize) -> Option<&str> {
        match self {
            Self::One(key) => Some(key),
            Self::Each(keys) => keys.get(node).map(String::as_str),
        }
    }
}

/// Keys are secrets.
impl std::fmt::Debug for AuthKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuthKeys(redacted)")
    }
}

/// Runs all phases. What fails in one shows in its figures and in the complaints; the
/// next ones are tried all the same.
pub async fn run(plan: Plan, progress: &Progress) -> Report {
    let swarm = Arc::new(Swarm::new(plan));
    let mut report = Report { nodes: swarm.plan.nodes, idle: swarm.used().usage(), ..Report::default() };
    perform(&swarm, &mut report, progress).await;
    swarm.stop();
    if swarm.plan.leave {
        report.leave = Some(swarm.phase(phases::leave(&swarm, progress)).await);
    }
    progress.done();
    report.complaints = swarm.complaints.lock().unwrap_or_else(PoisonError::into_inner).clone();
    report.driver_cpu_s = Used::by(&[std::process::id()]).usage().map(|usage| usage.cpu_s);
    report
}

async fn perform(swarm: &Arc<Swarm>, report: &mut Report, progress: &Progress) {
    let until = swarm.plan.until;
    report.join = Some(swarm.phase(phases::join(swarm, progress)).await);
    let mut unconnected = report.join.as_ref().and_then(|join| join.server_rss_mib);
    if let Some(command) = &swarm.plan.restart {
        swarm.nodes().iter().for_each(|node| node.hang_up());
        report.restart = Some(swarm.phase(storm::restart(swarm, command, progress)).await);
        // After the phase's rest, so that what a start leaves behind has settled.
        unconnected = swarm.used().usage().map(|usage| usage.rss_mib);
    }
    if until >= Until::Connect {
        report.connect = Some(swarm.phase(phases::connect(swarm, progress)).await);
        if !swarm.plan.idle.is_zero() {
            report.connected_idle = Some(swarm.phase(phases::idle(swarm, unconnected, progress)).await);
        }
    }
    if until >= Until::Fanout {
        report.fanout = Some(swarm.phase(fanout::run(swarm, progress)).await);
    }
    if until >= Until::Storm {
        report.flap = Some(swarm.phase(phases::flap(swarm, progress)).await);
        if let Some(command) = &swarm.plan.storm {
            report.storm = Some(swarm.phase(storm::run(swarm, command, progress)).await);
        }
    }
}

/// What all nodes share.
struct Swarm {
    plan: Plan,
    nodes: RwLock<Vec<Arc<Node>>>,
    /// What nodes look for in what they are sent.
    watch: ArcSwapOption<Watch>,
    /// Whether marks of offline peers are counted, and how many there were.
    counting: AtomicBool,
    offline: AtomicU64,
    stopped: AtomicBool,
    pids: Mutex<Vec<u32>>,
    complaints: Mutex<Vec<String>>,
}

impl Swarm {
    fn new(plan: Plan) -> Self {
        let nodes = (0..plan.nodes).map(|number| Node::new(number, &plan)).collect();
        let pids = plan.pids.clone().unwrap_or_else(|| Server::processes(&plan.servers));
        Self {
            pids: Mutex::new(pids),
            plan,
            nodes: RwLock::new(nodes),
            watch: ArcSwapOption::empty(),
            counting: AtomicBool::new(false),
            offline: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            complaints: Mutex::default(),
        }
    }

    /// The nodes that there are now.
    fn nodes(&self) -> Vec<Arc<Node>> {
        self.nodes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn any_node(&self) -> Arc<Node> {
        let nodes = self.nodes.read().unwrap_or_else(PoisonError::into_inner);
        nodes[rand::random_range(0..nodes.len())].clone()
    }

    fn add(&self, node: Arc<Node>) {
        self.nodes.write().unwrap_or_else(PoisonError::into_inner).push(node);
    }

    /// Does a phase, and adds what it cost.
    async fn phase<T>(&self, phase: impl Future<Output = T>) -> Phase<T> {
        let (before, begun) = (self.used(), std::time::Instant::now());
        let result = phase.await;
        let wall_s = begun.elapsed().as_secs_f64();
        let after = self.used();
        let server_cpu_s = after.cpu_since(&before);
        let server_rss_mib = after.usage().map(|usage| usage.rss_mib);
        tokio::time::sleep(self.plan.settle).await;
        Phase { wall_s, server_cpu_s, server_rss_mib, result }
    }

    /// What the servers have used so far.
    fn used(&self) -> Used {
        Used::by(&self.pids())
    }

    fn pids(&self) -> Vec<u32> {
        self.pids.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The servers are other processes now.
    fn look_for_processes(&self) {
        if self.plan.pids.is_none() {
            *self.pids.lock().unwrap_or_else(PoisonError::into_inner) = Server::processes(&self.plan.servers);
        }
    }

    fn complain(&self, complaint: String) {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        if complaints.len() < COMPLAINTS {
            complaints.push(complaint);
        }
    }

    fn stop(&self) {
        self.stopped.store(true, std::sync::atomic::Ordering::Relaxed);
        self.nodes().iter().for_each(|node| node.hang_up());
    }
}

/// Calls `work` for each node, `at_once` at a time, in order.
async fn each<F>(nodes: Vec<Arc<Node>>, at_once: usize, work: impl Fn(Arc<Node>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(tokio::sync::Semaphore::new(at_once.max(1)));
    let mut tasks = tokio::task::JoinSet::new();
    for node in nodes {
        let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
        let work = work(node);
        tasks.spawn(async move {
            work.await;
            drop(place);
        });
        while tasks.try_join_next().is_some() {}
    }
    while tasks.join_next().await.is_some() {}
}
