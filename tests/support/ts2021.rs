//! A client that is only its protocol: Noise and HTTP/2 inside of it, as many
//! machines as a test wants. Written from the protocol (sections 1.1, 2 and 3)
//! and from nothing of the server's own code.

use super::http::request;
use super::stream::MapStream;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chacha20poly1305::aead::Aead;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Nonce};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, split};
use tokio::net::{TcpSocket, TcpStream};

/// What the client claims to be: Tailscale 1.102.
const VERSION: u16 = 142;
/// The largest plaintext of a record.
const RECORD: usize = 4096 - 3 - 16;
/// A handshake or a request that takes longer has failed.
const WITHIN: Duration = Duration::from_secs(30);

/// A machine with one node, by its keys.
#[derive(Clone)]
pub struct Machine {
    pub name: String,
    private: [u8; 32],
    pub node_key: String,
    disco_key: String,
}

/// The server's answer to a registration.
#[derive(Debug)]
pub struct Registered {
    pub answer: Value,
}

impl Registered {
    /// Empty when it was accepted.
    pub fn error(&self) -> &str {
        self.answer["Error"].as_str().unwrap_or_default()
    }

    /// Whether the machine is a node now.
    pub fn accepted(&self) -> bool {
        self.answer["MachineAuthorized"] == true && self.error().is_empty() && self.auth_url().is_empty()
    }

    pub fn auth_url(&self) -> &str {
        self.answer["AuthURL"].as_str().unwrap_or_default()
    }
}

impl Machine {
    pub fn new(name: &str) -> Machine {
        let node = x25519_dalek::PublicKey::from(&x25519_dalek::StaticSecret::from(rand::random::<[u8; 32]>()));
        Machine {
            name: name.into(),
            private: rand::random(),
            node_key: format!("nodekey:{}", hex::encode(node.as_bytes())),
            disco_key: format!("discokey:{}", hex::encode(rand::random::<[u8; 32]>())),
        }
    }

    /// The machine key as the API prints it.
    pub fn key(&self) -> String {
        let public = x25519_dalek::PublicKey::from(&x25519_dalek::StaticSecret::from(self.private));
        format!("mkey:{}", hex::encode(public.as_bytes()))
    }

    /// A registration's body, without `Auth`.
    pub fn registration(&self) -> Value {
        json!({
            "Version": VERSION,
            "NodeKey": self.node_key,
            "OldNodeKey": format!("nodekey:{}", "0".repeat(64)),
            "NLKey": format!("nlpub:{}", hex::encode(rand::random::<[u8; 32]>())),
            "Expiry": "0001-01-01T00:00:00Z",
            "Followup": "",
            "Hostinfo": {"IPNVersion": "1.102.5", "BackendLogID": "00", "OS": "linux", "Hostname": self.name},
            "NodeKeySignature": null
        })
    }

    /// A map request, as Tailscale's Go client sends it: `stream` or a lite update.
    pub fn map_request(&self, stream: bool) -> Value {
        json!({
            "Version": VERSION,
            "Compress": "zstd",
            "KeepAlive": true,
            "NodeKey": self.node_key,
            "DiscoKey": self.disco_key,
            "Stream": stream,
            "OmitPeers": !stream,
            "Hostinfo": {"IPNVersion": "1.102.5", "BackendLogID": "00", "OS": "linux", "Hostname": self.name},
        })
    }

    /// Connects, registers with a pre-authenticated key, and hangs up.
    pub async fn register(
        &self,
        server: Ipv4Addr,
        server_key: &[u8; 32],
        auth_key: &str,
    ) -> Result<Registered, String> {
        let mut session = Session::open(server, server_key, self).await?;
        let mut body = self.registration();
        body["Auth"] = json!({"AuthKey": auth_key});
        session.register(&body).await
    }
}

/// `GET /key`.
pub async fn server_key(url: &str) -> [u8; 32] {
    let reply = request("GET", &format!("{url}/key?v={VERSION}"), &[], b"").await.expect("/key answers");
    let text = reply.json()["publicKey"].as_str().expect("a public key").to_string();
    let digits = text.strip_prefix("mkey:").expect("a machine key");
    hex::decode(digits).ok().and_then(|bytes| bytes.try_into().ok()).expect("32 bytes in hex")
}

/// HTTP/2 inside of a Noise connection.
pub struct Session {
    http: SendRequest<Full<Bytes>>,
}

impl Session {
    pub async fn open(server: Ipv4Addr, server_key: &[u8; 32], machine: &Machine) -> Result<Session, String> {
        Self::open_from(Ipv4Addr::UNSPECIFIED, server, server_key, machine).await
    }

    /// From this address of the machine.
    pub async fn open_from(
        from: Ipv4Addr,
        server: Ipv4Addr,
        server_key: &[u8; 32],
        machine: &Machine,
    ) -> Result<Session, String> {
        tokio::time::timeout(WITHIN, Self::connect(from, server, server_key, machine))
            .await
            .unwrap_or_else(|_| Err(format!("{server}: no Noise connection within {} s", WITHIN.as_secs())))
    }

    /// What a client sends first, as it is sent: the beginning of a handshake that is good.
    pub fn initiation(server_key: &[u8; 32], machine: &Machine) -> String {
        Self::begin(server_key, machine).map(|(_, initiation)| initiation).unwrap_or_default()
    }

    fn begin(server_key: &[u8; 32], machine: &Machine) -> Result<(snow::HandshakeState, String), String> {
        let mut noise = snow::Builder::new("Noise_IK_25519_ChaChaPoly_BLAKE2s".parse().expect("a pattern"))
            .local_private_key(&machine.private)
            .and_then(|b| b.remote_public_key(server_key))
            .and_then(|b| b.prologue(b"Tailscale Control Protocol v142"))
            .and_then(|b| b.build_initiator())
            .map_err(|e| format!("noise: {e}"))?;
        let mut initiation = vec![0; 101];
        initiation[..2].copy_from_slice(&VERSION.to_be_bytes());
        initiation[2..5].copy_from_slice(&[1, 0, 96]);
        noise.write_message(&[], &mut initiation[5..]).map_err(|e| format!("initiation: {e}"))?;
        Ok((noise, STANDARD.encode(&initiation)))
    }

    async fn connect(
        from: Ipv4Addr,
        server: Ipv4Addr,
        server_key: &[u8; 32],
        machine: &Machine,
    ) -> Result<Session, String> {
        let (mut noise, initiation) = Self::begin(server_key, machine)?;
        let mut stream = upgrade(from, server, &initiation).await?;
        let mut header = [0; 3];
        stream.read_exact(&mut header).await.map_err(|e| format!("{server}: no handshake response: {e}"))?;
        let mut body = vec![0; usize::from(u16::from_be_bytes([header[1], header[2]]))];
        stream.read_exact(&mut body).await.map_err(|e| format!("{server}: no whole handshake response: {e}"))?;
        match header[0] {
            2 => noise.read_message(&body, &mut []).map_err(|e| format!("handshake response: {e}"))?,
            3 => return Err(format!("{server} refused: {}", String::from_utf8_lossy(&body))),
            other => return Err(format!("{server}: a frame of type {other} instead of a handshake response")),
        };
        let (send, receive) = noise.dangerously_get_raw_split();
        let inner = records(stream, Cipher::new(&send), Cipher::new(&receive));
        let (http, connection) =
            handshake(TokioExecutor::new(), TokioIo::new(inner)).await.map_err(|e| format!("HTTP/2: {e}"))?;
        tokio::spawn(connection);
        Ok(Session { http })
    }

    /// Sends JSON to an inner path.
    pub async fn post(&mut self, path: &str, body: &[u8]) -> Result<(u16, String), String> {
        self.ask("POST", path, body).await
    }

    /// Gets an inner path.
    pub async fn get(&mut self, path: &str) -> Result<(u16, String), String> {
        self.ask("GET", path, b"").await
    }

    async fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> Result<(u16, String), String> {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("https://control{path}"))
            .body(Full::new(Bytes::copy_from_slice(body)))
            .map_err(|e| e.to_string())?;
        let answer = async {
            let response = self.http.send_request(request).await.map_err(|e| format!("{path}: {e}"))?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.map_err(|e| format!("{path}: {e}"))?.to_bytes();
            Ok((status, String::from_utf8_lossy(&body).into_owned()))
        };
        tokio::time::timeout(WITHIN, answer)
            .await
            .unwrap_or_else(|_| Err(format!("{path}: no answer within {} s", WITHIN.as_secs())))
    }

    /// Whether its connection has ended, so that a client would dial anew.
    pub fn is_closed(&self) -> bool {
        self.http.is_closed()
    }

    /// Opens a map stream; the error is the answer's status, if there was one, and text.
    pub async fn map(&mut self, machine: &Machine) -> Result<MapStream, String> {
        let request = http::Request::post("https://control/machine/map")
            .body(Full::new(Bytes::from(machine.map_request(true).to_string())))
            .map_err(|e| e.to_string())?;
        let response = self.http.send_request(request).await.map_err(|e| format!("map: {e}"))?;
        match response.status().as_u16() {
            200 => Ok(MapStream::new(response.into_body())),
            status => {
                let body = response.into_body().collect().await.map_err(|e| format!("map: {status}: {e}"))?.to_bytes();
                Err(format!("map: {status}: {}", String::from_utf8_lossy(&body)))
            }
        }
    }

    pub async fn register(&mut self, body: &Value) -> Result<Registered, String> {
        match self.post("/machine/register", body.to_string().as_bytes()).await? {
            (200, text) => {
                let answer = serde_json::from_str(&text).map_err(|e| format!("register: {e}: {text}"))?;
                Ok(Registered { answer })
            }
            (status, text) => Err(format!("register: {status}: {text}")),
        }
    }
}

/// Asks for the upgrade with this handshake, whatever it is; gives the answer's
/// status line and what follows its head, as far as it arrives before the end or `WITHIN`.
pub async fn raw_upgrade(server: Ipv4Addr, handshake: &str) -> Result<(String, Vec<u8>), String> {
    let mut stream = TcpStream::connect((server, 8080)).await.map_err(|e| e.to_string())?;
    ask(&mut stream, server, handshake).await?;
    let mut all = Vec::new();
    tokio::time::timeout(WITHIN, stream.read_to_end(&mut all))
        .await
        .map_err(|_| "the connection is left open".to_string())?
        .ok();
    let end = all.windows(4).position(|four| four == b"\r\n\r\n").ok_or("no HTTP head")?;
    let line = String::from_utf8_lossy(&all[..end]).lines().next().unwrap_or_default().to_string();
    Ok((line, all.split_off(end + 4)))
}

async fn upgrade(from: Ipv4Addr, server: Ipv4Addr, handshake: &str) -> Result<TcpStream, String> {
    let connected = async {
        let socket = TcpSocket::new_v4()?;
        if !from.is_unspecified() {
            socket.bind((from, 0).into())?;
        }
        socket.connect((server, 8080).into()).await
    };
    let mut stream = connected.await.map_err(|e| format!("{server}: {e}"))?;
    ask(&mut stream, server, handshake).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.map_err(|e| format!("{server}: no answer to the upgrade: {e}"))?);
    }
    let head = String::from_utf8_lossy(&head);
    match head.starts_with("HTTP/1.1 101 ") {
        true => Ok(stream),
        false => Err(format!("{server}: {}", head.lines().next().unwrap_or_default())),
    }
}

async fn ask(stream: &mut TcpStream, server: Ipv4Addr, handshake: &str) -> Result<(), String> {
    let request = format!(
        "POST /ts2021 HTTP/1.1\r\nHost: {server}:8080\r\nUpgrade: tailscale-control-protocol\r\n\
         Connection: upgrade\r\nContent-Length: 0\r\nX-Tailscale-Handshake: {handshake}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(|e| format!("{server}: {e}"))
}

/// The plaintext side of a connection; two tasks carry it through records.
fn records(stream: TcpStream, mut send: Cipher, mut receive: Cipher) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let (mut from_server, mut to_server) = stream.into_split();
    let (mut plain_out, mut plain_in) = split(theirs);
    tokio::spawn(async move { encrypt(&mut plain_out, &mut to_server, &mut send).await });
    tokio::spawn(async move {
        decrypt(&mut from_server, &mut plain_in, &mut receive).await.ok();
        // HTTP/2 must see at once that the connection has ended.
        plain_in.shutdown().await.ok();
    });
    ours
}

async fn encrypt<R, W>(from: &mut R, to: &mut W, cipher: &mut Cipher) -> std::io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut plaintext = vec![0; RECORD];
    loop {
        let read = from.read(&mut plaintext).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        let sealed = cipher.seal(&plaintext[..read]);
        let mut frame = vec![4];
        frame.extend_from_slice(&(sealed.len() as u16).to_be_bytes());
        frame.extend_from_slice(&sealed);
        to.write_all(&frame).await?;
    }
}

async fn decrypt<R, W>(from: &mut R, to: &mut W, cipher: &mut Cipher) -> std::io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut early = Some(Vec::new());
    loop {
        let mut header = [0; 3];
        from.read_exact(&mut header).await?;
        let mut sealed = vec![0; usize::from(u16::from_be_bytes([header[1], header[2]]))];
        from.read_exact(&mut sealed).await?;
        let plaintext = cipher.open(&sealed).ok_or(std::io::ErrorKind::InvalidData)?;
        match early.take() {
            Some(mut start) => {
                start.extend_from_slice(&plaintext);
                match after_early_payload(&start) {
                    Some(rest) => to.write_all(rest).await?,
                    None => early = Some(start),
                }
            }
            None => to.write_all(&plaintext).await?,
        }
    }
}

/// What follows the early payload (section 2.4); `None`: it has not all arrived.
fn after_early_payload(start: &[u8]) -> Option<&[u8]> {
    if start.len() < 9 {
        return None;
    }
    if &start[..5] != b"\xff\xff\xffTS" {
        return Some(start);
    }
    let length = u32::from_be_bytes([start[5], start[6], start[7], start[8]]) as usize;
    start.get(9 + length..)
}

/// ChaCha20-Poly1305 with the transport's big-endian nonces.
struct Cipher {
    aead: ChaCha20Poly1305,
    counter: u64,
}

impl Cipher {
    fn new(key: &[u8; 32]) -> Cipher {
        Cipher { aead: ChaCha20Poly1305::new(&(*key).into()), counter: 0 }
    }

    fn nonce(&mut self) -> Nonce {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.counter.to_be_bytes());
        self.counter += 1;
        nonce.into()
    }

    fn seal(&mut self, plaintext: &[u8]) -> Vec<u8> {
        let nonce = self.nonce();
        self.aead.encrypt(&nonce, plaintext).expect("a record is short enough")
    }

    fn open(&mut self, sealed: &[u8]) -> Option<Vec<u8>> {
        let nonce = self.nonce();
        self.aead.decrypt(&nonce, sealed).ok()
    }
}
