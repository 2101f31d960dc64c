//! Whether anything that people are shown may have changed.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts changes of what people are shown. Read without the ledger's lock.
#[derive(Debug, Default)]
pub(super) struct Shown(AtomicU64);

impl Shown {
    /// Something may have changed. Called under the lock.
    pub(super) fn note(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }

    pub(super) fn version(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}
