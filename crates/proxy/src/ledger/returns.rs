//! Settlements from `Drop`, which cannot await.
//!
//! The list never refuses. It holds at most one settlement of each lease, since a slot and its
//! submission are one value. So it is never longer than the number of leases.

use std::{
    mem,
    sync::atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;

use super::Settle;

/// The settlements that were returned and are not applied yet.
#[derive(Debug, Default)]
pub(super) struct Returns {
    list: Mutex<Vec<Settle>>,
    /// Read before every operation of the ledger, so that it takes no second lock for nothing.
    has_some: AtomicBool,
}

impl Returns {
    /// Adds a settlement. Blocks no longer than another one takes to be added.
    pub(super) fn push(&self, settle: Settle) {
        let mut list = self.list.lock();
        list.push(settle);
        self.has_some.store(true, Ordering::Release);
    }

    /// Takes everything that was added, in order.
    pub(super) fn take(&self) -> Vec<Settle> {
        if !self.has_some.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut list = self.list.lock();
        self.has_some.store(false, Ordering::Release);
        mem::take(&mut *list)
    }
}
