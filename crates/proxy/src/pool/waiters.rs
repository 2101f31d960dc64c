//! Who waits for a slot, in order of arrival.
//!
//! Invariant: every waiter of `queue` stands in exactly one of the two indexes: under the account
//! it insists on, or among those that take any account but the ones they exclude.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use slotmap::SecondaryMap;

use super::{AccountKey, Ask, Constraint};

/// Names a waiter. A smaller id has waited longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WaiterId(u64);

#[derive(Debug, Default)]
pub(super) struct Waiters {
    queue: BTreeMap<WaiterId, Ask>,
    open: BTreeSet<WaiterId>,
    pinned: SecondaryMap<AccountKey, BTreeSet<WaiterId>>,
    arrived_count: u64,
}

impl Waiters {
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_awaited(&self, account: AccountKey) -> bool {
        self.pinned.contains_key(account)
    }

    pub(super) fn push(&mut self, ask: Ask) -> WaiterId {
        let id = WaiterId(self.arrived_count);
        self.arrived_count += 1;
        match ask.constraint {
            Constraint::Only(account) => {
                self.pinned
                    .entry(account)
                    .map(|entry| entry.or_default().insert(id));
            }
            Constraint::AnyBut(_) => {
                self.open.insert(id);
            }
        }
        self.queue.insert(id, ask);
        id
    }

    pub(super) fn remove(&mut self, id: WaiterId) -> Option<Ask> {
        let ask = self.queue.remove(&id)?;
        match ask.constraint {
            Constraint::Only(account) => {
                if let Some(ids) = self.pinned.get_mut(account) {
                    ids.remove(&id);
                    if ids.is_empty() {
                        self.pinned.remove(account);
                    }
                }
            }
            Constraint::AnyBut(_) => {
                self.open.remove(&id);
            }
        }
        Some(ask)
    }

    /// The longest-waiting waiter that may take a slot of `account`, which has so many in use.
    pub(super) fn first_for(&self, account: AccountKey, in_flight: u32) -> Option<WaiterId> {
        let pinned = self.pinned.get(account);
        let pinned = pinned.and_then(|ids| {
            let mut ids = ids.iter().copied();
            ids.find(|id| self.queue[id].fits(in_flight))
        });
        let open = self.open.iter().copied().find(|id| {
            let ask = &self.queue[id];
            ask.constraint.allows(account) && ask.fits(in_flight)
        });
        match (pinned, open) {
            (Some(pinned), Some(open)) => Some(pinned.min(open)),
            (one, other) => one.or(other),
        }
    }

    /// Looks up anew which accounts the waiters exclude.
    pub(super) fn resolve<'a>(&mut self, alike: impl Fn(&str) -> &'a [AccountKey]) {
        for ask in self.queue.values_mut() {
            if let Constraint::AnyBut(excluded) = &mut ask.constraint {
                excluded.resolve(&alike);
            }
        }
    }

    /// What a waiter insists on, and how many have waited longer.
    pub(super) fn place(&self, id: WaiterId) -> Option<(Constraint, usize)> {
        let constraint = self.queue.get(&id)?.constraint.clone();
        Some((constraint, self.queue.range(..id).count()))
    }

    /// The longest-waiting waiter, with what it asks for.
    pub(super) fn first(&self) -> Option<(WaiterId, &Ask)> {
        self.queue.first_key_value().map(|(id, ask)| (*id, ask))
    }

    /// The one that has waited longest of those that came after `id`.
    pub(super) fn after(&self, id: WaiterId) -> Option<(WaiterId, &Ask)> {
        let later = (Bound::Excluded(id), Bound::Unbounded);
        self.queue.range(later).next().map(|(id, ask)| (*id, ask))
    }
}
