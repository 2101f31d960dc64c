//! The callers that wait for a slot, in order of arrival.
//!
//! Invariant: every waiter of `queue` is in exactly one group: all its waiters ask for the same
//! accounts with the same cap of their own. So one look at each group finds the next waiter.

#[cfg(any(test, feature = "fuzzing"))]
mod check;
mod ranks;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    num::NonZeroU32,
    time::Duration,
};

use foldhash::fast::RandomState;
use slotmap::{SecondaryMap, SlotMap, new_key_type};

use super::{
    AccountKey, Ask, Constraint, LeaseId,
    ask::{Terms, Wish},
    name::Name,
    steps::{self, Counted},
};
use ranks::Ranks;

/// Names a waiter. A smaller id has waited longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WaiterId {
    number: u64,
    since: Duration,
}

impl WaiterId {
    /// Since when it waits: when it took its place.
    pub fn since(self) -> Duration {
        self.since
    }
}

new_key_type! {
    /// Names waiters that ask for the same.
    pub(super) struct GroupKey;
}

#[derive(Debug, Default)]
pub(super) struct Waiters {
    queue: BTreeMap<WaiterId, Waiter>,
    by_lease: HashMap<LeaseId, WaiterId, RandomState>,
    groups: SlotMap<GroupKey, Group>,
    /// Groups that accept all but some accounts.
    open: BTreeMap<(Constraint, Option<NonZeroU32>), GroupKey>,
    /// Groups that accept one account only.
    pinned: SecondaryMap<AccountKey, BTreeMap<Option<NonZeroU32>, GroupKey>>,
    ranks: Ranks,
    arrived_count: u64,
}

/// One waiter: the lease that it will have.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) terms: Terms,
    /// Until when it waits at most, as it said.
    pub(super) deadline: Duration,
    group: GroupKey,
}

/// Waiters that ask for the same.
#[derive(Debug)]
struct Group {
    constraint: Constraint,
    max_jobs: Option<NonZeroU32>,
    waiters: BTreeSet<WaiterId>,
}

impl Group {
    fn wish(&self) -> Wish<'_> {
        Wish {
            constraint: &self.constraint,
            max_jobs: self.max_jobs,
        }
    }
}

impl Waiters {
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Since when the first of them waits.
    pub(super) fn oldest_since(&self) -> Option<Duration> {
        let (first, _) = self.queue.first_key_value()?;
        Some(first.since)
    }

    pub(super) fn is_awaited(&self, account: AccountKey) -> bool {
        self.pinned.contains_key(account)
    }

    /// The waiter that will have the lease `lease`.
    pub(super) fn of_lease(&self, lease: LeaseId) -> Option<WaiterId> {
        self.by_lease.get(&lease).copied()
    }

    /// The place behind all others.
    pub(super) fn next_place(&mut self, now: Duration) -> WaiterId {
        let id = WaiterId {
            number: self.arrived_count,
            since: now,
        };
        self.arrived_count += 1;
        id
    }

    /// Adds a waiter, at its place if it has one.
    pub(super) fn push(&mut self, ask: Ask, now: Duration) -> WaiterId {
        let place = ask.place.filter(|id| !self.queue.contains_key(id));
        let id = place.unwrap_or_else(|| self.next_place(now));
        let terms = ask.terms();
        self.by_lease.insert(terms.lease_id, id);
        let group = self.group(ask.constraint, ask.max_jobs);
        let waiter = Waiter {
            terms,
            deadline: now.saturating_add(ask.wait),
            group,
        };
        self.groups[waiter.group].waiters.insert(id);
        self.queue.insert(id, waiter);
        self.ranks.add(id.number);
        id
    }

    /// Takes a waiter out of the queue. Returns it, with the only account that it accepts, if it
    /// named one.
    pub(super) fn remove(&mut self, id: WaiterId) -> Option<(Waiter, Option<AccountKey>)> {
        let waiter = self.queue.remove(&id)?;
        self.by_lease.remove(&waiter.terms.lease_id);
        self.ranks.remove(id.number);
        let group = &mut self.groups[waiter.group];
        group.waiters.remove(&id);
        let pinned_to = match &group.constraint {
            Constraint::Only(account) => Some(*account),
            Constraint::AnyBut(_) => None,
        };
        if group.waiters.is_empty() {
            self.dissolve(waiter.group);
        }
        Some((waiter, pinned_to))
    }

    /// The longest-waiting waiter that may take a slot of `account`, which has so many in use.
    pub(super) fn first_for(&self, account: AccountKey, in_flight: u32) -> Option<WaiterId> {
        let pinned = self.pinned.get(account).into_iter();
        let pinned = pinned.flat_map(BTreeMap::values);
        let groups = pinned.chain(self.open.values()).counted();
        let fitting = groups.filter_map(|key| {
            let group = &self.groups[*key];
            let wish = group.wish();
            let is_fitting = wish.constraint.allows(account) && wish.fits(in_flight);
            is_fitting.then(|| group.waiters.first().copied())?
        });
        fitting.min()
    }

    /// The first waiter of each group that accepts some of these accounts, with what that asks for.
    pub(super) fn firsts(
        &self,
        accounts: impl Iterator<Item = AccountKey>,
    ) -> BTreeMap<WaiterId, GroupKey> {
        let pinned = accounts.filter_map(|account| self.pinned.get(account));
        let pinned = pinned.flat_map(BTreeMap::values);
        let groups = pinned.chain(self.open.values()).counted();
        let firsts = groups.filter_map(|key| Some((self.first_of(*key)?, *key)));
        firsts.collect()
    }

    /// What the waiters of a group ask for.
    pub(super) fn wish(&self, group: GroupKey) -> Option<Wish<'_>> {
        self.groups.get(group).map(Group::wish)
    }

    /// The longest-waiting waiter of a group.
    pub(super) fn first_of(&self, group: GroupKey) -> Option<WaiterId> {
        self.groups.get(group)?.waiters.first().copied()
    }

    /// Looks up again which accounts the waiters exclude. Returns those that some waiter no longer
    /// excludes.
    pub(super) fn resolve(&mut self, alike: impl Fn(&Name) -> Vec<AccountKey>) -> Vec<AccountKey> {
        let mut opened = Vec::new();
        for group in self.groups.values_mut() {
            steps::step();
            if let Constraint::AnyBut(excluded) = &mut group.constraint {
                opened.extend(excluded.resolve(&alike));
            }
        }
        opened
    }

    /// The waiters in order, each with the only account that it accepts, if it named one.
    pub(super) fn in_order(&self) -> impl Iterator<Item = (WaiterId, &Waiter, Option<AccountKey>)> {
        self.queue.iter().counted().map(|(id, waiter)| {
            let only = match &self.groups[waiter.group].constraint {
                Constraint::Only(account) => Some(*account),
                Constraint::AnyBut(_) => None,
            };
            (*id, waiter, only)
        })
    }

    /// The accounts that a waiter accepts, and how many have waited longer.
    pub(super) fn place(&self, id: WaiterId) -> Option<(&Constraint, usize)> {
        let waiter = self.queue.get(&id)?;
        let constraint = &self.groups[waiter.group].constraint;
        Some((constraint, self.ahead_of(Some(id))))
    }

    /// How many wait before a place, or before the end of the queue.
    pub(super) fn ahead_of(&self, place: Option<WaiterId>) -> usize {
        place.map_or(self.len(), |id| self.ranks.count_before(id.number))
    }

    fn group(&mut self, constraint: Constraint, max_jobs: Option<NonZeroU32>) -> GroupKey {
        let known = match &constraint {
            Constraint::Only(account) => {
                let of_account = self.pinned.get(*account);
                of_account.and_then(|groups| groups.get(&max_jobs)).copied()
            }
            Constraint::AnyBut(_) => self.open.get(&(constraint.clone(), max_jobs)).copied(),
        };
        if let Some(known) = known {
            return known;
        }
        let key = self.groups.insert(Group {
            constraint: constraint.clone(),
            max_jobs,
            waiters: BTreeSet::new(),
        });
        match constraint {
            Constraint::Only(account) => {
                if let Some(entry) = self.pinned.entry(account) {
                    entry.or_default().insert(max_jobs, key);
                }
            }
            Constraint::AnyBut(_) => {
                self.open.insert((constraint, max_jobs), key);
            }
        }
        key
    }

    fn dissolve(&mut self, key: GroupKey) {
        let Some(group) = self.groups.remove(key) else {
            return;
        };
        match group.constraint {
            Constraint::Only(account) => {
                if let Some(of_account) = self.pinned.get_mut(account) {
                    of_account.remove(&group.max_jobs);
                    if of_account.is_empty() {
                        self.pinned.remove(account);
                    }
                }
            }
            Constraint::AnyBut(_) => {
                self.open.remove(&(group.constraint, group.max_jobs));
            }
        }
    }
}
