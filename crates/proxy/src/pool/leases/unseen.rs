//! Leases that the newest round shows no job of, counted for each account.
//!
//! A job that is listed without an id may be that of such a lease. A lease that is younger than the round is none:
//! the round cannot show its job, or shows another one.

use std::{collections::HashMap, mem, time::Duration};

use foldhash::fast::RandomState;
use slotmap::SecondaryMap;

use super::super::{AccountKey, LeaseId, lease::Lease, steps::Counted};

/// Younger leases that are remembered beyond twice the number of leases. Most are gone soon.
const YOUNGER_SPARE: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Unseen {
    /// When the newest round was sent.
    round_sent_at: Duration,
    counts: SecondaryMap<AccountKey, u32>,
    /// Leases that are not older than the newest round. Some may have ended.
    younger: Vec<LeaseId>,
    changed: Vec<AccountKey>,
}

impl Unseen {
    /// Whether a lease is older than the newest round, which lists no job of it.
    pub(super) fn is_unseen(&self, lease: &Lease) -> bool {
        lease.created_at() < self.round_sent_at && !lease.has_listed_job()
    }

    pub(super) fn count(&self, account: AccountKey) -> u32 {
        self.counts.get(account).copied().unwrap_or(0)
    }

    /// A lease was just made.
    pub(super) fn add(&mut self, id: LeaseId, leases: &HashMap<LeaseId, Box<Lease>, RandomState>) {
        // While no round is answered, leases that have ended must not pile up.
        if self.younger.len() >= 2 * leases.len() + YOUNGER_SPARE {
            self.younger.retain(|id| leases.contains_key(id));
        }
        self.younger.push(id);
    }

    /// A lease has ended.
    pub(super) fn remove(&mut self, lease: &Lease) {
        if self.is_unseen(lease) {
            self.change(lease.account, false);
        }
    }

    /// A lease changed.
    pub(super) fn note_change(&mut self, lease: &Lease, was_unseen: bool) {
        let is_unseen = self.is_unseen(lease);
        if was_unseen != is_unseen {
            self.change(lease.account, is_unseen);
        }
    }

    /// A round that was sent at `sent_at` is the newest one now. Rounds before it noted which jobs are listed.
    pub(super) fn follow_round(
        &mut self,
        sent_at: Duration,
        leases: &HashMap<LeaseId, Box<Lease>, RandomState>,
    ) {
        self.round_sent_at = self.round_sent_at.max(sent_at);
        for id in mem::take(&mut self.younger).into_iter().counted() {
            let Some(lease) = leases.get(&id) else {
                continue;
            };
            if lease.created_at() >= self.round_sent_at {
                self.younger.push(id);
            } else if self.is_unseen(lease) {
                self.change(lease.account, true);
            }
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
            if self.is_unseen(lease) {
                let count = counts.entry(lease.account).expect("accounts stay");
                *count.or_insert(0) += 1;
            }
            let is_younger = lease.created_at() >= self.round_sent_at;
            let entries = self.younger.iter().filter(|other| *other == id);
            assert_eq!(entries.count(), usize::from(is_younger), "{lease:?}");
        }
        let counted = self.counts.iter().filter(|(_, count)| **count > 0);
        assert!(counted.eq(counts.iter()), "{self:?}");
    }
}
