//! Join, connect, idle, flap and leave.

use super::quantiles::Quantiles;
use super::report::{Connect, Flap, Idle, Join, Leave};
use super::{Progress, Swarm, each};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often it is looked whether all are there.
const LOOK: Duration = Duration::from_millis(20);
/// How long a node that flaps is away, and may need to be back.
const AWAY: Duration = Duration::from_millis(200);
const BACK: Duration = Duration::from_secs(20);
const MIB: f64 = 1024.0 * 1024.0;

/// Times that many tasks note.
#[derive(Clone, Default)]
struct Times(Arc<Mutex<Vec<Duration>>>);

impl Times {
    fn note(&self, time: Duration) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(time);
    }

    fn quantiles(&self) -> Quantiles {
        Quantiles::of(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// All nodes register.
pub(super) async fn join(swarm: &Arc<Swarm>, progress: &Progress) -> Join {
    let (times, failed) = (Times::default(), Arc::new(AtomicUsize::new(0)));
    let bar = progress.start("join", swarm.plan.nodes);
    let begun = Instant::now();
    each(swarm.nodes(), swarm.plan.concurrency, |node| {
        let (swarm, times, failed, bar) = (swarm.clone(), times.clone(), failed.clone(), bar.clone());
        async move {
            let begun = Instant::now();
            let registered = tokio::time::timeout(swarm.plan.patience, node.register(&swarm)).await;
            times.note(begun.elapsed());
            bar.step();
            let trouble = match registered {
                Ok(Ok(())) => return,
                Ok(Err(trouble)) => trouble.to_string(),
                Err(_) => "no answer in time".into(),
            };
            failed.fetch_add(1, Ordering::Relaxed);
            swarm.complain(format!("a node could not register: {trouble}"));
        }
    })
    .await;
    let per_s = swarm.plan.nodes as f64 / begun.elapsed().as_secs_f64();
    Join { per_s, failed: failed.load(Ordering::Relaxed), latency: times.quantiles() }
}

/// All nodes open their streams, until each knows all others.
pub(super) async fn connect(swarm: &Arc<Swarm>, progress: &Progress) -> Connect {
    let times = Times::default();
    let bar = progress.start("connect", swarm.plan.nodes);
    let begun = Instant::now();
    each(swarm.nodes(), swarm.plan.concurrency, |node| {
        let (swarm, times, bar) = (swarm.clone(), times.clone(), bar.clone());
        async move {
            let begun = Instant::now();
            let first = node.go(&swarm);
            if !matches!(tokio::time::timeout(swarm.plan.patience, first).await, Ok(Ok(()))) {
                swarm.complain("a node had no first map in time".into());
            }
            times.note(begun.elapsed());
            bar.step();
        }
    })
    .await;
    let all_streams_s = begun.elapsed().as_secs_f64();
    let nodes = swarm.nodes();
    let others = nodes.len().saturating_sub(1);
    let mut full = 0;
    let deadline = Instant::now() + swarm.plan.patience;
    while Instant::now() < deadline {
        full = nodes.iter().filter(|node| node.peers.load(Ordering::Relaxed) >= others).count();
        if full == nodes.len() {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    let bytes: u64 = nodes.iter().map(|node| node.bytes.load(Ordering::Relaxed)).sum();
    Connect {
        all_streams_s,
        all_peers_s: begun.elapsed().as_secs_f64(),
        nodes_with_all_peers: full,
        received_mib: bytes as f64 / MIB,
        latency: times.quantiles(),
    }
}

/// Nothing changes. `unconnected` is the servers' memory when all nodes were in state and
/// none was connected, in MiB.
pub(super) async fn idle(swarm: &Arc<Swarm>, unconnected: Option<f64>, progress: &Progress) -> Idle {
    let bar = progress.start("idle", usize::try_from(swarm.plan.idle.as_secs()).unwrap_or(usize::MAX));
    let before = swarm.used();
    let begun = Instant::now();
    while begun.elapsed() < swarm.plan.idle {
        tokio::time::sleep(Duration::from_secs(1).min(swarm.plan.idle)).await;
        bar.step();
    }
    let seconds = begun.elapsed().as_secs_f64();
    let after = swarm.used();
    let replicas = swarm.pids().len().max(1) as f64;
    let rss = after.usage().map(|usage| usage.rss_mib);
    Idle {
        seconds,
        cpu_percent_of_a_core_per_server: after.cpu_since(&before).map(|cpu| 100.0 * cpu / seconds / replicas),
        kib_per_node: rss.zip(unconnected).map(|(now, before)| (now - before) * 1024.0 / swarm.plan.nodes as f64),
    }
}

/// Nodes drop their stream and come back, one after the other.
pub(super) async fn flap(swarm: &Arc<Swarm>, progress: &Progress) -> Flap {
    let bar = progress.start("flap", swarm.plan.flaps);
    let mut back = Vec::new();
    for _ in 0..swarm.plan.flaps {
        let node = swarm.any_node();
        node.hang_up();
        tokio::time::sleep(AWAY).await;
        let begun = Instant::now();
        if let Ok(Ok(())) = tokio::time::timeout(BACK, node.go(swarm)).await {
            back.push(begun.elapsed());
        }
        bar.step();
    }
    Flap { returned: back.len(), latency: Quantiles::of(back) }
}

/// All nodes log out.
pub(super) async fn leave(swarm: &Arc<Swarm>, progress: &Progress) -> Leave {
    let nodes = swarm.nodes();
    let failed = Arc::new(AtomicUsize::new(0));
    let bar = progress.start("leave", nodes.len());
    each(nodes, swarm.plan.concurrency, |node| {
        let (swarm, failed, bar) = (swarm.clone(), failed.clone(), bar.clone());
        async move {
            let left = tokio::time::timeout(swarm.plan.patience, node.log_out(&swarm)).await;
            if !matches!(left, Ok(Ok(()))) {
                failed.fetch_add(1, Ordering::Relaxed);
            }
            node.hang_up();
            bar.step();
        }
    })
    .await;
    Leave { failed: failed.load(Ordering::Relaxed) }
}
