//! Answers of any size, taken as they come.

use super::{Answer, Ask, Client, Target, broken, is_elsewhere, out_of_time, problem, url};
use crate::cli::client::connect::{AnyStream, SocketError};
use crate::cli::error::Error;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::future::Future;
use tokio::task::JoinHandle;

/// The longest refusal that is read.
const LARGEST_REFUSAL: usize = 1 << 20;

/// An answer that is coming in.
pub(in crate::cli) struct Download {
    body: Incoming,
    patience: std::time::Duration,
    connection: JoinHandle<Result<(), hyper::Error>>,
}

impl Download {
    /// The next bytes; `None`: that was all.
    pub(in crate::cli) async fn next(&mut self) -> Result<Option<Bytes>, String> {
        loop {
            let frame = tokio::time::timeout(self.patience, self.body.frame()).await.map_err(|_| out_of_time())?;
            let Some(frame) = frame else { return Ok(None) };
            // What is no data is a trailer, of which there is none.
            if let Ok(data) = frame.map_err(|error| format!("reading the answer: {}", broken(error)))?.into_data() {
                return Ok(Some(data));
            }
        }
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Client {
    /// Begins to get what is secret: from the socket, or over connections that nobody else
    /// can read. Of several servers the first that answers is taken.
    pub(in crate::cli) async fn download(&self, doing: &'static str, path: &str) -> Result<Download, Error> {
        let ask = Ask { doing, method: Method::GET, path, body: None, idempotency_key: None, timeout: self.timeout };
        match &self.target {
            Target::Socket(socket) => {
                let at = format!("http://local{path}");
                let connect = async {
                    let stream = self.connector.socket(socket, ask.timeout).await.map_err(|error| match error {
                        SocketError::Denied(text) | SocketError::Silent(text) => text,
                    })?;
                    self.begin(stream, ask.request("local", path, None)?).await
                };
                done(self.in_time(connect).await.map_err(|why| ask.failed(&at, why))?)
            }
            Target::Servers { urls, authorization } => {
                refuse_to_leak(urls)?;
                let mut failures = Vec::new();
                for url in urls {
                    let connect = async {
                        let stream = self.connector.server(url, urls.len() > 1).await?;
                        let request = ask.request(&url.authority, &url.with_path(path), Some(authorization))?;
                        self.begin(stream, request).await
                    };
                    match self.in_time(connect).await {
                        Ok(Err(refusal)) if is_elsewhere(refusal.status) => failures.push((url, problem(&refusal))),
                        Ok(answer) => return done(answer),
                        Err(why) => failures.push((url, why)),
                    }
                }
                Err(ask.failed_everywhere(&failures))
            }
        }
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
        tokio::time::timeout(self.timeout, work).await.unwrap_or_else(|_| Err(out_of_time()))
    }

    /// The answer's beginning, or the whole of a refusal.
    async fn begin(
        &self,
        stream: AnyStream,
        request: Request<Full<Bytes>>,
    ) -> Result<Result<Download, Answer>, String> {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let connection = tokio::spawn(connection);
        let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
        if head.status == StatusCode::OK {
            return Ok(Ok(Download { body, patience: self.timeout, connection }));
        }
        let body = Limited::new(body, LARGEST_REFUSAL).collect().await;
        let body = body.map_err(|error| format!("reading the answer: {error}"))?.to_bytes();
        connection.abort();
        Ok(Err(Answer { status: head.status, body }))
    }
}

fn done(answer: Result<Download, Answer>) -> Result<Download, Error> {
    answer.map_err(|refusal| Error::Api(problem(&refusal)))
}

fn refuse_to_leak(urls: &[url::Url]) -> Result<(), Error> {
    match urls.iter().find(|url| !url.is_private()) {
        None => Ok(()),
        Some(url) => Err(Error::said(format!(
            "{} would carry the server's keys in the clear: use https, or run this on a replica's machine, by its socket",
            url.base
        ))),
    }
}
