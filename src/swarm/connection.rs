//! One client's connection: the upgrade, Noise, and HTTP/2 inside (protocol section 2).

use super::VERSION;
use crate::control::{InitiateError, Initiator};
use crate::tailcfg::{MachineKey, PrivateKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What Go's HTTP/2 client lets a server send before it reads.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 1 << 30;
/// A connection that is not there by then has failed.
const WITHIN: Duration = Duration::from_secs(30);
/// The longest head of an answer to the upgrade, and the longest answer of `/key`.
const LONGEST_HEAD: usize = 16 << 10;

/// A server, and the key that it announced.
#[derive(Clone, Debug)]
pub struct Server {
    address: SocketAddr,
    /// As the `Host` header has it.
    authority: String,
    key: MachineKey,
}

/// A server that cannot be driven.
#[derive(Debug, thiserror::Error)]
pub enum UnfitServer {
    #[error("server {0:?}: must be an http:// URL with nothing behind the port, such as http://127.0.0.1:8080")]
    Url(String),
    #[error("server {url:?}: cannot be reached: {why}")]
    Unreachable { url: String, why: String },
}

impl Server {
    /// Where a URL leads. Nothing is sent yet.
    pub async fn resolve(url: &str) -> Result<(String, SocketAddr), UnfitServer> {
        let bad = || UnfitServer::Url(url.into());
        let uri: http::Uri = url.trim_end_matches('/').parse().map_err(|_| bad())?;
        let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http") && uri.path() == "/");
        let authority = authority.ok_or_else(bad)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let found = tokio::net::lookup_host((host, authority.port_u16().unwrap_or(80))).await;
        let unreachable = |why: String| UnfitServer::Unreachable { url: url.into(), why };
        let address = found.map_err(|e| unreachable(e.to_string()))?.next();
        Ok((authority.to_string(), address.ok_or_else(|| unreachable("its name has no address".into()))?))
    }

    /// Asks the server behind a URL for its key.
    pub async fn find(url: &str) -> Result<Self, UnfitServer> {
        let (authority, address) = Self::resolve(url).await?;
        let unreachable = |why: String| UnfitServer::Unreachable { url: url.into(), why };
        let asked = tokio::time::timeout(WITHIN, ask_key(address, &authority));
        let key = asked.await.unwrap_or_else(|_| Err("no answer".into())).map_err(unreachable)?;
        Ok(Self { address, authority, key })
    }

    /// Whether it says that it can serve.
    pub(super) async fn is_well(&self) -> bool {
        let asked = tokio::time::timeout(Duration::from_secs(1), get(self.address, &self.authority, "/health"));
        matches!(asked.await, Ok(Ok((status, _))) if status.is_success())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// `GET /key`.
async fn ask_key(address: SocketAddr, authority: &str) -> Result<MachineKey, String> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Keys {
        public_key: MachineKey,
    }
    let (status, body) = get(address, authority, &format!("/key?v={VERSION}")).await?;
    if !status.is_success() {
        return Err(format!("GET /key: {status}"));
    }
    serde_json::from_slice(&body).map(|keys: Keys| keys.public_key).map_err(|error| format!("GET /key: {error}"))
}

/// A request on a connection of its own.
async fn get(address: SocketAddr, authority: &str, path: &str) -> Result<(http::StatusCode, Bytes), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let tcp = TcpStream::connect(address).await.map_err(|e| text(&e))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await.map_err(|e| text(&e))?;
    let mut connections = tokio::task::JoinSet::new();
    connections.spawn(connection);
    let request = http::Request::get(path).header("Host", authority).body(Full::<Bytes>::default());
    let response = sender.send_request(request.map_err(|e| text(&e))?).await.map_err(|e| text(&e))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), LONGEST_HEAD).collect().await.map_err(|e| text(&e))?;
    Ok((status, body.to_bytes()))
}

/// Why a connection or a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the upgrade was answered with {0:?}")]
    Upgrade(String),
    #[error("{0}")]
    Noise(#[from] InitiateError),
    #[error("HTTP/2: {0}")]
    Http(#[from] hyper::Error),
    #[error("{path} was answered with {status}: {text}")]
    Refused { path: &'static str, status: u16, text: String },
    #[error("{path}: {what}")]
    Answer { path: &'static str, what: String },
    #[error("no answer in time")]
    Timeout,
}

/// HTTP/2 inside of Noise. The connection ends when this is dropped.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    task: tokio::task::AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    /// Dials a server as the machine with this key.
    pub async fn open(server: &Server, machine: &PrivateKey) -> Result<Self, Trouble> {
        tokio::time::timeout(WITHIN, Self::dial(server, machine)).await.unwrap_or(Err(Trouble::Timeout))
    }

    async fn dial(server: &Server, machine: &PrivateKey) -> Result<Self, Trouble> {
        let initiator = Initiator::new(machine, &server.key.0, VERSION);
        let mut tcp = TcpStream::connect(server.address).await?;
        tcp.set_nodelay(true)?;
        let handshake = STANDARD.encode(&initiator.initiation);
        let request = format!(
            "POST /ts2021 HTTP/1.1\r\nHost: {}\r\nUpgrade: tailscale-control-protocol\r\nConnection: upgrade\r\n\
             X-Tailscale-Handshake: {handshake}\r\nContent-Length: 0\r\n\r\n",
            server.authority
        );
        tcp.write_all(request.as_bytes()).await?;
        expect_upgrade(&mut tcp).await?;
        let mut noise = initiator.connect(tcp).await?;
        noise.skip_early_payload().await?;
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(TokioIo::new(noise))
            .await?;
        let task = tokio::spawn(async move { connection.await.unwrap_or_default() }).abort_handle();
        Ok(Self { sender, task })
    }

    /// What sends requests on it; `None`: it is over.
    pub fn sender(&self) -> Option<SendRequest<Full<Bytes>>> {
        Some(self.sender.clone()).filter(|sender| !sender.is_closed())
    }
}

/// Sends JSON to an inner path; gives the body of an answer with the status 200.
pub(super) async fn post(
    mut sender: SendRequest<Full<Bytes>>,
    path: &'static str,
    body: &serde_json::Value,
) -> Result<Incoming, Trouble> {
    let request = http::Request::post(format!("https://control{path}")).body(Full::new(body.to_string().into()));
    let request = request.map_err(|e| Trouble::Answer { path, what: e.to_string() })?;
    let response = sender.send_request(request).await?;
    match response.status().as_u16() {
        200 => Ok(response.into_body()),
        status => {
            let body = Limited::new(response.into_body(), LONGEST_HEAD).collect().await;
            let text = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).trim().to_owned()).unwrap_or_default();
            Err(Trouble::Refused { path, status, text })
        }
    }
}

/// Reads an answer's head, byte by byte: what follows it is not HTTP.
async fn expect_upgrade(tcp: &mut TcpStream) -> Result<(), Trouble> {
    let mut head = Vec::with_capacity(256);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == LONGEST_HEAD {
            return Err(Trouble::Upgrade("an endless head".into()));
        }
        // Up to the end that is being looked for, no byte of what follows can be read.
        let missing =
            4 - [&b"\r\n\r"[..], b"\r\n", b"\r"].iter().find(|end| head.ends_with(end)).map_or(0, |e| e.len());
        let start = head.len();
        head.resize(start + missing, 0);
        tcp.read_exact(&mut head[start..]).await?;
    }
    match head.starts_with(b"HTTP/1.1 101 ") {
        true => Ok(()),
        false => Err(Trouble::Upgrade(String::from_utf8_lossy(&head).lines().next().unwrap_or_default().into())),
    }
}
