//! The accounts of the book by name, and the list that makes them.

use std::{sync::Arc, time::Duration};

use accounts_fetcher::Snapshot;
use rand::Rng;

use super::{
    AccountKey, AccountView, Constraint, Excluded, List, ListChange, Name, Pool, UnknownAccount,
    account::{Account, Rank},
    list::Entry,
};

impl Pool {
    /// Turns e-mails into a constraint. Excluded e-mails that are not in the book exclude nothing.
    ///
    /// # Errors
    /// [`UnknownAccount`] if `only` is not in the current list.
    pub fn constraint(
        &self,
        only: Option<&str>,
        exclude: &[String],
    ) -> Result<Constraint, UnknownAccount> {
        self.constraint_named(only.map(Name::new).as_ref(), &Name::sorted(exclude))
    }

    /// Turns names into a constraint. `exclude` must be sorted. Excluded names that are not in the book
    /// exclude nothing.
    ///
    /// # Errors
    /// [`UnknownAccount`] if `only` is not in the current list.
    pub fn constraint_named(
        &self,
        only: Option<&Name>,
        exclude: &Arc<[Name]>,
    ) -> Result<Constraint, UnknownAccount> {
        match only {
            Some(name) => match self.accounts.find(name) {
                Some(key) if self.accounts[key].is_listed => Ok(Constraint::Only(key)),
                Some(_) | None => Err(UnknownAccount),
            },
            None => {
                let excluded = Excluded::new(exclude, |name| self.accounts.alike(name));
                Ok(Constraint::AnyBut(excluded))
            }
        }
    }

    /// The account list in force.
    pub fn list(&self) -> Option<Arc<List>> {
        self.list.clone()
    }

    /// Makes `snapshot` the list.
    pub fn apply(&mut self, snapshot: &Snapshot, now: Duration, rng: &mut impl Rng) {
        let change = ListChange::between(self.list(), snapshot);
        self.follow(change, now, rng);
    }

    /// Takes over a new list. Leases stay: an account that left drains, a lowered cap preempts nobody, a
    /// raised one serves waiters in order. False if it was compared with a list that is no longer in
    /// force: nothing changes then.
    pub fn follow(&mut self, change: ListChange, now: Duration, rng: &mut impl Rng) -> bool {
        let ListChange {
            base,
            list,
            changed,
            left,
        } = change;
        if self.list.as_ref().map(Arc::as_ptr) != base.as_ref().map(Arc::as_ptr) {
            return false;
        }
        self.list = Some(list);
        let mut has_new_names = false;
        for entry in changed {
            super::steps::step();
            has_new_names |= self.upsert(entry, now);
        }
        for identity in left {
            super::steps::step();
            if let Some(key) = self.accounts.of_identity(&identity) {
                self.accounts.set_removed(key);
                self.accounts
                    .update(key, &mut self.outbox, |account| account.is_listed = false);
            }
        }
        if has_new_names {
            self.waiters.resolve(|name| self.accounts.alike(name));
        }
        self.finish_drawn(now, rng);
        true
    }

    /// Switches an account off for new picks, or on again: then it is not cooling, quarantined or parked
    /// any more either.
    ///
    /// # Errors
    /// [`UnknownAccount`] if it is not in the book.
    pub fn set_draining(
        &mut self,
        email: &str,
        is_draining: bool,
        now: Duration,
    ) -> Result<AccountView, UnknownAccount> {
        self.set_draining_named(&Name::new(email), is_draining, now)
    }

    /// The same for the account of this name.
    ///
    /// # Errors
    /// [`UnknownAccount`] if it is not in the book.
    pub fn set_draining_named(
        &mut self,
        name: &Name,
        is_draining: bool,
        now: Duration,
    ) -> Result<AccountView, UnknownAccount> {
        let key = self.accounts.find(name).ok_or(UnknownAccount)?;
        self.accounts.update(key, &mut self.outbox, |account| {
            if !is_draining {
                account.standing.clear();
            }
            account.is_draining = is_draining;
        });
        let view = self.accounts[key].view();
        self.finish(now);
        let now_shown = self.accounts.get(key).map(Account::view);
        Ok(now_shown.unwrap_or(view))
    }

    /// Adds an account, or updates the one of the same identity, however it was spelled before. True if it
    /// has a new name.
    fn upsert(&mut self, entry: Entry, now: Duration) -> bool {
        let Entry {
            account: listed,
            folded,
            rank,
        } = entry;
        let Some(key) = self.accounts.of_identity(&listed.identity) else {
            let listed = (*listed).clone();
            let account = Account::new(listed, folded, Rank::Listed(rank));
            let key = self.accounts.insert(account);
            self.join(key, now);
            return true;
        };
        self.accounts.set_rank(key, rank);
        let known = &self.accounts[key];
        let has_new_name = known.listed.email != listed.email;
        if known.is_listed && known.listed == *listed {
            return false;
        }
        let rejoins = !known.is_listed;
        self.accounts.rename(key, &folded);
        self.accounts.update(key, &mut self.outbox, |account| {
            account.standing.mend();
            if account.listed.max_jobs != listed.max_jobs {
                account.lowered_cap = None;
            }
            account.listed = (*listed).clone();
            account.is_listed = true;
        });
        if rejoins {
            self.join(key, now);
        }
        has_new_name || rejoins
    }

    /// An account joins the list: whatever differs from its cap is news to rounds, and the jobs that were
    /// seen on it count.
    fn join(&mut self, key: AccountKey, now: Duration) {
        if self.listing.is_some() {
            self.accounts
                .update(key, &mut self.outbox, Account::reset_cap);
            self.accounts.note_joined(key);
        }
        let folded = Arc::clone(&self.accounts[key].folded);
        for (job, email) in self.foreign_jobs.take_elsewhere(&folded) {
            match self.accounts.find(&email) {
                Some(key) => {
                    if job.is_listed {
                        self.accounts.count_listed(key, true);
                    }
                    self.add_foreign(job.named(), key, now);
                }
                None => self.foreign_jobs.add_elsewhere(job, email, now),
            }
        }
    }
}
