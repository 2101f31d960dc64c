//! The meaning of names: the account of exactly this spelling, else all that differ just in ASCII
//! case, else, where aliases count, all of this alias.

use std::{borrow::Cow, collections::BTreeMap, mem, sync::Arc};

use accounts_fetcher::{Alias, Identity, alike};

use super::{
    super::{AccountKey, name::Name},
    Accounts,
};

impl Accounts {
    /// The e-mail and the alias of an account in the list mean it from now on.
    pub(in crate::pool) fn add_name(&mut self, key: AccountKey) {
        let slots = &self.slots;
        let email = Arc::clone(&slots[key].listed.email);
        self.renamed.push(Arc::clone(Name::sharing(email).folded()));
        self.by_name
            .insert(key, |key| alike(&slots[key].listed.email));
        self.by_alias.insert(key, |key| slots[key].listed.alias);
    }

    /// The accounts whose e-mails are this one in lower case.
    fn of_name(&self, folded: &str) -> impl Iterator<Item = AccountKey> {
        // It is in lower case.
        let alike = if folded.is_ascii() {
            Cow::Borrowed(folded)
        } else {
            alike(folded)
        };
        self.by_name.like(alike).filter(move |key| {
            let email = &*self.slots[*key].listed.email;
            email == folded || email.eq_ignore_ascii_case(folded)
        })
    }

    /// The account of this identity, however it is spelled.
    pub(in crate::pool) fn of_identity(&self, identity: &Identity) -> Option<AccountKey> {
        let mut like = self.by_name.like(alike(identity.as_str()));
        like.find(|key| self.slots[*key].listed.identity() == *identity)
    }

    /// The accounts of the alias that a name may be.
    fn of_alias(&self, name: &Name) -> impl Iterator<Item = AccountKey> {
        let alias = name
            .may_be_alias()
            .then(|| Alias::from_text(name.folded()))
            .flatten();
        alias.into_iter().flat_map(move |alias| {
            let like = self.by_alias.like(alias);
            like.filter(move |key| self.slots[*key].listed.alias == alias)
        })
    }

    /// The account of exactly this spelling.
    fn spelled(&self, name: &Name) -> Option<AccountKey> {
        let mut alike = self.of_name(name.folded());
        alike.find(|key| self.slots[*key].listed.email == *name.given())
    }

    /// The accounts `name` may mean: the one of exactly this spelling, else all that differ only in
    /// ASCII case, else those of this alias, if it may be one.
    pub(in crate::pool) fn alike(&self, name: &Name) -> Vec<AccountKey> {
        let spelled = self.spelled(name).into_iter();
        let mut alike: Vec<_> = spelled.collect();
        if alike.is_empty() {
            alike.extend(self.of_name(name.folded()));
        }
        if alike.is_empty() {
            alike.extend(self.of_alias(name));
        }
        alike.sort_unstable();
        alike
    }

    /// The one account that `name` means.
    pub(in crate::pool) fn find(&self, name: &Name) -> Option<AccountKey> {
        let mut alike = self.of_name(name.folded());
        match (alike.next(), alike.next()) {
            (Some(key), None) => Some(key),
            (Some(_), Some(_)) => self.spelled(name),
            (None, _) => {
                let mut alike = self.of_alias(name);
                alike.next().filter(|_| alike.next().is_none())
            }
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

    /// The accounts whose e-mails are this one in lower case, in an order that depends on no hasher.
    pub(super) fn named(&self, folded: &str) -> Vec<AccountKey> {
        let mut keys: Vec<_> = self.of_name(folded).collect();
        keys.sort_unstable();
        keys
    }

    /// Sets how many jobs the newest round lists on the accounts with this folded e-mail.
    pub(in crate::pool) fn recount_listed(
        &mut self,
        folded: &str,
        counts: &BTreeMap<AccountKey, u32>,
    ) {
        for key in self.named(folded) {
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
        for key in self.named(folded) {
            let count = counts.get(&key).copied().unwrap_or(0);
            if self.slots[key].set_unnamed(count) {
                self.unnamed_changed.push(key);
                self.note_moved(key);
            }
        }
    }

    /// An account whose number of jobs without ids changed. It is not told again until that changes again.
    pub(in crate::pool) fn next_unnamed_changed(&mut self) -> Option<AccountKey> {
        self.unnamed_changed.pop()
    }

    /// The e-mail and the alias of an account no longer mean it.
    pub(in crate::pool) fn forget_name(&mut self, key: AccountKey) {
        let Some(account) = self.slots.get(key) else {
            return;
        };
        let listed = &account.listed;
        let name = Name::sharing(Arc::clone(&listed.email));
        self.renamed.push(Arc::clone(name.folded()));
        self.by_name.remove(alike(&listed.email), key);
        self.by_alias.remove(listed.alias, key);
    }
}
