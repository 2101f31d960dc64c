//! A JSON body: `email`, `maxJobs` and what it names are members of the object.
//!
//! The body is parsed for the limits of its members only: values stay raw slices of it, which
//! tell their offsets and are never written anew. Skipping a value is iterative, so depth costs no
//! stack.
//!
//! It is read in one pass, in half the instructions of `serde_json`, which tells what is wrong with one that is refused.
//! Both accept the same bodies, which the tests hold against each other.

use std::{borrow::Cow, fmt, num::NonZeroU32, ops::Range, str};

use bytes::Bytes;
use memchr::memchr;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{error::Category, value::RawValue};

use super::{EmailBody, EmailError, Format, Place, may_be_reply, smaller_cap};
use crate::{
    kling::{
        members::{Name, Scanner},
        references::{References, text_in},
    },
    pool::{Digest, Mark},
};

/// Reads `bytes`, which must be a JSON object and nothing else.
///
/// # Errors
/// [`EmailError::NotJson`], [`EmailError::NotAnObject`], [`EmailError::GivenTwice`] or
/// [`EmailError::NotText`].
pub fn read(bytes: Bytes) -> Result<EmailBody, EmailError> {
    let members = members(&bytes).ok_or_else(|| refusal(&bytes))?;
    if members.has_two_emails {
        return Err(EmailError::GivenTwice);
    }
    let (email, place, cut) = match members.email {
        Some((name, raw)) => {
            let value = range_of(raw.as_bytes(), &bytes);
            let cut = cut_of(range_of(name.quoted, &bytes).start..value.end, &bytes);
            (given(raw)?, Place::of_value(value), cut)
        }
        None => (None, start_of(&bytes, members.is_empty), 0..0),
    };
    Ok(EmailBody {
        format: Format::Json,
        email,
        max_jobs: members.max_jobs,
        prompt: members.prompt,
        references: members.references,
        has_reply: members.has_reply,
        place,
        cut,
        bytes,
    })
}

/// What is cut out of `bytes` to leave out a member: it, a comma, and the blanks between it and the member before or
/// behind it.
fn cut_of(member: Range<usize>, bytes: &[u8]) -> Range<usize> {
    let blanks = |at: usize| {
        bytes[at..]
            .iter()
            .take_while(|byte| byte.is_ascii_whitespace())
            .count()
    };
    let comma = member.end + blanks(member.end);
    if bytes[comma] == b',' {
        return member.start..comma + 1 + blanks(comma + 1);
    }
    let before = bytes[..member.start].trim_ascii_end();
    let behind = before
        .strip_suffix(b",")
        .map(|rest| rest.trim_ascii_end().len());
    let start = behind.unwrap_or(member.start);
    start..member.end
}

/// `email` as a JSON string.
pub(super) fn spell(email: &str) -> String {
    serde_json::to_string(email).expect("a string can be written as JSON")
}

/// `mark` as a member.
pub(super) fn spell_mark(mark: Mark) -> String {
    format!(r#""replyRef":"{mark}""#)
}

/// What we ask of an object.
#[derive(Default)]
struct Members<'a> {
    is_empty: bool,
    /// Name and value. They borrow from the body.
    email: Option<(Name<'a>, &'a str)>,
    has_two_emails: bool,
    max_jobs: Option<NonZeroU32>,
    prompt: Option<Digest>,
    references: References,
    has_reply: bool,
}

/// The members of the one object that `bytes` is. `None` if it is anything else.
fn members(bytes: &[u8]) -> Option<Members<'_>> {
    let text = str::from_utf8(bytes).ok()?;
    let mut members = Members {
        is_empty: true,
        ..Members::default()
    };
    let mut scanner = Scanner::new(bytes);
    scanner.object_of_names(|scanner, name| {
        let value = &text[range_of(scanner.value()?, bytes)];
        members.note(name, value);
        Some(())
    })?;
    scanner.end()?;
    Some(members)
}

impl<'a> Members<'a> {
    fn note(&mut self, name: Name<'a>, value: &'a str) {
        self.is_empty = false;
        let text = name.text();
        match text.as_deref() {
            Some(b"email") => {
                self.has_two_emails |= self.email.replace((name, value)).is_some();
            }
            Some(b"maxJobs") => {
                let text = value.trim_matches('"');
                self.max_jobs = smaller_cap(self.max_jobs, text);
            }
            Some(b"prompt") => self.prompt = text_of(value).map(|text| Digest::of(&text)),
            Some(name) if may_be_reply(name) => self.has_reply = true,
            Some(name) => self.references.note(name, || text_in(value)),
            None => {}
        }
    }
}

/// What a string, which may contain escapes, means. Without escapes it is not copied: a prompt may be the whole body.
///
/// Strings stay raw because some mean nothing: a lone surrogate is JSON, but no Unicode.
fn text_of(quoted: &str) -> Option<Cow<'_, str>> {
    let text = quoted.strip_prefix('"')?.strip_suffix('"')?;
    if memchr(b'\\', text.as_bytes()).is_some() {
        serde_json::from_str(quoted).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(text))
    }
}

/// The e-mail in `raw`, where an empty one and `null` count as absent.
fn given(raw: &str) -> Result<Option<String>, EmailError> {
    let text: Option<String> = serde_json::from_str(raw).or(Err(EmailError::NotText))?;
    Ok(text.filter(|text| !text.is_empty()))
}

/// Where `raw`, which borrows from `bytes`, stands in it.
fn range_of(raw: &[u8], bytes: &[u8]) -> Range<usize> {
    let start = raw.as_ptr().addr() - bytes.as_ptr().addr();
    start..start + raw.len()
}

/// Right behind the brace that opens the object.
fn start_of(bytes: &[u8], is_empty: bool) -> Place {
    let brace = bytes.iter().position(|&byte| byte == b'{');
    let start = brace.expect("an object starts with a brace") + 1;
    Place {
        at: start..start,
        before: r#""email":"#.into(),
        after: if is_empty { "" } else { "," },
    }
}

/// What a client is told of `bytes` that are not one object: the place of a mistake, never the text around it.
fn refusal(bytes: &[u8]) -> EmailError {
    let Err(error) = serde_json::from_slice::<AnyObject>(bytes) else {
        debug_assert!(false, "serde_json takes an object for one that we do not");
        return EmailError::NotAnObject;
    };
    match error.classify() {
        Category::Data => EmailError::NotAnObject,
        Category::Io | Category::Syntax | Category::Eof => EmailError::NotJson {
            line: error.line(),
            column: error.column(),
        },
    }
}

/// An object with any members.
struct AnyObject;

impl<'de> Deserialize<'de> for AnyObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self)
    }
}

impl<'de> Visitor<'de> for AnyObject {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<&RawValue, &RawValue>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests;
