//! Picks: what the ledger grants, unless the process shuts down or the upstream rejects the token; counted,
//! and explained with what the fetcher knows.

use std::{sync::Arc, time::Duration};

use accounts_fetcher::{FetchResult, Listing};
use tokio::{
    select,
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::doubled,
    error::Error,
    jobs::Rounds,
    ledger::{
        Ledger, PickError, PickRequest, Recall, RefusalNow, Slot, Unavailable, UnavailableReason,
    },
    metrics::Metrics,
    pool::{Known, LeaseId, Refusal},
};

/// Takes slots from the ledger.
#[derive(Debug)]
pub struct Picker {
    ledger: Arc<Ledger>,
    listing: watch::Receiver<Listing>,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
    /// When the upstream rejected the token for a job, and how many fetches had succeeded by then.
    rejected_at: watch::Sender<Option<(Instant, u64)>>,
    /// Whether the list comes from a file: then no fetch shows whether the token is valid again.
    has_own_list: bool,
    /// The rounds that grants rest on, if any are held.
    rounds: Option<Arc<Rounds>>,
}

/// What a pick returned.
#[derive(Debug)]
pub enum Picked {
    /// A slot.
    Slot(Slot),
    /// No slot, since the idempotency key is known.
    Known(Known),
}

/// How long nothing is picked after the token was rejected, where no fetch can show that it is valid.
const REJECTED_PAUSE: Duration = Duration::from_secs(60);

/// The first and the longest pause before the ledger is asked again.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Results of fetches that the upstream answered with a list: the token is valid.
const ANSWERED: [FetchResult; 5] = [
    FetchResult::Ok,
    FetchResult::Partial,
    FetchResult::ShrinkHeld,
    FetchResult::EmptyHeld,
    FetchResult::Empty,
];

impl Picker {
    /// Picks from `ledger` until `shutdown`. `has_own_list`: the list comes from a file. `rounds`: those that
    /// grants rest on, if any are held.
    pub fn new(
        ledger: Arc<Ledger>,
        listing: watch::Receiver<Listing>,
        metrics: Arc<Metrics>,
        shutdown: CancellationToken,
        has_own_list: bool,
        rounds: Option<Arc<Rounds>>,
    ) -> Self {
        Self {
            ledger,
            listing,
            metrics,
            shutdown,
            rejected_at: watch::Sender::new(None),
            has_own_list,
            rounds,
        }
    }

    /// The upstream rejected the token: nothing is picked until a fetch succeeds.
    pub fn reject_token(&self) {
        let rejected_at = (Instant::now(), self.answered_count());
        if self.rejected_at.send_replace(Some(rejected_at)).is_none() {
            tracing::error!("the upstream rejects the token: check upstream.token; picking stops");
        }
    }

    /// Lets picks go on if the token is valid again.
    fn heal_token(&self) {
        let answered_count = self.answered_count();
        let is_healed = self.rejected_at.send_if_modified(|rejected_at| {
            let is_over = |(at, count): &mut (Instant, u64)| {
                if self.has_own_list {
                    at.elapsed() >= REJECTED_PAUSE
                } else {
                    *count < answered_count
                }
            };
            rejected_at.take_if(is_over).is_some()
        });
        if is_healed {
            tracing::info!("the upstream accepts the token again; picking goes on");
        }
    }

    /// Why nothing is picked, even if slots are free.
    fn stop(&self) -> Option<Error> {
        if self.shutdown.is_cancelled() {
            return Some(Error::ShuttingDown);
        }
        self.heal_token();
        let is_token_rejected = self.rejected_at.borrow().is_some();
        is_token_rejected.then_some(Error::TokenRejected)
    }

    fn answered_count(&self) -> u64 {
        let listing = self.listing.borrow();
        ANSWERED
            .iter()
            .map(|result| listing.counts.get(*result))
            .sum()
    }

    /// Leases a slot, waiting for one as long as `request` says.
    ///
    /// Cancel-safe: a dropped call leaves the queue and takes no slot.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn pick(&self, request: &PickRequest) -> Result<Picked, Error> {
        let mut count = self.metrics.count_pick();
        let picked = self.pick_again(request).await;
        match &picked {
            Ok(Picked::Known(_)) => count.cancel(),
            Ok(Picked::Slot(_)) => count.end(None),
            Err(error) => count.end(Some(error)),
        }
        picked
    }

    /// Leases another slot for a call that was counted already.
    ///
    /// Cancel-safe: a dropped call leaves the queue and takes no slot.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn pick_again(&self, request: &PickRequest) -> Result<Picked, Error> {
        if let Some(stop) = self.stop() {
            // What was granted before is still valid.
            if let Some(claim) = request.claim.clone()
                && let Some(known) = self.ledger.call(Recall { claim }).await?
            {
                return Ok(Picked::Known(known));
            }
            return Err(stop);
        }
        let mut rejected_at = self.rejected_at.subscribe();
        let lease = LeaseId::random(&mut rand::rng());
        let picked = select! {
            biased;
            () = self.shutdown.cancelled() => return Err(Error::ShuttingDown),
            _ = rejected_at.wait_for(Option::is_some) => return Err(Error::TokenRejected),
            picked = self.pick_fresh(lease, request) => picked,
        };
        match picked {
            Ok(slot) => Ok(Picked::Slot(slot)),
            Err(PickError::Known(known)) => Ok(Picked::Known(known)),
            Err(error) => Err(self.explain(error.into())),
        }
    }

    /// Leases a slot for a job start, waiting until `deadline` for a slot, for the first list and the first
    /// round, and for the ledger. It is counted once, when the call arrives.
    ///
    /// Cancel-safe: a dropped call leaves the queue and takes no slot.
    ///
    /// # Errors
    /// Why there is none by then, or why waiting would not help.
    pub async fn pick_until(
        &self,
        deadline: Instant,
        request: &mut PickRequest,
    ) -> Result<Picked, Error> {
        let mut pauses = 0;
        let mut listing = self.listing.clone();
        loop {
            listing.mark_unchanged();
            request.wait = deadline.saturating_duration_since(Instant::now());
            let error = match self.pick_again(request).await {
                Err(error) if !request.wait.is_zero() => error,
                ended => return ended,
            };
            if error == Error::Refused(Refusal::Learning) {
                select! {
                    () = self.ledger.learnt() => {}
                    // The fetcher may know why there is no list.
                    _ = listing.changed() => {}
                    () = sleep_until(deadline) => {}
                }
            } else if error == Error::Unavailable {
                let pause = doubled(PAUSE_MIN, pauses, PAUSE_MAX);
                pauses += 1;
                sleep_until(deadline.min(Instant::now() + pause)).await;
            } else {
                return Err(error);
            }
        }
    }

    /// Leases a slot on what a fresh round shows, if there is one or one can be had soon. That time is part of the
    /// wait.
    async fn pick_fresh(&self, lease: LeaseId, request: &PickRequest) -> Result<Slot, PickError> {
        let Some(rounds) = &self.rounds else {
            return self.ledger.pick(lease, request).await;
        };
        if rounds.is_fresh() {
            return self.ledger.pick(lease, request).await;
        }
        let asked_at = Instant::now();
        let is_fresh = rounds.freshen().await;
        let request = PickRequest {
            wait: request.wait.saturating_sub(asked_at.elapsed()),
            ..request.clone()
        };
        let picked = self.ledger.pick(lease, &request).await;
        if picked.is_ok() && !is_fresh {
            rounds.counts().note_stale_grant();
        }
        picked
    }

    /// Why a pick that takes any account and does not wait would be refused now, or `None`.
    pub async fn refusal_now(&self) -> Option<Error> {
        match self.stop() {
            None => self.explained(self.ledger.call(RefusalNow).await),
            stop => stop,
        }
    }

    /// Why no pick can be granted even if slots are released, or `None`.
    pub async fn unavailable_reason(&self) -> Option<Error> {
        match self.stop() {
            None => self.explained(self.ledger.call(UnavailableReason).await),
            stop => stop,
        }
    }

    fn explained(&self, refusal: Result<Option<Refusal>, Unavailable>) -> Option<Error> {
        match refusal {
            Ok(refusal) => Some(self.explain(refusal?.into())),
            Err(unavailable) => Some(unavailable.into()),
        }
    }

    /// Replaces "there is no list yet" by the reason, if the fetcher knows it.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::tests::{any_account, ledger_of};

    fn picker(has_own_list: bool) -> (Picker, watch::Sender<Listing>) {
        let (publish, listing) = watch::channel(Listing::default());
        let metrics = Arc::new(Metrics::new().unwrap());
        let shutdown = CancellationToken::new();
        let picker = Picker::new(ledger_of(9), listing, metrics, shutdown, has_own_list, None);
        (picker, publish)
    }

    async fn picks(picker: &Picker) -> Result<(), Error> {
        match picker.pick(&any_account()).await? {
            Picked::Slot(slot) => slot.keep(),
            Picked::Known(known) => panic!("{known:?}"),
        }
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_rejected_token_stops_picks_for_a_while_where_no_fetch_shows_it() {
        let (picker, _publish) = picker(true);
        picks(&picker).await.unwrap();
        picker.reject_token();
        tokio::time::advance(
            REJECTED_PAUSE
                .checked_sub(Duration::from_millis(1))
                .unwrap(),
        )
        .await;
        assert_eq!(picks(&picker).await, Err(Error::TokenRejected));
        assert_eq!(
            picker.unavailable_reason().await,
            Some(Error::TokenRejected)
        );
        tokio::time::advance(Duration::from_millis(1)).await;
        picks(&picker).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn time_alone_heals_no_token_that_fetches_show() {
        let (picker, _publish) = picker(false);
        picker.reject_token();
        tokio::time::advance(100 * REJECTED_PAUSE).await;
        assert_eq!(picks(&picker).await, Err(Error::TokenRejected));
    }
}
