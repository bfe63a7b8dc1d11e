//! Requests to the provider, bounded in time and size.

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

/// For one request: lookup, connection, and the whole answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer that is read: a profile with a picture in it, or the keys of a large provider.
const LARGEST_BODY: usize = 1 << 20;
/// Where Debian and its relatives keep the machine's CAs.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Speaks with servers whose certificates a CA of Mozilla's list signed, or one that the
/// machine trusts (`SSL_CERT_FILE`, or the system's file): providers are often in-house.
pub(super) struct Http {
    tls: Arc<rustls::ClientConfig>,
}

/// One request to make.
pub(super) struct Ask<'a> {
    pub url: &'a Uri,
    pub authorization: Option<&'a str>,
    /// A form to post; `None`: a GET.
    pub form: Option<&'a str>,
}

/// A request had no answer that could be read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{host}: {reason}")]
pub(super) struct HttpError {
    host: String,
    reason: String,
}

/// An answer, whatever its status.
pub(super) struct Reply {
    pub status: StatusCode,
    pub body: Bytes,
}

impl Http {
    pub fn new() -> Self {
        let mut roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        let file = std::env::var_os("SSL_CERT_FILE").map_or_else(|| PathBuf::from(SYSTEM_ROOTS), PathBuf::from);
        if let Ok(certificates) = CertificateDer::pem_file_iter(&file) {
            // Such files often have a few certificates that are no roots.
            roots.add_parsable_certificates(certificates.filter_map(Result::ok));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has the default versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { tls: Arc::new(tls) }
    }

    pub async fn ask(&self, ask: Ask<'_>) -> Result<Reply, HttpError> {
        let host = ask.url.authority().map(ToString::to_string).unwrap_or_default();
        let asked = timeout(TIMEOUT, self.ask_unhurried(&ask)).await;
        asked
            .unwrap_or_else(|_| Err(format!("no complete answer in {} s", TIMEOUT.as_secs())))
            .map_err(|reason| HttpError { host, reason })
    }

    async fn ask_unhurried(&self, ask: &Ask<'_>) -> Result<Reply, String> {
        let https = ask.url.scheme_str() == Some("https");
        let authority = ask.url.authority().ok_or("the URL has no host")?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
        let stream = TcpStream::connect((host, port)).await.map_err(|e| format!("connecting: {e}"))?;
        if !https {
            return exchange(stream, ask).await;
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|e| format!("{host:?} is no host name: {e}"))?;
        let connector = TlsConnector::from(self.tls.clone());
        let stream = connector.connect(name, stream).await.map_err(|e| format!("TLS: {e}"))?;
        exchange(stream, ask).await
    }
}

async fn exchange<S>(stream: S, ask: &Ask<'_>) -> Result<Reply, String>
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
    let body = Limited::new(response.into_body(), LARGEST_BODY).collect().await;
    let body = body.map_err(|e| format!("reading the answer (at most {LARGEST_BODY} bytes): {e}"))?.to_bytes();
    Ok(Reply { status, body })
}

fn request(ask: &Ask<'_>) -> Result<Request<Full<Bytes>>, String> {
    let host = ask.url.authority().map(|a| a.as_str()).unwrap_or_default();
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
