//! Requests to servers elsewhere, over http or https: bounded in time and size, and never led on by redirections.

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Where Debian and its relatives keep the machine's CAs.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Speaks with servers whose certificates one of its CAs signed.
pub struct Http {
    tls: Arc<rustls::ClientConfig>,
    limits: Limits,
}

/// How much one request may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Lookup, connection, and the whole answer.
    pub time: Duration,
    /// Bytes of the largest body that is read.
    pub body: usize,
}

/// One request to make.
pub struct Ask<'a> {
    pub url: &'a Uri,
    pub authorization: Option<&'a str>,
    /// A form to post; `None`: a GET.
    pub form: Option<&'a str>,
}

/// A request had no answer that could be read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{host}: {reason}")]
pub struct HttpError {
    host: String,
    reason: String,
}

/// An answer, whatever its status.
pub struct Reply {
    pub status: StatusCode,
    pub body: Bytes,
}

impl Http {
    /// Trusts Mozilla's list of CAs.
    pub fn new(limits: Limits) -> Self {
        Self::with_roots(mozilla_roots(), limits)
    }

    /// Trusts those that the machine does, too (`SSL_CERT_FILE`, or the system's file): for
    /// servers that are often in-house.
    pub fn with_the_machines_roots(limits: Limits) -> Self {
        let mut roots = mozilla_roots();
        let file = std::env::var_os("SSL_CERT_FILE").map_or_else(|| PathBuf::from(SYSTEM_ROOTS), PathBuf::from);
        if let Ok(certificates) = CertificateDer::pem_file_iter(&file) {
            // Such files often have a few certificates that are no roots.
            roots.add_parsable_certificates(certificates.filter_map(Result::ok));
        }
        Self::with_roots(roots, limits)
    }

    /// Trusts these CAs.
    pub fn with_roots(roots: RootCertStore, limits: Limits) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has the default versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { tls: Arc::new(tls), limits }
    }

    /// The body of a 200 answer to a GET; the error says what went wrong.
    pub async fn get(&self, url: &str) -> Result<Bytes, String> {
        let url: Uri = url.parse().map_err(|e| format!("not a URL: {e}"))?;
        let reply = self.ask(Ask { url: &url, authorization: None, form: None }).await.map_err(|e| e.reason)?;
        match reply.status {
            StatusCode::OK => Ok(reply.body),
            status => Err(format!("the server answers {status}")),
        }
    }

    /// The answer, whatever its status, but for a redirection.
    pub async fn ask(&self, ask: Ask<'_>) -> Result<Reply, HttpError> {
        let host = ask.url.authority().map(ToString::to_string).unwrap_or_default();
        let asked = timeout(self.limits.time, self.ask_unhurried(&ask)).await;
        asked
            .unwrap_or_else(|_| Err(format!("no complete answer in {} s", self.limits.time.as_secs())))
            .map_err(|reason| HttpError { host, reason })
    }

    async fn ask_unhurried(&self, ask: &Ask<'_>) -> Result<Reply, String> {
        let https = match ask.url.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("not a URL that starts with http:// or https://".into()),
        };
        let authority = ask.url.authority().ok_or("the URL has no host")?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
        let stream = TcpStream::connect((host, port)).await.map_err(|e| format!("connecting: {e}"))?;
        if !https {
            return exchange(stream, ask, self.limits.body).await;
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|e| format!("{host:?} is no host name: {e}"))?;
        let connector = TlsConnector::from(self.tls.clone());
        let stream = connector.connect(name, stream).await.map_err(|e| format!("TLS: {e}"))?;
        exchange(stream, ask, self.limits.body).await
    }
}

fn mozilla_roots() -> RootCertStore {
    RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned())
}

async fn exchange<S>(stream: S, ask: &Ask<'_>, limit: usize) -> Result<Reply, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let http = |e: hyper::Error| format!("HTTP: {e}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
    // Dropped, and the connection with it, when this function is.
    let _connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    let response = sender.send_request(request(ask)?).await.map_err(http)?;
    let status = response.status();
    if status.is_redirection() {
        let to = response.headers().get(header::LOCATION).and_then(|v| v.to_str().ok()).unwrap_or("nowhere");
        return Err(format!("the server answers {status} and points to {to:?}: use that URL"));
    }
    let body = Limited::new(response.into_body(), limit).collect().await;
    let body = body.map_err(|e| format!("reading the answer (at most {limit} bytes): {e}"))?.to_bytes();
    Ok(Reply { status, body })
}

fn request(ask: &Ask<'_>) -> Result<Request<Full<Bytes>>, String> {
    let host = ask.url.authority().map(|a| a.as_str()).unwrap_or_default();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let mut request = Request::builder()
        .method(if ask.form.is_some() { Method::POST } else { Method::GET })
        .uri(ask.url.path_and_query().map_or("/", |p| p.as_str()))
        .header(header::HOST, host)
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, concat!("quorumscale/", env!("CARGO_PKG_VERSION")));
    if let Some(authorization) = ask.authorization {
        let mut value =
            http::HeaderValue::from_str(authorization).map_err(|_| "a credential that no header can have")?;
        value.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, value);
    }
    if ask.form.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    }
    let body = Bytes::copy_from_slice(ask.form.unwrap_or_default().as_bytes());
    request.body(Full::new(body)).map_err(|e| format!("not a URL that can be asked for: {e}"))
}
