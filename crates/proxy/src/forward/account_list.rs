//! Whether an account is still in the account list.

use std::time::Duration;

use accounts_fetcher::{Listing, Waker};
use tokio::{sync::watch, time::timeout};

/// How long an answer about a missing account waits for the list. A client waits for it, too.
const FETCH_WAIT: Duration = Duration::from_secs(2);

/// The account list, and the way to have it fetched.
#[derive(Clone, Debug)]
pub(super) struct AccountList {
    listing: watch::Receiver<Listing>,
    fetcher: Waker,
}

impl AccountList {
    pub(super) fn new(listing: watch::Receiver<Listing>, fetcher: Waker) -> Self {
        Self { listing, fetcher }
    }

    /// Asks for a fetch.
    pub(super) fn refresh(&self) {
        self.fetcher.wake();
    }

    /// Whether the account of a job start has left the list. The list is fetched, which is waited for,
    /// [`FETCH_WAIT`] at most; many callers share a fetch, and fetches come once a second at most. `None`: no other
    /// account may take the job, so it is only fetched.
    pub(super) async fn has_left(&self, email: Option<&str>) -> bool {
        let Some(email) = email else {
            self.refresh();
            return false;
        };
        let has_left = |listing: &Listing| {
            let snapshot = listing.snapshot.as_ref();
            !snapshot.is_some_and(|it| it.accounts.iter().any(|account| *account.email == *email))
        };
        let mut listing = self.listing.clone();
        let decided = async {
            tokio::select! {
                biased;
                // Another fetch may have shown it already.
                is_seen = async { listing.wait_for(has_left).await.is_ok() } => is_seen,
                () = self.fetcher.fetched() => has_left(&self.listing.borrow()),
            }
        };
        // If no fetch ends in time, the last list counts.
        let decided = timeout(FETCH_WAIT, decided).await;
        decided.unwrap_or(false)
    }
}
