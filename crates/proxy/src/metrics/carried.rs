//! How often calls are sent again, how searches for the owner of a task end, and how many answers reached no client.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use crate::owners::FoundOwner;

/// Why a request is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RetryReason {
    /// The account was full or throttled: another one is asked, or the same later.
    Full,
    /// The account refused the job for another reason of its own.
    Refused,
    /// Nothing was sent.
    Unsent,
    /// The answer to a read was a failure that may be over soon, or broke off.
    Failed,
    /// The mark was refused, and the same is sent without.
    Mark,
}

impl RetryReason {
    const ALL: [Self; 5] = [
        Self::Full,
        Self::Refused,
        Self::Unsent,
        Self::Failed,
        Self::Mark,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Refused => "refused",
            Self::Unsent => "unsent",
            Self::Failed => "failed",
            Self::Mark => "mark",
        }
    }
}

#[derive(Debug)]
pub(super) struct CarriedCounts {
    retries: IntCounterVec,
    searches: IntCounterVec,
    undelivered: IntCounter,
}

impl CarriedCounts {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let retries = IntCounterVec::new(
            Opts::new(
                "retries_total",
                "Requests that were sent to the upstream again, by why.",
            ),
            &["reason"],
        )?;
        for reason in RetryReason::ALL {
            retries.with_label_values(&[reason.as_str()]);
        }
        let searches = IntCounterVec::new(
            Opts::new(
                "owner_searches_total",
                "Calls for which accounts were asked who owns a task, by how that ended.",
            ),
            &["result"],
        )?;
        for result in ["found", "not-found", "unknown"] {
            searches.with_label_values(&[result]);
        }
        let undelivered = IntCounter::with_opts(Opts::new(
            "undelivered_answers_total",
            "Jobs started whose client was gone before the answer; /jobs lists them.",
        ))?;
        registry.register(Box::new(undelivered.clone()))?;
        registry.register(Box::new(retries.clone()))?;
        registry.register(Box::new(searches.clone()))?;
        Ok(Self {
            retries,
            searches,
            undelivered,
        })
    }

    pub(super) fn count_retry(&self, reason: RetryReason) {
        self.retries.with_label_values(&[reason.as_str()]).inc();
    }

    pub(super) fn count_undelivered(&self) {
        self.undelivered.inc();
    }

    pub(super) fn count_search(&self, found: &FoundOwner) {
        let result = match found {
            FoundOwner::Account(_) => "found",
            FoundOwner::Nobody => "not-found",
            FoundOwner::Unknown => "unknown",
        };
        self.searches.with_label_values(&[result]).inc();
    }
}
