//! The accounts by name, and the account list that makes them.

use std::{collections::BTreeMap, iter, sync::Arc, time::Duration, vec};

use accounts_fetcher::{Identity, Snapshot};
use rand::Rng;

use super::{
    AccountKey, AccountView, Constraint, Excluded, List, ListChange, Name, Pool, TaskId,
    UnknownAccount,
    account::{Account, Rank},
    health::AccountHealth,
    lease::Listed,
    list::{ListEntry, ListStep},
    steps::{self, Counted},
};

/// A list that takes the place of another one.
#[derive(Debug)]
pub(super) struct Incoming {
    list: Arc<List>,
    steps: vec::IntoIter<ListStep>,
    is_ranked_anew: bool,
    /// It differs from the list before.
    is_new: bool,
}

impl Incoming {
    /// Whether entries are still to come that allow more.
    fn widens(&self) -> bool {
        matches!(self.steps.as_slice().last(), Some(ListStep::Widens { .. }))
    }
}

impl Pool {
    /// Turns e-mails into a constraint. Excluded e-mails of unknown accounts exclude nothing.
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

    /// Turns names into a constraint. `exclude` must be sorted. Excluded names of unknown accounts
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
                Some(key) if self.accounts[key].is_in_list => Ok(Constraint::Only(key)),
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

    /// Makes `snapshot` the list, in one step.
    pub fn apply(&mut self, snapshot: &Snapshot, now: Duration, rng: &mut impl Rng) {
        let change = ListChange::between(self.list(), snapshot);
        self.follow(change, now, rng);
    }

    /// Takes over a new list in one step, like [`Self::begin_list`] and [`Self::follow_list`].
    pub fn follow(&mut self, change: ListChange, now: Duration, rng: &mut impl Rng) -> bool {
        let is_begun = self.begin_list(change, now, rng);
        self.complete_list(now, rng);
        is_begun
    }

    /// Begins to take over a new list. False if the change was made against a list that is no longer in force:
    /// nothing changes then, except that a list which another call has begun is in force.
    pub fn begin_list(&mut self, change: ListChange, now: Duration, rng: &mut impl Rng) -> bool {
        self.complete_list(now, rng);
        let ListChange {
            base,
            list,
            steps,
            joins_count,
            is_ranked_anew,
        } = change;
        if self.list.as_ref().map(Arc::as_ptr) != base.as_ref().map(Arc::as_ptr) {
            return false;
        }
        self.accounts.reserve(joins_count);
        self.incoming = Some(Incoming {
            list,
            is_new: self.list.is_none() || !steps.is_empty(),
            steps: steps.into_iter(),
            is_ranked_anew,
        });
        true
    }

    /// Takes over at most `steps_max` entries of the list that has begun. Leases stay: an account that left drains, a
    /// lowered cap preempts no lease, a raised one serves waiters in order. False once the list is in force.
    ///
    /// Whatever is granted before that rests on an entry of the old list or of the new one, and after the first that
    /// only the new list allows none follows that only the old one allows.
    pub fn follow_list(&mut self, steps_max: usize, now: Duration, rng: &mut impl Rng) -> bool {
        let Some(mut incoming) = self.incoming.take() else {
            return false;
        };
        for step in incoming.steps.by_ref().take(steps_max).counted() {
            match step {
                ListStep::Narrows { to, .. } | ListStep::Widens { to, .. } => self.upsert(to),
                ListStep::Leaves(account) => self.leave_list(&account.identity()),
            }
        }
        let is_whole = incoming.steps.len() == 0;
        if is_whole {
            self.is_list_fresh = true;
            if incoming.is_new {
                self.list_changes.note(|| ());
            }
            self.list = Some(incoming.list);
        } else {
            self.incoming = Some(incoming);
        }
        self.finish_drawn(now, rng);
        !is_whole
    }

    /// Brings a list that has begun into force.
    fn complete_list(&mut self, now: Duration, rng: &mut impl Rng) {
        self.follow_list(usize::MAX, now, rng);
    }

    /// Has all accounts in one order, so that places in it can be compared: a list that ranks them anew is brought into
    /// force.
    pub fn settle_order(&mut self, now: Duration, rng: &mut impl Rng) {
        if self.incoming.as_ref().is_some_and(|it| it.is_ranked_anew) {
            self.complete_list(now, rng);
        }
    }

    /// Asks what a part of a list might deny though either whole list would not: an account that is free, or one of a
    /// name. If the answer is an error, and entries are still to come that allow more, the list is brought into force
    /// and asked again.
    ///
    /// # Errors
    /// What the whole list answers.
    pub fn ask_whole_list<T, E, R: Rng>(
        &mut self,
        now: Duration,
        rng: &mut R,
        mut question: impl FnMut(&mut Self, &mut R) -> Result<T, E>,
    ) -> Result<T, E> {
        let answer = question(self, rng);
        // Before the first list is whole, every answer is that it is not known yet.
        let widens = self.incoming.as_ref().is_some_and(Incoming::widens);
        if answer.is_ok() || !widens || self.list.is_none() {
            return answer;
        }
        self.complete_list(now, rng);
        question(self, rng)
    }

    /// Switches an account off for new picks, or on again. Switching it on also ends its cooling,
    /// quarantine or parking.
    ///
    /// # Errors
    /// [`UnknownAccount`] if there is no such account.
    pub fn set_draining_named(
        &mut self,
        name: &Name,
        is_draining: bool,
        now: Duration,
    ) -> Result<AccountView, UnknownAccount> {
        let key = self.accounts.find(name).ok_or(UnknownAccount)?;
        self.accounts.update(key, &mut self.outbox, |account| {
            if !is_draining {
                account.change_health(AccountHealth::clear);
            }
            account.is_draining = is_draining;
        });
        let view = self.account_view(key, now);
        self.finish(now);
        let is_forgotten = self.accounts.get(key).is_none();
        Ok(if is_forgotten {
            view
        } else {
            self.account_view(key, now)
        })
    }

    /// An account left the list: its running jobs finish.
    fn leave_list(&mut self, identity: &Identity) {
        if let Some(key) = self.accounts.of_identity(identity) {
            self.accounts.set_removed(key);
            self.accounts
                .update(key, &mut self.outbox, |account| account.is_in_list = false);
        }
    }

    /// Adds an account, or updates the one of the same identity, however it was spelled before.
    fn upsert(&mut self, entry: ListEntry) {
        let ListEntry {
            account: listed,
            rank,
        } = entry;
        let Some(key) = self.accounts.of_identity(&listed.identity()) else {
            let account = Account::new(listed, Rank::listed(rank));
            let key = self.accounts.insert(account);
            self.join(key);
            return;
        };
        self.accounts.set_rank(key, rank);
        let known = &self.accounts[key];
        if known.is_in_list && known.listed == listed {
            return;
        }
        let was_removed = !known.is_in_list;
        let is_respelled = known.listed.email != listed.email;
        if is_respelled {
            self.accounts.forget_name(key);
        }
        self.accounts.update(key, &mut self.outbox, |account| {
            account.change_health(AccountHealth::record_repair);
            account.is_cap_lowered &= account.listed.max_jobs == listed.max_jobs;
            account.listed = listed;
            account.is_in_list = true;
        });
        if is_respelled {
            self.accounts.add_name(key);
        }
        if was_removed {
            self.join(key);
        }
    }

    /// An account joins the list: rounds compare its cap with the list's.
    fn join(&mut self, key: AccountKey) {
        if self.running.is_some() || self.following.is_some() {
            self.accounts
                .update(key, &mut self.outbox, Account::reset_cap);
            self.accounts.note_joined(key);
        }
    }

    /// Follows names that mean other accounts now: looks up again which accounts waiters exclude,
    /// and on which account jobs count.
    pub(super) fn settle_names(&mut self) {
        if !self.accounts.has_renamed() {
            return;
        }
        for key in self.waiters.resolve(|name| self.accounts.alike(name)) {
            self.accounts.note_opened(key);
        }
        for folded in self.accounts.take_renamed() {
            self.follow_name(&folded);
        }
    }

    /// Counts the jobs that were seen on a name on the account that the name means now.
    fn follow_name(&mut self, folded: &str) {
        if let Some(running) = self.shown(folded).cloned() {
            let mut counts = BTreeMap::new();
            for (task_id, name) in running.of_name(folded) {
                steps::step();
                let account = self.accounts.find(name);
                if let Some(key) = account {
                    *counts.entry(key).or_default() += 1;
                }
                self.place_anew(task_id, name, account, running.sent_at);
            }
            self.accounts.recount_listed(folded, &counts);
            self.count_unnamed(&running, folded);
        }
        for (job, name, seen_at) in self.foreign_jobs.take_elsewhere(folded) {
            match self.accounts.find(&name) {
                Some(key) => self.add_foreign(job.named(), key, seen_at),
                None => self.foreign_jobs.add_elsewhere(job, name, seen_at),
            }
        }
    }

    /// A job that the newest round lists is on another account than it was, or on none.
    fn place_anew(
        &mut self,
        task_id: &TaskId,
        name: &Name,
        account: Option<AccountKey>,
        sent_at: Duration,
    ) {
        // The next round counts it, if it still lists it.
        if self.foreign_jobs.is_uncounted(task_id) {
            return;
        }
        if let Some(id) = self.leases.stand_in(task_id) {
            if self.leases.get(id).map(|lease| lease.account) == account {
                return;
            }
            self.leases.take_stood_for(task_id);
        }
        let job = (task_id.clone(), name.clone());
        for (task_id, key) in self.note_appeared(iter::once(job), sent_at) {
            let job = Listed::unclaimable(task_id);
            self.add_foreign(job, key, sent_at);
        }
    }
}
