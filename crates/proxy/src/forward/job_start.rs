//! Calls that start a job: a slot first, then the submission.

use std::{future, pin::pin, sync::Arc, task::Poll, time::Duration};

use tokio::{
    select,
    time::{Instant, sleep, sleep_until},
};

use super::{
    CallOrigin, Forward,
    call::Call,
    patience::Patience,
    response::{self, Carried},
    retry::UNSENT_PAUSE,
    submissions::{JobStart, Reservation, Submitted},
};
use crate::{
    backoff::doubled,
    error::Error,
    idempotency,
    ledger::{KnowsKey, PickRequest, Recall, TakePlace},
    metrics::RetryReason,
    peer::RequestBody,
    picker::Picked,
    pool::{Body, Claim, Key, Known, LeaseId, Name},
    records::{Arrival, Delivery, Entered, Found, Outcome, RecordId, Twin},
};

/// The longest pause before a job start is tried again of which nothing was sent.
const UNSENT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// The pause before a job start looks again whether an earlier one is lost: that shows within a second.
const DOUBT_PAUSE: Duration = Duration::from_millis(100);

/// What becomes of a job start before it takes a slot.
enum Recorded {
    /// It goes on, and its record is made.
    New(Delivery),
    /// It has its answer.
    Answered(Carried),
}

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
        body: RequestBody,
        origin: &CallOrigin,
    ) -> Result<Carried, Error> {
        let operation = call.operation();
        let key = idempotency::read(&call.headers, &origin.caller, &call.method, &operation)?;
        let wait = call.wait()?.unwrap_or(self.settings.wait);
        let patience = Patience {
            left: wait.min(self.selection.wait_max),
            shutdown: self.picker.shutdown().clone(),
        };
        // A client that asks first is refused before it sends its body.
        if call.asks_first
            && let Some(refusal) = self.refusal_now(key.clone(), patience.left).await?
        {
            return Err(refusal);
        }
        let (mut request, deadline) = self.read_request(&call, body, patience).await?;
        let body = request.submitted(&call, operation).await;
        let claim = key.map(|key| Claim {
            key,
            fingerprint: body.fingerprint,
        });
        // A call that comes again needs no account.
        if let Some(claim) = claim.clone()
            && let Some(known) = self.ledger.call(Recall { claim }).await?
        {
            return Box::pin(self.submissions.replay(known)).await;
        }
        let arrival = self.arrival(&call, &body, claim.as_ref(), origin);
        let delivery = match self.record(&arrival).await? {
            Recorded::New(delivery) => delivery,
            Recorded::Answered(answer) => return Ok(answer),
        };
        let bound = select! {
            biased;
            bound = self.router.bind_to_owner(&mut request, deadline) => bound,
            () = self.picker.shutdown().cancelled() => Err(Error::ShuttingDown),
        };
        let preferred = bound?;
        let start = Arc::new(JobStart {
            call,
            request,
            body,
            claim,
            caller: origin.caller.of_call(Arc::clone(&origin.request_id)),
        });
        let pick = PickRequest {
            preferred: preferred.as_deref().map(Name::new),
            place: Some(self.ledger.call(TakePlace).await?),
            ..start.pick(Arc::default())
        };
        self.start(&start, pick, deadline, delivery, origin).await
    }

    /// What its record says of a call.
    fn arrival(
        &self,
        call: &Call,
        body: &Body,
        claim: Option<&Claim>,
        origin: &CallOrigin,
    ) -> Arrival {
        let has_twins = claim.is_none() && !self.settings.redeliver.is_zero();
        Arrival {
            request_id: Arc::clone(&origin.request_id),
            key: claim.and_then(|_| idempotency::word(&call.headers).map(Arc::from)),
            client_name: origin.caller.name().cloned(),
            body: body.clone(),
            claim: claim.cloned(),
            twin: has_twins.then(|| Twin {
                scope: origin.caller.shared_scope(),
                ip: origin.ip(),
                operation: Arc::clone(&body.operation),
                fingerprint: body.fingerprint,
            }),
            client: origin.client.clone(),
        }
    }

    /// Records a job start, unless an earlier one of the same client with the same body has an answer for it,
    /// since that client was gone before it had it. Waits for the end of an earlier start that is under way.
    ///
    /// # Errors
    /// It is not known what became of the earlier start: another one might be a second job.
    async fn record(&self, arrival: &Arrival) -> Result<Recorded, Error> {
        let mut is_patient = false;
        loop {
            let promise = match self.records.enter(arrival, is_patient) {
                Entered::New(delivery) => return Ok(Recorded::New(delivery)),
                Entered::Twin(promise) => promise,
                Entered::InDoubt => {
                    sleep(DOUBT_PAUSE).await;
                    continue;
                }
                // What another connection of the client brings may come before the end of the one before.
                Entered::Beside => {
                    sleep(DOUBT_PAUSE).await;
                    is_patient = true;
                    continue;
                }
                // The server drops this call as soon as it looks at the client.
                Entered::Overtaken => future::pending().await,
            };
            let was_under_way = !promise.is_settled();
            promise.settled().await;
            let delivery = promise.delivery;
            let Some(record) = self.records.get(delivery.id()) else {
                continue;
            };
            let (task_id, email) = match &record.outcome {
                Outcome::Accepted(task_id) => (task_id.clone(), record.email.clone()),
                Outcome::Uncertain(error) => {
                    let resolved = self.records.resolve(delivery.id(), &record, &self.ledger);
                    match resolved.await? {
                        Found::Job(task_id, email) => (task_id, email),
                        Found::NoJob => continue,
                        Found::Undecided => return Err(error.clone()),
                    }
                }
                // The earlier start is no job: this one goes on by itself.
                Outcome::Waiting | Outcome::Submitting | Outcome::Refused(_) | Outcome::Unsent => {
                    continue;
                }
            };
            let submissions = &self.submissions;
            let answer = submissions.redeliver(&task_id, email, record.lease, was_under_way);
            match Box::pin(answer).await {
                Some(answer) => {
                    return Ok(Recorded::Answered(response::delivered(answer, delivery)));
                }
                None => self.records.note_failed(delivery.id()),
            }
        }
    }

    /// Takes a slot and submits, and again until `deadline` while that helps.
    async fn start(
        &self,
        start: &Arc<JobStart>,
        mut pick: PickRequest,
        deadline: Instant,
        delivery: Delivery,
        origin: &CallOrigin,
    ) -> Result<Carried, Error> {
        let mut count = self.metrics.count_pick(Instant::now());
        pick.lease = Some(self.draw_lease(&delivery));
        let record = delivery.id();
        let reserved = self.reserve_first(start, deadline, &mut pick, record, origin);
        let reserved = reserved.await;
        match &reserved {
            Ok(Reserved::Known(_)) => count.cancel(),
            Ok(Reserved::Now(_)) => count.end(None),
            Err(error) => count.end(Some(error)),
        }
        let mut reserved = reserved?;
        let (mut sent_count, mut unsent_count, mut refused_by) = (0, 0, None);
        loop {
            let reservation = match reserved {
                Reserved::Now(reservation) => reservation,
                Reserved::Known(known) => {
                    return Box::pin(self.submissions.replay(known)).await;
                }
            };
            let moved = self.submissions.note_moved(refused_by.take(), &reservation);
            moved.await;
            let submitted = self.submit(start, reservation, sent_count, &delivery, origin);
            let refusal = match submitted.await {
                Ok(Submitted::Answered(answer)) => {
                    return Ok(response::delivered(answer, delivery));
                }
                Ok(Submitted::PushedBack {
                    answer,
                    attempts,
                    by,
                }) => {
                    (sent_count, refused_by) = (attempts, by);
                    Ok(answer)
                }
                Ok(Submitted::NotSent(error)) => Err(error),
                Err(error) => return told(Err(error), delivery),
            };
            if deadline <= Instant::now() {
                return told(refusal, delivery);
            }
            // A full account was no fault of the call: it goes back to its place among those that wait.
            self.records.wait_again(delivery.id());
            if refusal.is_err() {
                self.until_reachable(unsent_count, deadline).await;
                unsent_count += 1;
                if deadline <= Instant::now() {
                    return told(refusal, delivery);
                }
            }
            pick.lease = Some(self.draw_lease(&delivery));
            let next = self.reserve(start, deadline, &mut pick, record).await;
            reserved = match self.if_present(start, next, origin).await {
                Ok(reserved) => reserved,
                Err(error) => return told(refusal.or(Err(error)), delivery),
            };
            if matches!(reserved, Reserved::Now(_)) {
                self.metrics.count_retry(match refusal {
                    Ok(_) => RetryReason::Full,
                    Err(_) => RetryReason::Unsent,
                });
            }
        }
    }

    /// Submits a call. From now on its client is answered though it has closed its sending side: it may wait for
    /// the answer all the same.
    async fn submit(
        &self,
        start: &Arc<JobStart>,
        reservation: Reservation,
        sent_count: u32,
        delivery: &Delivery,
        origin: &CallOrigin,
    ) -> Result<Submitted, Error> {
        origin.client.bind(true);
        let (submissions, request_id) = (&self.submissions, &origin.request_id);
        let under_way = self.records.submit(delivery.id());
        let submitted = submissions.submit(start, reservation, sent_count, under_way, request_id);
        let submitted = submitted.await;
        origin.client.bind(false);
        submitted
    }

    /// Reserves what a job start needs. If it has to wait for that, its client must still be there then. One that
    /// has closed its sending side and need not wait may only have said all that it has to say.
    async fn reserve_first(
        &self,
        start: &JobStart,
        deadline: Instant,
        pick: &mut PickRequest,
        record: RecordId,
        origin: &CallOrigin,
    ) -> Result<Reserved, Error> {
        let mut reserving = pin!(self.reserve(start, deadline, pick, record));
        let at_once = future::poll_fn(|cx| Poll::Ready(reserving.as_mut().poll(cx))).await;
        match at_once {
            Poll::Ready(reserved) => reserved,
            Poll::Pending => self.if_present(start, reserving.await, origin).await,
        }
    }

    /// What was reserved for a call that has waited, unless its client has hung up: then it goes back.
    ///
    /// The record of the call stood before this look. So a twin that comes after the client has left finds the
    /// record, or this call finds that the client has left: there are not two jobs.
    async fn if_present(
        &self,
        start: &JobStart,
        reserved: Result<Reserved, Error>,
        origin: &CallOrigin,
    ) -> Result<Reserved, Error> {
        match reserved {
            Ok(Reserved::Now(reservation)) if origin.client.is_gone() => {
                // As seldom as large.
                Box::pin(self.submissions.take_back(start, reservation)).await;
                // The server drops this call as soon as it looks at the client.
                future::pending().await
            }
            reserved => reserved,
        }
    }

    /// Draws the lease that a call asks for next.
    fn draw_lease(&self, delivery: &Delivery) -> LeaseId {
        let lease = LeaseId::random(&mut rand::rng());
        self.records.note_lease(delivery.id(), lease);
        lease
    }

    /// Takes a slot for a job start, or prepares it to go without one if its account is not in the list.
    async fn reserve(
        &self,
        start: &JobStart,
        deadline: Instant,
        pick: &mut PickRequest,
        record: RecordId,
    ) -> Result<Reserved, Error> {
        match self.picker.pick_until(deadline, pick).await {
            Ok(Picked::Slot(slot)) => Ok(Reserved::Now(Reservation::Slot(Box::new(slot)))),
            Ok(Picked::Known(known)) => Ok(Reserved::Known(known)),
            // The account may be new; the upstream judges it.
            Err(Error::UnknownAccount) => {
                self.fetcher.wake();
                self.reserve_unlisted(start, deadline, record).await
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// Waits until the upstream may be reachable again, at most until `deadline` or the shutdown. So many tries
    /// before sent nothing: each waits twice as long as the one before.
    async fn until_reachable(&self, unsent_count: u32, deadline: Instant) {
        let pause = doubled(UNSENT_PAUSE, unsent_count, UNSENT_PAUSE_MAX);
        let mut wake_at = Instant::now() + pause;
        loop {
            select! {
                () = sleep_until(deadline.min(wake_at)) => {}
                () = self.picker.shutdown().cancelled() => return,
            }
            if self.upstream.is_reachable() || deadline <= Instant::now() {
                return;
            }
            wake_at = Instant::now() + UNSENT_PAUSE_MAX;
        }
    }

    /// Claims the key of a job start without a slot, if it has one, and waits until its record is durable: a restart
    /// knows it by nothing else.
    async fn reserve_unlisted(
        &self,
        start: &JobStart,
        deadline: Instant,
        record: RecordId,
    ) -> Result<Reserved, Error> {
        let lease = LeaseId::random(&mut rand::rng());
        self.records.note_unlisted(record, lease);
        let claim = start.claim.clone();
        let known = select! {
            biased;
            () = self.picker.shutdown().cancelled() => return Err(Error::ShuttingDown),
            known = self.ledger.prepare_without_slot(lease, claim, deadline) => known?,
        };
        Ok(match known {
            Some(known) => Reserved::Known(known),
            None => Reserved::Now(Reservation::Unlisted(lease)),
        })
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
        Ok(reason.filter(|reason| !matches!(reason, Error::Learning(_) | Error::Unavailable)))
    }
}

/// The answer to a call that became no job, or of which it is not known: its client has it, if it is there.
fn told(answer: Result<Carried, Error>, delivery: Delivery) -> Result<Carried, Error> {
    match answer {
        Ok(answer) => Ok(response::delivered(answer, delivery)),
        Err(error) => {
            delivery.take_error();
            Err(error)
        }
    }
}
