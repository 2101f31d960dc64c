//! The one mapping from what went wrong to what a client is told: status, reason, message, and
//! when to come back.

use std::time::Duration;

use http::StatusCode;

use crate::{
    ledger::{PickError, Unavailable},
    pool::{Known, LeaseError, Refusal, TaskId, UnknownAccount},
};

/// When to come back if nothing better is known.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The latest we tell a client to come back for a slot: when it will be free is a guess, and one may
/// be released any moment.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// Why a call was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// There is no slot to give.
    Refused(Refusal),
    /// There is no list, since the upstream does not take our token.
    TokenRejected,
    /// The process is going away.
    ShuttingDown,
    /// The table of idempotency keys is full.
    KeysFull,
    /// The book of leases cannot be reached.
    Unavailable,
    /// As many bytes of calls that are read whole are held as may be.
    BufferFull,
    /// The upstream cannot be reached: nothing was sent.
    Unreachable,
    /// The connection to the upstream was lost, or its answer did not come whole, after bytes were
    /// sent.
    OutcomeUnknown,
    /// The upstream did not answer in time after bytes were sent.
    TimedOut,
    /// Not every account could be asked whether a task is its.
    OwnerUnknown,
    /// The account is not in the list.
    UnknownAccount,
    /// The lease is not held.
    UnknownLease,
    /// The request does not say what it must, or says it wrong.
    BadRequest {
        /// Which part of the request.
        field: String,
        /// What was expected.
        expected: String,
    },
    /// No or a wrong client token.
    Unauthorized,
    /// A web page that may not call.
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
    /// A call with the same idempotency key is still being answered, or nobody knows yet what came
    /// of it.
    KeyInUse {
        /// The tasks that may have come of it, as far as the history of its account shows.
        tasks: Vec<TaskId>,
    },
    /// The idempotency key belongs to another request.
    KeyReused,
    /// The body is larger than the limit.
    BodyTooLarge {
        /// The limit, in bytes.
        max: usize,
    },
    /// The body is not of a type we read.
    UnsupportedMedia,
    /// The head of the request is larger than the limits.
    HeadersTooLarge {
        /// The most header lines.
        lines_max: usize,
        /// The most bytes, target included.
        bytes_max: usize,
    },
}

impl Error {
    /// A request whose `field` is wrong.
    pub fn bad_request(field: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::BadRequest {
            field: field.into(),
            expected: expected.into(),
        }
    }

    /// Every way a well-formed pick can be refused.
    pub fn of_picks() -> [Self; 10] {
        [
            Self::Refused(Refusal::Saturated {
                free_in: None,
                position: 1,
            }),
            Self::Refused(Refusal::Unverified),
            Self::Refused(Refusal::CoolingDown {
                ready_in: RETRY_AFTER,
            }),
            Self::Refused(Refusal::QueueFull),
            Self::Refused(Refusal::Learning),
            Self::Refused(Refusal::NoAccounts),
            Self::Refused(Refusal::NoUsableAccount),
            Self::TokenRejected,
            Self::ShuttingDown,
            Self::UnknownAccount,
        ]
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Refused(
                Refusal::Saturated { .. }
                | Refusal::Unverified
                | Refusal::CoolingDown { .. }
                | Refusal::QueueFull,
            )
            | Self::BufferFull => StatusCode::TOO_MANY_REQUESTS,
            Self::Refused(Refusal::Learning | Refusal::NoAccounts | Refusal::NoUsableAccount)
            | Self::TokenRejected
            | Self::ShuttingDown
            | Self::KeysFull
            | Self::Unavailable
            | Self::OwnerUnknown => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unreachable | Self::OutcomeUnknown => StatusCode::BAD_GATEWAY,
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            Self::UnknownAccount | Self::UnknownLease | Self::NoRoute | Self::NotForwarding => {
                StatusCode::NOT_FOUND
            }
            Self::BadRequest { .. } => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::ForbiddenOrigin => StatusCode::FORBIDDEN,
            Self::WrongHost => StatusCode::MISDIRECTED_REQUEST,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::KeyInUse { .. } => StatusCode::CONFLICT,
            Self::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMedia => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::HeadersTooLarge { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        }
    }

    /// The word that programs branch on.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Refused(Refusal::Saturated { .. }) => "saturated",
            Self::Refused(Refusal::Unverified) => "unverified",
            Self::Refused(Refusal::CoolingDown { .. }) => "cooling-down",
            Self::Refused(Refusal::QueueFull) | Self::BufferFull => "queue-full",
            Self::Refused(Refusal::Learning) => "learning",
            Self::Refused(Refusal::NoAccounts) => "no-accounts",
            Self::Refused(Refusal::NoUsableAccount) => "no-usable-account",
            Self::TokenRejected => "token-rejected",
            Self::ShuttingDown => "shutting-down",
            Self::KeysFull | Self::Unavailable => "store-unavailable",
            Self::Unreachable => "upstream-unreachable",
            Self::OutcomeUnknown | Self::TimedOut => "outcome-unknown",
            Self::OwnerUnknown => "owner-unknown",
            Self::UnknownAccount => "unknown-account",
            Self::UnknownLease => "unknown-lease",
            Self::BadRequest { .. } => "bad-request",
            Self::Unauthorized => "unauthorized",
            Self::ForbiddenOrigin => "forbidden-origin",
            Self::WrongHost => "wrong-host",
            Self::NoRoute | Self::NotForwarding => "no-route",
            Self::MethodNotAllowed { .. } => "method-not-allowed",
            Self::KeyInUse { .. } => "key-in-use",
            Self::KeyReused => "key-reused",
            Self::BodyTooLarge { .. } => "body-too-large",
            Self::UnsupportedMedia => "unsupported-media",
            Self::HeadersTooLarge { .. } => "headers-too-large",
        }
    }

    /// What a person is told: what is wrong, and what to do next.
    pub fn message(&self) -> String {
        match self {
            Self::Refused(refusal) => refusal_message(*refusal),
            Self::BufferFull => {
                "too many bytes of waiting calls are held; see forward.buffer_total".to_owned()
            }
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
            Self::TokenRejected => {
                "the upstream rejects the token; check upstream.token".to_owned()
            }
            Self::ShuttingDown => "shutting down".to_owned(),
            Self::KeysFull => {
                "too many idempotency keys are remembered; release leases, or start jobs without a \
                 key"
                    .to_owned()
            }
            Self::Unavailable => {
                "the book of leases cannot be reached; try again, and see /readyz?verbose".to_owned()
            }
            Self::UnknownAccount => "no such account in the list; see /accounts".to_owned(),
            Self::UnknownLease => "no such lease, or it has ended".to_owned(),
            Self::BadRequest { field, expected } => format!("{field}: {expected}"),
            Self::Unauthorized => {
                "send one of the client tokens as Authorization: Bearer <token>".to_owned()
            }
            Self::ForbiddenOrigin => {
                "calls from this web origin are refused; see auth.allowed_origins".to_owned()
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
                 Content-Encoding"
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

    /// When to come back, if coming back can help.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(Refusal::Saturated {
                free_in: Some(free_in),
                ..
            }) => Some((*free_in).clamp(RETRY_AFTER, RETRY_AFTER_MAX)),
            Self::Refused(Refusal::CoolingDown { ready_in }) => Some((*ready_in).max(RETRY_AFTER)),
            Self::Refused(_)
            | Self::TokenRejected
            | Self::ShuttingDown
            | Self::KeysFull
            | Self::Unavailable
            | Self::BufferFull
            | Self::Unreachable
            | Self::OwnerUnknown
            | Self::KeyInUse { .. } => Some(RETRY_AFTER),
            Self::OutcomeUnknown
            | Self::TimedOut
            | Self::UnknownAccount
            | Self::UnknownLease
            | Self::BadRequest { .. }
            | Self::Unauthorized
            | Self::ForbiddenOrigin
            | Self::WrongHost
            | Self::NoRoute
            | Self::NotForwarding
            | Self::MethodNotAllowed { .. }
            | Self::KeyReused
            | Self::BodyTooLarge { .. }
            | Self::UnsupportedMedia
            | Self::HeadersTooLarge { .. } => None,
        }
    }

    /// The error type of the `Proxy-Status` header, RFC 9209 §2.3.
    pub fn proxy_status(&self) -> &'static str {
        match self {
            Self::Refused(
                Refusal::Saturated { .. }
                | Refusal::Unverified
                | Refusal::CoolingDown { .. }
                | Refusal::QueueFull,
            )
            | Self::BufferFull => "connection_limit_reached",
            Self::Refused(Refusal::Learning | Refusal::NoAccounts | Refusal::NoUsableAccount)
            | Self::TokenRejected
            | Self::ShuttingDown
            | Self::Unreachable
            | Self::OwnerUnknown => "destination_unavailable",
            Self::OutcomeUnknown => "connection_terminated",
            Self::TimedOut => "connection_read_timeout",
            Self::KeysFull | Self::Unavailable => "proxy_internal_error",
            Self::Unauthorized | Self::ForbiddenOrigin => "http_request_denied",
            Self::UnknownAccount
            | Self::UnknownLease
            | Self::BadRequest { .. }
            | Self::WrongHost
            | Self::NoRoute
            | Self::NotForwarding
            | Self::MethodNotAllowed { .. }
            | Self::KeyInUse { .. }
            | Self::KeyReused
            | Self::BodyTooLarge { .. }
            | Self::UnsupportedMedia
            | Self::HeadersTooLarge { .. } => "http_request_error",
        }
    }
}

fn key_in_use_message(tasks: &[TaskId]) -> String {
    let message = if tasks.is_empty() {
        "a call with this Idempotency-Key is still being answered, or nobody knows yet what came of \
         it; come back with the same key"
    } else {
        "a call with this Idempotency-Key was lost, and one of these tasks may have come of it: look \
         at them. Come back with the same key, or start the job anyway with a new one"
    };
    message.to_owned()
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
        | Refusal::Unverified
        | Refusal::CoolingDown { .. }
        | Refusal::QueueFull => refusal.to_string(),
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

/// One error of every kind. A new kind does not compile until it is here.
#[cfg(test)]
pub(crate) fn every() -> Vec<Error> {
    let refusals = [
        Refusal::Learning,
        Refusal::NoAccounts,
        Refusal::NoUsableAccount,
        Refusal::Saturated {
            free_in: None,
            position: 1,
        },
        Refusal::Unverified,
        Refusal::CoolingDown {
            ready_in: RETRY_AFTER,
        },
        Refusal::QueueFull,
    ];
    let mut every = refusals.map(Error::Refused).to_vec();
    let mut next = Some(Error::TokenRejected);
    while let Some(error) = next {
        next = match error {
            Error::Refused(_) | Error::TokenRejected => Some(Error::ShuttingDown),
            Error::ShuttingDown => Some(Error::KeysFull),
            Error::KeysFull => Some(Error::Unavailable),
            Error::Unavailable => Some(Error::BufferFull),
            Error::BufferFull => Some(Error::Unreachable),
            Error::Unreachable => Some(Error::OutcomeUnknown),
            Error::OutcomeUnknown => Some(Error::TimedOut),
            Error::TimedOut => Some(Error::OwnerUnknown),
            Error::OwnerUnknown => Some(Error::UnknownAccount),
            Error::UnknownAccount => Some(Error::UnknownLease),
            Error::UnknownLease => Some(Error::bad_request("field", "expected")),
            Error::BadRequest { .. } => Some(Error::Unauthorized),
            Error::Unauthorized => Some(Error::ForbiddenOrigin),
            Error::ForbiddenOrigin => Some(Error::WrongHost),
            Error::WrongHost => Some(Error::NoRoute),
            Error::NoRoute => Some(Error::NotForwarding),
            Error::NotForwarding => Some(Error::MethodNotAllowed { allow: "GET" }),
            Error::MethodNotAllowed { .. } => Some(Error::KeyInUse { tasks: Vec::new() }),
            Error::KeyInUse { .. } => Some(Error::KeyReused),
            Error::KeyReused => Some(Error::BodyTooLarge { max: 1 }),
            Error::BodyTooLarge { .. } => Some(Error::UnsupportedMedia),
            Error::UnsupportedMedia => Some(Error::HeadersTooLarge {
                lines_max: 1,
                bytes_max: 1,
            }),
            Error::HeadersTooLarge { .. } => None,
        };
        every.push(error);
    }
    every
}
