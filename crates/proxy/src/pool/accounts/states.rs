//! Since when each account is in the state that is shown.
//!
//! A state lasts from the operation that shows it first to the one that shows another: what comes and goes within
//! one operation is not seen. So accounts are looked at when an operation ends, and only those that changed.

use std::{mem, time::Duration};

use super::{
    super::{AccountKey, account::LastRefusal, steps::Counted},
    Accounts,
};

impl Accounts {
    /// An operation ends: the states are shown now.
    pub(in crate::pool) fn note_states(&mut self, now: Duration) {
        for key in mem::take(&mut self.restated).into_iter().counted() {
            if let Some(account) = self.slots.get_mut(key) {
                account.restate(now);
            }
        }
    }

    /// An account refused a job for a reason of its own.
    pub(in crate::pool) fn note_refusal(&mut self, key: AccountKey, refusal: LastRefusal) {
        if let Some(account) = self.slots.get_mut(key) {
            account.note_refusal(refusal);
        }
    }
}
