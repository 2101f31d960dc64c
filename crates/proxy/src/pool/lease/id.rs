//! The id of a lease.

use std::{fmt, str::FromStr};

use rand::{Rng, RngExt};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use thiserror::Error;

use crate::hex;

/// Names a lease: 128 random bits, written as 32 hex digits. A client that knows it may release the
/// slot.
///
/// Two halves: a `u128` would be aligned to 16 bytes, and an entry of an index take 8 bytes more.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId([u64; 2]);

impl LeaseId {
    /// Draws an id. `rng` must be a cryptographic generator wherever ids are handed out.
    pub fn random(rng: &mut impl Rng) -> Self {
        Self(rng.random())
    }

    /// Its digits, in ASCII.
    pub(crate) fn digits(self) -> [u8; 32] {
        let mut digits = [0; 32];
        hex::put(self.0.map(u64::to_be_bytes).as_flattened(), &mut digits);
        digits
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.digits()).unwrap_or_default())
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for LeaseId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(std::str::from_utf8(&self.digits()).unwrap_or_default())
    }
}

impl<'de> Deserialize<'de> for LeaseId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// The text is not 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a lease id is 32 hex digits")]
pub struct LeaseIdError;

impl FromStr for LeaseId {
    type Err = LeaseIdError;

    fn from_str(text: &str) -> Result<Self, LeaseIdError> {
        let (high, low) = text.split_at_checked(16).ok_or(LeaseIdError)?;
        let half = |digits| hex::decode(digits).map(u64::from_be_bytes);
        match (half(high), half(low)) {
            (Some(high), Some(low)) => Ok(Self([high, low])),
            (None, _) | (_, None) => Err(LeaseIdError),
        }
    }
}
