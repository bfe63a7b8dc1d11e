//! The relay's TLS certificate.

use super::files::{self, FileError};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use sha2::{Digest, Sha256};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A certificate and its private key.
pub struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    pinned: bool,
}

/// There is no usable certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{path:?}: {reason}")]
    Content { path: PathBuf, reason: String },
    #[error("cannot make a certificate for {host:?}: {reason}; give the relay a DNS name or an IP address")]
    Make { host: String, reason: String },
    #[error("the relay's certificate and private key cannot be used: {0}")]
    Tls(#[from] rustls::Error),
}

impl Certificate {
    /// The self-signed certificate in the file (PEM, mode 0600), which is made if it is not there
    /// or names another host, so that its pin stays the same for as long as `host` does.
    ///
    /// `host` is the `HostName` of the relay in the DERP map. A Go client that is given the pin
    /// checks the certificate's hash, that it is the only one, that it names `HostName`, and its
    /// dates; nothing else. (Protocol section 6.7.)
    pub fn load_or_make(path: &Path, host: &str) -> Result<Self, CertificateError> {
        if let Some(text) = files::read(path)? {
            let certificate = Self::parse(path, text.as_bytes(), text.as_bytes(), true)?;
            if certificate.names(host) {
                return Ok(certificate);
            }
            tracing::info!("the relay's certificate in {path:?} is not for {host:?}: making a new one");
        }
        let text = make(host).map_err(|reason| CertificateError::Make { host: host.into(), reason })?;
        files::write(path, &text)?;
        Self::parse(path, text.as_bytes(), text.as_bytes(), true)
    }

    /// A certificate (PEM, with its chain) that clients trust because of its CA: without a pin.
    pub fn from_files(cert: &Path, key: &Path) -> Result<Self, CertificateError> {
        let read = |path: &Path| std::fs::read(path).map_err(|source| FileError::Read { path: path.into(), source });
        Self::parse(cert, &read(cert)?, &read(key)?, false)
    }

    fn parse(path: &Path, chain: &[u8], key: &[u8], pinned: bool) -> Result<Self, CertificateError> {
        let content = |reason: String| CertificateError::Content { path: path.into(), reason };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
        let chain = chain.map_err(|e| content(format!("not a PEM certificate: {e}")))?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|e| content(format!("no usable private key (PEM) with this certificate: {e}")))?;
        match chain.len() {
            0 => Err(content("no certificate in it".into())),
            n if pinned && n > 1 => Err(content(format!("{n} certificates in it instead of one"))),
            _ => Ok(Self { chain, key, pinned }),
        }
    }

    /// The SHA-256 of the certificate's DER in hex, for `CertName: "sha256-raw:…"` in the DERP map;
    /// `None` for a certificate that is trusted because of its CA.
    pub fn cert_sha256(&self) -> Option<String> {
        self.pinned.then(|| hex::encode(Sha256::digest(&self.chain[0])))
    }

    /// The TLS settings for [`super::serve_relay`]: TLS 1.2 and 1.3, HTTP/1.1.
    pub fn server_config(&self) -> Result<Arc<rustls::ServerConfig>, CertificateError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// The certificate and its key for a listener that may change them; they belong together.
    pub fn certified_key(&self) -> Result<rustls::sign::CertifiedKey, CertificateError> {
        let provider = rustls::crypto::ring::default_provider();
        Ok(rustls::sign::CertifiedKey::from_der(self.chain.clone(), self.key.clone_key(), &provider)?)
    }

    fn names(&self, host: &str) -> bool {
        let Ok(name) = ServerName::try_from(host) else { return false };
        ParsedCertificate::try_from(&self.chain[0]).is_ok_and(|cert| verify_server_name(&cert, &name).is_ok())
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("pin", &self.cert_sha256()).finish_non_exhaustive()
    }
}

/// A certificate and its key as one PEM text, which can be replaced in one step.
fn make(host: &str) -> Result<String, String> {
    let reason = |e: rcgen::Error| e.to_string();
    ServerName::try_from(host).map_err(|e| e.to_string())?;
    // An address in `host` becomes an IP name, anything else a DNS name.
    let mut params = CertificateParams::new([host.to_owned()]).map_err(reason)?;
    params.distinguished_name.push(DnType::CommonName, "Quorumscale relay");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // The pin is what clients trust. Dates could only break it: for a client whose clock
    // is behind, or in a server that runs for years.
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2049, 12, 31);
    let key = KeyPair::generate().map_err(reason)?;
    let certificate = params.self_signed(&key).map_err(reason)?;
    Ok(certificate.pem() + &key.serialize_pem())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pin_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("relay.pem");
        let pin = Certificate::load_or_make(&path, "127.0.0.1").unwrap().cert_sha256().unwrap();
        assert_eq!(pin.len(), 64);
        assert_eq!(Certificate::load_or_make(&path, "127.0.0.1").unwrap().cert_sha256().unwrap(), pin);
    }

    #[test]
    fn a_certificate_for_another_host_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("relay.pem");
        let mut pins = Vec::new();
        for host in ["127.0.0.1", "relay.example.com", "2001:db8::1"] {
            let certificate = Certificate::load_or_make(&path, host).unwrap();
            assert!(certificate.names(host) && !certificate.names("other.example.com"));
            certificate.server_config().unwrap();
            pins.push(certificate.cert_sha256());
        }
        pins.dedup();
        assert_eq!(pins.len(), 3);
    }

    #[test]
    fn a_certificate_from_files_has_no_pin() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("both.pem");
        Certificate::load_or_make(&path, "relay.example.com").unwrap();
        let certificate = Certificate::from_files(&path, &path).unwrap();
        assert_eq!(certificate.cert_sha256(), None);
        assert!(Certificate::from_files(&path, &dir.path().join("none")).is_err());
    }

    #[test]
    fn a_broken_file_is_an_error_and_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("relay.pem");
        std::fs::write(&path, "garbage").unwrap();
        assert!(Certificate::load_or_make(&path, "127.0.0.1").is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "garbage");
    }

    #[test]
    fn a_host_that_no_certificate_can_name_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let error = Certificate::load_or_make(&dir.path().join("relay.pem"), "not a host").unwrap_err();
        assert!(error.to_string().contains("not a host"), "{error}");
    }
}
