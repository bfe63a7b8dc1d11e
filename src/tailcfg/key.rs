//! Curve25519 keys in the protocol's text form: a prefix and 64 hex digits.

use std::{fmt, str::FromStr};

/// A key's text form was not `PREFIX` and 64 hex digits.
#[derive(Debug, thiserror::Error)]
#[error("not a key: {value:?} (expected \"{prefix}\" and 64 hex digits)")]
pub struct KeyParseError {
    prefix: &'static str,
    value: String,
}

fn parse(prefix: &'static str, text: &str) -> Result<[u8; 32], KeyParseError> {
    let error = || KeyParseError { prefix, value: text.chars().take(80).collect() };
    let digits = text.strip_prefix(prefix).ok_or_else(error)?;
    let mut bytes = [0; 32];
    hex::decode_to_slice(digits, &mut bytes).map_err(|_| error())?;
    Ok(bytes)
}

macro_rules! public_key {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// What the text form starts with.
            pub const PREFIX: &'static str = $prefix;

            /// Whether all bytes are zero, which on the wire means "absent".
            pub fn is_zero(&self) -> bool {
                self.0 == [0; 32]
            }

            /// The form that people read, as `tailscale` and Headscale print it: `[AbCdE]`.
            pub fn short(&self) -> String {
                use base64::Engine;
                let text = base64::engine::general_purpose::STANDARD.encode(self.0);
                format!("[{}]", &text[..5])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", $prefix, hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", $prefix, self.short())
            }
        }

        impl FromStr for $name {
            type Err = KeyParseError;
            fn from_str(text: &str) -> Result<Self, KeyParseError> {
                parse($prefix, text).map(Self)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

public_key! {
    /// A machine's public key: who speaks on a Noise connection.
    MachineKey, "mkey:"
}
public_key! {
    /// A node's public key: its WireGuard identity, and its name at a relay.
    NodeKey, "nodekey:"
}
public_key! {
    /// A node's public key for path discovery.
    DiscoKey, "discokey:"
}

/// A private key; its text form, as in Headscale's key files, starts with `privkey:`.
/// Prints as redacted; [`PrivateKey::reveal`] gives the text.
#[derive(Clone, Eq, zeroize::ZeroizeOnDrop)]
pub struct PrivateKey(pub [u8; 32]);

impl PrivateKey {
    /// A new key from the system's randomness, clamped as Curve25519 wants it.
    pub fn generate() -> Self {
        let mut bytes: [u8; 32] = rand::random();
        bytes[0] &= 248;
        bytes[31] = (bytes[31] & 127) | 64;
        Self(bytes)
    }

    /// The public half.
    pub fn public(&self) -> [u8; 32] {
        let secret = x25519_dalek::StaticSecret::from(self.0);
        x25519_dalek::PublicKey::from(&secret).to_bytes()
    }

    /// The text form, secret and all.
    pub fn reveal(&self) -> String {
        format!("privkey:{}", hex::encode(self.0))
    }
}

impl FromStr for PrivateKey {
    type Err = KeyParseError;
    fn from_str(text: &str) -> Result<Self, KeyParseError> {
        // The text is a secret: it does not go into the error.
        parse("privkey:", text.trim())
            .map(Self)
            .map_err(|_| KeyParseError { prefix: "privkey:", value: "(redacted)".into() })
    }
}

impl PartialEq for PrivateKey {
    fn eq(&self, other: &Self) -> bool {
        use subtle::ConstantTimeEq;
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("privkey:(redacted)")
    }
}
