//! The `Idempotency-Key` header: which keys are valid, and their scope. The pool keeps what they stand for.
//!
//! Follows draft-ietf-httpapi-idempotency-key-header-07, with one difference: a refusal is never
//! remembered, so a client that retries after one makes a new attempt.

use http::{HeaderMap, Method};

use crate::{error::Error, pool::Key};

/// The longest key a client may choose.
const WORD_CHARS_MAX: usize = 255;

/// Which of the client tokens a caller showed. Each token has keys of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Caller(pub usize);

/// Reads the key of a request for `operation`, if it has one, in its scope: the same key of another client,
/// or for another method or operation, is another key.
///
/// # Errors
/// [`Error::BadRequest`] if it has two, or one that is empty, too long or invisible.
pub(crate) fn read(
    headers: &HeaderMap,
    caller: Caller,
    method: &Method,
    operation: &str,
) -> Result<Option<Key>, Error> {
    const NAME: &str = "Idempotency-Key";
    let mut values = headers.get_all(NAME).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let unquoted = value.to_str().map(|text| {
        text.strip_prefix('"')
            .and_then(|t| t.strip_suffix('"'))
            .unwrap_or(text)
    });
    match (unquoted, values.next()) {
        (Ok(word), None)
            if (1..=WORD_CHARS_MAX).contains(&word.len())
                && word.bytes().all(|byte| byte.is_ascii_graphic()) =>
        {
            // Neither a method nor a key has a space in it.
            let text = format!("{} {method} {operation} {word}", caller.0);
            Ok(Some(Key::new(&text)))
        }
        _ => Err(Error::bad_request(
            NAME,
            "expected one key of 1 to 255 visible characters",
        )),
    }
}
