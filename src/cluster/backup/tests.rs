//! Backups: whole or refused.

use super::*;
use crate::cluster::Cluster;
use crate::cluster::tests::{settings, user};
use crate::sensitive::Sensitive;
use crate::state::ReplicaId;
use std::path::Path;

fn key(byte: u8) -> Lock {
    Lock::Key(Sensitive::new([byte; 32]))
}

fn passphrase(text: &str) -> Lock {
    Lock::Passphrase(Sensitive::new(text.into()))
}

/// A backup of a cluster with these users.
async fn save(path: &Path, lock: Lock, users: usize) -> (Cluster, Contents) {
    let cluster = Cluster::in_memory(settings());
    for n in 0..users {
        cluster.write(user(&format!("user{n}"))).await.unwrap();
    }
    let mut parts = cluster.backup(cluster.view()).unwrap();
    let mut saving = Saving::begin(path, lock).unwrap();
    while let Some(part) = parts.recv().await {
        saving.write(&part.unwrap()).unwrap();
    }
    let contents = saving.finish().unwrap();
    (cluster, contents)
}

#[tokio::test]
async fn a_backup_is_a_private_file_that_says_what_it_holds() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("backup");
    let (cluster, contents) = save(&path, passphrase("correct horse"), 7).await;
    assert_eq!((contents.count("users"), contents.index), (7, cluster.view().index()));
    assert_eq!(contents.hash, hex::encode(cluster.view().hash()));
    assert_eq!(inspect(&path, &passphrase("correct horse")).unwrap(), contents);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing temporary is left");
    let bytes = std::fs::read(&path).unwrap();
    assert!(!bytes.windows(4).any(|window| window == b"user"), "nothing in it can be read");
}

#[tokio::test]
async fn a_wrong_passphrase_and_a_wrong_key_are_told_apart_from_damage() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("backup");
    save(&path, passphrase("correct horse"), 1).await;
    assert!(matches!(inspect(&path, &passphrase("battery staple")), Err(BackupError::WrongPassphrase(_))));
    assert!(matches!(inspect(&path, &key(1)), Err(BackupError::WantsPassphrase(_))));
    save(&path, key(1), 1).await;
    assert!(matches!(inspect(&path, &key(2)), Err(BackupError::WrongKeyFile(_))));
    assert!(matches!(inspect(&path, &passphrase("correct horse")), Err(BackupError::WantsKeyFile(_))));
    assert!(inspect(&path, &key(1)).is_ok());
}

#[tokio::test]
async fn a_byte_that_is_flipped_or_missing_anywhere_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let (path, spoiled) = (dir.path().join("backup"), dir.path().join("spoiled"));
    // Several chunks of what does not compress.
    let (_, contents) = save(&path, key(1), 1500).await;
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes.len() as u64, contents.size);
    let places = (0..bytes.len()).step_by(bytes.len() / 97 + 1).chain([0, 9, 12, bytes.len() - 1]);
    for place in places {
        let mut flipped = bytes.clone();
        flipped[place] ^= 1;
        std::fs::write(&spoiled, &flipped).unwrap();
        assert!(inspect(&spoiled, &key(1)).is_err(), "byte {place} of {} is flipped", bytes.len());
        std::fs::write(&spoiled, &bytes[..place]).unwrap();
        let error = inspect(&spoiled, &key(1)).unwrap_err().to_string();
        let said = ["cut short", "is no backup"].iter().any(|words| error.contains(words));
        assert!(said, "cut at byte {place}: {error}");
    }
    std::fs::write(&spoiled, [bytes.as_slice(), b"x"].concat()).unwrap();
    assert!(matches!(inspect(&spoiled, &key(1)), Err(BackupError::Damaged { .. })), "something was appended");
}

#[tokio::test]
async fn only_an_older_backup_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("backup");
    std::fs::write(&path, "precious").unwrap();
    let error = Saving::begin(&path, key(1)).err().unwrap();
    assert!(matches!(error, BackupError::InTheWay(_)), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    std::fs::remove_file(&path).unwrap();
    save(&path, key(1), 1).await;
    let (_, second) = save(&path, key(1), 2).await;
    assert_eq!(inspect(&path, &key(1)).unwrap(), second);
}

#[tokio::test]
async fn a_backup_that_was_not_finished_leaves_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("backup");
    let (_, first) = save(&path, key(1), 3).await;
    let mut saving = Saving::begin(&path, key(1)).unwrap();
    saving.write(b"the beginning").unwrap();
    drop(saving);
    let mut cut = Saving::begin(&path, key(1)).unwrap();
    cut.write(b"no archive").unwrap();
    assert!(cut.finish().is_err());
    assert_eq!(inspect(&path, &key(1)).unwrap(), first);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_directory_with_data_is_not_restored_into() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("backup");
    save(&path, key(1), 3).await;
    let target = || Target {
        id: ReplicaId(1),
        data_dir: dir.path().join("data"),
        address: "127.0.0.1:7946".into(),
        secret_path: dir.path().join("secret"),
    };
    assert!(matches!(Restoring::read(&path, &key(2), target()), Err(BackupError::WrongKeyFile(_))));
    assert!(!target().data_dir.exists(), "nothing is made before the file is known to be whole");
    Restoring::read(&path, &key(1), target()).unwrap().run().await.unwrap();
    let again = Restoring::read(&path, &key(1), target()).err().unwrap().to_string();
    assert!(again.contains("has a replica's data already"), "{again}");
}
