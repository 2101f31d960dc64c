//! What is answered before the sidecar has its state.

use http::{Method, Request, StatusCode};

use super::{
    head::Head,
    page,
    reply::{self, Reply},
    request_id::{REQUEST_ID, request_id},
    route::{Endpoint, Route},
};
use crate::error::Error;

/// The answer to a call while the state is opened: the process is up, and all else is told to come back, with the
/// reason `cause`.
pub(crate) fn while_starting<B>(request: &Request<B>, cause: &str) -> Reply {
    let path = request.uri().path();
    let request_id = request_id(&Head::of(request.headers()));
    let mut reply = match Route::find(path).map(|route| route.endpoint()) {
        Some(Endpoint::Livez) => reply::text(StatusCode::OK, "ok\n"),
        // The page says to a person what all others are told.
        Some(Endpoint::Page(file)) => page::file(file),
        Some(Endpoint::Home) => page::redirect(),
        endpoint => {
            let error = Error::Learning(Some(cause.into()));
            // A job that is told 503 is given up by vendor clients.
            let may_start_job =
                *request.method() == Method::POST && endpoint == Some(Endpoint::Upstream);
            let error = if may_start_job {
                error.of_job_start()
            } else {
                error
            };
            reply::error(&error, &request_id)
        }
    };
    if let Ok(value) = http::HeaderValue::try_from(&*request_id) {
        reply.headers_mut().insert(REQUEST_ID, value);
    }
    reply
}
