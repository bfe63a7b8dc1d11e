//! A server on a socket and a client of it, for this module's tests.

use super::admission::Admission;
use super::noise::Initiator;
use super::noise::NoiseStream;
use super::{MAX_CONNECTIONS, Shared, routes};
use crate::cluster::Cluster;
use crate::limits::Limits;
use crate::state::{Allocation, Settings};
use crate::tailcfg::PrivateKey;
use axum::Router;
use base64::Engine;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

/// A cluster of one, set up as Headscale's example is.
pub fn cluster() -> Cluster {
    Cluster::in_memory(Settings {
        prefix_v4: Some("100.64.0.0/10".parse().unwrap()),
        prefix_v6: Some("fd7a:115c:a1e0::/48".parse().unwrap()),
        allocation: Allocation::Sequential,
        base_domain: "tailnet.internal".into(),
        node_expiry: Duration::ZERO,
        ephemeral_timeout: Duration::from_secs(120),
    })
}

/// The outer endpoints, with nothing inside.
pub fn outer(cluster: Cluster) -> Router {
    app(cluster, Router::new(), Limits::default()).0
}

fn app(cluster: Cluster, machine: Router, limits: Limits) -> (Router, watch::Sender<bool>, CancellationToken) {
    let (quorum, stop) = (watch::Sender::new(true), CancellationToken::new());
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let admission = Admission::new(limits);
    let shared = Shared { cluster, quorum: quorum.subscribe(), machine, stop: stop.clone(), connections, admission };
    (routes(Arc::new(shared)), quorum, stop)
}

/// The outer endpoints on a socket of their own.
pub struct Server {
    pub addr: SocketAddr,
    pub key: [u8; 32],
    pub quorum: watch::Sender<bool>,
    pub stop: CancellationToken,
}

impl Server {
    /// Serves `machine` inside its Noise connections.
    pub async fn start(cluster: Cluster, machine: Router) -> Self {
        Self::with_limits(cluster, machine, Limits::default()).await
    }

    pub async fn with_limits(cluster: Cluster, machine: Router, limits: Limits) -> Self {
        let key = cluster.noise_key().unwrap().public();
        let (app, quorum, stop) = app(cluster, machine, limits);
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { addr, key, quorum, stop }
    }

    /// Sends a request's head, and gives the response's head and the connection.
    pub async fn raw(&self, head: &str) -> (String, TcpStream) {
        let mut tcp = TcpStream::connect(self.addr).await.unwrap();
        tcp.write_all(head.as_bytes()).await.unwrap();
        let mut response = Vec::new();
        while !response.ends_with(b"\r\n\r\n") {
            response.push(tcp.read_u8().await.unwrap_or_else(|error| {
                panic!("{error} after {:?}", String::from_utf8_lossy(&response));
            }));
        }
        (String::from_utf8(response).unwrap(), tcp)
    }

    /// As a native client upgrades; the response frame is still to be read.
    pub async fn upgrade(&self, initiation: &[u8]) -> (String, TcpStream) {
        let handshake = base64::engine::general_purpose::STANDARD.encode(initiation);
        self.raw(&format!(
            "POST /ts2021 HTTP/1.1\r\nHost: {}\r\nUpgrade: tailscale-control-protocol\r\nConnection: upgrade\r\n\
             X-Tailscale-Handshake: {handshake}\r\n\r\n",
            self.addr
        ))
        .await
    }

    /// A Noise connection on which nothing was read yet.
    pub async fn noise(&self, machine: &PrivateKey) -> NoiseStream<TcpStream> {
        let initiator = Initiator::new(machine, &self.key, 142);
        let (head, tcp) = self.upgrade(&initiator.initiation).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.contains("upgrade: tailscale-control-protocol\r\n"), "{head}");
        initiator.connect(tcp).await.unwrap()
    }

    /// A client whose machine has this key.
    pub async fn connect(&self, machine: &PrivateKey) -> Client {
        Client::over(self.noise(machine).await).await
    }
}

/// What speaks HTTP/2 on a Noise connection.
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
    /// Done when the connection is.
    pub closed: tokio::task::JoinHandle<()>,
}

impl Client {
    /// On a Noise connection on which nothing was read yet.
    pub async fn over(mut stream: NoiseStream<TcpStream>) -> Self {
        let mut magic = [0; 5];
        stream.read_exact(&mut magic).await.unwrap();
        assert_eq!(&magic, b"\xff\xff\xffTS");
        let mut payload = vec![0; stream.read_u32().await.unwrap() as usize];
        stream.read_exact(&mut payload).await.unwrap();
        let payload: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        let challenge = payload["nodeKeyChallenge"].as_str().unwrap();
        assert!(challenge.starts_with("chalpub:") && challenge.len() == 8 + 64, "{challenge}");

        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let closed = tokio::spawn(async move {
            let _ = connection.await;
        });
        Client { sender, closed }
    }

    /// The response's head; its body is still to be read.
    pub async fn start(
        &self,
        method: &str,
        path: &str,
        body: impl Into<Bytes>,
    ) -> hyper::Result<http::Response<Incoming>> {
        let uri = format!("https://unused{path}");
        let request = Request::builder().method(method).uri(uri).body(Full::new(body.into())).unwrap();
        self.sender.clone().send_request(request).await
    }

    /// The status and the whole body.
    pub async fn ask(&self, method: &str, path: &str, body: impl Into<Bytes>) -> (StatusCode, String) {
        let response = self.start(method, path, body).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}
