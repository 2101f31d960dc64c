//! How the heads of answers are read.

use hyper::client::conn::http1;
use hyper_util::client::legacy;

use crate::limits::HEADER_LINES_MAX;

/// Makes connections read the heads of answers as leniently as browsers do: up to [`HEADER_LINES_MAX`] lines,
/// a space in front of a colon, and folded values, which become one line. Lines that are no headers are
/// left out.
///
/// What frames the body is read as strictly as ever: two lengths are an error.
pub fn read_heads_leniently(connections: &mut http1::Builder) -> &mut http1::Builder {
    connections
        .max_headers(HEADER_LINES_MAX)
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .ignore_invalid_headers_in_responses(true)
}

/// The same for a client that has its own pool.
pub(super) fn read_leniently(client: &mut legacy::Builder) -> &mut legacy::Builder {
    client
        .http1_max_headers(HEADER_LINES_MAX)
        .http1_allow_spaces_after_header_name_in_responses(true)
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .http1_ignore_invalid_headers_in_responses(true)
}
