//! The relay's own listener: TLS, then HTTP/1.1, which is what an upgrade needs.

use super::fast_start::{Gated, ResponseGate};
use super::relay::{Newcomer, Relay};
use super::session::HANDSHAKE_TIMEOUT;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

/// How long a connection may last that does not become a client's: the small
/// answers take one request each.
const PLAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Larger than any request head that a client sends.
const MAX_HEAD: usize = 16 * 1024;
/// After a failed accept (out of descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` (which holds [`super::router`]) over TLS, until [`Relay::shutdown`].
///
/// `tls` comes from [`super::Certificate::server_config`]. At most 1,024 connections
/// at once are in their handshake; with more, the address that has the most loses its oldest.
pub async fn serve_relay(listener: TcpListener, tls: Arc<rustls::ServerConfig>, relay: Relay, router: Router) {
    let acceptor = TlsAcceptor::from(tls);
    let tasks = relay.inner.tasks.clone();
    loop {
        let accepted = tokio::select! {
            () = relay.inner.stopping.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let newcomer = relay.newcomer(peer.ip());
                let connection = connection(stream, peer, acceptor.clone(), router.clone(), newcomer.clone());
                let inner = relay.inner.clone();
                tasks.spawn(async move {
                    tokio::select! {
                        () = connection => {}
                        () = newcomer.shown_out() => inner.meters.refused_busy.increment(1),
                        () = inner.stopping.cancelled() => {}
                    }
                });
            }
            Err(e) => {
                tracing::warn!("relay: a connection was not accepted: {e}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, acceptor: TlsAcceptor, router: Router, newcomer: Newcomer) {
    let _ = stream.set_nodelay(true);
    let stream = match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(e)) => return tracing::debug!(%peer, "relay: TLS failed: {e}"),
        Err(_) => return tracing::debug!(%peer, "relay: no TLS handshake in time"),
    };
    let gate = ResponseGate::default();
    let io = TokioIo::new(Gated::new(stream, gate.clone()));
    let service = service_fn(move |mut request: Request<Incoming>| {
        let extensions = request.extensions_mut();
        extensions.insert(ConnectInfo(peer));
        extensions.insert(newcomer.clone());
        extensions.insert(gate.clone());
        router.clone().oneshot(request.map(Body::new))
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(io, service)
        .with_upgrades();
    // It ends when the connection becomes a client's, whose task goes on without it.
    match timeout(PLAIN_TIMEOUT, serving).await {
        Ok(Ok(())) => {}
        Ok(Err(e)) => tracing::debug!(%peer, "relay: HTTP failed: {e}"),
        Err(_) => tracing::debug!(%peer, "relay: closed a connection that was not upgraded"),
    }
}
