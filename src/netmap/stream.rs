//! One stream: waits for its mailbox, renders what is newest, frames it.

use super::mailbox::End;
use super::meters::METERS;
use super::render::{Delta, Sent};
use super::round::Round;
use super::session::Held;
use super::{Inner, MapStream, StreamOptions, frame};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Clients give a stream up after 120 s without a message.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(50);
/// What is added at most, as a share: it spreads the keep-alives of clients that
/// came at once over 9 s.
const KEEP_ALIVE_JITTER: f64 = 0.18;

/// A stream between two messages. Nothing is rendered unless the client's
/// connection asks for more, so a client that does not read costs its mailbox only.
struct Stream {
    inner: Arc<Inner>,
    held: Held,
    options: StreamOptions,
    sent: Sent,
    /// Parts of a message that is under way.
    ready: VecDeque<Bytes>,
    /// Whether the first message is still to come.
    is_new: bool,
    keep_alive_at: Instant,
    /// The change that is under way.
    telling: Option<Arc<Round>>,
    over: bool,
}

/// The messages of a stream that is held. `first` and `sent` are the complete map,
/// rendered after the session was opened.
pub(super) fn stream(
    inner: Arc<Inner>,
    held: Held,
    options: StreamOptions,
    first: Vec<Bytes>,
    sent: Sent,
) -> MapStream {
    let keep_alive_at = Instant::now() + inner.keep_alive;
    let (ready, is_new, telling, over) = (first.into(), true, None, false);
    let stream = Stream { inner, held, options, sent, ready, is_new, keep_alive_at, telling, over };
    Box::pin(futures::stream::unfold(stream, |mut stream| async {
        let message = stream.next().await?;
        METERS.sent_bytes.increment(message.len() as u64);
        let share = 1.0 + KEEP_ALIVE_JITTER * rand::random::<f64>();
        stream.keep_alive_at = Instant::now() + stream.inner.keep_alive.mul_f64(share);
        Some((message, stream))
    }))
}

impl Stream {
    async fn next(&mut self) -> Option<Bytes> {
        if std::mem::take(&mut self.is_new) {
            METERS.sent_full.increment(1);
            self.held.replace_older();
        }
        if let Some(part) = self.ready.pop_front() {
            return Some(part);
        }
        // The connection asks for more: it has all of the last message.
        self.telling.take().into_iter().for_each(|round| round.told());
        if self.over {
            return None;
        }
        loop {
            tokio::select! {
                biased;
                () = self.held.mailbox.news() => {}
                () = sleep_until(self.keep_alive_at), if self.options.keep_alive => {
                    METERS.sent_keep_alive.increment(1);
                    return Some(frame::keep_alive(self.options.zstd));
                }
            }
            if let Some(why) = self.held.mailbox.ended() {
                return self.last(why);
            }
            self.inner.pace.wait().await;
            // The marks first: the view that is read then has everything that they stand for.
            let (marks, round) = self.held.mailbox.take_round();
            let view = self.inner.cluster.view();
            if marks.everything {
                self.held.mailbox.told_everything(view.index());
            }
            let delta = self.inner.renderer.delta(&view, self.options, &marks, &mut self.sent);
            self.inner.pace.told();
            match delta {
                Delta::Message(draft) => {
                    let counter = if marks.everything { &METERS.sent_full } else { &METERS.sent_change };
                    counter.increment(1);
                    self.telling = round;
                    self.ready = self.inner.renderer.frame(draft, self.options.zstd).into();
                    return self.ready.pop_front();
                }
                Delta::Nothing => {}
                Delta::Gone => return self.last(End::NodeGone),
            }
        }
    }

    /// What a stream ends with: a client whose node was deleted is told that its key
    /// is no longer valid, others nothing.
    fn last(&mut self, why: End) -> Option<Bytes> {
        self.over = true;
        if why != End::NodeGone {
            return None;
        }
        let farewell = self.inner.renderer.farewell(&self.inner.cluster.view(), &self.sent)?;
        self.ready = self.inner.renderer.frame(farewell, self.options.zstd).into();
        self.ready.pop_front()
    }
}
