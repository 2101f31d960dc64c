//! The leases by age, oldest first.
//!
//! A pick often ends soon: the newest leases are kept in a short list, so that such a one never enters the tree behind
//! it. (Entering and leaving that takes a third of the instructions of a pick and its end.)

use std::{collections::BTreeSet, iter, ops::Bound};

use super::super::{LeaseId, deadlines::Nanos};

/// How many leases are kept in the list: it is searched from its end.
const RECENT_MAX: usize = 32;

/// When a lease was made, and which it is.
type Entry = (Nanos, LeaseId);

#[derive(Debug, Default)]
pub(super) struct ByAge {
    older: BTreeSet<Entry>,
    /// In the order in which they came.
    recent: Vec<Entry>,
}

impl ByAge {
    pub(super) fn insert(&mut self, entry: Entry) {
        if self.recent.len() == RECENT_MAX {
            // One at a time: no lease pays for the others.
            self.older.insert(self.recent.remove(0));
        }
        self.recent.push(entry);
    }

    pub(super) fn remove(&mut self, entry: Entry) {
        match self.recent.iter().rposition(|other| *other == entry) {
            Some(place) => {
                self.recent.remove(place);
            }
            None => {
                self.older.remove(&entry);
            }
        }
    }

    /// Those behind an entry, whether that is still there or not.
    pub(super) fn after(&self, entry: Option<Entry>) -> impl Iterator<Item = Entry> {
        let begin = entry.map_or(Bound::Unbounded, Bound::Excluded);
        let mut older = self.older.range((begin, Bound::Unbounded)).peekable();
        let is_behind = |it: &Entry| entry.is_none_or(|entry| *it > entry);
        let recent = self.recent.iter().copied().filter(is_behind);
        // Leases of the same moment come in any order.
        let mut recent: Vec<_> = recent.collect();
        recent.sort_unstable();
        let mut recent = recent.into_iter();
        let mut next_recent = recent.next();
        iter::from_fn(move || match (older.peek(), next_recent) {
            (Some(old), Some(new)) if **old > new => {
                next_recent = recent.next();
                Some(new)
            }
            (Some(_), _) => older.next().copied(),
            (None, _) => {
                let last = next_recent.take();
                next_recent = recent.next();
                last
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    proptest! {
        #[test]
        fn leases_come_and_go_as_in_a_set(
            moves in prop::collection::vec((0..4_u64, prop::option::weighted(0.4, any::<usize>())), 0..200),
            after in any::<usize>(),
        ) {
            let mut rng = SmallRng::seed_from_u64(1);
            let (mut by_age, mut entries) = (ByAge::default(), Vec::new());
            let mut now = 0;
            for (passes, removed) in moves {
                now += passes;
                match removed.and_then(|nth| nth.checked_rem(entries.len())) {
                    Some(nth) => by_age.remove(entries.swap_remove(nth)),
                    None => {
                        let entry = (now, LeaseId::random(&mut rng));
                        by_age.insert(entry);
                        entries.push(entry);
                    }
                }
            }
            entries.sort_unstable();
            prop_assert!(by_age.after(None).eq(entries.iter().copied()));
            if let Some(nth) = after.checked_rem(entries.len()) {
                let behind = by_age.after(Some(entries[nth]));
                prop_assert!(behind.eq(entries[nth + 1..].iter().copied()));
            }
        }
    }
}
