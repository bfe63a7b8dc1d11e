//! One Noise connection: HTTP/2 inside, until either side has enough
//! (protocol sections 2.4 and 2.5).

use super::noise::NoiseStream;
use crate::tailcfg::{CapVer, MachineKey, PrivateKey};
use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::net::IpAddr;
use std::pin::pin;
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

/// Serves requests until the client goes, the quorum is lost, or `stop`. Without a
/// quorum the whole connection must go: a client whose stream alone ended would
/// ask again on the connection that it has.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: NoiseStream<S>,
    peer: Peer,
    machine: Router,
    mut quorum: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    let _open = Counted::new();
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        machine.clone().oneshot(request)
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
        ended = http.as_mut() => match ended {
            Ok(()) => tracing::debug!(machine = ?peer.machine_key, "a client closed its connection"),
            Err(error) => tracing::debug!(machine = ?peer.machine_key, %error, "a client's connection broke"),
        },
        _ = lost => {
            tracing::debug!(machine = ?peer.machine_key, "closed a client's connection, since there is no quorum");
        }
        () = stop.cancelled() => {
            http.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(DRAIN, http.as_mut()).await;
        }
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
