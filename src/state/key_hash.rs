//! How state knows the secret part of a key.

use super::SecretHash;
use serde::{Deserialize, Serialize};

/// The most work that a bcrypt hash may ask for, as a power of two: Headscale uses 10,
/// and each step up doubles it.
const MAX_BCRYPT_COST: u32 = 14;

/// What is kept of a key's secret part. Stored as one text: hex digits, or what bcrypt writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum KeyHash {
    /// A fast hash: of keys that were made here, or used here once.
    Fast(SecretHash),
    /// The slow hash of a key that was imported and has not been used since.
    Bcrypt(BcryptHash),
}

/// A hash as bcrypt writes it: `$2a$10$` and 53 characters. Prints as redacted.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BcryptHash(String);

/// A text was no hash of a key. It is not repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyHashError {
    /// Neither hex digits nor bcrypt's form.
    #[error("not a key's hash: expected 64 hex digits, or bcrypt's \"$2a$10$\" and 53 characters")]
    Form,
    /// It would keep a replica busy for seconds.
    #[error("a bcrypt hash of cost {0}: at most {MAX_BCRYPT_COST} is accepted")]
    Cost(u32),
}

impl KeyHash {
    /// Whether it is the fast hash of this secret; in constant time.
    pub fn is(&self, secret: &SecretHash) -> bool {
        use subtle::ConstantTimeEq;
        matches!(self, Self::Fast(hash) if bool::from(hash.0.ct_eq(&secret.0)))
    }

    /// The slow hash, if that is all there is.
    pub fn bcrypt(&self) -> Option<&BcryptHash> {
        match self {
            Self::Fast(_) => None,
            Self::Bcrypt(hash) => Some(hash),
        }
    }
}

impl From<SecretHash> for KeyHash {
    fn from(hash: SecretHash) -> Self {
        Self::Fast(hash)
    }
}

impl BcryptHash {
    /// The text, for a check.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for BcryptHash {
    type Err = KeyHashError;
    fn from_str(text: &str) -> Result<Self, KeyHashError> {
        let rest = ["$2a$", "$2b$", "$2y$"].iter().find_map(|start| text.strip_prefix(start));
        let (cost, hash) = rest.and_then(|rest| rest.split_once('$')).ok_or(KeyHashError::Form)?;
        let is_coded = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'/';
        if cost.len() != 2 || hash.len() != 53 || !hash.bytes().all(is_coded) {
            return Err(KeyHashError::Form);
        }
        match cost.parse::<u32>() {
            Ok(4..=MAX_BCRYPT_COST) => Ok(Self(text.into())),
            Ok(cost) => Err(KeyHashError::Cost(cost)),
            Err(_) => Err(KeyHashError::Form),
        }
    }
}

impl TryFrom<String> for BcryptHash {
    type Error = KeyHashError;
    fn try_from(text: String) -> Result<Self, KeyHashError> {
        text.parse()
    }
}

impl From<BcryptHash> for String {
    fn from(hash: BcryptHash) -> String {
        hash.0
    }
}

impl std::fmt::Debug for BcryptHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(bcrypt hash)")
    }
}

impl TryFrom<String> for KeyHash {
    type Error = KeyHashError;
    fn try_from(text: String) -> Result<Self, KeyHashError> {
        if text.starts_with('$') {
            return text.parse().map(Self::Bcrypt);
        }
        SecretHash::try_from(text).map(Self::Fast).map_err(|_| KeyHashError::Form)
    }
}

impl From<KeyHash> for String {
    fn from(hash: KeyHash) -> String {
        match hash {
            KeyHash::Fast(hash) => hash.into(),
            KeyHash::Bcrypt(hash) => hash.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BCRYPT: &str = "$2a$10$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234";

    #[test]
    fn a_hash_is_stored_as_one_text() {
        let fast = KeyHash::from(SecretHash([7; 32]));
        let text = serde_json::to_string(&fast).unwrap();
        assert_eq!(text, format!("{:?}", "07".repeat(32)), "as it was stored before there were others");
        assert_eq!(serde_json::from_str::<KeyHash>(&text).unwrap(), fast);
        let slow: KeyHash = serde_json::from_value(BCRYPT.into()).unwrap();
        assert_eq!(serde_json::to_value(&slow).unwrap(), BCRYPT);
        assert!(!slow.is(&SecretHash([7; 32])) && fast.is(&SecretHash([7; 32])));
        assert!(!format!("{slow:?}").contains("abcdef"));
    }

    #[test]
    fn what_bcrypt_would_not_write_is_refused() {
        let error = |text: &str| text.parse::<BcryptHash>().unwrap_err();
        assert_eq!(error(""), KeyHashError::Form);
        assert_eq!(error(&BCRYPT[..59]), KeyHashError::Form);
        assert_eq!(error(&BCRYPT.replace("$10$", "$31$")), KeyHashError::Cost(31));
        assert_eq!(error(&BCRYPT.replace('j', "\"")), KeyHashError::Form);
    }
}
