//! The `email` of a passing request: found in its body or query, and put there. The references in the body
//! are found in the same pass.
//!
//! Invariant: nothing but the e-mail changes. A source is read only to learn the place of the
//! e-mail in it; writing copies the bytes before and after that place. So big numbers, the order
//! of keys, escapes, white space and binary parts reach the upstream as the client sent them.
//!
//! An empty e-mail, and `null` in JSON, count as absent. Two e-mails are refused, since the client and
//! the upstream could read different ones.
//!
//! Deliberately absent: bodies in pieces. Job starts are read whole before an account is chosen, so
//! [`Bytes`] go in and [`Bytes`] come out.

pub mod fields;
pub mod json;
pub mod multipart;
pub mod query;

use std::{fmt, hash::Hasher, num::NonZeroU32, ops::Range};

use bytes::Bytes;
use thiserror::Error;

use crate::{
    kling::references::{Reference, References},
    pool::Digest,
    upstream::encoded,
};

/// Why no e-mail can be read from a request. The text says what was expected, and quotes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EmailError {
    /// The body is not JSON.
    #[error("expected JSON, which this is not at line {line}, column {column}")]
    NotJson {
        /// Counts from 1.
        line: usize,
        /// In bytes; 0 is in front of the first one.
        column: usize,
    },
    /// The body is JSON, but not an object.
    #[error("expected a JSON object")]
    NotAnObject,
    /// The content type names no boundary that can be looked for.
    #[error(
        "expected multipart/form-data with a boundary of 1 to {} printable ASCII characters without \
         quotes, backslashes and semicolons",
        multipart::BOUNDARY_BYTES_MAX
    )]
    NoBoundary,
    /// No line consists of the boundary.
    #[error("expected the boundary that the content type names, on a line of its own")]
    NoPart,
    /// The body ends within a part.
    #[error("expected the closing boundary")]
    NotClosed,
    /// A part without the empty line that ends its head.
    #[error(
        "expected each part to have a head of at most {} bytes and an empty line",
        multipart::PART_HEAD_BYTES_MAX
    )]
    NoHead,
    /// More parts than any form has.
    #[error("expected at most {} parts", multipart::PARTS_MAX)]
    TooManyParts,
    /// More fields than any form has.
    #[error("expected at most {} fields", fields::FIELDS_MAX)]
    TooManyFields,
    /// More than one e-mail.
    #[error("given twice")]
    GivenTwice,
    /// The e-mail is a number, an object, or not Unicode.
    #[error("expected a string")]
    NotText,
}

impl EmailError {
    /// Which part of the request is wrong.
    #[must_use]
    pub fn field(self) -> &'static str {
        match self {
            Self::GivenTwice | Self::NotText => "email",
            Self::NotJson { .. }
            | Self::NotAnObject
            | Self::NoBoundary
            | Self::NoPart
            | Self::NotClosed
            | Self::NoHead
            | Self::TooManyParts
            | Self::TooManyFields => "body",
        }
    }
}

/// An e-mail that would break the form it is written into.
///
/// No valid account list has such an e-mail, so this is never the client's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("an e-mail for a form must have no line break or NUL and not look like the boundary")]
pub struct Unwritable;

/// A body that was read: what it says about its account, and where an e-mail is written.
///
/// Made by [`json::read`], [`multipart::read`] and [`fields::read`]. Cheap to clone and to move.
#[derive(Clone)]
pub struct EmailBody {
    bytes: Bytes,
    format: Format,
    email: Option<String>,
    max_jobs: Option<NonZeroU32>,
    prompt: Option<Digest>,
    references: References,
    place: Place,
}

/// How an e-mail is spelled in a body.
#[derive(Clone)]
enum Format {
    Json,
    Fields,
    Form(multipart::Boundary),
}

impl EmailBody {
    /// The body as it goes on, if no e-mail is put in.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The e-mail that the client gave, or `None` if it is absent or empty.
    #[must_use]
    pub fn email(&self) -> Option<&str> {
        self.email.as_deref()
    }

    /// The client's own cap on the jobs of the account: the smallest `maxJobs` that is a whole number. The
    /// upstream refuses anything else.
    #[must_use]
    pub fn max_jobs(&self) -> Option<NonZeroU32> {
        self.max_jobs
    }

    /// The digest of the prompt, if there is one.
    #[must_use]
    pub fn prompt(&self) -> Option<Digest> {
        self.prompt
    }

    /// Hashes what the client said. The boundary of a form is left out: senders draw it anew for
    /// every attempt.
    pub fn hash_content(&self, hasher: &mut impl Hasher) {
        self.hash_bytes(&self.bytes, hasher);
    }

    /// The same, whatever e-mail the client gave.
    pub fn hash_without_email(&self, hasher: &mut impl Hasher) {
        match self.with_email("") {
            Ok(blank) => self.hash_bytes(&blank, hasher),
            Err(Unwritable) => self.hash_content(hasher),
        }
    }

    fn hash_bytes(&self, bytes: &Bytes, hasher: &mut impl Hasher) {
        match &self.format {
            Format::Json | Format::Fields => hasher.write(bytes),
            Format::Form(boundary) => {
                for piece in boundary.split(bytes) {
                    hasher.write(piece);
                }
            }
        }
    }

    /// The references in the body, in its order.
    #[must_use]
    pub fn references(&self) -> &[Reference] {
        self.references.as_slice()
    }

    /// The body with `email` as its e-mail; all other bytes are as they came.
    ///
    /// # Errors
    /// [`Unwritable`] if `email` would break a multipart body. The others can spell every e-mail.
    pub fn with_email(&self, email: &str) -> Result<Bytes, Unwritable> {
        let spelled = match &self.format {
            Format::Json => json::spell(email),
            Format::Fields => encoded(email).to_string(),
            Format::Form(boundary) => multipart::spell(email, boundary)?,
        };
        let Place { at, before, after } = &self.place;
        let [head, tail] = [&self.bytes[..at.start], &self.bytes[at.end..]];
        let written = [
            head,
            before.as_bytes(),
            spelled.as_bytes(),
            after.as_bytes(),
            tail,
        ];
        Ok(written.concat().into())
    }
}

/// Shows no content: a body holds prompts and e-mails, which have no place in a log.
impl fmt::Debug for EmailBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmailBody")
            .field("byte_count", &self.bytes.len())
            .field("max_jobs", &self.max_jobs)
            .finish_non_exhaustive()
    }
}

/// Where an e-mail is written.
#[derive(Clone)]
struct Place {
    /// What the e-mail replaces: the value of an e-mail that is there, else nothing.
    at: Range<usize>,
    /// What stands between the bytes before `at` and the e-mail.
    before: String,
    /// What stands between the e-mail and the bytes after `at`.
    after: &'static str,
}

impl Place {
    /// The place of the value that is there.
    fn of_value(at: Range<usize>) -> Self {
        Self {
            at,
            before: String::new(),
            after: "",
        }
    }
}

/// The smaller of the caps `known` and `text`, where `text` counts if it is a whole number, however it is
/// spelled (`3`, `3.0`, `3e0`).
///
/// It is not known which of two a parser reads; the smaller one is safe for both.
fn smaller_cap(known: Option<NonZeroU32>, text: &str) -> Option<NonZeroU32> {
    known.into_iter().chain(whole(text)).min()
}

fn whole(text: &str) -> Option<NonZeroU32> {
    let text = text.trim_ascii();
    // Not `inf`, `nan` or a sign.
    let number: f64 = text
        .starts_with(|first: char| first.is_ascii_digit())
        .then(|| text.parse().ok())??;
    if number.fract() != 0.0 || number > f64::from(u32::MAX) {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole, not negative, and within the limit"
    )]
    NonZeroU32::new(number as u32)
}

#[cfg(test)]
mod tests;
