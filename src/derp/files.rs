//! Files with secrets: readable by their owner only, and never half written.

use crate::tailcfg::PrivateKey;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file with a secret could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("cannot read {path:?}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {path:?}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error("{path:?} does not hold a private key: {source}; restore it, or remove it to get a new one")]
    Key { path: PathBuf, source: crate::tailcfg::KeyParseError },
}

/// The relay's key: `derp.server.private_key_path`'s, made if the file is not there (0600, in
/// directories of 0700), or a new one at each start where there is no path. Its text form is
/// `privkey:` and 64 hex digits. Clients do not remember it.
pub fn load_or_make_key(path: Option<&Path>) -> Result<PrivateKey, FileError> {
    let Some(path) = path else { return Ok(PrivateKey::generate()) };
    match read(path)? {
        Some(text) => text.parse().map_err(|source| FileError::Key { path: path.into(), source }),
        None => {
            let key = PrivateKey::generate();
            write(path, &format!("{}\n", key.reveal()))?;
            Ok(key)
        }
    }
}

/// `None`: there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<String>, FileError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FileError::Read { path: path.into(), source }),
    }
}

/// Writes a file of mode 0600, whole or not at all, and makes its directory.
pub(super) fn write(path: &Path, text: &str) -> Result<(), FileError> {
    write_renamed(path, text).map_err(|source| FileError::Write { path: path.into(), source })
}

fn write_renamed(path: &Path, text: &str) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let written = (|| {
        // One that a crash left behind may have another mode.
        let _ = fs::remove_file(&temporary);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        fs::File::open(dir)?.sync_all()
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_file_is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/derp.key");
        let made = load_or_make_key(Some(&path)).unwrap();
        assert_eq!(load_or_make_key(Some(&path)).unwrap(), made);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_broken_key_file_is_an_error_that_does_not_show_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("derp.key");
        fs::write(&path, "privkey:12").unwrap();
        let error = load_or_make_key(Some(&path)).unwrap_err().to_string();
        assert!(error.contains("derp.key") && !error.contains("privkey:12"), "{error}");
    }
}
