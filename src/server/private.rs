//! Who else on this machine may look into the server's directories.

use super::StartError;
use crate::config::Config;
use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Makes the data directory for its owner alone (0700), and the socket's, if it is not there,
/// as open as `unix_socket_permission` needs. What is in them follows from the process's
/// file mode creation mask: see [`crate::cli::run`].
pub fn settle(config: &Config) -> Result<(), StartError> {
    let way = way_to_socket(config.unix_socket_permission);
    let (data, socket) = (&config.data_dir, directory_of(&config.unix_socket));
    let is_inside = socket.starts_with(data);
    let mode = if is_inside { 0o700 | way } else { 0o700 };
    create(data, mode).map_err(|e| StartError::new(format!("data_dir {}", data.display()), e))?;
    tighten(data, mode);
    create(&socket, 0o700 | way)
        .map_err(|e| StartError::new(format!("unix_socket {}", config.unix_socket.display()), e))
}

/// Whoever may use the socket must be able to pass through its directory, and needs no more.
fn way_to_socket(permission: u32) -> u32 {
    let group = if permission & 0o070 == 0 { 0 } else { 0o010 };
    let others = if permission & 0o007 == 0 { 0 } else { 0o001 };
    group | others
}

fn directory_of(socket: &Path) -> PathBuf {
    socket.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

/// With this mode where it is new, whatever the mask is. What is there stays as it is.
fn create(directory: &Path, mode: u32) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(mode).create(directory)?;
    std::fs::set_permissions(directory, Permissions::from_mode(mode))
}

/// A directory that somebody made before, more open than it should be. Where it is not ours
/// to change, it is said.
fn tighten(directory: &Path, mode: u32) {
    let Ok(metadata) = std::fs::metadata(directory) else { return };
    let now = metadata.permissions().mode() & 0o777;
    if now & !mode & 0o077 == 0 {
        return;
    }
    match std::fs::set_permissions(directory, Permissions::from_mode(mode)) {
        Ok(()) => {
            tracing::info!("data_dir {} was open to others (mode {now:o}): it is {mode:o} now", directory.display())
        }
        Err(error) => tracing::warn!(
            "data_dir {} is open to other users of this machine (mode {now:o}), and cannot be closed ({error}): run \
             \"chmod {mode:o} {0}\"",
            directory.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_sockets_directory_is_as_open_as_its_permission_needs() {
        for (permission, expected) in [(0o700, 0o700), (0o600, 0o700), (0o770, 0o710), (0o777, 0o711), (0o660, 0o710)] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("run/server");
            create(&path, 0o700 | way_to_socket(permission)).unwrap();
            assert_eq!(mode(&path), expected, "{permission:o}");
        }
    }

    #[test]
    fn a_data_directory_that_is_open_to_others_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        create(&path, 0o700).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        tighten(&path, 0o700);
        assert_eq!(mode(&path), 0o700);
        std::fs::set_permissions(&path, Permissions::from_mode(0o500)).unwrap();
        tighten(&path, 0o700);
        assert_eq!(mode(&path), 0o500, "what is narrower stays");
    }
}
