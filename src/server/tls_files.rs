//! The main listener's certificate, which is read again when its files change: those that
//! renew certificates know nothing of this server.

use super::StartError;
use super::not_after::not_after;
use crate::config::TlsFiles;
use crate::derp::{Certificate, CertificateError};
use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// How often the files are looked at. A renewal comes days before the old one ends.
const LOOK: Duration = Duration::from_secs(5);

/// The certificate that is shown, and where it is from.
#[derive(Clone)]
pub struct TlsReload {
    files: TlsFiles,
    shown: Arc<Shown>,
}

/// What new connections get; those that are there keep what they have.
#[derive(Debug)]
struct Shown(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl TlsReload {
    /// Reads the files.
    pub fn open(files: &TlsFiles) -> Result<Self, StartError> {
        let key = read(files).map_err(|e| StartError::new("tls_cert_path, tls_key_path", e))?;
        measure(&key);
        Ok(Self { files: files.clone(), shown: Arc::new(Shown(ArcSwap::from_pointee(key))) })
    }

    /// TLS 1.2 and 1.3 with HTTP/1.1, and always the newest certificate.
    pub fn acceptor(&self) -> Result<TlsAcceptor, StartError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| StartError::new("tls_cert_path, tls_key_path", e))?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(self.shown.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Looks at the files every few seconds and when `reload` is notified, until `stop`.
    pub async fn follow(self, reload: Arc<Notify>, stop: CancellationToken) {
        let mut told = None;
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = reload.notified() => told = None,
                () = stop.cancelled() => return,
            }
            let fault = self.look();
            if fault != told
                && let Some(fault) = &fault
            {
                tracing::error!("the certificate that is in use stays: {fault}");
            }
            told = fault;
        }
    }

    /// Takes over what the files have, if it is something new. What is wrong with them may
    /// pass by itself: the two are not written in one moment.
    fn look(&self) -> Option<String> {
        let key = match read(&self.files) {
            Ok(key) => key,
            Err(error) => return Some(error.to_string()),
        };
        if key.cert != self.shown.0.load().cert {
            measure(&key);
            self.shown.0.store(Arc::new(key));
            tracing::info!(file = %self.files.cert.display(), "new connections get the new certificate");
        }
        None
    }
}

/// Whoever renews certificates fails silently: monitoring sees the end come.
fn measure(key: &CertifiedKey) {
    let name = "quorumscale_certificate_not_after_timestamp_seconds";
    metrics::describe_gauge!(name, "When the main listener's certificate ends, in seconds since 1970.");
    if let Some(end) = key.cert.first().and_then(|certificate| not_after(certificate)) {
        metrics::gauge!(name).set(end.0 as f64 / 1000.0);
    }
}

fn read(files: &TlsFiles) -> Result<CertifiedKey, CertificateError> {
    Certificate::from_files(&files.cert, &files.key)?.certified_key()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate for this name and its key, as PEM.
    fn made(name: &str) -> (String, String) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_renewed_certificate_is_shown_once_both_of_its_files_are_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = TlsFiles { cert: dir.path().join("cert.pem"), key: dir.path().join("key.pem") };
        let (first, second) = (made("first.example"), made("second.example"));
        let write = |path: &std::path::Path, text: &str| std::fs::write(path, text).expect("a file");
        write(&files.cert, &first.0);
        write(&files.key, &first.1);
        let reload = TlsReload::open(&files).unwrap_or_else(|error| panic!("{error}"));
        let shown = || reload.shown.0.load().cert.clone();
        let before = shown();
        assert_eq!((reload.look(), shown() == before), (None, true));

        write(&files.cert, &second.0);
        assert!(reload.look().is_some() && shown() == before, "the key is still the old one");
        write(&files.key, "");
        assert!(reload.look().is_some() && shown() == before);
        write(&files.key, &second.1);
        assert_eq!((reload.look(), shown() == before), (None, false));
    }
}
