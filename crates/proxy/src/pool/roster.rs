//! The accounts of the book by name, and the list that makes them.

use super::{
    Account, AccountKey, AccountView, Constraint, Duration, Excluded, Pool, Rng, Snapshot,
    Standing, UnknownAccount,
};

impl Pool {
    /// Finds an account by its e-mail: exactly, else ignoring ASCII case if exactly one matches.
    ///
    /// # Errors
    /// [`UnknownAccount`] if none or several match.
    pub fn find(&self, email: &str) -> Result<AccountKey, UnknownAccount> {
        match self.alike(email) {
            &[key] => Ok(key),
            _ => Err(UnknownAccount),
        }
    }

    /// Turns e-mails into a constraint. Excluded e-mails that are not in the book exclude nothing.
    ///
    /// # Errors
    /// [`UnknownAccount`] if `only` is not in the current list.
    pub fn constraint(
        &self,
        only: Option<&str>,
        exclude: &[String],
    ) -> Result<Constraint, UnknownAccount> {
        match only {
            Some(email) => {
                let key = self.find(email)?;
                if self.accounts[key].is_listed {
                    Ok(Constraint::Only(key))
                } else {
                    Err(UnknownAccount)
                }
            }
            None => {
                let excluded = Excluded::new(exclude, |email| self.alike(email));
                Ok(Constraint::AnyBut(excluded))
            }
        }
    }

    /// Makes `snapshot` the list. Leases stay: an account that left drains, a lowered cap
    /// preempts nobody, a raised one serves waiters in order.
    pub fn apply(&mut self, snapshot: &Snapshot, now: Duration, rng: &mut impl Rng) {
        self.has_list = true;
        self.list_no += 1;
        let before = std::mem::take(&mut self.order);
        for listed in &snapshot.accounts {
            let key = self.upsert(listed);
            self.order.push(key);
        }
        for key in before {
            if self.accounts[key].list_no == self.list_no {
                continue;
            }
            let before = self.accounts[key].state();
            self.change(key, |account| account.is_listed = false);
            self.note_turn(key, before);
            if self.is_gone(key) {
                self.forget(key);
            } else {
                self.order.push(key);
            }
        }
        self.admit_strangers(now);
        let mut waiters = std::mem::take(&mut self.waiters);
        waiters.resolve(|email| self.alike(email));
        self.waiters = waiters;
        self.hand_over_all(now, rng);
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
        let key = self.find(email)?;
        if !is_draining {
            self.restand(key, Standing::clear);
        }
        let before = self.accounts[key].state();
        self.change(key, |account| account.is_draining = is_draining);
        self.note_turn(key, before);
        self.hand_over(key, now);
        let view = self.accounts[key].view();
        self.forget_if_gone(key);
        Ok(view)
    }

    /// The accounts `email` may mean: the one of exactly this spelling, else all that differ only in
    /// ASCII case.
    fn alike(&self, email: &str) -> &[AccountKey] {
        let alike = self
            .by_name
            .get(&email.to_ascii_lowercase())
            .map_or(&[][..], Vec::as_slice);
        let exact = alike
            .iter()
            .position(|key| &*self.accounts[*key].listed.email == email);
        exact.map_or(alike, |place| &alike[place..=place])
    }

    /// Adds an account, or updates the one of the same identity, however it was spelled before.
    fn upsert(&mut self, listed: &accounts_fetcher::Account) -> AccountKey {
        if let Some(&key) = self.by_identity.get(&listed.identity) {
            if self.accounts[key].listed.email != listed.email {
                self.forget_name(key);
                self.learn_name(key, &listed.email);
            }
            let account = &mut self.accounts[key];
            account.list_no = self.list_no;
            if !account.is_listed || account.listed != *listed {
                self.restand(key, Standing::mend);
                let before = self.accounts[key].state();
                self.change(key, |account| {
                    if account.listed.max_jobs != listed.max_jobs {
                        account.lowered_cap = None;
                    }
                    if !account.is_listed {
                        account.rejoins(listed.max_jobs);
                    }
                    account.listed = listed.clone();
                    account.is_listed = true;
                });
                self.note_turn(key, before);
            }
            return key;
        }
        let mut account = Account::new(listed.clone(), self.list_no);
        if self.has_round {
            account.rejoins(listed.max_jobs);
        }
        self.usable_count += usize::from(account.is_usable());
        let is_eligible = account.is_eligible();
        let key = self.accounts.insert(account);
        self.by_identity.insert(listed.identity.clone(), key);
        self.learn_name(key, &listed.email);
        self.free.set(key, is_eligible);
        key
    }

    fn learn_name(&mut self, key: AccountKey, email: &str) {
        self.by_name
            .entry(email.to_ascii_lowercase())
            .or_default()
            .push(key);
    }

    fn forget_name(&mut self, key: AccountKey) {
        let name = self.accounts[key].listed.email.to_ascii_lowercase();
        if let Some(alike) = self.by_name.get_mut(&name) {
            alike.retain(|other| *other != key);
            if alike.is_empty() {
                self.by_name.remove(&name);
            }
        }
    }

    /// Nobody would miss the account: it holds nothing, and nobody waits for it.
    fn is_gone(&self, key: AccountKey) -> bool {
        self.accounts.get(key).is_some_and(Account::is_forgettable) && !self.waiters.is_awaited(key)
    }

    pub(super) fn forget_if_gone(&mut self, key: AccountKey) {
        if self.is_gone(key) {
            self.order.retain(|other| *other != key);
            self.forget(key);
        }
    }

    fn forget(&mut self, key: AccountKey) {
        self.forget_name(key);
        if let Some(account) = self.accounts.remove(key) {
            self.turns.retain(|(_, other)| *other != key);
            self.by_identity.remove(&account.listed.identity);
        }
    }
}
