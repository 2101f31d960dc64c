//! What a browser wants to be told before it lets a page of another origin call: the Fetch standard, "CORS protocol".

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};

use super::reply::{self, Reply};

/// How long a browser may remember the answer to a preflight. Browsers bound it themselves.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");
/// The headers of answers that a page may read beside the usual ones.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "retry-after, proxy-status, x-request-id, x-kling-account, x-kling-attempts, x-kling-replayed, x-kling-outcome, \
     x-kling-queue-position",
);

/// Whether a browser asks if it may make a request, instead of making it.
pub(super) fn is_preflight<B>(request: &Request<B>) -> bool {
    request.method() == Method::OPTIONS
        && request
            .headers()
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to a preflight: whatever it asks for may be sent. A client token is asked of the request itself.
pub(super) fn preflight(asked: &HeaderMap) -> Reply {
    let mut reply = reply::empty(StatusCode::NO_CONTENT);
    let headers = reply.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    if let Some(names) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    reply
}

/// Lets pages of `origin` read an answer.
pub(super) fn allow<B>(reply: &mut Response<B>, origin: HeaderValue) {
    let headers = reply.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
}
