//! The accounts that can be picked right now: a dense list, and how full they are.
//!
//! Invariant: an account is in `dense` at most once, at the index that `position` names; `levels`
//! counts the listed accounts by their slots in use. Insert, remove and a uniform draw take
//! constant time whatever the number of accounts.

use rand::{Rng, RngExt, seq::IteratorRandom};
use slotmap::SecondaryMap;

use super::{AccountKey, steps::Counted};

/// How often a draw that hit an unwanted account is repeated before the list is walked instead.
///
/// Both ways are uniform over the accounts that remain. If at least one account in eight is wanted, 64 draws
/// miss about once in 5,000 times, and the list is walked then. If fewer are wanted, the walk is cheaper.
const DRAWS_MAX: usize = 64;

/// The most levels of use that are told apart: further up, accounts count as equally full.
const LEVELS_MAX: u32 = 1024;

/// A dense list of accounts.
#[derive(Debug, Default)]
pub(super) struct FreeList {
    dense: Vec<AccountKey>,
    position: SecondaryMap<AccountKey, u32>,
}

impl FreeList {
    pub(super) fn contains(&self, key: AccountKey) -> bool {
        self.position.contains_key(key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.dense.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.dense.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = AccountKey> {
        self.dense.iter().copied()
    }

    pub(super) fn set(&mut self, key: AccountKey, is_free: bool) {
        match (is_free, self.position.get(key).copied()) {
            (true, None) => {
                // Keys are numbered in 32 bits, too.
                let place = u32::try_from(self.dense.len()).unwrap_or(u32::MAX);
                self.position.insert(key, place);
                self.dense.push(key);
            }
            (false, Some(place)) => {
                self.position.remove(key);
                self.dense.swap_remove(place as usize);
                if let Some(&moved) = self.dense.get(place as usize) {
                    self.position[moved] = place;
                }
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// Draws uniformly.
    pub(super) fn draw(&self, rng: &mut impl Rng) -> Option<AccountKey> {
        if self.dense.is_empty() {
            return None;
        }
        Some(self.dense[rng.random_range(0..self.dense.len())])
    }

    /// Draws uniformly among the accounts that are wanted. `wanted_count` is how many there are, as
    /// far as the caller knows; it only decides how they are found.
    pub(super) fn draw_where(
        &self,
        wanted_count: usize,
        is_wanted: impl Fn(AccountKey) -> bool,
        rng: &mut impl Rng,
    ) -> Option<AccountKey> {
        if wanted_count.saturating_mul(8) >= self.dense.len() {
            for _ in 0..DRAWS_MAX {
                let key = self.draw(rng)?;
                super::steps::step();
                if is_wanted(key) {
                    return Some(key);
                }
            }
        }
        let wanted = self.dense.iter().copied().counted();
        wanted.filter(|key| is_wanted(*key)).choose(rng)
    }
}

impl FromIterator<AccountKey> for FreeList {
    fn from_iter<I: IntoIterator<Item = AccountKey>>(keys: I) -> Self {
        let mut list = Self::default();
        for key in keys {
            list.set(key, true);
        }
        list
    }
}

/// The accounts with a free slot that any caller may take.
#[derive(Debug, Default)]
pub(super) struct FreeAccounts {
    list: FreeList,
    /// How many accounts of the list have so many slots in use.
    levels: Vec<u32>,
}

impl FreeAccounts {
    pub(super) fn list(&self) -> &FreeList {
        &self.list
    }

    /// So many accounts are about to join.
    pub(super) fn reserve(&mut self, count: usize) {
        let FreeList { dense, position } = &mut self.list;
        dense.reserve(count);
        position.set_capacity(dense.len() + count);
    }

    /// Notes how many slots of an account are in use, or that it cannot be picked: before, and now.
    pub(super) fn change(&mut self, key: AccountKey, before: Option<u32>, after: Option<u32>) {
        if let Some(in_flight) = before {
            self.levels[Self::level(in_flight)] -= 1;
        }
        if let Some(in_flight) = after {
            let level = Self::level(in_flight);
            if self.levels.len() <= level {
                self.levels.resize(level + 1, 0);
            }
            self.levels[level] += 1;
        }
        if before.is_some() != after.is_some() {
            self.list.set(key, after.is_some());
        }
    }

    /// How many accounts have fewer slots in use than a caller's own cap. Those at the last level
    /// always count.
    pub(super) fn count_below(&self, max_jobs: u32) -> usize {
        if max_jobs > LEVELS_MAX {
            return self.list.len();
        }
        let below = self.levels.iter().take(Self::level(max_jobs)).counted();
        below.map(|count| *count as usize).sum()
    }

    fn level(in_flight: u32) -> usize {
        in_flight.min(LEVELS_MAX) as usize
    }
}
