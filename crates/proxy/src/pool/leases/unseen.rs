//! Leases that the newest round shows no job of, counted for each account.
//!
//! A job that is listed without an id may be that of such a lease. A lease that is younger than the round is none:
//! the round cannot show its job, or shows another one.

use slotmap::SecondaryMap;

use super::super::{AccountKey, LeaseId, deadlines::Nanos, lease::Lease};

#[derive(Debug, Default)]
pub(super) struct Unseen {
    /// The youngest lease that was older than a round. Behind it by age are those that are not older than the newest one.
    border: Option<Border>,
    counts: SecondaryMap<AccountKey, u32>,
    changed: Vec<AccountKey>,
}

/// When a lease was made, and which.
type Border = (Nanos, LeaseId);

impl Unseen {
    /// Whether a lease is older than the newest round, which lists no job of it.
    pub(super) fn is_unseen(&self, id: LeaseId, lease: &Lease) -> bool {
        Some((lease.created_at, id)) <= self.border && !lease.has_listed_job()
    }

    pub(super) fn count(&self, account: AccountKey) -> u32 {
        self.counts.get(account).copied().unwrap_or(0)
    }

    /// A lease was just made.
    pub(super) fn add(&mut self, id: LeaseId, lease: &Lease) {
        if self.is_unseen(id, lease) {
            self.change(lease.account, true);
        }
    }

    /// A lease has ended.
    pub(super) fn remove(&mut self, id: LeaseId, lease: &Lease) {
        if self.is_unseen(id, lease) {
            self.change(lease.account, false);
        }
    }

    /// A lease changed.
    pub(super) fn note_change(&mut self, id: LeaseId, lease: &Lease, was_unseen: bool) {
        let is_unseen = self.is_unseen(id, lease);
        if was_unseen != is_unseen {
            self.change(lease.account, is_unseen);
        }
    }

    pub(super) fn border(&self) -> Option<Border> {
        self.border
    }

    /// The next lease behind the border is older than the newest round.
    pub(super) fn pass(&mut self, id: LeaseId, lease: &Lease) {
        self.border = Some((lease.created_at, id));
        if self.is_unseen(id, lease) {
            self.change(lease.account, true);
        }
    }

    /// An account whose count changed. An account may come several times.
    pub(super) fn next_changed(&mut self) -> Option<AccountKey> {
        self.changed.pop()
    }

    /// An account is forgotten: it has no leases.
    pub(super) fn forget_account(&mut self, account: AccountKey) {
        self.counts.remove(account);
    }

    fn change(&mut self, account: AccountKey, is_more: bool) {
        let Some(entry) = self.counts.entry(account) else {
            return;
        };
        let count = entry.or_default();
        *count = if is_more { *count + 1 } else { *count - 1 };
        if self.changed.last() != Some(&account) {
            self.changed.push(account);
        }
    }

    /// Panics if a count does not agree with the leases.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn check<'a>(&self, leases: impl Iterator<Item = (&'a LeaseId, &'a Box<Lease>)>) {
        let mut counts = SecondaryMap::new();
        for (id, lease) in leases {
            if self.is_unseen(*id, lease) {
                let count = counts.entry(lease.account).expect("accounts stay");
                *count.or_insert(0) += 1;
            }
        }
        let counted = self.counts.iter().filter(|(_, count)| **count > 0);
        assert!(counted.eq(counts.iter()), "{self:?}");
    }
}
