//! Netmaps: changes in, bytes out for each open stream of this replica.
//!
//! [`Hub`] is the whole of it for others. Inside, a change goes this way:
//! `distribute` follows the cluster and marks what changed in the `mailbox` of
//! each stream that may see it; the `stream` takes its marks when its client
//! reads, `render`s what is newest, and `frame`s it. What clients report goes the
//! other way: `gather` makes commands of it. The `registry` knows which streams
//! there are, and `session` sees to it that a node is online while it has one.

mod bench;
mod derpmap;
mod dialplan;
mod distribute;
mod frame;
mod gather;
mod idset;
mod mailbox;
mod meters;
mod pace;
mod registry;
mod render;
mod round;
mod session;
mod splice;
mod stream;

pub(crate) use bench::{Bench, compressed_len};
pub use render::profile;
#[cfg(test)]
mod tests;

use crate::cluster::{Cluster, WriteError};
use crate::dns::DnsSettings;
use crate::policy::Policies;
use crate::state::{NodeId, NodeUpdate, Refused, Report};
use crate::tailcfg::{CapVer, DerpMap};
use bytes::Bytes;
use gather::Gatherer;
use mailbox::{End, Marks};
use meters::METERS;
use pace::Pace;
use registry::Registry;
use render::Renderer;
use session::Held;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long [`Hub::drain`] waits for the last streams to be let go of.
const DRAIN_PATIENCE: Duration = Duration::from_secs(1);

/// Serves the map streams of this replica. Cloning is cheap.
#[derive(Clone)]
pub struct Hub {
    inner: Arc<Inner>,
    /// What follows the cluster and the environment; ends with the last handle.
    _tasks: Arc<JoinSet<()>>,
}

struct Inner {
    cluster: Cluster,
    quorum: watch::Receiver<bool>,
    policies: Arc<Policies>,
    offline_grace: Duration,
    keep_alive: Duration,
    registry: Registry,
    renderer: Renderer,
    gatherer: Gatherer,
    pace: Pace,
    /// How many streams are in somebody's hands, ended ones too.
    bodies: watch::Sender<usize>,
    /// A stream may be dropped by a thread that runs no tasks.
    runtime: tokio::runtime::Handle,
}

/// What maps are made of beside the cluster's state.
pub struct Environment {
    pub cluster: Cluster,
    pub policies: Arc<Policies>,
    /// From `derp.urls` and `derp.paths`; the replicas' own relays are added from state.
    pub derp_map: watch::Receiver<Arc<DerpMap>>,
    pub dns: watch::Receiver<Arc<DnsSettings>>,
    /// `Domain`: the host name of `server_url`.
    pub domain: String,
    pub taildrop: bool,
    pub logtail: bool,
    pub auto_update: bool,
    /// How long a node whose stream ended counts as online (it may come back).
    pub offline_grace: Duration,
}

/// How one client wants its stream.
#[derive(Clone, Copy, Debug)]
pub struct StreamOptions {
    pub cap_ver: CapVer,
    /// `Compress: "zstd"`.
    pub zstd: bool,
    /// `KeepAlive: true`.
    pub keep_alive: bool,
    pub omit_peers: bool,
}

/// The framed messages of one stream, in order, cut anywhere: the first one is complete.
pub type MapStream = std::pin::Pin<Box<dyn futures::Stream<Item = Bytes> + Send>>;

impl Hub {
    /// Starts to follow the cluster's changes. Must be called inside of a runtime.
    pub fn start(environment: Environment) -> Self {
        Self::start_with(environment, stream::KEEP_ALIVE)
    }

    fn start_with(environment: Environment, keep_alive: Duration) -> Self {
        let cluster = environment.cluster.clone();
        let inner = Arc::new(Inner {
            quorum: cluster.quorum(),
            keep_alive,
            policies: environment.policies.clone(),
            offline_grace: environment.offline_grace,
            registry: Registry::new(cluster.clone()),
            renderer: Renderer::new(&environment),
            gatherer: Gatherer::start(cluster.clone()),
            pace: Pace::new(),
            bodies: watch::Sender::new(0),
            runtime: tokio::runtime::Handle::current(),
            cluster: cluster.clone(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(distribute::follow(inner.clone(), cluster.subscribe()));
        tasks.spawn(follow(inner.clone(), environment.derp_map, |marks| marks.derp_map = true));
        tasks.spawn(follow(inner.clone(), environment.dns, |marks| marks.dns = true));
        tasks.spawn(end_without_quorum(inner.clone()));
        Self { inner, _tasks: Arc::new(tasks) }
    }

    /// Opens a stream for a node: stores what came with the request, opens a
    /// session, and starts with a map made at or after the index of both. The
    /// session ends with the stream (dropping it is enough), after the grace.
    pub async fn open(&self, update: NodeUpdate, options: StreamOptions) -> Result<MapStream, WriteError> {
        let node = update.node;
        let held = Held::open(self.inner.clone(), update).await?;
        // Marks that come after this stay for the next message, unless the view has them.
        held.mailbox.take();
        let view = self.inner.cluster.view();
        let (first, sent) = self.inner.renderer.whole(&view, node, options).ok_or(Refused::NodeNotFound)?;
        held.mailbox.told_everything(view.index());
        self.inner.pace.made_map();
        let first = self.inner.renderer.frame(first, options.zstd);
        Ok(stream::stream(self.inner.clone(), held, options, first, sent))
    }

    /// A lite update: answered when it is applied. Many are gathered into one command.
    /// Dropping the future before the command is written takes the update back.
    pub async fn update(&self, update: NodeUpdate) -> Result<(), WriteError> {
        let done = self.inner.gatherer.report(Report::Update(update)).await;
        let counter = if done.is_ok() { &METERS.updates_ok } else { &METERS.updates_error };
        counter.increment(1);
        done
    }

    /// One framed map, without a stream. `None`: there is no such node (any more).
    pub fn snapshot(&self, node: NodeId, options: StreamOptions) -> Option<Bytes> {
        let (map, _) = self.inner.renderer.whole(&self.inner.cluster.view(), node, options)?;
        Some(self.inner.renderer.frame(map, options.zstd).concat().into())
    }

    /// How many streams are open.
    pub fn streams(&self) -> usize {
        self.inner.registry.count()
    }

    /// Ends all streams, spread over `over`; new ones are refused from now on.
    pub async fn drain(&self, over: Duration) {
        self.inner.registry.close();
        let streams = self.inner.registry.all();
        let pause = over / u32::try_from(streams.len().max(1)).unwrap_or(u32::MAX);
        // By the clock: a pause for each would add up to more on a machine that is busy.
        let mut next = tokio::time::Instant::now();
        for (stream, _) in streams {
            self.inner.end(stream, End::Stopping);
            next += pause;
            tokio::time::sleep_until(next).await;
        }
        let mut bodies = self.inner.bodies.subscribe();
        let _ = tokio::time::timeout(DRAIN_PATIENCE, bodies.wait_for(|bodies| *bodies == 0)).await;
    }
}

/// Marks all streams when something of the environment changed.
async fn follow<T>(inner: Arc<Inner>, mut what: watch::Receiver<T>, mark: fn(&mut Marks)) {
    while what.changed().await.is_ok() {
        let nodes = inner.cluster.view().node_count();
        for (_, mailbox) in inner.registry.all() {
            mailbox.mark(nodes, mark);
        }
    }
}

/// Without a quorum nobody knows what is true: clients go elsewhere.
async fn end_without_quorum(inner: Arc<Inner>) {
    let mut quorum = inner.quorum.clone();
    while quorum.wait_for(|is_there| !is_there).await.is_ok() {
        let streams = inner.registry.count();
        if streams > 0 {
            tracing::warn!(streams, "no quorum: all map streams of this replica end");
            inner.end_all(End::Stopping);
        }
        if quorum.wait_for(|is_there| *is_there).await.is_err() {
            return;
        }
    }
}

/// A lock whose data is good even if a holder panicked: each change of it is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
