//! Secrets in memory.

use std::convert::Infallible;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::str::FromStr;
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// Something that nobody may read in a log, an error or a debug page: it prints as redacted,
/// cannot be serialised, is compared in constant time, and is overwritten when it is dropped.
/// Whoever uses what is inside has to dereference it.
#[derive(Clone, Default)]
pub struct Sensitive<T: Zeroize>(T);

impl<T: Zeroize> Sensitive<T> {
    pub fn new(secret: T) -> Self {
        Self(secret)
    }
}

impl<T: Zeroize> Drop for Sensitive<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> Deref for Sensitive<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> DerefMut for Sensitive<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Zeroize> fmt::Debug for Sensitive<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(redacted)")
    }
}

/// Of equal length, in a time that does not depend on where they differ.
impl<T: Zeroize + AsRef<[u8]>> PartialEq for Sensitive<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_ref().ct_eq(other.0.as_ref()).into()
    }
}

impl<T: Zeroize + AsRef<[u8]>> Eq for Sensitive<T> {}

impl FromStr for Sensitive<String> {
    type Err = Infallible;
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_prints_as_redacted_wherever_it_is() {
        #[derive(Debug)]
        #[allow(dead_code)]
        struct Around {
            key: Option<Sensitive<String>>,
            bytes: Sensitive<[u8; 32]>,
        }
        let around = Around { key: Some(Sensitive::new("hunter2".into())), bytes: Sensitive::new([7; 32]) };
        assert_eq!(format!("{around:?}"), "Around { key: Some((redacted)), bytes: (redacted) }");
        assert!(!format!("{around:#?}").contains('7'));
    }

    #[test]
    fn secrets_are_equal_when_all_of_them_is() {
        let of = |text: &str| Sensitive::new(text.to_owned());
        assert_eq!(of("abc"), of("abc"));
        for other in ["abd", "bbc", "ab", "abcd", ""] {
            assert_ne!(of("abc"), of(other), "{other}");
        }
    }
}
