//! Picks: what the ledger grants, unless the process shuts down or the upstream rejects the token; counted,
//! and explained with what the fetcher knows.

mod token;

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use accounts_fetcher::{FetchResult, Listing};
use tokio::{
    select,
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::doubled,
    error::{Error, TokenFault},
    jobs::Rounds,
    keyed_hash::HashKey,
    ledger::{
        Ledger, PickError, PickRequest, Recall, RefusalNow, Slot, Unavailable, UnavailableReason,
    },
    metrics::Metrics,
    pool::{Known, LeaseId, Mark, Refusal},
};
use token::Token;

/// Takes slots from the ledger.
#[derive(Debug)]
pub struct Picker {
    ledger: Arc<Ledger>,
    listing: watch::Receiver<Listing>,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
    token: Token,
    /// The rounds that grants rest on, if any are held.
    rounds: Option<Arc<Rounds>>,
    /// What marks are made with, if leases have any.
    mark_key: Option<HashKey>,
}

/// What a pick returned.
#[derive(Debug)]
pub enum Picked {
    /// A slot.
    Slot(Slot),
    /// No slot, since the idempotency key is known.
    Known(Known),
}

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
    /// grants rest on, if any are held. `mark_key`: what marks are made with, if leases get any.
    pub(crate) fn new(
        ledger: Arc<Ledger>,
        listing: watch::Receiver<Listing>,
        metrics: Arc<Metrics>,
        shutdown: CancellationToken,
        has_own_list: bool,
        rounds: Option<Arc<Rounds>>,
        mark_key: Option<HashKey>,
    ) -> Self {
        Self {
            token: Token::new(has_own_list, ledger.events().clone()),
            ledger,
            listing,
            metrics,
            shutdown,
            rounds,
            mark_key,
        }
    }

    /// The upstream takes no job of the token, and says so in `words`: nothing is picked until it does. After a 402
    /// one job start every 10 minutes is, to find out.
    pub fn reject_token(&self, fault: TokenFault, words: &str) {
        self.token.reject(fault, words, self.answered_count());
    }

    /// A job start that was sent at `sent_at` got another answer.
    pub fn note_answer(&self, sent_at: Instant) {
        self.token.note_answer(sent_at);
    }

    /// Whether one job start may be picked for though picks have stopped.
    pub fn is_probe_due(&self) -> bool {
        self.token.is_probe_due()
    }

    /// Cancelled when the process shuts down: from then on nothing is picked.
    pub fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// Why nothing is picked, even if slots are free.
    pub(crate) fn stop(&self) -> Option<Error> {
        if self.shutdown.is_cancelled() {
            return Some(Error::ShuttingDown);
        }
        let fault = self.token.fault(|| self.answered_count());
        fault.map(Error::TokenRejected)
    }

    /// Why nothing is picked now. Picks that wait are granted once the state can be written again.
    fn stop_now(&self) -> Option<Error> {
        let is_failing = self.ledger.is_failing();
        self.stop().or(is_failing.then_some(Error::Unavailable))
    }

    fn answered_count(&self) -> u64 {
        let listing = self.listing.borrow();
        ANSWERED
            .iter()
            .map(|result| listing.counts.get(*result))
            .sum()
    }

    /// Leases a slot for a call that came at `asked_at`, waiting for one as long as `request` says.
    ///
    /// Cancel-safe: a dropped call leaves the queue and takes no slot.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn pick(&self, request: &PickRequest, asked_at: Instant) -> Result<Picked, Error> {
        let mut count = self.metrics.count_pick(asked_at);
        let picked = self.pick_again(request, asked_at).await;
        match &picked {
            Ok(Picked::Known(_)) => count.cancel(),
            Ok(Picked::Slot(_)) => count.end(None),
            Err(error) => count.end(Some(error)),
        }
        picked
    }

    /// Leases another slot for a call that was counted already. `asked_at`: now.
    ///
    /// Cancel-safe: a dropped call leaves the queue and takes no slot.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn pick_again(
        &self,
        request: &PickRequest,
        asked_at: Instant,
    ) -> Result<Picked, Error> {
        let stop = self.stop();
        let is_job_start = request.ttl.is_none();
        let may_probe = is_job_start && stop == Some(Error::TokenRejected(TokenFault::Unpaid));
        let probe = may_probe.then(|| self.token.probe()).flatten();
        if let Some(stop) = stop.filter(|_| probe.is_none()) {
            // What was granted before is still valid.
            // It is rare: the future of every pick would have room for it.
            if let Some(claim) = request.claim.clone()
                && let Some(known) = Box::pin(self.ledger.call(Recall { claim })).await?
            {
                return Ok(Picked::Known(known));
            }
            return Err(stop);
        }
        let lease = request.lease;
        let lease = lease.unwrap_or_else(|| LeaseId::random(&mut rand::rng()));
        // A hash costs as much as all else that a pick does under the ledger's lock.
        let has_mark = is_job_start || self.ledger.offers_marks();
        let key = self.mark_key.as_ref().filter(|_| has_mark);
        let marked = key.map(|key| {
            Box::new(PickRequest {
                mark: Some(Mark::of(key, lease)),
                ..request.clone()
            })
        });
        let asked = marked.as_deref().unwrap_or(request);
        let mut picking = pin!(self.pick_fresh(lease, asked, asked_at));
        // Most picks end at once: to watch what stops one that waits would be a fifth of their instructions.
        let picked = match poll_once(picking.as_mut()).await {
            Poll::Ready(picked) => picked,
            Poll::Pending => Box::pin(self.unless_stopped(picking, probe.is_some())).await?,
        };
        if let Some(probe) = probe.filter(|_| picked.is_ok()) {
            probe.sent();
        }
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
            let now = Instant::now();
            request.wait = deadline.saturating_duration_since(now);
            let error = match self.pick_again(request, now).await {
                Err(error) if !request.wait.is_zero() => error,
                ended => return ended,
            };
            if matches!(error, Error::Learning(_)) {
                select! {
                    () = self.shutdown.cancelled() => {}
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
    async fn pick_fresh(
        &self,
        lease: LeaseId,
        request: &PickRequest,
        asked_at: Instant,
    ) -> Result<Slot, PickError> {
        let rounds = self.rounds.as_ref();
        match rounds.filter(|rounds| !rounds.is_fresh_at(asked_at)) {
            None => self.ledger.pick(lease, request, asked_at).await,
            // It is rare, and has a request of its own.
            Some(rounds) => Box::pin(self.pick_after(rounds, lease, request, asked_at)).await,
        }
    }

    /// Waits for a pick unless all picks are stopped. `is_probe`: it finds out whether the token is taken again.
    async fn unless_stopped(
        &self,
        picking: impl Future<Output = Result<Slot, PickError>>,
        is_probe: bool,
    ) -> Result<Result<Slot, PickError>, Error> {
        select! {
            biased;
            () = self.shutdown.cancelled() => Err(Error::ShuttingDown),
            fault = self.token.rejected(), if !is_probe => Err(Error::TokenRejected(fault)),
            picked = picking => Ok(picked),
        }
    }

    /// Leases a slot after the next round, or when that is given up.
    async fn pick_after(
        &self,
        rounds: &Rounds,
        lease: LeaseId,
        request: &PickRequest,
        asked_at: Instant,
    ) -> Result<Slot, PickError> {
        let is_fresh = rounds.freshen().await;
        let now = Instant::now();
        let request = PickRequest {
            wait: request.wait.saturating_sub(now - asked_at),
            ..request.clone()
        };
        let picked = self.ledger.pick(lease, &request, now).await;
        if picked.is_ok() && !is_fresh {
            rounds.counts().note_stale_grant();
        }
        picked
    }

    /// Why a pick that takes any account and does not wait would be refused now, or `None`.
    pub async fn refusal_now(&self) -> Option<Error> {
        match self.stop_now() {
            None => self.explained(self.ledger.call(RefusalNow).await),
            stop => stop,
        }
    }

    /// Why no pick can be granted even if slots are released, or `None`.
    pub async fn unavailable_reason(&self) -> Option<Error> {
        match self.stop_now() {
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

    /// Replaces "not known yet" by the reason, if the fetcher or the rounds know it.
    pub fn explain(&self, error: Error) -> Error {
        if !matches!(error, Error::Learning(None)) {
            return error;
        }
        let listing = self.listing.borrow();
        match listing.last_result {
            Some(FetchResult::Unauthorized) => Error::TokenRejected(TokenFault::Unknown),
            Some(FetchResult::EmptyHeld | FetchResult::Empty | FetchResult::NotConfigured) => {
                Refusal::NoAccounts.into()
            }
            _ if listing.snapshot.is_none() => Error::Learning(listing.last_problem.clone()),
            _ => {
                let rounds = self.rounds.as_ref();
                let problem = rounds.and_then(|rounds| rounds.counts().last_failure());
                Error::Learning(problem.map(|problem| {
                    format!("the list of running jobs cannot be read: {problem}").into()
                }))
            }
        }
    }
}

/// Polls `future`, and does not wait for it.
async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ledger::tests::{any_account, ledger_of};

    const HOUR: Duration = Duration::from_secs(3600);
    const UNPAID: Error = Error::TokenRejected(TokenFault::Unpaid);

    fn picker(slots: u32) -> (Picker, watch::Sender<Listing>) {
        let (publish, listing) = watch::channel(Listing::default());
        let metrics = Arc::new(Metrics::new().unwrap());
        let shutdown = CancellationToken::new();
        let ledger = ledger_of(slots);
        let picker = Picker::new(ledger, listing, metrics, shutdown, false, None, None);
        (picker, publish)
    }

    async fn picks(picker: &Picker, request: &PickRequest) -> Result<(), Error> {
        match picker.pick(request, Instant::now()).await? {
            Picked::Slot(slot) => slot.keep(),
            Picked::Known(known) => panic!("{known:?}"),
        }
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_pick_is_awaited_with_is_cheap_to_move() {
        let (picker, _publish) = picker(1);
        let request = any_account();
        let bytes = size_of_val(&picker.pick(&request, Instant::now()));
        assert!(bytes <= 1024, "{bytes}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_rejected_token_stops_every_pick() {
        for fault in [TokenFault::Unknown, TokenFault::Unpaid] {
            let (picker, _publish) = picker(9);
            picks(&picker, &any_account()).await.unwrap();
            picker.reject_token(fault, "no");
            let refused = Error::TokenRejected(fault);
            for request in [any_account(), PickRequest::default()] {
                assert_eq!(picks(&picker, &request).await, Err(refused.clone()));
            }
            assert_eq!(picker.unavailable_reason().await, Some(refused.clone()));
            assert_eq!(picker.refusal_now().await, Some(refused));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pick_that_waits_is_stopped() {
        for stop in [Error::ShuttingDown, UNPAID] {
            let (picker, _publish) = picker(1);
            picks(&picker, &any_account()).await.unwrap();
            let request = PickRequest {
                wait: HOUR,
                ..any_account()
            };
            let stopping = async {
                if stop == UNPAID {
                    picker.reject_token(TokenFault::Unpaid, "no");
                } else {
                    picker.shutdown.cancel();
                }
            };
            let (picked, ()) = tokio::join!(biased; picks(&picker, &request), stopping);
            assert_eq!(picked, Err(stop));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_gets_the_lease_that_it_has_drawn() {
        let (picker, _publish) = picker(1);
        let lease = LeaseId::random(&mut rand::rng());
        let mut request = PickRequest {
            lease: Some(lease),
            ..PickRequest::default()
        };
        match picker.pick_until(Instant::now(), &mut request).await {
            Ok(Picked::Slot(slot)) => assert_eq!(slot.lease().id, lease),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_402_one_job_start_is_granted_and_no_pick() {
        let (picker, _publish) = picker(9);
        picker.reject_token(TokenFault::Unpaid, "no");
        tokio::time::advance(HOUR).await;
        assert!(picker.is_probe_due());
        assert_eq!(picks(&picker, &any_account()).await, Err(UNPAID));
        picks(&picker, &PickRequest::default()).await.unwrap();
        assert!(!picker.is_probe_due());
        assert_eq!(picks(&picker, &PickRequest::default()).await, Err(UNPAID));
        tokio::time::advance(HOUR).await;
        picker.note_answer(Instant::now());
        picks(&picker, &any_account()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_start_without_a_slot_probes_nothing() {
        let (picker, _publish) = picker(1);
        picks(&picker, &PickRequest::default()).await.unwrap();
        picker.reject_token(TokenFault::Unpaid, "no");
        tokio::time::advance(HOUR / 2).await;
        let refused = picks(&picker, &PickRequest::default()).await;
        assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
        assert!(picker.is_probe_due());
    }
}
