//! Walks over long lists, a part at a time: between the parts the ledger is free for others.

use tokio::task::yield_now;

use super::{AccountsAfter, DryRun, LeasesAfter, Ledger, PickError, PickRequest, Unavailable};
use crate::pool::{AccountPlace, AccountView, LeasePlace, LeaseView, Page};

/// The most rows that one operation reads: they are copied in a few microseconds, about as long as ten picks take, and
/// written as JSON in a few hundred.
pub const ROWS_MAX: usize = 64;

/// Which rows of a list an operation reads.
#[derive(Clone, Debug)]
pub struct Part<P> {
    /// Those behind this place; `None`: from the first one on.
    pub after: Option<P>,
    /// At most so many, and at most [`ROWS_MAX`].
    pub limit: usize,
}

impl<P> Part<P> {
    pub(super) fn rows_max(&self) -> usize {
        self.limit.min(ROWS_MAX)
    }
}

/// A walk over a list, or over some of it.
///
/// It ends, however fast the list grows: it sees no more rows than there were at its begin.
#[derive(Clone, Debug)]
pub struct Walk<P> {
    after: Option<P>,
    left: Option<usize>,
}

impl<P: Clone> Walk<P> {
    /// A walk over everything behind a place, or over the first `limit` rows there.
    pub fn new(after: Option<P>, limit: Option<usize>) -> Self {
        Self { after, left: limit }
    }

    /// What to read next.
    pub fn part(&self) -> Part<P> {
        Part {
            after: self.after.clone(),
            limit: self.left.unwrap_or(ROWS_MAX),
        }
    }

    /// Takes note of what was read. False at the end.
    pub fn goes_on<R>(&mut self, page: &Page<R, P>) -> bool {
        let left = self.left.unwrap_or(page.total);
        let left = left.saturating_sub(page.rows.len());
        self.left = Some(left);
        self.after.clone_from(&page.next);
        left > 0 && self.after.is_some()
    }

    /// Where a walk over the rest begins. `None`: there is no rest.
    pub fn rest(&self) -> Option<&P> {
        self.after.as_ref()
    }
}

impl Ledger {
    /// Shows every account, in list order.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`Unavailable`] if the ledger cannot be reached.
    pub async fn each_account(
        &self,
        mut show: impl FnMut(&AccountView),
    ) -> Result<(), Unavailable> {
        let mut walk = Walk::<AccountPlace>::new(None, None);
        loop {
            let page = self.call(AccountsAfter(walk.part())).await?.view;
            page.rows.iter().for_each(&mut show);
            if !walk.goes_on(&page) {
                return Ok(());
            }
            yield_now().await;
        }
    }

    /// Shows every account, in list order, and whether a pick could take it now. Takes nothing.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`PickError`] if the account asked for cannot be found, or the ledger cannot be reached.
    pub async fn dry_run(
        &self,
        request: &PickRequest,
        mut show: impl FnMut(&AccountView, bool),
    ) -> Result<(), PickError> {
        let mut walk = Walk::<AccountPlace>::new(None, None);
        loop {
            let (request, part) = (request.clone(), walk.part());
            let page = self.call(DryRun { request, part }).await??;
            for (account, is_eligible) in &page.rows {
                show(account, *is_eligible);
            }
            if !walk.goes_on(&page) {
                return Ok(());
            }
            yield_now().await;
        }
    }

    /// Shows every held lease, oldest first.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`Unavailable`] if the ledger cannot be reached.
    pub async fn each_lease(&self, mut show: impl FnMut(&LeaseView)) -> Result<(), Unavailable> {
        let mut walk = Walk::<LeasePlace>::new(None, None);
        loop {
            let page = self.call(LeasesAfter(walk.part())).await?.view;
            page.rows.iter().for_each(&mut show);
            if !walk.goes_on(&page) {
                return Ok(());
            }
            yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use accounts_fetcher::{Account, Snapshot};

    use super::*;
    use crate::{
        ledger::{
            FollowList, ListProgress, NewestList,
            tests::{any_account, ledger_over, pick},
        },
        pool::ListChange,
    };

    const COUNT: usize = 10 * ROWS_MAX + 1;

    /// A ledger of many accounts, each with one slot, all of which are held.
    async fn full_ledger() -> Arc<Ledger> {
        let accounts = (0..COUNT).map(|n| Account::new(&format!("{n}@x"), 1));
        let ledger = ledger_over(&accounts.collect());
        for _ in 0..COUNT {
            pick(&ledger, &any_account()).await.unwrap().keep();
        }
        ledger
    }

    /// Counts the rows of a walk, and the turns of another task of the same thread meanwhile.
    struct Turns {
        turns: Arc<AtomicUsize>,
        at_turn: Cell<usize>,
        rows_of_turn: Cell<usize>,
        rows: Cell<usize>,
    }

    impl Turns {
        fn begin() -> Self {
            let turns = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&turns);
            tokio::spawn(async move {
                loop {
                    counted.fetch_add(1, Ordering::Relaxed);
                    yield_now().await;
                }
            });
            Self {
                turns,
                at_turn: Cell::default(),
                rows_of_turn: Cell::default(),
                rows: Cell::default(),
            }
        }

        fn see_row(&self) {
            let turn = self.turns.load(Ordering::Relaxed);
            if self.at_turn.replace(turn) != turn {
                self.rows_of_turn.set(0);
            }
            self.rows.set(self.rows.get() + 1);
            self.rows_of_turn.set(self.rows_of_turn.get() + 1);
            assert!(self.rows_of_turn.get() <= ROWS_MAX, "in one go");
        }

        fn end_walk(&self) {
            assert_eq!(self.rows.take(), COUNT);
            self.rows_of_turn.set(0);
        }
    }

    #[tokio::test]
    async fn others_have_their_turn_after_each_part_of_a_walk() {
        let ledger = full_ledger().await;
        let turns = Turns::begin();
        let accounts = ledger.each_account(|_| turns.see_row());
        accounts.await.unwrap();
        turns.end_walk();
        ledger.each_lease(|_| turns.see_row()).await.unwrap();
        turns.end_walk();
        let request = any_account();
        let found = ledger.dry_run(&request, |_, is_eligible| {
            assert!(!is_eligible);
            turns.see_row();
        });
        found.await.unwrap();
        turns.end_walk();
    }

    #[tokio::test]
    async fn no_operation_reads_more_rows_than_one_part_has() {
        let ledger = full_ledger().await;
        let leases = ledger.call(LeasesAfter(Part {
            after: None,
            limit: usize::MAX,
        }));
        assert_eq!(leases.await.unwrap().rows.len(), ROWS_MAX);
        let accounts = ledger.call(AccountsAfter(Part {
            after: None,
            limit: usize::MAX,
        }));
        assert_eq!(accounts.await.unwrap().rows.len(), ROWS_MAX);
    }

    #[tokio::test]
    async fn a_list_that_is_ranked_anew_hides_no_account_from_a_walk() {
        let mut emails: Vec<_> = (0..COUNT).map(|n| format!("{n:03}@x")).collect();
        let behind = emails[ROWS_MAX..].to_vec();
        let account = |email: &String| Account::new(email, 1);
        let list = |emails: &[String]| emails.iter().map(account).collect::<Snapshot>();
        let ledger = ledger_over(&list(&emails));
        let mut walk = Walk::<AccountPlace>::new(None, None);
        let first = ledger.call(AccountsAfter(walk.part())).await.unwrap();
        assert!(walk.goes_on(&first));
        // Accounts join at one place until no rank is left there.
        for n in 0.. {
            emails.insert(1, format!("new-{n}@x"));
            let base = ledger.call(NewestList).await.unwrap();
            let change = ListChange::between(base, &list(&emails));
            let progress = ledger.call(FollowList { change }).await.unwrap();
            if progress == Some(ListProgress::Partial) {
                break;
            }
        }
        let mut seen = Vec::new();
        loop {
            let page = ledger.call(AccountsAfter(walk.part())).await.unwrap().view;
            seen.extend(page.rows.iter().map(|account| account.email.to_string()));
            if !walk.goes_on(&page) {
                break;
            }
        }
        assert_eq!(seen, behind);
    }

    #[tokio::test]
    async fn a_walk_ends_though_the_list_grows_as_fast() {
        let ledger = crate::ledger::tests::ledger_of(u32::MAX);
        for _ in 0..ROWS_MAX + 1 {
            pick(&ledger, &any_account()).await.unwrap().keep();
        }
        let mut walk = Walk::<LeasePlace>::new(None, None);
        let mut rows = 0;
        loop {
            let page = ledger.call(LeasesAfter(walk.part())).await.unwrap().view;
            rows += page.rows.len();
            for _ in &page.rows {
                pick(&ledger, &any_account()).await.unwrap().keep();
            }
            if !walk.goes_on(&page) {
                break;
            }
        }
        assert!((ROWS_MAX + 1..=2 * ROWS_MAX).contains(&rows), "{rows}");
    }
}
