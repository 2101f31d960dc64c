//! The words of an error: what is wrong, and what to do next.

use super::{Error, TokenFault};
use crate::pool::{Refusal, TaskId};

const BUFFER_FULL: &str =
    "the bodies of waiting calls fill forward.buffer_total; come back in a moment, or raise it";
const NO_PLACE: &str =
    "as many calls are carried as may be at once; nothing was sent. Come back in a moment";
const TOO_MANY_READERS: &str =
    "as many clients read /events as may at once; close one, or come back later";
const UNREACHABLE: &str = "the upstream cannot be reached; nothing was sent. Check upstream.base_url and \
                           the network: the log and /readyz?verbose say what failed";
const OUTCOME_UNKNOWN: &str = "the connection to the upstream was lost; it may have acted all the same. \
                               Look before you try again: a second job costs money";
const TIMED_OUT: &str = "the upstream did not answer within upstream.request_timeout; it may have acted all \
                         the same. Look before you try again: a second job costs money";
const OWNER_UNKNOWN: &str = "not every account could be asked whether the task is its; try again, or name \
                             the account as email";
const SHUTTING_DOWN: &str =
    "the sidecar is shutting down and starts nothing new; come back in a moment";
const KEYS_FULL: &str =
    "too many idempotency keys are remembered; release leases, or start jobs without a key";
const UNAVAILABLE: &str = "no slot can be granted, since the state cannot be written: the log of the sidecar says why; try again";
const UNKNOWN_ACCOUNT: &str = "no such account in the list; see /accounts";
const UNKNOWN_LEASE: &str = "no such lease, or it has ended; /leases lists those that are held";
const UNAUTHORIZED: &str = "send one of the client tokens as Authorization: Bearer <token>";
const READ_ONLY: &str = "this token may only look; show one of auth.tokens";
const FORBIDDEN_ORIGIN: &str = "calls from this web page are refused; see auth.allowed_origins";
const WRONG_HOST: &str =
    "this Host is not served; call by a loopback name or see auth.allowed_hosts";
const NO_ROUTE: &str =
    "nothing is served at this path; calls of the upstream are served below /v1/kling";
const NOT_FORWARDING: &str =
    "calls are carried to the upstream only with its token; set upstream.token";
const KEY_REUSED: &str =
    "this Idempotency-Key belongs to another request; send every new request with a new key";
const UNSUPPORTED_MEDIA: &str = "send the body as JSON, with Content-Type: application/json and no \
                                 Content-Encoding; calls that start a job or create something may be \
                                 forms, too";

impl Error {
    /// What a person is told: what is wrong, and what to do next.
    pub fn message(&self) -> String {
        let constant = match self {
            Self::NotStarted(reason) => return reason.plain().message(),
            Self::Learning(cause) => return learning(cause.as_deref()),
            Self::BadRequest { field, expected } => return format!("{field}: {expected}"),
            Self::MethodNotAllowed { allow } => {
                return format!("this method is not answered here; use one of {allow}");
            }
            Self::BodyTooLarge { max } => {
                return format!(
                    "the body exceeds {max} bytes; send less (forward.body_max limits job starts)"
                );
            }
            Self::HeadersTooLarge {
                lines_max,
                bytes_max,
            } => {
                return format!(
                    "the head exceeds {lines_max} lines or {bytes_max} bytes; send fewer or shorter \
                     headers"
                );
            }
            Self::Refused(refusal) => refused(*refusal),
            Self::TokenRejected(fault) => token_rejected(*fault),
            Self::KeyInUse { tasks } => key_in_use(tasks),
            Self::BufferFull => BUFFER_FULL,
            Self::NoPlace => NO_PLACE,
            Self::TooManyReaders => TOO_MANY_READERS,
            Self::Unreachable => UNREACHABLE,
            Self::OutcomeUnknown => OUTCOME_UNKNOWN,
            Self::TimedOut => TIMED_OUT,
            Self::OwnerUnknown => OWNER_UNKNOWN,
            Self::ShuttingDown => SHUTTING_DOWN,
            Self::KeysFull => KEYS_FULL,
            Self::Unavailable => UNAVAILABLE,
            Self::UnknownAccount => UNKNOWN_ACCOUNT,
            Self::UnknownLease => UNKNOWN_LEASE,
            Self::Unauthorized => UNAUTHORIZED,
            Self::ReadOnly => READ_ONLY,
            Self::ForbiddenOrigin => FORBIDDEN_ORIGIN,
            Self::WrongHost => WRONG_HOST,
            Self::NoRoute => NO_ROUTE,
            Self::NotForwarding => NOT_FORWARDING,
            Self::KeyReused => KEY_REUSED,
            Self::UnsupportedMedia => UNSUPPORTED_MEDIA,
        };
        constant.to_owned()
    }
}

/// `cause`: what stands in the way, where that is known.
fn learning(cause: Option<&str>) -> String {
    let cause = cause.unwrap_or("the sidecar has just started; come back in a moment");
    format!(
        "it is not known yet which accounts there are and what runs on them: {cause}. \
         /readyz?verbose lists all checks"
    )
}

fn refused(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Learning => {
            "it is not known yet which accounts there are and what runs on them; see /readyz?verbose"
        }
        Refusal::NoAccounts => {
            "the account list is empty; add accounts with POST /accounts at the upstream"
        }
        Refusal::NoUsableAccount => {
            "every account that would do is draining, in error, quarantined, parked, of no slots or \
             excluded; see /accounts"
        }
        Refusal::Saturated { .. } => {
            "all accounts are at capacity; come back later, or let the call wait for a slot"
        }
        Refusal::Unverified { .. } => {
            "the remaining slots may be taken by submissions whose outcome is not known yet; come back \
             when they are decided"
        }
        Refusal::CoolingDown { .. } => {
            "every account with a free slot has just refused a job and is not picked for a while; come \
             back when the first one is available again"
        }
        Refusal::QueueFull { .. } => {
            "as many calls wait as may (selection.waiters_max); come back later"
        }
    }
}

fn token_rejected(fault: TokenFault) -> &'static str {
    match fault {
        TokenFault::Unknown => {
            "the upstream rejects the token; check upstream.token, or the file that holds it"
        }
        TokenFault::Unpaid => {
            "the upstream asks for a paid subscription (402); renew that of upstream.token. Every 10 \
             minutes one job start is sent to find out"
        }
    }
}

fn key_in_use(tasks: &[TaskId]) -> &'static str {
    if tasks.is_empty() {
        "a call with this Idempotency-Key is still being answered, or it is not known yet what became \
         of it; come back with the same key"
    } else {
        "a call with this Idempotency-Key was lost, and it may have become one of these tasks: look \
         at them. Come back with the same key, or start the job anyway with a new one"
    }
}
