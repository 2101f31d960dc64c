//! What tells one call from another, in every run and in every version of the sidecar.
//!
//! A fingerprint stands in the book on disk. A rule that makes another one of the same call would let a client
//! that comes again after an update buy a second job, or be refused: known fingerprints are in the tests.

use std::fmt;

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::hex;

/// SHA-256 of what a call says. Written as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a call that says no more than these fields, in this order.
    pub fn of<T: AsRef<[u8]>>(fields: impl IntoIterator<Item = T>) -> Self {
        let mut hashing = FingerprintHasher::default();
        for field in fields {
            hashing.field(field.as_ref());
        }
        hashing.finish()
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        hex::deserialize(deserializer).map(Self)
    }
}

/// Makes a fingerprint of fields, one after the other. The length of each stands in front of it, so that other
/// fields make another fingerprint.
pub struct FingerprintHasher(Context);

impl Default for FingerprintHasher {
    fn default() -> Self {
        Self(Context::new(&SHA256))
    }
}

/// Shows nothing of what was hashed.
impl fmt::Debug for FingerprintHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FingerprintHasher(..)")
    }
}

impl FingerprintHasher {
    /// Adds a field.
    pub fn field(&mut self, bytes: &[u8]) {
        self.begin_field(bytes.len());
        self.add(bytes);
    }

    /// Begins a field that consists of so many bytes. They are [added](Self::add) in pieces.
    pub fn begin_field(&mut self, byte_count: usize) {
        self.0.update(&(byte_count as u64).to_le_bytes());
    }

    /// Adds a piece of the field that was begun.
    pub fn add(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The fingerprint of all fields.
    pub fn finish(self) -> Fingerprint {
        let mut hash = [0; 32];
        hash.copy_from_slice(self.0.finish().as_ref());
        Fingerprint(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_the_same_in_every_version() {
        let known = Fingerprint::of(["ab", ""]);
        // printf '\2\0\0\0\0\0\0\0ab\0\0\0\0\0\0\0\0' | sha256sum
        let digits = "e38fddf799dfc9884ea023573aeb35487342dc2b75837ecc5b72fd9386050ccb";
        assert_eq!(known.to_string(), digits);
        let stored = serde_json::to_string(&known).unwrap();
        assert_eq!(stored, format!("\"{digits}\""));
        assert_eq!(serde_json::from_str::<Fingerprint>(&stored).unwrap(), known);
        assert!(serde_json::from_str::<Fingerprint>("\"12\"").is_err());
    }

    #[test]
    fn other_fields_make_another_fingerprint() {
        let cases: [&[&str]; 7] = [
            &[],
            &[""],
            &["", ""],
            &["ab"],
            &["a", "b"],
            &["b", "a"],
            &["ab", ""],
        ];
        for (idx, fields) in cases.iter().enumerate() {
            for other in &cases[idx + 1..] {
                assert_ne!(Fingerprint::of(*fields), Fingerprint::of(*other));
            }
        }
    }
}
