//! Logs about fetching: each transition once.
//!
//! Invariant: aliases instead of e-mails, positions instead of text; see [`FetchError`].

use tracing::{debug, error, info, warn};

use crate::{
    FetchResult,
    error::{Chain, FetchError},
    judge::{Change, Verdict},
    list::Remarks,
};

#[derive(Debug, Default)]
pub(crate) struct Journal {
    failed_count: u64,
    is_token_rejected: bool,
    held: Option<FetchResult>,
    remarks: Remarks,
}

impl Journal {
    /// Notes a failed fetch. Logs a warning if it is the first in a row.
    pub(crate) fn note_failure(&mut self, failure: &FetchError) {
        let result = failure.result();
        let is_first = self.failed_count == 0;
        self.failed_count += 1;
        self.held = None;
        if result == FetchResult::Unauthorized {
            if !std::mem::replace(&mut self.is_token_rejected, true) {
                error!(
                    error = %Chain(failure),
                    "the upstream rejected the token: check upstream.token; the last account list stays"
                );
            }
        } else if is_first {
            let (advice, result) = (result.advice(), result.as_str());
            warn!(result, error = %Chain(failure), advice, "account fetches began to fail");
        }
        debug!(result = result.as_str(), error = %Chain(failure), "account fetch failed");
    }

    /// Notes an answer and the verdict on it.
    pub(crate) fn note_verdict(&mut self, verdict: &Verdict) {
        let failed_count = std::mem::take(&mut self.failed_count);
        self.is_token_rejected = false;
        if failed_count > 0 {
            info!(failed_count, "account fetches recovered");
        }
        let result = verdict.result;
        match verdict.change {
            Some(Change {
                is_any: true,
                added,
                removed,
                changed,
            }) => {
                info!(added, removed, changed, "account list changed");
            }
            Some(Change { is_any: false, .. }) => {}
            None if self.held != Some(result) => {
                let result = result.as_str();
                warn!(
                    result,
                    "account list lost many accounts; the last one stays until further fetches confirm that"
                );
            }
            None => {}
        }
        self.held = verdict.change.is_none().then_some(result);
        debug!(result = result.as_str(), "account list fetched");
    }

    /// Logs the odd entries of a list, unless the previous list had the same.
    pub(crate) fn note_remarks(&mut self, remarks: &Remarks) {
        if self.remarks == *remarks {
            return;
        }
        self.remarks = remarks.clone();
        let Remarks {
            rejected,
            merged,
            clamped,
            ref example,
        } = *remarks;
        match example.as_deref() {
            Some(account) => {
                warn!(
                    rejected,
                    merged, clamped, account, "account list has odd entries"
                );
            }
            None => info!("account list has no odd entries any more"),
        }
    }
}
