//! A JSON body: `email`, `maxJobs` and what it names are members of the object.
//!
//! The body is parsed for the limits of its members only: values stay raw slices of it, which
//! tell their offsets and are never written anew. Skipping a value is iterative, so depth costs no
//! stack.

use std::{borrow::Cow, fmt, num::NonZeroU32, ops::Range};

use bytes::Bytes;
use memchr::memchr;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{error::Category, value::RawValue};

use super::{EmailBody, EmailError, Format, Place, may_be_reply, smaller_cap};
use crate::{
    kling::references::{References, text_in},
    pool::{Digest, Mark},
};

/// Reads `bytes`, which must be a JSON object and nothing else.
///
/// # Errors
/// [`EmailError::NotJson`], [`EmailError::NotAnObject`], [`EmailError::GivenTwice`] or
/// [`EmailError::NotText`].
pub fn read(bytes: Bytes) -> Result<EmailBody, EmailError> {
    let members: Members<'_> = serde_json::from_slice(&bytes).map_err(refusal)?;
    if members.has_two_emails {
        return Err(EmailError::GivenTwice);
    }
    let (email, place, cut) = match members.email {
        Some((name, raw)) => {
            let value = range_of(raw, &bytes);
            let cut = cut_of(range_of(name, &bytes).start..value.end, &bytes);
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
struct Members<'a> {
    is_empty: bool,
    /// Name and value. They borrow from the body.
    email: Option<(&'a RawValue, &'a RawValue)>,
    has_two_emails: bool,
    max_jobs: Option<NonZeroU32>,
    prompt: Option<Digest>,
    references: References,
    has_reply: bool,
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Members {
            is_empty: true,
            email: None,
            has_two_emails: false,
            max_jobs: None,
            prompt: None,
            references: References::default(),
            has_reply: false,
        };
        while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            members.is_empty = false;
            match text_of(key).as_deref() {
                Some("email") => {
                    members.has_two_emails |= members.email.replace((key, value)).is_some();
                }
                Some("maxJobs") => {
                    let text = value.get().trim_matches('"');
                    members.max_jobs = smaller_cap(members.max_jobs, text);
                }
                Some("prompt") => {
                    members.prompt = text_of(value).map(|text| Digest::of(&text));
                }
                Some(name) if may_be_reply(name.as_bytes()) => members.has_reply = true,
                Some(name) => members.references.note(name, || text_in(value)),
                None => {}
            }
        }
        Ok(members)
    }
}

/// What a string, which may contain escapes, means. Without escapes it is not copied: a prompt may be the whole body.
///
/// Strings stay raw because some mean nothing: a lone surrogate is JSON, but no Unicode.
fn text_of(value: &RawValue) -> Option<Cow<'_, str>> {
    let quoted = value.get();
    let text = quoted.strip_prefix('"')?.strip_suffix('"')?;
    if memchr(b'\\', text.as_bytes()).is_some() {
        serde_json::from_str(quoted).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(text))
    }
}

/// The e-mail in `raw`, where an empty one and `null` count as absent.
fn given(raw: &RawValue) -> Result<Option<String>, EmailError> {
    let text: Option<String> = serde_json::from_str(raw.get()).or(Err(EmailError::NotText))?;
    Ok(text.filter(|text| !text.is_empty()))
}

/// Where `raw`, which borrows from `bytes`, stands in it.
fn range_of(raw: &RawValue, bytes: &[u8]) -> Range<usize> {
    let start = raw.get().as_ptr().addr() - bytes.as_ptr().addr();
    start..start + raw.get().len()
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

/// What a client is told: the place of a mistake, never the text around it.
fn refusal(error: serde_json::Error) -> EmailError {
    match error.classify() {
        Category::Data => EmailError::NotAnObject,
        Category::Io | Category::Syntax | Category::Eof => EmailError::NotJson {
            line: error.line(),
            column: error.column(),
        },
    }
}

#[cfg(test)]
mod tests;
