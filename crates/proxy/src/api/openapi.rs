//! `/openapi.json`: this surface, described for programs.
//!
//! The document is a file that a test writes (`written`): from the table of routes, the table of errors, and the words
//! and schemas of `openapi/words.json`.

#[cfg(test)]
mod written;

use http::StatusCode;

use super::reply::{self, Reply};

const DOCUMENT: &str = include_str!("openapi/openapi.json");

/// Answers with the document.
pub(super) fn document() -> Reply {
    reply::with_type(StatusCode::OK, "application/json", DOCUMENT)
}
