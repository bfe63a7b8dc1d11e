//! Commands that break something: a storm with all nodes connected, until everything is as
//! before; a restart of all servers with none.

use super::fanout::announce;
use super::report::{Restart, Storm};
use super::{Progress, Swarm};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long one attempt at a change may take while it is not known whether any works.
const ATTEMPT: Duration = Duration::from_millis(500);
/// And when all streams are back.
const EVERYONE: Duration = Duration::from_secs(10);

pub(super) async fn run(swarm: &Arc<Swarm>, command: &str, progress: &Progress) -> Storm {
    let bar = progress.start("storm", 3);
    let before: Vec<u64> = swarm.nodes().iter().map(|node| node.streams.load(Ordering::Relaxed)).collect();
    swarm.offline.store(0, Ordering::Relaxed);
    swarm.counting.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    let deadline = begun + swarm.plan.patience;
    let said = shell(command).await;
    let mut storm = Storm { command_said: said, ..Storm::default() };
    storm.first_write_s = until(deadline, first_write(swarm)).await.map(|()| begun.elapsed().as_secs_f64());
    bar.step();
    storm.all_streams_s = until(deadline, all_live(swarm)).await.map(|()| begun.elapsed().as_secs_f64());
    bar.step();
    let now = swarm.nodes();
    storm.streams_dropped =
        now.iter().zip(before).filter(|(n, before)| n.streams.load(Ordering::Relaxed) != *before).count();
    storm.all_know_s = until(deadline, all_know(swarm)).await.map(|()| begun.elapsed().as_secs_f64());
    bar.step();
    tokio::time::sleep(swarm.plan.watch_offline).await;
    swarm.counting.store(false, Ordering::Relaxed);
    storm.offline_marks = swarm.offline.load(Ordering::Relaxed);
    storm
}

/// Restarts all servers, and waits until all are well.
pub(super) async fn restart(swarm: &Arc<Swarm>, command: &str, progress: &Progress) -> Restart {
    let bar = progress.start("restart", 1);
    let begun = Instant::now();
    let well = async {
        // Until the command is over some of the servers are still the old ones.
        let said = shell(command).await;
        for server in &swarm.plan.servers {
            while !server.is_well().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        said
    };
    let said = tokio::time::timeout(swarm.plan.patience, well).await;
    let serving_s = said.is_ok().then(|| begun.elapsed().as_secs_f64());
    bar.step();
    swarm.look_for_processes();
    Restart { command_said: said.unwrap_or_default(), serving_s }
}

async fn until(deadline: Instant, done: impl Future<Output = ()>) -> Option<()> {
    tokio::time::timeout_at(deadline.into(), done).await.ok()
}

/// A change that is taken, tried from one node after the other.
async fn first_write(swarm: &Arc<Swarm>) {
    loop {
        let node = swarm.any_node();
        if !node.live.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        }
        node.choose_endpoint();
        if let Ok(Ok(())) = tokio::time::timeout(ATTEMPT, node.report(swarm)).await {
            return;
        }
    }
}

async fn all_live(swarm: &Arc<Swarm>) {
    while swarm.nodes().iter().any(|node| !node.live.load(Ordering::Relaxed)) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A change that reaches all others.
async fn all_know(swarm: &Arc<Swarm>) {
    loop {
        let others = swarm.nodes().len() - 1;
        let told = announce(swarm, &swarm.any_node(), EVERYONE).await;
        if told.is_ok_and(|told| told.missing == 0 && told.latencies.len() == others) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Runs a command; what it printed, and how it ended if it failed.
async fn shell(command: &str) -> String {
    let command = command.to_owned();
    let run = move || std::process::Command::new("sh").arg("-c").arg(command).output();
    match tokio::task::spawn_blocking(run).await {
        Ok(Ok(output)) => {
            let text = [&output.stdout[..], &output.stderr[..]].concat();
            let text = String::from_utf8_lossy(&text).trim().to_owned();
            if output.status.success() { text } else { format!("{text} ({})", output.status).trim().to_owned() }
        }
        Ok(Err(error)) => format!("it could not be run: {error}"),
        Err(error) => format!("it could not be run: {error}"),
    }
}
