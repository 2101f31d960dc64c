//! Sending one request to the upstream, and taking its answer.

use std::{borrow::Cow, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Response, Version, header};
use http_body::Body;
use http_body_util::Empty;
use tokio::time::Instant;

use super::{
    call::{CHUNKED, Call},
    response,
};
use crate::{
    error::Error,
    headers::{has_only_chunks, strip_answer},
    kling::endpoints::Class,
    metrics::{Metrics, RetryReason},
    peer::RequestBody,
    upstream::{Answer, BoxError, Idle, SendError, Target, Traffic, Upstream},
};

/// The most bytes of an answer in the log: a sentence or two.
const WORDS_MAX: usize = 200;

/// Sends requests, measures them, and removes what belongs to one connection.
#[derive(Debug)]
pub(super) struct Sender {
    upstream: Arc<Upstream>,
    metrics: Arc<Metrics>,
    idle_timeout: Duration,
}

impl Sender {
    pub(super) fn new(
        upstream: Arc<Upstream>,
        metrics: Arc<Metrics>,
        idle_timeout: Duration,
    ) -> Self {
        Self {
            upstream,
            metrics,
            idle_timeout,
        }
    }

    /// A request is to be sent again.
    pub(super) fn count_retry(&self, reason: RetryReason) {
        self.metrics.count_retry(reason);
    }

    /// What an answer says, for people: its first [`WORDS_MAX`] bytes, without our token and e-mails.
    pub(super) fn words(&self, text: &[u8]) -> String {
        let text = self.upstream.without_token(&String::from_utf8_lossy(text));
        let mut said = String::new();
        for word in text.split(|it: char| it.is_whitespace() || it.is_control()) {
            if said.len() >= WORDS_MAX {
                break;
            }
            let word = if word.contains('@') {
                "<redacted>"
            } else {
                word
            };
            if !said.is_empty() && !word.is_empty() {
                said.push(' ');
            }
            said.push_str(word);
        }
        said.truncate(said.floor_char_boundary(WORDS_MAX));
        said
    }

    /// Passes a call on as it came, except for `email`, if there is one, in its query.
    pub(super) fn pass<'a>(
        &'a self,
        call: &'a Call,
        headers: HeaderMap,
        body: RequestBody,
        email: Option<&'a str>,
    ) -> impl Future<Output = Result<Response<Answer>, SendError>> {
        self.pass_with(call, headers, Idle::paced(body, self.idle_timeout), email)
    }

    /// The same with an empty body.
    pub(super) fn pass_without_body<'a>(
        &'a self,
        call: &'a Call,
        headers: HeaderMap,
        email: Option<&'a str>,
    ) -> impl Future<Output = Result<Response<Answer>, SendError>> {
        self.pass_with(call, headers, Empty::<Bytes>::new(), email)
    }

    fn pass_with<'a, B>(
        &'a self,
        call: &'a Call,
        mut headers: HeaderMap,
        body: B,
        email: Option<&'a str>,
    ) -> impl Future<Output = Result<Response<Answer>, SendError>>
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        let target = match email {
            Some(email) => call.target_with(email).into(),
            None => call.target().into(),
        };
        if call.is_chunked {
            headers.insert(header::TRANSFER_ENCODING, CHUNKED);
        }
        self.send(call, target, headers, body, email.or(call.query.email()))
    }

    /// Sends a request, and removes from its answer what belongs to the connection. The answer names the `account`, if
    /// that is known.
    pub(super) async fn send<B>(
        &self,
        call: &Call,
        target: Cow<'_, str>,
        headers: HeaderMap,
        body: B,
        account: Option<&str>,
    ) -> Result<Response<Answer>, SendError>
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        let begun = Instant::now();
        let traffic = match call.class {
            Class::JobStart => Traffic::JobStart,
            Class::Create
            | Class::Task
            | Class::Untrack
            | Class::Download
            | Class::Read
            | Class::Upload
            | Class::Other => Traffic::Other,
        };
        let target = Target {
            text: &target,
            came: call.came(),
        };
        let method = call.method.clone();
        let sent = self.upstream.send(traffic, method, target, headers, body);
        let sent = pin!(sent).await;
        let elapsed = begun.elapsed();
        self.metrics.count_carried(call.class, elapsed);
        let status = sent.as_ref().map(|answer| answer.status().as_u16());
        tracing::debug!(
            class = call.class.as_str(),
            http.response.status_code = status.as_ref().ok(),
            error = status.err().map(tracing::field::display),
            elapsed_ms = elapsed.as_millis(),
            "call carried"
        );
        let mut answer = sent?;
        if !has_only_chunks(answer.headers()) {
            let error = "its answer came in a transfer coding that was not asked for";
            return Err(SendError::Lost(error.into()));
        }
        // Each hop speaks its own version, RFC 9112 §2.3: an old upstream makes no old sidecar.
        *answer.version_mut() = Version::HTTP_11;
        strip_answer(answer.headers_mut());
        response::name_account(&mut answer, account);
        Ok(answer)
    }
}

impl From<SendError> for Error {
    fn from(error: SendError) -> Self {
        match error {
            SendError::NotSent(_) => Self::Unreachable,
            SendError::NoPlace => Self::NoPlace,
            SendError::Lost(_) => Self::OutcomeUnknown,
            SendError::TimedOut(_) => Self::TimedOut,
            SendError::Unfinished(_) => Self::bad_request(
                "body",
                "it broke off, stood still for longer than upstream.idle_timeout, or came too slowly",
            ),
        }
    }
}
