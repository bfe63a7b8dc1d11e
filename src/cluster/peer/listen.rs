//! The peer port: connections of replicas that have the secret.

use super::MESSAGE_LIMIT;
use super::identity::Checker;
use super::server::Server;
use super::tls::{self, PeerTls};
use crate::cluster::wire::peer_server::PeerServer;
use crate::limits::{Crowd, Source};
use rustls::pki_types::CertificateDer;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::server::TlsStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::Connected;

/// How long a handshake may take.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(5);
/// Connections that wait for the server.
const WAITING: usize = 16;
/// A stranger is mentioned in the log this often.
const STRANGERS_LOGGED_EVERY: Duration = Duration::from_secs(10);
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_PATIENCE: Duration = Duration::from_secs(10);
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Calls that the other end gave up before this one came to look at them: as many as may be
/// under way. Beyond it, the whole connection ends with all calls on it; the usual 20 were
/// passed by a thousand clients that registered at once on a busy machine.
const GIVEN_UP: usize = crate::cluster::propose::IN_FLIGHT;

/// The bound port.
pub struct Listener {
    socket: TcpListener,
    tls: PeerTls,
    handshakes: Crowd,
}

impl Listener {
    /// With so many handshakes at one time.
    pub async fn bind(address: SocketAddr, tls: PeerTls, handshakes: usize) -> io::Result<Self> {
        Ok(Self { socket: TcpListener::bind(address).await?, tls, handshakes: Crowd::new(handshakes) })
    }

    /// Serves until it is dropped.
    pub async fn serve(self, server: Server, checker: Checker) {
        let (sender, accepted) = mpsc::channel(WAITING);
        let accept = accept(self.socket, self.tls, self.handshakes, sender);
        let serve = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(PING_EVERY))
            .http2_keepalive_timeout(Some(PING_PATIENCE))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_max_pending_accept_reset_streams(Some(GIVEN_UP))
            .add_service(service(server, checker))
            .serve_with_incoming(tokio_stream::wrappers::ReceiverStream::new(accepted));
        let ((), served) = tokio::join!(accept, serve);
        if let Err(error) = served {
            tracing::error!("the peer server ended: {error}");
        }
    }
}

/// What answers on the port: each call is checked first.
pub fn service(server: Server, checker: Checker) -> InterceptedService<PeerServer<Server>, Checker> {
    let service =
        PeerServer::new(server).max_decoding_message_size(MESSAGE_LIMIT).max_encoding_message_size(MESSAGE_LIMIT);
    InterceptedService::new(service, checker)
}

async fn accept(socket: TcpListener, tls: PeerTls, handshakes: Crowd, accepted: mpsc::Sender<io::Result<PeerStream>>) {
    let strangers = Arc::new(std::sync::Mutex::new(None));
    loop {
        let (stream, address) = match socket.accept().await {
            Ok(connection) => connection,
            Err(error) => {
                // Too many open files, most likely: others may close theirs.
                tracing::warn!("cannot accept a peer's connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (tls, accepted, strangers) = (tls.clone(), accepted.clone(), strangers.clone());
        let guest = handshakes.enter(Source::of(address.ip()));
        tokio::spawn(async move {
            let done = tokio::select! {
                done = tokio::time::timeout(HANDSHAKE_PATIENCE, handshake(&tls, stream)) => done,
                () = guest.shown_out() => return,
            };
            drop(guest);
            match done {
                // An error means that the server is gone.
                Ok(Ok(stream)) => drop(accepted.send(Ok(stream)).await),
                Ok(Err(error)) => log_stranger(&strangers, address, &error),
                Err(_) => {}
            }
        });
    }
}

async fn handshake(tls: &PeerTls, stream: TcpStream) -> io::Result<PeerStream> {
    stream.set_nodelay(true)?;
    let stream = tls.acceptor().accept(stream).await?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let certificate = certificate.ok_or_else(|| io::Error::other("no certificate"))?.clone().into_owned();
    Ok(PeerStream { stream, info: PeerInfo { certificate: Arc::new(certificate) } })
}

fn log_stranger(last: &std::sync::Mutex<Option<Instant>>, address: SocketAddr, error: &io::Error) {
    let mut last = last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if last.is_some_and(|at| at.elapsed() < STRANGERS_LOGGED_EVERY) {
        return;
    }
    *last = Some(Instant::now());
    if tls::is_other_secret(error) {
        tracing::warn!("a peer from {} has another secret: copy one replica's secret to all", address.ip());
    } else {
        tracing::debug!("a connection from {address} to the peer port is no replica's: {error}");
    }
}

/// The connection of a replica that has the secret.
struct PeerStream {
    stream: TlsStream<TcpStream>,
    info: PeerInfo,
}

/// Who is at the other end of a connection.
#[derive(Clone)]
pub struct PeerInfo {
    pub certificate: Arc<CertificateDer<'static>>,
}

impl Connected for PeerStream {
    type ConnectInfo = PeerInfo;
    fn connect_info(&self) -> PeerInfo {
        self.info.clone()
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
