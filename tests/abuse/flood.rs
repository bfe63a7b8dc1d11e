//! The ways to flood a replica.

use super::support::{Machine, Session};
use serde_json::json;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::task::JoinSet;

/// The addresses that floods come from; the client comes from 127.0.0.1.
const SOURCES: [Ipv4Addr; 3] =
    [Ipv4Addr::new(127, 0, 0, 66), Ipv4Addr::new(127, 0, 0, 67), Ipv4Addr::new(127, 0, 0, 68)];
/// A server that leaves a connection open for longer than this holds it; a new one comes then.
const HELD: Duration = Duration::from_secs(20);
/// Between two steps of something slow.
const DRIP: Duration = Duration::from_millis(500);

#[derive(Clone, Copy)]
pub struct Target {
    pub address: Ipv4Addr,
    /// The server's public key.
    pub key: [u8; 32],
}

#[derive(Default)]
pub struct Count {
    came: AtomicU64,
    turned_away: AtomicU64,
}

impl Count {
    fn came(&self) {
        self.came.fetch_add(1, Ordering::Relaxed);
    }

    fn turned_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
    }
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// `work` is done by `each` tasks for each address, again and again.
pub struct Flood {
    pub name: &'static str,
    pub each: usize,
    pub work: fn(Target, Ipv4Addr, Arc<Count>) -> Work,
}

pub struct Running {
    tasks: JoinSet<()>,
    count: Arc<Count>,
}

impl Flood {
    pub fn start(&self, target: &Target) -> Running {
        let (mut tasks, count) = (JoinSet::new(), Arc::new(Count::default()));
        for number in 0..self.each * SOURCES.len() {
            let (work, target, count) = (self.work, *target, count.clone());
            let from = SOURCES[number % SOURCES.len()];
            tasks.spawn(async move {
                loop {
                    work(target, from, count.clone()).await;
                    tokio::task::yield_now().await;
                }
            });
        }
        Running { tasks, count }
    }
}

impl Running {
    /// How many attempts there were, and how many the server ended or refused.
    pub async fn stop(mut self) -> (u64, u64) {
        self.tasks.shutdown().await;
        (self.count.came.load(Ordering::Relaxed), self.count.turned_away.load(Ordering::Relaxed))
    }
}

pub const FLOODS: &[Flood] = &[
    Flood { name: "connections that say nothing", each: 2200, work: |t, f, c| Box::pin(hold(t, f, c, 8080, b"")) },
    Flood {
        name: "request heads that never end",
        each: 600,
        work: |t, f, c| Box::pin(drip(t, f, c, b"GET /key?v=142 HTTP/1.1\r\nHost: x\r\n", b"X-A: b\r\n")),
    },
    Flood {
        name: "request bodies that never end",
        each: 600,
        work: |t, f, c| {
            Box::pin(drip(t, f, c, b"POST /verify HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n", b" "))
        },
    },
    Flood { name: "garbage", each: 20, work: |t, f, c| Box::pin(garbage(t, f, c)) },
    Flood { name: "answers that are not read", each: 300, work: |t, f, c| Box::pin(unread(t, f, c)) },
    Flood { name: "Noise handshakes that stop half-way", each: 400, work: |t, f, c| Box::pin(half_open(t, f, c)) },
    Flood { name: "Noise connections of strangers, idle", each: 300, work: |t, f, c| Box::pin(stranger(t, f, c)) },
    Flood { name: "maps of nodes that are not there", each: 20, work: |t, f, c| Box::pin(maps(t, f, c)) },
    Flood { name: "pre-authenticated keys that are none", each: 20, work: |t, f, c| Box::pin(bad_keys(t, f, c)) },
    Flood { name: "logins that nobody decides", each: 20, work: |t, f, c| Box::pin(logins(t, f, c)) },
    Flood { name: "API keys that are none", each: 20, work: |t, f, c| Box::pin(api_keys(t, f, c)) },
    Flood { name: "login pages of links that are none", each: 20, work: |t, f, c| Box::pin(pages(t, f, c)) },
    Flood {
        name: "TLS handshakes at the relay that never begin",
        each: 700,
        work: |t, f, c| Box::pin(hold(t, f, c, 8443, b"\x16\x03\x01\x02\x00")),
    },
    Flood {
        name: "TLS handshakes at the peer port that stop",
        each: 200,
        work: |t, f, c| Box::pin(hold(t, f, c, 7946, b"\x16\x03\x01\x02\x00")),
    },
    Flood { name: "STUN packets, good and bad", each: 4, work: |t, f, c| Box::pin(stun(t, f, c)) },
];

async fn connect(target: Target, from: Ipv4Addr, port: u16, count: &Count) -> Option<TcpStream> {
    count.came();
    let connected = async {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        socket.connect((target.address, port).into()).await
    };
    match tokio::time::timeout(HELD, connected).await {
        Ok(Ok(stream)) => Some(stream),
        _ => {
            count.turned_away();
            tokio::time::sleep(DRIP).await;
            None
        }
    }
}

/// Until the server ends the connection, or for long.
async fn wait_for_end(stream: &mut TcpStream, count: &Count) {
    let mut waste = [0; 4096];
    let ended = async { while stream.read(&mut waste).await.is_ok_and(|read| read > 0) {} };
    if tokio::time::timeout(HELD, ended).await.is_ok() {
        count.turned_away();
        tokio::time::sleep(DRIP).await;
    }
}

async fn hold(target: Target, from: Ipv4Addr, count: Arc<Count>, port: u16, first: &'static [u8]) {
    let Some(mut stream) = connect(target, from, port, &count).await else { return };
    let _ = stream.write_all(first).await;
    wait_for_end(&mut stream, &count).await;
}

async fn drip(target: Target, from: Ipv4Addr, count: Arc<Count>, first: &'static [u8], more: &'static [u8]) {
    let Some(mut stream) = connect(target, from, 8080, &count).await else { return };
    let _ = stream.write_all(first).await;
    while stream.write_all(more).await.is_ok() {
        tokio::time::sleep(DRIP).await;
    }
    count.turned_away();
}

async fn garbage(target: Target, from: Ipv4Addr, count: Arc<Count>) {
    let Some(mut stream) = connect(target, from, 8080, &count).await else { return };
    let bytes: Vec<u8> = (0..64 * 1024).map(|_| rand::random()).collect();
    let _ = stream.write_all(&bytes).await;
    wait_for_end(&mut stream, &count).await;
}

async fn unread(target: Target, from: Ipv4Addr, count: Arc<Count>) {
    let Some(mut stream) = connect(target, from, 8080, &count).await else { return };
    let requests = b"GET /apple HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100);
    let many = async { while stream.write_all(&requests).await.is_ok() {} };
    if tokio::time::timeout(HELD, many).await.is_ok() {
        count.turned_away();
    }
}

async fn half_open(target: Target, from: Ipv4Addr, count: Arc<Count>) {
    let Some(mut stream) = connect(target, from, 8080, &count).await else { return };
    let handshake = Session::initiation(&target.key, &Machine::new("half-open"));
    let request = format!(
        "POST /ts2021 HTTP/1.1\r\nHost: x\r\nUpgrade: tailscale-control-protocol\r\nConnection: upgrade\r\n\
         X-Tailscale-Handshake: {handshake}\r\n\r\n"
    );
    let _ = stream.write_all(request.as_bytes()).await;
    wait_for_end(&mut stream, &count).await;
}

async fn session(target: Target, from: Ipv4Addr, count: &Count) -> Option<(Machine, Session)> {
    count.came();
    let machine = Machine::new("stranger");
    match Session::open_from(from, target.address, &target.key, &machine).await {
        Ok(session) => Some((machine, session)),
        Err(_) => {
            count.turned_away();
            tokio::time::sleep(DRIP).await;
            None
        }
    }
}

async fn stranger(target: Target, from: Ipv4Addr, count: Arc<Count>) {
    let Some((_, session)) = session(target, from, &count).await else { return };
    let ended = async {
        while !session.is_closed() {
            tokio::time::sleep(DRIP).await;
        }
    };
    if tokio::time::timeout(HELD, ended).await.is_ok() {
        count.turned_away();
    }
}

async fn bad_keys(target: Target, from: Ipv4Addr, count: Arc<Count>) {
    let key = format!("hskey-auth-{}-{}", hex::encode([7; 6]), hex::encode([7; 32]));
    register_often(target, from, count, Some(key)).await;
}

async fn logins(target: Target, from: Ipv4Addr, count: Arc<Count>) {
    register_often(target, from, count, None).await;
}

async fn maps(target: Target, from: Ipv4Addr, count: Arc<Count>) {
    let Some((machine, session)) = session(target, from, &count).await else { return };
    let request = machine.map_request(false).to_string();
    ask_in_session(session, "/machine/map", || request.clone(), &count).await;
}

async fn register_often(target: Target, from: Ipv4Addr, count: Arc<Count>, key: Option<String>) {
    let Some((machine, session)) = session(target, from, &count).await else { return };
    let body = || {
        let mut body = machine.registration();
        if let Some(key) = &key {
            body["Auth"] = json!({ "AuthKey": key });
        }
        body.to_string()
    };
    ask_in_session(session, "/machine/register", body, &count).await;
}

async fn ask_in_session(mut session: Session, path: &str, body: impl Fn() -> String, count: &Count) {
    loop {
        count.came();
        match session.post(path, body().as_bytes()).await {
            Ok((429, _)) => count.turned_away(),
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

async fn api_keys(target: Target, from: Ipv4Addr, count: Arc<Count>) {
    let key = format!("hskey-api-{}-{}", hex::encode([7; 6]), hex::encode([7; 32]));
    let request = format!("GET /api/v1/user HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n");
    ask_often(target, from, count, &request).await;
}

async fn pages(target: Target, from: Ipv4Addr, count: Arc<Count>) {
    let id = hex::encode(rand::random::<[u8; 12]>());
    let request = format!("GET /register/hskey-authreq-{id} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    ask_often(target, from, count, &request).await;
}

async fn ask_often(target: Target, from: Ipv4Addr, count: Arc<Count>, request: &str) {
    let Some(mut stream) = connect(target, from, 8080, &count).await else { return };
    let mut answer = vec![0; 64 * 1024];
    for _ in 0..100 {
        count.came();
        if stream.write_all(request.as_bytes()).await.is_err() {
            return;
        }
        match stream.read(&mut answer).await {
            Ok(read) if read > 0 => {
                if answer.starts_with(b"HTTP/1.1 429 ") {
                    count.turned_away();
                }
            }
            _ => return,
        }
    }
}

async fn stun(target: Target, from: Ipv4Addr, count: Arc<Count>) {
    let Ok(socket) = UdpSocket::bind((from, 0)).await else { return };
    for number in 0..10_000_u32 {
        count.came();
        let packet: Vec<u8> = (0..40_u8).map(|at| at.wrapping_mul(number as u8)).collect();
        let _ = socket.send_to(&packet, (target.address, 3478)).await;
        if number % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
}
