//! Where the parts of a multipart body are.
//!
//! Parsers differ about lines that begin with the boundary and are no plain delimiter: it is the end of a
//! part to one, data to another. Senders choose a boundary that no line begins with, so such a form is
//! refused.

use std::ops::Range;

use memchr::{
    memchr,
    memmem::{self, Finder},
};

use super::{
    Boundary, EmailError, PART_HEAD_BYTES_MAX, PARTS_MAX,
    head::{self, Head},
};

/// One part of a body.
pub(super) struct Part {
    pub(super) head: Head,
    /// Where it stands in the body, with its head.
    pub(super) whole: Range<usize>,
    /// Where its value stands there.
    pub(super) value: Range<usize>,
}

/// Where the first delimiter of `body` starts, and the parts.
///
/// # Errors
/// All that [`EmailError`] knows of forms, but those about the e-mail.
pub(super) fn scan(body: &[u8], boundary: &Boundary) -> Result<(usize, Vec<Part>), EmailError> {
    let dashed = boundary.dashed();
    let mut delimiters = Delimiters {
        body,
        finder: Finder::new(&dashed),
        at: 0,
    };
    let mut delimiter = delimiters.next()?.ok_or(EmailError::NoPart)?;
    let start = delimiter.line.start;
    // Some parsers look for the first one anywhere.
    if delimiters.finder.find(&body[..start]).is_some() {
        return Err(EmailError::Delimiter);
    }
    let mut parts = Vec::new();
    while !delimiter.is_last {
        if parts.len() == PARTS_MAX {
            return Err(EmailError::TooManyParts);
        }
        let next = delimiters.next()?.ok_or(EmailError::NotClosed)?;
        // The line break in front of a delimiter belongs to it.
        let end = next.line.start - 2;
        parts.push(part(body, delimiter.line.end..end)?);
        delimiter = next;
    }
    // Preamble and epilogue are no parts: a name needs a colon in front.
    let outside = [&body[..start], &body[delimiter.line.end..]];
    if outside.iter().any(|text| memchr(b':', text).is_some()) {
        return Err(EmailError::Outside);
    }
    Ok((start, parts))
}

/// A line that is the boundary.
struct Delimiter {
    /// From its first hyphen to the end of its line break.
    line: Range<usize>,
    /// Whether it closes the body.
    is_last: bool,
}

struct Delimiters<'a> {
    body: &'a [u8],
    finder: Finder<'a>,
    at: usize,
}

impl Delimiters<'_> {
    /// The next delimiter, if there is one.
    ///
    /// # Errors
    /// [`EmailError::Delimiter`] for a line in front of it that begins with the boundary.
    fn next(&mut self) -> Result<Option<Delimiter>, EmailError> {
        while let Some(found) = self.finder.find(&self.body[self.at..]) {
            let start = self.at + found;
            self.at = start + self.finder.needle().len();
            let (before, rest) = (&self.body[..start], &self.body[self.at..]);
            if before.is_empty() || before.ends_with(b"\r\n") {
                let (len, is_last) = rest_of_line(rest).ok_or(EmailError::Delimiter)?;
                self.at += len;
                let line = start..self.at;
                return Ok(Some(Delimiter { line, is_last }));
            }
            if before.ends_with(b"\n") || before.ends_with(b"\r") {
                return Err(EmailError::Delimiter);
            }
        }
        Ok(None)
    }
}

/// How long the rest of a delimiter is, and whether it closes the body; `None` if there is more
/// on the line than a delimiter has.
///
/// Padding (RFC 2046 §5.1.1) is none: busboy, which Node's servers use, skips such a part. Behind the last
/// delimiter it misleads no parser, and scripts write a bare line feed there.
fn rest_of_line(rest: &[u8]) -> Option<(usize, bool)> {
    if rest.starts_with(b"\r\n") {
        return Some((2, false));
    }
    let padded = rest.strip_prefix(b"--")?;
    let is_padding = |byte: &&u8| b" \t".contains(byte);
    let len = 2 + padded.iter().take_while(is_padding).count();
    match rest[len..] {
        [b'\r', b'\n', ..] => Some((len + 2, true)),
        [] | [b'\n', ..] => Some((len, true)),
        _ => None,
    }
}

/// The part that lies in `range`.
fn part(body: &[u8], range: Range<usize>) -> Result<Part, EmailError> {
    let bytes = body.get(range.clone()).ok_or(EmailError::NoHead)?;
    let (head_len, gap) = if bytes.starts_with(b"\r\n") {
        (0, 2)
    } else {
        let searched = bytes.len().min(PART_HEAD_BYTES_MAX + 4);
        let found = memmem::find(&bytes[..searched], b"\r\n\r\n");
        (found.ok_or(EmailError::NoHead)?, 4)
    };
    Ok(Part {
        head: head::read(&bytes[..head_len])?,
        value: range.start + head_len + gap..range.end,
        whole: range,
    })
}
