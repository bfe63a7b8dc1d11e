//! `POST /machine/map`: what a node says about itself, and what it sees of its
//! tailnet (protocol section 4.1).

use super::known::find;
use super::lookups::{Later, Lookups};
use super::register::bad_request;
use super::streams::{StreamPlace, Streams};
use super::{Peer, body};
use crate::cluster::{Cluster, WriteError};
use crate::netmap::{Hub, StreamOptions};
use crate::state::{Endpoint, Node, NodeUpdate, Refused};
use crate::tailcfg::{Hostinfo, MapRequest};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use axum::{Extension, extract::State};
use bytes::Bytes;
use futures::StreamExt;
use http::{StatusCode, header};
use std::convert::Infallible;
use std::sync::Arc;

/// What map requests need.
pub(super) struct Maps {
    pub cluster: Cluster,
    pub hub: Hub,
    pub streams: Streams,
    pub lookups: Lookups,
}

/// Reads a map request, and answers it.
pub(super) async fn endpoint(State(maps): State<Arc<Maps>>, Extension(peer): Extension<Peer>, body: Body) -> Response {
    let body = match body::read(body).await {
        Ok(body) => body,
        Err(response) => return response,
    };
    let request = match MapRequest::parse(&body) {
        Ok(request) => request,
        Err(error) => {
            tracing::info!(machine = ?peer.machine_key, ip = %peer.ip, %error, "refused a map request");
            return bad_request(&error);
        }
    };
    match maps.answer(&peer, request).await {
        Ok(response) => response,
        Err(refusal) => {
            tracing::debug!(machine = ?peer.machine_key, ip = %peer.ip, error = %refusal, "refused a map request");
            refusal.into_response()
        }
    }
}

/// Why a map request came to nothing.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    /// No node of this machine has this key.
    #[error("node not found")]
    NotFound,
    #[error("this machine has too many map streams open: at most {max} are served", max = super::streams::MAX_STREAMS)]
    TooManyStreams,
    #[error(transparent)]
    Later(#[from] Later),
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let text = self.to_string();
        let status = match self {
            Refusal::NotFound => StatusCode::NOT_FOUND,
            Refusal::TooManyStreams => StatusCode::TOO_MANY_REQUESTS,
            Refusal::Later(Later(seconds)) => {
                let retry_after = [(header::RETRY_AFTER, seconds.to_string())];
                return (StatusCode::TOO_MANY_REQUESTS, retry_after, text).into_response();
            }
            Refusal::Write(WriteError::Refused(
                Refused::NodeNotFound | Refused::NodeKeyUnknown | Refused::MachineMismatch,
            )) => StatusCode::NOT_FOUND,
            Refusal::Write(WriteError::Unavailable(_))
            | Refusal::Write(WriteError::Refused(
                Refused::Stale | Refused::TooLate | Refused::NotBootstrapped | Refused::ReplicaGone,
            )) => {
                return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")], text).into_response();
            }
            Refusal::Write(WriteError::Refused(_)) => StatusCode::BAD_REQUEST,
        };
        (status, text).into_response()
    }
}

impl Maps {
    async fn answer(&self, peer: &Peer, request: MapRequest) -> Result<Response, Refusal> {
        let is_ours = |node: &Node| node.machine_key == peer.machine_key;
        if !self.cluster.view().node_by_key(&request.node_key).is_some_and(|node| is_ours(node)) {
            self.lookups.ask(peer)?;
        }
        let (_, node) = find(&self.cluster, &request.node_key, is_ours).await.map_err(WriteError::from)?;
        // Whether the key has expired does not matter: an expired node sees that it has.
        let node = node.filter(|node| is_ours(node)).ok_or(Refusal::NotFound)?;
        let options = StreamOptions {
            cap_ver: request.version,
            zstd: request.zstd,
            keep_alive: request.keep_alive,
            omit_peers: request.omit_peers,
        };
        if request.stream {
            let place = self.streams.enter(peer.machine_key).ok_or(Refusal::TooManyStreams)?;
            return self.stream(update(&node, request), options, place).await;
        }
        let (lite, read_only) = (request.omit_peers && !request.read_only, request.read_only);
        if !read_only {
            self.hub.update(update(&node, request)).await?;
        }
        if lite {
            return Ok(StatusCode::OK.into_response());
        }
        let map = self.hub.snapshot(node.id, options).ok_or(Refusal::NotFound)?;
        Ok(map.into_response())
    }

    /// Frames until the client has enough, which dropping the body tells the hub.
    async fn stream(
        &self,
        update: NodeUpdate,
        options: StreamOptions,
        place: StreamPlace,
    ) -> Result<Response, Refusal> {
        let frames = self.hub.open(update, options).await?;
        let frames = frames.map(move |frame| {
            let _held = &place;
            Ok::<Bytes, Infallible>(frame)
        });
        Ok(Body::from_stream(frames).into_response())
    }
}

/// What a request says about its node, and what it leaves as it is.
fn update(node: &Node, request: MapRequest) -> NodeUpdate {
    let endpoints: Vec<_> = request.endpoints.iter().map(|&(addr, kind)| Endpoint { addr, kind }).collect();
    let mut update = NodeUpdate {
        node: node.id,
        node_key: request.node_key,
        cap_ver: request.version,
        disco_key: request.disco_key,
        // A stream that starts may not know its endpoints yet; a lite update does.
        endpoints: Some(endpoints).filter(|endpoints| !request.stream || !endpoints.is_empty()),
        hostinfo: request.hostinfo.map(|hostinfo| complete(node, hostinfo)),
    };
    if request.read_only {
        update = NodeUpdate { disco_key: None, endpoints: None, hostinfo: None, ..update };
    }
    update
}

/// Tailscale's Rust client sends nothing but `NetInfo` in some updates: the rest
/// then stays as it was, the host's name above all.
fn complete(node: &Node, sent: Hostinfo) -> Hostinfo {
    if !sent.hostname.is_empty() {
        return sent;
    }
    Hostinfo { net_info: sent.net_info, preferred_derp: sent.preferred_derp, ..node.hostinfo.clone() }
}
