//! The dense list of accounts that can be picked right now.
//!
//! Invariant: an account stands in `dense` at most once, and `position` names its place.
//! Insert, remove and a uniform draw take constant time whatever the number of accounts.

use rand::{Rng, RngExt, seq::IteratorRandom};
use slotmap::SecondaryMap;

use super::{AccountKey, ask::Excluded};

/// How often a draw that hit an unwanted account is repeated before the list is walked instead.
///
/// Both ways are uniform over the accounts that remain. Eight draws succeed with more than 99 %
/// when at most half of the list is unwanted; beyond that a walk is cheaper than more luck.
const DRAWS_MAX: usize = 8;

#[derive(Debug, Default)]
pub(super) struct FreeList {
    dense: Vec<AccountKey>,
    position: SecondaryMap<AccountKey, usize>,
}

impl FreeList {
    pub(super) fn contains(&self, key: AccountKey) -> bool {
        self.position.contains_key(key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.dense.is_empty()
    }

    pub(super) fn set(&mut self, key: AccountKey, is_free: bool) {
        match (is_free, self.position.get(key).copied()) {
            (true, None) => {
                self.position.insert(key, self.dense.len());
                self.dense.push(key);
            }
            (false, Some(idx)) => {
                self.position.remove(key);
                self.dense.swap_remove(idx);
                if let Some(&moved) = self.dense.get(idx) {
                    self.position[moved] = idx;
                }
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// Draws uniformly among the accounts that are not `excluded`.
    pub(super) fn draw(&self, excluded: &Excluded, rng: &mut impl Rng) -> Option<AccountKey> {
        if self.dense.is_empty() {
            return None;
        }
        if excluded.is_empty() {
            return Some(self.dense[rng.random_range(0..self.dense.len())]);
        }
        self.draw_where(|key| !excluded.contains(key), rng)
    }

    /// Draws uniformly among the accounts that `is_wanted`.
    pub(super) fn draw_where(
        &self,
        is_wanted: impl Fn(AccountKey) -> bool,
        rng: &mut impl Rng,
    ) -> Option<AccountKey> {
        if self.dense.is_empty() {
            return None;
        }
        for _ in 0..DRAWS_MAX {
            let key = self.dense[rng.random_range(0..self.dense.len())];
            if is_wanted(key) {
                return Some(key);
            }
        }
        let wanted = self.dense.iter().copied().filter(|key| is_wanted(*key));
        wanted.choose(rng)
    }
}
