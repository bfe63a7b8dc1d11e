//! A connection whose next HTTP response can be withheld.
//!
//! A client that knows the relay's key asks with `Derp-Fast-Start: 1` for frames at
//! once instead of a response. Clients do so only where the TLS chain carries the key,
//! which this relay's chain does not (it is one certificate, for its pin to hold); it
//! is here for the ones that learn the key in another way. (Protocol section 8.1.)

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// The way for a request's handler to withhold the response; a request extension.
#[derive(Clone, Default)]
pub(super) struct ResponseGate(Arc<AtomicBool>);

impl ResponseGate {
    /// Lets the next response, which must have no body, get lost.
    pub(super) fn withhold_response(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// An I/O stream behind a [`ResponseGate`].
pub(super) struct Gated<T> {
    inner: T,
    gate: ResponseGate,
    /// How many bytes of [`END_OF_HEAD`] were seen just now.
    matched: usize,
}

impl<T> Gated<T> {
    pub(super) fn new(inner: T, gate: ResponseGate) -> Self {
        Self { inner, gate, matched: 0 }
    }

    /// How many of these bytes belong to the response that is withheld.
    fn withheld(&mut self, bytes: &[u8]) -> usize {
        for (index, byte) in bytes.iter().enumerate() {
            let goes_on = *byte == END_OF_HEAD[self.matched];
            self.matched = if goes_on { self.matched + 1 } else { usize::from(*byte == END_OF_HEAD[0]) };
            if self.matched == END_OF_HEAD.len() {
                self.matched = 0;
                self.gate.0.store(false, Ordering::Release);
                return index + 1;
            }
        }
        bytes.len()
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gated<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gated<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.gate.0.load(Ordering::Acquire) {
            return Poll::Ready(Ok(self.withheld(bytes)));
        }
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
