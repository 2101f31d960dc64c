//! Checks every index of the accounts against the accounts themselves.

use super::{super::name::Name, *};

impl Accounts {
    /// The accounts with their keys.
    pub(in crate::pool) fn all(&self) -> impl Iterator<Item = (AccountKey, &Account)> {
        self.slots.iter()
    }

    /// Panics if an index does not agree with the accounts.
    pub(in crate::pool) fn check(&self) {
        let (mut listed, mut usable, mut in_flight) = (0, BTreeSet::new(), 0);
        let mut order = BTreeSet::new();
        let mut levels = Vec::new();
        let mut cooling = Deadlines::default();
        let mut unverified = BTreeSet::new();
        let mut health_deadlines = Deadlines::default();
        for (key, account) in &self.slots {
            let now = Indexed::of(account);
            listed += usize::from(account.is_in_list);
            usable.extend(now.is_usable.then_some((account.rank, key)));
            in_flight += u64::from(now.in_flight);
            assert_eq!(self.is_free(key), now.is_eligible, "{account:?}");
            levels.extend(now.level());
            cooling.change(&key, None, now.cooling_until);
            health_deadlines.change(&key, None, now.health_deadline);
            if now.is_unverified {
                unverified.insert(key);
            }
            let is_listed = account.rank.is_listed();
            assert_eq!(account.is_in_list, is_listed, "{account:?}");
            order.insert((account.rank, key));
            assert_eq!(self.of_identity(&account.listed.identity()), Some(key));
            let name = Name::new(&account.listed.email);
            assert_eq!(self.find(&name), Some(key));
            let alias = Name::or_alias(&account.listed.alias.text());
            assert!(self.alike(&alias).contains(&key));
            let is_shown = account.shown == Some(account.state());
            assert!(is_shown || self.restated.contains(&key), "{account:?}");
            let moved_count = self.moved.iter().filter(|other| **other == key).count();
            assert_eq!(moved_count, usize::from(account.is_moved), "{account:?}");
        }
        let indexes = [&self.by_name, &self.by_alias];
        assert_eq!(indexes.map(KeyIndex::len), [self.slots.len(); 2]);
        let ranked = |key: &AccountKey| (self.slots[*key].rank, *key);
        assert!(self.order.iter().map(ranked).eq(order), "{:?}", self.order);
        self.check_tallies();
        assert_eq!(
            (self.listed_count, self.usable_count),
            (listed, usable.len())
        );
        let kept = self.usable.iter().map(ranked);
        assert!(kept.eq(usable), "{:?}", self.usable);
        assert_eq!(
            (self.in_flight, self.free.list().len()),
            (in_flight, levels.len())
        );
        assert_eq!(self.cooling, cooling);
        assert_eq!(self.unverified, unverified);
        assert_eq!(self.health_deadlines, health_deadlines);
        for max_jobs in 0..10 {
            let below = levels.iter().filter(|in_flight| **in_flight < max_jobs);
            assert_eq!(self.free.count_below(max_jobs), below.count(), "{max_jobs}");
        }
    }
}
