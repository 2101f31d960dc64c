//! Jobs that a round shows on an account without telling their ids: rows that cannot be read, and what the
//! upstream counts beyond its own rows.
//!
//! Invariant: after every operation, an account has at least as many slots in use for such jobs as the newest
//! round that is followed there shows. Each may be the job of a lease that is older than the round and of which the round lists no
//! job; only the surplus is foreign, until the next round. What was granted since comes on top.

use std::{collections::BTreeMap, sync::Arc};

use super::{AccountKey, Name, Pool, RunningJobs, steps};

impl Pool {
    /// Whether a job of this account that the round `running` does not list is absent. It is not if a row of the
    /// account cannot be read: that may be the job.
    pub(super) fn shows_absence(&self, running: &RunningJobs, account: AccountKey) -> bool {
        let Some(account_of) = self.accounts.get(account) else {
            return false;
        };
        let name = Name::sharing(Arc::clone(&account_of.listed.email));
        let mut unreadable = running.unreadable(name.folded()).iter();
        !running.has_unknown && !unreadable.any(|name| self.accounts.alike(name).contains(&account))
    }

    /// Counts the jobs without ids that the round `running` shows on the accounts with this folded e-mail.
    pub(super) fn count_unnamed(&mut self, running: &RunningJobs, folded: &str) {
        let mut counts: BTreeMap<_, u32> = BTreeMap::new();
        for (name, count) in running.unnamed(folded) {
            steps::step();
            if let Some(key) = self.accounts.find(name) {
                *counts.entry(key).or_default() += count;
            }
        }
        self.accounts.recount_unnamed(folded, &counts);
    }

    fn next_unsettled(&mut self) -> Option<AccountKey> {
        let unseen = self.leases.next_unseen_changed();
        unseen.or_else(|| self.accounts.next_unnamed_changed())
    }

    /// Sets how many jobs without ids are foreign, where that may have changed.
    pub(super) fn settle_unnamed(&mut self) {
        while let Some(key) = self.next_unsettled() {
            steps::step();
            let Some(account) = self.accounts.get(key) else {
                continue;
            };
            let unseen_count = self.leases.unseen_count(key);
            let foreign = account.unnamed().saturating_sub(unseen_count);
            if foreign != account.unnamed_foreign() {
                self.accounts.update(key, &mut self.outbox, |account| {
                    account.set_unnamed_foreign(foreign);
                });
            }
        }
    }
}
