//! A multipart body (RFC 7578): `email`, `maxJobs` and what it names are parts of it.
//!
//! The body is only scanned. What two parsers could read differently is refused: see `scan` for
//! delimiters and `head` for the heads of parts. Two things are taken that RFC 2046 §5.1.1 does not
//! allow, since senders use them and parsers agree: the closing delimiter may end in a bare line feed,
//! and a boundary may have other characters, and more of them.

mod head;
mod parameter;
mod scan;

use std::borrow::Cow;

use bytes::Bytes;

pub use self::parameter::has_ascii_charset;
use self::{
    head::Head,
    scan::{Part, scan},
};
use super::{
    CHARSET, EmailBody, EmailError, Format, Place, Unwritable, is_like_ascii, may_be_email,
    may_be_reply, smaller_cap,
};
use crate::{
    kling::references::{References, URL_BYTES_MAX},
    pool::{Digest, Mark},
};

/// Most parts of a body: the upstream's largest form has some dozens, and each part costs work.
pub const PARTS_MAX: usize = 1000;

/// Longest head of a part: a name and a file name take some hundred bytes, and parsers in
/// front of the upstream stop at this size too.
pub const PART_HEAD_BYTES_MAX: usize = 16 * 1024;

/// Longest boundary. RFC 2046 §5.1.1 allows 70 characters, and senders use more; Python's cgi module took
/// 201 bytes.
pub const BOUNDARY_BYTES_MAX: usize = 201;

/// What separates the parts of one body. Senders use more characters than RFC 2046 §5.1.1 allows, and
/// parsers take what the content type names.
#[derive(Clone)]
pub(super) struct Boundary(String);

impl Boundary {
    /// The boundary that the header `Content-Type` names.
    fn of(content_type: &str) -> Option<Self> {
        let (media, parameters) = content_type.split_once(';')?;
        let is_form = media.trim().eq_ignore_ascii_case("multipart/form-data");
        let text = parameter::parameter(parameters, "boundary")?;
        // Without quotes, some parsers end it at a comma or a space.
        let is_quoted = || {
            let is_once = parameters.matches(&*text).count() == 1;
            is_once && parameters.contains(&format!("\"{text}\""))
        };
        let is_valid = (1..=BOUNDARY_BYTES_MAX).contains(&text.len())
            && text.bytes().all(is_boundary_character)
            && !text.ends_with(' ')
            && (!text.contains([',', ' ']) || is_quoted())
            && parameter::count(parameters, "boundary") == 1;
        (is_form && is_valid).then_some(Self(text))
    }

    /// The boundary with its two hyphens, as a line starts with it.
    fn dashed(&self) -> String {
        format!("--{}", self.0)
    }
}

/// Whether all parsers read `byte` alike in a parameter: they differ about quotes, backslashes and
/// semicolons.
fn is_boundary_character(byte: u8) -> bool {
    (byte == b' ' || byte.is_ascii_graphic()) && !b"\"\\;".contains(&byte)
}

/// Reads `bytes`, a form with the boundary that the header `Content-Type` names.
///
/// # Errors
/// All of [`EmailError`] but those of JSON and of `&`.
pub fn read(bytes: Bytes, content_type: &str) -> Result<EmailBody, EmailError> {
    let boundary = Boundary::of(content_type).ok_or(EmailError::NoBoundary)?;
    let (start, parts) = scan(&bytes, &boundary)?;
    let (mut found, mut max_jobs, mut prompt) = (None, None, None);
    let (mut references, mut has_reply) = (References::default(), false);
    let places = parts.iter().map(|part| part.whole.clone()).collect();
    for Part { head, value, .. } in parts {
        let Head { name, is_text } = head;
        let text = || str::from_utf8(&bytes[value.clone()]);
        match &*name {
            "email" if found.is_some() => return Err(EmailError::GivenTwice),
            "email" if !is_text => return Err(EmailError::NoPlainText),
            "email" => {
                let email = text().or(Err(EmailError::NotText))?;
                found = Some((email, value));
            }
            name if may_be_email(name.as_bytes()) => return Err(EmailError::NearlyEmail),
            name if may_be_reply(name.as_bytes()) => has_reply = true,
            CHARSET if !text().is_ok_and(is_like_ascii) => return Err(EmailError::Charset),
            "maxJobs" => max_jobs = smaller_cap(max_jobs, text().unwrap_or_default()),
            "prompt" => prompt = text().ok().map(Digest::of),
            // A longer one is a file.
            name if value.len() <= URL_BYTES_MAX => {
                references.note(name.as_bytes(), || text().ok().map(Cow::Borrowed));
            }
            _ => {}
        }
    }
    let (email, place) = match found {
        Some((text, value)) => (
            Some(text.to_owned()).filter(|text| !text.is_empty()),
            Place::of_value(value),
        ),
        None => (None, part_at(start, &boundary)),
    };
    Ok(EmailBody {
        format: Format::Form {
            boundary,
            parts: places,
        },
        email,
        max_jobs,
        prompt,
        references,
        has_reply,
        place,
        // Parts are left out as a whole.
        cut: 0..0,
        bytes,
    })
}

/// `email` as the value of a part, which knows no escapes.
pub(super) fn spell(email: &str, boundary: &Boundary) -> Result<String, Unwritable> {
    let is_writable = !email.contains(['\r', '\n', '\0']) && !email.starts_with(&boundary.dashed());
    is_writable.then(|| email.to_owned()).ok_or(Unwritable)
}

/// `mark` as a part, without the line break behind it. It cannot look like the boundary: it begins with no hyphen.
pub(super) fn spell_mark(mark: Mark, boundary: &Boundary) -> String {
    format!("{}{mark}", head_of("replyRef", boundary))
}

/// The boundary, and the head of a part with this name.
fn head_of(name: &str, boundary: &Boundary) -> String {
    let head = format!("Content-Disposition: form-data; name=\"{name}\"");
    format!("{}\r\n{head}\r\n\r\n", boundary.dashed())
}

/// A part of its own in front of the delimiter at `start`.
fn part_at(start: usize, boundary: &Boundary) -> Place {
    Place {
        at: start..start,
        before: head_of("email", boundary).into(),
        after: "\r\n",
    }
}

#[cfg(test)]
mod tests;
