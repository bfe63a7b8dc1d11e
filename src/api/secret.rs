//! New keys for clients and for the API: `hskey-KIND-PREFIX-SECRET`.

use super::problem::ApiError;
use super::request::Once;
use crate::cluster::{Cluster, WriteError};
use crate::sensitive::Sensitive;
use crate::state::{Command, Done, Refused, SecretHash, State, Time};
use axum::http::StatusCode;
use std::time::Duration;

/// A key that is about to be created. Only its creation shows it.
pub struct NewKey {
    /// `hskey-auth-` or `hskey-api-`.
    start: &'static str,
    /// 12 hex digits.
    pub prefix: String,
    /// 64 hex digits.
    secret: Sensitive<String>,
    /// Whether it comes from an `Idempotency-Key`, and not from chance.
    derived: bool,
}

impl NewKey {
    /// A key from the system's randomness; or, for a request with an
    /// `Idempotency-Key`, one that every replica derives from that and the
    /// cluster's secret, so that a retry through another replica shows the same.
    pub fn make(cluster: &Cluster, start: &'static str, label: &str, once: &Once) -> Self {
        let (prefix, secret): ([u8; 32], Sensitive<[u8; 32]>) = match &once.0.idempotency_key {
            None => (rand::random(), Sensitive::new(rand::random())),
            Some(key) => (
                cluster.derive(label, format!("prefix {key}").as_bytes()),
                Sensitive::new(cluster.derive(label, format!("secret {key}").as_bytes())),
            ),
        };
        Self {
            start,
            prefix: hex::encode(&prefix[..6]),
            secret: Sensitive::new(hex::encode(*secret)),
            derived: once.0.idempotency_key.is_some(),
        }
    }

    /// What state keeps of the secret.
    pub fn hash(&self) -> SecretHash {
        SecretHash::of(&self.secret)
    }

    /// Makes the key by `command`, which is given when it expires: as the request says,
    /// else `lifetime` from now, unless it exists already: a repetition asks for what
    /// the first request made. `existing` is when the key expires that is there.
    ///
    /// The first request may still be under way when the repetition looks, and be applied
    /// before it: then it looks once more, at the view that has it.
    pub async fn create(
        &self,
        (cluster, view): (&Cluster, &State),
        once: Once,
        (asked, lifetime): (Option<jiff::Timestamp>, Duration),
        existing: impl Fn(&State) -> Option<Time>,
        command: impl Fn(Time) -> Command,
    ) -> Result<Done, WriteError> {
        let expiration =
            |existing: Option<Time>| asked.map(Time::from_jiff).or(existing).unwrap_or_else(|| Time::now() + lifetime);
        let first = expiration(existing(view));
        match cluster.write_once(once.0.clone(), command(first)).await {
            Err(WriteError::Refused(Refused::IdempotencyKeyReused(key))) => {
                match existing(&cluster.view()).filter(|existing| asked.is_none() && *existing != first) {
                    Some(existing) => cluster.write_once(once.0, command(existing)).await,
                    None => Err(Refused::IdempotencyKeyReused(key).into()),
                }
            }
            written => written,
        }
    }

    /// Why it was not created.
    pub fn failed(&self, action: &str, error: WriteError) -> ApiError {
        match error {
            WriteError::Refused(Refused::KeyPrefixTaken) if self.derived => ApiError::new(StatusCode::CONFLICT, action)
                .because(format!(
                    "the Idempotency-Key was used long ago, for the key {}{}-***: use a new one",
                    self.start, self.prefix
                )),
            other => ApiError::write(action, other),
        }
    }

    /// The whole key, for the answer to its creation, if `created` is what state created.
    pub fn reveal(&self, created: &str) -> Result<String, ApiError> {
        if created != self.prefix {
            // The first request was answered under another shared secret.
            return Err(ApiError::new(
                StatusCode::CONFLICT,
                format!(
                    "this request was answered before, with the key {}{created}-***, which cannot be shown again: \
                     delete it and create another with a new Idempotency-Key",
                    self.start
                ),
            ));
        }
        Ok(format!("{}{}-{}", self.start, self.prefix, *self.secret))
    }
}

/// Randomness for a command: derived for a request with an `Idempotency-Key`, so
/// that its repetition is the same command.
pub fn seed(cluster: &Cluster, label: &str, once: &Once) -> u64 {
    match &once.0.idempotency_key {
        None => rand::random(),
        Some(key) => {
            let derived = cluster.derive(label, format!("seed {key}").as_bytes());
            u64::from_be_bytes(derived[..8].try_into().unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Asked;
    use crate::state::{Allocation, Owner, Settings, Tag};

    #[tokio::test]
    async fn a_repetition_that_looked_before_the_first_request_was_applied_gets_the_same_key() {
        let cluster = Cluster::in_memory(Settings {
            prefix_v4: None,
            prefix_v6: None,
            allocation: Allocation::Sequential,
            base_domain: String::new(),
            node_expiry: Duration::ZERO,
            ephemeral_timeout: Duration::ZERO,
        });
        let once = Once(Asked { idempotency_key: Some("again".into()), origin: None });
        let key = NewKey::make(&cluster, "hskey-auth-", "preauthkey", &once);
        let before = cluster.view();
        let create = async |lifetime: u64, reusable: bool| {
            let existing = |view: &State| view.pre_auth_key_by_prefix(&key.prefix).and_then(|key| key.expiration);
            let command = |expiration| Command::CreatePreAuthKey {
                prefix: key.prefix.clone(),
                hash: key.hash(),
                owner: Owner::Tags(["tag:a".parse::<Tag>().unwrap()].into()),
                reusable,
                ephemeral: false,
                expiration: Some(expiration),
            };
            // Another lifetime stands for another moment.
            let lifetime = (None, Duration::from_secs(lifetime));
            key.create((&cluster, &before), once.clone(), lifetime, existing, command).await
        };
        let first = create(3600, false).await.unwrap();
        assert_eq!(create(3601, false).await.unwrap(), first);
        let other = create(3602, true).await;
        assert!(matches!(other, Err(WriteError::Refused(Refused::IdempotencyKeyReused(_)))), "{other:?}");
        assert_eq!(cluster.view().pre_auth_keys().count(), 1);
    }
}
