//! The text of a pre-authenticated key.

use crate::sensitive::Sensitive;
use crate::state::SecretHash;
use crate::tailcfg::AuthKeyText;

/// What such a key starts with.
const PREFIX: &str = "hskey-auth-";
/// Hex digits of the part that is shown, and of the part that is secret.
const SHOWN: usize = 12;
const SECRET: usize = 64;

/// Hex digits of the keys that Headscale made before 0.28, which are all secret.
const OLD: usize = 48;

/// A text was no pre-authenticated key. It is not repeated: it may be most of a secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid pre auth key: expected \"{PREFIX}\", {SHOWN} hex digits, \"-\" and {SECRET} hex digits")]
pub(super) struct NotAnAuthKey;

/// How state knows a key: by its shown part, and a hash of its secret one.
pub(super) struct AuthKey {
    pub prefix: String,
    pub hash: SecretHash,
    /// For a key that was imported, until it was used once.
    pub secret: Sensitive<String>,
}

impl AuthKey {
    /// Reads a key as a client sends it.
    pub fn parse(text: &AuthKeyText) -> Result<Self, NotAnAuthKey> {
        let is_hex = |part: &str, length| part.len() == length && part.bytes().all(|b| b.is_ascii_hexdigit());
        let text = text.trim();
        let (prefix, secret) = match text.strip_prefix(PREFIX) {
            Some(rest) => rest.split_once('-').filter(|(_, secret)| is_hex(secret, SECRET)).ok_or(NotAnAuthKey)?,
            None if is_hex(text, OLD) => text.split_at(SHOWN),
            None => return Err(NotAnAuthKey),
        };
        if !is_hex(prefix, SHOWN) {
            return Err(NotAnAuthKey);
        }
        Ok(Self { prefix: prefix.to_owned(), hash: SecretHash::of(secret), secret: Sensitive::new(secret.to_owned()) })
    }
}
