//! By how many slots the accounts differ from the newest round.

use std::mem;

use super::{super::AccountKey, Accounts};

impl Accounts {
    /// On how many accounts slots changed.
    pub(in crate::pool) fn moved_count(&self) -> usize {
        self.moved.len()
    }

    /// Notes by how many slots the pool differs from the newest round, on the account whose slots have changed for
    /// longest.
    pub(in crate::pool) fn note_next_drift(&mut self) {
        let key = self.moved.pop_front();
        if let Some(account) = key.and_then(|key| self.slots.get_mut(key)) {
            account.is_moved = false;
            account.note_drift();
        }
    }

    /// The same, on the accounts with this folded e-mail.
    pub(in crate::pool) fn note_drift_of(&mut self, folded: &str) {
        for key in self.named(folded) {
            self.slots[key].note_drift();
        }
    }

    pub(super) fn note_moved(&mut self, key: AccountKey) {
        if mem::replace(&mut self.slots[key].is_moved, true) {
            return;
        }
        // Without rounds this list is never taken: forgotten accounts must not pile up in it.
        if self.moved.len() > 2 * self.slots.len() {
            self.moved.retain(|key| self.slots.contains_key(*key));
        }
        self.moved.push_back(key);
    }

    /// The newest round lists another number of jobs on an account. [By how many slots it differs](Self::note_drift_of) is
    /// noted once all are counted.
    pub(in crate::pool) fn count_listed(&mut self, key: AccountKey, is_added: bool) {
        if let Some(account) = self.slots.get_mut(key) {
            account.jobs_in_round = if is_added {
                account.jobs_in_round + 1
            } else {
                account.jobs_in_round.saturating_sub(1)
            };
        }
    }
}
