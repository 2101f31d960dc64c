//! Hashes that only this sidecar, or those that share its book, can make.

use std::fmt;

use rand::{Rng, RngExt};
use ring::hmac::{self, HMAC_SHA256};

use crate::hex;

/// The key of the hashes: 256 random bits. It is stored with the book, so that hashes stay what they are.
#[derive(Clone)]
pub(crate) struct HashKey {
    bytes: [u8; 32],
    /// Has taken the key in: two of the four blocks that a hash costs.
    keyed: hmac::Key,
}

impl PartialEq for HashKey {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl HashKey {
    /// Draws a key. `rng` must be a cryptographic generator.
    pub(crate) fn random(rng: &mut impl Rng) -> Self {
        Self::new(rng.random())
    }

    fn new(bytes: [u8; 32]) -> Self {
        let keyed = hmac::Key::new(HMAC_SHA256, &bytes);
        Self { bytes, keyed }
    }

    /// The hash of `data`. Different purposes have different hashes of the same data.
    pub(crate) fn hash(&self, purpose: &str, data: &[u8]) -> [u8; 32] {
        let mut mac = hmac::Context::with_key(&self.keyed);
        mac.update(purpose.as_bytes());
        mac.update(&[0]);
        mac.update(data);
        let mut hash = [0; 32];
        hash.copy_from_slice(mac.sign().as_ref());
        hash
    }

    /// As it is stored: 64 hex digits.
    pub(crate) fn to_hex(&self) -> String {
        hex::encode(&self.bytes)
    }

    /// Reads what [`Self::to_hex`] wrote.
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        hex::decode(text).map(Self::new)
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
