//! Checks every index of the waiters against the queue.

use super::*;

impl Waiters {
    /// Panics if an index does not agree with the queue.
    pub(in crate::pool) fn check(&self) {
        let mut grouped_count = 0;
        for (key, group) in &self.groups {
            assert!(!group.waiters.is_empty());
            grouped_count += group.waiters.len();
            let found = match &group.constraint {
                Constraint::Only(account) => self.pinned[*account].get(&group.max_jobs),
                Constraint::AnyBut(_) => self.open.get(&(group.constraint.clone(), group.max_jobs)),
            };
            assert_eq!(found, Some(&key), "{group:?}");
        }
        assert_eq!(
            (grouped_count, self.by_lease.len()),
            (self.queue.len(), self.queue.len())
        );
        let pinned: usize = self.pinned.values().map(BTreeMap::len).sum();
        assert_eq!(pinned + self.open.len(), self.groups.len());
        for (place, (id, waiter)) in self.queue.iter().enumerate() {
            assert!(self.groups[waiter.group].waiters.contains(id));
            assert_eq!(self.by_lease.get(&waiter.terms.lease_id), Some(id));
            assert_eq!(self.ahead_of(Some(*id)), place);
        }
    }
}
