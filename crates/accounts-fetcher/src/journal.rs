//! What is said in the log about fetching: transitions, once each.
//!
//! Invariant: aliases instead of e-mails, positions instead of text; see [`FetchError`].

use tracing::{debug, error, info, warn};

use crate::FetchResult;
use crate::error::{Chain, FetchError};
use crate::judge::{Change, Verdict};
use crate::list::Remarks;

#[derive(Debug, Default)]
pub(crate) struct Journal {
    failed_count: u64,
    is_token_rejected: bool,
    held: Option<FetchResult>,
    remarks: Remarks,
}

impl Journal {
    /// Notes a failed fetch: aloud when it is the first of its row.
    pub(crate) fn note_failure(&mut self, failure: &FetchError) {
        let result = failure.result();
        let is_first = self.failed_count == 0;
        self.failed_count += 1;
        self.held = None;
        if result == FetchResult::Unauthorized {
            if !std::mem::replace(&mut self.is_token_rejected, true) {
                error!(
                    error = %Chain(failure),
                    "account list needs another token: check upstream.token, the last list stays"
                );
            }
        } else if is_first {
            let (advice, result) = (result.advice(), result.as_str());
            warn!(result, error = %Chain(failure), advice, "account fetches began to fail");
        }
        debug!(result = result.as_str(), error = %Chain(failure), "account fetch failed");
    }

    /// Notes an answer and what was made of it.
    pub(crate) fn note_verdict(&mut self, verdict: &Verdict) {
        let failed_count = std::mem::take(&mut self.failed_count);
        self.is_token_rejected = false;
        if failed_count > 0 {
            info!(failed_count, "account fetches healed");
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
                warn!(result, "account list lost too much to be believed at once");
            }
            None => {}
        }
        self.held = verdict.change.is_none().then_some(result);
        debug!(result = result.as_str(), "account list fetched");
    }

    /// Notes the oddities of a list, unless they are those of the list before it.
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
