//! What one round asks: which jobs the upstream runs.

use accounts_fetcher::says_not_configured;
use http::StatusCode;
use thiserror::Error;

use crate::{
    kling::scheduler::Executing,
    ledger::Unavailable,
    upstream::{AskError, Traffic, Upstream},
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
