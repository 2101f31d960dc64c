//! Calls that start a job: a slot first, then the submission.

use std::{sync::Arc, time::Duration};

use hyper::body::Incoming;
use tokio::time::{Instant, sleep_until};

use super::{
    Forward,
    call::Call,
    response::Carried,
    retry::UNSENT_PAUSE,
    submissions::{JobStart, Reservation, Submitted},
};
use crate::{
    backoff::doubled,
    error::Error,
    idempotency::{self, Caller},
    ledger::{ClaimKey, KnowsKey, PickRequest, Recall, TakePlace},
    picker::Picked,
    pool::{Claim, Key, Known, LeaseId, Name, Refusal},
};

/// The longest pause before a job start is tried again of which nothing was sent.
const UNSENT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// What a job start got.
enum Reserved {
    /// What it is sent under.
    Now(Reservation),
    /// Nothing new: its key stands for something already.
    Known(Known),
}

impl Forward {
    /// Carries a call that starts a job: on the account that the client named, on the owner of what the
    /// call refers to, or on a random account with a free slot.
    pub(super) async fn start_job(
        &self,
        call: Call,
        body: Incoming,
        caller: Caller,
        request_id: &str,
    ) -> Result<Carried, Error> {
        let key = idempotency::read(&call.headers, &caller, &call.method, &call.operation())?;
        let wait = call.wait()?.unwrap_or(self.settings.wait);
        let mut patience = wait.min(self.selection.wait_max);
        // A client that asks first is refused before it sends its body.
        if call.asks_first
            && let Some(refusal) = self.refusal_now(key.clone(), patience).await?
        {
            return Err(refusal);
        }
        let reading = self
            .buffer
            .read(&call, body, self.idle_timeout, &mut patience);
        let mut request = reading.await?;
        // What is left of the wait counts from the end of the request.
        let deadline = Instant::now() + patience;
        self.note_ignored(&call, request.given()).await;
        let body = request.submitted(&call, &self.hasher);
        let claim = key.map(|key| Claim {
            key,
            fingerprint: body.fingerprint,
        });
        // A call that comes again needs no account.
        if let Some(claim) = claim.clone()
            && let Some(known) = self.ledger.call(Recall { claim }).await?
        {
            return self.submissions.replay(known).await;
        }
        let preferred = self.router.bind_to_owner(&mut request).await?;
        let start = Arc::new(JobStart {
            call,
            request,
            body,
            claim,
        });
        let pick = PickRequest {
            preferred: preferred.as_deref().map(Name::new),
            place: Some(self.ledger.call(TakePlace).await?),
            ..start.pick(Arc::default())
        };
        self.start(&start, pick, deadline, request_id).await
    }

    /// Takes a slot and submits, and again until `deadline` while that helps.
    async fn start(
        &self,
        start: &Arc<JobStart>,
        mut pick: PickRequest,
        deadline: Instant,
        request_id: &str,
    ) -> Result<Carried, Error> {
        let mut count = self.metrics.count_pick();
        let reserved = self.reserve(start, deadline, &mut pick).await;
        match &reserved {
            Ok(Reserved::Known(_)) => count.cancel(),
            Ok(Reserved::Now(_)) => count.end(None),
            Err(error) => count.end(Some(error)),
        }
        let mut reservation = match reserved? {
            Reserved::Now(reservation) => reservation,
            Reserved::Known(known) => return self.submissions.replay(known).await,
        };
        let (mut sent_count, mut unsent_count) = (0, 0);
        loop {
            let submissions = &self.submissions;
            let submitted = submissions.submit(start, reservation, sent_count, request_id);
            let refusal = match submitted.await? {
                Submitted::Answered(answer) => return Ok(answer),
                Submitted::PushedBack { answer, attempts } => {
                    sent_count = attempts;
                    Ok(answer)
                }
                Submitted::NotSent => {
                    self.until_reachable(unsent_count, deadline).await;
                    unsent_count += 1;
                    Err(Error::Unreachable)
                }
            };
            if deadline <= Instant::now() {
                return refusal;
            }
            // A full account was no fault of the call: it goes back to its place among those that wait.
            reservation = match self.reserve(start, deadline, &mut pick).await {
                Ok(Reserved::Now(reservation)) => reservation,
                Ok(Reserved::Known(known)) => return self.submissions.replay(known).await,
                Err(error) => return refusal.or(Err(error)),
            };
        }
    }

    /// Takes a slot for a job start, or claims its key if its account is not in the list.
    async fn reserve(
        &self,
        start: &JobStart,
        deadline: Instant,
        pick: &mut PickRequest,
    ) -> Result<Reserved, Error> {
        match self.picker.pick_until(deadline, pick).await {
            Ok(Picked::Slot(slot)) => Ok(Reserved::Now(Reservation::Slot(slot))),
            Ok(Picked::Known(known)) => Ok(Reserved::Known(known)),
            // The account may be new; the upstream judges it.
            Err(Error::UnknownAccount) => {
                self.fetcher.wake();
                let lease = LeaseId::random(&mut rand::rng());
                Ok(match self.claim(start, lease).await? {
                    Some(known) => Reserved::Known(known),
                    None => Reserved::Now(Reservation::Unlisted(lease)),
                })
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// Waits until the upstream may be reachable again, at most until `deadline`. So many tries before sent
    /// nothing: each waits twice as long as the one before.
    async fn until_reachable(&self, unsent_count: u32, deadline: Instant) {
        let pause = doubled(UNSENT_PAUSE, unsent_count, UNSENT_PAUSE_MAX);
        let mut wake_at = Instant::now() + pause;
        loop {
            sleep_until(deadline.min(wake_at)).await;
            if self.upstream.is_reachable() || deadline <= Instant::now() {
                return;
            }
            wake_at = Instant::now() + UNSENT_PAUSE_MAX;
        }
    }

    /// Claims the key of a job start without a slot. Returns what the key stands for already, if anything.
    async fn claim(&self, start: &JobStart, lease: LeaseId) -> Result<Option<Known>, Error> {
        let Some(claim) = start.claim.clone() else {
            return Ok(None);
        };
        let claimed = self.ledger.call(ClaimKey { claim, lease }).await?;
        Ok(claimed.err())
    }

    /// Why a job start would be refused now, unless its key is known.
    async fn refusal_now(&self, key: Option<Key>, wait: Duration) -> Result<Option<Error>, Error> {
        if let Some(key) = key
            && self.ledger.call(KnowsKey { key }).await?
        {
            return Ok(None);
        }
        if self.picker.is_probe_due() {
            return Ok(None);
        }
        if wait.is_zero() {
            return Ok(self.picker.refusal_now().await);
        }
        // What passes is waited out.
        let reason = self.picker.unavailable_reason().await;
        Ok(reason.filter(|reason| !matches!(reason, Error::Refused(Refusal::Learning))))
    }
}
