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
    pub(super) fn insert<'a, N: Hash + ?Sized + 'a>(
        &mut self,
        name: &N,
        key: AccountKey,
        name_of: impl Fn(AccountKey) -> &'a N,
    ) {
        let Self { keys, hasher } = self;
        let rehash = |key: &AccountKey| hasher.hash_one(name_of(*key));
        keys.insert_unique(hasher.hash_one(name), key, rehash);
    }

    pub(super) fn remove<N: Hash + ?Sized>(&mut self, name: &N, key: AccountKey) {
        let hash = self.hasher.hash_one(name);
        if let Ok(entry) = self.keys.find_entry(hash, |other| *other == key) {
            entry.remove();
        }
    }

    /// The accounts of this name, in no order.
    pub(super) fn of<'a, N: Hash + Eq + ?Sized + 'a>(
        &self,
        name: &N,
        name_of: impl Fn(AccountKey) -> &'a N,
    ) -> impl Iterator<Item = AccountKey> {
        let alike = self.keys.iter_hash(self.hasher.hash_one(name)).copied();
        alike.filter(move |key| name_of(*key) == name)
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}
