//! Marks: the `replyRef` by which a running job shows that it is ours, and whose.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// What a mark begins with.
const PREFIX: &str = "klb-";
const BYTES: usize = 16;

/// A unique `replyRef`: `klb-` and 32 lower-case hex digits. It is no secret: every reader of the scheduler's
/// list sees it, and no reader can tell from it which lease it is of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mark([u8; BYTES]);

impl Mark {
    /// The mark with these bytes.
    pub(crate) fn new(bytes: [u8; BYTES]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is no mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a mark is {PREFIX} and 32 lower-case hex digits")]
pub struct MarkError;

impl FromStr for Mark {
    type Err = MarkError;

    fn from_str(text: &str) -> Result<Self, MarkError> {
        let digits = text.strip_prefix(PREFIX).ok_or(MarkError)?;
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if digits.len() != 2 * BYTES || !digits.bytes().all(is_digit) {
            return Err(MarkError);
        }
        let bits = u128::from_str_radix(digits, 16).or(Err(MarkError))?;
        Ok(Self(bits.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_mark_is_read_as_one() {
        let text = "klb-00112233445566778899aabbccddeeff";
        let mark: Mark = text.parse().unwrap();
        assert_eq!(mark.to_string(), text);
        for other in [
            "",
            "klb-",
            "00112233445566778899aabbccddeeff",
            "klb-00112233445566778899aabbccddeef",
            "klb-00112233445566778899aabbccddeeff0",
            "klb-00112233445566778899AABBCCDDEEFF",
            "KLB-00112233445566778899aabbccddeeff",
            " klb-00112233445566778899aabbccddeeff",
            "klb-+0112233445566778899aabbccddeeff",
            "klb-0011223344556677889gaabbccddeeff",
        ] {
            assert_eq!(other.parse::<Mark>(), Err(MarkError), "{other}");
        }
    }
}
