//! Signed tokens (JWS compact form, RFC 7515) and the keys that they are checked with
//! (JWK, RFC 7517 and 7518, section 6).
//!
//! Which algorithms there are is decided here and not by the token: only public-key
//! signatures, each with its own kind of key. A token without a signature, or with one that
//! is made with a shared secret, has an algorithm that is not in the list.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use serde::Deserialize;

/// How a token may be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rsa(&'static str),
    EcP256,
    EcP384,
    Ed25519,
}

/// A token cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TokenError {
    #[error("it is no signed token (three parts, base64, JSON)")]
    Form,
    #[error("it is signed with {0:?}, which is not accepted")]
    Algorithm(String),
    #[error("it has extensions that are not known ({0:?})")]
    Extension(Vec<String>),
    /// Maybe the provider has new keys.
    #[error("none of the provider's keys is the one that signed it ({0:?})")]
    UnknownKey(String),
    #[error("its signature is wrong")]
    Signature,
}

/// A provider's public keys.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys(Vec<Key>);

#[derive(Clone, Debug, Deserialize)]
struct Key {
    kty: String,
    #[serde(default)]
    kid: String,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default, rename = "use")]
    usage: Option<String>,
    #[serde(default)]
    crv: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
    #[serde(default)]
    crit: Vec<String>,
}

impl Algorithm {
    /// By its name in RFC 7518, section 3.1, and RFC 8037.
    pub fn named(name: &str) -> Option<Self> {
        const RSA: [&str; 6] = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];
        match name {
            "ES256" => Some(Self::EcP256),
            "ES384" => Some(Self::EcP384),
            "EdDSA" => Some(Self::Ed25519),
            name => RSA.into_iter().find(|rsa| *rsa == name).map(Self::Rsa),
        }
    }

    fn fits(self, key: &Key) -> bool {
        match self {
            Self::Rsa(_) => key.kty == "RSA",
            Self::EcP256 => key.kty == "EC" && key.crv == "P-256",
            Self::EcP384 => key.kty == "EC" && key.crv == "P-384",
            Self::Ed25519 => key.kty == "OKP" && key.crv == "Ed25519",
        }
    }
}

impl Keys {
    /// More keys than any provider has.
    const MOST: usize = 100;

    /// A JWK set. Keys of kinds that are not known are left out.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        let set: Set = serde_json::from_slice(json).map_err(|e| format!("not a set of keys: {e}"))?;
        let keys = set.keys.into_iter().take(Self::MOST).filter_map(|key| serde_json::from_value(key).ok());
        Ok(Self(keys.filter(|key: &Key| key.usage.as_deref().is_none_or(|usage| usage == "sig")).collect()))
    }

    /// The content of a token that one of these keys signed with an algorithm for which
    /// `allowed` says yes.
    pub fn verify(&self, token: &str, allowed: impl Fn(&str) -> bool) -> Result<Vec<u8>, TokenError> {
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Form)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Form)?;
        let decode = |part: &str| BASE64.decode(part).map_err(|_| TokenError::Form);
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| TokenError::Form)?;
        let algorithm = Algorithm::named(&header.alg).filter(|_| allowed(&header.alg));
        let algorithm = algorithm.ok_or_else(|| TokenError::Algorithm(header.alg.clone()))?;
        if !header.crit.is_empty() {
            return Err(TokenError::Extension(header.crit));
        }
        let (payload, signature) = (decode(payload)?, decode(signature)?);
        let mut candidates = self.candidates(algorithm, &header).peekable();
        if candidates.peek().is_none() {
            return Err(TokenError::UnknownKey(header.kid.clone()));
        }
        let is_good = candidates.any(|key| key.verifies(algorithm, signed.as_bytes(), &signature));
        if is_good { Ok(payload) } else { Err(TokenError::Signature) }
    }

    /// Without a name in the token, every key of the right kind may be the one.
    fn candidates<'k>(&'k self, algorithm: Algorithm, header: &'k Header) -> impl Iterator<Item = &'k Key> {
        self.0.iter().filter(move |key| {
            let is_named = header.kid.is_empty() || key.kid == header.kid;
            is_named && algorithm.fits(key) && key.alg.as_ref().is_none_or(|alg| *alg == header.alg)
        })
    }
}

impl Key {
    fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let number = |text: &str| BASE64.decode(text).unwrap_or_default();
        let with = |algorithm: &'static dyn VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
        };
        match algorithm {
            Algorithm::Rsa(name) => {
                let key = RsaPublicKeyComponents { n: number(&self.n), e: number(&self.e) };
                key.verify(rsa(name), message, signature).is_ok()
            }
            Algorithm::EcP256 => with(&signature::ECDSA_P256_SHA256_FIXED, &point(&number(&self.x), &number(&self.y))),
            Algorithm::EcP384 => with(&signature::ECDSA_P384_SHA384_FIXED, &point(&number(&self.x), &number(&self.y))),
            Algorithm::Ed25519 => with(&signature::ED25519, &number(&self.x)),
        }
    }
}

/// Keys of fewer than 2048 bits are none.
fn rsa(name: &str) -> &'static RsaParameters {
    match name {
        "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
        "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
        "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
        "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
        _ => &signature::RSA_PKCS1_2048_8192_SHA256,
    }
}

/// An uncompressed point (SEC 1, section 2.3.3).
fn point(x: &[u8], y: &[u8]) -> Vec<u8> {
    [&[4], x, y].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// Keys and tokens that Node.js made.
    fn vectors() -> (Keys, Value) {
        let text = include_str!("vectors.json");
        (Keys::parse(text.as_bytes()).unwrap(), serde_json::from_str(text).unwrap())
    }

    #[test]
    fn tokens_of_another_implementation_are_read_with_each_algorithm() {
        let (keys, vectors) = vectors();
        let tokens = vectors["tokens"].as_object().unwrap();
        assert_eq!(tokens.len(), 9);
        for (name, token) in tokens {
            let token = token.as_str().unwrap();
            assert_eq!(keys.verify(token, |_| true).unwrap(), br#"{"sub":"7"}"#, "{name}");
            let other = keys.verify(token, |allowed| allowed != name);
            assert_eq!(other, Err(TokenError::Algorithm(name.clone())), "the provider does not sign so");
            let (signed, signature) = token.rsplit_once('.').unwrap();
            let (header, _) = signed.split_once('.').unwrap();
            let altered = format!("{header}.{}.{signature}", BASE64.encode(br#"{"sub":"8"}"#));
            assert_eq!(keys.verify(&altered, |_| true), Err(TokenError::Signature), "{name}");
            assert_eq!(keys.verify(&format!("{signed}."), |_| true), Err(TokenError::Signature), "{name}");
        }
    }

    #[test]
    fn a_token_does_not_say_itself_how_it_is_checked() {
        let (keys, vectors) = vectors();
        let verify = |name: &str| keys.verify(vectors[name].as_str().unwrap(), |_| true);
        assert_eq!(verify("none"), Err(TokenError::Algorithm("none".into())));
        assert_eq!(verify("hmac"), Err(TokenError::Algorithm("HS256".into())));
        assert_eq!(verify("crossed"), Err(TokenError::UnknownKey("p256".into())), "another kind of key");
        assert_eq!(verify("weak"), Err(TokenError::Signature), "a key of 1024 bits");
        let critical = format!("{}.e30.", BASE64.encode(br#"{"alg":"ES256","crit":["b64"],"b64":false}"#));
        assert_eq!(keys.verify(&critical, |_| true), Err(TokenError::Extension(vec!["b64".into()])));
        for text in ["", ".", "..", "a.b.c", "e30.e30.e30", "e30.e30"] {
            assert_eq!(keys.verify(text, |_| true), Err(TokenError::Form), "{text:?}");
        }
    }

    #[test]
    fn keys_for_encryption_and_of_unknown_kinds_are_left_out() {
        let json =
            br#"{"keys":[{"kty":"RSA","use":"enc"},{"kty":"RSA","kid":7},{"kty":"oct"},{"kty":"RSA","kid":"a"}]}"#;
        assert_eq!(Keys::parse(json).unwrap().0.len(), 2);
        assert!(Keys::parse(b"[]").is_err() && Keys::parse(b"<html>").is_err());
    }
}
