//! A machine: a disk, two clocks, and perhaps a process of a replica with all that
//! serves clients on it. Each process has a runtime of its own, so a crash is its drop.

use super::disk::SimDisk;
use super::host;
use super::net::{MS, MachineId, Net};
use super::wire::{Dialer, Port};
use crate::cluster::peer::{Checker, Links, PeerInfo, PeerTls, Server, service};
use crate::cluster::replica::Replica;
use crate::cluster::secret::Secrets;
use crate::cluster::store::{Disk, Store};
use crate::cluster::{Cluster, Options, start};
use crate::dns::DnsSettings;
use crate::netmap::{Environment, Hub};
use crate::server::duties;
use crate::state::{COMMAND_FORMAT, Command, ReplicaId, Standing, Time};
use crate::tailcfg::DerpMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Nanoseconds that every machine has been up when the simulation begins.
const UPTIME: u64 = 1_000_000_000 * MS;
/// The day on which it begins, in nanoseconds since 1970.
const DAY: u64 = 1_790_000_000_000 * MS;
/// How long a node whose stream ended counts as online.
pub const OFFLINE_GRACE: Duration = Duration::from_secs(5);

/// A machine.
pub struct Machine {
    pub id: MachineId,
    pub disk: SimDisk,
    pub peer: PeerInfo,
    pub tls: PeerTls,
    /// Nanoseconds by which its clock is wrong.
    pub skew: i64,
    /// Parts of a million by which its clock is fast.
    pub drift: i64,
    pub process: Option<Process>,
    /// Stopped by a signal.
    pub frozen: bool,
    /// How many processes there were.
    pub starts: u64,
}

/// A running process.
pub struct Process {
    runtime: Option<Runtime>,
    slot: Slot,
    /// When it has something to do by itself.
    pub wake_at: u64,
    /// It was given something to do.
    pub dirty: bool,
    /// What it had applied when it was last looked at.
    pub applied: Option<u64>,
}

type Slot = Arc<Mutex<Up>>;

/// What a process shows, as it comes up.
#[derive(Clone, Default)]
pub struct Up {
    pub replica: Option<Arc<Replica>>,
    pub port: Option<Port>,
    /// There when clients are served.
    pub edges: Option<Edges>,
    store: Option<Arc<Store>>,
}

/// What serves clients.
#[derive(Clone)]
pub struct Edges {
    pub cluster: Cluster,
    pub hub: Hub,
    /// What the hub follows, though nothing of it changes here.
    _environment: Arc<Environs>,
    stop: CancellationToken,
}

type Environs = (watch::Sender<Arc<DerpMap>>, watch::Sender<Arc<DnsSettings>>);

impl Machine {
    pub fn clocks(&self, now: u64) -> (u64, u64) {
        let drifted = i128::from(now) + i128::from(now) * i128::from(self.drift) / 1_000_000;
        let real = i128::from(DAY) + drifted + i128::from(self.skew);
        let clip = |time: i128| u64::try_from(time).expect("a time after 1970");
        (clip(i128::from(UPTIME) + drifted), clip(real))
    }

    /// Starts a process.
    pub fn start(&mut self, now: u64, net: &Net, secrets: &Secrets, options: Options) {
        let (monotonic, real) = self.clocks(now);
        host::set_clocks(monotonic, real);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let slot = Slot::default();
        let (disk, net, keys) = (self.disk.clone(), net.clone(), (secrets.clone(), self.tls.clone()));
        let up = slot.clone();
        runtime.spawn(async move {
            if let Err(error) = boot(disk, net, keys, options, up).await {
                host::note_stop(&error.to_string());
            }
        });
        self.starts += 1;
        self.process = Some(Process { runtime: Some(runtime), slot, wake_at: now, dirty: true, applied: None });
    }

    /// Lets the process do what it can at this time.
    pub fn run(&mut self, now: u64) {
        let (monotonic, real) = self.clocks(now);
        let drift = self.drift;
        let Some(process) = &mut self.process else { return };
        host::set_clocks(monotonic, real);
        process.dirty = false;
        let runtime = process.runtime.as_ref().expect("it has not ended");
        let idle = runtime.block_on(host::idle());
        process.wake_at = idle.map_or(u64::MAX, |millis| {
            let own = u64::from(millis) * MS;
            // A fast clock gets there earlier.
            now + u64::try_from(i128::from(own) * 1_000_000 / (1_000_000 + i128::from(drift))).unwrap_or(own) + 1
        });
    }

    pub fn up(&self) -> Up {
        self.process.as_ref().map(Process::up).unwrap_or_default()
    }

    /// Ends the process at once.
    pub fn end(&mut self) {
        self.frozen = false;
        drop(self.process.take());
    }
}

impl Process {
    pub fn up(&self) -> Up {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Does something in the process.
    pub fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.dirty = true;
        self.runtime.as_ref().expect("it has not ended").spawn(task);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Tasks first: they use what else there is.
        drop(self.runtime.take());
    }
}

impl Edges {
    /// Stops in order, as the server does.
    pub async fn shut_down(self) {
        self.hub.drain(Duration::from_secs(1)).await;
        self.stop.cancel();
        self.cluster.shutdown().await;
    }
}

/// What `server::run` does, without its sockets.
async fn boot(
    disk: SimDisk,
    net: Net,
    keys: (Secrets, PeerTls),
    options: Options,
    up: Slot,
) -> Result<(), crate::cluster::StartError> {
    let id = options.id;
    let (store, machine, feed) = Store::on(Disk::simulated(disk), &options.data_dir, id)?;
    let links = Arc::new(Links::simulated(id, Dialer { net: net.clone(), from: id.0 }, feed.clone()));
    let replica = start::build(options, keys, links, (&store, machine, feed.clone())).await?;
    let service = service(Server::new(&replica), Checker { own: id, feed });
    let port = Port { service, net, runtime: tokio::runtime::Handle::current() };
    {
        let mut up = up.lock().unwrap_or_else(PoisonError::into_inner);
        up.replica = Some(replica.clone());
        up.port = Some(port);
        up.store = Some(Arc::new(store));
    }
    start::run(&replica).await?;
    let cluster = Cluster::of(replica);
    let (derp_map, derp_maps) = watch::channel(Arc::default());
    let (dns, all_dns) = watch::channel(Arc::default());
    let hub = Hub::start(Environment {
        cluster: cluster.clone(),
        policies: Arc::default(),
        derp_map: derp_maps,
        dns: all_dns,
        domain: "login.example.net".into(),
        taildrop: false,
        logtail: false,
        auto_update: false,
        offline_grace: OFFLINE_GRACE,
    });
    let stop = CancellationToken::new();
    tokio::spawn(announce(cluster.clone()));
    tokio::spawn(duties::run(cluster.clone(), OFFLINE_GRACE, stop.clone()));
    let edges = Edges { cluster, hub, _environment: Arc::new((derp_map, dns)), stop };
    up.lock().unwrap_or_else(PoisonError::into_inner).edges = Some(edges);
    Ok(())
}

/// Tells the cluster that this process is there.
async fn announce(cluster: Cluster) {
    let replica = crate::state::Replica {
        id: ReplicaId(cluster.id().0),
        incarnation: cluster.incarnation(),
        since: Time::now(),
        version: "simulated".into(),
        command_format: COMMAND_FORMAT,
        client_addresses: Vec::new(),
        relay: None,
        config_differs: Vec::new(),
        standing: Standing::Serving,
    };
    while cluster.view().settings().is_none() || cluster.write(Command::ReplicaUp(replica.clone())).await.is_err() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
