//! Gathers what clients report into few, large commands.
//!
//! One command is under way at a time, and what arrives meanwhile goes with the
//! next one: a storm of reconnects costs a few commands, and a single client does
//! not wait.

use super::meters::METERS;
use crate::cluster::{Cluster, Unavailable, WriteError};
use crate::state::{Command, Done, Report};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How long the first report of a command waits for company, if the command before had
/// several: one that comes alone waits for nobody.
const PAUSE: Duration = Duration::from_millis(5);
/// Reports in one command.
const BATCH: usize = 1024;
/// Bytes in one command, roughly: a log entry that is sent and synced in one go, and
/// is well below what a message between replicas may have. One report has at most
/// some 140 KiB.
const BATCH_BYTES: usize = 1 << 20;
/// Reports that wait for their turn; who comes later waits for a place.
const WAITING: usize = 8192;

/// Takes reports. Cloning is cheap; the work ends with the last one.
#[derive(Clone)]
pub(super) struct Gatherer {
    waiting: mpsc::Sender<Item>,
}

struct Item {
    report: Report,
    answer: oneshot::Sender<Result<(), WriteError>>,
}

impl Gatherer {
    /// Starts the task that writes commands.
    pub fn start(cluster: Cluster) -> Self {
        let (waiting, queue) = mpsc::channel(WAITING);
        tokio::spawn(run(cluster, queue));
        Self { waiting }
    }

    /// Reports one thing; answered when it is applied here. Reports are applied in
    /// the order in which this was called. One whose caller is gone before its
    /// command is written is dropped, so nothing is applied late.
    pub async fn report(&self, report: Report) -> Result<(), WriteError> {
        let (answer, answered) = oneshot::channel();
        let gone = |_| Unavailable::Stopping;
        self.waiting.send(Item { report, answer }).await.map_err(|_| Unavailable::Stopping)?;
        answered.await.map_err(gone)?
    }
}

async fn run(cluster: Cluster, mut queue: mpsc::Receiver<Item>) {
    let mut items = VecDeque::with_capacity(BATCH);
    let mut pause = Duration::ZERO;
    loop {
        if items.is_empty() {
            let Some(item) = queue.recv().await else { return };
            items.push_back(item);
        }
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        while items.len() < BATCH
            && let Ok(item) = queue.try_recv()
        {
            items.push_back(item);
        }
        items.retain(|item| !item.answer.is_closed());
        METERS.reports_waiting.set((items.len() + queue.len()) as f64);
        let (reports, answers): (Vec<_>, Vec<_>) =
            next_batch(&mut items).map(|item| (item.report, item.answer)).unzip();
        pause = if reports.len() > 1 { PAUSE } else { Duration::ZERO };
        if !reports.is_empty() {
            METERS.report_batch.record(reports.len() as f64);
            write(&cluster, reports, answers).await;
            METERS.reports_waiting.set((items.len() + queue.len()) as f64);
        }
    }
}

/// The reports that go into the next command, in order.
fn next_batch(items: &mut VecDeque<Item>) -> impl Iterator<Item = Item> + '_ {
    let mut bytes = 0;
    let fits = |item: &&Item| {
        let is_first = bytes == 0;
        bytes += size(&item.report);
        is_first || bytes <= BATCH_BYTES
    };
    let count = items.iter().take_while(fits).count();
    items.drain(..count)
}

/// A report's size in the log, roughly, and rather too much.
fn size(report: &Report) -> usize {
    const REST: usize = 512;
    let (Report::Open { update, .. } | Report::Update(update)) = report else { return REST };
    let endpoints = update.endpoints.as_ref().map_or(0, |endpoints| endpoints.len() * 80);
    let hostinfo = update.hostinfo.as_ref().map_or(0, |h| {
        let texts = h.json.len() + h.net_info.as_ref().map_or(0, String::len) + h.hostname.len();
        // Most fields are there twice, and quotes in JSON in JSON are escaped.
        2 * texts + (h.routable_ips.len() + h.request_tags.len()) * 80
    });
    REST + endpoints + hostinfo
}

async fn write(cluster: &Cluster, reports: Vec<Report>, answers: Vec<oneshot::Sender<Result<(), WriteError>>>) {
    let results = match cluster.write(Command::Report(reports)).await {
        Ok(Done::Reports(results)) if results.len() == answers.len() => {
            results.into_iter().map(|result| result.map_err(WriteError::from)).collect()
        }
        Ok(done) => {
            // Only a replica of another release could answer so; its word is worth nothing.
            tracing::error!(?done, expected = answers.len(), "reports were answered with something else");
            vec![Err(Unavailable::Timeout(0).into()); answers.len()]
        }
        Err(error) => vec![Err(error); answers.len()],
    };
    for (answer, result) in answers.into_iter().zip(results) {
        // An error means that the caller is gone: the report was written already.
        let _ = answer.send(result);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{NodeId, NodeUpdate};
    use crate::tailcfg::{CapVer, Hostinfo, NodeKey};

    fn item(node: u64, bytes: usize) -> Item {
        let hostinfo = Hostinfo { json: "x".repeat(bytes), ..Hostinfo::default() };
        let update = NodeUpdate {
            node: NodeId(node),
            node_key: NodeKey([0; 32]),
            cap_ver: CapVer(142),
            disco_key: None,
            endpoints: None,
            hostinfo: Some(hostinfo),
        };
        Item { report: Report::Update(update), answer: oneshot::channel().0 }
    }

    #[test]
    fn a_command_is_bounded_in_bytes_and_always_gets_on() {
        let sizes = [10, 2 * BATCH_BYTES, 10, 10, BATCH_BYTES / 4, BATCH_BYTES / 4, 10];
        let mut items: VecDeque<Item> = (0..).zip(sizes).map(|(node, size)| item(node, size)).collect();
        let mut batches = Vec::new();
        while !items.is_empty() {
            batches.push(next_batch(&mut items).count());
        }
        assert_eq!(batches, [1, 1, 3, 2]);
    }
}
