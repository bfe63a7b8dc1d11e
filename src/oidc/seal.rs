//! What travels through a browser and comes back to any replica.
//!
//! Nothing is kept while somebody is at the provider: what a login needs is in the `state`
//! parameter, sealed under a key that all replicas derive from the cluster's data key. The
//! sealing's own random number names the attempt, and the attempt's nonce, PKCE verifier and
//! cookie are derived from it, so that they are unguessable, differ for each tab, and are
//! known to every replica.

use crate::cluster::Cluster;
use crate::sensitive::Sensitive;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The bytes of a random number that no two attempts have.
const ATTEMPT_BYTES: usize = 24;
/// No longer text is tried.
const LONGEST: usize = 4096;

/// Seals for one purpose; what is sealed for one opens for no other.
#[derive(Clone)]
pub(super) struct Sealer {
    cluster: Cluster,
    purpose: &'static str,
}

/// One attempt of a browser, by the random number of its sealing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Attempt([u8; ATTEMPT_BYTES]);

impl Sealer {
    pub fn new(cluster: &Cluster, purpose: &'static str) -> Self {
        Self { cluster: cluster.clone(), purpose }
    }

    /// Encrypts, and gives the attempt that this begins.
    pub fn seal<T: Serialize>(&self, content: &T) -> (Attempt, String) {
        let attempt: [u8; ATTEMPT_BYTES] = rand::random();
        let plain = serde_json::to_vec(content).expect("texts and numbers can be JSON");
        let sealed = self
            .cipher()
            .encrypt(&XNonce::from(attempt), Payload { msg: &plain, aad: self.purpose.as_bytes() })
            .expect("a few hundred bytes are fewer than the cipher's limit");
        (Attempt(attempt), BASE64.encode([&attempt[..], &sealed].concat()))
    }

    /// `None`: this cluster did not seal it for this purpose.
    pub fn open<T: DeserializeOwned>(&self, text: &str) -> Option<(Attempt, T)> {
        if text.len() > LONGEST {
            return None;
        }
        let bytes = BASE64.decode(text).ok()?;
        let (attempt, sealed) = bytes.split_first_chunk::<ATTEMPT_BYTES>()?;
        let payload = Payload { msg: sealed, aad: self.purpose.as_bytes() };
        let plain = self.cipher().decrypt(&XNonce::from(*attempt), payload).ok()?;
        Some((Attempt(*attempt), serde_json::from_slice(&plain).ok()?))
    }

    /// A secret of one attempt, 43 characters, for a use that `label` names.
    pub fn secret(&self, attempt: &Attempt, label: &str) -> Sensitive<String> {
        let label = format!("oidc {} {label}", self.purpose);
        Sensitive::new(BASE64.encode(self.cluster.derive(&label, &attempt.0)))
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        let key = Sensitive::new(self.cluster.derive("oidc seal", self.purpose.as_bytes()));
        XChaCha20Poly1305::new(&Key::from(*key))
    }
}

impl Attempt {
    /// Short, to tell the cookies of several tabs apart.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..4])
    }
}
