//! The relay as the rest of the server sees it.

use super::admit::Admit;
use super::bootstrap::Bootstrap;
use super::frame;
use super::meters::Meters;
use super::registry::Registry;
use crate::limits::{Crowd, Guest, Source};
use crate::metrics::Page;
use crate::tailcfg::{DerpMap, NodeKey, PrivateKey};
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long [`Relay::shutdown`] waits for last frames to be written.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);
/// Over how long clients that are told of a restart spread their return, so that
/// they do not all shake hands in one moment.
const RETURN_SPREAD: Duration = Duration::from_secs(2);
/// For how long those clients try this relay before they go on to another.
const RETURN_TRY_FOR: Duration = Duration::from_secs(5);
/// Connections that the debug page lists.
const LISTED_CLIENTS: usize = 500;

/// How a relay is set up.
pub struct Options {
    /// The relay's own key ([`super::load_or_make_key`]).
    pub key: PrivateKey,
    /// Who may use it.
    pub admit: Admit,
    /// What `/bootstrap-dns` answers.
    pub bootstrap: Bootstrap,
    /// How many different nodes may be connected. Each costs a file descriptor and some
    /// 50 KiB, and at most about 2 MiB while it does not read what it is sent.
    pub max_clients: usize,
    /// How many connections may be in their handshake. Each may cost a TLS handshake and some
    /// 50 KiB for as long as `HANDSHAKE_TIMEOUT`, and anyone can open them.
    pub max_newcomers: usize,
}

/// A relay. Cloning is cheap, and all clones are the same relay.
#[derive(Clone)]
pub struct Relay {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) key: PrivateKey,
    pub(super) admit: Admit,
    pub(super) bootstrap: Bootstrap,
    pub(super) registry: Registry,
    pub(super) meters: Meters,
    pub(super) stopping: CancellationToken,
    pub(super) tasks: TaskTracker,
    newcomers: Crowd,
    problem: Mutex<String>,
}

/// The right to be a connection that was not let in yet.
#[derive(Clone)]
pub(super) struct Newcomer(Arc<Guest>);

impl Newcomer {
    /// Returns when it has to make room for others.
    pub(super) async fn shown_out(&self) {
        self.0.shown_out().await;
    }
}

impl Relay {
    /// A relay without clients. Call it after [`crate::metrics::install`], or it counts nothing.
    pub fn new(options: Options) -> Self {
        let Options { key, admit, bootstrap, max_clients, max_newcomers } = options;
        let inner = Inner {
            key,
            admit,
            bootstrap,
            registry: Registry::new(max_clients),
            meters: Meters::new(),
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
            newcomers: Crowd::new(max_newcomers),
            problem: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The key that the relay shows to clients.
    pub fn public_key(&self) -> NodeKey {
        NodeKey(self.inner.key.public())
    }

    /// How many nodes are connected.
    pub fn clients(&self) -> usize {
        self.inner.registry.len()
    }

    /// Tells all clients, also those to come, that something is wrong with this relay; they
    /// show it to their users. An empty text: all is well again.
    pub fn set_problem(&self, problem: &str) {
        let mut current = self.inner.problem.lock().unwrap_or_else(PoisonError::into_inner);
        if *current != problem {
            *current = problem.to_owned();
            self.inner.registry.tell_all(|| frame::health(problem));
        }
    }

    /// What [`Relay::set_problem`] said last.
    pub(super) fn problem(&self) -> String {
        self.inner.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets nobody in any more, tells all clients that the relay restarts, and closes their
    /// connections. Returns when that is done, or after 3 s.
    pub async fn shutdown(&self) {
        self.inner.stopping.cancel();
        self.inner.registry.tell_all(|| {
            let reconnect_in = RETURN_SPREAD.mul_f64(rand::random());
            frame::restarting(reconnect_in, RETURN_TRY_FOR)
        });
        self.inner.registry.all().iter().for_each(|client| client.close.cancel());
        self.inner.tasks.close();
        // What is left after that is a client that does not read.
        let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, self.inner.tasks.wait()).await;
    }

    /// One more connection in its handshake. With too many, the address that has the most
    /// loses its oldest.
    pub(super) fn newcomer(&self, addr: IpAddr) -> Newcomer {
        Newcomer(Arc::new(self.inner.newcomers.enter(Source::of(addr))))
    }
}

/// `/debug/derp`: the regions that clients are given, and who is connected here.
/// `relay` is `None` on a replica without one.
pub fn debug_page(relay: Option<Relay>, map: watch::Receiver<Arc<DerpMap>>) -> Page {
    Page::text("derp", "Relay: regions and connected clients", move || {
        let mut text = regions(&map.borrow().clone());
        match &relay {
            Some(relay) => text.push_str(&clients(relay)),
            None => text.push_str("This replica has no relay.\n"),
        }
        text
    })
}

// Writing to a string cannot fail, so results are let go here.
fn regions(map: &DerpMap) -> String {
    let mut text = format!("{} regions from the configured maps\n", map.regions.len());
    for region in map.regions.values() {
        let hosts: Vec<_> = region.nodes.iter().map(|node| node.host_name.as_str()).collect();
        let _ = writeln!(
            text,
            "  {:5}  {}  {:?}  {}",
            region.region_id,
            region.region_code,
            region.region_name,
            hosts.join(" ")
        );
    }
    text
}

fn clients(relay: &Relay) -> String {
    let mut clients = relay.inner.registry.all();
    clients.sort_by_key(|client| client.since);
    let home = |client: &super::registry::Client| client.home.load(Ordering::Relaxed);
    let homes = clients.iter().filter(|client| home(client)).count();
    let problem = relay.problem();
    let mut text = format!(
        "\nrelay {}\nproblem: {}\n{} clients, {} connections, {homes} of them with their home here\n",
        relay.public_key(),
        if problem.is_empty() { "none" } else { &problem },
        relay.clients(),
        clients.len(),
    );
    for client in clients.iter().take(LISTED_CLIENTS) {
        let _ = writeln!(
            text,
            "  {}  {}  {} s  {} waiting  protocol {}{}{}",
            client.key.short(),
            client.addr,
            client.since.elapsed().as_secs(),
            client.outbox.len(),
            client.info.version,
            if home(client) { "  home" } else { "" },
            if client.info.is_prober { "  prober" } else { "" },
        );
    }
    if clients.len() > LISTED_CLIENTS {
        let _ = writeln!(text, "  and {} more", clients.len() - LISTED_CLIENTS);
    }
    text
}
