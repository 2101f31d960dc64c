//! Decides which list to believe.
//!
//! The judge holds the last good list and learns how each fetch ended. It guards against
//! well-formed but wrong answers: an empty list is believed only the third time in a row, and a
//! list that loses more than half of the known accounts the second time. A good list in between
//! restarts the count: a loss that comes and goes is not confirmed. A failed fetch does not restart
//! the count of a loss, or an upstream that answers every other time would never be believed. But
//! it does restart the count of empty lists, which a troubled upstream may send.
//!
//! Pure: no I/O, no clock, no log.

#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc};

use crate::{
    Account, FetchResult, Snapshot,
    email::Identity,
    limits::EMPTY_CONFIRMATIONS,
    list::{Entry, List},
};

/// What a successful fetch returned.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Listed(List),
    /// The upstream says that it has no configuration: this counts as an empty list.
    NotConfigured,
}

/// The judge's decision about an [`Answer`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) result: FetchResult,
    /// `Some` when the answer was believed; then [`Judge::last_good`] is its list.
    pub(crate) change: Option<Change>,
}

/// How a believed list differs from the one before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) is_any: bool,
    pub(crate) added: usize,
    pub(crate) removed: usize,
    pub(crate) changed: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Judge {
    last_good: Option<Arc<Snapshot>>,
    /// The index of each account in the last good list.
    places: HashMap<Identity, usize>,
    unconfirmed: Unconfirmed,
}

/// A loss that the previous fetch showed and that is not believed yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Unconfirmed {
    #[default]
    None,
    Shrunk,
    Empty {
        seen: u32,
    },
}

impl Judge {
    /// The last list that was believed.
    pub(crate) fn last_good(&self) -> Option<&Arc<Snapshot>> {
        self.last_good.as_ref()
    }

    /// Notes a fetch that failed.
    pub(crate) fn note_failure(&mut self) {
        if matches!(self.unconfirmed, Unconfirmed::Empty { .. }) {
            self.unconfirmed = Unconfirmed::None;
        }
    }

    /// Decides whether to believe `answer`.
    pub(crate) fn decide(&mut self, answer: Answer) -> Verdict {
        match answer {
            Answer::NotConfigured => {
                let change = self.decide_empty();
                let result = FetchResult::NotConfigured;
                Verdict { result, change }
            }
            Answer::Listed(list) if list.entries.is_empty() => {
                let change = self.decide_empty();
                let result = match change {
                    Some(_) => FetchResult::Empty,
                    None => FetchResult::EmptyHeld,
                };
                Verdict { result, change }
            }
            Answer::Listed(list) => self.decide_accounts(list),
        }
    }

    fn decide_empty(&mut self) -> Option<Change> {
        let seen = match self.unconfirmed {
            Unconfirmed::Empty { seen } => seen + 1,
            Unconfirmed::None | Unconfirmed::Shrunk => 1,
        };
        let known = self.last_good.as_deref();
        let is_known = known.is_some_and(|known| known.accounts.is_empty());
        if is_known || seen >= EMPTY_CONFIRMATIONS {
            Some(self.believe(Vec::new()))
        } else {
            self.unconfirmed = Unconfirmed::Empty { seen };
            None
        }
    }

    fn decide_accounts(&mut self, list: List) -> Verdict {
        if self.is_sharp_loss(&list.entries) && self.unconfirmed != Unconfirmed::Shrunk {
            self.unconfirmed = Unconfirmed::Shrunk;
            let result = FetchResult::ShrinkHeld;
            return Verdict {
                result,
                change: None,
            };
        }
        let result = match list.remarks.rejected {
            0 => FetchResult::Ok,
            _ => FetchResult::Partial,
        };
        let mut accounts = Vec::with_capacity(list.entries.len());
        for Entry { identity, account } in list.entries {
            // A known account with a rejected value stays as it was.
            if let Some(account) = account.or_else(|| self.known(&identity).cloned()) {
                accounts.push((account, identity));
            }
        }
        let change = Some(self.believe(accounts));
        Verdict { result, change }
    }

    /// Whether more than half of the known accounts are missing. An account with a rejected value
    /// is not missing.
    fn is_sharp_loss(&self, entries: &[Entry]) -> bool {
        let is_known = |entry: &&Entry| self.places.contains_key(&entry.identity);
        let missing = self.places.len() - entries.iter().filter(is_known).count();
        missing > self.places.len() / 2
    }

    fn known(&self, identity: &Identity) -> Option<&Account> {
        let place = *self.places.get(identity)?;
        self.last_good.as_ref()?.accounts.get(place)
    }

    /// Makes `accounts` the last good list; the old snapshot stays if it is equal.
    fn believe(&mut self, accounts: Vec<(Account, Identity)>) -> Change {
        self.unconfirmed = Unconfirmed::None;
        let (accounts, identities): (Vec<_>, Vec<_>) = accounts.into_iter().unzip();
        let known = self.last_good.as_deref();
        if known.is_some_and(|known| known.accounts == accounts) {
            return Change::default();
        }
        let mut change = Change {
            is_any: true,
            ..Change::default()
        };
        for (account, identity) in accounts.iter().zip(&identities) {
            match self.known(identity) {
                None => change.added += 1,
                Some(known) if known != account => change.changed += 1,
                Some(_) => {}
            }
        }
        change.removed = self.places.len() + change.added - accounts.len();
        self.places = identities.into_iter().zip(0..).collect();
        self.last_good = Some(Arc::new(Snapshot { accounts }));
        change
    }
}
