//! Where the parts of a multipart body are.

use std::ops::Range;

use memchr::memmem::{self, Finder};

use super::{Boundary, EmailError, PART_HEAD_BYTES_MAX, PARTS_MAX, parameter};

/// One part of a body.
pub(super) struct Part {
    /// Its name, if it has one.
    pub(super) name: Option<String>,
    /// Where its value stands in the body.
    pub(super) value: Range<usize>,
}

/// Where the first delimiter of `body` starts, and the parts. Preamble and epilogue are skipped.
pub(super) fn scan(body: &[u8], boundary: &Boundary) -> Result<(usize, Vec<Part>), EmailError> {
    let dashed = boundary.dashed();
    let mut delimiters = Delimiters {
        body,
        finder: Finder::new(&dashed),
        at: 0,
    };
    let mut delimiter = delimiters.next().ok_or(EmailError::NoPart)?;
    let start = delimiter.line.start;
    let mut parts = Vec::new();
    while !delimiter.is_last {
        if parts.len() == PARTS_MAX {
            return Err(EmailError::TooManyParts);
        }
        let next = delimiters.next().ok_or(EmailError::NotClosed)?;
        // The line break in front of a delimiter belongs to it.
        let end = next.line.start - 2;
        parts.push(part(body, delimiter.line.end..end).ok_or(EmailError::NoHead)?);
        delimiter = next;
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

impl Iterator for Delimiters<'_> {
    type Item = Delimiter;

    fn next(&mut self) -> Option<Delimiter> {
        loop {
            let start = self.at + self.finder.find(&self.body[self.at..])?;
            self.at = start + self.finder.needle().len();
            let (before, rest) = (&self.body[..start], &self.body[self.at..]);
            if !(before.is_empty() || before.ends_with(b"\r\n")) {
                continue;
            }
            if let Some((len, is_last)) = rest_of_line(rest) {
                self.at += len;
                let line = start..self.at;
                return Some(Delimiter { line, is_last });
            }
        }
    }
}

/// How long the rest of a delimiter is, and whether it closes the body; `None` if there is more
/// on the line than a delimiter has.
fn rest_of_line(rest: &[u8]) -> Option<(usize, bool)> {
    let (hyphens, is_last) = if rest.starts_with(b"--") {
        (2, true)
    } else {
        (0, false)
    };
    let padded = &rest[hyphens..];
    let padding = padded
        .iter()
        .take_while(|byte| b" \t".contains(byte))
        .count();
    match padded[padding..] {
        [b'\r', b'\n', ..] => Some((hyphens + padding + 2, is_last)),
        [] | [b'\n', ..] if is_last => Some((hyphens + padding, is_last)),
        _ => None,
    }
}

/// The part that lies in `range`, or `None` if its head does not end in time.
fn part(body: &[u8], range: Range<usize>) -> Option<Part> {
    let bytes = body.get(range.clone())?;
    let (head_len, gap) = if bytes.starts_with(b"\r\n") {
        (0, 2)
    } else {
        let searched = bytes.len().min(PART_HEAD_BYTES_MAX + 4);
        (memmem::find(&bytes[..searched], b"\r\n\r\n")?, 4)
    };
    Some(Part {
        name: name_in(&bytes[..head_len]),
        value: range.start + head_len + gap..range.end,
    })
}

/// The name that a head gives to its part. Lines may be folded (RFC 5322 §2.2.3).
fn name_in(head: &[u8]) -> Option<String> {
    let head = String::from_utf8_lossy(head)
        .replace("\r\n ", " ")
        .replace("\r\n\t", " ");
    let (_, disposition) = head
        .split("\r\n")
        .filter_map(|line| line.split_once(':'))
        .find(|(header, _)| header.trim().eq_ignore_ascii_case("content-disposition"))?;
    let (kind, parameters) = disposition.split_once(';')?;
    let is_form_data = kind.trim().eq_ignore_ascii_case("form-data");
    is_form_data
        .then(|| parameter(parameters, "name"))
        .flatten()
}
