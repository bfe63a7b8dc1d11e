//! `/ts2021`: from HTTP/1.1 to a Noise connection (protocol sections 2.1 and 2.2).

use super::Shared;
use super::admission::{Stay, Underway};
use super::client_ip::client_ip;
use super::connection::{self, Peer};
use super::noise::{Accepted, HandshakeError, NoiseStream};
use crate::cluster::{Cluster, Unavailable};
use axum::extract::ws::{Message, WebSocket};
use axum::extract::{FromRequestParts, Query, Request, State, WebSocketUpgrade};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};

/// The protocol's name: for `Upgrade`, and as a WebSocket subprotocol.
const PROTOCOL: &str = "tailscale-control-protocol";
/// Where the client's initiation frame is, in base64: a header, or a WebSocket's query.
const HANDSHAKE: &str = "X-Tailscale-Handshake";
/// The longest text of it that is decoded; a real one has 136 characters.
const MAX_HANDSHAKE: usize = 1024;
/// From the upgrade to the first bytes of HTTP/2. A client that lost its own race
/// of dials may never send them.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest WebSocket message that is read: a Noise frame, or a few of them.
const MAX_WEBSOCKET_MESSAGE: usize = 64 * 1024;
/// When a client that was turned away may come again, in seconds.
const RETRY_AFTER: &str = "5";

/// Answers the upgrade, and leaves a task behind that serves the connection.
pub(super) async fn ts2021(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    match admit(&shared, request).await {
        Ok(response) => response,
        Err(refusal) => {
            metrics::counter!("quorumscale_noise_refused_total").increment(1);
            refusal.into_response()
        }
    }
}

/// Why there is no upgrade.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    Unavailable(Unavailable),
    #[error("this cluster is not set up yet: try again in a moment")]
    NotSetUp,
    /// Its sessions would be taken for those of its earlier run.
    #[error(
        "this replica has just started, and the others do not know it yet: ask another one, or try again in a moment"
    )]
    Starting,
    #[error("this replica has as many connections as it may hold: ask another one")]
    Full,
    #[error("missing next protocol: a reverse proxy must pass on the Upgrade and Connection headers, over HTTP/1.1")]
    NoProtocol,
    #[error("unknown next protocol: only {PROTOCOL} is spoken here")]
    UnknownProtocol,
    #[error("missing {HANDSHAKE}")]
    NoHandshake,
    #[error("invalid {HANDSHAKE}: not a frame in base64")]
    BadHandshake,
    #[error("{0}")]
    WebSocket(String),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let text = self.to_string();
        match self {
            Refusal::Unavailable(_) | Refusal::NotSetUp | Refusal::Starting | Refusal::Full => {
                (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, RETRY_AFTER)], text).into_response()
            }
            _ => (StatusCode::BAD_REQUEST, text).into_response(),
        }
    }
}

/// A handshake that was answered, one way or the other, and is still to be sent.
struct Admitted {
    shared: Arc<Shared>,
    result: Result<Accepted, HandshakeError>,
    ip: IpAddr,
    underway: Underway,
    stay: Stay,
    _permit: OwnedSemaphorePermit,
}

/// Whether the cluster has not an earlier run of this replica on record.
fn is_known(cluster: &Cluster) -> bool {
    cluster.view().replica(cluster.id()).is_none_or(|replica| replica.incarnation == cluster.incarnation())
}

/// Before the upgrade: a client takes the first of its addresses that completes
/// one, so refusing is what moves it on to a replica with a quorum.
fn serves(shared: &Shared) -> Result<(), Refusal> {
    if shared.cluster.is_removed() {
        return Err(Refusal::Unavailable(Unavailable::Removed(shared.cluster.id())));
    }
    if !*shared.quorum.borrow() {
        return Err(Refusal::Unavailable(Unavailable::NoQuorum));
    }
    if shared.stop.is_cancelled() || shared.cluster.leaving().is_cancelled() {
        return Err(Refusal::Unavailable(Unavailable::Stopping));
    }
    if !is_known(&shared.cluster) {
        return Err(Refusal::Starting);
    }
    Ok(())
}

async fn admit(shared: &Arc<Shared>, mut request: Request) -> Result<Response, Refusal> {
    serves(shared)?;
    let key = shared.cluster.noise_key().ok_or(Refusal::NotSetUp)?;
    let protocol = request.headers().get(header::UPGRADE).ok_or(Refusal::NoProtocol)?.as_bytes().to_ascii_lowercase();
    let web_socket = match protocol.as_slice() {
        b"websocket" => true,
        name if name == PROTOCOL.as_bytes() => false,
        _ => return Err(Refusal::UnknownProtocol),
    };
    let initiation = if web_socket { initiation_in_query(&request)? } else { initiation_in_header(request.headers())? };
    let ip = client_ip(request.extensions());
    let result = shared.admission.respond(&key, &initiation, ip).await;
    let (underway, stay) = shared.admission.underway(&shared.cluster, ip, &result).await;
    // It may have waited for a while.
    serves(shared)?;
    let permit = shared.connections.clone().try_acquire_owned().map_err(|_| Refusal::Full)?;
    let admitted = Admitted { shared: shared.clone(), result, ip, underway, stay, _permit: permit };
    if web_socket {
        return upgrade_web_socket(admitted, request).await;
    }
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match timeout(HANDSHAKE_TIMEOUT, upgraded).await {
            // What the client sent after its request is still in there.
            Ok(Ok(io)) => admitted.serve(TokioIo::new(io), true).await,
            Ok(Err(error)) => tracing::debug!(%error, "upgrade to Noise failed"),
            Err(_) => tracing::debug!("upgrade to Noise took too long"),
        }
    });
    let headers = [(header::UPGRADE, PROTOCOL), (header::CONNECTION, "upgrade")];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

fn initiation_in_header(headers: &HeaderMap) -> Result<Vec<u8>, Refusal> {
    decode(headers.get(HANDSHAKE).map(HeaderValue::as_bytes))
}

fn initiation_in_query(request: &Request) -> Result<Vec<u8>, Refusal> {
    let Query(query) =
        Query::<HashMap<String, String>>::try_from_uri(request.uri()).map_err(|_| Refusal::NoHandshake)?;
    decode(query.get(HANDSHAKE).map(String::as_bytes))
}

fn decode(text: Option<&[u8]>) -> Result<Vec<u8>, Refusal> {
    let text = text.filter(|text| !text.is_empty()).ok_or(Refusal::NoHandshake)?;
    if text.len() > MAX_HANDSHAKE {
        return Err(Refusal::BadHandshake);
    }
    base64::engine::general_purpose::STANDARD.decode(text).map_err(|_| Refusal::BadHandshake)
}

async fn upgrade_web_socket(admitted: Admitted, request: Request) -> Result<Response, Refusal> {
    let (mut parts, _) = request.into_parts();
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
    let upgrade = upgrade.map_err(|rejection| Refusal::WebSocket(rejection.body_text()))?;
    let upgrade =
        upgrade.protocols([PROTOCOL]).max_message_size(MAX_WEBSOCKET_MESSAGE).max_frame_size(MAX_WEBSOCKET_MESSAGE);
    if upgrade.selected_protocol().is_none() {
        return Err(Refusal::WebSocket(format!("the WebSocket subprotocol {PROTOCOL} is needed")));
    }
    // Without an early payload, as the Go server does it on this path.
    Ok(upgrade.on_upgrade(|socket| async move { admitted.serve(byte_stream(socket), false).await }))
}

/// The binary messages of a WebSocket as a stream of bytes: where they are cut means nothing.
fn byte_stream(socket: WebSocket) -> impl AsyncRead + AsyncWrite + Unpin + Send + 'static {
    let (sink, stream) = socket.split();
    let binary = stream.filter_map(async |message| match message {
        Ok(Message::Binary(bytes)) => Some(Ok(bytes)),
        Ok(_) => None,
        Err(error) => Some(Err(io::Error::other(error))),
    });
    let sink =
        sink.sink_map_err(io::Error::other).with(async |bytes: Bytes| Ok::<_, io::Error>(Message::Binary(bytes)));
    tokio::io::join(StreamReader::new(Box::pin(binary)), SinkWriter::new(CopyToBytes::new(Box::pin(sink))))
}

impl Admitted {
    /// Sends what the handshake came to, and serves the connection to its end.
    async fn serve(self, mut io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, early_payload: bool) {
        let accepted = match self.result {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::info!(ip = %self.ip, %error, "refused a Noise handshake");
                metrics::counter!("quorumscale_noise_refused_total").increment(1);
                let farewell = async {
                    io.write_all(&error.frame()).await?;
                    io.shutdown().await
                };
                let _ = timeout(HANDSHAKE_TIMEOUT, farewell).await;
                return;
            }
        };
        let mut stream = NoiseStream::new(io, &accepted.keys, &accepted.response);
        let begun = timeout(HANDSHAKE_TIMEOUT, async {
            if early_payload {
                stream.write_all(&connection::early_payload()).await?;
            }
            stream.flush().await?;
            stream.expect_http2().await
        });
        let begun = begun.await;
        drop(self.underway);
        match begun {
            Ok(Ok(())) => {
                let peer = Peer { machine_key: accepted.machine_key, version: accepted.version, ip: self.ip };
                let ends = connection::Ends {
                    quorum: self.shared.quorum.clone(),
                    leaving: self.shared.cluster.leaving(),
                    stop: self.shared.stop.clone(),
                };
                tokio::select! {
                    () = connection::serve(stream, peer, self.shared.machine.clone(), ends) => {}
                    () = self.stay.ends(&self.shared.cluster) => {
                        tracing::debug!(ip = %self.ip, "closed a stranger's connection: its address has too many");
                    }
                }
            }
            Ok(Err(error)) => {
                tracing::debug!(ip = %self.ip, %error, "a Noise connection ended before its first request")
            }
            Err(_) => tracing::debug!(ip = %self.ip, "a Noise connection made no request in time"),
        }
    }
}
