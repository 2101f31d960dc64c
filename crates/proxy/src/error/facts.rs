//! The facts of an error: what programs branch on.

use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode, header};

use super::{Error, RETRY_AFTER};
use crate::pool::Refusal;

/// The latest we tell a client to come back for a slot: when it will be free is a guess, and one may
/// be released any moment.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// The same for slots in doubt: rounds decide about them in known time, and an operator may free one any moment.
const UNVERIFIED_RETRY_AFTER_MAX: Duration = Duration::from_secs(5 * 60);

/// What programs are told of an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The HTTP status.
    pub status: StatusCode,
    /// The word that programs branch on.
    pub reason: &'static str,
    /// The error type of the `Proxy-Status` header, RFC 9209 §2.3.
    pub proxy_error: &'static str,
    /// When to come back, if coming back can help.
    pub retry_after: Option<Duration>,
    /// What else the answer says.
    pub header: Option<(HeaderName, HeaderValue)>,
}

impl Facts {
    const fn new(status: StatusCode, reason: &'static str, proxy_error: &'static str) -> Self {
        Self {
            status,
            reason,
            proxy_error,
            retry_after: None,
            header: None,
        }
    }

    fn retry(self, after: Duration) -> Self {
        let retry_after = Some(after);
        Self {
            retry_after,
            ..self
        }
    }

    fn header(self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        let header = Some((name, value.into()));
        Self { header, ..self }
    }

    /// The upstream may have acted.
    fn outcome_unknown(self) -> Self {
        self.header(OUTCOME, HeaderValue::from_static("unknown"))
    }
}

/// The place of a refused pick in the queue.
const QUEUE_POSITION: HeaderName = HeaderName::from_static("x-kling-queue-position");
/// Says that it is not known whether the upstream acted.
const OUTCOME: HeaderName = HeaderName::from_static("x-kling-outcome");

/// Error types of RFC 9209 §2.3.
const LIMIT: &str = "connection_limit_reached";
const UNAVAILABLE: &str = "destination_unavailable";
const DENIED: &str = "http_request_denied";
const REQUEST: &str = "http_request_error";
const INTERNAL: &str = "proxy_internal_error";

impl Error {
    /// What programs are told.
    pub fn facts(&self) -> Facts {
        let store = Facts::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "store-unavailable",
            INTERNAL,
        );
        let wrong = |status, reason| Facts::new(status, reason, REQUEST);
        match self {
            Self::NotStarted(reason) => Facts {
                status: StatusCode::TOO_MANY_REQUESTS,
                ..reason.plain().facts()
            },
            Self::Refused(refusal) => refusal_facts(*refusal),
            Self::Learning(_) => refusal_facts(Refusal::Learning),
            Self::BufferFull | Self::NoPlace | Self::TooManyReaders => busy("queue-full"),
            Self::TokenRejected(_) => down("token-rejected"),
            Self::ShuttingDown => down("shutting-down"),
            Self::OwnerUnknown => down("owner-unknown"),
            Self::KeysFull | Self::Unavailable => store.retry(RETRY_AFTER),
            Self::Unreachable => {
                let status = StatusCode::BAD_GATEWAY;
                Facts::new(status, "upstream-unreachable", UNAVAILABLE).retry(RETRY_AFTER)
            }
            Self::OutcomeUnknown => {
                let (status, lost) = (StatusCode::BAD_GATEWAY, "connection_terminated");
                Facts::new(status, "outcome-unknown", lost).outcome_unknown()
            }
            Self::TimedOut => {
                let (status, late) = (StatusCode::GATEWAY_TIMEOUT, "connection_read_timeout");
                Facts::new(status, "outcome-unknown", late).outcome_unknown()
            }
            Self::UnknownAccount => wrong(StatusCode::NOT_FOUND, "unknown-account"),
            Self::UnknownLease => wrong(StatusCode::NOT_FOUND, "unknown-lease"),
            Self::NoRoute | Self::NotForwarding => wrong(StatusCode::NOT_FOUND, "no-route"),
            Self::BadRequest { .. } => wrong(StatusCode::BAD_REQUEST, "bad-request"),
            Self::Unauthorized => Facts::new(StatusCode::UNAUTHORIZED, "unauthorized", DENIED)
                .header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
            Self::ReadOnly => Facts::new(StatusCode::FORBIDDEN, "read-only", DENIED),
            Self::ForbiddenOrigin => Facts::new(StatusCode::FORBIDDEN, "forbidden-origin", DENIED),
            Self::WrongHost => wrong(StatusCode::MISDIRECTED_REQUEST, "wrong-host"),
            Self::MethodNotAllowed { allow } => {
                wrong(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed")
                    .header(header::ALLOW, HeaderValue::from_static(allow))
            }
            Self::KeyInUse { .. } => wrong(StatusCode::CONFLICT, "key-in-use").retry(RETRY_AFTER),
            Self::KeyReused => wrong(StatusCode::UNPROCESSABLE_ENTITY, "key-reused"),
            Self::BodyTooLarge { .. } => wrong(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large"),
            Self::UnsupportedMedia => {
                wrong(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media")
            }
            Self::HeadersTooLarge { .. } => {
                let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
                wrong(status, "headers-too-large")
            }
        }
    }
}

/// A 429: coming back helps soon.
fn busy(reason: &'static str) -> Facts {
    Facts::new(StatusCode::TOO_MANY_REQUESTS, reason, LIMIT).retry(RETRY_AFTER)
}

/// A 503: something has to be mended first.
fn down(reason: &'static str) -> Facts {
    Facts::new(StatusCode::SERVICE_UNAVAILABLE, reason, UNAVAILABLE).retry(RETRY_AFTER)
}

fn refusal_facts(refusal: Refusal) -> Facts {
    match refusal {
        Refusal::Saturated { free_in, position } => {
            let facts = busy("saturated").retry(free_in.clamp(RETRY_AFTER, RETRY_AFTER_MAX));
            facts.header(QUEUE_POSITION, position)
        }
        Refusal::Unverified { free_in } => {
            busy("unverified").retry(free_in.clamp(RETRY_AFTER, UNVERIFIED_RETRY_AFTER_MAX))
        }
        Refusal::CoolingDown { ready_in } => busy("cooling-down").retry(ready_in.max(RETRY_AFTER)),
        Refusal::QueueFull { free_in } => {
            busy("queue-full").retry(free_in.clamp(RETRY_AFTER, RETRY_AFTER_MAX))
        }
        Refusal::Learning => down("learning"),
        Refusal::NoAccounts => down("no-accounts"),
        Refusal::NoUsableAccount => down("no-usable-account"),
    }
}
