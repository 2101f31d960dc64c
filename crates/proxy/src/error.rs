//! The one mapping from what went wrong to what a client is told: one row of [`facts`] for each error, and
//! a message in [`words`].

mod facts;
mod words;

use std::{fmt, sync::Arc, time::Duration};

pub(crate) use facts::Facts;

use crate::{
    ledger::{PickError, Unavailable},
    pool::{Known, LeaseError, Refusal, TaskId, UnknownAccount},
};

/// When to come back if nothing better is known.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a call was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// There is no slot to give.
    Refused(Refusal),
    /// There is no account list yet, or it is not known what runs; and why not, where that is known.
    Learning(Option<Arc<str>>),
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
    /// As many clients read events as may.
    TooManyReaders,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotStarted {
    /// [`Error::Learning`].
    Learning(Option<Arc<str>>),
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

impl NotStarted {
    fn plain(&self) -> Error {
        match self {
            Self::Learning(cause) => Error::Learning(cause.clone()),
            Self::Unavailable => Error::Unavailable,
            Self::Unreachable => Error::Unreachable,
            Self::ShuttingDown => Error::ShuttingDown,
        }
    }
}

impl Error {
    /// One error of every kind. A test fails where one is missing.
    pub(crate) const KINDS: [Self; 38] = [
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
        Self::Learning(None),
        Self::Refused(Refusal::NoAccounts),
        Self::Refused(Refusal::NoUsableAccount),
        Self::TokenRejected(TokenFault::Unknown),
        Self::TokenRejected(TokenFault::Unpaid),
        Self::ShuttingDown,
        Self::NotStarted(NotStarted::Learning(None)),
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
        Self::TooManyReaders,
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
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "only what passes by itself is listed; all else stays as it is"
    )]
    pub(crate) fn of_job_start(self) -> Self {
        let passing = match &self {
            Self::Learning(cause) => NotStarted::Learning(cause.clone()),
            Self::Unavailable => NotStarted::Unavailable,
            Self::Unreachable => NotStarted::Unreachable,
            Self::ShuttingDown => NotStarted::ShuttingDown,
            _ => return self,
        };
        Self::NotStarted(passing)
    }

    /// Whether a well-formed pick can be refused with it.
    pub(crate) fn is_of_picks(&self) -> bool {
        matches!(
            self,
            Self::Refused(_)
                | Self::Learning(_)
                | Self::TokenRejected(_)
                | Self::ShuttingDown
                | Self::UnknownAccount
        )
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

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        if refusal == Refusal::Learning {
            Self::Learning(None)
        } else {
            Self::Refused(refusal)
        }
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
