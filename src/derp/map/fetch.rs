//! One GET over http or https, bounded in time and size.

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// For everything: lookup, connection, request and body.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Fetches documents from servers whose certificates the CAs of Mozilla's list signed.
pub(super) struct Fetcher {
    tls: Arc<rustls::ClientConfig>,
}

impl Fetcher {
    pub(super) fn new() -> Self {
        Self::with_roots(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect())
    }

    pub(super) fn with_roots(roots: rustls::RootCertStore) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has the default versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { tls: Arc::new(tls) }
    }

    /// The body of a 200 answer of at most `limit` bytes; the error says what went wrong.
    pub(super) async fn get(&self, url: &str, limit: usize) -> Result<Bytes, String> {
        let got = timeout(TIMEOUT, self.get_unhurried(url, limit)).await;
        got.unwrap_or_else(|_| Err(format!("no complete answer in {} s", TIMEOUT.as_secs())))
    }

    async fn get_unhurried(&self, url: &str, limit: usize) -> Result<Bytes, String> {
        let uri: Uri = url.parse().map_err(|e| format!("not a URL: {e}"))?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("not a URL that starts with http:// or https://".into()),
        };
        let authority = uri.authority().ok_or("the URL has no host")?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
        let stream = TcpStream::connect((host, port)).await.map_err(|e| format!("connecting: {e}"))?;
        if https {
            let name = ServerName::try_from(host.to_owned()).map_err(|e| format!("{host:?} is no host name: {e}"))?;
            let connector = TlsConnector::from(self.tls.clone());
            let stream = connector.connect(name, stream).await.map_err(|e| format!("TLS: {e}"))?;
            request(stream, &uri, limit).await
        } else {
            request(stream, &uri, limit).await
        }
    }
}

async fn request<S>(stream: S, uri: &Uri, limit: usize) -> Result<Bytes, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let http = |e: hyper::Error| format!("HTTP: {e}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
    // Dropped, and the connection with it, when this function is.
    let _connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    let host = uri.authority().map(|a| a.as_str()).unwrap_or_default();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let request = Request::get(uri.path_and_query().map_or("/", |p| p.as_str()))
        .header(header::HOST, host)
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, concat!("quorumscale/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|e| format!("not a URL that can be asked for: {e}"))?;
    let response = sender.send_request(request).await.map_err(http)?;
    let status = response.status();
    if status.is_redirection() {
        let to = response.headers().get(header::LOCATION).and_then(|v| v.to_str().ok()).unwrap_or("nowhere");
        return Err(format!("the server answers {status} and points to {to}: use that URL"));
    }
    if status != StatusCode::OK {
        return Err(format!("the server answers {status}"));
    }
    let body = Limited::new(response.into_body(), limit).collect().await;
    Ok(body.map_err(|e| format!("reading the body (at most {limit} bytes): {e}"))?.to_bytes())
}
