//! Counts how many of the waiters have waited longer than one: an order statistic over their ids, in whatever
//! order they come.
//!
//! A tree of counts over all ids, of which only counts above 0 are kept. Coming and leaving take a step for each
//! level; counting looks at the earlier siblings on each level.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::steps;

/// A node has 16 children: each costs a counting look, and each halving of them more levels.
const LEVEL_BITS: u32 = 4;
/// Enough for 2^48 ids: nine years of a million callers a second.
const LEVELS: u32 = 12;

#[derive(Debug, Default)]
pub(super) struct Ranks {
    /// By the level, and the id without the digits below it.
    counts: HashMap<(u32, u64), u32, RandomState>,
}

impl Ranks {
    /// Adds an id that is not there.
    pub(super) fn add(&mut self, id: u64) {
        for level in 0..LEVELS {
            steps::step();
            *self.counts.entry((level, node(id, level))).or_default() += 1;
        }
    }

    /// Removes an id that is there.
    pub(super) fn remove(&mut self, id: u64) {
        for level in 0..LEVELS {
            steps::step();
            let key = (level, node(id, level));
            if let Some(count) = self.counts.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&key);
                }
            }
        }
    }

    /// How many smaller ids are there.
    pub(super) fn count_before(&self, id: u64) -> usize {
        let mut count = 0;
        for level in 0..LEVELS {
            let node = node(id, level);
            let first = node >> LEVEL_BITS << LEVEL_BITS;
            for sibling in first..node {
                steps::step();
                let below = self.counts.get(&(level, sibling));
                count += below.map_or(0, |count| *count as usize);
            }
        }
        count
    }
}

fn node(id: u64, level: u32) -> u64 {
    id >> (level * LEVEL_BITS)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ids_are_counted_as_a_set_would(
            moves in prop::collection::vec(prop_oneof![0..300_u64, 0..1_u64 << 40], 0..200),
        ) {
            let (mut ranks, mut ids) = (Ranks::default(), BTreeSet::new());
            for id in moves {
                if ids.insert(id) {
                    ranks.add(id);
                } else {
                    ids.remove(&id);
                    ranks.remove(id);
                }
                for (count, id) in ids.iter().enumerate() {
                    prop_assert_eq!(ranks.count_before(*id), count);
                }
                prop_assert_eq!(ranks.count_before(1 << 41), ids.len());
            }
            for id in ids {
                ranks.remove(id);
            }
            prop_assert!(ranks.counts.is_empty());
        }
    }
}
