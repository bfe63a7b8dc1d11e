//! A session's life: opened before its stream's first frame, opened anew if the
//! cluster closed it by mistake, closed some time after its stream.

use super::Inner;
use super::mailbox::{End, Mailbox};
use super::registry::{Registered, Retiring, StreamId};
use crate::cluster::{Unavailable, WriteError};
use crate::state::{NodeUpdate, Refused, Report, SessionId};
use std::sync::Arc;
use std::time::Duration;

/// How long to wait before a failed report is tried again: first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How long a request waits for this replica, which has just started, to tell the
/// cluster of itself: until then its sessions would be refused as an earlier run's.
const ANNOUNCED: Duration = Duration::from_secs(5);

/// A stream that is held, with its session. Dropping it ends both.
pub(super) struct Held {
    inner: Arc<Inner>,
    pub stream: StreamId,
    pub mailbox: Arc<Mailbox>,
}

impl Held {
    /// Opens a session and stores what came with the request, in one step.
    pub async fn open(inner: Arc<Inner>, update: NodeUpdate) -> Result<Self, WriteError> {
        let patience = tokio::time::timeout(ANNOUNCED, inner.announced());
        patience.await.map_err(|_| Unavailable::Timeout(ANNOUNCED.as_secs()))?;
        let Registered { stream, session, mailbox } = inner.registry.register(&update)?;
        // From here on whatever happens, a cancelled request included, closes the session.
        inner.bodies.send_modify(|bodies| *bodies += 1);
        let held = Self { inner, stream, mailbox };
        let has_quorum = *held.inner.quorum.borrow();
        if !has_quorum {
            held.inner.registry.forget(stream);
            return Err(Unavailable::NoQuorum.into());
        }
        let opened = held.inner.gatherer.report(Report::Open { session, update }).await;
        if let Err(WriteError::Refused(_)) = opened {
            held.inner.registry.forget(stream);
        }
        opened?;
        held.inner.registry.opened(session);
        Ok(held)
    }

    /// This stream has its first frame: older ones of its node end.
    pub fn replace_older(&self) {
        for older in self.inner.registry.older_than(self.stream) {
            self.inner.end(older, End::Replaced);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.inner.release(self.stream);
        self.inner.bodies.send_modify(|bodies| *bodies -= 1);
    }
}

impl Inner {
    /// Waits until the cluster knows of this run of this replica.
    async fn announced(&self) {
        let (id, incarnation) = (self.cluster.id(), self.cluster.incarnation());
        while self.cluster.view().replica(id).is_some_and(|replica| replica.incarnation != incarnation) {
            tokio::time::sleep(RETRY.0).await;
        }
    }

    /// Ends a stream. Its session goes too, now, even if the client never reads again.
    pub fn end(self: &Arc<Self>, stream: StreamId, why: End) {
        self.registry.end(stream, why);
        self.release(stream);
    }

    /// Ends all streams.
    pub fn end_all(self: &Arc<Self>, why: End) {
        for (stream, _) in self.registry.all() {
            self.end(stream, why);
        }
    }

    fn release(self: &Arc<Self>, stream: StreamId) {
        if let Some(retiring) = self.registry.release(stream) {
            self.runtime.spawn(self.clone().retire(retiring));
        }
    }

    /// Closes the session of a stream that is gone: at once if its node has a newer
    /// one here, so nobody ever sees it offline; else when it had time to come back,
    /// during which there was a quorum all along: without one it could not.
    async fn retire(self: Arc<Self>, Retiring { session, mut opened }: Retiring) {
        let mut quorum = self.quorum.clone();
        loop {
            let had_quorum = *quorum.borrow_and_update();
            let came_back = opened.wait_for(|latest| *latest > session.number);
            let came_back = tokio::time::timeout(self.offline_grace, came_back).await.is_ok();
            if came_back || had_quorum && !quorum.has_changed().unwrap_or(false) {
                break;
            }
            if quorum.wait_for(|is_there| *is_there).await.is_err() {
                break;
            }
        }
        let close = || Report::Close { session };
        self.insist(close, || true).await;
        self.registry.retired(session);
    }

    /// Opens a session anew for a stream that is held here, but whose session the
    /// cluster closed: it took this replica for dead.
    pub async fn reopen(self: Arc<Self>, closed: SessionId) {
        let Some((stream, session, report)) = self.registry.reopen(closed) else { return };
        tracing::info!(node = %session.node, "the cluster closed a session whose stream is here: opening another");
        match self.insist(|| report.clone(), || self.registry.holds(session)).await {
            Some(Ok(())) if !self.registry.opened(session) => {
                // The stream went meanwhile, perhaps before the session was there.
                self.insist(|| Report::Close { session }, || true).await;
            }
            Some(Ok(())) | None => {}
            Some(Err(refused)) => {
                tracing::info!(node = %session.node, %refused, "the stream ends: its node cannot have a session");
                self.end(stream, End::NodeGone);
            }
        }
    }

    /// Reports until there is an answer, or it is no longer wanted (`None`).
    async fn insist(&self, report: impl Fn() -> Report, wanted: impl Fn() -> bool) -> Option<Result<(), Refused>> {
        let mut quorum = self.quorum.clone();
        let mut pause = RETRY.0;
        while wanted() {
            match self.gatherer.report(report()).await {
                Ok(()) => return Some(Ok(())),
                Err(WriteError::Refused(Refused::TooLate | Refused::NotBootstrapped | Refused::ReplicaGone)) => {}
                Err(WriteError::Refused(refused)) => return Some(Err(refused)),
                Err(WriteError::Unavailable(Unavailable::Stopping)) => return None,
                Err(WriteError::Unavailable(_)) => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY.1);
            // Without a quorum there is nothing to try.
            quorum.wait_for(|is_there| *is_there).await.ok()?;
        }
        None
    }
}
