//! The key of an account: decides which e-mails are acceptable, and when two of them mean one
//! account.
//!
//! Invariant: an accepted e-mail has no white space, no control and no invisible character, so it
//! can be shown, logged and compared without surprises. Deliverability is not checked.

use std::{borrow::Cow, sync::Arc};

use unicode_normalization::UnicodeNormalization;

use crate::limits::EMAIL_BYTES_MAX;

/// The same for every spelling of an account: Unicode NFC, the domain in ASCII lower case.
///
/// The local part keeps its case: the upstream compares e-mails case-sensitively.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity(Arc<str>);

impl Identity {
    /// The e-mail as it is compared.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The identity of the account that `email` names.
    #[must_use]
    pub fn of(email: &str) -> Identity {
        Identity(composed(email).into())
    }

    /// The same. Takes no memory of its own if the e-mail is spelled as it is compared.
    pub(crate) fn sharing(email: &Arc<str>) -> Identity {
        // Most are told without a copy.
        let is_composed =
            email.is_ascii() && !domain(email).bytes().any(|it| it.is_ascii_uppercase());
        if is_composed {
            return Identity(Arc::clone(email));
        }
        let composed = composed(email);
        if *composed == **email {
            Identity(Arc::clone(email))
        } else {
            Identity(composed.into())
        }
    }
}

/// What all e-mails share that differ at most in ASCII case or in how their characters are composed: those of one identity
/// do, and those that are the same in lower case.
///
/// Unicode NFD in ASCII lower case: a letter and its accent stay apart, so that both kinds of likeness keep it.
#[must_use]
pub fn alike(email: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii() && !byte.is_ascii_uppercase();
    if email.bytes().all(is_plain) {
        return Cow::Borrowed(email);
    }
    let mut decomposed: String = email.nfd().collect();
    decomposed.make_ascii_lowercase();
    Cow::Owned(decomposed)
}

/// The domain, with the `@` before it.
fn domain(email: &str) -> &str {
    email.rfind('@').map_or("", |at| &email[at..])
}

/// The e-mail as it is compared.
fn composed(email: &str) -> String {
    let mut composed: String = email.nfc().collect();
    if let Some(at) = composed.rfind('@') {
        composed[at..].make_ascii_lowercase();
    }
    composed
}

/// The e-mail in `key` without surrounding blanks, or `None` when the key is not acceptable.
///
/// Controls are white space in Unicode, but people do not type them by accident: they are not
/// trimmed.
pub(crate) fn accept(key: &str) -> Option<&str> {
    let email = key.trim_matches(|c: char| c.is_whitespace() && !c.is_control());
    let (local, domain) = email.rsplit_once('@')?;
    let is_acceptable = !local.is_empty()
        && !domain.is_empty()
        && email.len() <= EMAIL_BYTES_MAX
        && email.chars().all(is_visible);
    is_acceptable.then_some(email)
}

/// Whether `c` is visible by itself and cannot reorder its neighbours.
pub(crate) fn is_visible(c: char) -> bool {
    !(c.is_whitespace() || c.is_control() || is_invisible(c))
}

/// The general category Cf and the property `Default_Ignorable_Code_Point` of Unicode 16.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{00ad}' | '\u{034f}' | '\u{0600}'..='\u{0605}' | '\u{061c}' | '\u{06dd}' | '\u{070f}'
        | '\u{0890}'..='\u{0891}' | '\u{08e2}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_order_of_an_email_are_kept_and_blanks_around_it_are_not() {
        assert_eq!(
            accept(" \u{a0}Ann.B@Example.COM "),
            Some("Ann.B@Example.COM")
        );
        assert_eq!(accept("a+b@x"), Some("a+b@x"));
        assert_eq!(accept("ünï@exämple.com"), Some("ünï@exämple.com"));
    }

    #[test]
    fn hostile_keys_are_refused() {
        let too_long = format!("a@{}", "x".repeat(EMAIL_BYTES_MAX - 1));
        let hostile = [
            "",
            "error",
            "{}",
            "@x",
            "a@",
            "@",
            " @ ",
            "a b@x",
            "a@x\n",
            "\r\na@x",
            "a\0@x",
            "a@x\u{7f}",
            "a\u{85}@x",
            "a\u{200b}@x",
            "a\u{202e}@x",
            "\u{feff}a@x",
            "a@x\u{2066}",
            "a\u{2028}@x",
            "a\u{ad}@x",
            "a\u{3164}@x",
            "a@x\u{e0041}",
            too_long.as_str(),
        ];
        for key in hostile {
            assert_eq!(accept(key), None, "{key:?}");
        }
        assert!(
            accept(&too_long[..EMAIL_BYTES_MAX]).is_some(),
            "the longest that is accepted"
        );
    }

    #[test]
    fn spellings_of_one_account_share_an_identity() {
        let same = |one: &str, other: &str| Identity::of(one) == Identity::of(other);
        assert!(same("a@EXAMPLE.com", "a@example.COM"));
        assert!(
            same("caf\u{e9}@x", "cafe\u{301}@x"),
            "composed and decomposed"
        );
        assert!(!same("Ann@x", "ann@x"), "the local part is case-sensitive");
        assert!(!same("a@\u{c9}", "a@\u{e9}"), "only ASCII is lowercased");
    }

    #[test]
    fn what_means_one_account_or_differs_in_case_is_alike() {
        for email in [
            "Ann@EX.com",
            "A\u{30a}@x",
            "\u{c5}@x",
            "caf\u{e9}@X",
            "Cafe\u{301}@x",
        ] {
            let identity = Identity::of(email);
            assert_eq!(alike(identity.as_str()), alike(email), "{email:?}");
            assert_eq!(
                alike(&email.to_ascii_lowercase()),
                alike(email),
                "{email:?}"
            );
            let shared = Identity::sharing(&email.into());
            assert_eq!(shared, identity, "{email:?}");
        }
        assert_ne!(alike("ann@x"), alike("bob@x"));
        assert_ne!(alike("cafe@x"), alike("caf\u{e9}@x"));
    }
}
