//! Who has not the secret, or is not who it says, and tries all the same.

use super::identity::Checker;
use super::listen::PeerInfo;
use super::tls::{PeerTls, certificate};
use crate::cluster::feed::Feed;
use crate::cluster::keys::Keyring;
use crate::cluster::secret::{Secret, Secrets};
use crate::state::{Allocation, Command, Proposal, ReplicaId, RequestId, Settings, State, Time};
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use tonic::service::Interceptor;

/// Takes any server for the right one: an intruder does not mind.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

type Identity = (CertificateDer<'static>, PrivateKeyDer<'static>);

fn intruder(identity: Option<Identity>) -> TlsConnector {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous));
    let mut config = match identity {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => config.with_client_auth_cert(vec![certificate], key).unwrap(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config).into()
}

/// A certificate that nobody issued, with a replica's name.
fn self_made() -> Identity {
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let certificate = CertificateParams::new(vec![super::tls::name(ReplicaId(1))]).unwrap().self_signed(&key).unwrap();
    (certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into())
}

/// Whether the server let it in, and what it heard after the handshake.
async fn intrude(server: &PeerTls, connector: &TlsConnector) -> (bool, Vec<u8>) {
    let (near, far) = tokio::io::duplex(64 << 10);
    let serve = async {
        match server.acceptor().accept(far).await {
            // What the peer server does first: its settings.
            Ok(mut stream) => stream.write_all(b"settings").await.is_ok(),
            Err(_) => false,
        }
    };
    let ask = async {
        let mut heard = Vec::new();
        if let Ok(mut stream) = connector.connect(super::tls::server_name(ReplicaId(2)), near).await {
            let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
            let _ = stream.read_to_end(&mut heard).await;
        }
        heard
    };
    tokio::time::timeout(Duration::from_secs(30), async { tokio::join!(serve, ask) }).await.expect("it ends")
}

fn load(dir: &Path, current: &str, previous: Option<&str>) -> Secrets {
    Secrets::load(&dir.join(current), previous.map(|name| dir.join(name)).as_deref()).unwrap()
}

#[tokio::test]
async fn a_peer_port_says_nothing_beyond_the_handshake_to_who_has_not_the_secret() {
    let secret = Secrets::from(Secret::random_for_tests());
    let server = PeerTls::new(&secret, ReplicaId(2)).unwrap();
    let other_cluster = PeerTls::new(&Secret::random_for_tests().into(), ReplicaId(1)).unwrap();
    let intruders = [
        ("no certificate", intruder(None)),
        ("a certificate of its own", intruder(Some(self_made()))),
        ("another cluster's certificate", intruder(Some(other_cluster.identity()))),
    ];
    for (what, connector) in intruders {
        let (let_in, heard) = intrude(&server, &connector).await;
        assert!(!let_in && heard.is_empty(), "{what}: {heard:?}");
    }
    let member = PeerTls::new(&secret, ReplicaId(1)).unwrap();
    let (let_in, heard) = intrude(&server, &intruder(Some(member.identity()))).await;
    assert!(let_in && heard == b"settings", "with the secret the same client is let in");
}

#[tokio::test]
async fn an_old_secret_is_refused_after_the_rotation() {
    let dir = tempfile::tempdir().unwrap();
    let old = PeerTls::new(&load(dir.path(), "old", None), ReplicaId(1)).unwrap();
    drop(load(dir.path(), "new", None));
    let during = PeerTls::new(&load(dir.path(), "new", Some("old")), ReplicaId(2)).unwrap();
    assert!(intrude(&during, &intruder(Some(old.identity()))).await.0, "both, while the secret is changed");
    let after = PeerTls::new(&load(dir.path(), "new", None), ReplicaId(2)).unwrap();
    let (let_in, heard) = intrude(&after, &intruder(Some(old.identity()))).await;
    assert!(!let_in && heard.is_empty(), "{heard:?}");
}

/// Replica 2 of a cluster that is set up.
fn checker(secret: &Secret) -> (Checker, String) {
    let (_, keys) = Keyring::generate(secret, None);
    let cluster_id = keys.cluster_id.clone();
    let settings = Settings {
        prefix_v4: Some("100.64.0.0/10".parse().unwrap()),
        prefix_v6: None,
        allocation: Allocation::Sequential,
        base_domain: String::new(),
        node_expiry: Duration::ZERO,
        ephemeral_timeout: Duration::ZERO,
    };
    let proposal = Proposal {
        format: 1,
        request: RequestId { incarnation: 1, sequence: 1, acknowledged: 0 },
        deadline: Time(2),
        time: Time(1),
        idempotency_key: None,
        origin: None,
        command: Command::Bootstrap { settings, keys },
    };
    let mut state = State::default();
    state.apply(1, &proposal).outcome.unwrap();
    (Checker { own: ReplicaId(2), feed: Arc::new(Feed::new(state, 1, BTreeSet::new())) }, cluster_id)
}

#[test]
fn a_call_is_refused_from_another_replicas_identity_for_another_replica_or_cluster() {
    let secret = Secret::random_for_tests();
    let (mut checker, cluster_id) = checker(&secret);
    let mut call = |certificate_of: u64, source: &str, target: &str, cluster: Option<&str>| {
        let mut request = tonic::Request::new(());
        let certificate = Arc::new(certificate(&secret, ReplicaId(certificate_of)));
        request.extensions_mut().insert(PeerInfo { certificate });
        let metadata = request.metadata_mut();
        metadata.insert("quorumscale-source", source.parse().unwrap());
        metadata.insert("quorumscale-target", target.parse().unwrap());
        if let Some(cluster) = cluster {
            metadata.insert("quorumscale-cluster", cluster.parse().unwrap());
        }
        checker.call(request).map(drop).map_err(|status| status.message().to_owned())
    };
    assert_eq!(call(1, "1", "2", Some(&cluster_id)), Ok(()));
    assert_eq!(call(1, "1", "2", None), Ok(()), "a new replica does not know the cluster yet");
    let refused = [
        (call(3, "1", "2", Some(&cluster_id)), "the certificate is not replica 1's"),
        (call(1, "1", "3", Some(&cluster_id)), "this is replica 2, not 3"),
        (call(1, "1", "2", Some("0123456789abcdef0123456789abcdef")), "belongs to cluster"),
        (call(1, "x", "2", Some(&cluster_id)), "is missing or no number"),
    ];
    for (refused, told) in refused {
        assert!(refused.clone().unwrap_err().contains(told), "{refused:?}");
    }
}
