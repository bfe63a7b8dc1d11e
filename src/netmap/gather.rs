//! Gathers what clients report into few, large commands.
//!
//! One command is under way at a time, and what arrives meanwhile goes with the
//! next one: a storm of reconnects costs a few commands, a single client some
//! milliseconds.

use crate::cluster::{Cluster, Unavailable, WriteError};
use crate::state::{Command, Done, Report};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How long the first report of a command waits for company.
const PAUSE: Duration = Duration::from_millis(2);
/// Reports in one command. With a host info of 2 KiB each this is a log entry of
/// about 1 MiB, which is sent and synced in one go.
const BATCH: usize = 512;
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
    let mut items = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut items, BATCH).await > 0 {
        tokio::time::sleep(PAUSE).await;
        while items.len() < BATCH
            && let Ok(item) = queue.try_recv()
        {
            items.push(item);
        }
        items.retain(|item| !item.answer.is_closed());
        if !items.is_empty() {
            let (reports, answers) = items.drain(..).map(|item| (item.report, item.answer)).unzip();
            write(&cluster, reports, answers).await;
        }
    }
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
