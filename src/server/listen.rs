//! Listeners: HTTP/1.1 with upgrades over TCP, TLS or a Unix socket.
//!
//! HTTP/1.1 only, because `/ts2021` and `/derp` upgrade their connections, and
//! HTTP/2 lives inside Noise. Every connection has a bound on the time for its TLS
//! handshake, its request's head and its body, and for what it does not read; every
//! listener has one on its connections, and a [`Door`] that keeps them fair.

use super::body::Timely;
use super::door::Door;
use crate::web::LocalIp;
use axum::Router;
use axum::extract::ConnectInfo;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Service;

/// Connections of one listener at a time. A client holds one or two; ten thousand
/// clients on one replica leave room, and a flood does not take all memory.
const MAX_CONNECTIONS: usize = 40_000;

/// For a request's head, and for a TLS handshake: a client that takes longer is
/// broken or means harm.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a peer may leave what was sent to it without an acknowledgement, or its
/// window closed, before the system ends the connection.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest head of a request. Tailscale's have some hundred bytes, an API key's a
/// few more; browsers stay below 8 KiB.
const MAX_HEAD: usize = 16 * 1024;

/// After a failed `accept` (no file descriptors left, mostly): a moment for
/// connections to end, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` on TCP, inside TLS if there is an acceptor, until `stop`.
/// Handlers find the peer's address as `ConnectInfo<SocketAddr>`.
pub async fn tcp(listener: TcpListener, tls: Option<TlsAcceptor>, router: Router, door: Door, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Some(slot) = next_slot(&slots, &stop).await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = tcp_connection(stream, peer, tls.clone(), router.clone(), door.clone(), stop.clone());
                let guest = door.enter(peer);
                tokio::spawn(async move {
                    match guest {
                        None => connection.await,
                        Some(guest) => tokio::select! {
                            () = connection => {}
                            () = guest.shown_out() => tracing::debug!(%peer, "closed: its address has too many"),
                        },
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves `router` on a Unix socket until `stop`: for administrators on this
/// machine, who need no key.
pub async fn unix(listener: UnixListener, router: Router, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Some(slot) = next_slot(&slots, &stop).await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let user = stream.peer_cred().ok().map(|credentials| crate::api::SocketUser(credentials.uid()));
                let ends = move |extensions: &mut http::Extensions| {
                    user.and_then(|user| extensions.insert(user));
                };
                let (router, stop) = (router.clone(), stop.clone());
                tokio::spawn(async move {
                    serve(stream, ends, router, stop).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection on the socket");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn next_slot(slots: &Arc<Semaphore>, stop: &CancellationToken) -> Option<OwnedSemaphorePermit> {
    tokio::select! {
        slot = slots.clone().acquire_owned() => slot.ok(),
        () = stop.cancelled() => None,
    }
}

async fn tcp_connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    router: Router,
    door: Door,
    stop: CancellationToken,
) {
    // Map frames are small and urgent.
    let _ = stream.set_nodelay(true);
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, UNREAD_TIMEOUT.as_millis() as u32);
    let local = stream.local_addr().ok().map(|local| LocalIp(local.ip()));
    let ends = move |extensions: &mut http::Extensions| {
        extensions.insert(ConnectInfo(peer));
        local.and_then(|local| extensions.insert(local));
    };
    let Some(acceptor) = tls else { return serve(stream, ends, router, stop).await };
    let turn = door.turn(peer).await;
    let accepted = tokio::time::timeout(HEAD_TIMEOUT, acceptor.accept(stream)).await;
    drop(turn);
    match accepted {
        Ok(Ok(stream)) => serve(stream, ends, router, stop).await,
        Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
        Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
    }
}

/// `ends` says in each request's extensions who is at either end.
async fn serve<S, F>(stream: S, ends: F, router: Router, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(&mut http::Extensions) + Send + Sync + 'static,
{
    let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        ends(request.extensions_mut());
        router.clone().call(request.map(Timely::new))
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended");
    }
}
