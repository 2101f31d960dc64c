//! The words of an error: what a person is told, and what to do next.

use super::{Error, TokenFault};
use crate::pool::{Refusal, TaskId};

impl Error {
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
                 Content-Encoding; calls that start a job or create something may be forms, too"
                    .to_owned()
            }
            Self::HeadersTooLarge { lines_max, bytes_max } => {
                format!("the head exceeds {lines_max} lines or {bytes_max} bytes")
            }
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
