//! Logs about fetching: each transition once.
//!
//! Invariant: aliases instead of e-mails, positions instead of text; see [`FetchError`].

use tracing::{debug, error, info, warn};

use crate::{
    Alias, FetchResult,
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
    /// Notes a failed fetch. Logs a warning if it is the first in a row. `has_list`: an earlier list stays in force.
    pub(crate) fn note_failure(&mut self, failure: &FetchError, has_list: bool) {
        let result = failure.result();
        let is_first = self.failed_count == 0;
        self.failed_count += 1;
        self.held = None;
        let error = Chain(failure);
        if result == FetchResult::Unauthorized {
            let was_rejected = std::mem::replace(&mut self.is_token_rejected, true);
            match (was_rejected, has_list) {
                (true, _) => {}
                (false, true) => error!(
                    %error,
                    "the upstream rejects the token: check upstream.token. The accounts that are known stay in \
                     use"
                ),
                (false, false) => error!(
                    %error,
                    "the upstream rejects the token: check upstream.token. No account is known, and no job \
                     starts, until it accepts one"
                ),
            }
        } else if is_first {
            let (advice, result) = (result.advice(), result.as_str());
            if has_list {
                warn!(
                    result, %error, advice,
                    "the account list cannot be fetched; the accounts that are known stay in use"
                );
            } else {
                warn!(
                    result, %error, advice,
                    "the account list cannot be fetched; no job starts before it is known"
                );
            }
        }
        debug!(result = result.as_str(), error = %Chain(failure), "account fetch failed");
    }

    /// Notes an answer and the verdict on it.
    pub(crate) fn note_verdict(&mut self, verdict: &Verdict) {
        let failed_count = std::mem::take(&mut self.failed_count);
        self.is_token_rejected = false;
        if failed_count > 0 {
            info!(failed_count, "the account list can be fetched again");
        }
        let result = verdict.result;
        match verdict.change {
            Some(Change {
                is_any: true,
                added,
                removed,
                changed,
            }) => {
                // The part that takes the list over tells which accounts these are.
                debug!(added, removed, changed, "account list changed");
            }
            Some(Change { is_any: false, .. }) => {}
            None if self.held != Some(result) => {
                let result = result.as_str();
                warn!(
                    result,
                    "the account list lost many accounts; those that were known stay in use until further fetches confirm \
                     that"
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
            example,
        } = *remarks;
        match example.map(Alias::text).as_deref() {
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
