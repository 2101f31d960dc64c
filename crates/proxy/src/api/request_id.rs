//! The id of a request: the client's own, that of its trace, or a new one.

use std::sync::Arc;

use http::{HeaderMap, Request};
use rand::RngExt;

/// The header of the request id.
pub(super) const REQUEST_ID: &str = "x-request-id";
/// The longest request id that a client may give.
const REQUEST_ID_CHARS_MAX: usize = 128;
/// The header of W3C Trace Context.
const TRACE_PARENT: &str = "traceparent";
/// `00-<trace id>-<parent id>-<flags>`: where the parts begin, and the whole length.
const TRACE_PARENT_CHARS: usize = 55;

/// The id of the request.
pub(super) fn request_id<B>(request: &Request<B>) -> Arc<str> {
    let headers = request.headers();
    let id = given_id(headers).or_else(|| trace_id(headers));
    match id {
        Some(id) => id.into(),
        None => {
            // Every call has one: it takes no more than the one allocation that its lease keeps.
            let digits = drawn_digits(rand::rng().random());
            str::from_utf8(&digits).unwrap_or_default().into()
        }
    }
}

/// The 16 hex digits of a number.
fn drawn_digits(number: u64) -> [u8; 16] {
    std::array::from_fn(|place| {
        let nibble = (number >> (60 - 4 * place)) & 0xf;
        b"0123456789abcdef"[nibble as usize]
    })
}

fn given_id(headers: &HeaderMap) -> Option<&str> {
    let given = headers.get(REQUEST_ID)?.to_str().ok()?;
    let is_fit = (1..=REQUEST_ID_CHARS_MAX).contains(&given.len())
        && given.bytes().all(|byte| byte.is_ascii_graphic());
    is_fit.then_some(given)
}

/// The trace id of the one `traceparent`, if that is valid: W3C Trace Context, §3.2.2. Of a later version the parts
/// that are known are read, §3.2.4.
fn trace_id(headers: &HeaderMap) -> Option<&str> {
    let mut given = headers.get_all(TRACE_PARENT).iter();
    let (Some(given), None) = (given.next(), given.next()) else {
        return None;
    };
    let given = given.to_str().ok()?;
    let (known, rest) = given.split_at_checked(TRACE_PARENT_CHARS)?;
    let mut parts = known.split('-');
    let (version, trace, parent, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_whole = parts.next().is_none()
        && is_hex(version, 2)
        && is_hex(trace, 32)
        && is_hex(parent, 16)
        && is_hex(flags, 2);
    let is_known = match version {
        "00" => rest.is_empty(),
        "ff" => false,
        _ => rest.is_empty() || rest.starts_with('-'),
    };
    let is_zero = |id: &str| id.bytes().all(|byte| byte == b'0');
    (is_whole && is_known && !is_zero(trace) && !is_zero(parent)).then_some(trace)
}

fn is_hex(text: &str, digits: usize) -> bool {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.len() == digits && text.bytes().all(is_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn id(headers: &[(&str, &str)]) -> String {
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request_id(&request.body(()).unwrap()).to_string()
    }

    #[test]
    fn a_valid_trace_names_a_request_that_has_no_id() {
        for rest in [
            "00-{}-00f067aa0ba902b7-01",
            "00-{}-00f067aa0ba902b7-00",
            // Of a version to come: more may follow, behind a dash.
            "01-{}-00f067aa0ba902b7-01",
            "cc-{}-00f067aa0ba902b7-01-what-the-future-will-be-like",
            "fe-{}-00f067aa0ba902b7-01-",
        ] {
            let parent = rest.replace("{}", TRACE);
            assert_eq!(id(&[(TRACE_PARENT, &parent)]), TRACE, "{parent}");
            let both = [(TRACE_PARENT, &*parent), (REQUEST_ID, "mine")];
            assert_eq!(id(&both), "mine");
            // An id that is none does not count.
            let both = [(TRACE_PARENT, &*parent), (REQUEST_ID, "not mine")];
            assert_eq!(id(&both), TRACE);
        }
    }

    #[test]
    fn a_trace_that_is_not_valid_is_ignored() {
        let is_new = |id: &str| id.len() == 16 && is_hex(id, 16);
        for parent in [
            "",
            "00",
            TRACE,
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-011",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "0-4bf92f3577b34da6a3ce929d0e0e47361-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0\u{e9}",
        ] {
            let id = id(&[(TRACE_PARENT, parent)]);
            assert!(is_new(&id), "{parent:?} is taken for {id}");
        }
        let valid = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let twice = [(TRACE_PARENT, &*valid), (TRACE_PARENT, &*valid)];
        assert!(is_new(&id(&twice)), "it is not known which one counts");
    }
}
