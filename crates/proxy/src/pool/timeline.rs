//! Entries in the order of their times.
//!
//! What a pick adds often leaves soon: the newest entries are kept in a short list, so that such a one never enters the
//! tree behind it. (Entering and leaving a tree of 100,000 leases takes some 500 instructions, and misses of the cache.)

use std::{collections::BTreeSet, iter, ops::Bound, time::Duration};

/// How many entries are kept in the list: it is searched from its end.
const RECENT_MAX: usize = 32;

/// Nanoseconds since the owner's start: compared in one step, where a [`Duration`] takes two. They reach for
/// 584 years; what is later never comes.
pub(super) type Nanos = u64;

pub(super) fn nanos(at: Duration) -> Nanos {
    Nanos::try_from(at.as_nanos()).unwrap_or(Nanos::MAX)
}

#[derive(Debug)]
pub(super) struct Timeline<K> {
    older: BTreeSet<(Nanos, K)>,
    /// In the order in which they came.
    recent: Vec<(Nanos, K)>,
}

impl<K> Default for Timeline<K> {
    fn default() -> Self {
        Self {
            older: BTreeSet::new(),
            recent: Vec::new(),
        }
    }
}

impl<K: Ord + Clone> PartialEq for Timeline<K> {
    fn eq(&self, other: &Self) -> bool {
        self.after(None).eq(other.after(None))
    }
}

impl<K: Ord + Clone> Timeline<K> {
    /// Adds an entry that is not there.
    pub(super) fn insert(&mut self, entry: (Nanos, K)) {
        if self.recent.len() == RECENT_MAX {
            // One at a time: no entry pays for the others.
            self.older.insert(self.recent.remove(0));
        }
        self.recent.push(entry);
    }

    pub(super) fn remove(&mut self, entry: &(Nanos, K)) {
        match self.recent.iter().rposition(|other| other == entry) {
            Some(place) => {
                self.recent.remove(place);
            }
            None => {
                self.older.remove(entry);
            }
        }
    }

    pub(super) fn first(&self) -> Option<&(Nanos, K)> {
        let older = self.older.first();
        self.recent.iter().chain(older).min()
    }

    /// Those behind an entry, whether that is still there or not.
    pub(super) fn after(&self, entry: Option<(Nanos, K)>) -> impl Iterator<Item = &(Nanos, K)> {
        let is_behind = |it: &&(Nanos, K)| entry.as_ref().is_none_or(|entry| *it > entry);
        // Entries of the same moment come in any order, and those of later ones may come before.
        let mut recent: Vec<_> = self.recent.iter().filter(is_behind).collect();
        recent.sort_unstable();
        let mut recent = recent.into_iter().peekable();
        let begin = entry.map_or(Bound::Unbounded, Bound::Excluded);
        let mut older = self.older.range((begin, Bound::Unbounded)).peekable();
        iter::from_fn(move || match (older.peek(), recent.peek()) {
            (Some(old), Some(new)) if *old > *new => recent.next(),
            (Some(_), _) => older.next(),
            (None, _) => recent.next(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::SmallRng};

    use super::{super::LeaseId, *};

    proptest! {
        #[test]
        fn entries_come_and_go_as_in_a_set(
            moves in prop::collection::vec((0..4_u64, prop::option::weighted(0.4, any::<usize>())), 0..200),
            after in any::<usize>(),
        ) {
            let mut rng = SmallRng::seed_from_u64(1);
            let (mut timeline, mut entries) = (Timeline::default(), Vec::new());
            let mut now = 0;
            for (passes, removed) in moves {
                now += passes;
                match removed.and_then(|nth| nth.checked_rem(entries.len())) {
                    Some(nth) => timeline.remove(&entries.swap_remove(nth)),
                    None => {
                        let entry = (now, LeaseId::random(&mut rng));
                        timeline.insert(entry);
                        entries.push(entry);
                    }
                }
            }
            entries.sort_unstable();
            prop_assert!(timeline.after(None).eq(&entries));
            prop_assert_eq!(timeline.first(), entries.first());
            if let Some(nth) = after.checked_rem(entries.len()) {
                let behind = timeline.after(Some(entries[nth]));
                prop_assert!(behind.eq(&entries[nth + 1..]));
            }
        }
    }
}
