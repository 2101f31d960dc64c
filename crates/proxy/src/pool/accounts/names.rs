//! The meaning of names: the account of exactly this spelling, else all that differ just in ASCII
//! case, else, where aliases count, all of this alias.

use std::{collections::BTreeMap, mem, sync::Arc};

use super::{
    super::{AccountKey, name::Name},
    Accounts,
};

impl Accounts {
    /// Changes the spelling of an account, and its alias with it.
    pub(in crate::pool) fn rename(&mut self, key: AccountKey, folded: &Arc<str>, alias: &Arc<str>) {
        self.forget_name(key);
        self.slots[key].folded = Arc::clone(folded);
        self.add_name(key, folded, alias);
    }

    /// A name and an alias mean an account.
    pub(super) fn add_name(&mut self, key: AccountKey, folded: &Arc<str>, alias: &Arc<str>) {
        self.renamed.push(Arc::clone(folded));
        for (names, name) in [(&mut self.by_name, folded), (&mut self.by_alias, alias)] {
            names.entry(Arc::clone(name)).or_default().push(key);
        }
    }

    /// The accounts `name` may mean: the one of exactly this spelling, else all that differ only in
    /// ASCII case, else those of this alias, if it may be one.
    pub(in crate::pool) fn alike(&self, name: &Name) -> &[AccountKey] {
        let of_name = self.by_name.get(name.folded());
        let of_alias = || self.by_alias.get(name.folded());
        let alike = of_name.or_else(|| name.may_be_alias().then(of_alias)?);
        let alike = alike.map_or(&[][..], Vec::as_slice);
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

    /// An account whose number of jobs without ids changed. It is not told again until that changes again.
    pub(in crate::pool) fn next_unnamed_changed(&mut self) -> Option<AccountKey> {
        self.unnamed_changed.pop()
    }

    /// The name and the alias of an account no longer mean it.
    pub(super) fn forget_name(&mut self, key: AccountKey) {
        let Some(account) = self.slots.get(key) else {
            return;
        };
        self.renamed.push(Arc::clone(&account.folded));
        for (names, name) in [
            (&mut self.by_name, &account.folded),
            (&mut self.by_alias, &account.listed.alias),
        ] {
            if let Some(alike) = names.get_mut(name) {
                alike.retain(|other| *other != key);
                if alike.is_empty() {
                    names.remove(name);
                }
            }
        }
    }
}
