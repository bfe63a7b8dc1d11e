//! Netmaps: changes in, bytes out for each open stream of this replica.

use crate::cluster::{Cluster, WriteError};
use crate::dns::DnsSettings;
use crate::policy::Policies;
use crate::state::{NodeId, NodeUpdate};
use crate::tailcfg::{CapVer, DerpMap};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Serves the map streams of this replica. Cloning is cheap.
#[derive(Clone)]
pub struct Hub {
    _inner: Arc<()>,
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

/// The framed messages of one stream, in order: the first one is complete.
pub type MapStream = std::pin::Pin<Box<dyn futures::Stream<Item = Bytes> + Send>>;

impl Hub {
    /// Starts to follow the cluster's changes.
    pub fn start(_environment: Environment) -> Self {
        unimplemented!()
    }

    /// Opens a stream for a node: stores what came with the request, opens a
    /// session, and starts with a map made at or after the index of both. The
    /// session ends with the stream (dropping it is enough), after the grace.
    pub async fn open(&self, _update: NodeUpdate, _options: StreamOptions) -> Result<MapStream, WriteError> {
        unimplemented!()
    }

    /// A lite update: answered when it is applied. Many are gathered into one command.
    pub async fn update(&self, _update: NodeUpdate) -> Result<(), WriteError> {
        unimplemented!()
    }

    /// One framed map, without a stream. `None`: there is no such node (any more).
    pub fn snapshot(&self, _node: NodeId, _options: StreamOptions) -> Option<Bytes> {
        unimplemented!()
    }

    /// How many streams are open.
    pub fn streams(&self) -> usize {
        unimplemented!()
    }

    /// Ends all streams, spread over `over`; new ones are refused from now on.
    pub async fn drain(&self, _over: Duration) {
        unimplemented!()
    }
}
