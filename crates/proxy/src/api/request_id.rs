//! The id of a request: the client's own, that of its trace, or a new one.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use rand::RngExt;

use super::head::Head;
use crate::hex;

/// The header of the request id.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest request id that a client may give.
const REQUEST_ID_CHARS_MAX: usize = 128;
/// `00-<trace id>-<parent id>-<flags>`: where the parts begin, and the whole length.
const TRACE_PARENT_CHARS: usize = 55;

/// The id of the request.
pub(super) fn request_id(head: &Head<'_>) -> Arc<str> {
    let given = head.request_id.first.and_then(given_id);
    // It is not known which one of two counts.
    let traced = || head.trace_parent.only().and_then(trace_id);
    match given.or_else(traced) {
        Some(id) => id.into(),
        None => {
            // Every call has one: it takes no more than the one allocation that its lease keeps.
            let mut digits = [0; 16];
            hex::put(&rand::rng().random::<[u8; 8]>(), &mut digits);
            str::from_utf8(&digits).unwrap_or_default().into()
        }
    }
}

fn given_id(given: &HeaderValue) -> Option<&str> {
    let given = given.to_str().ok()?;
    let is_fit = (1..=REQUEST_ID_CHARS_MAX).contains(&given.len())
        && given.bytes().all(|byte| byte.is_ascii_graphic());
    is_fit.then_some(given)
}

/// The trace id of a `traceparent`, if that is valid: W3C Trace Context, §3.2.2. Of a later version the parts
/// that are known are read, §3.2.4.
fn trace_id(given: &HeaderValue) -> Option<&str> {
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
    use http::Request;

    use super::*;

    const TRACE_PARENT: &str = "traceparent";
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn id(headers: &[(&str, &str)]) -> String {
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        request_id(&Head::of(request.headers())).to_string()
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
            let both = [(TRACE_PARENT, &*parent), ("x-request-id", "mine")];
            assert_eq!(id(&both), "mine");
            // An id that is none does not count.
            let both = [(TRACE_PARENT, &*parent), ("x-request-id", "not mine")];
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
