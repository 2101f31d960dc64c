//! What is kept of an account beyond the list.

use std::sync::Arc;

use crate::pool::{account::Account, changes::Changes, health::AccountHealth};

/// What a record says of an account.
#[derive(PartialEq)]
pub(super) struct Recorded {
    email: Arc<str>,
    is_draining: bool,
    health: AccountHealth,
}

impl Recorded {
    pub(super) fn of(account: &Account) -> Self {
        Self {
            email: Arc::clone(&account.listed.email),
            is_draining: account.is_draining,
            health: account.health().clone(),
        }
    }

    pub(super) fn note_change(self, account: &Account, changes: &mut Changes<Arc<str>>) {
        let now = Self::of(account);
        if self != now {
            changes.note(|| self.email);
            changes.note(|| now.email);
        }
    }
}
