//! A bounded table: the owner of each id of one kind.
//!
//! Invariant: it never holds more entries than its limit, plus one for each thread that adds at the same
//! instant. It forgets the least recently used half at once: entries live in a young and an old generation,
//! use moves an entry to the young one, and a full young generation becomes the old one, whose entries are
//! dropped. Every operation costs O(1), amortized.

use std::{
    mem,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use dashmap::DashMap;
use foldhash::quality::RandomState;
use parking_lot::{RwLock, RwLockReadGuard};

use super::stored::OwnerLog;

/// The owners of the ids of one kind.
#[derive(Debug)]
pub(super) struct OwnerTable {
    generations: RwLock<Generations>,
    generation_max: usize,
    /// Not there if owners are not stored.
    log: OnceLock<OwnerLog>,
}

#[derive(Debug, Default)]
struct Generations {
    young: Generation,
    old: Generation,
}

#[derive(Debug, Default)]
struct Generation {
    owners: DashMap<Box<str>, Arc<str>, RandomState>,
    /// Kept beside the map, whose own count locks every shard.
    count: AtomicUsize,
}

impl OwnerTable {
    /// A table of at most `max` owners.
    pub(super) fn with_max(max: usize) -> Self {
        Self {
            generations: RwLock::default(),
            generation_max: max / 2,
            log: OnceLock::new(),
        }
    }

    /// How many owners it has at most.
    pub(super) fn max(&self) -> usize {
        2 * self.generation_max
    }

    /// From now on what is learnt is noted in `log`. Only the first one counts.
    pub(super) fn begin_log(&self, log: OwnerLog) {
        // A second log would name the same places.
        _ = self.log.set(log);
    }

    pub(super) fn log(&self) -> Option<&OwnerLog> {
        self.log.get()
    }

    /// Remembers `owner` as the owner of `id`, in place of the one before.
    pub(super) fn learn(&self, id: &str, owner: &Arc<str>) {
        loop {
            let learnt = {
                let generations = self.read();
                generations.young.learn(id, owner, self.generation_max)
            };
            match learnt {
                Learnt::Nothing => return,
                Learnt::Owner => {
                    if let Some(log) = self.log.get() {
                        log.note(id);
                    }
                    return;
                }
                Learnt::Full => self.turn_over(),
            }
        }
    }

    /// The owner of `id`, if it is known. This is no use of it.
    pub(super) fn peek(&self, id: &str) -> Option<Arc<str>> {
        let generations = self.read();
        let young = generations.young.owner(id);
        young.or_else(|| generations.old.owner(id))
    }

    /// The owner of `id`, if it is known.
    pub(super) fn owner(&self, id: &str) -> Option<Arc<str>> {
        let (young, old) = {
            let generations = self.read();
            let young = generations.young.owner(id);
            let old = match young {
                Some(_) => None,
                None => generations.old.owner(id),
            };
            (young, old)
        };
        if let Some(owner) = &old {
            self.learn(id, owner);
        }
        young.or(old)
    }

    fn turn_over(&self) {
        let forgotten = {
            let mut generations = self.generations.write();
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

    fn read(&self) -> RwLockReadGuard<'_, Generations> {
        self.generations.read()
    }
}

/// What a generation makes of an owner.
enum Learnt {
    /// It knew that.
    Nothing,
    Owner,
    /// It knows as many ids as it may, and not this one.
    Full,
}

impl Generation {
    fn learn(&self, id: &str, owner: &Arc<str>, max: usize) -> Learnt {
        if let Some(mut known) = self.owners.get_mut(id) {
            if **known == **owner {
                return Learnt::Nothing;
            }
            *known = Arc::clone(owner);
            return Learnt::Owner;
        }
        if self.count.load(Ordering::Relaxed) >= max {
            return Learnt::Full;
        }
        let before = self.owners.insert(id.into(), Arc::clone(owner));
        if before.is_none() {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        Learnt::Owner
    }

    fn owner(&self, id: &str) -> Option<Arc<str>> {
        self.owners.get(id).map(|owner| Arc::clone(&owner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(table: &OwnerTable) -> usize {
        let generations = table.read();
        generations.young.owners.len() + generations.old.owners.len()
    }

    fn learn(table: &OwnerTable, id: usize, owner: &str) {
        table.learn(&id.to_string(), &owner.into());
    }

    fn owner(table: &OwnerTable, id: usize) -> Option<String> {
        Some(table.owner(&id.to_string())?.to_string())
    }

    #[test]
    fn the_newest_word_about_an_owner_counts() {
        let table = OwnerTable::with_max(100);
        assert_eq!(owner(&table, 1), None);
        learn(&table, 1, "a@x");
        learn(&table, 1, "b@x");
        assert_eq!(owner(&table, 1).as_deref(), Some("b@x"));
        assert_eq!(size(&table), 1);
    }

    #[test]
    fn a_newer_word_wins_over_the_old_generation() {
        let table = OwnerTable::with_max(4);
        learn(&table, 1, "a@x");
        for id in 2..=3 {
            learn(&table, id, "c@x");
        }
        learn(&table, 1, "b@x");
        assert_eq!(owner(&table, 1).as_deref(), Some("b@x"));
    }

    #[test]
    fn owners_are_bounded_and_the_least_recently_used_go() {
        let table = OwnerTable::with_max(100);
        learn(&table, 0, "used@x");
        for id in 1..1000 {
            learn(&table, id, "a@x");
            assert!(owner(&table, 0).is_some(), "used all the time");
            assert!(owner(&table, id).is_some());
            assert!(size(&table) <= 100, "{} entries", size(&table));
        }
        assert_eq!(owner(&table, 1), None, "not used for 998 entries");
        assert!(
            owner(&table, 960).is_some(),
            "the newest half is never forgotten"
        );
    }
}
