//! Which account owns what, as rounds, answers and questions taught.
//!
//! Invariant: never more entries than its bound, but for one for each thread that learns at the same
//! instant. What was not used for longest goes first, by halves: entries live in a young
//! and an old generation, use moves them to the young one, and when that is full it becomes the old
//! one, whose entries are forgotten. All of it costs O(1), forgetting included if spread over the
//! entries it forgets.

use std::{
    hash::Hash,
    mem,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use dashmap::DashMap;

/// The most owners of one kind kept: 100 bytes each make 10 MB. At a job a minute on each of 50 accounts it is
/// a day and more; who is forgotten can be asked for again.
pub const OWNERS_MAX: usize = 100_000;

/// The owners of what is named by a `K`.
#[derive(Debug)]
pub struct Owners<K: Eq + Hash> {
    generations: RwLock<Generations<K>>,
    generation_max: usize,
}

#[derive(Debug)]
struct Generations<K: Eq + Hash> {
    young: Generation<K>,
    old: Generation<K>,
}

#[derive(Debug)]
struct Generation<K: Eq + Hash> {
    owners: DashMap<K, Arc<str>>,
    /// Beside the map, whose own count locks every shard.
    count: AtomicUsize,
}

impl<K: Eq + Hash> Default for Generation<K> {
    fn default() -> Self {
        Self {
            owners: DashMap::new(),
            count: AtomicUsize::new(0),
        }
    }
}

impl<K: Clone + Eq + Hash> Owners<K> {
    /// Owners of up to `max` things.
    pub fn with_max(max: usize) -> Self {
        let generations = Generations {
            young: Generation::default(),
            old: Generation::default(),
        };
        Self {
            generations: RwLock::new(generations),
            generation_max: max / 2,
        }
    }

    /// Remembers that `owner` has it, whoever had it before.
    pub fn learn(&self, key: &K, owner: Arc<str>) {
        let mut is_learnt = false;
        while !is_learnt {
            is_learnt = {
                let generations = self.read();
                generations.young.learn(key, &owner, self.generation_max)
            };
            if !is_learnt {
                self.turn_over();
            }
        }
    }

    /// Its owner, if that is known.
    pub fn owner(&self, key: &K) -> Option<Arc<str>> {
        let (young, old) = {
            let generations = self.read();
            let young = generations.young.owner(key);
            let old = match young {
                Some(_) => None,
                None => generations.old.owner(key),
            };
            (young, old)
        };
        if let Some(owner) = &old {
            self.learn(key, Arc::clone(owner));
        }
        young.or(old)
    }

    fn turn_over(&self) {
        let forgotten = {
            let mut generations = self
                .generations
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            let generations = &mut *generations;
            if *generations.young.count.get_mut() < self.generation_max {
                return;
            }
            let full = mem::take(&mut generations.young);
            mem::replace(&mut generations.old, full)
        };
        // Not under the lock: it may be large.
        drop(forgotten);
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Generations<K>> {
        self.generations
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash> Generation<K> {
    /// False if it is full.
    fn learn(&self, key: &K, owner: &Arc<str>, max: usize) -> bool {
        if self.count.load(Ordering::Relaxed) >= max && !self.owners.contains_key(key) {
            return false;
        }
        let before = self.owners.insert(key.clone(), Arc::clone(owner));
        if before.is_none() {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        true
    }

    fn owner(&self, key: &K) -> Option<Arc<str>> {
        self.owners.get(key).map(|owner| Arc::clone(&owner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(owners: &Owners<usize>) -> usize {
        let generations = owners.read();
        generations.young.owners.len() + generations.old.owners.len()
    }

    #[test]
    fn the_newest_word_about_an_owner_counts() {
        let owners = Owners::with_max(OWNERS_MAX);
        assert_eq!(owners.owner(&1), None);
        owners.learn(&1, "a@x".into());
        owners.learn(&1, "b@x".into());
        assert_eq!(owners.owner(&1).as_deref(), Some("b@x"));
        assert_eq!(size(&owners), 1);
    }

    #[test]
    fn a_newer_word_wins_over_the_old_generation() {
        let owners = Owners::with_max(4);
        owners.learn(&1, "a@x".into());
        for id in 2..=3 {
            owners.learn(&id, "c@x".into());
        }
        owners.learn(&1, "b@x".into());
        assert_eq!(owners.owner(&1).as_deref(), Some("b@x"));
    }

    #[test]
    fn owners_are_bounded_and_the_least_recently_used_go() {
        let owners = Owners::with_max(100);
        owners.learn(&0, "used@x".into());
        for id in 1..1000 {
            owners.learn(&id, "a@x".into());
            assert!(owners.owner(&0).is_some(), "used all the time");
            assert!(owners.owner(&id).is_some());
            assert!(size(&owners) <= 100, "{} entries", size(&owners));
        }
        assert_eq!(owners.owner(&1), None, "not used for 998 entries");
        assert!(
            owners.owner(&960).is_some(),
            "the newest half is never forgotten"
        );
    }
}
