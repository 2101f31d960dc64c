//! Entries in order, packed.
//!
//! A tree of the standard library that is filled in ascending order keeps its nodes half empty: an entry of 24 bytes takes 49.
//! Entries come in about that order here, by age or by the account list. So they lie in chunks, which are full behind
//! entries that came at the end, and two neighbours of which are never both nearly empty.

use std::{cmp::Ordering, ops::Bound};

/// The most entries of a chunk. To insert or remove one moves half a chunk on average, which is 2 KB at most.
const CHUNK_MAX: usize = 128;
/// A chunk with no more entries joins a neighbour, if both fit into three quarters of one.
const CHUNK_FEW: usize = CHUNK_MAX / 4;

/// The entries of a set of the standard library behind one, or all of them.
pub(super) fn behind<T>(entry: Option<T>) -> (Bound<T>, Bound<T>) {
    (
        entry.map_or(Bound::Unbounded, Bound::Excluded),
        Bound::Unbounded,
    )
}

/// A set of entries in ascending order.
#[derive(Debug)]
pub(super) struct Sorted<T> {
    /// None is empty, except the only one.
    chunks: Vec<Vec<T>>,
}

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

impl<T: PartialEq> PartialEq for Sorted<T> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<T> Sorted<T> {
    pub(super) fn first(&self) -> Option<&T> {
        self.chunks.first()?.first()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first().is_none()
    }

    fn last(&self) -> Option<&T> {
        self.chunks.last()?.last()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }

    /// The entries behind those that come before something: `is_before` is true of them alone.
    pub(super) fn behind(&self, is_before: impl Fn(&T) -> bool) -> impl Iterator<Item = &T> {
        let at = self.chunk_at(&is_before);
        let chunk = self.chunks.get(at).map_or(&[][..], Vec::as_slice);
        let rest = chunk.partition_point(is_before);
        let later = self.chunks.get(at + 1..).unwrap_or_default();
        chunk[rest..].iter().chain(later.iter().flatten())
    }

    /// The first chunk with an entry that does not come before, or the number of chunks.
    fn chunk_at(&self, is_before: impl Fn(&T) -> bool) -> usize {
        self.chunks
            .partition_point(|chunk| chunk.last().is_some_and(&is_before))
    }
}

impl<T: Ord> Sorted<T> {
    /// Adds an entry, unless it is there.
    pub(super) fn insert(&mut self, entry: T) {
        self.insert_by(entry, T::cmp);
    }

    /// Removes an entry. False if it was not there.
    pub(super) fn remove(&mut self, entry: &T) -> bool {
        self.remove_by(entry, T::cmp)
    }
}

/// In an order that is told. It must be the one in which the entries lie.
impl<T> Sorted<T> {
    /// Adds an entry, unless it is there.
    pub(super) fn insert_by(&mut self, entry: T, order: impl Fn(&T, &T) -> Ordering) {
        // Most come at the end.
        if self.last().is_none_or(|last| order(last, &entry).is_lt()) {
            self.push(entry);
            return;
        }
        let at = self.chunk_at(|other| order(other, &entry).is_lt());
        let Some(chunk) = self.chunks.get_mut(at) else {
            return;
        };
        let Err(place) = chunk.binary_search_by(|other| order(other, &entry)) else {
            return;
        };
        if chunk.len() < CHUNK_MAX {
            chunk.insert(place, entry);
            return;
        }
        let mut rest = chunk.split_off(CHUNK_MAX / 2);
        match place.checked_sub(CHUNK_MAX / 2) {
            None => chunk.insert(place, entry),
            Some(place) => rest.insert(place, entry),
        }
        self.chunks.insert(at + 1, rest);
    }

    /// Removes an entry. False if it was not there.
    pub(super) fn remove_by(&mut self, entry: &T, order: impl Fn(&T, &T) -> Ordering) -> bool {
        // Many leave where they came. However few are left there, more will come.
        if let Some(last) = self.chunks.last_mut()
            && last.last().is_some_and(|last| order(last, entry).is_eq())
        {
            last.pop();
            if last.is_empty() && self.chunks.len() > 1 {
                self.chunks.pop();
            }
            return true;
        }
        let at = self.chunk_at(|other| order(other, entry).is_lt());
        let Some(chunk) = self.chunks.get_mut(at) else {
            return false;
        };
        let Ok(place) = chunk.binary_search_by(|other| order(other, entry)) else {
            return false;
        };
        chunk.remove(place);
        if chunk.len() <= CHUNK_FEW {
            self.join(at);
        }
        true
    }

    /// Adds an entry behind all others.
    fn push(&mut self, entry: T) {
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK_MAX => last.push(entry),
            Some(_) => {
                let mut chunk = Vec::with_capacity(CHUNK_MAX);
                chunk.push(entry);
                self.chunks.push(chunk);
            }
            None => self.chunks.push(vec![entry]),
        }
    }

    /// A chunk has few entries: they go to a neighbour that has room.
    fn join(&mut self, at: usize) {
        if self.chunks.len() == 1 {
            return;
        }
        if self.chunks[at].is_empty() {
            self.chunks.remove(at);
            return;
        }
        for first in at.saturating_sub(1)..=at {
            if let Some([one, other]) = self.chunks.get_mut(first..first + 2)
                && one.len() + other.len() <= CHUNK_MAX - CHUNK_FEW
            {
                one.append(other);
                self.chunks.remove(first + 1);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_a_set_holds(
            moves in prop::collection::vec((any::<bool>(), 0..600_u32), 0..3000),
            begin in 0..600_u32,
        ) {
            let (mut sorted, mut set) = (Sorted::default(), BTreeSet::new());
            for (is_removed, entry) in moves {
                if is_removed {
                    prop_assert_eq!(sorted.remove(&entry), set.remove(&entry));
                } else {
                    sorted.insert(entry);
                    set.insert(entry);
                }
                prop_assert_eq!(sorted.first(), set.first());
            }
            prop_assert!(sorted.iter().eq(&set));
            prop_assert!(sorted.behind(|entry| *entry < begin).eq(set.range(begin..)));
            prop_assert!(sorted.chunks.iter().all(|it| it.len() <= CHUNK_MAX));
            let empty = sorted.chunks.iter().filter(|it| it.is_empty());
            prop_assert!(sorted.chunks.len() == 1 || empty.count() == 0);
        }
    }

    /// How many entries the chunks have room for.
    fn room(sorted: &Sorted<u32>) -> usize {
        sorted.chunks.iter().map(Vec::capacity).sum()
    }

    #[test]
    fn what_comes_in_order_is_packed_and_what_goes_leaves_little_room() {
        let mut sorted = Sorted::default();
        for entry in 0..10_000 {
            sorted.insert(entry);
        }
        assert!(room(&sorted) < 10_000 + CHUNK_MAX, "{}", room(&sorted));
        for entry in (0..10_000).filter(|entry| entry % 16 != 0) {
            assert!(sorted.remove(&entry));
        }
        assert_eq!(sorted.iter().count(), 625);
        assert!(room(&sorted) < 625 * 8, "{}", room(&sorted));
    }
}
