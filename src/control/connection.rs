//! One Noise connection: HTTP/2 inside, until either side has enough
//! (protocol sections 2.4 and 2.5).

use super::noise::NoiseStream;
use crate::tailcfg::{CapVer, MachineKey, PrivateKey};
use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// Requests of one client at a time: its stream, updates, a followup, answers to pings.
const MAX_REQUESTS: u32 = 250;
/// What a client may send on one request before it is read: more than a usual one has.
const STREAM_WINDOW: u32 = 256 * 1024;
/// And on all of them together.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What is kept of a response for a client that reads slowly. A small one, since
/// what a map stream has not sent yet can still be replaced by something newer.
const SEND_BUFFER: usize = 128 * 1024;
/// The longest headers of a request.
const MAX_HEADERS: u32 = 16 * 1024;
/// How often a client is asked whether it is there, and how long it has to answer.
/// A dead one is noticed in less than the 120 s after which its own watchdog would act.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How long requests under way may take when the server stops.
const DRAIN: Duration = Duration::from_secs(3);

/// Who is at the other end of a connection: an extension of each request on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    /// Proven by the handshake.
    pub machine_key: MachineKey,
    /// Of the handshake; requests bring their own.
    pub version: CapVer,
    /// Where it dialled from.
    pub ip: IpAddr,
}

/// What goes out before HTTP/2: a challenge that clients expect, and that nobody answers yet.
pub(super) fn early_payload() -> Vec<u8> {
    const MAGIC: &[u8; 5] = b"\xff\xff\xffTS";
    let challenge = hex::encode(PrivateKey::generate().public());
    let json = format!("{{\"nodeKeyChallenge\":\"chalpub:{challenge}\"}}");
    let mut payload = MAGIC.to_vec();
    payload.extend_from_slice(&(json.len() as u32).to_be_bytes());
    payload.extend_from_slice(json.as_bytes());
    payload
}

/// What ends a connection that its client would keep.
pub(super) struct Ends {
    pub quorum: watch::Receiver<bool>,
    /// The server is going to stop: what is under way may end by itself.
    pub leaving: CancellationToken,
    pub stop: CancellationToken,
}

/// Serves requests until the client goes, the quorum is lost, or the server stops.
/// Without a quorum the whole connection must go: a client whose stream alone ended
/// would ask again on the connection that it has. For the same reason a server that is
/// going to stop closes a connection when the first response on it ends, which is its
/// stream, as a rule.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: NoiseStream<S>,
    peer: Peer,
    machine: Router,
    Ends { mut quorum, leaving, stop }: Ends,
) {
    let _open = Counted::new();
    let over = CancellationToken::new();
    let last = over.clone();
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        let end = ResponseEnd { leaving: leaving.clone(), over: over.clone() };
        let answer = machine.clone().oneshot(request);
        async move { answer.await.map(|response| response.map(|body| Guarded { body, _end: end })) }
    });
    let http = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_REQUESTS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(MAX_HEADERS)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut http = pin!(http);
    let lost = async { quorum.wait_for(|has_quorum| !has_quorum).await.map(drop) };
    tokio::select! {
        ended = http.as_mut() => {
            match ended {
                Ok(()) => tracing::debug!(machine = ?peer.machine_key, "a client closed its connection"),
                Err(error) => tracing::debug!(machine = ?peer.machine_key, %error, "a client's connection broke"),
            }
            return;
        }
        _ = lost => {
            tracing::debug!(machine = ?peer.machine_key, "closed a client's connection, since there is no quorum");
            return;
        }
        () = last.cancelled() => {}
        () = stop.cancelled() => {}
    }
    http.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(DRAIN, http.as_mut()).await;
}

/// A response's body that notices its end.
struct Guarded {
    body: Body,
    _end: ResponseEnd,
}

/// Dropped with a response; one that ends while the server is going to stop is the
/// last of its connection.
struct ResponseEnd {
    leaving: CancellationToken,
    over: CancellationToken,
}

impl Drop for ResponseEnd {
    fn drop(&mut self) {
        if self.leaving.is_cancelled() {
            self.over.cancel();
        }
    }
}

impl hyper::body::Body for Guarded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection in the metrics.
struct Counted(metrics::Gauge);

impl Counted {
    fn new() -> Self {
        let gauge = metrics::gauge!("quorumscale_noise_connections");
        gauge.increment(1);
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}
