//! Accounts by one of their names. Only their keys lie in the table: the names lie in the accounts.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::super::AccountKey;

/// A name may mean several accounts. The names of all keys must be told as they were when the keys were added.
#[derive(Debug, Default)]
pub(super) struct KeyIndex {
    keys: HashTable<AccountKey>,
    hasher: RandomState,
}

impl KeyIndex {
    pub(super) fn insert<N: Hash>(&mut self, key: AccountKey, name_of: impl Fn(AccountKey) -> N) {
        let Self { keys, hasher } = self;
        let hash_of = |key: &AccountKey| hasher.hash_one(name_of(*key));
        keys.insert_unique(hash_of(&key), key, hash_of);
    }

    pub(super) fn remove(&mut self, name: impl Hash, key: AccountKey) {
        let hash = self.hasher.hash_one(name);
        if let Ok(entry) = self.keys.find_entry(hash, |other| *other == key) {
            entry.remove();
        }
    }

    /// The accounts of this name, in no order, and perhaps others.
    pub(super) fn like(&self, name: impl Hash) -> impl Iterator<Item = AccountKey> {
        self.keys.iter_hash(self.hasher.hash_one(name)).copied()
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}
