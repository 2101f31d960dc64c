//! How the rounds went, to be read at any time.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

/// Counts of rounds since the start.
#[derive(Debug, Default)]
pub struct RoundCounts {
    ok: AtomicU64,
    failed: AtomicU64,
    skipped_entries: AtomicU64,
    lag_micros: AtomicU64,
    stale_grants: AtomicU64,
    last_success: Mutex<Option<Timestamp>>,
    last_sent: Mutex<Option<Timestamp>>,
    /// Why the newest round failed; `None` if it was answered.
    last_failure: Mutex<Option<String>>,
}

impl RoundCounts {
    /// How many rounds were answered.
    pub fn ok(&self) -> u64 {
        self.ok.load(Ordering::Relaxed)
    }

    /// How many rounds were not answered, or not with a list that can be read.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// How many listed jobs had no id or no e-mail that can be read.
    pub fn skipped_entries(&self) -> u64 {
        self.skipped_entries.load(Ordering::Relaxed)
    }

    /// How many slots were granted while no round was fresh.
    pub fn stale_grants(&self) -> u64 {
        self.stale_grants.load(Ordering::Relaxed)
    }

    /// A slot was granted while no round was fresh.
    pub(crate) fn note_stale_grant(&self) {
        self.stale_grants.fetch_add(1, Ordering::Relaxed);
    }

    /// How long the newest answered round took, from its request to its effect on the ledger.
    pub fn lag(&self) -> Duration {
        Duration::from_micros(self.lag_micros.load(Ordering::Relaxed))
    }

    /// When the newest answered round was, by the calendar.
    pub fn last_success(&self) -> Option<Timestamp> {
        *self.last_success.lock()
    }

    /// When the newest answered round was sent, by the calendar.
    pub(crate) fn last_sent(&self) -> Option<Timestamp> {
        *self.last_sent.lock()
    }

    /// Whether the newest round was answered.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn health(&self) -> Result<(), String> {
        match self.last_failure() {
            Some(problem) => Err(problem),
            None if self.ok() == 0 => Err("the upstream has not answered yet".to_owned()),
            None => Ok(()),
        }
    }

    /// Why the newest round failed, in words; `None` if it was answered, or if there was none.
    pub(crate) fn last_failure(&self) -> Option<String> {
        self.last_failure.lock().clone()
    }

    pub(super) fn note_ok(&self, skipped_count: usize, lag: Duration) {
        let lag_micros = u64::try_from(lag.as_micros()).unwrap_or(u64::MAX);
        self.lag_micros.store(lag_micros, Ordering::Relaxed);
        let skipped = u64::try_from(skipped_count).unwrap_or(u64::MAX);
        self.skipped_entries.fetch_add(skipped, Ordering::Relaxed);
        let now = Timestamp::now();
        *self.last_success.lock() = Some(now);
        let lag = SignedDuration::try_from(lag).unwrap_or_default();
        *self.last_sent.lock() = now.checked_sub(lag).ok();
        self.set_failure(None);
        self.ok.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_failed(&self, problem: String) {
        self.set_failure(Some(problem));
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    fn set_failure(&self, failure: Option<String>) {
        *self.last_failure.lock() = failure;
    }
}
