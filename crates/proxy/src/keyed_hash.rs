//! Hashes that only this sidecar, or those that share its book, can make.

use std::fmt;

use hmac::{Hmac, Mac};
use rand::{Rng, RngExt};
use sha2::Sha256;

use crate::hex;

/// The key of the hashes: 256 random bits. It is stored with the book, so that hashes stay what they are.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct HashKey([u8; 32]);

impl HashKey {
    /// Draws a key. `rng` must be a cryptographic generator.
    pub(crate) fn random(rng: &mut impl Rng) -> Self {
        Self(rng.random())
    }

    /// The hash of `data`. Different purposes have different hashes of the same data.
    pub(crate) fn hash(&self, purpose: &str, data: &[u8]) -> [u8; 32] {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("any length will do");
        mac.update(purpose.as_bytes());
        mac.update(&[0]);
        mac.update(data);
        mac.finalize().into_bytes().into()
    }

    /// As it is stored: 64 hex digits.
    pub(crate) fn to_hex(&self) -> String {
        hex::encode(&self.0)
    }

    /// Reads what [`Self::to_hex`] wrote.
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        hex::decode(text).map(Self)
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_was_stored_makes_the_same_hashes() {
        let key = HashKey::random(&mut rand::rng());
        let stored = HashKey::from_hex(&key.to_hex()).unwrap();
        assert_eq!(stored.hash("a", b"b"), key.hash("a", b"b"));
        assert_ne!(key.hash("a", b"b"), key.hash("a", b"c"));
        assert_ne!(key.hash("a", b"b"), key.hash("", b"b"));
        assert_eq!(HashKey::from_hex("12"), None);
        assert!(!format!("{key:?}").contains(&key.to_hex()));
    }
}
