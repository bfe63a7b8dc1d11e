//! The inner endpoints without a connection, for tests.

use super::lookups::Lookups;
use super::{Logins, Peer, Registrar, Sessions, registrations, ssh_actions};
use crate::cluster::Cluster;
use crate::limits::{Budget, Limits};
use crate::tailcfg::{CapVer, MachineKey};
use axum::Router;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use std::time::Duration;
use tower::ServiceExt;

/// Registrations, SSH sessions, and what needs no state.
pub fn machine_router(cluster: &Cluster, server_url: &str, patience: Duration) -> Router {
    limited_router(cluster, server_url, patience, Limits::default())
}

/// The same with other limits than the usual ones.
pub fn limited_router(cluster: &Cluster, server_url: &str, patience: Duration, limits: Limits) -> Router {
    let server_url = server_url.trim_end_matches('/').to_owned();
    let logins = Logins::follow(cluster);
    let sessions = Sessions {
        cluster: cluster.clone(),
        policies: Default::default(),
        server_url: server_url.clone(),
        logins: logins.clone(),
        by_provider: false,
        lookups: Lookups::new(cluster, limits, "SSH sessions"),
        patience,
    };
    let registrar = Registrar {
        cluster: cluster.clone(),
        policies: Default::default(),
        server_url,
        logins,
        limits,
        failed_keys: Budget::new(limits.failed_keys_per_minute),
        lookups: Lookups::new(cluster, limits, "registrations"),
        patience,
    };
    registrations(registrar).merge(ssh_actions(sessions)).merge(super::others())
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub bytes: Bytes,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        serde_json::from_str(&self.text).unwrap()
    }
}

/// Posts `body` as the machine with this key; the response's body is still to be read.
pub async fn request(router: &Router, machine: MachineKey, path: &str, body: impl Into<Body>) -> Response {
    let mut request = Request::post(path).body(body.into()).unwrap();
    let ip = [192, 0, 2, machine.0[0]].into();
    request.extensions_mut().insert(Peer { machine_key: machine, version: CapVer(142), ip });
    router.clone().oneshot(request).await.unwrap()
}

/// Gets `path` as the machine with this key.
pub async fn get(router: &Router, machine: MachineKey, path: &str) -> Answer {
    let mut request = Request::get(path).body(Body::empty()).unwrap();
    let ip = [192, 0, 2, machine.0[0]].into();
    request.extensions_mut().insert(Peer { machine_key: machine, version: CapVer(142), ip });
    whole(router.clone().oneshot(request).await.unwrap()).await
}

/// Posts `body` as the machine with this key, and reads the whole answer.
pub async fn post(router: &Router, machine: MachineKey, path: &str, body: impl Into<Body>) -> Answer {
    whole(request(router, machine, path, body).await).await
}

async fn whole(response: Response) -> Answer {
    let (status, headers) = (response.status(), response.headers().clone());
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Answer { status, headers, bytes, text }
}
