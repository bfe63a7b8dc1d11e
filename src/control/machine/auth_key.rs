//! The text of a pre-authenticated key.

use crate::state::SecretHash;
use crate::tailcfg::AuthKeyText;

/// What such a key starts with.
const PREFIX: &str = "hskey-auth-";
/// Hex digits of the part that is shown, and of the part that is secret.
const SHOWN: usize = 12;
const SECRET: usize = 64;

/// A text was no pre-authenticated key. It is not repeated: it may be most of a secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid pre auth key: expected \"{PREFIX}\", {SHOWN} hex digits, \"-\" and {SECRET} hex digits")]
pub(super) struct NotAnAuthKey;

/// How state knows a key: by its shown part, and a hash of its secret one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AuthKey {
    pub prefix: String,
    pub hash: SecretHash,
}

impl AuthKey {
    /// Reads a key as a client sends it.
    pub fn parse(text: &AuthKeyText) -> Result<Self, NotAnAuthKey> {
        let (prefix, secret) =
            text.trim().strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')).ok_or(NotAnAuthKey)?;
        let is_hex = |part: &str, length| part.len() == length && part.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_hex(prefix, SHOWN) || !is_hex(secret, SECRET) {
            return Err(NotAnAuthKey);
        }
        Ok(Self { prefix: prefix.to_owned(), hash: SecretHash::of(secret) })
    }
}
