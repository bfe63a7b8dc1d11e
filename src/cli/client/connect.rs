//! Connections to a server: the administrators' socket, TCP, TLS.

use super::url::Url;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

/// The waits between attempts to connect to the socket grow from the first to the second.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How long a connection may take when there are other servers to ask.
const CONNECT: Duration = Duration::from_secs(2);

/// Any connection.
pub(super) type AnyStream = Box<dyn Stream>;

/// What HTTP needs of a connection.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Makes connections.
pub(super) struct Connector {
    program: String,
    insecure: bool,
    roots: Option<PathBuf>,
}

/// The socket cannot be used.
pub(super) enum SocketError {
    /// This user may not.
    Denied(String),
    /// Nothing listens there.
    Silent(String),
}

impl Connector {
    pub(super) fn new(program: &str, insecure: bool, roots: Option<&Path>) -> Self {
        Self { program: program.into(), insecure, roots: roots.map(Path::to_owned) }
    }

    /// Connects to the socket; a server that is just starting gets its time.
    pub(super) async fn socket(&self, path: &Path, timeout: Duration) -> Result<AnyStream, SocketError> {
        let deadline = Instant::now() + timeout;
        let mut wait = BACK_OFF.0;
        loop {
            match UnixStream::connect(path).await {
                Ok(stream) => return Ok(Box::new(stream)),
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    return Err(SocketError::Denied(format!(
                        "connecting to {0}: unable to read/write to {0} socket {1:?}, do you have the correct permissions? \
                         Run this as root or as a member of the group that owns the socket",
                        self.program,
                        path.display().to_string()
                    )));
                }
                Err(error) if Instant::now() + wait >= deadline => {
                    return Err(SocketError::Silent(format!(
                        "context deadline exceeded (no server answers at the socket {:?}: {error}; is \"{} serve\" \
                         running, with the same unix_socket?)",
                        path.display().to_string(),
                        self.program
                    )));
                }
                Err(_) => tokio::time::sleep(wait).await,
            }
            wait = (wait * 2).min(BACK_OFF.1);
        }
    }

    /// Connects to a server; not for long when there are `others`.
    pub(super) async fn server(&self, url: &Url, others: bool) -> Result<AnyStream, String> {
        let connecting = TcpStream::connect((url.host.as_str(), url.port));
        let connected = match others {
            false => connecting.await,
            true => tokio::time::timeout(CONNECT, connecting).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())),
        };
        let stream = connected.map_err(|error| format!("connecting to {}: {error}", url.authority))?;
        let _ = stream.set_nodelay(true);
        if !url.https {
            return Ok(Box::new(stream));
        }
        let name = ServerName::try_from(url.host.clone()).map_err(|error| format!("{:?}: {error}", url.host))?;
        let tls = tokio_rustls::TlsConnector::from(Arc::new(self.tls()?)).connect(name, stream).await;
        let stream = tls.map_err(|error| format!("speaking TLS with {}: {error}", url.authority))?;
        Ok(Box::new(stream))
    }

    fn tls(&self) -> Result<ClientConfig, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| error.to_string())?;
        if self.insecure {
            let verifier = Arc::new(Unverified(provider));
            return Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth());
        }
        let mut roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        if let Some(path) = &self.roots {
            let certificates = CertificateDer::pem_file_iter(path);
            let certificates = certificates.map_err(|error| format!("SSL_CERT_FILE {}: {error}", path.display()))?;
            // Such files often have a few certificates that are no roots.
            roots.add_parsable_certificates(certificates.filter_map(Result::ok));
        }
        Ok(builder.with_root_certificates(roots).with_no_client_auth())
    }
}

/// `cli.insecure`: any certificate will do, though its owner must hold its key.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
