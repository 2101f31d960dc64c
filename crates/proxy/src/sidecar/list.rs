//! The account list on its way from the fetcher to the ledger.

use std::{sync::Arc, time::Duration};

use accounts_fetcher::{Account, Listing, Snapshot};
use tokio::{
    sync::watch,
    task::{spawn_blocking, yield_now},
    time::sleep,
};

use crate::{
    events::{AccountFacts, CapChange, Fact, ListFacts, Listed},
    ledger::{FollowList, FollowListOn, Ledger, ListProgress, NewestList, Unavailable},
    pool::{ListChange, ListDifference},
};

/// The pause before a list is applied again after the ledger did not take it.
const FOLLOW_PAUSE: Duration = Duration::from_millis(100);

/// The most accounts of a list that is compared with the one before on a worker: a fraction of a millisecond. A hundred
/// thousand take a tenth of a second.
const COMPARED_AT_ONCE_MAX: usize = 512;

/// Applies every new snapshot to the ledger.
pub(super) async fn follow(mut listing: watch::Receiver<Listing>, ledger: Arc<Ledger>) {
    let mut applied = None;
    loop {
        let newest = listing.borrow_and_update().snapshot.clone();
        if let Some(snapshot) = newest
            && !applied
                .as_ref()
                .is_some_and(|applied| Arc::ptr_eq(applied, &snapshot))
        {
            if follow_list(&ledger, Arc::clone(&snapshot)).await == Ok(true) {
                applied = Some(snapshot);
            } else {
                sleep(FOLLOW_PAUSE).await;
                continue;
            }
        }
        if listing.changed().await.is_err() {
            return;
        }
    }
}

/// False if the ledger has followed another list meanwhile.
async fn follow_list(ledger: &Ledger, snapshot: Arc<Snapshot>) -> Result<bool, Unavailable> {
    let base = ledger.call(NewestList).await?;
    // The old list is kept until the ledger is unlocked: freeing it takes a while.
    let old = base.clone();
    let change = if snapshot.accounts.len() <= COMPARED_AT_ONCE_MAX {
        ListChange::between(base, &snapshot)
    } else {
        let compared = spawn_blocking(move || ListChange::between(base, &snapshot));
        let Ok(change) = compared.await else {
            return Ok(false);
        };
        change
    };
    let facts = facts(&change);
    let mut progress = ledger.call(FollowList { change }).await?;
    while progress == Some(ListProgress::Partial) {
        yield_now().await;
        progress = Some(ledger.call(FollowListOn).await?);
    }
    drop(old);
    if progress.is_some() && !facts.is_empty() {
        ledger.events().publish(&Fact::ListChanged(facts));
    }
    Ok(progress.is_some())
}

/// What a person is told of the change.
fn facts(change: &ListChange) -> ListFacts {
    let mut facts = ListFacts::default();
    for difference in change.differences() {
        match difference {
            ListDifference::Joins(account) => facts.add(|| listed(account)),
            ListDifference::Leaves(account) => facts.remove(|| listed(account)),
            ListDifference::Cap(account, from) => facts.change(|| CapChange {
                account: named(account),
                from,
                to: account.max_jobs,
            }),
        }
    }
    facts
}

fn listed(account: &Account) -> Listed {
    Listed {
        account: named(account),
        max_jobs: account.max_jobs,
    }
}

fn named(account: &Account) -> AccountFacts {
    AccountFacts {
        email: Arc::clone(&account.email),
        alias: account.alias,
    }
}
