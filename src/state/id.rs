//! Identifiers. Each kind counts from 1 for itself, and no number is used twice.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = std::num::ParseIntError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

id! {
    /// A user.
    UserId
}
id! {
    /// A node; also `tailcfg.Node.ID`, and in decimal its `StableID`.
    NodeId
}
id! {
    /// A pre-authenticated key.
    AuthKeyId
}
id! {
    /// An API key.
    ApiKeyId
}
id! {
    /// A replica of the cluster: `cluster.id` in its configuration.
    ReplicaId
}

impl UserId {
    /// The synthetic user that tagged nodes are shown under (Headscale's number).
    pub const TAGGED_DEVICES: UserId = UserId(2_147_455_555);
}

/// The id of a pending login: `hskey-authreq-` and 24 hex digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AuthId(String);

/// A text was not an [`AuthId`]. The words are Headscale's.
#[derive(Debug, thiserror::Error)]
pub enum AuthIdError {
    /// It starts with something else.
    #[error("auth ID has invalid prefix: expected prefix \"hskey-authreq-\"")]
    Prefix,
    /// It is too short or too long.
    #[error("auth ID has invalid length: expected 38, got {0}")]
    Length(usize),
    /// It has something else than hex digits after the prefix.
    #[error("auth ID has invalid characters: expected 24 lower-case hex digits after the prefix")]
    Digits,
}

impl AuthId {
    const PREFIX: &'static str = "hskey-authreq-";

    /// A new, unguessable id (96 random bits).
    pub fn generate() -> Self {
        let random: [u8; 12] = rand::random();
        Self(format!("{}{}", Self::PREFIX, hex::encode(random)))
    }

    /// Sorts before every id: where a search among ids starts.
    pub(super) fn lowest() -> Self {
        Self(String::new())
    }

    /// The text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AuthId {
    type Err = AuthIdError;
    fn from_str(text: &str) -> Result<Self, AuthIdError> {
        let digits = text.strip_prefix(Self::PREFIX).ok_or(AuthIdError::Prefix)?;
        if digits.len() != 24 {
            return Err(AuthIdError::Length(text.len()));
        }
        if !digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(AuthIdError::Digits);
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for AuthId {
    type Error = AuthIdError;
    fn try_from(text: String) -> Result<Self, AuthIdError> {
        text.parse()
    }
}

impl From<AuthId> for String {
    fn from(id: AuthId) -> String {
        id.0
    }
}

impl fmt::Display for AuthId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
