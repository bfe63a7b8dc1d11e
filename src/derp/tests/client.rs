//! A small DERP client, and a relay to use it on.

use crate::derp::frame::{self, HEADER_LEN, kind};
use crate::derp::{Admit, Bootstrap, Certificate, Options, Relay, handshake, router, serve_relay};
use crate::tailcfg::{NodeKey, PrivateKey};
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::task::AbortOnDropHandle;

/// Five times what anything here may take.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// A relay that admits as told.
pub fn relay_for_tests(admit: Admit) -> Relay {
    Relay::new(Options {
        key: PrivateKey::generate(),
        admit,
        bootstrap: Bootstrap::new("127.0.0.1", Vec::new),
        max_clients: 100,
        max_newcomers: 1024,
    })
}

/// A relay that listens, with TLS.
pub struct Server {
    pub relay: Relay,
    pub addr: SocketAddr,
    connector: TlsConnector,
    serving: AbortOnDropHandle<()>,
}

impl Server {
    pub async fn start(admit: Admit) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("relay.pem");
        let certificate = Certificate::load_or_make(&path, "127.0.0.1").unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(rustls::pki_types::CertificateDer::from_pem_file(&path).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();

        let relay = relay_for_tests(admit);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let config = certificate.server_config().unwrap();
        let serving = tokio::spawn(serve_relay(listener, config, relay.clone(), router(relay.clone())));
        Self { relay, addr, connector: TlsConnector::from(Arc::new(tls)), serving: AbortOnDropHandle::new(serving) }
    }

    /// A TLS connection on which nothing was said yet.
    pub async fn dial(&self) -> TlsStream<tokio::net::TcpStream> {
        let socket = TcpSocket::new_v4().unwrap();
        // So that a client that does not read is noticed after few packets.
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        let stream = socket.connect(self.addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        self.connector.connect(ServerName::try_from("127.0.0.1").unwrap(), stream).await.unwrap()
    }

    /// The whole answer to one request.
    pub async fn ask(&self, request: &str) -> String {
        let mut stream = self.dial().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // The relay may end TLS without saying so.
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    /// A connection after the upgrade, at the relay's first frame.
    pub async fn upgrade(&self, head: &str) -> TlsStream<tokio::net::TcpStream> {
        let mut stream = self.dial().await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        stream
    }

    /// A client with a new key.
    pub async fn client(&self) -> Client {
        self.client_with(PrivateKey::generate()).await
    }

    pub async fn client_with(&self, key: PrivateKey) -> Client {
        self.try_client(key).await.unwrap()
    }

    pub async fn try_client(&self, key: PrivateKey) -> io::Result<Client> {
        let stream = self.upgrade(UPGRADE).await;
        Client::handshake(stream, key, GO_INFO).await
    }

    /// Waits for the listener to end, which it does after [`Relay::shutdown`].
    pub async fn ended(self) {
        tokio::time::timeout(PATIENCE, self.serving).await.unwrap().unwrap();
    }
}

/// As the Go client asks.
pub const UPGRADE: &str = "GET /derp HTTP/1.1\r\nHost: x\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n";
/// As the Go client describes itself.
pub const GO_INFO: &str = r#"{"version":2,"CanAckPings":true}"#;
/// As the Rust client describes itself.
pub const RUST_INFO: &str = r#"{"can_ack_pings":false,"is_prober":false,"mesh_key":null,"version":2}"#;

/// An admitted client.
pub struct Client<S = TlsStream<tokio::net::TcpStream>> {
    pub key: NodeKey,
    pub stream: S,
}

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Client<S> {
    pub async fn handshake(mut stream: S, key: PrivateKey, info: &str) -> io::Result<Self> {
        let (first, payload) = read_frame(&mut stream).await?;
        assert_eq!((first, &payload[..8]), (kind::SERVER_KEY, "DERP🔑".as_bytes()));
        let server = NodeKey(payload[8..].try_into().unwrap());
        let public = NodeKey(key.public());
        let sealed = handshake::seal(&key, &server, info.as_bytes());
        stream.write_all(&frame::frame(kind::CLIENT_INFO, &[&public.0, &sealed])).await?;
        stream.flush().await?;
        let (second, payload) = read_frame(&mut stream).await?;
        assert_eq!(second, kind::SERVER_INFO);
        assert_eq!(handshake::open(&key, &server, &payload).unwrap(), br#"{"version":2}"#);
        Ok(Self { key: public, stream })
    }

    pub async fn send_frame(&mut self, kind: u8, payload: &[u8]) {
        self.stream.write_all(&frame::frame(kind, &[payload])).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    pub async fn send(&mut self, to: &NodeKey, packet: &[u8]) {
        self.send_frame(kind::SEND_PACKET, &[&to.0, packet].concat()).await;
    }

    /// The next frame.
    pub async fn recv(&mut self) -> io::Result<(u8, Vec<u8>)> {
        read_frame(&mut self.stream).await
    }

    /// The next frame, which has to be a packet: its source and contents.
    pub async fn recv_packet(&mut self) -> (NodeKey, Vec<u8>) {
        let (kind, payload) = self.recv().await.unwrap();
        assert_eq!(kind, kind::RECV_PACKET, "{payload:?}");
        (NodeKey(payload[..32].try_into().unwrap()), payload[32..].to_vec())
    }

    /// Waits until the relay has read all that this client sent.
    pub async fn sync(&mut self) {
        self.send_frame(kind::PING, b"12345678").await;
        assert_eq!(self.recv().await.unwrap(), (kind::PONG, b"12345678".to_vec()));
    }

    /// Waits until the relay closes the connection.
    pub async fn closed(mut self) {
        while self.recv().await.is_ok() {}
    }
}

async fn read_frame<S: tokio::io::AsyncRead + Unpin>(stream: &mut S) -> io::Result<(u8, Vec<u8>)> {
    let read = async {
        let mut header = [0; HEADER_LEN];
        stream.read_exact(&mut header).await?;
        let mut payload = vec![0; u32::from_be_bytes(header[1..].try_into().unwrap()) as usize];
        stream.read_exact(&mut payload).await?;
        Ok((header[0], payload))
    };
    tokio::time::timeout(PATIENCE, read).await.expect("a frame in time")
}
