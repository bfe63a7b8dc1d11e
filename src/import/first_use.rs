//! An imported key's first use: its slow hash is checked once, and replaced by a fast one.

use crate::cluster::{Cluster, Unavailable, WriteError};
use crate::sensitive::Sensitive;
use crate::state::{AdoptedKey, BcryptHash, Command, Refused, SecretHash};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Checks at one time. Each takes a core for some 50 ms, and strangers may ask for them:
/// the shown part of a key is no secret.
const AT_ONCE: usize = 2;
/// How long a check may wait for its turn.
const PATIENCE: Duration = Duration::from_secs(3);

static TURNS: Semaphore = Semaphore::const_new(AT_ONCE);

/// A key could not be checked now.
#[derive(Debug, thiserror::Error)]
pub enum FirstUseError {
    /// Too many others are being checked.
    #[error("too many imported keys are being checked for the first time: try again")]
    Busy,
    /// Its fast hash could not be stored.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Whether `secret` is what `slow` was made of. If so, the cluster knows its fast hash when
/// this returns, on this replica too.
pub async fn adopt(cluster: &Cluster, key: AdoptedKey, slow: &BcryptHash, secret: &str) -> Result<bool, FirstUseError> {
    let turn = tokio::time::timeout(PATIENCE, TURNS.acquire()).await;
    let Ok(Ok(turn)) = turn else { return Err(FirstUseError::Busy) };
    let (secret, slow) = (Sensitive::new(secret.to_owned()), slow.clone());
    let hash = SecretHash::of(&secret);
    let fits = tokio::task::spawn_blocking(move || fits(&secret, &slow)).await.unwrap_or(false);
    drop(turn);
    if !fits {
        return Ok(false);
    }
    match cluster.write(Command::AdoptKey { key, hash }).await {
        Ok(_) => Ok(true),
        Err(WriteError::Unavailable(error)) => Err(error.into()),
        // It was deleted meanwhile.
        Err(WriteError::Refused(Refused::AuthKeyNotFound | Refused::ApiKeyNotFound)) => Ok(false),
        Err(WriteError::Refused(_)) => Err(FirstUseError::Busy),
    }
}

/// The slow part. Its comparison takes the same time wherever texts differ.
fn fits(secret: &str, slow: &BcryptHash) -> bool {
    bcrypt::verify(secret, slow.as_str()).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headscales_hash_of_a_key_is_understood() {
        // By Go's golang.org/x/crypto/bcrypt, cost 10, of 64 hex digits.
        let secret = "0123456789abcdef".repeat(4);
        let slow: BcryptHash = GO_HASH.parse().unwrap();
        assert!(fits(&secret, &slow));
        assert!(!fits(&secret.replace('f', "e"), &slow));
        assert!(!fits("", &slow));
    }

    const GO_HASH: &str = "$2a$10$ANE4LqDU7qKsMKftXDET0OIdED8ND.COVp.St65SCpEeW8rKM1pfG";
}
