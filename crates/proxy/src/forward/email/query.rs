//! The query of a URL: `email` is one of its fields.
//!
//! A plus sign stays a plus sign: who writes `a+b@x` means one, and a client that encodes writes
//! `%2B`. What we write has everything but unreserved characters percent-encoded (RFC 3986 §2.3),
//! so that no reader can take it for a space.

use std::{fmt, ops::Range};

use percent_encoding::{percent_decode, percent_decode_str};

use super::{EmailError, Place, may_be_email, may_be_reply};
use crate::upstream::encoded;

/// A query that was read: the e-mail in it, and where one is written.
#[derive(Clone)]
pub struct Query {
    text: String,
    email: Option<String>,
    place: Place,
}

/// Reads `query`, the part of a URL behind its `?`.
///
/// # Errors
/// [`EmailError`] if there are two, or another reader could find one elsewhere.
pub fn read(query: Option<&str>) -> Result<Query, EmailError> {
    let text = query.unwrap_or_default();
    let (email, place) = email_in(text.as_bytes())?;
    Ok(Query {
        text: text.to_owned(),
        email,
        place,
    })
}

/// The e-mail among the fields of a query or of a form in the same syntax, and where one is written.
///
/// # Errors
/// [`EmailError::GivenTwice`]; [`EmailError::NotText`] if the e-mail is not UTF-8; and
/// [`EmailError::NearlyEmail`] or [`EmailError::Semicolon`] where another parser could read another e-mail.
pub(super) fn email_in(text: &[u8]) -> Result<(Option<String>, Place), EmailError> {
    if text.is_empty() {
        return Ok((None, insert(0, "email=")));
    }
    let mut found = None;
    let mut start = 0;
    for pair in text.split(|byte| *byte == b'&') {
        let end = start + pair.len();
        let name = name_of(pair);
        let is_near = |piece| may_be_email(name_of(piece));
        // Some parsers separate fields by semicolons, too.
        if pair.contains(&b';') && pair.split(|byte| *byte == b';').any(is_near) {
            return Err(EmailError::Semicolon);
        }
        if percent_decode(name).eq(*b"email") {
            let value = pair.get(name.len() + 1..);
            if found.replace((value, end)).is_some() {
                return Err(EmailError::GivenTwice);
            }
        } else if is_near(pair) {
            return Err(EmailError::NearlyEmail);
        }
        start = end + 1;
    }
    Ok(match found {
        Some((Some(value), end)) => (given(value)?, Place::of_value(end - value.len()..end)),
        Some((None, end)) => (None, insert(end, "=")),
        None => (None, insert(text.len(), "&email=")),
    })
}

/// What is cut out of a query, or of a form in the same syntax, to leave out the e-mail: its field, and what
/// separates it from the others.
pub(super) fn email_cut(text: &[u8]) -> Range<usize> {
    let mut start = 0;
    for pair in text.split(|byte| *byte == b'&') {
        let end = start + pair.len();
        if percent_decode(name_of(pair)).eq(*b"email") {
            return match text.get(end) {
                Some(_) => start..end + 1,
                None => start.saturating_sub(1)..end,
            };
        }
        start = end + 1;
    }
    0..0
}

/// The name of the field that `pair` is, as it is written.
fn name_of(pair: &[u8]) -> &[u8] {
    pair.split(|byte| *byte == b'=').next().unwrap_or_default()
}

impl Query {
    /// The e-mail that the client gave, percent-decoded, or `None` if it is absent or empty.
    #[must_use]
    pub fn email(&self) -> Option<&str> {
        self.email.as_deref()
    }

    /// The query as it goes on.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The query without the field that holds the e-mail.
    pub(in crate::forward) fn without_email(&self) -> String {
        let cut = email_cut(self.text.as_bytes());
        [&self.text[..cut.start], &self.text[cut.end..]].concat()
    }

    /// The query with its plus signs in the e-mail encoded, if there are any: a server that decodes forms would
    /// read them as spaces.
    #[must_use]
    pub fn without_plus(&self) -> Option<String> {
        let email = self.email.as_deref()?;
        self.text[self.place.at.clone()]
            .contains('+')
            .then(|| self.with_email(email))
    }

    /// The items of the comma lists that the fields `name` hold, in order.
    pub fn list(&self, name: &str) -> impl Iterator<Item = String> {
        let lists = self.values(name).filter_map(|value| {
            let list = percent_decode_str(value).decode_utf8().ok()?;
            Some(list.split(',').map(str::to_owned).collect::<Vec<_>>())
        });
        lists.flatten()
    }

    /// Whether some parser finds in it where the upstream reports to, or how.
    #[must_use]
    pub fn may_have_reply(&self) -> bool {
        let mut pairs = self.text.split(['&', ';']);
        pairs.any(|pair| may_be_reply(name_of(pair.as_bytes())))
    }

    /// Whether a field `name` has this value.
    #[must_use]
    pub fn has(&self, name: &str, value: &str) -> bool {
        let mut values = self.values(name);
        values.any(|given| percent_decode_str(given).eq(value.bytes()))
    }

    /// The values of the fields `name`, as they are written.
    fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        let fields = self.text.split('&').filter_map(|it| it.split_once('='));
        let named = fields.filter(move |(field, _)| percent_decode_str(field).eq(name.bytes()));
        named.map(|(_, value)| value)
    }

    /// The query with `email` as its e-mail; all else is as it came.
    #[must_use]
    pub fn with_email(&self, email: &str) -> String {
        let mut text = String::new();
        self.write_with_email(email, &mut text);
        text
    }

    /// Writes the query with `email` as its e-mail.
    pub(in crate::forward) fn write_with_email(&self, email: &str, text: &mut String) {
        let Place { at, before, after } = &self.place;
        // Encoded, a byte takes three.
        text.reserve(self.text.len() + before.len() + 3 * email.len() + after.len());
        text.push_str(&self.text[..at.start]);
        text.push_str(before);
        text.extend(encoded(email));
        text.push_str(after);
        text.push_str(&self.text[at.end..]);
    }
}

/// Shows no content: a query has no place in a log.
impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Query").finish_non_exhaustive()
    }
}

/// The e-mail in `value`, where an empty one counts as absent.
fn given(value: &[u8]) -> Result<Option<String>, EmailError> {
    let text = percent_decode(value).decode_utf8();
    let text = text.or(Err(EmailError::NotText))?;
    Ok(Some(text.into_owned()).filter(|text| !text.is_empty()))
}

fn insert(at: usize, before: &'static str) -> Place {
    Place {
        at: at..at,
        before: before.into(),
        after: "",
    }
}

#[cfg(test)]
mod tests;
