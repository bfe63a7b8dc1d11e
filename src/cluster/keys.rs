//! The server's own keys: made once, kept in state, readable only with the
//! cluster's shared secret.
//!
//! A random *data key* encrypts the private keys; the shared secret encrypts the
//! data key. So a change of the shared secret wraps one key anew, and nothing else.

use super::secret::{Secret, Secrets, Which};
use crate::sensitive::Sensitive;
use crate::state::ServerKeys;
use crate::tailcfg::{MachineKey, PrivateKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The bytes of a ChaCha20-Poly1305 nonce, which stands before what it sealed.
const NONCE_BYTES: usize = 12;

/// A failure with the server's keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The shared secret is not the one that the keys were sealed under.
    #[error(
        "the cluster's keys do not open with the secret in {0}: it is not this cluster's secret, \
         or the data directory is another cluster's; put the right file there"
    )]
    WrongSecret(PathBuf),
    /// What was sealed cannot be read by this release.
    #[error("the cluster's sealed keys are malformed ({0}): they were written by another release, or are damaged")]
    Malformed(&'static str),
    /// `noise.private_key_path` holds something else.
    #[error("noise.private_key_path: {path}: {reason}; remove the file, and the cluster makes a key of its own")]
    Import { path: PathBuf, reason: String },
}

/// The server's keys, opened.
pub(super) struct Keyring {
    noise: Arc<PrivateKey>,
    noise_public: MachineKey,
    data_key: Sensitive<[u8; 32]>,
}

impl Keyring {
    /// New keys: what to propose at bootstrap. The Noise key is `noise`, or a new one.
    pub fn generate(secret: &Secret, noise: Option<PrivateKey>) -> (Self, ServerKeys) {
        let noise = noise.unwrap_or_else(PrivateKey::generate);
        let legacy = PrivateKey::generate();
        let data_key = Sensitive::new(rand::random::<[u8; 32]>());
        let cluster_id = hex::encode(rand::random::<[u8; 16]>());
        let private = Sensitive::new([noise.0, legacy.0].concat());
        let keys = ServerKeys {
            noise_public: MachineKey(noise.public()),
            legacy_public: MachineKey(legacy.public()),
            sealed: seal(&data_key, "private keys", &cluster_id, &private),
            wrapped_data_key: seal(&secret.wrapping_key(), "data key", &cluster_id, &*data_key),
            cluster_id,
            previous_cluster_ids: Vec::new(),
        };
        (Self { noise_public: keys.noise_public, noise: Arc::new(noise), data_key }, keys)
    }

    /// Opens the keys that are in state with the secret that opens them.
    pub fn open(secrets: &Secrets, keys: &ServerKeys) -> Result<(Self, Which), KeysError> {
        for (which, secret) in secrets.all() {
            let data_key = unseal(&secret.wrapping_key(), "data key", &keys.cluster_id, &keys.wrapped_data_key)?;
            let Some(data_key) = data_key else { continue };
            let data_key = <[u8; 32]>::try_from(data_key.as_slice()).map_err(|_| KeysError::Malformed("data key"))?;
            return Ok((Self::with_data_key(&data_key, keys)?, which));
        }
        Err(KeysError::WrongSecret(secrets.current().path().to_owned()))
    }

    /// Opens the keys with the data key itself, as a backup has it.
    pub fn with_data_key(data_key: &[u8; 32], keys: &ServerKeys) -> Result<Self, KeysError> {
        let private = private_keys(data_key, keys)?;
        let noise = private.first_chunk::<32>().ok_or(KeysError::Malformed("Noise key"))?;
        Ok(Self {
            noise: Arc::new(PrivateKey(*noise)),
            noise_public: keys.noise_public,
            data_key: Sensitive::new(*data_key),
        })
    }

    /// The data key under a secret: what [`ServerKeys::wrapped_data_key`] becomes.
    pub fn wrap(&self, secret: &Secret, cluster_id: &str) -> String {
        seal(&secret.wrapping_key(), "data key", cluster_id, &*self.data_key)
    }

    /// The same keys for a cluster with a new name, under `secret`: to clients it is the same server.
    pub fn renew(&self, secret: &Secret, keys: &ServerKeys) -> Result<ServerKeys, KeysError> {
        let cluster_id = hex::encode(rand::random::<[u8; 16]>());
        let private = private_keys(&self.data_key, keys)?;
        Ok(ServerKeys {
            sealed: seal(&self.data_key, "private keys", &cluster_id, &private),
            wrapped_data_key: self.wrap(secret, &cluster_id),
            cluster_id,
            previous_cluster_ids: Vec::new(),
            ..keys.clone()
        })
    }

    /// The private keys with another Noise key among them: what [`ServerKeys::sealed`] becomes.
    pub fn seal_noise(&self, noise: &PrivateKey, keys: &ServerKeys) -> Result<String, KeysError> {
        let mut private = private_keys(&self.data_key, keys)?;
        private.get_mut(..noise.0.len()).ok_or(KeysError::Malformed("Noise key"))?.copy_from_slice(&noise.0);
        Ok(seal(&self.data_key, "private keys", &keys.cluster_id, &private))
    }

    /// Whether these are the keys that are in state.
    pub fn fits(&self, keys: &ServerKeys) -> bool {
        self.noise_public == keys.noise_public
    }

    /// The data key, for a backup, which is encrypted as a whole.
    pub fn data_key(&self) -> &[u8; 32] {
        &self.data_key
    }

    /// The server's Noise key.
    pub fn noise(&self) -> Arc<PrivateKey> {
        self.noise.clone()
    }

    /// 32 bytes for a purpose (`label`) and an `input`.
    pub fn derive(&self, label: &str, input: &[u8]) -> [u8; 32] {
        derive(&self.data_key, label, input)
    }
}

/// The Noise key and the legacy key.
fn private_keys(data_key: &[u8; 32], keys: &ServerKeys) -> Result<Sensitive<Vec<u8>>, KeysError> {
    unseal(data_key, "private keys", &keys.cluster_id, &keys.sealed)?.ok_or(KeysError::Malformed("private keys"))
}

/// 32 bytes from a key, for a purpose and an input: HKDF-SHA256 (RFC 5869), in
/// which the label's length keeps two pairs of label and input apart.
pub(super) fn derive(key: &[u8; 32], label: &str, input: &[u8]) -> [u8; 32] {
    let length = (label.len() as u64).to_be_bytes();
    let mut output = [0; 32];
    hkdf::Hkdf::<sha2::Sha256>::new(None, key)
        .expand_multi_info(&[b"quorumscale derive 1", &length, label.as_bytes(), input], &mut output)
        .expect("32 bytes are fewer than HKDF's limit");
    output
}

/// Reads a key file of Headscale's (`privkey:` and hex); `None`: there is no file.
pub(super) fn import_noise_key(path: &Path) -> Result<Option<PrivateKey>, KeysError> {
    let error = |reason: String| KeysError::Import { path: path.to_owned(), reason };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => Sensitive::new(text),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(error(e.to_string())),
    };
    text.parse().map(Some).map_err(|e: crate::tailcfg::KeyParseError| error(e.to_string()))
}

/// Encrypts `plain` for one purpose in one cluster: base64 of nonce and ciphertext.
fn seal(key: &[u8; 32], purpose: &str, cluster_id: &str, plain: &[u8]) -> String {
    let nonce: [u8; NONCE_BYTES] = rand::random();
    let aad = format!("quorumscale {purpose} 1 {cluster_id}");
    let sealed = ChaCha20Poly1305::new(&Key::from(*key))
        .encrypt(&Nonce::from(nonce), Payload { msg: plain, aad: aad.as_bytes() })
        .expect("a few dozen bytes are fewer than the cipher's limit");
    BASE64.encode([&nonce[..], &sealed].concat())
}

/// The reverse of [`seal`]; `None`: the key, purpose or cluster is another one.
fn unseal(
    key: &[u8; 32],
    purpose: &'static str,
    cluster_id: &str,
    sealed: &str,
) -> Result<Option<Sensitive<Vec<u8>>>, KeysError> {
    let bytes = BASE64.decode(sealed).map_err(|_| KeysError::Malformed(purpose))?;
    let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>().ok_or(KeysError::Malformed(purpose))?;
    let aad = format!("quorumscale {purpose} 1 {cluster_id}");
    let plain = ChaCha20Poly1305::new(&Key::from(*key))
        .decrypt(&Nonce::from(*nonce), Payload { msg: sealed, aad: aad.as_bytes() });
    Ok(plain.ok().map(Sensitive::new))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_open_with_the_secret_that_sealed_them_and_no_other() {
        let secret = Secret::random_for_tests();
        let (made, sealed) = Keyring::generate(&secret, None);
        let (opened, which) = Keyring::open(&secret.clone().into(), &sealed).unwrap();
        assert_eq!(which, Which::Current);
        assert_eq!(opened.noise(), made.noise());
        assert_eq!(MachineKey(opened.noise().public()), sealed.noise_public);
        assert_eq!(opened.derive("a", b"b"), made.derive("a", b"b"));
        assert!(!sealed.legacy_public.is_zero());

        let other = Keyring::open(&Secret::random_for_tests().into(), &sealed);
        assert!(matches!(other, Err(KeysError::WrongSecret(_))));
    }

    #[test]
    fn a_data_key_that_is_wrapped_anew_opens_with_the_new_secret_alone() {
        let (old, new) = (Secret::random_for_tests(), Secret::random_for_tests());
        let (ring, mut keys) = Keyring::generate(&old, None);
        keys.wrapped_data_key = ring.wrap(&new, &keys.cluster_id);
        let (opened, _) = Keyring::open(&new.into(), &keys).unwrap();
        assert_eq!(opened.noise(), ring.noise());
        assert!(Keyring::open(&old.into(), &keys).is_err());
    }

    #[test]
    fn a_cluster_with_a_new_name_is_the_same_server_to_clients() {
        let (old, new) = (Secret::random_for_tests(), Secret::random_for_tests());
        let (ring, keys) = Keyring::generate(&old, None);
        let renewed = ring.renew(&new, &keys).unwrap();
        assert_ne!(renewed.cluster_id, keys.cluster_id);
        assert_eq!(renewed.noise_public, keys.noise_public);
        let (opened, _) = Keyring::open(&new.into(), &renewed).unwrap();
        assert_eq!((opened.noise(), opened.derive("a", b"")), (ring.noise(), ring.derive("a", b"")));
        assert!(Keyring::open(&old.into(), &renewed).is_err());
    }

    #[test]
    fn an_imported_noise_key_changes_nothing_else() {
        let secret = Secret::random_for_tests();
        let (ring, mut keys) = Keyring::generate(&secret, None);
        let noise = PrivateKey::generate();
        keys.sealed = ring.seal_noise(&noise, &keys).unwrap();
        keys.noise_public = MachineKey(noise.public());
        assert!(!ring.fits(&keys));
        let (opened, _) = Keyring::open(&secret.into(), &keys).unwrap();
        assert_eq!((opened.noise().reveal(), opened.fits(&keys)), (noise.reveal(), true));
        assert_eq!(opened.derive("a", b"b"), ring.derive("a", b"b"));
    }

    #[test]
    fn keys_of_one_cluster_do_not_open_as_anothers() {
        let secret = Secret::random_for_tests();
        let (_, mut sealed) = Keyring::generate(&secret, None);
        sealed.cluster_id = "another".into();
        assert!(Keyring::open(&secret.into(), &sealed).is_err());
    }

    #[test]
    fn derived_bytes_differ_by_label_and_input_however_they_are_cut() {
        let (ring, _) = Keyring::generate(&Secret::random_for_tests(), None);
        assert_ne!(ring.derive("ab", b"c"), ring.derive("a", b"bc"));
        assert_ne!(ring.derive("a", b"b"), ring.derive("a", b"c"));
    }

    #[test]
    fn headscales_key_file_becomes_the_noise_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("noise_private.key");
        assert!(import_noise_key(&path).unwrap().is_none());
        let key = PrivateKey::generate();
        std::fs::write(&path, format!("{}\n", key.reveal())).unwrap();
        assert_eq!(import_noise_key(&path).unwrap(), Some(key));
        std::fs::write(&path, "privkey:zz").unwrap();
        assert!(import_noise_key(&path).unwrap_err().to_string().contains("noise_private.key"));
    }
}
