//! What runs and waits: told at the start, and logged at both ends of a shutdown.

use crate::{
    events::Found,
    ledger::{GlanceNow, Ledger, Unavailable},
    pool::LeaseCounts,
};

/// What there is once jobs can be started: jobs that an earlier process started are found again.
///
/// # Errors
/// [`Unavailable`] if the ledger cannot be reached.
pub(super) async fn found(ledger: &Ledger) -> Result<Found, Unavailable> {
    let mut found = Found::default();
    let counted = ledger.each_account(|account| {
        found.accounts += 1;
        found.slots += u64::from(account.max_jobs);
        found.jobs_found += u64::from(account.foreign);
    });
    counted.await?;
    Ok(found)
}

/// How much runs and waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Inventory {
    /// Job starts that are not answered yet.
    submissions: usize,
    /// Job starts and picks that wait for a slot.
    waiting: usize,
    /// Jobs that hold a slot.
    jobs: usize,
    /// Submissions of which it is not known whether they became jobs.
    uncertain: usize,
    /// Picks without a job.
    picks: usize,
}

impl Inventory {
    /// Counts what the ledger holds now; nothing if it cannot be reached.
    pub(super) async fn take(ledger: &Ledger) -> Self {
        Self::counted(ledger).await.unwrap_or_default()
    }

    /// Logs it.
    pub(super) fn log(&self, message: &str) {
        let Self {
            submissions,
            waiting,
            jobs,
            uncertain,
            picks,
        } = *self;
        tracing::info!(submissions, waiting, jobs, uncertain, picks, "{message}");
    }

    async fn counted(ledger: &Ledger) -> Result<Self, Unavailable> {
        let glance = ledger.call(GlanceNow).await?.view;
        let LeaseCounts {
            picks,
            submissions,
            uncertain,
            jobs,
        } = glance.leases;
        Ok(Self {
            submissions,
            waiting: glance.waiters_count,
            jobs,
            uncertain,
            picks,
        })
    }
}
