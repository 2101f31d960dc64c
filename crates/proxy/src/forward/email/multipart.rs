//! A multipart body (RFC 7578): `email`, `maxJobs` and what it names are parts of it.
//!
//! The body is only scanned, by the rules of RFC 2046 §5.1.1 with three differences. A line is a
//! delimiter if it is the boundary as a whole: where it only starts with it, senders mean data. The
//! closing delimiter may end in a bare line feed, as scripts write it. And a boundary may have other
//! characters, and more of them.

mod parameter;
mod scan;

use std::{borrow::Cow, iter};

use bytes::Bytes;
use memchr::memmem;

pub use self::parameter::parameter;
use self::scan::{Part, scan};
use super::{EmailBody, EmailError, Format, Place, Unwritable, smaller_cap};
use crate::{
    kling::references::{References, URL_BYTES_MAX},
    pool::Digest,
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
        let text = parameter(parameters, "boundary")?;
        let is_valid = (1..=BOUNDARY_BYTES_MAX).contains(&text.len())
            && text.bytes().all(is_boundary_character)
            && !text.ends_with(' ');
        (is_form && is_valid).then_some(Self(text))
    }

    /// What stands between the boundaries in `bytes`.
    pub(super) fn split<'a>(&self, bytes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = Some(bytes);
        iter::from_fn(move || {
            let here = rest?;
            let at = memmem::find(here, self.0.as_bytes());
            rest = at.map(|at| &here[at + self.0.len()..]);
            Some(&here[..at.unwrap_or(here.len())])
        })
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
/// [`EmailError::GivenTwice`] or [`EmailError::NotText`] for the e-mail; all others but those of
/// JSON for the form.
pub fn read(bytes: Bytes, content_type: &str) -> Result<EmailBody, EmailError> {
    let boundary = Boundary::of(content_type).ok_or(EmailError::NoBoundary)?;
    let (start, parts) = scan(&bytes, &boundary)?;
    let (mut found, mut max_jobs, mut prompt) = (None, None, None);
    let mut references = References::default();
    for Part { name, value } in parts {
        let text = || str::from_utf8(&bytes[value.clone()]);
        match name.as_deref() {
            Some("email") if found.is_some() => return Err(EmailError::GivenTwice),
            Some("email") => found = Some((text().or(Err(EmailError::NotText))?, value)),
            Some("maxJobs") => max_jobs = smaller_cap(max_jobs, text().unwrap_or_default()),
            Some("prompt") => prompt = text().ok().map(Digest::of),
            // A longer one is a file.
            Some(name) if value.len() <= URL_BYTES_MAX => {
                references.note(name, || text().ok().map(Cow::Borrowed));
            }
            Some(_) | None => {}
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
        format: Format::Form(boundary),
        email,
        max_jobs,
        prompt,
        references,
        place,
        bytes,
    })
}

/// `email` as the value of a part, which knows no escapes.
pub(super) fn spell(email: &str, boundary: &Boundary) -> Result<String, Unwritable> {
    let is_writable = !email.contains(['\r', '\n', '\0']) && !email.starts_with(&boundary.dashed());
    is_writable.then(|| email.to_owned()).ok_or(Unwritable)
}

/// A part of its own in front of the delimiter at `start`.
fn part_at(start: usize, boundary: &Boundary) -> Place {
    let head = "Content-Disposition: form-data; name=\"email\"";
    Place {
        at: start..start,
        before: format!("{}\r\n{head}\r\n\r\n", boundary.dashed()),
        after: "\r\n",
    }
}

#[cfg(test)]
mod tests;
