//! Mutual TLS from the shared secret.
//!
//! The key of the cluster's certificate authority is derived from the secret, so
//! that every replica can issue its own certificate when it starts, and checks the
//! others' against the same authority. Nothing is stored, nothing expires.
//!
//! While the secret is changed there are two authorities. Both are accepted; the
//! certificate is of the one whose secret the cluster's data key is wrapped under,
//! so that all replicas go over to the new one at one index of the log.

use crate::cluster::secret::{Secret, Secrets, Which};
use crate::sensitive::Sensitive;
use crate::state::ReplicaId;
use arc_swap::ArcSwap;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519,
};
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::sync::Arc;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// What stands before the 32 bytes of an Ed25519 private key in PKCS #8 (RFC 8410, section 7).
const ED25519_PKCS8: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// HTTP/2, the only protocol here.
const ALPN: &[u8] = b"h2";

/// Both ends' configuration for one replica. Clones share which secret is in use.
#[derive(Clone)]
pub struct PeerTls {
    by_current: Ends,
    by_previous: Option<Ends>,
    in_use: Arc<ArcSwap<(Which, Ends)>>,
}

/// With a certificate by one authority.
#[derive(Clone)]
struct Ends {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    #[cfg(test)]
    identity: Arc<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
}

impl PeerTls {
    /// Issues this replica's certificates, one for each secret.
    pub fn new(secrets: &Secrets, id: ReplicaId) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for (_, secret) in secrets.all() {
            roots.add(authority(secret)?.0)?;
        }
        let roots = Arc::new(roots);
        let by_current = Ends::new(secrets.current(), roots.clone(), id)?;
        let by_previous = secrets.previous().map(|secret| Ends::new(secret, roots, id)).transpose()?;
        let in_use = Arc::new(ArcSwap::from_pointee((Which::Current, by_current.clone())));
        Ok(Self { by_current, by_previous, in_use })
    }

    /// The certificate and key that it shows, for a test that shows them to others.
    #[cfg(test)]
    pub fn identity(&self) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let ends = &self.by_current;
        (ends.identity.0.clone(), ends.identity.1.clone_key())
    }

    /// From now on, connections show the certificate by this secret.
    pub fn present(&self, which: Which) {
        let ends = match which {
            Which::Current => &self.by_current,
            Which::Previous => self.by_previous.as_ref().unwrap_or(&self.by_current),
        };
        self.in_use.store(Arc::new((which, ends.clone())));
    }

    /// Which secret's certificate is shown.
    pub fn presented(&self) -> Which {
        self.in_use.load().0
    }

    /// For connections that come in.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.in_use.load().1.acceptor.clone()
    }

    /// For connections to others.
    pub fn connector(&self) -> TlsConnector {
        self.in_use.load().1.connector.clone()
    }
}

impl Ends {
    fn new(secret: &Secret, roots: Arc<RootCertStore>, id: ReplicaId) -> Result<Self, TlsError> {
        let (_, issuer) = authority(secret)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let (certificate, key) = issue(&issuer, id)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build()?;
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate.clone()], key.clone_key())?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        // A resumed session would skip the check of the certificate.
        server.send_tls13_tickets = 0;

        #[cfg(test)]
        let identity = Arc::new((certificate.clone(), key.clone_key()));
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], key)?;
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = rustls::client::Resumption::disabled();
        Ok(Self {
            acceptor: Arc::new(server).into(),
            connector: Arc::new(client).into(),
            #[cfg(test)]
            identity,
        })
    }
}

/// The certificates could not be made: never with a whole secret.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot make the certificate for peers: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("cannot set up TLS for peers: {0}")]
    Tls(#[from] rustls::Error),
    #[error("cannot set up TLS for peers: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// The name in a replica's certificate.
pub fn name(id: ReplicaId) -> String {
    format!("replica-{id}.quorumscale.internal")
}

/// The name that a client expects of the replica that it dials.
pub fn server_name(id: ReplicaId) -> ServerName<'static> {
    ServerName::try_from(name(id)).expect("the name of a replica is a DNS name")
}

/// Whether a certificate, which was verified, is that replica's.
pub fn is_of(certificate: &CertificateDer<'_>, id: ReplicaId) -> bool {
    ParsedCertificate::try_from(certificate).is_ok_and(|cert| verify_server_name(&cert, &server_name(id)).is_ok())
}

fn authority(secret: &Secret) -> Result<(CertificateDer<'static>, Issuer<'static, KeyPair>), TlsError> {
    let seed = secret.authority_seed();
    let pkcs8 = Sensitive::new([&ED25519_PKCS8[..], &seed[..]].concat());
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(pkcs8.as_slice()), &PKCS_ED25519)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name("Quorumscale cluster");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let certificate = params.self_signed(&key)?.der().clone();
    Ok((certificate, Issuer::new(params, key)))
}

fn issue(
    issuer: &Issuer<'static, KeyPair>,
    id: ReplicaId,
) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), TlsError> {
    let key = KeyPair::generate_for(&PKCS_ED25519)?;
    let mut params = CertificateParams::new(vec![name(id)])?;
    params.distinguished_name = common_name(&name(id));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, issuer)?.der().clone();
    Ok((certificate, PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()))))
}

/// A certificate like the one that this replica would show.
#[cfg(test)]
pub fn certificate(secret: &Secret, id: ReplicaId) -> CertificateDer<'static> {
    let (_, issuer) = authority(secret).unwrap();
    issue(&issuer, id).unwrap().0
}

fn common_name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}

/// Whether a handshake failed because the two ends have different secrets.
pub fn is_other_secret(error: &std::io::Error) -> bool {
    use rustls::{AlertDescription, CertificateError, Error};
    match error.get_ref().and_then(|e| e.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => true,
        Some(Error::AlertReceived(alert)) => matches!(
            alert,
            AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::DecryptError
                | AlertDescription::CertificateUnknown
        ),
        _ => false,
    }
}

/// Whether a handshake failed because the other end is another replica.
pub fn is_other_replica(error: &std::io::Error) -> bool {
    use rustls::{CertificateError, Error};
    matches!(
        error.get_ref().and_then(|e| e.downcast_ref::<Error>()),
        Some(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
        ))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    async fn handshake(server: &PeerTls, client: &PeerTls, name: ReplicaId) -> (io::Result<bool>, io::Result<()>) {
        let (near, far) = tokio::io::duplex(16 << 10);
        let accept = async {
            let mut stream = server.acceptor().accept(far).await?;
            let certificate = stream.get_ref().1.peer_certificates().and_then(|c| c.first()).cloned();
            tokio::io::AsyncWriteExt::flush(&mut stream).await?;
            Ok(certificate.is_some_and(|c| is_of(&c, ReplicaId(1)) && !is_of(&c, ReplicaId(2))))
        };
        let connect = async { client.connector().connect(server_name(name), near).await.map(drop) };
        tokio::join!(accept, connect)
    }

    #[tokio::test]
    async fn replicas_with_one_secret_know_each_other_by_number() {
        let secret = Secrets::from(Secret::random_for_tests());
        let (one, two) = (PeerTls::new(&secret, ReplicaId(1)).unwrap(), PeerTls::new(&secret, ReplicaId(2)).unwrap());
        let (accepted, connected) = handshake(&two, &one, ReplicaId(2)).await;
        assert!(connected.is_ok());
        assert!(accepted.unwrap(), "the server sees replica 1's certificate");

        let (_, connected) = handshake(&two, &one, ReplicaId(3)).await;
        assert!(is_other_replica(&connected.unwrap_err()));
    }

    #[tokio::test]
    async fn another_secret_is_told_apart_from_other_failures() {
        let one = PeerTls::new(&Secret::random_for_tests().into(), ReplicaId(1)).unwrap();
        let two = PeerTls::new(&Secret::random_for_tests().into(), ReplicaId(2)).unwrap();
        let (accepted, connected) = handshake(&two, &one, ReplicaId(2)).await;
        assert!(is_other_secret(&connected.unwrap_err()));
        assert!(is_other_secret(&accepted.unwrap_err()));
    }

    #[tokio::test]
    async fn at_each_step_of_a_change_of_secret_all_replicas_reach_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let tls = |current: &str, previous: Option<&str>, id| {
            let secrets = Secrets::load(&path(current), previous.map(path).as_deref()).unwrap();
            PeerTls::new(&secrets, ReplicaId(id)).unwrap()
        };
        let (old, new) = (tls("old", None, 2), tls("new", None, 2));
        let both = tls("new", Some("old"), 1);
        let meet = async |one: &PeerTls, two: &PeerTls| handshake(two, one, ReplicaId(2)).await.0.is_ok();

        both.present(Which::Previous);
        assert!(meet(&both, &old).await, "replicas that were not restarted yet know the old one");
        let other = tls("new", Some("old"), 2);
        assert!(meet(&both, &other).await, "before and after the data key is wrapped anew");
        both.present(Which::Current);
        assert!(meet(&both, &other).await && meet(&both, &new).await, "replicas that have the new one alone");
        assert!(!meet(&both, &old).await, "the old one alone is not enough any more");
        assert!(!meet(&tls("new", None, 1), &old).await);
    }
}
