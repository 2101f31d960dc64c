//! The accounts, and every index of them.
//!
//! Invariant: an account changes only in here, so that `free`, `cooling`, `unverified`, the counts
//! and the health deadlines always agree with it. Accounts that a change opened or made idle are
//! remembered until the rules have looked at them.

#[cfg(any(test, feature = "fuzzing"))]
mod check;
mod drift;
mod key_index;
mod names;
mod recorded;
mod states;
mod tallies;

use std::{
    cmp::Ordering,
    collections::{BTreeSet, VecDeque},
    mem,
    sync::Arc,
    time::Duration,
};

use rand::Rng;
use slotmap::SlotMap;

use super::{
    AccountKey, LeaseId,
    account::{Account, AccountState, Rank},
    ask::{Constraint, Wish},
    changes::Changes,
    deadlines::{Deadlines, Nanos},
    free::FreeAccounts,
    health::AccountHealth,
    outbox::Outbox,
    page::AccountPlace,
    sorted::Sorted,
    steps::Counted,
};
use key_index::KeyIndex;
use recorded::Recorded;
use tallies::Tallying;
pub use tallies::{Departed, SERIES_MAX, Tallies};

#[derive(Debug, Default)]
pub(super) struct Accounts {
    slots: SlotMap<AccountKey, Account>,
    /// By rank, as all orders here.
    order: Sorted<AccountKey>,
    removed_count: u64,
    /// By what its e-mail is [`alike`](accounts_fetcher::alike): so one of any spelling is found, and those that differ
    /// only in case.
    by_name: KeyIndex,
    /// By the alias. Two e-mails may have the same one: then it names no account.
    by_alias: KeyIndex,
    free: FreeAccounts,
    listed_count: usize,
    /// Accounts that could be picked if slots were free, in list order.
    usable: Sorted<AccountKey>,
    usable_count: usize,
    in_flight: u64,
    /// Accounts that cannot be picked only because they cool, by when they are ready.
    cooling: Deadlines<AccountKey>,
    /// Accounts that are full only because of uncertain slots.
    unverified: BTreeSet<AccountKey>,
    /// When the health of accounts changes by itself.
    health_deadlines: Deadlines<AccountKey>,
    /// Accounts that may have a slot for a waiter now.
    opened: Vec<AccountKey>,
    /// Accounts that may be forgotten now.
    idle: Vec<AccountKey>,
    /// Folded e-mails that mean other accounts now, until the rules have followed them.
    renamed: Vec<Arc<str>>,
    /// Accounts that joined the list since the newest round, unless most did.
    joined: Vec<AccountKey>,
    have_most_joined: bool,
    /// Accounts whose slots changed since the newest round, each once.
    moved: VecDeque<AccountKey>,
    /// Accounts whose state may be another than was shown.
    restated: Vec<AccountKey>,
    tallying: Tallying,
    /// Accounts on which the newest round shows another number of jobs without ids.
    unnamed_changed: Vec<AccountKey>,
    /// Accounts of which more or less is known beyond the list, by their e-mails.
    pub(super) changes: Changes<Arc<str>>,
}

/// What the indexes say about an account.
#[derive(PartialEq)]
struct Indexed {
    is_usable: bool,
    is_eligible: bool,
    in_flight: u32,
    cooling_until: Option<Duration>,
    is_unverified: bool,
    health_deadline: Option<Duration>,
}

impl Indexed {
    /// Its slots in use, if it can be picked.
    fn level(&self) -> Option<u32> {
        self.is_eligible.then_some(self.in_flight)
    }

    fn of(account: &Account) -> Self {
        Self {
            is_usable: account.is_usable(),
            is_eligible: account.is_eligible(),
            in_flight: account.in_flight(),
            cooling_until: account.only_cooling_until(),
            is_unverified: account.is_unverified(),
            health_deadline: account.health().next_deadline(),
        }
    }
}

/// The order of accounts.
fn by_rank(slots: &SlotMap<AccountKey, Account>) -> impl Fn(&AccountKey, &AccountKey) -> Ordering {
    |one, other| (slots[*one].rank, one).cmp(&(slots[*other].rank, other))
}

impl Accounts {
    /// So many accounts are about to join: there is room for them, and none beyond.
    pub(super) fn reserve(&mut self, count: usize) {
        self.slots.reserve(count);
        self.free.reserve(count);
    }

    pub(super) fn get(&self, key: AccountKey) -> Option<&Account> {
        self.slots.get(key)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The accounts behind a place: those of the list in its order, then those that left it.
    pub(super) fn after(&self, place: Option<&AccountPlace>) -> impl Iterator<Item = AccountKey> {
        let begin = place.map(|place| {
            // The account may have another place by now. If it has left the list, the others are still to come.
            let known = self.find(place.name()).map(|key| self.slots[key].rank);
            let rank = known.filter(|rank| rank.is_listed() == place.rank.is_listed());
            rank.unwrap_or(place.rank)
        });
        let is_before = move |key: &_| begin.is_some_and(|begin| self.slots[*key].rank <= begin);
        self.order.behind(is_before).counted().copied()
    }

    /// Changes an account, and every index with it.
    pub(super) fn update<T>(
        &mut self,
        key: AccountKey,
        outbox: &mut Outbox,
        change: impl FnOnce(&mut Account) -> T,
    ) -> T {
        let account = &mut self.slots[key];
        let before = Indexed::of(account);
        let was = account.state();
        let was_drained = account.is_drained();
        let recorded = self.changes.are_recorded().then(|| Recorded::of(account));
        let changed = change(account);
        if let Some(recorded) = recorded {
            recorded.note_change(account, &mut self.changes);
        }
        let after = Indexed::of(account);
        let is = account.state();
        if was != is {
            self.restated.push(key);
            let (from, to) = (was.without_slots(), is.without_slots());
            if from != to {
                outbox.note_state_change(account.state_change(from, to));
            }
        }
        if account.is_drained() && !was_drained {
            outbox.note_drained(key);
        }
        if account.is_forgettable() {
            self.idle.push(key);
        }
        if before != after {
            self.reindex(key, &before, &after);
        }
        changed
    }

    fn reindex(&mut self, key: AccountKey, before: &Indexed, after: &Indexed) {
        if before.in_flight != after.in_flight {
            self.in_flight -= u64::from(before.in_flight);
            self.in_flight += u64::from(after.in_flight);
            self.note_moved(key);
        }
        if before.is_usable != after.is_usable {
            if after.is_usable {
                self.usable.insert_by(key, by_rank(&self.slots));
                self.usable_count += 1;
            } else {
                self.usable.remove_by(&key, by_rank(&self.slots));
                self.usable_count -= 1;
            }
        }
        self.free.change(key, before.level(), after.level());
        let is_opened = !before.is_eligible || after.in_flight < before.in_flight;
        if after.is_eligible && is_opened {
            self.opened.push(key);
        }
        self.cooling
            .change(&key, before.cooling_until, after.cooling_until);
        self.health_deadlines
            .change(&key, before.health_deadline, after.health_deadline);
        if before.is_unverified && !after.is_unverified {
            self.unverified.remove(&key);
        } else if after.is_unverified && !before.is_unverified {
            self.unverified.insert(key);
        }
    }

    /// Takes a slot of an account that is eligible, for the lease `lease`.
    ///
    /// Every grant takes this path, so it touches only what a grant can change.
    pub(super) fn take_slot(&mut self, key: AccountKey, lease: LeaseId, now: Duration) -> &Account {
        let account = &mut self.slots[key];
        let before = account.in_flight();
        account.held += 1;
        if account.note_grant(lease) {
            self.changes.note(|| Arc::clone(&account.listed.email));
        }
        let after = account.is_eligible().then_some(before + 1);
        if after.is_none() || account.shown != Some(AccountState::Available) {
            account.restate(now);
        }
        self.in_flight += 1;
        self.free.change(key, Some(before), after);
        self.note_moved(key);
        &self.slots[key]
    }

    /// Gives back the slot of a lease that has ended.
    ///
    /// Every end takes this path, so for a healthy account it touches only what an end can change.
    pub(super) fn give_back_slot(
        &mut self,
        key: AccountKey,
        lease: LeaseId,
        is_uncertain: bool,
        outbox: &mut Outbox,
    ) {
        let account = &mut self.slots[key];
        let is_plain =
            account.uncertain == 0 && account.is_usable() && account.health().is_healthy();
        if !is_plain {
            self.update(key, outbox, |account| {
                account.give_back(lease, is_uncertain)
            });
            return;
        }
        let level = |account: &Account| account.has_free_slot().then(|| account.in_flight());
        let before = level(account);
        account.held -= 1;
        let after = level(account);
        self.in_flight -= 1;
        self.free.change(key, before, after);
        if after.is_some() {
            self.opened.push(key);
        }
        if before.is_none() {
            self.restated.push(key);
        }
        self.note_moved(key);
    }

    /// Adds an account to the list.
    pub(super) fn insert(&mut self, mut account: Account) -> AccountKey {
        self.tallying.join(&mut account);
        let indexed = Indexed::of(&account);
        self.listed_count += 1;
        let key = self.slots.insert(account);
        self.restated.push(key);
        if indexed.is_usable {
            self.usable.insert_by(key, by_rank(&self.slots));
            self.usable_count += 1;
        }
        self.order.insert_by(key, by_rank(&self.slots));
        self.add_name(key);
        self.free.change(key, None, indexed.level());
        if indexed.is_eligible {
            self.opened.push(key);
        }
        key
    }

    /// Gives an account another place in the list.
    pub(super) fn set_rank(&mut self, key: AccountKey, rank: u64) {
        let old = self.move_to(key, Rank::listed(rank));
        self.listed_count += usize::from(!old.is_listed());
    }

    /// Moves an account that left the list behind all others.
    pub(super) fn set_removed(&mut self, key: AccountKey) {
        let rank = Rank::removed(self.removed_count);
        self.removed_count += 1;
        let old = self.move_to(key, rank);
        self.listed_count -= usize::from(old.is_listed());
    }

    /// Gives an account another place in the order. Returns the old one.
    fn move_to(&mut self, key: AccountKey, rank: Rank) -> Rank {
        let old = self.slots[key].rank;
        if old == rank {
            return old;
        }
        self.order.remove_by(&key, by_rank(&self.slots));
        let is_usable = self.usable.remove_by(&key, by_rank(&self.slots));
        self.slots[key].rank = rank;
        self.order.insert_by(key, by_rank(&self.slots));
        if is_usable {
            self.usable.insert_by(key, by_rank(&self.slots));
        }
        old
    }

    pub(super) fn is_free(&self, key: AccountKey) -> bool {
        self.free.list().contains(key)
    }

    pub(super) fn has_free(&self) -> bool {
        !self.free.list().is_empty()
    }

    pub(super) fn has_listed(&self) -> bool {
        self.listed_count > 0
    }

    pub(super) fn has_usable(&self) -> bool {
        !self.usable.is_empty()
    }

    /// Slots in use on all accounts.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// How many usable accounts a caller with `constraint` accepts.
    pub(super) fn count_usable(&self, constraint: &Constraint) -> usize {
        let is_usable = |key: &AccountKey| self.get(*key).is_some_and(Account::is_usable);
        match constraint {
            Constraint::Only(key) => usize::from(is_usable(key)),
            Constraint::AnyBut(excluded) => {
                self.usable_count - excluded.keys().counted().filter(is_usable).count()
            }
        }
    }

    /// When the first account that cannot be picked only because it cools is ready for a caller
    /// with `constraint`.
    pub(super) fn first_cooled(&self, constraint: &Constraint) -> Option<Duration> {
        if let Constraint::Only(key) = constraint {
            return self.get(*key)?.only_cooling_until();
        }
        let mut cooling = self.cooling.iter();
        let (until, _) = cooling.find(|(_, key)| constraint.allows(**key))?;
        Some(until)
    }

    /// Whether a caller with `constraint` could be served if the uncertain slots were free.
    pub(super) fn is_unverified(&self, constraint: &Constraint) -> bool {
        if let Constraint::Only(key) = constraint {
            return self.get(*key).is_some_and(Account::is_unverified);
        }
        let mut unverified = self.unverified.iter().counted();
        unverified.any(|key| constraint.allows(*key))
    }

    /// Draws an account uniformly among the eligible ones that the caller accepts.
    pub(super) fn draw(&self, wish: Wish<'_>, rng: &mut impl Rng) -> Option<AccountKey> {
        let excluded = match wish.constraint {
            Constraint::Only(key) => {
                return (self.is_free(*key) && self.fits(wish, *key)).then_some(*key);
            }
            Constraint::AnyBut(excluded) => excluded,
        };
        if wish.max_jobs.is_none() && excluded.is_empty() {
            return self.free.list().draw(rng);
        }
        let below = match wish.max_jobs {
            None => self.free.list().len(),
            Some(max_jobs) => self.free.count_below(max_jobs.get()),
        };
        let wanted_count = below
            - excluded
                .keys()
                .counted()
                .filter(|key| self.is_free(*key) && self.fits(wish, *key))
                .count();
        if wanted_count == 0 {
            return None;
        }
        let is_wanted = |key| !excluded.contains(key) && self.fits(wish, key);
        self.free.list().draw_where(wanted_count, is_wanted, rng)
    }

    /// Whether an account has few enough slots in use for the caller's own cap.
    pub(super) fn fits(&self, wish: Wish<'_>, key: AccountKey) -> bool {
        wish.fits(self.slots[key].in_flight())
    }

    /// The first account of the list that could be picked if slots were free.
    pub(super) fn first_usable(&self) -> Option<AccountKey> {
        self.usable.first().copied()
    }

    /// When the health of an account changes by itself next.
    pub(super) fn next_deadline(&self) -> Nanos {
        self.health_deadlines.next()
    }

    /// Ends coolings and ejections whose time is over.
    pub(super) fn expire(&mut self, now: Duration, outbox: &mut Outbox) {
        while let Some((_, key)) = self.health_deadlines.first_due(now) {
            self.update(key, outbox, |account| {
                account.change_health(|health| health.expire(now))
            });
        }
    }

    /// The accounts that may have got a slot for a waiter since the last call, each once.
    pub(super) fn take_opened(&mut self) -> Vec<AccountKey> {
        mem::take(&mut self.opened)
    }

    /// An account may have a slot for a waiter now, for a reason that is not its own.
    pub(super) fn note_opened(&mut self, key: AccountKey) {
        self.opened.push(key);
    }

    /// There are no waiters: a newcomer may take what opened.
    pub(super) fn clear_opened(&mut self) {
        self.opened.clear();
    }

    /// An account joined the list: the next round's cap is to be compared with the list's.
    pub(super) fn note_joined(&mut self, key: AccountKey) {
        // Then to look at all is as much work, and takes no memory until that round.
        self.have_most_joined |= self.joined.len() > self.slots.len() / 2;
        if self.have_most_joined {
            self.joined = Vec::new();
        } else {
            self.joined.push(key);
        }
    }

    /// The accounts that joined the list since the last call, and perhaps others: to compare theirs again changes
    /// nothing. An account may come several times, or be forgotten.
    pub(super) fn take_joined(&mut self) -> Vec<AccountKey> {
        let joined = mem::take(&mut self.joined);
        if mem::take(&mut self.have_most_joined) {
            self.order.iter().copied().collect()
        } else {
            joined
        }
    }

    /// The account may be forgotten now, for a reason that is not its own.
    pub(super) fn note_idle(&mut self, key: AccountKey) {
        self.idle.push(key);
    }

    /// The next account that may be forgotten.
    pub(super) fn next_idle(&mut self) -> Option<AccountKey> {
        self.idle.pop()
    }

    /// All leases are there again after a restart, as `is_held` tells.
    pub(super) fn end_restore(&mut self, outbox: &mut Outbox, is_held: impl Fn(LeaseId) -> bool) {
        let probed = self.slots.iter().filter_map(|(key, account)| {
            let lease = account.health().probing()?;
            (!is_held(lease)).then_some(key)
        });
        for key in probed.collect::<Vec<_>>() {
            self.update(key, outbox, |account| {
                account.change_health(AccountHealth::restart_probation)
            });
        }
    }

    /// Removes an account that is forgettable.
    pub(super) fn forget(&mut self, key: AccountKey) {
        self.forget_name(key);
        self.order.remove_by(&key, by_rank(&self.slots));
        let Some(account) = self.slots.remove(key) else {
            return;
        };
        self.changes.note(|| Arc::clone(&account.listed.email));
        self.tallying.leave(&account);
        self.listed_count -= usize::from(account.rank.is_listed());
        let indexed = Indexed::of(&account);
        self.cooling.change(&key, indexed.cooling_until, None);
        self.health_deadlines
            .change(&key, indexed.health_deadline, None);
    }
}

impl std::ops::Index<AccountKey> for Accounts {
    type Output = Account;

    fn index(&self, key: AccountKey) -> &Account {
        &self.slots[key]
    }
}
