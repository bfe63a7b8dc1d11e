//! The REST API's client.
//!
//! It asks the server behind the administrators' socket, or the first of a
//! list of URLs that answers: when a connection fails, a server takes too long
//! or a gateway says 502, 503 or 504, the next one is asked the same. A
//! request that changes something carries the same `Idempotency-Key` to each
//! of them, so that it is done once.

mod connect;
mod download;
mod url;

use super::error::Error;
use crate::api::types::Problem;
use crate::config::CliConfig;
use bytes::Bytes;
use connect::{AnyStream, Connector};
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

pub(super) use url::segment;

/// The largest answer that is read: some 50,000 nodes in JSON.
const LARGEST_ANSWER: usize = 64 << 20;

/// How long to wait before all servers are asked once more.
const BETWEEN_ROUNDS: Duration = Duration::from_millis(250);

/// Asks servers.
pub(super) struct Client {
    target: Target,
    connector: Connector,
    /// What one server is given to answer.
    timeout: Duration,
}

enum Target {
    Socket(PathBuf),
    Servers { urls: Vec<url::Url>, authorization: HeaderValue },
}

/// One request, whoever gets it.
struct Ask<'a> {
    /// What the command is doing, for its errors: `listing nodes`.
    doing: &'static str,
    method: Method,
    path: &'a str,
    body: Option<Bytes>,
    idempotency_key: Option<String>,
    timeout: Duration,
}

/// What a server said.
struct Answer {
    status: StatusCode,
    body: Bytes,
}

impl Client {
    /// A client for what the configuration names. `roots` is a file of
    /// certificates that are trusted beside the usual ones.
    pub(super) fn new(program: &str, socket: PathBuf, cli: &CliConfig, roots: Option<&Path>) -> Result<Self, Error> {
        let connector = Connector::new(program, cli.insecure, roots);
        if cli.address.is_empty() {
            return Ok(Self { target: Target::Socket(socket), connector, timeout: cli.timeout });
        }
        let addresses = cli.address.split([',', ' ']).filter(|address| !address.is_empty());
        let urls = addresses.map(url::parse).collect::<Result<Vec<_>, _>>()?;
        if cli.api_key.is_empty() {
            return Err(Error::said("HEADSCALE_CLI_API_KEY environment variable needs to be set"));
        }
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", *cli.api_key))
            .map_err(|_| Error::said("the API key has characters that no key has"))?;
        authorization.set_sensitive(true);
        Ok(Self { target: Target::Servers { urls, authorization }, connector, timeout: cli.timeout })
    }

    /// Gives servers at least this long to answer.
    pub(super) fn patient(mut self, at_least: Duration) -> Self {
        self.timeout = self.timeout.max(at_least);
        self
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, doing: &'static str, path: &str) -> Result<T, Error> {
        self.call(doing, Method::GET, path, None::<&()>).await
    }

    pub(super) async fn delete<T: DeserializeOwned>(&self, doing: &'static str, path: &str) -> Result<T, Error> {
        self.call(doing, Method::DELETE, path, None::<&()>).await
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        doing: &'static str,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        self.call(doing, Method::POST, path, Some(body)).await
    }

    pub(super) async fn put<T: DeserializeOwned>(
        &self,
        doing: &'static str,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        self.call(doing, Method::PUT, path, Some(body)).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        doing: &'static str,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, Error> {
        let body = body.map(serde_json::to_vec).transpose();
        let body = body.map_err(|error| Error::said(format!("{doing}: {error}")))?.map(Bytes::from);
        let changes = method != Method::GET;
        let idempotency_key = changes.then(|| hex::encode(rand::random::<[u8; 16]>()));
        let ask = Ask { doing, method, path, body, idempotency_key, timeout: self.timeout };
        let answer = match &self.target {
            Target::Socket(socket) => self.ask_socket(socket, &ask).await?,
            Target::Servers { urls, authorization } => self.ask_servers(urls, authorization, &ask).await?,
        };
        if !answer.status.is_success() {
            return Err(Error::Api(problem(&answer)));
        }
        let text = if answer.body.is_empty() { b"null" as &[u8] } else { &answer.body };
        serde_json::from_slice(text)
            .map_err(|error| Error::said(format!("{doing}: the server's answer is not what its API says: {error}")))
    }

    async fn ask_socket(&self, socket: &Path, ask: &Ask<'_>) -> Result<Answer, Error> {
        let url = format!("http://local{}", ask.path);
        let failed = |why| ask.failed(&url, why);
        let whole = async {
            let stream = self.connector.socket(socket, ask.timeout).await.map_err(|error| match error {
                connect::SocketError::Denied(text) => Error::said(text),
                connect::SocketError::Silent(text) => failed(text),
            })?;
            let request = ask.request("local", ask.path, None).map_err(failed)?;
            exchange(stream, request).await.map_err(failed)
        };
        // The connection itself gives up at the same time, and says more.
        let patience = ask.timeout + Duration::from_millis(100);
        tokio::time::timeout(patience, whole).await.unwrap_or_else(|_| Err(failed(out_of_time())))
    }

    /// Asks each server in turn until one answers. While there is time, all
    /// are asked again: a leader may be about to be elected.
    async fn ask_servers(
        &self,
        urls: &[url::Url],
        authorization: &HeaderValue,
        ask: &Ask<'_>,
    ) -> Result<Answer, Error> {
        let started = Instant::now();
        loop {
            let mut failures = Vec::new();
            let mut refusal = None;
            for url in urls {
                let attempt = self.ask_server(url, authorization, ask, urls.len() > 1);
                match tokio::time::timeout(ask.timeout, attempt).await.unwrap_or_else(|_| Err(out_of_time())) {
                    Ok(answer) if is_elsewhere(answer.status) => refusal = Some(answer),
                    Ok(answer) => return Ok(answer),
                    Err(why) => failures.push((url, why)),
                }
            }
            let is_over = urls.len() == 1 || started.elapsed() + BETWEEN_ROUNDS >= ask.timeout;
            match refusal {
                Some(answer) if is_over => return Ok(answer),
                None if is_over => return Err(ask.failed_everywhere(&failures)),
                _ => tokio::time::sleep(BETWEEN_ROUNDS).await,
            }
        }
    }

    async fn ask_server(
        &self,
        url: &url::Url,
        authorization: &HeaderValue,
        ask: &Ask<'_>,
        others: bool,
    ) -> Result<Answer, String> {
        let stream = self.connector.server(url, others).await?;
        let request = ask.request(&url.authority, &url.with_path(ask.path), Some(authorization))?;
        exchange(stream, request).await
    }
}

impl Ask<'_> {
    fn request(
        &self,
        host: &str,
        path: &str,
        authorization: Option<&HeaderValue>,
    ) -> Result<Request<Full<Bytes>>, String> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(path)
            .header(header::HOST, host)
            .header(header::ACCEPT, "application/json, application/problem+json")
            .header(header::USER_AGENT, concat!("quorumscale/", env!("CARGO_PKG_VERSION")));
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        if let Some(key) = &self.idempotency_key {
            request = request.header("Idempotency-Key", key);
        }
        if self.body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        request.body(Full::new(self.body.clone().unwrap_or_default())).map_err(|error| error.to_string())
    }

    fn failed(&self, url: &str, why: String) -> Error {
        let method = match self.method {
            Method::GET => "Get",
            Method::PUT => "Put",
            Method::DELETE => "Delete",
            _ => "Post",
        };
        Error::Unreachable { doing: self.doing, method, url: url.into(), why }
    }

    fn failed_everywhere(&self, failures: &[(&url::Url, String)]) -> Error {
        match failures {
            [(url, why)] => self.failed(&format!("{}{}", url.base, self.path), why.clone()),
            many => {
                let each: String = many.iter().map(|(url, why)| format!("\n  {}: {why}", url.base)).collect();
                Error::said(format!("{}: no server answered:{each}", self.doing))
            }
        }
    }
}

async fn exchange(stream: AnyStream, request: Request<Full<Bytes>>) -> Result<Answer, String> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(broken)?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, LARGEST_ANSWER).collect().await;
    let body = body.map_err(|error| format!("reading the answer: {error}"))?.to_bytes();
    connection.abort();
    Ok(Answer { status: head.status, body })
}

fn broken(error: hyper::Error) -> String {
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}")
}

/// Statuses that say "not here, not now".
fn is_elsewhere(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

/// What a refusal says, as Headscale's command line puts it together.
fn problem(answer: &Answer) -> String {
    let problem: Problem = serde_json::from_slice(&answer.body).unwrap_or_default();
    let texts = [&problem.detail, &problem.title, &problem.message];
    let mut text = match texts.into_iter().find(|text| !text.is_empty()) {
        Some(text) => text.clone(),
        None => {
            let reason = answer.status.canonical_reason().unwrap_or("unknown status");
            format!("{} {reason}", answer.status.as_u16())
        }
    };
    for error in problem.errors.iter().filter(|error| !error.message.is_empty()) {
        text += ": ";
        text += &error.message;
    }
    text
}

fn out_of_time() -> String {
    "context deadline exceeded (the server did not answer in time; see cli.timeout)".into()
}
