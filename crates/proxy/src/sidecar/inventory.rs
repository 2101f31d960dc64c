//! What runs and waits, for the log at the start and at both ends of a shutdown.

use crate::{
    ledger::{GlanceNow, Ledger, Unavailable},
    pool::LeaseCounts,
};

/// Logs what there is, once the accounts and the jobs that run on them are known: jobs that an earlier process
/// started are found again.
pub(super) async fn announce(ledger: &Ledger) {
    ledger.learnt().await;
    let (mut accounts, mut slots, mut jobs_found) = (0_u64, 0_u64, 0_u64);
    let counted = ledger.each_account(|account| {
        accounts += 1;
        slots += u64::from(account.max_jobs);
        jobs_found += u64::from(account.foreign);
    });
    if counted.await.is_ok() {
        tracing::info!(accounts, slots, jobs_found, "ready: jobs can be started");
    }
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
