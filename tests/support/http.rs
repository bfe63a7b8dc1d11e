//! Plain HTTP requests, as anyone may send them.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::time::Duration;

/// No answer of the server takes longer, or is larger, in these tests.
const WITHIN: Duration = Duration::from_secs(20);
const LARGEST: usize = 4 << 20;

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{}: JSON: {e}: {}", self.status, self.body))
    }
}

/// Sends a request on a connection of its own.
pub async fn request(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Reply, String> {
    let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let mut request = http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body))).map_err(|e| e.to_string())?;
    let response = tokio::time::timeout(WITHIN, client.request(request))
        .await
        .map_err(|_| format!("{method} {url}: no answer within {} s", WITHIN.as_secs()))?
        .map_err(|e| format!("{method} {url}: {e}"))?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, LARGEST).collect().await.map_err(|e| format!("{method} {url}: {e}"))?;
    let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    Ok(Reply { status: head.status.as_u16(), headers: head.headers, body })
}
