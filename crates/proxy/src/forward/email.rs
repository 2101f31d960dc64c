//! The `email` of a passing request: found in its body or query, and put there. The references in the body
//! are found in the same pass, and a mark is put in beside the e-mail.
//!
//! Invariant: nothing but the e-mail changes, and nothing but a mark is added. A source is read only to learn the place of the
//! e-mail in it; writing copies the bytes before and after that place. So big numbers, the order
//! of keys, escapes, white space and binary parts reach the upstream as the client sent them.
//!
//! An empty e-mail, and `null` in JSON, count as absent. Two e-mails are refused, and whatever another
//! parser could take for another e-mail: the job would run on an account of which no slot is held.
//!
//! Deliberately absent: bodies that come in pieces. Job starts are read whole before an account is chosen.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod check;
pub mod fields;
pub mod json;
pub mod multipart;
pub mod query;

use std::{borrow::Cow, fmt, num::NonZeroU32, ops::Range, sync::Arc};

use bytes::Bytes;
use percent_encoding::percent_decode;
use thiserror::Error;

use crate::{
    kling::references::{Reference, References},
    pool::{Digest, Mark},
    upstream::encoded,
};

/// The field by which a form names the charset of its text, RFC 7578 §4.6.
const CHARSET: &str = "_charset_";

/// The fields by which a client says where the upstream reports to, and by what name, in lower case. We put in no
/// `replyRef` beside either.
const REPLY_FIELDS: [&[u8]; 2] = [b"replyref", b"replyurl"];

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
    /// A line that some parsers take for a delimiter, and others for data.
    #[error(
        "expected each line that begins with the boundary to be it alone, between CR LF and CR LF"
    )]
    Delimiter,
    /// Text outside the parts that could be one.
    #[error("expected no headers in front of the first boundary and behind the last one")]
    Outside,
    /// A part without the empty line that ends its head.
    #[error(
        "expected each part to have a head of at most {} bytes and an empty line",
        multipart::PART_HEAD_BYTES_MAX
    )]
    NoHead,
    /// A line in the head of a part that is no header as a whole.
    #[error(
        "expected each header of a part on one line that ends in CR LF, with a colon right behind its \
         name and without control characters"
    )]
    PartHeader,
    /// A part whose name parsers could read differently, or none.
    #[error(
        "expected each part to have one `Content-Disposition: form-data; name=\"…\"`, with nothing but \
         a `filename` behind the name, and neither escapes nor `name*`"
    )]
    Disposition,
    /// A part whose bytes are not its value.
    #[error("expected no Content-Transfer-Encoding of a part but 7bit, 8bit and binary")]
    TransferEncoding,
    /// A part that has parts itself.
    #[error("expected no multipart within a part")]
    Nested,
    /// A form whose text is in a charset in which ASCII bytes mean something else.
    #[error("expected {CHARSET} to be utf-8, us-ascii or iso-8859-1")]
    Charset,
    /// More parts than any form has.
    #[error("expected at most {} parts", multipart::PARTS_MAX)]
    TooManyParts,
    /// More fields than any form has.
    #[error("expected at most {} fields", fields::FIELDS_MAX)]
    TooManyFields,
    /// JSON that as a form has an e-mail.
    #[error("expected Content-Type: application/json, since this JSON has an email as a form, too")]
    JsonAndForm,
    /// A part that some parsers take for a file, or read in another charset.
    #[error(
        "expected a part without a file name, of no type or of text/plain in utf-8, us-ascii or \
         iso-8859-1"
    )]
    NoPlainText,
    /// A field that some parsers take for the e-mail, though it has another name.
    #[error("expected a name without brackets, spaces in front, NUL and percent signs")]
    NearlyEmail,
    /// A field is the e-mail only to those who separate fields by semicolons, too.
    #[error("expected & between fields, and a semicolon as %3B")]
    Semicolon,
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
            Self::NoPlainText
            | Self::NearlyEmail
            | Self::Semicolon
            | Self::GivenTwice
            | Self::NotText => "email",
            Self::NotJson { .. }
            | Self::NotAnObject
            | Self::NoBoundary
            | Self::NoPart
            | Self::NotClosed
            | Self::Delimiter
            | Self::Outside
            | Self::NoHead
            | Self::PartHeader
            | Self::Disposition
            | Self::TransferEncoding
            | Self::Nested
            | Self::Charset
            | Self::TooManyParts
            | Self::TooManyFields
            | Self::JsonAndForm => "body",
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
    /// The client says where the upstream reports to, or how.
    has_reply: bool,
    place: Place,
    /// What the body is without, where the e-mail does not count. Nothing of a multipart body.
    cut: Range<usize>,
}

/// How an e-mail is spelled in a body.
#[derive(Clone)]
enum Format {
    Json,
    Fields,
    Form {
        boundary: multipart::Boundary,
        /// Where its parts are, each with its head.
        parts: Arc<[Range<usize>]>,
    },
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

    /// What the client said, as texts that each consist of pieces: the parts of a multipart body, since senders
    /// draw its boundary anew for every attempt, or else the one text that the body is. `ignores_email`: without
    /// the e-mail that the client gave.
    pub(super) fn content(&self, ignores_email: bool) -> Vec<Vec<Bytes>> {
        match &self.format {
            Format::Form { parts, .. } => {
                let is_email =
                    |part: &Range<usize>| (part.start..=part.end).contains(&self.place.at.start);
                let said = parts
                    .iter()
                    .filter(|part| !ignores_email || !is_email(part));
                said.map(|part| vec![self.bytes.slice(part.clone())])
                    .collect()
            }
            Format::Json | Format::Fields if ignores_email => {
                let Range { start, end } = self.cut;
                vec![vec![self.bytes.slice(..start), self.bytes.slice(end..)]]
            }
            Format::Json | Format::Fields => vec![vec![self.bytes.clone()]],
        }
    }

    /// Tells apart bodies that are read differently.
    pub(super) fn format_name(&self) -> &'static str {
        match &self.format {
            Format::Json => "json",
            Format::Fields => "fields",
            Format::Form { .. } => "form",
        }
    }

    /// The references in the body, in its order.
    #[must_use]
    pub fn references(&self) -> &[Reference] {
        self.references.as_slice()
    }

    /// Whether a mark may be put in: the body is JSON or multipart, and names neither `replyRef` nor `replyUrl`.
    #[must_use]
    pub fn takes_mark(&self) -> bool {
        !self.has_reply && !matches!(self.format, Format::Fields)
    }

    /// The body with `email` as its e-mail, if there is one, and with `mark`, in three pieces of which the second
    /// holds both; all other bytes are as they came, and are not copied. A body that takes no mark gets none.
    ///
    /// # Errors
    /// [`Unwritable`] if `email` would break a multipart body. The others can spell every e-mail.
    pub fn around(
        &self,
        email: Option<&str>,
        mark: Option<Mark>,
    ) -> Result<[Bytes; 3], Unwritable> {
        let mark = mark.filter(|_| self.takes_mark());
        // As a member or a part, and what separates it from the one in front.
        let (email, mark, joint) = match &self.format {
            Format::Json => (email.map(json::spell), mark.map(json::spell_mark), ","),
            Format::Fields => (email.map(|email| encoded(email).to_string()), None, ""),
            Format::Form { boundary, .. } => {
                let email = email.map(|email| multipart::spell(email, boundary));
                let mark = mark.map(|mark| multipart::spell_mark(mark, boundary));
                (email.transpose()?, mark, "\r\n")
            }
        };
        let Place { at, before, after } = &self.place;
        let (mark, joint) = mark.as_deref().map_or(("", ""), |mark| (mark, joint));
        let (at, written) = match email {
            Some(email) => (at.clone(), [before, &*email, joint, mark, after].concat()),
            None if mark.is_empty() => (at.start..at.start, String::new()),
            None if self.place.is_value() => (at.end..at.end, [joint, mark].concat()),
            None => (at.clone(), [mark, after].concat()),
        };
        Ok([
            self.bytes.slice(..at.start),
            written.into(),
            self.bytes.slice(at.end..),
        ])
    }

    /// The body with `email` as its e-mail, in one piece.
    ///
    /// # Errors
    /// As [`around`](Self::around).
    pub fn with_email(&self, email: &str) -> Result<Bytes, Unwritable> {
        Ok(self.around(Some(email), None)?.concat().into())
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
    before: Cow<'static, str>,
    /// What stands between the e-mail and the bytes after `at`.
    after: &'static str,
}

impl Place {
    /// The place of the value that is there.
    fn of_value(at: Range<usize>) -> Self {
        Self {
            at,
            before: Cow::Borrowed(""),
            after: "",
        }
    }

    /// Whether a value is there.
    fn is_value(&self) -> bool {
        self.before.is_empty()
    }
}

/// Whether some parser takes the field `name` of a form for the e-mail. `email[]` is an item of it to many;
/// PHP drops spaces in front and whatever follows a NUL; some decode a name once more.
fn may_be_email(name: &[u8]) -> bool {
    may_be(b"email", name, |byte| byte)
}

/// Whether some parser takes the field `name` for one of [`REPLY_FIELDS`], whatever its case.
fn may_be_reply(name: &[u8]) -> bool {
    let mut fields = REPLY_FIELDS.iter();
    fields.any(|field| may_be(field, name, |byte| byte.to_ascii_lowercase()))
}

fn may_be(field: &[u8], name: &[u8], fold: fn(u8) -> u8) -> bool {
    let mut rest = percent_decode(name).skip_while(|byte| b" \t\r\n+".contains(byte));
    let begins = rest.by_ref().take(field.len()).map(fold);
    begins.eq(field.iter().copied()) && matches!(rest.next(), None | Some(b'[' | b'\0'))
}

/// Whether ASCII bytes mean the same in `charset` as in UTF-8.
fn is_like_ascii(charset: &str) -> bool {
    let known = ["utf-8", "utf8", "us-ascii", "iso-8859-1"];
    known
        .iter()
        .any(|known| charset.eq_ignore_ascii_case(known))
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
