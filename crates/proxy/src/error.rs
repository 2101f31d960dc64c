//! The one mapping from what went wrong to what a client is told: one row of facts for each error, and a
//! message.

use std::{fmt, time::Duration};

use http::{HeaderName, HeaderValue, StatusCode, header};

use crate::{
    ledger::{PickError, Unavailable},
    pool::{Known, LeaseError, Refusal, TaskId, UnknownAccount},
};

/// When to come back if nothing better is known.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The latest we tell a client to come back for a slot: when it will be free is a guess, and one may
/// be released any moment.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// The same for slots in doubt: rounds decide about them in known time, and an operator may free one any moment.
const UNVERIFIED_RETRY_AFTER_MAX: Duration = Duration::from_secs(5 * 60);

/// Why a call was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// There is no slot to give.
    Refused(Refusal),
    /// The upstream takes no job of the token, or gives no list for it.
    TokenRejected(TokenFault),
    /// The process is shutting down.
    ShuttingDown,
    /// A job was not started for a reason that passes by itself.
    NotStarted(NotStarted),
    /// The table of idempotency keys is full.
    KeysFull,
    /// The ledger cannot be reached.
    Unavailable,
    /// The memory for buffered bodies is full.
    BufferFull,
    /// As many calls are carried as may be: nothing was sent.
    NoPlace,
    /// The upstream cannot be reached: nothing was sent.
    Unreachable,
    /// The connection to the upstream was lost, or its answer did not come whole, after bytes were
    /// sent.
    OutcomeUnknown,
    /// The upstream did not answer in time after bytes were sent.
    TimedOut,
    /// The owner of a task is not known, and not every account could be asked.
    OwnerUnknown,
    /// The account is not in the list.
    UnknownAccount,
    /// The lease is not held.
    UnknownLease,
    /// A part of the request is missing or wrong.
    BadRequest {
        /// Which part of the request.
        field: String,
        /// What was expected.
        expected: String,
    },
    /// No or a wrong client token.
    Unauthorized,
    /// The client token may only look.
    ReadOnly,
    /// The call comes from a web page that may not call.
    ForbiddenOrigin,
    /// The `Host` is not ours.
    WrongHost,
    /// There is nothing at this path.
    NoRoute,
    /// Calls to the upstream are not carried, for want of its token.
    NotForwarding,
    /// The path takes other methods.
    MethodNotAllowed {
        /// Which ones, as in the `Allow` header.
        allow: &'static str,
    },
    /// A call with the same idempotency key is still being answered, or it is not known yet what became
    /// of it.
    KeyInUse {
        /// The tasks that it may have become, as far as they are known.
        tasks: Vec<TaskId>,
    },
    /// The idempotency key belongs to another request.
    KeyReused,
    /// The body is larger than the limit.
    BodyTooLarge {
        /// The limit, in bytes.
        max: usize,
    },
    /// The body has a type that is not read.
    UnsupportedMedia,
    /// The head of the request exceeds a limit.
    HeadersTooLarge {
        /// The most header lines.
        lines_max: usize,
        /// The most bytes, target included.
        bytes_max: usize,
    },
}

/// Why a job was not started though coming back helps. All other calls get the plain error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotStarted {
    /// [`Refusal::Learning`].
    Learning,
    /// [`Error::Unavailable`].
    Unavailable,
    /// [`Error::Unreachable`].
    Unreachable,
    /// [`Error::ShuttingDown`].
    ShuttingDown,
}

/// Why the upstream takes no job of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenFault {
    /// It does not know the token, status 401.
    Unknown,
    /// It asks for a subscription, status 402.
    Unpaid,
}

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

impl NotStarted {
    const ALL: [Self; 4] = [
        Self::Learning,
        Self::Unavailable,
        Self::Unreachable,
        Self::ShuttingDown,
    ];

    fn plain(self) -> Error {
        match self {
            Self::Learning => Refusal::Learning.into(),
            Self::Unavailable => Error::Unavailable,
            Self::Unreachable => Error::Unreachable,
            Self::ShuttingDown => Error::ShuttingDown,
        }
    }
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
    /// One error of every kind. A test fails where one is missing.
    pub(crate) const KINDS: [Self; 37] = [
        Self::Refused(Refusal::Saturated {
            free_in: RETRY_AFTER,
            position: 1,
        }),
        Self::Refused(Refusal::Unverified {
            free_in: RETRY_AFTER,
        }),
        Self::Refused(Refusal::CoolingDown {
            ready_in: RETRY_AFTER,
        }),
        Self::Refused(Refusal::QueueFull {
            free_in: RETRY_AFTER,
        }),
        Self::Refused(Refusal::Learning),
        Self::Refused(Refusal::NoAccounts),
        Self::Refused(Refusal::NoUsableAccount),
        Self::TokenRejected(TokenFault::Unknown),
        Self::TokenRejected(TokenFault::Unpaid),
        Self::ShuttingDown,
        Self::NotStarted(NotStarted::Learning),
        Self::NotStarted(NotStarted::Unavailable),
        Self::NotStarted(NotStarted::Unreachable),
        Self::NotStarted(NotStarted::ShuttingDown),
        Self::UnknownAccount,
        Self::KeysFull,
        Self::Unavailable,
        Self::BufferFull,
        Self::NoPlace,
        Self::Unreachable,
        Self::OutcomeUnknown,
        Self::TimedOut,
        Self::OwnerUnknown,
        Self::UnknownLease,
        Self::BadRequest {
            field: String::new(),
            expected: String::new(),
        },
        Self::Unauthorized,
        Self::ReadOnly,
        Self::ForbiddenOrigin,
        Self::WrongHost,
        Self::NoRoute,
        Self::NotForwarding,
        Self::MethodNotAllowed { allow: "GET" },
        Self::KeyInUse { tasks: Vec::new() },
        Self::KeyReused,
        Self::BodyTooLarge { max: 1 },
        Self::UnsupportedMedia,
        Self::HeadersTooLarge {
            lines_max: 1,
            bytes_max: 1,
        },
    ];

    /// A request whose `field` is wrong.
    pub fn bad_request(field: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::BadRequest {
            field: field.into(),
            expected: expected.into(),
        }
    }

    /// The same error of a call that starts a job. What passes by itself becomes a 429: vendor clients come
    /// back after one, and give the job up after a 502 or 503.
    pub(crate) fn of_job_start(self) -> Self {
        let mut reasons = NotStarted::ALL.into_iter();
        reasons
            .find(|reason| reason.plain() == self)
            .map_or(self, Self::NotStarted)
    }

    /// Whether a well-formed pick can be refused with it.
    pub(crate) fn is_of_picks(&self) -> bool {
        let is_refusal = matches!(self, Self::Refused(_));
        is_refusal
            || matches!(
                self,
                Self::TokenRejected(_) | Self::ShuttingDown | Self::UnknownAccount
            )
    }

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
            Self::BufferFull | Self::NoPlace => busy("queue-full"),
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

    /// What a person is told: what is wrong, and what to do next.
    pub fn message(&self) -> String {
        match self {
            Self::NotStarted(reason) => reason.plain().message(),
            Self::Refused(refusal) => refusal_message(*refusal),
            Self::BufferFull => {
                "too many bytes of waiting calls are held; see forward.buffer_total".to_owned()
            }
            Self::NoPlace => "as many calls are carried as may be at once; nothing was sent".to_owned(),
            Self::Unreachable => {
                "the upstream cannot be reached; nothing was sent. Check upstream.base_url and the \
                 network"
                    .to_owned()
            }
            Self::OutcomeUnknown => {
                "the connection to the upstream was lost; it may have acted all the same. Look \
                 before you try again: a second job costs money"
                    .to_owned()
            }
            Self::TimedOut => {
                "the upstream did not answer within upstream.request_timeout; it may have acted all \
                 the same. Look before you try again: a second job costs money"
                    .to_owned()
            }
            Self::OwnerUnknown => {
                "not every account could be asked whether the task is its; try again, or name the \
                 account as email"
                    .to_owned()
            }
            Self::TokenRejected(fault) => token_message(*fault).to_owned(),
            Self::ShuttingDown => {
                "the sidecar is shutting down and starts nothing new; come back in a moment".to_owned()
            }
            Self::KeysFull => {
                "too many idempotency keys are remembered; release leases, or start jobs without a \
                 key"
                    .to_owned()
            }
            Self::Unavailable => {
                "the ledger cannot be reached; try again, and see /readyz?verbose".to_owned()
            }
            Self::UnknownAccount => "no such account in the list; see /accounts".to_owned(),
            Self::UnknownLease => "no such lease, or it has ended".to_owned(),
            Self::BadRequest { field, expected } => format!("{field}: {expected}"),
            Self::Unauthorized => {
                "send one of the client tokens as Authorization: Bearer <token>".to_owned()
            }
            Self::ReadOnly => "this token may only look; show one of auth.tokens".to_owned(),
            Self::ForbiddenOrigin => {
                "calls from this web page are refused; see auth.allowed_origins".to_owned()
            }
            Self::WrongHost => {
                "this Host is not served; call by a loopback name or see auth.allowed_hosts"
                    .to_owned()
            }
            Self::NoRoute => "nothing is served at this path".to_owned(),
            Self::NotForwarding => {
                "calls are carried to the upstream only with its token; set upstream.token".to_owned()
            }
            Self::MethodNotAllowed { allow } => format!("this path takes {allow}"),
            Self::KeyInUse { tasks } => key_in_use_message(tasks),
            Self::KeyReused => "this Idempotency-Key belongs to another request".to_owned(),
            Self::BodyTooLarge { max } => format!("the body exceeds {max} bytes"),
            Self::UnsupportedMedia => {
                "send the body as JSON, with Content-Type: application/json and no \
                 Content-Encoding; calls that start a job or create something may be forms, too"
                    .to_owned()
            }
            Self::HeadersTooLarge { lines_max, bytes_max } => {
                format!("the head exceeds {lines_max} lines or {bytes_max} bytes")
            }
        }
    }

    /// The tasks that may have come of the call.
    pub fn tasks(&self) -> &[TaskId] {
        if let Self::KeyInUse { tasks } = self {
            tasks
        } else {
            &[]
        }
    }
}

fn token_message(fault: TokenFault) -> &'static str {
    match fault {
        TokenFault::Unknown => "the upstream rejects the token; check upstream.token",
        TokenFault::Unpaid => {
            "the upstream asks for a paid subscription (402); renew that of upstream.token. Every 10 \
             minutes one job start is sent to find out"
        }
    }
}

fn key_in_use_message(tasks: &[TaskId]) -> String {
    let message = if tasks.is_empty() {
        "a call with this Idempotency-Key is still being answered, or it is not known yet what became \
         of it; come back with the same key"
    } else {
        "a call with this Idempotency-Key was lost, and it may have become one of these tasks: look \
         at them. Come back with the same key, or start the job anyway with a new one"
    };
    message.to_owned()
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

fn refusal_message(refusal: Refusal) -> String {
    match refusal {
        Refusal::Learning => "which accounts there are and what runs on them is not known yet; \
                              see /readyz?verbose"
            .to_owned(),
        Refusal::NoAccounts => {
            "the account list is empty; add accounts with POST /accounts at the upstream".to_owned()
        }
        Refusal::NoUsableAccount => "every account that would do is draining, in error, \
                                     quarantined, parked, of no slots or excluded; see /accounts"
            .to_owned(),
        Refusal::Saturated { .. }
        | Refusal::Unverified { .. }
        | Refusal::CoolingDown { .. }
        | Refusal::QueueFull { .. } => refusal.to_string(),
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<UnknownAccount> for Error {
    fn from(UnknownAccount: UnknownAccount) -> Self {
        Self::UnknownAccount
    }
}

impl From<PickError> for Error {
    fn from(error: PickError) -> Self {
        match error {
            PickError::UnknownAccount(unknown) => unknown.into(),
            PickError::Refused(refusal) => refusal.into(),
            PickError::Known(known) => known.into(),
            PickError::Unavailable(unavailable) => unavailable.into(),
        }
    }
}

impl From<Unavailable> for Error {
    fn from(Unavailable: Unavailable) -> Self {
        Self::Unavailable
    }
}

/// What a key stands for, where the call under it cannot be answered with that.
impl From<Known> for Error {
    fn from(known: Known) -> Self {
        match known {
            Known::InUse(tasks) => Self::KeyInUse { tasks },
            Known::Held(_) | Known::Job { .. } => Self::KeyInUse { tasks: Vec::new() },
            Known::Reused => Self::KeyReused,
            Known::Full => Self::KeysFull,
        }
    }
}

impl From<LeaseError> for Error {
    fn from(error: LeaseError) -> Self {
        match error {
            LeaseError::Unknown => Self::UnknownLease,
            LeaseError::TaskTaken => {
                Self::bad_request("taskId", "this job is bound to another lease")
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests;
