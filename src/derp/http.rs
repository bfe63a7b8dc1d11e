//! The relay's part of HTTP: the upgrade, and small answers that clients measure
//! or probe with. (Protocol sections 1.2 and 8.1.)

use super::fast_start::ResponseGate;
use super::frame;
use super::relay::{Newcomer, Relay};
use super::session;
use axum::body::Body;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{ConnectInfo, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use bytes::Bytes;
use futures::{SinkExt, StreamExt, future};
use hyper_util::rt::TokioIo;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};

const MAX_CHALLENGE: usize = 64;
/// A client sends a frame as one message.
const MAX_MESSAGE: usize = frame::HEADER_LEN + frame::KEY_LEN + frame::MAX_PACKET;

/// `/derp`, `/derp/probe`, `/derp/latency-check`, `/bootstrap-dns` and `/generate_204`: for
/// [`super::serve_relay`], and for the main listener, where the server has to put a
/// [`ConnectInfo`] with the peer's [`SocketAddr`] into requests.
pub fn router(relay: Relay) -> Router {
    Router::new()
        .route("/derp", any(derp))
        .route("/derp/probe", get(probe))
        .route("/derp/latency-check", get(probe))
        .route("/bootstrap-dns", get(bootstrap_dns))
        .route("/generate_204", get(generate_204))
        .with_state(relay)
}

/// Any method: the Rust client asks for the upgrade with POST. A WebSocket has to name
/// the subprotocol `derp`, as all clients since 2020 do.
async fn derp(
    State(relay): State<Relay>,
    websocket: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
    mut request: Request,
) -> Response {
    let addr = peer_addr(&request);
    let wants_derp = header_has(request.headers(), &header::UPGRADE, "derp");
    let wants_websocket = header_has(request.headers(), &header::SEC_WEBSOCKET_PROTOCOL, "derp");
    let handed_on = request.extensions_mut().remove::<Newcomer>();
    let newcomer = || handed_on.unwrap_or_else(|| relay.newcomer(addr));
    match websocket {
        _ if relay.inner.stopping.is_cancelled() => busy("this relay is stopping"),
        Ok(upgrade) if wants_websocket => upgrade_websocket(upgrade, relay.clone(), addr, newcomer()),
        _ if wants_derp => upgrade_raw(request, relay.clone(), addr, newcomer()),
        _ => (StatusCode::UPGRADE_REQUIRED, [(header::UPGRADE, "DERP")], "DERP requires connection upgrade\n")
            .into_response(),
    }
}

fn upgrade_raw(mut request: Request, relay: Relay, addr: IpAddr, newcomer: Newcomer) -> Response {
    let fast_start = request.headers().get("Derp-Fast-Start").is_some_and(|value| value == "1");
    if fast_start && let Some(gate) = request.extensions().get::<ResponseGate>() {
        gate.withhold_response();
    }
    let public_key = hex::encode(relay.public_key().0);
    let upgrade = hyper::upgrade::on(&mut request);
    relay.inner.tasks.clone().spawn(async move {
        match upgrade.await {
            Ok(upgraded) => {
                let (reader, writer) = tokio::io::split(TokioIo::new(upgraded));
                session::serve(relay, reader, writer, addr, newcomer).await;
            }
            Err(e) => tracing::debug!(%addr, "relay: the upgrade failed: {e}"),
        }
    });
    let headers = [
        (header::UPGRADE, HeaderValue::from_static("DERP")),
        (header::CONNECTION, HeaderValue::from_static("Upgrade")),
    ];
    let more = [("Derp-Version", "2".to_owned()), ("Derp-Public-Key", public_key)];
    (StatusCode::SWITCHING_PROTOCOLS, headers, more, Body::empty()).into_response()
}

/// A browser's way: frames as a stream of bytes in binary messages, cut anywhere.
fn upgrade_websocket(upgrade: WebSocketUpgrade, relay: Relay, addr: IpAddr, newcomer: Newcomer) -> Response {
    let tasks = relay.inner.tasks.clone();
    upgrade.protocols(["derp"]).max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE).on_upgrade(
        move |socket| async move { tasks.track_future(serve_websocket(socket, relay, addr, newcomer)).await },
    )
}

async fn serve_websocket(socket: WebSocket, relay: Relay, addr: IpAddr, newcomer: Newcomer) {
    let (sink, stream) = socket.split();
    let messages = stream.filter_map(|message| {
        future::ready(match message {
            Ok(Message::Binary(bytes)) => Some(Ok(bytes)),
            // Pings are answered underneath; a text is nothing that a client sends.
            Ok(_) => None,
            Err(e) => Some(Err(io::Error::other(e))),
        })
    });
    let sink =
        sink.sink_map_err(io::Error::other).with(|bytes: Bytes| future::ok::<_, io::Error>(Message::Binary(bytes)));
    let writer = SinkWriter::new(CopyToBytes::new(sink));
    session::serve(relay, StreamReader::new(messages), writer, addr, newcomer).await;
}

/// Clients measure latency with it where they cannot use UDP.
async fn probe() -> impl IntoResponse {
    [(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")]
}

#[derive(serde::Deserialize)]
struct BootstrapQuery {
    q: Option<String>,
}

async fn bootstrap_dns(State(relay): State<Relay>, Query(query): Query<BootstrapQuery>) -> impl IntoResponse {
    Json(relay.inner.bootstrap.answer(query.q.as_deref()).await)
}

/// How a client finds out whether a captive portal answers in the relay's place.
async fn generate_204(headers: HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let answer = response.headers_mut();
    answer.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-store, must-revalidate, no-transform, max-age=0"),
    );
    let challenge = headers.get("X-Tailscale-Challenge").and_then(|value| value.to_str().ok());
    if let Some(challenge) = challenge.filter(|c| is_challenge(c))
        && let Ok(value) = HeaderValue::try_from(format!("response {challenge}"))
    {
        answer.insert("X-Tailscale-Response", value);
    }
    response
}

fn is_challenge(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_CHALLENGE
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-'))
}

fn busy(why: &'static str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "2")], format!("{why}\n")).into_response()
}

fn header_has(headers: &HeaderMap, name: &header::HeaderName, wanted: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(wanted))
}

fn peer_addr(request: &Request) -> IpAddr {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    peer.map_or(Ipv4Addr::UNSPECIFIED.into(), |ConnectInfo(addr)| addr.ip().to_canonical())
}
