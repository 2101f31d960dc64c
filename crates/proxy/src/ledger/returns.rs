//! Settlements from where nothing can be awaited: the end of a value.
//!
//! The list never refuses. It holds at most one settlement of each lease, since a slot and its
//! submission are one value: so it is as long as there are leases, at most.

use std::{
    mem,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::Settle;

/// What was returned, and not settled yet.
#[derive(Debug, Default)]
pub(super) struct Returns {
    list: Mutex<Vec<Settle>>,
    /// Read before every operation of the book, which must not take a second lock for nothing.
    has_some: AtomicBool,
}

impl Returns {
    /// Adds a settlement. Never blocks for longer than another one is added.
    pub(super) fn push(&self, settle: Settle) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.push(settle);
        self.has_some.store(true, Ordering::Release);
    }

    /// Takes everything that was added, in order.
    pub(super) fn take(&self) -> Vec<Settle> {
        if !self.has_some.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        self.has_some.store(false, Ordering::Release);
        mem::take(&mut *list)
    }
}
