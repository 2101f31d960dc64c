//! The accounts, with what the balancer needs of them.
//!
//! Passwords, user ids and balances of the upstream's objects are never read.

use std::sync::Arc;

use crate::{alias::Alias, email::Identity};

/// One Kling account of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The key of the upstream's list, in its spelling.
    pub email: Arc<str>,
    /// Its name in logs and metrics.
    pub alias: Alias,
    /// Slots; 0 means known but never picked.
    pub max_jobs: u32,
    /// What else the list says. Apart, since it says nothing else of many accounts.
    details: Option<Box<Details>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Details {
    error: Option<Arc<str>>,
    session_expires_at: Option<Arc<str>>,
}

impl Account {
    /// A healthy account with `max_jobs` slots.
    #[must_use]
    pub fn new(email: &str, max_jobs: u32) -> Account {
        Account {
            alias: Alias::of(email),
            email: email.into(),
            max_jobs,
            details: None,
        }
    }

    /// The same account, with why the upstream says that it cannot work, and when its login ends.
    #[must_use]
    pub fn with_details(
        self,
        error: Option<Arc<str>>,
        session_expires_at: Option<Arc<str>>,
    ) -> Account {
        let is_said = error.is_some() || session_expires_at.is_some();
        let details = is_said.then(|| {
            Box::new(Details {
                error,
                session_expires_at,
            })
        });
        Account { details, ..self }
    }

    /// The same for every spelling of the account.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity::sharing(&self.email)
    }

    /// Why the upstream says the account cannot work; `None` while it is healthy.
    #[must_use]
    pub fn error(&self) -> Option<&Arc<str>> {
        self.details.as_ref()?.error.as_ref()
    }

    /// When its login ends, as the upstream wrote it: an RFC 3339 time.
    #[must_use]
    pub fn session_expires_at(&self) -> Option<&Arc<str>> {
        self.details.as_ref()?.session_expires_at.as_ref()
    }
}

/// One validated account list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// In the order of the upstream's list, each account once. An account is in memory once, whatever refers to it.
    pub accounts: Arc<[Arc<Account>]>,
}

impl FromIterator<Account> for Snapshot {
    fn from_iter<I: IntoIterator<Item = Account>>(accounts: I) -> Snapshot {
        Snapshot {
            accounts: accounts.into_iter().map(Arc::new).collect(),
        }
    }
}
