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
    unconfirmed: Unconfirmed,
}

/// The accounts of a list.
type Known = HashMap<Identity, Arc<Account>>;

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
            Some(self.believe(Vec::new(), &self.known()))
        } else {
            self.unconfirmed = Unconfirmed::Empty { seen };
            None
        }
    }

    fn decide_accounts(&mut self, list: List) -> Verdict {
        let known = self.known();
        let is_sharp_loss = is_sharp_loss(&known, &list.entries);
        if is_sharp_loss && self.unconfirmed != Unconfirmed::Shrunk {
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
            let known = known.get(&identity);
            // What is as it was stays in memory once. A known account with a rejected value stays as it was, too.
            let as_known = known.filter(|known| account.as_ref().is_none_or(|it| *it == ***known));
            accounts.extend(as_known.cloned().or_else(|| account.map(Arc::new)));
        }
        let change = Some(self.believe(accounts, &known));
        Verdict { result, change }
    }

    /// The accounts of the last good list. Their index is made anew for each list that is judged, as many times an hour
    /// as there are fetches: kept, it would take as much memory as the accounts.
    fn known(&self) -> Known {
        let known = self.last_good.iter().flat_map(|list| &*list.accounts);
        known
            .map(|account| (account.identity(), Arc::clone(account)))
            .collect()
    }

    /// Makes `accounts` the last good list; the old snapshot stays if it is equal.
    fn believe(&mut self, accounts: Vec<Arc<Account>>, known: &Known) -> Change {
        self.unconfirmed = Unconfirmed::None;
        let is_same = |known: &Snapshot| *known.accounts == *accounts;
        if self.last_good.as_deref().is_some_and(is_same) {
            return Change::default();
        }
        let mut change = Change {
            is_any: true,
            ..Change::default()
        };
        for account in &accounts {
            match known.get(&account.identity()) {
                None => change.added += 1,
                Some(known) if known != account => change.changed += 1,
                Some(_) => {}
            }
        }
        change.removed = known.len() + change.added - accounts.len();
        self.last_good = Some(Arc::new(Snapshot {
            accounts: accounts.into(),
        }));
        change
    }
}

/// Whether more than half of the known accounts are missing. An account with a rejected value is not missing.
fn is_sharp_loss(known: &Known, entries: &[Entry]) -> bool {
    let is_known = |entry: &&Entry| known.contains_key(&entry.identity);
    let missing = known.len() - entries.iter().filter(is_known).count();
    missing > known.len() / 2
}
