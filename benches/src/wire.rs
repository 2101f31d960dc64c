//! As much of HTTP/1.1 as the client and the upstream need: where a message ends.

use std::io;

use memchr::{memchr, memmem};

const HEAD_END: &[u8] = b"\r\n\r\n";
const LENGTH_FIELD: &[u8] = b"content-length:";
const CODING_FIELD: &[u8] = b"transfer-encoding:";

/// The lengths of head and body of the message that `raw` begins with, once its head is whole.
///
/// # Errors
///
/// A body without a length.
pub(crate) fn measure(raw: &[u8]) -> io::Result<Option<(usize, usize)>> {
    let Some(head_end) = memmem::find(raw, HEAD_END) else {
        return Ok(None);
    };
    let mut body_bytes = 0;
    let mut rest = &raw[..head_end];
    while let Some(line_end) = memchr(b'\n', rest) {
        rest = &rest[line_end + 1..];
        if begins_with(rest, LENGTH_FIELD) {
            body_bytes = number(rest[LENGTH_FIELD.len()..].trim_ascii_start())?;
        } else if begins_with(rest, CODING_FIELD) {
            return Err(io::Error::other("a body in chunks"));
        }
    }
    Ok(Some((head_end + HEAD_END.len(), body_bytes)))
}

/// The number that `text` begins with.
pub(crate) fn number(text: &[u8]) -> io::Result<usize> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = str::from_utf8(&text[..digits]).map(str::parse);
    match number {
        Ok(Ok(number)) => Ok(number),
        Ok(Err(_)) | Err(_) => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The text of the field `name` in a JSON object, if there is one without escapes.
pub(crate) fn text_field<'a>(json: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let rest = after_name(json, name)?.strip_prefix(b"\"")?;
    Some(&rest[..memchr(b'"', rest)?])
}

/// The digits of the field `name` in a JSON object.
pub(crate) fn number_field<'a>(json: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let rest = after_name(json, name)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (digits > 0).then(|| &rest[..digits])
}

/// What follows the first `"name":`.
fn after_name<'a>(json: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let name = format!("\"{name}\"");
    let at = memmem::find(json, name.as_bytes())? + name.len();
    let rest = json[at..].trim_ascii_start().strip_prefix(b":")?;
    Some(rest.trim_ascii_start())
}

fn begins_with(text: &[u8], start: &[u8]) -> bool {
    let first = text.get(..start.len());
    first.is_some_and(|first| first.eq_ignore_ascii_case(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_measured_once_its_head_is_whole() {
        let raw = b"HTTP/1.1 200 OK\r\nContent-Length: 236\r\ndate: now\r\n\r\n{";
        assert_eq!(measure(&raw[..raw.len() - 2]).unwrap(), None);
        assert_eq!(measure(raw).unwrap(), Some((raw.len() - 1, 236)));
    }

    #[test]
    fn a_message_without_a_length_has_no_body() {
        let raw = b"HTTP/1.1 204 No Content\r\n\r\n";
        assert_eq!(measure(raw).unwrap(), Some((raw.len(), 0)));
    }

    #[test]
    fn a_body_in_chunks_is_refused() {
        let raw = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        assert!(measure(raw).is_err());
    }

    #[test]
    fn what_is_no_number_is_refused() {
        assert!(number(b"99999999999999999999").is_err());
        assert!(number(b" 1").is_err());
        assert_eq!(number(b"204 No").unwrap(), 204);
    }

    #[test]
    fn fields_are_read_with_and_without_blanks() {
        let json = br#"{"a": "x@y","task":{"id":71,"n": 3}}"#;
        assert_eq!(text_field(json, "a"), Some(&b"x@y"[..]));
        assert_eq!(number_field(json, "id"), Some(&b"71"[..]));
        assert_eq!(number_field(json, "n"), Some(&b"3"[..]));
        assert_eq!(number_field(json, "a"), None);
        assert_eq!(text_field(json, "b"), None);
    }
}
