//! Group commit: one thread syncs for everyone who waits, once for all of them.

use super::disk::Disk;
use crate::cluster::disk_latency::Syncs;
use crate::cluster::meters::METERS;
use crate::cluster::types::TypeConfig;
use openraft::storage::IOFlushed;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// Writers that may wait for a sync. Raft has far fewer under way; a writer beyond
/// this would wait for the disk, as it must.
const WAITING: usize = 65_536;

/// Something that waits for a sync.
pub enum Job {
    Append(IOFlushed<TypeConfig>),
    Other(oneshot::Sender<()>),
    Stop,
}

/// The thread. When this is dropped, it has synced what waited, and is gone.
pub struct Flusher {
    queue: Queue,
    thread: Option<JoinHandle<()>>,
}

/// Where to wait for a sync.
#[derive(Clone)]
pub enum Queue {
    Thread(SyncSender<Job>),
    /// A task: a simulation has one thread.
    #[cfg(test)]
    Task(tokio::sync::mpsc::UnboundedSender<Job>),
}

impl Flusher {
    pub fn start(disk: Arc<Disk>, syncs: Arc<Syncs>) -> io::Result<Self> {
        #[cfg(test)]
        if let Some(simulated) = disk.as_simulated() {
            let (queue, jobs) = tokio::sync::mpsc::unbounded_channel();
            tokio::spawn(run_simulated(simulated.clone(), jobs));
            return Ok(Self { queue: Queue::Task(queue), thread: None });
        }
        let (queue, jobs) = sync_channel(WAITING);
        let thread = std::thread::Builder::new().name("store-sync".into()).spawn(move || run(&disk, &syncs, &jobs))?;
        Ok(Self { queue: Queue::Thread(queue), thread: Some(thread) })
    }

    pub fn queue(&self) -> Queue {
        self.queue.clone()
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        // If this fails, the thread is gone already.
        let _ = self.queue.send(Job::Stop);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that syncs the store panicked");
        }
    }
}

impl Queue {
    fn send(&self, job: Job) -> Result<(), Job> {
        match self {
            Self::Thread(queue) => queue.send(job).map_err(|error| error.0),
            #[cfg(test)]
            Self::Task(queue) => queue.send(job).map_err(|error| error.0),
        }
    }

    /// Calls back when everything that is written by now is synced.
    pub fn append(&self, callback: IOFlushed<TypeConfig>) {
        if let Err(Job::Append(callback)) = self.send(Job::Append(callback)) {
            callback.io_completed(Err(stopped()));
        }
    }

    /// Returns when everything that is written by now is synced.
    pub async fn synced(&self) -> io::Result<()> {
        let (done, wait) = oneshot::channel();
        self.send(Job::Other(done)).map_err(|_| stopped())?;
        wait.await.map_err(|_| stopped())
    }
}

fn stopped() -> io::Error {
    io::Error::other("the store is closed")
}

/// As [`run`]; a sync takes its time, and covers what was written when it began.
#[cfg(test)]
async fn run_simulated(disk: crate::cluster::sim::disk::SimDisk, mut jobs: tokio::sync::mpsc::UnboundedReceiver<Job>) {
    while let Some(first) = jobs.recv().await {
        let mut waiting = vec![first];
        while let Ok(job) = jobs.try_recv() {
            waiting.push(job);
        }
        let begun = disk.begin_sync();
        tokio::time::sleep(disk.sync_takes()).await;
        disk.finish_sync(begun);
        for job in waiting {
            match job {
                Job::Append(callback) => callback.io_completed(Ok(())),
                Job::Other(done) => drop(done.send(())),
                Job::Stop => return,
            }
        }
    }
}

fn run(disk: &Disk, syncs: &Syncs, jobs: &Receiver<Job>) {
    let mut waiting = Vec::new();
    while let Ok(first) = jobs.recv() {
        waiting.push(first);
        waiting.extend(jobs.try_iter());
        METERS.sync_writes.record(waiting.len() as f64);
        syncs.time(|| disk.sync());
        for job in waiting.drain(..) {
            match job {
                Job::Append(callback) => callback.io_completed(Ok(())),
                // Who waited may have gone.
                Job::Other(done) => drop(done.send(())),
                Job::Stop => return,
            }
        }
    }
}
