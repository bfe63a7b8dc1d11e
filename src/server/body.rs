//! Bodies of requests, which have to arrive in time.

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// From a request's head to the end of its body. The largest that is read, a policy of a
/// megabyte, needs 35 KB/s.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A body that breaks off when its time is over.
pub struct Timely {
    body: Incoming,
    until: Instant,
    /// Made when the body is waited for: most requests have none.
    sleep: Option<Pin<Box<Sleep>>>,
}

/// It took too long.
#[derive(Debug, thiserror::Error)]
#[error("the body did not arrive within {} s", BODY_TIMEOUT.as_secs())]
pub struct TooSlow;

impl Timely {
    /// The time begins now.
    pub fn new(body: Incoming) -> Self {
        Self { body, until: Instant::now() + BODY_TIMEOUT, sleep: None }
    }
}

impl Body for Timely {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let until = this.until;
        let sleep = this.sleep.get_or_insert_with(|| Box::pin(sleep_until(until)));
        sleep.as_mut().poll(cx).map(|()| Some(Err(TooSlow.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
