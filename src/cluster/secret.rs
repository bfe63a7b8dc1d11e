//! The cluster's shared secret: all that an operator has to copy to a new replica.

use super::keys::derive;
use crate::sensitive::Sensitive;
use std::fmt;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// 32 bytes that every replica of a cluster has, and nobody else. In its file
/// they are 64 hex digits.
#[derive(Clone)]
pub struct Secret {
    bytes: Sensitive<[u8; 32]>,
    path: PathBuf,
}

/// The secret's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It holds something else.
    #[error(
        "cluster.secret_path: {path}: not a cluster secret (expected 64 hex digits, got {got} characters); \
         copy the file from another replica"
    )]
    Malformed { path: PathBuf, got: usize },
    /// It cannot be read or made.
    #[error("cluster.secret_path: {path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    /// While the secret is changed both files are needed, so none is made.
    #[error(
        "{0} is not there: while cluster.previous_secret_path is set, both secrets must be; copy it from another replica"
    )]
    Missing(PathBuf),
    /// Both files hold the same.
    #[error(
        "cluster.secret_path {0} and cluster.previous_secret_path {1} hold the same secret: put a new one into the \
         first (\"generate secret\"), or remove cluster.previous_secret_path"
    )]
    Same(PathBuf, PathBuf),
}

/// The secrets that a replica accepts: one, or two while the secret is changed.
#[derive(Clone, Debug)]
pub(super) struct Secrets {
    current: Secret,
    previous: Option<Secret>,
}

/// One of [`Secrets`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// `cluster.secret_path`.
    Current,
    /// `cluster.previous_secret_path`.
    Previous,
}

impl Secrets {
    /// Reads the files. The first one is made if it is alone and not there.
    pub fn load(current: &Path, previous: Option<&Path>) -> Result<Self, SecretError> {
        let Some(previous) = previous else { return Ok(Secret::load_or_create(current)?.into()) };
        let secrets = Self { previous: Some(Secret::load(previous)?), current: Secret::load(current)? };
        let same = secrets.previous.as_ref().is_some_and(|previous| previous.bytes == secrets.current.bytes);
        match same {
            true => Err(SecretError::Same(current.to_owned(), previous.to_owned())),
            false => Ok(secrets),
        }
    }

    /// The one in `cluster.secret_path`.
    pub fn current(&self) -> &Secret {
        &self.current
    }

    /// The one in `cluster.previous_secret_path`.
    pub fn previous(&self) -> Option<&Secret> {
        self.previous.as_ref()
    }

    /// One of the two; the current one if there is no previous one.
    pub fn get(&self, which: Which) -> &Secret {
        match which {
            Which::Current => &self.current,
            Which::Previous => self.previous.as_ref().unwrap_or(&self.current),
        }
    }

    /// All that are accepted, the current one first.
    pub fn all(&self) -> impl Iterator<Item = (Which, &Secret)> {
        let previous = self.previous.iter().map(|secret| (Which::Previous, secret));
        std::iter::once((Which::Current, &self.current)).chain(previous)
    }
}

impl From<Secret> for Secrets {
    fn from(current: Secret) -> Self {
        Self { current, previous: None }
    }
}

impl Secret {
    /// Reads the file; makes it (mode 0600, its directory 0700) if it is not there.
    pub fn load_or_create(path: &Path) -> Result<Self, SecretError> {
        match Self::load(path) {
            Err(SecretError::Missing(_)) => Self::create(path),
            loaded => loaded,
        }
    }

    /// Reads a file that must be there.
    fn load(path: &Path) -> Result<Self, SecretError> {
        match fs::read_to_string(path) {
            Ok(text) => {
                warn_if_open(path);
                Self::parse(&Sensitive::new(text), path)
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(SecretError::Missing(path.to_owned())),
            Err(source) => Err(SecretError::Io { path: path.to_owned(), source }),
        }
    }

    /// Eight hex digits that tell secrets apart, and nothing about them.
    pub fn fingerprint(&self) -> String {
        hex::encode(&derive(&self.bytes, "fingerprint", b"")[..4])
    }

    /// New random bytes, in no file yet.
    fn random(path: &Path) -> Self {
        Self { bytes: Sensitive::new(rand::random()), path: path.to_owned() }
    }

    /// A secret for a test that needs no file.
    pub(super) fn random_for_tests() -> Self {
        Self::random(Path::new("(none)"))
    }

    /// Where it was read.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The key that the data key is encrypted under.
    pub(super) fn wrapping_key(&self) -> Sensitive<[u8; 32]> {
        Sensitive::new(derive(&self.bytes, "data key wrapping", b""))
    }

    /// The seed of the key of the certificate authority for peers.
    pub(super) fn authority_seed(&self) -> Sensitive<[u8; 32]> {
        Sensitive::new(derive(&self.bytes, "peer certificate authority", b""))
    }

    fn parse(text: &str, path: &Path) -> Result<Self, SecretError> {
        let mut bytes = Sensitive::new([0; 32]);
        let digits = text.trim();
        let malformed = |_| SecretError::Malformed { path: path.to_owned(), got: digits.chars().count() };
        hex::decode_to_slice(digits, &mut *bytes).map_err(malformed)?;
        Ok(Self { bytes, path: path.to_owned() })
    }

    fn create(path: &Path) -> Result<Self, SecretError> {
        let secret = Self::random(path);
        match secret.write_new() {
            Ok(()) => {
                tracing::info!("made the cluster's secret in {}: copy it to every replica that joins", path.display());
                Ok(secret)
            }
            // Another process made it meanwhile: what it wrote counts.
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Self::load_or_create(path),
            Err(source) => Err(SecretError::Io { path: path.to_owned(), source }),
        }
    }

    /// Writes a temporary file, then links it into place: nobody ever reads half a
    /// secret, and one that is there is never overwritten.
    fn write_new(&self) -> std::io::Result<()> {
        let directory = match self.path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let temporary = directory.join(format!(".secret-{:016x}", rand::random::<u64>()));
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        let text = Sensitive::new(format!("{}\n", hex::encode(*self.bytes)));
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        let linked = written.and_then(|()| fs::hard_link(&temporary, &self.path));
        fs::remove_file(&temporary)?;
        linked?;
        fs::File::open(directory)?.sync_all()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret(redacted, from {})", self.path.display())
    }
}

fn warn_if_open(path: &Path) {
    if let Ok(metadata) = fs::metadata(path)
        && metadata.permissions().mode() & 0o077 != 0
    {
        tracing::warn!("{0} can be read by other users of this machine: run \"chmod 600 {0}\"", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_start_makes_a_private_file_and_the_second_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/secret");
        let first = Secret::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        let second = Secret::load_or_create(&path).unwrap();
        assert_eq!(first.wrapping_key(), second.wrapping_key());
    }

    #[test]
    fn a_file_that_holds_something_else_is_refused_by_name_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, "hunter2\n").unwrap();
        let error = Secret::load_or_create(&path).unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()) && error.contains("got 7 characters"), "{error}");
        assert!(!error.contains("hunter2"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "hunter2\n");
    }

    #[test]
    fn a_secret_that_is_shorter_than_32_bytes_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        for short in ["", "00", &"5".repeat(62), &"5".repeat(63), &"5".repeat(66)] {
            fs::write(&path, short).unwrap();
            let error = Secret::load_or_create(&path).unwrap_err().to_string();
            assert!(error.contains("expected 64 hex digits"), "{short:?}: {error}");
        }
    }

    #[test]
    fn two_secrets_must_both_be_there_and_differ() {
        let dir = tempfile::tempdir().unwrap();
        let (new, old) = (dir.path().join("new"), dir.path().join("old"));
        Secret::load_or_create(&old).unwrap();
        let missing = Secrets::load(&new, Some(&old)).unwrap_err().to_string();
        assert!(missing.contains("new is not there") && !new.exists(), "{missing}");
        fs::copy(&old, &new).unwrap();
        assert!(matches!(Secrets::load(&new, Some(&old)), Err(SecretError::Same(..))));
        fs::remove_file(&new).unwrap();
        Secret::load_or_create(&new).unwrap();
        let secrets = Secrets::load(&new, Some(&old)).unwrap();
        assert_ne!(secrets.get(Which::Current).fingerprint(), secrets.get(Which::Previous).fingerprint());
        assert_eq!(secrets.all().count(), 2);
    }

    #[test]
    fn a_secret_prints_as_redacted() {
        let secret = Secret::random_for_tests();
        assert!(!format!("{secret:?}").contains(&hex::encode(*secret.bytes)));
    }
}
