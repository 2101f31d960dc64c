//! What one round asks: which jobs the upstream runs.

use accounts_fetcher::{CERTIFICATE_ADVICE, certificate_problem, says_not_configured};
use http::StatusCode;
use thiserror::Error;

use crate::{
    kling::scheduler::Executing,
    ledger::Unavailable,
    upstream::{AskError, SendError, Traffic, Upstream},
};

/// A job takes some 120 bytes: 70,000 jobs, on more accounts than a token can have.
const SCHEDULER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Why a round failed.
#[derive(Debug, Error)]
pub(super) enum RoundError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("the upstream has no scheduler at this address: it answered with status 404")]
    NotFound,
    #[error("the scheduler's answer is not its list")]
    Malformed(#[from] serde_json::Error),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    #[error("another round was answered first")]
    Overtaken,
}

impl RoundError {
    /// What an operator can do about it.
    pub(super) fn advice(&self) -> &'static str {
        match self {
            Self::Ask(AskError::Refused(status)) if matches!(status.as_u16(), 401 | 403) => {
                "check upstream.token"
            }
            Self::Ask(AskError::Refused(StatusCode::PAYMENT_REQUIRED)) => {
                "renew the subscription of upstream.token"
            }
            Self::Ask(AskError::Refused(_)) | Self::NotFound | Self::Malformed(_) => {
                "does upstream.base_url lead to the Kling API?"
            }
            Self::Ask(AskError::Send(SendError::NotSent(error)))
                if certificate_problem(&**error).is_some() =>
            {
                CERTIFICATE_ADVICE
            }
            Self::Ask(
                AskError::Send(SendError::NoPlace)
                | AskError::Encoded
                | AskError::TooLarge(_)
                | AskError::Incomplete(_)
                | AskError::TimedOut,
            )
            | Self::Unavailable(_)
            | Self::Overtaken => "/readyz?verbose shows whether it goes on",
            Self::Ask(AskError::Send(_)) => "check upstream.base_url and the network",
        }
    }
}

/// Asks for the jobs that run on all accounts.
pub(super) async fn executing(upstream: &Upstream) -> Result<Executing, RoundError> {
    let asked = upstream.ask(Traffic::Round, "/scheduler/available", SCHEDULER_BYTES_MAX);
    let (status, body) = asked.await?;
    if status == StatusCode::OK {
        Ok(Executing::read(&body)?)
    } else if says_not_configured(&body) {
        Ok(Executing::default())
    } else {
        Err(RoundError::NotFound)
    }
}
