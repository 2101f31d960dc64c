//! The counts of the accounts, and which of them have metric series of their own.
//!
//! Invariant: no series ever falls. So an account that is forgotten leaves its counts behind, and goes on from them
//! if it comes back; one without series of its own is counted among the others as long as it lives.

use std::{collections::HashMap, sync::Arc};

use accounts_fetcher::Identity;
use foldhash::fast::RandomState;

use super::{
    super::{AccountKey, account::Account, tally::Tally},
    Accounts,
};

/// The most accounts that ever get series of their own, forgotten ones included. A user has a handful; unbounded
/// label sets overload Prometheus.
pub const SERIES_MAX: usize = 200;

/// The counts of an account that is forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departed {
    /// Its e-mail, in the spelling of the last list that named it.
    pub email: Arc<str>,
    /// Its name in logs and metrics.
    pub alias: accounts_fetcher::Alias,
    /// What became of its submissions and jobs.
    pub tally: Tally,
}

/// The counts of more than one account.
#[derive(Clone, Debug, Default)]
pub struct Tallies {
    /// Of all accounts.
    pub all: Tally,
    /// Of those without series of their own.
    pub others: Tally,
    /// Of each that had some and is forgotten.
    pub departed: Vec<Departed>,
}

/// What is counted beside the accounts.
#[derive(Debug, Default)]
pub(super) struct Tallying {
    all: Tally,
    others: Tally,
    departed: HashMap<Identity, Departed, RandomState>,
    /// How many accounts have series, the departed included.
    series_count: usize,
}

impl Tallying {
    /// An account joins: it goes on from what was counted, if it was there before.
    pub(super) fn join(&mut self, account: &mut Account) {
        if let Some(departed) = self.departed.remove(&account.listed.identity()) {
            *account.tally_mut() = departed.tally;
            account.has_series = true;
        } else if self.series_count < SERIES_MAX {
            self.series_count += 1;
            account.has_series = true;
        }
    }

    /// An account is forgotten.
    pub(super) fn leave(&mut self, account: &Account) {
        if !account.has_series {
            return;
        }
        let tally = account.tally();
        if tally == Tally::default() {
            self.series_count -= 1;
            return;
        }
        let listed = &account.listed;
        let departed = Departed {
            email: Arc::clone(&listed.email),
            alias: listed.alias,
            tally,
        };
        self.departed.insert(listed.identity(), departed);
    }
}

impl Accounts {
    /// Counts something of an account.
    pub(in crate::pool) fn count(&mut self, key: AccountKey, count: impl Fn(&mut Tally)) {
        let Some(account) = self.slots.get_mut(key) else {
            return;
        };
        count(account.tally_mut());
        count(&mut self.tallying.all);
        if !account.has_series {
            count(&mut self.tallying.others);
        }
    }

    /// Panics if the sums do not agree with the counts of the accounts.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn check_tallies(&self) {
        let with_series = self.slots.values().filter(|account| account.has_series);
        let of_accounts = with_series.map(Account::tally);
        let departed = self.tallying.departed.values().map(|it| it.tally);
        let tallies: Vec<_> = of_accounts.chain(departed).collect();
        assert_eq!(tallies.len(), self.tallying.series_count);
        assert!(tallies.len() <= SERIES_MAX);
        let sum = tallies.into_iter().fold(self.tallying.others, Tally::plus);
        assert_eq!(sum, self.tallying.all);
    }

    /// What is counted beside the accounts.
    pub(in crate::pool) fn tallies(&self) -> Tallies {
        let Tallying {
            all,
            others,
            departed,
            series_count: _,
        } = &self.tallying;
        Tallies {
            all: *all,
            others: *others,
            departed: departed.values().cloned().collect(),
        }
    }
}
