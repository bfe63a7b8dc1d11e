//! Chromium, driven as the W3C's WebDriver says.

use super::http::request;
use super::process::Process;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::Instant;

const STARTED: Duration = Duration::from_secs(60);
const CLOSED: Duration = Duration::from_secs(10);

/// One window. Browser and driver end with the test.
pub struct Chromium {
    session: String,
    process: Process,
    _dir: TempDir,
}

impl Chromium {
    pub async fn start() -> Chromium {
        let dir = tempfile::Builder::new().prefix("quorumscale-chromium-").tempdir().expect("a directory");
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={port}"));
        let process = Process::start(&mut command, &dir.path().join("log"));
        let driver = format!("http://127.0.0.1:{port}");
        let deadline = Instant::now() + STARTED;
        while !request("GET", &format!("{driver}/status"), &[], b"").await.is_ok_and(|reply| reply.status == 200) {
            assert!(Instant::now() < deadline, "chromedriver starts: {}", process.output());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--window-size=390,844",
            &format!("--user-data-dir={}", dir.path().join("profile").display()),
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": { "args": arguments },
        } } });
        let mut browser = Chromium { session: format!("{driver}/session"), process, _dir: dir };
        let made = browser.command("POST", "", wanted).await;
        let id = made["sessionId"].as_str().unwrap_or_else(|| panic!("a session: {made}"));
        browser.session = format!("{driver}/session/{id}");
        browser
    }

    async fn command(&self, method: &str, path: &str, body: Value) -> Value {
        let url = format!("{}{path}", self.session);
        let body = if method == "GET" { String::new() } else { body.to_string() };
        let reply = request(method, &url, &[("content-type", "application/json")], body.as_bytes()).await;
        let reply = reply.unwrap_or_else(|e| panic!("{e}\n{}", self.process.output()));
        assert_eq!(reply.status, 200, "{method} {path}: {}", reply.body);
        reply.json()["value"].clone()
    }

    pub async fn visit(&self, url: &str) {
        self.command("POST", "/url", json!({ "url": url })).await;
    }

    /// Runs a function's body in the page, and gives what it returns.
    pub async fn run(&self, script: &str) -> Value {
        self.command("POST", "/execute/sync", json!({ "script": script, "args": [] })).await
    }

    /// What a person reads.
    pub async fn text(&self) -> String {
        let text = self.run("return document.title + '\\n' + (document.body ? document.body.innerText : '')").await;
        text.as_str().unwrap_or_default().to_owned()
    }

    pub async fn shows(&self, text: &str, within: Duration) {
        let deadline = Instant::now() + within;
        loop {
            let shown = self.text().await;
            if shown.contains(text) {
                return;
            }
            assert!(Instant::now() < deadline, "the browser shows {text:?}, not: {shown}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Chromium {
    /// Ends the session; answered when the browser is gone. Not async: it is for `drop`.
    fn close(&self) -> std::io::Result<()> {
        let rest = self.session.trim_start_matches("http://");
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let mut stream = TcpStream::connect(host)?;
        stream.set_read_timeout(Some(CLOSED))?;
        write!(stream, "DELETE /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // The driver ends its browser when it is asked to, and not when it is killed.
        if let Err(error) = self.close() {
            eprintln!("Chromium may still run: {error}");
        }
    }
}
