//! Connections to other replicas, kept open, made again when they break.

use super::MESSAGE_LIMIT;
use super::identity::Sender;
use super::tls::{self, PeerTls};
use crate::cluster::feed::Feed;
use crate::cluster::wire::peer_client::PeerClient;
use crate::state::ReplicaId;
use arc_swap::ArcSwap;
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

/// How long a connection may take to be made, handshake included.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// A connection on which a ping is not answered in time is closed: after a power
/// failure nothing else would say that the other end is gone.
const PING_EVERY: Duration = Duration::from_secs(2);
const PING_PATIENCE: Duration = Duration::from_secs(3);
/// HTTP/2 windows: enough for a fast link over some distance.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Connections that are remembered; members and their purposes are far fewer, so
/// beyond this all are forgotten, and made again when they are needed.
const LINKS: usize = 256;

/// A client of one replica.
pub type Client = PeerClient<InterceptedService<Transport, Sender>>;

#[cfg(not(test))]
type Transport = Channel;
#[cfg(test)]
type Transport = crate::cluster::sim::wire::Transport;

/// How connections are made.
enum Dialer {
    Tls(PeerTls),
    #[cfg(test)]
    Simulated(crate::cluster::sim::wire::Dialer),
}

/// What a connection is for: each has its own, so that a snapshot or a flood of log
/// entries cannot delay a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    Log,
    Heartbeat,
    Snapshot,
    /// Forwarded commands, reads, status, membership.
    Calls,
}

/// Why the last attempt to connect failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The port refuses: no process listens there.
    Refused,
    /// The two ends have different secrets.
    OtherSecret,
    /// Another replica is at that address.
    OtherReplica,
    /// Anything else, in words.
    Other(String),
}

type Peer = (ReplicaId, String);

/// All connections of this replica.
pub struct Links {
    own: ReplicaId,
    dialer: Dialer,
    secret_path: PathBuf,
    feed: Arc<Feed>,
    channels: Mutex<HashMap<(Peer, Purpose), Transport>>,
    problems: Arc<Mutex<HashMap<Peer, Problem>>>,
    members: ArcSwap<HashMap<ReplicaId, String>>,
}

impl Links {
    pub fn new(own: ReplicaId, tls: PeerTls, secret_path: PathBuf, feed: Arc<Feed>) -> Self {
        Self::over(Dialer::Tls(tls), own, secret_path, feed)
    }

    /// Over a network that is simulated.
    #[cfg(test)]
    pub fn simulated(own: ReplicaId, dialer: crate::cluster::sim::wire::Dialer, feed: Arc<Feed>) -> Self {
        Self::over(Dialer::Simulated(dialer), own, PathBuf::from("secret"), feed)
    }

    fn over(dialer: Dialer, own: ReplicaId, secret_path: PathBuf, feed: Arc<Feed>) -> Self {
        Self {
            own,
            dialer,
            secret_path,
            feed,
            channels: Mutex::default(),
            problems: Arc::default(),
            members: ArcSwap::default(),
        }
    }

    /// Where the members are, by the newest membership.
    pub fn set_members(&self, members: HashMap<ReplicaId, String>) {
        if **self.members.load() != members {
            self.members.store(Arc::new(members));
        }
    }

    /// Where a member is; `None`: it is none, as far as is known.
    pub fn member_address(&self, id: ReplicaId) -> Option<String> {
        self.members.load().get(&id).cloned()
    }

    /// A client for a replica at an address. Cheap: it connects when it is used, and
    /// shares the connection with the others for the same purpose. To be called on
    /// the runtime that the connection will live on.
    pub fn client(&self, target: ReplicaId, address: &str, purpose: Purpose) -> Client {
        let peer = (target, address.to_owned());
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if channels.len() >= LINKS {
            channels.clear();
        }
        let channel = channels.entry((peer.clone(), purpose)).or_insert_with(|| self.connect(peer)).clone();
        let sender = Sender { own: self.own, target, feed: self.feed.clone() };
        PeerClient::with_interceptor(channel, sender)
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT)
    }

    /// Why that replica cannot be reached, if the last attempt to connect failed.
    pub fn problem(&self, target: ReplicaId, address: &str) -> Option<Problem> {
        let problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        problems.get(&(target, address.to_owned())).cloned()
    }

    /// The same in words, for people.
    pub fn explain(&self, target: ReplicaId, address: &str) -> Option<String> {
        self.problem(target, address).map(|problem| problem.describe(target, address, &self.secret_path))
    }

    fn connect(&self, peer: Peer) -> Transport {
        match &self.dialer {
            #[cfg(not(test))]
            Dialer::Tls(tls) => self.connect_over(tls.clone(), peer),
            #[cfg(test)]
            Dialer::Tls(tls) => Transport::Real(self.connect_over(tls.clone(), peer)),
            #[cfg(test)]
            Dialer::Simulated(dialer) => {
                let (problems, secret_path) = (self.problems.clone(), self.secret_path.clone());
                let (target, address) = peer.clone();
                dialer.dial(target, address, move |error| note(&problems, &peer, &secret_path, error))
            }
        }
    }

    fn connect_over(&self, tls: PeerTls, peer: Peer) -> Channel {
        let (problems, secret_path) = (self.problems.clone(), self.secret_path.clone());
        let connector = tower::service_fn(move |_: http::Uri| {
            let (tls, problems, secret_path, peer) = (tls.clone(), problems.clone(), secret_path.clone(), peer.clone());
            async move {
                let result = dial(&tls, &peer).await;
                note(&problems, &peer, &secret_path, result.as_ref().err());
                result.map(TokioIo::new)
            }
        });
        // The connector has the address; this is only what the requests say.
        Endpoint::from_static("http://replica.quorumscale.internal")
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_PATIENCE)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .connect_with_connector_lazy(connector)
    }
}

/// Whether a call failed before anything of it was sent.
pub fn never_sent(status: &tonic::Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

async fn dial(tls: &PeerTls, (target, address): &Peer) -> io::Result<TlsStream<TcpStream>> {
    let connect = async {
        let stream = TcpStream::connect(address.as_str()).await?;
        stream.set_nodelay(true)?;
        tls.connector().connect(tls::server_name(*target), stream).await
    };
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {CONNECT_PATIENCE:?}"));
    tokio::time::timeout(CONNECT_PATIENCE, connect).await.map_err(late)?
}

/// Remembers why a replica cannot be reached, and logs when that changes.
fn note(
    problems: &Mutex<HashMap<Peer, Problem>>,
    peer: &Peer,
    secret_path: &std::path::Path,
    error: Option<&io::Error>,
) {
    let problem = error.map(Problem::of);
    let mut problems = problems.lock().unwrap_or_else(PoisonError::into_inner);
    if problems.get(peer) == problem.as_ref() {
        return;
    }
    if problems.len() >= LINKS {
        problems.clear();
    }
    match problem {
        None => {
            problems.remove(peer);
            tracing::info!("replica {} at {} can be reached", peer.0, peer.1);
        }
        Some(problem) => {
            tracing::warn!("{}", problem.describe(peer.0, &peer.1, secret_path));
            problems.insert(peer.clone(), problem);
        }
    }
}

impl Problem {
    fn of(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::ConnectionRefused {
            Self::Refused
        } else if tls::is_other_secret(error) {
            Self::OtherSecret
        } else if tls::is_other_replica(error) {
            Self::OtherReplica
        } else {
            Self::Other(error.to_string())
        }
    }

    fn describe(&self, id: ReplicaId, address: &str, secret_path: &std::path::Path) -> String {
        match self {
            Self::Refused => format!("replica {id} is not running at {address}: the port refuses connections"),
            Self::OtherSecret => format!(
                "replica {id} at {address} refuses our certificate: its secret differs from {}",
                secret_path.display()
            ),
            Self::OtherReplica => format!("the server at {address} is not replica {id}: correct the address"),
            Self::Other(reason) => format!("replica {id} at {address} cannot be reached: {reason}"),
        }
    }
}
