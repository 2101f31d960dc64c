//! The name of an account in logs and metrics.

use std::{fmt, ops::Deref, str};

use ring::digest::{SHA256, digest};
use serde::{Serialize, Serializer};

/// `a-` and 8 hex digits of the SHA-256 of an e-mail. Kept as a number: it is kept for every account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Alias(u32);

/// Its text.
#[derive(Clone, Copy, Debug)]
pub struct AliasText([u8; AliasText::BYTES]);

impl Alias {
    /// The alias of the account `email`.
    #[must_use]
    pub fn of(email: &str) -> Alias {
        let hash = digest(&SHA256, email.as_bytes());
        let head = hash.as_ref().iter().take(4);
        Alias(head.fold(0, |head, &byte| head << 8 | u32::from(byte)))
    }

    /// The alias that is written so; `None` if none is.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Alias> {
        let digits = text.strip_prefix("a-")?;
        let alias = Alias(u32::from_str_radix(digits, 16).ok()?);
        // Digits may be missing, or upper-case.
        (*alias.text() == *text).then_some(alias)
    }

    /// As it is written.
    #[must_use]
    pub fn text(self) -> AliasText {
        let digit = |nth: u32| {
            let value = self.0 >> (28 - 4 * nth) & 0xf;
            b"0123456789abcdef"[value as usize]
        };
        let mut text = *b"a-00000000";
        for (nth, place) in (0..).zip(&mut text[2..]) {
            *place = digit(nth);
        }
        AliasText(text)
    }
}

impl AliasText {
    /// Its length.
    pub const BYTES: usize = 10;
}

impl Deref for AliasText {
    type Target = str;

    fn deref(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text())
    }
}

impl Serialize for Alias {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_is_the_head_of_the_sha256_of_the_email() {
        // `printf %s a@example.com | sha256sum`
        assert_eq!(Alias::of("a@example.com").to_string(), "a-08168cd8");
    }

    #[test]
    fn an_alias_is_read_as_it_is_written_and_in_no_other_way() {
        for text in ["a-08168cd8", "a-00000000", "a-ffffffff"] {
            assert_eq!(Alias::from_text(text).unwrap().to_string(), text);
        }
        let others = [
            "",
            "a-",
            "a-8168cd8",
            "a-08168CD8",
            "a-+8168cd8",
            "a-08168cd80",
            "A-08168cd8",
        ];
        for text in others {
            assert_eq!(Alias::from_text(text), None, "{text:?}");
        }
    }
}
