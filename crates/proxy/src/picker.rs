//! Picks for a client: what the ledger grants, beside what the fetcher knows and while the process
//! takes new work.

use std::sync::Arc;

use accounts_fetcher::{FetchResult, Listing};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    error::Error,
    ledger::{Ledger, PickRequest, Slot},
    metrics::Metrics,
    pool::Refusal,
};

/// Picks, counts how they ended, and says why not.
#[derive(Debug)]
pub struct Picker {
    ledger: Arc<Ledger>,
    listing: watch::Receiver<Listing>,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
}

impl Picker {
    /// Picks from `ledger` until `shutdown`.
    pub fn new(
        ledger: Arc<Ledger>,
        listing: watch::Receiver<Listing>,
        metrics: Arc<Metrics>,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            ledger,
            listing,
            metrics,
            shutdown,
        }
    }

    /// Leases a slot, waiting for one as long as `request` says.
    ///
    /// Cancel-safe: a dropped call leaves the queue and takes no slot.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn pick(&self, request: &PickRequest) -> Result<Slot, Error> {
        let mut count = self.metrics.count_pick();
        let picked = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => Err(Error::ShuttingDown),
            picked = self.ledger.pick(request) => picked.map_err(|error| self.explain(error.into())),
        };
        count.end(picked.as_ref().err());
        picked
    }

    /// Why a pick that takes any account would be refused now, or `None`. All slots in use is a
    /// reason only for a pick that does not wait.
    pub async fn obstacle(&self, waits: bool) -> Option<Error> {
        if self.shutdown.is_cancelled() {
            return Some(Error::ShuttingDown);
        }
        let obstacle = if waits {
            self.ledger.outage().await
        } else {
            self.ledger.obstacle().await
        };
        obstacle.map(|refusal| self.explain(refusal.into()))
    }

    /// Says why there is no list, where the fetcher knows.
    pub fn explain(&self, error: Error) -> Error {
        if error != Error::Refused(Refusal::Learning) {
            return error;
        }
        let last_result = self.listing.borrow().last_result;
        match last_result {
            Some(FetchResult::Unauthorized) => Error::TokenRejected,
            Some(FetchResult::EmptyHeld | FetchResult::Empty | FetchResult::NotConfigured) => {
                Refusal::NoAccounts.into()
            }
            _ => error,
        }
    }
}
