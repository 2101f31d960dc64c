//! The meaning of names: the account of exactly this spelling, else all that differ just in ASCII
//! case.

use std::{collections::BTreeMap, mem, sync::Arc};

use super::{
    super::{AccountKey, name::Name},
    Accounts,
};

impl Accounts {
    /// Changes the spelling of an account.
    pub(in crate::pool) fn rename(&mut self, key: AccountKey, folded: &Arc<str>) {
        self.forget_name(key);
        self.renamed.push(Arc::clone(folded));
        self.slots[key].folded = Arc::clone(folded);
        self.by_name
            .entry(Arc::clone(folded))
            .or_default()
            .push(key);
    }

    /// The accounts `name` may mean: the one of exactly this spelling, else all that differ only in
    /// ASCII case.
    pub(in crate::pool) fn alike(&self, name: &Name) -> &[AccountKey] {
        let alike = self
            .by_name
            .get(name.folded())
            .map_or(&[][..], Vec::as_slice);
        let exact = alike
            .iter()
            .position(|key| self.slots[*key].listed.email == *name.given());
        exact.map_or(alike, |place| &alike[place..=place])
    }

    /// The one account that `name` means.
    pub(in crate::pool) fn find(&self, name: &Name) -> Option<AccountKey> {
        match self.alike(name) {
            &[key] => Some(key),
            _ => None,
        }
    }

    /// Whether names mean other accounts now.
    pub(in crate::pool) fn has_renamed(&self) -> bool {
        !self.renamed.is_empty()
    }

    /// The folded e-mails that mean other accounts since the last call.
    pub(in crate::pool) fn take_renamed(&mut self) -> Vec<Arc<str>> {
        mem::take(&mut self.renamed)
    }

    /// Sets how many jobs the newest round lists on the accounts with this folded e-mail.
    pub(in crate::pool) fn recount_listed(
        &mut self,
        folded: &str,
        counts: &BTreeMap<AccountKey, u32>,
    ) {
        for key in self.by_name.get(folded).cloned().unwrap_or_default() {
            let count = counts.get(&key).copied().unwrap_or(0);
            if mem::replace(&mut self.slots[key].jobs_in_round, count) != count {
                self.note_moved(key);
            }
        }
    }

    /// Sets how many jobs without ids the newest round shows on the accounts with this folded e-mail.
    pub(in crate::pool) fn recount_unnamed(
        &mut self,
        folded: &str,
        counts: &BTreeMap<AccountKey, u32>,
    ) {
        for key in self.by_name.get(folded).cloned().unwrap_or_default() {
            let count = counts.get(&key).copied().unwrap_or(0);
            if mem::replace(&mut self.slots[key].unnamed, count) != count {
                self.unnamed_changed.push(key);
                self.note_moved(key);
            }
        }
    }

    /// The accounts whose number of jobs without ids changed since the last call.
    pub(in crate::pool) fn take_unnamed_changed(&mut self) -> Vec<AccountKey> {
        mem::take(&mut self.unnamed_changed)
    }

    /// A name no longer means an account.
    pub(super) fn forget_name(&mut self, key: AccountKey) {
        let Some(account) = self.slots.get(key) else {
            return;
        };
        self.renamed.push(Arc::clone(&account.folded));
        if let Some(alike) = self.by_name.get_mut(&account.folded) {
            alike.retain(|other| *other != key);
            if alike.is_empty() {
                self.by_name.remove(&account.folded);
            }
        }
    }
}
