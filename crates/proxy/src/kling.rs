//! The vendor's wire format, as data and parsers: no client, no pool.
//!
//! The only module that knows the vendor's JSON and its paths. `endpoints` says what a call needs,
//! `references` which fields of a call hold ids and URLs, `shapes` where answers hold them, `scheduler` which
//! jobs run, `mark` which of them are ours, `task` what an account says about a task, `history` which tasks it had; `members`
//! reads what is asked for most, without serde.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod check;
pub(crate) mod endpoints;
pub(crate) mod history;
pub(crate) mod mark;
pub(crate) mod members;
pub(crate) mod references;
pub(crate) mod scheduler;
pub(crate) mod shapes;
pub(crate) mod task;

use std::borrow::Cow;

use serde::{Deserialize, de::Error};

/// The most of an answer that is read: every work of a task takes about 1 KiB, and a task has a dozen at
/// most.
pub(crate) const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Reads a JSON object. Without the look at its first byte an array would pass for one: its items would be taken
/// for the members of `T` in the order of their declaration.
pub(crate) fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, serde_json::Error> {
    if json.trim_ascii_start().first() == Some(&b'{') {
        serde_json::from_slice(json)
    } else {
        Err(Error::custom("expected a JSON object"))
    }
}

/// What an answer says is wrong: its member `error`, or the whole of it if that is no text.
pub(crate) fn error_text(body: &[u8]) -> Cow<'_, [u8]> {
    #[derive(Deserialize)]
    struct Refusal<'a> {
        #[serde(borrow)]
        error: Cow<'a, str>,
    }
    match object::<Refusal<'_>>(body) {
        Ok(Refusal {
            error: Cow::Borrowed(text),
        }) => Cow::Borrowed(text.as_bytes()),
        Ok(Refusal {
            error: Cow::Owned(text),
        }) => Cow::Owned(text.into_bytes()),
        Err(_) => Cow::Borrowed(body),
    }
}
