//! The accounts, with what the balancer needs of them.
//!
//! Passwords, user ids and balances of the upstream's objects are never read.

use std::sync::Arc;

use crate::email::{self, Identity};

/// One Kling account of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The key of the upstream's list, in its spelling.
    pub email: Arc<str>,
    /// The same for every spelling of the account.
    pub identity: Identity,
    /// `a-` and 8 hex digits of the SHA-256 of the e-mail: its name in logs and metrics.
    pub alias: Arc<str>,
    /// Slots; 0 means known but never picked.
    pub max_jobs: u32,
    /// Why the upstream says the account cannot work; `None` while it is healthy.
    pub error: Option<Arc<str>>,
    /// When its login ends, as the upstream wrote it: an RFC 3339 time.
    pub session_expires_at: Option<Arc<str>>,
}

impl Account {
    /// A healthy account with `max_jobs` slots.
    #[must_use]
    pub fn new(email: &str, max_jobs: u32) -> Account {
        let alias = email::alias(email).into();
        let email = Arc::from(email);
        Account {
            identity: Identity::sharing(&email),
            email,
            alias,
            max_jobs,
            error: None,
            session_expires_at: None,
        }
    }
}

/// One validated account list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// In the order of the upstream's list, each account once.
    pub accounts: Vec<Account>,
}
