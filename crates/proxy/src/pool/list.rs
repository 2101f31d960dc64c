//! The account list that is in force, and what a new one changes.
//!
//! Two lists are compared before the ledger is locked, so that the work under the lock depends only
//! on what changed.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use accounts_fetcher::{Account, Snapshot};
use foldhash::fast::RandomState;

/// The distance of two ranks after all accounts were ranked. It bounds how many accounts can join
/// between two others before all are ranked again.
const RANK_STEP: u64 = 1 << 20;

/// An account list that was taken over.
#[derive(Debug, Default)]
pub struct List {
    /// Those of the list that was fetched, in its order.
    accounts: Arc<[Arc<Account>]>,
    /// Their ranks. Those of a list that only grew at its end are one run.
    runs: Box<[Run]>,
}

/// The ranks of accounts that follow each other, [`RANK_STEP`] apart.
#[derive(Debug)]
struct Run {
    first: u64,
    /// At least 1.
    count: u64,
}

/// One account of a list.
#[derive(Clone, Debug)]
pub(super) struct ListEntry {
    pub(super) account: Arc<Account>,
    /// Grows along the list.
    pub(super) rank: u64,
}

/// What a new account list changes, to be taken over by [`Pool::begin_list`](super::Pool::begin_list).
#[derive(Debug)]
pub struct ListChange {
    /// The list that it changes; `None` before the first one.
    pub(super) base: Option<Arc<List>>,
    pub(super) list: Arc<List>,
    /// First those that leave and narrow, then those that widen.
    ///
    /// So at any moment in between every slot that can be granted is one of the old list, until the first step of the
    /// second kind; from then on it is one of the new list.
    pub(super) steps: Vec<ListStep>,
    /// How many accounts the list before did not name.
    pub(super) joins_count: usize,
    /// Accounts have other ranks than before, though their order may be the same.
    pub(super) is_ranked_anew: bool,
}

/// What a new list changes of one account. `from` is what the old one says of it.
#[derive(Debug)]
pub(super) enum ListStep {
    Leaves(Arc<Account>),
    /// It takes no more jobs than before.
    Narrows {
        from: Arc<Account>,
        to: ListEntry,
    },
    /// It may take more, or joins.
    Widens {
        from: Option<Arc<Account>>,
        to: ListEntry,
    },
}

/// Whether an account of the old list takes no more jobs by its new entry.
fn is_narrowed(old: &Account, new: &Account) -> bool {
    new.error().is_some() || (old.error().is_none() && new.max_jobs <= old.max_jobs)
}

impl ListChange {
    /// Compares `snapshot` with the list in force.
    pub fn between(base: Option<Arc<List>>, snapshot: &Snapshot) -> Self {
        let none = List::default();
        let old = base.as_deref().unwrap_or(&none);
        let known = old
            .entries()
            .map(|(account, rank)| (account.identity(), (account, rank)));
        let known: HashMap<_, _, RandomState> = known.collect();
        let accounts = &snapshot.accounts;
        let mut named = HashSet::with_capacity_and_hasher(accounts.len(), RandomState::default());
        let mut ranks = Vec::with_capacity(accounts.len());
        let mut befores = Vec::with_capacity(accounts.len());
        for account in accounts.iter() {
            let identity = account.identity();
            let before = known.get(&identity).copied();
            ranks.push(before.map_or(0, |(_, rank)| rank));
            befores.push(before);
            named.insert(identity);
        }
        let is_ranked_anew = rank(&mut ranks, old.last_rank());
        let left = old.accounts.iter();
        let left = left.filter(|account| !named.contains(&account.identity()));
        let mut steps: Vec<_> = left.cloned().map(ListStep::Leaves).collect();
        let (mut widened, mut joins_count) = (Vec::new(), 0);
        for ((account, rank), before) in accounts.iter().zip(&ranks).zip(befores) {
            if before == Some((account, *rank)) {
                continue;
            }
            let to = ListEntry {
                account: Arc::clone(account),
                rank: *rank,
            };
            match before.map(|(from, _)| Arc::clone(from)) {
                Some(from) if is_narrowed(&from, account) => {
                    steps.push(ListStep::Narrows { from, to });
                }
                from => {
                    joins_count += usize::from(from.is_none());
                    widened.push(ListStep::Widens { from, to });
                }
            }
        }
        steps.append(&mut widened);
        Self {
            list: Arc::new(List {
                accounts: Arc::clone(accounts),
                runs: runs(&ranks),
            }),
            steps,
            joins_count,
            is_ranked_anew,
            base,
        }
    }
}

/// What a new list says of an account that the old one did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListDifference<'a> {
    /// It is new.
    Joins(&'a Account),
    /// It is not named any more.
    Leaves(&'a Account),
    /// It has another cap than this one.
    Cap(&'a Account, u32),
}

impl ListChange {
    /// What a person would notice: accounts that come and go, and other caps. As many as steps at most.
    pub fn differences(&self) -> impl Iterator<Item = ListDifference<'_>> {
        self.steps.iter().filter_map(|step| {
            let (from, to) = match step {
                ListStep::Leaves(account) => return Some(ListDifference::Leaves(account)),
                ListStep::Narrows { from, to } => (Some(from), to),
                ListStep::Widens { from, to } => (from.as_ref(), to),
            };
            let account = &*to.account;
            match from {
                None => Some(ListDifference::Joins(account)),
                Some(old) if old.max_jobs != account.max_jobs => {
                    Some(ListDifference::Cap(account, old.max_jobs))
                }
                Some(_) => None,
            }
        })
    }
}

impl List {
    /// The accounts, in order.
    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.iter().map(|account| &**account)
    }

    /// The accounts in order, with their ranks.
    fn entries(&self) -> impl Iterator<Item = (&Arc<Account>, u64)> {
        self.accounts.iter().zip(self.ranks())
    }

    fn ranks(&self) -> impl Iterator<Item = u64> {
        self.runs.iter().flat_map(Run::ranks)
    }

    /// 0 if it names no account.
    fn last_rank(&self) -> u64 {
        let last = self.runs.last();
        last.map_or(0, |run| run.first + (run.count - 1) * RANK_STEP)
    }
}

impl Run {
    fn ranks(&self) -> impl Iterator<Item = u64> + use<> {
        let first = self.first;
        (0..self.count).map(move |nth| first + nth * RANK_STEP)
    }
}

fn runs(ranks: &[u64]) -> Box<[Run]> {
    let runs = ranks.chunk_by(|rank, next| *next == rank + RANK_STEP);
    let runs = runs.map(|run| Run {
        first: run[0],
        count: run.len() as u64,
    });
    runs.collect()
}

/// Ranks the accounts of a list in their order. Those that have a rank, which is not 0, keep it as long as a free one fits
/// between; else all get ranks above `last_known`, the last one of the list before. So no rank is that of
/// another account while one list takes the place of the other. Returns whether all are ranked anew.
fn rank(ranks: &mut [u64], last_known: u64) -> bool {
    let mut last = 0;
    let mut is_ranked = true;
    let mut next_known = vec![u64::MAX; ranks.len() + 1];
    for (idx, rank) in ranks.iter().enumerate().rev() {
        next_known[idx] = if *rank > 0 {
            *rank
        } else {
            next_known[idx + 1]
        };
    }
    for (idx, rank) in ranks.iter_mut().enumerate() {
        if *rank == 0 {
            let next = next_known[idx];
            *rank = if next == u64::MAX {
                last + RANK_STEP
            } else {
                last + (next.saturating_sub(last)) / 2
            };
        }
        is_ranked &= *rank > last;
        last = *rank;
    }
    if !is_ranked {
        // 2^63 suffice for 2^26 such lists of a hundred thousand accounts.
        for (nth, rank) in (1..).zip(ranks) {
            *rank = last_known + nth * RANK_STEP;
        }
    }
    !is_ranked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(emails: &[&str]) -> Snapshot {
        emails.iter().map(|email| Account::new(email, 1)).collect()
    }

    fn changed(change: &ListChange) -> (Vec<&str>, usize) {
        let changed = change.steps.iter().filter_map(|step| match step {
            ListStep::Narrows { to, .. } | ListStep::Widens { to, .. } => Some(&*to.account.email),
            ListStep::Leaves(_) => None,
        });
        let changed: Vec<_> = changed.collect();
        let left_count = change.steps.len() - changed.len();
        (changed, left_count)
    }

    #[test]
    fn a_change_names_only_what_changed_and_keeps_the_order() {
        let first = ListChange::between(None, &snapshot(&["a@x", "b@x", "c@x"]));
        assert_eq!(changed(&first), (vec!["a@x", "b@x", "c@x"], 0));
        let mut list = first.list;
        for (emails, expected) in [
            (vec!["a@x", "b@x", "c@x"], (vec![], 0)),
            (vec!["a@x", "c@x"], (vec![], 1)),
            (vec!["a@x", "b@x", "c@x", "d@x"], (vec!["b@x", "d@x"], 0)),
            (vec!["e@x", "a@x", "b@x", "c@x", "d@x"], (vec!["e@x"], 0)),
            (vec![], (vec![], 5)),
        ] {
            let change = ListChange::between(Some(list), &snapshot(&emails));
            assert_eq!(changed(&change), expected, "{emails:?}");
            list = change.list;
            assert!(list.ranks().is_sorted_by(|a, b| a < b), "{list:?}");
        }
    }

    #[test]
    fn accounts_that_change_places_are_ranked_anew() {
        let mut list = ListChange::between(None, &snapshot(&["a@x", "b@x"])).list;
        for round in 0..100 {
            let emails = if round % 2 == 0 {
                ["b@x", "a@x"]
            } else {
                ["a@x", "b@x"]
            };
            list = ListChange::between(Some(list), &snapshot(&emails)).list;
            assert!(list.ranks().is_sorted_by(|a, b| a < b), "{list:?}");
        }
        // Twenty accounts fit between two neighbours, one after the other.
        let mut emails = vec!["a@x".to_owned(), "z@x".to_owned()];
        for count in 0..40 {
            emails.insert(1, format!("{count}@x"));
            let names: Vec<_> = emails.iter().map(String::as_str).collect();
            list = ListChange::between(Some(list), &snapshot(&names)).list;
            assert!(list.ranks().is_sorted_by(|a, b| a < b), "{list:?}");
        }
    }
}
