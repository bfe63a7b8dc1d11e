//! Fan-out: one node changes, until all others know.

use super::node::Node;
use super::observe::Watch;
use super::quantiles::Quantiles;
use super::report::{Fanout, Kind};
use super::{Progress, SPARES, Swarm, bare};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a change may need to reach everyone.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long what came with a new node may take to be over, before its next change is measured.
const QUIET: Duration = Duration::from_millis(300);
/// What encryption and HTTP/2 add to a message: a record's header and tag, a frame's header.
const ENVELOPE: usize = 3 + 16 + 9;

/// Changes of endpoints, and a bare TCP fan-out of the same bytes; then changes of home
/// relays, and nodes that come online.
pub(super) async fn run(swarm: &Arc<Swarm>, progress: &Progress) -> Fanout {
    let has_key = |spare: &usize| swarm.plan.keys.of(swarm.plan.nodes + spare).is_some();
    let spares = (0..swarm.plan.rounds.min(SPARES)).take_while(has_key).count();
    let bar = progress.start("fanout", swarm.plan.rounds * 2 + spares);
    let received = || swarm.nodes().iter().map(|node| node.bytes.load(Ordering::Relaxed)).sum::<u64>();
    let before = received();
    let mut endpoint = Rounds::default();
    for _ in 0..swarm.plan.rounds {
        let node = swarm.any_node();
        endpoint.add(swarm, announce(swarm, &node, PATIENCE).await);
        bar.step();
    }
    let endpoint = endpoint.kind();
    let bytes = match endpoint.deliveries {
        0 => 0,
        deliveries => (received() - before) as usize / deliveries,
    };
    let readers = swarm.plan.nodes.saturating_sub(1);
    let bare = match bare::fan_out(bytes + ENVELOPE, readers, swarm.plan.rounds).await {
        Ok(bare) => Some(bare),
        Err(error) => {
            swarm.complain(format!("a bare TCP fan-out to {readers} readers: {error}: raise ulimit -n"));
            None
        }
    };

    let mut relay = Rounds::default();
    for _ in 0..swarm.plan.rounds {
        relay.add(swarm, change_relay(swarm, &swarm.any_node()).await);
        bar.step();
    }
    let mut online = Rounds::default();
    for _ in 0..spares {
        online.add(swarm, come_online(swarm).await);
        bar.step();
    }
    Fanout {
        bytes_per_message: bytes,
        ratio_p50: ratio(endpoint.latency.p50_ms, bare.as_ref().and_then(|bare| bare.latency.p50_ms)),
        ratio_p99: ratio(endpoint.latency.p99_ms, bare.as_ref().and_then(|bare| bare.latency.p99_ms)),
        endpoint,
        bare,
        relay: relay.kind(),
        online: online.kind(),
    }
}

fn ratio(ours: Option<f64>, bare: Option<f64>) -> Option<f64> {
    let bare = bare.filter(|bare| *bare > 0.0)?;
    Some(ours? / bare)
}

/// What became of one change.
pub(super) struct Told {
    pub latencies: Vec<Duration>,
    pub missing: usize,
}

/// Changes a node's endpoint, and waits until all others that are live have it.
pub(super) async fn announce(swarm: &Arc<Swarm>, node: &Arc<Node>, patience: Duration) -> Result<Told, String> {
    let token = node.choose_endpoint();
    spread(swarm, node, &[token], patience, node.report(swarm)).await
}

async fn change_relay(swarm: &Arc<Swarm>, node: &Arc<Node>) -> Result<Told, String> {
    let id = known(node)?;
    let relay = node.choose_relay();
    // As a patch, or in the whole node, which has its name before its relay.
    let tokens = [format!("\"NodeID\":{id},\"DERPRegion\":{relay}"), format!("\"HomeDERP\":{relay},")];
    spread(swarm, node, &tokens, PATIENCE, node.report(swarm)).await
}

/// A new node, of which everything else is known already, opens its first stream.
async fn come_online(swarm: &Arc<Swarm>) -> Result<Told, String> {
    let node = Node::new(swarm.nodes().len(), &swarm.plan);
    let text = |error: super::connection::Trouble| error.to_string();
    node.register(swarm).await.map_err(text)?;
    node.report(swarm).await.map_err(text)?;
    node.look_up(swarm).await.map_err(text)?;
    let id = known(&node)?;
    swarm.add(node.clone());
    tokio::time::sleep(QUIET).await;
    let tokens = [format!("\"NodeID\":{id},"), format!("\"ID\":{id},"), format!("\"{id}\":true")];
    let come = async {
        node.go(swarm);
        Ok(())
    };
    spread(swarm, &node, &tokens, PATIENCE, come).await
}

fn known(node: &Node) -> Result<u64, String> {
    match node.id.load(Ordering::Relaxed) {
        0 => Err("a node was never told its own id".into()),
        id => Ok(id),
    }
}

/// Makes a change, and waits until the others have seen a token of it.
async fn spread(
    swarm: &Arc<Swarm>,
    node: &Node,
    tokens: &[String],
    patience: Duration,
    change: impl Future<Output = Result<(), super::connection::Trouble>>,
) -> Result<Told, String> {
    let watch = Arc::new(Watch::new(swarm, tokens, node.number));
    swarm.watch.store(Some(watch.clone()));
    let told = async {
        change.await.map_err(|error| error.to_string())?;
        watch.wait(patience).await;
        Ok(Told { latencies: watch.latencies(), missing: watch.missing() })
    };
    let told = tokio::time::timeout(patience, told).await;
    swarm.watch.store(None);
    told.unwrap_or_else(|_| Ok(Told { latencies: watch.latencies(), missing: watch.missing() }))
}

#[derive(Default)]
struct Rounds {
    all: Vec<Duration>,
    last: Vec<Duration>,
    missing: usize,
    errors: usize,
}

impl Rounds {
    fn add(&mut self, swarm: &Swarm, told: Result<Told, String>) {
        match told {
            Ok(told) => {
                self.last.extend(told.latencies.iter().max());
                self.missing += told.missing;
                self.all.extend(told.latencies);
            }
            Err(error) => {
                self.errors += 1;
                swarm.complain(format!("a change: {error}"));
            }
        }
    }

    fn kind(self) -> Kind {
        let last = Quantiles::of(self.last);
        Kind {
            deliveries: self.all.len(),
            missing: self.missing,
            errors: self.errors,
            last_p50_ms: last.p50_ms,
            last_p99_ms: last.p99_ms,
            latency: Quantiles::of(self.all),
        }
    }
}
