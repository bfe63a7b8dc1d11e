//! A Tailscale node made of Tailscale's Rust client, for the end-to-end tests.
//!
//! `rust-client CONTROL_URL HOSTNAME [AUTH_KEY] [--get IP:PORT] [--serve]`
//!
//! It joins, prints what happens as one JSON object a line on standard output
//! (`auth_url`, `running`, `body`, `served`, `error`), fetches `/` over HTTP
//! through the tunnel if `--get` says from where, and with `--serve` answers
//! on port 80 until it is killed.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;
use tailscale::netstack::TcpStream;
use tailscale::{AuthState, Config, Device};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

/// How long a join may take, waiting for an administrator included.
const JOIN: Duration = Duration::from_secs(120);
/// How long one try of a request through the tunnel may take: its first
/// packets can be lost while the relay connects.
const TRY: Duration = Duration::from_secs(10);
/// How many tries before the request has failed.
const TRIES: usize = 6;
/// More of a response than this is not read.
const BODY: u64 = 64 * 1024;

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            event("error", &error);
            ExitCode::FAILURE
        }
    }
}

struct Arguments {
    control_url: String,
    hostname: String,
    auth_key: Option<String>,
    get: Option<String>,
    serve: bool,
}

impl Arguments {
    fn parse() -> Arguments {
        let mut words = Vec::new();
        let (mut get, mut serve) = (None, false);
        let mut all = std::env::args().skip(1);
        while let Some(word) = all.next() {
            match word.as_str() {
                "--get" => get = all.next(),
                "--serve" => serve = true,
                _ => words.push(word),
            }
        }
        let mut words = words.into_iter();
        Arguments {
            control_url: words.next().unwrap_or_default(),
            hostname: words.next().unwrap_or_default(),
            auth_key: words.next(),
            get,
            serve,
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), String> {
    let config = Config {
        control_server_url: arguments
            .control_url
            .parse()
            .map_err(|e| format!("control URL {:?}: {e}", arguments.control_url))?,
        requested_hostname: Some(arguments.hostname),
        client_name: Some("quorumscale-test".into()),
        ..Config::default()
    };
    let device = timeout(JOIN, Device::new(&config, arguments.auth_key))
        .await
        .map_err(|_| "no contact with the control server".to_string())?
        .map_err(|e| format!("start: {e}"))?;
    let address = timeout(JOIN, wait_until_running(&device)).await.map_err(|_| "not running in time".to_string())??;
    event("running", &address.to_string());

    if let Some(from) = arguments.get {
        let from: SocketAddr = from.parse().map_err(|e| format!("--get {from:?}: {e}"))?;
        event("body", &get_with_retries(&device, from).await?);
    }
    if arguments.serve {
        serve(&device, address).await?;
    }
    device.shutdown(Some(Duration::from_secs(5))).await;
    Ok(())
}

async fn wait_until_running(device: &Device) -> Result<Ipv4Addr, String> {
    let mut shown = None;
    loop {
        match device.is_authorized().await.map_err(|e| format!("authorisation: {e}"))? {
            AuthState::Authorized => {
                if let Ok(address) = device.ipv4_addr().await {
                    return Ok(address);
                }
            }
            AuthState::NotAuthorized(url) => {
                if shown.as_ref() != Some(&url) {
                    event("auth_url", url.as_str());
                    shown = Some(url);
                }
            }
        }
        sleep(Duration::from_millis(200)).await;
    }
}

async fn get_with_retries(device: &Device, from: SocketAddr) -> Result<String, String> {
    let mut last = String::new();
    for _ in 0..TRIES {
        match timeout(TRY, get(device, from)).await {
            Ok(Ok(body)) => return Ok(body),
            Ok(Err(error)) => {
                last = error;
                sleep(Duration::from_secs(1)).await;
            }
            Err(_) => last = format!("no answer from {from} within {} s", TRY.as_secs()),
        }
    }
    Err(format!("GET http://{from}/: {last}"))
}

async fn get(device: &Device, from: SocketAddr) -> Result<String, String> {
    let mut stream = device.tcp_connect(from).await.map_err(|e| format!("connect: {e}"))?;
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", from.ip());
    stream.write_all(request.as_bytes()).await.map_err(|e| format!("write: {e}"))?;
    let mut response = Vec::new();
    stream.take(BODY).read_to_end(&mut response).await.map_err(|e| format!("read: {e}"))?;
    let response = String::from_utf8_lossy(&response);
    let (head, body) = response.split_once("\r\n\r\n").ok_or_else(|| format!("no HTTP response: {response:?}"))?;
    if !head.starts_with("HTTP/1.1 200") {
        return Err(format!("status: {head:?}"));
    }
    Ok(body.to_string())
}

async fn serve(device: &Device, address: Ipv4Addr) -> Result<(), String> {
    let listener = device.tcp_listen(SocketAddr::from((address, 80))).await.map_err(|e| format!("listen: {e}"))?;
    loop {
        let stream = listener.accept().await.map_err(|e| format!("accept: {e}"))?;
        match timeout(TRY, answer(stream)).await {
            Ok(Ok(())) => event("served", "/"),
            Ok(Err(error)) => event("serve_error", &error),
            Err(_) => event("serve_error", "a request did not end"),
        }
    }
}

async fn answer(mut stream: TcpStream) -> Result<(), String> {
    let mut head = [0; 4096];
    stream.read(&mut head).await.map_err(|e| format!("read: {e}"))?;
    let body = "hello from rust-client";
    let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    stream.write_all(response.as_bytes()).await.map_err(|e| format!("write: {e}"))?;
    stream.shutdown().await.map_err(|e| format!("shutdown: {e}"))
}

/// One line of JSON: `{"event": ..., "value": ...}`.
fn event(event: &str, value: &str) {
    let mut quoted = String::new();
    for c in value.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c < ' ' => quoted.push_str(&format!("\\u{:04x}", c as u32)),
            c => quoted.push(c),
        }
    }
    println!("{{\"event\":\"{event}\",\"value\":\"{quoted}\"}}");
}
