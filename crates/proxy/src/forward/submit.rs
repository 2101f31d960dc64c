//! Carrying job starts: a slot first, then the submission, in a task of its own.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span, field::Empty};

use super::{
    Forward,
    answer::{self, ANSWER_READ_MAX, Carried},
    budget::{ATTEMPTS_MAX, pause_after},
    call::Call,
    outcome::{self, Outcome},
    whole::{Outgoing, Whole},
};
use crate::{
    error::Error,
    idempotency::{self, Caller},
    ledger::{ClaimKey, KnowsKey, PickRequest, Recall, Slot, Submission},
    picker::Picked,
    pool::{self, Blame, Claim, Key, LeaseId, Name, Settlement},
    upstream::SendError,
};

/// How one attempt ended.
struct Attempt {
    answer: Result<Carried, Error>,
    next: Next,
}

/// What may come after an attempt.
#[derive(Clone, Copy)]
enum Next {
    /// Nothing: there may be a job, or there would be none anywhere.
    Nothing,
    /// Another account: this one did not take it, for a reason that is not the job's.
    Elsewhere,
    /// The same once more: nothing was sent.
    Again,
}

/// What a submission is sent under.
enum Place {
    Slot(Slot),
    /// Its account is not in the list: the upstream judges it. The id by which it is settled.
    Unlisted(LeaseId),
}

/// A job start that is ready to be sent.
struct JobStart {
    call: Call,
    whole: Whole,
    body: pool::Body,
    claim: Option<Claim>,
}

impl JobStart {
    /// What it asks of the book.
    fn request(&self, wait: Duration, exclude: Arc<[Name]>) -> PickRequest {
        PickRequest {
            email: self.whole.email().map(Name::new),
            exclude,
            wait,
            operation: Some(Arc::clone(&self.body.operation)),
            max_jobs: self.whole.max_jobs(),
            claim: self.claim.clone(),
            ..PickRequest::default()
        }
    }
}

impl Forward {
    /// Carries a call that starts a job: on the account that the client named, on the one that owns
    /// what the call names, or on a random one with a free slot.
    pub(super) async fn start_job(
        self: &Arc<Self>,
        call: Call,
        body: Incoming,
        caller: Caller,
        request_id: &str,
    ) -> Result<Carried, Error> {
        let key = idempotency::read(&call.headers, caller, &call.method, call.path())?;
        let wait = match call.wait()? {
            Some(wait) => wait.min(self.selection.wait_max),
            None => self.selection.wait,
        };
        // A client that asks first is told before it sends what would be refused.
        if call.asks_first
            && let Some(refusal) = self.refusal_now(key.clone(), wait).await?
        {
            return Err(refusal);
        }
        let mut whole = self.buffer.read(&call, body, self.idle_timeout).await?;
        let body = whole.submitted(&call, &self.hasher);
        let claim = key.map(|key| Claim {
            key,
            fingerprint: body.fingerprint,
        });
        // A call that comes again is not placed anew.
        if let Some(claim) = claim.clone()
            && let Some(known) = self.ledger.call(Recall { claim }).await?
        {
            return self.replay(known).await;
        }
        let preferred = self.place(&mut whole).await?;
        let start = JobStart {
            call,
            whole,
            body,
            claim,
        };
        let request = PickRequest {
            preferred: preferred.as_deref().map(Name::new),
            ..start.request(wait, Arc::default())
        };
        let place = match self.picker.pick(&request).await {
            Ok(Picked::Slot(slot)) => Place::Slot(slot),
            Ok(Picked::Known(known)) => return self.replay(known).await,
            // An account that we do not know is the upstream's to judge, and perhaps a new one.
            Err(Error::UnknownAccount) => {
                self.fetcher.wake();
                let lease = LeaseId::random(&mut rand::rng());
                if let Some(claim) = start.claim.clone() {
                    let claimed = self.ledger.call(ClaimKey { claim, lease }).await?;
                    if let Err(known) = claimed {
                        return self.replay(known).await;
                    }
                }
                Place::Unlisted(lease)
            }
            Err(refusal) => return Err(refusal),
        };
        self.in_its_own_task(start, place, request_id).await
    }

    /// Why a job start would be refused now, unless its key is known.
    async fn refusal_now(&self, key: Option<Key>, wait: Duration) -> Result<Option<Error>, Error> {
        if let Some(key) = key
            && self.ledger.call(KnowsKey { key }).await?
        {
            return Ok(None);
        }
        Ok(if wait.is_zero() {
            self.picker.obstacle().await
        } else {
            self.picker.outage().await
        })
    }

    /// Submits in a task that outlives its client: whoever hangs up neither aborts a job start nor
    /// loses its slot.
    async fn in_its_own_task(
        self: &Arc<Self>,
        start: JobStart,
        place: Place,
        request_id: &str,
    ) -> Result<Carried, Error> {
        let forward = Arc::clone(self);
        let submitted = async move { forward.submit(&start, place).await };
        detached(&self.submissions, request_id, submitted).await
    }

    /// Submits, and again where the upstream provably did not take it: on another account, or once
    /// more if nothing was sent.
    async fn submit(&self, start: &JobStart, mut place: Place) -> Result<Carried, Error> {
        self.retries.earn();
        let begun = Instant::now();
        let mut refused_by = Vec::new();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let account = match &place {
                Place::Slot(slot) => Some(Name::new(&slot.lease().email)),
                Place::Unlisted(_) => None,
            };
            let Attempt { answer, next } = self.attempt(start, place).await?;
            let is_last = attempts == ATTEMPTS_MAX || begun.elapsed() >= self.request_timeout;
            let slot = match (next, account) {
                (Next::Elsewhere, Some(account)) if !is_last && start.whole.email().is_none() => {
                    refused_by.push(account);
                    self.another(start, &refused_by).await
                }
                (Next::Again, Some(_)) if !is_last && self.upstream.is_reachable() => {
                    sleep(pause_after(attempts)).await;
                    self.another(start, &refused_by).await
                }
                (Next::Nothing | Next::Elsewhere | Next::Again, _) => None,
            };
            let Some(slot) = slot else {
                let mut answer = answer?;
                answer::count_attempts(&mut answer, attempts);
                return Ok(answer);
            };
            place = Place::Slot(slot);
            tracing::debug!(attempts, "submission is tried again");
        }
    }

    /// A slot of an account that has not refused yet, if there is one at once, and nobody else has
    /// started the job under its key meanwhile.
    async fn another(&self, start: &JobStart, refused_by: &[Name]) -> Option<Slot> {
        let mut exclude = refused_by.to_vec();
        exclude.sort_unstable();
        let request = start.request(Duration::ZERO, exclude.into());
        match self.picker.pick(&request).await.ok()? {
            Picked::Slot(slot) => self.retries.spend().then_some(slot),
            Picked::Known(_) => None,
        }
    }

    /// Sends a submission once and settles what becomes of its slot.
    ///
    /// # Errors
    /// If there is nothing that could be sent.
    async fn attempt(&self, start: &JobStart, place: Place) -> Result<Attempt, Error> {
        let JobStart {
            call, whole, body, ..
        } = start;
        let named = match &place {
            Place::Slot(slot) => Some(Arc::clone(&slot.lease().email)),
            Place::Unlisted(_) => None,
        };
        let outgoing = match whole.outgoing(call, named.as_deref()) {
            Ok(outgoing) => outgoing,
            Err(error) => {
                // A slot goes back by itself; a key that was claimed without one is freed.
                if let Place::Unlisted(lease) = place {
                    let submission = self.ledger.submit_without_slot(lease, None, body.clone());
                    submission.settle(Settlement::NotSent).await;
                }
                return Err(error);
            }
        };
        let has_slot = matches!(place, Place::Slot(_));
        let submission = self.begin(start, place);
        let Outgoing {
            email,
            target,
            headers,
            body,
        } = outgoing;
        let sent = self.send(call, &target, headers, Full::new(body)).await;
        let mut answer = match sent {
            Ok(answer) => answer,
            Err(error) => {
                let next = if let SendError::NotSent(_) = error {
                    Next::Again
                } else {
                    Next::Nothing
                };
                self.settle_unanswered(&error, submission).await;
                let answer = Err(error.into());
                return Ok(Attempt { answer, next });
            }
        };
        answer::name_account(&mut answer, email.as_deref());
        let (head, body) = answer.into_parts();
        let read = answer::begin(body).await;
        let (outcome, task_type) = self.judge(head.status, &head.headers, &read.bytes);
        if let Outcome::Accepted(task_id) = &outcome {
            if let Some(email) = &email {
                self.rounds.owners().learn(task_id, email.as_str().into());
            }
            if start.claim.is_some() && read.is_whole() {
                self.answers
                    .keep(submission.lease(), &head.headers, &read.bytes);
            }
        }
        let retry_after = accounts_fetcher::retry_after(&head.headers);
        let next = self.next(&outcome, head.status);
        self.settle(outcome, task_type, submission, retry_after)
            .await;
        if !has_slot {
            // Whatever it started runs on an account that rounds may know better.
            self.rounds.wake();
        }
        let answer = answer::resumed(Response::from_parts(head, read));
        Ok(Attempt { answer, next })
    }

    /// Takes the place for the submission.
    fn begin(&self, start: &JobStart, place: Place) -> Submission {
        let body = start.body.clone();
        match place {
            Place::Slot(slot) => {
                let account = tracing::field::display(&slot.lease().alias);
                Span::current().record("account", account);
                slot.submit(body)
            }
            Place::Unlisted(lease) => {
                let given = start.whole.email().map(Name::new);
                self.ledger.submit_without_slot(lease, given, body)
            }
        }
    }

    /// What may come after an answer.
    fn next(&self, outcome: &Outcome, status: StatusCode) -> Next {
        // A 404 "configuration not found" means that the account is gone, like a 596: another account
        // may be tried.
        let is_movable = status == StatusCode::NOT_FOUND
            || self.settings.retry_statuses.contains(&status.as_u16());
        if outcome.is_of_account() && is_movable {
            Next::Elsewhere
        } else {
            Next::Nothing
        }
    }

    /// What an answer says, read as far as it came: a status can prove a refusal by itself. And what it
    /// calls the task that it accepts.
    fn judge(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        bytes: &Bytes,
    ) -> (Outcome, Option<Arc<str>>) {
        // What cannot be decoded names no job.
        let text = accounts_fetcher::decoded(headers, bytes.clone(), ANSWER_READ_MAX);
        let text = text.unwrap_or_default();
        let outcome = outcome::judge(status, &text, &self.settings.refusal_patterns);
        let is_accepted = matches!(outcome, Outcome::Accepted(_));
        let task_type = is_accepted.then(|| outcome::task_type(&text)).flatten();
        (outcome, task_type)
    }

    async fn settle(
        &self,
        outcome: Outcome,
        task_type: Option<Arc<str>>,
        submission: Submission,
        retry_after: Option<Duration>,
    ) {
        if outcome == Outcome::TokenRejected {
            // The next regular fetch decides: one at once could be answered, and the next job be
            // refused again.
            self.picker.reject_token();
        }
        match (outcome.blame(retry_after), outcome) {
            (_, Outcome::Accepted(task_id)) => {
                tracing::debug!(task_id = task_id.as_str(), "job started");
                let accepted = Settlement::Accepted { task_id, task_type };
                submission.settle(accepted).await;
            }
            (None, _) => {
                let error = "the answer does not say whether there is a job";
                self.lose(submission, Duration::ZERO, error).await;
            }
            (Some(blame), _) => {
                submission.settle(Settlement::Refused(blame)).await;
                match blame {
                    // An account that says it is full knows of jobs that we do not.
                    Blame::PushedBack { .. } => self.rounds.wake(),
                    // Its entry in the list may say more.
                    Blame::SessionBroken => self.fetcher.wake(),
                    Blame::NoCredit | Blame::Request | Blame::Token => {}
                }
            }
        }
    }

    async fn settle_unanswered(&self, error: &SendError, submission: Submission) {
        // The last byte left at least as long ago.
        let sent_ago = match error {
            SendError::NotSent(_) => return submission.settle(Settlement::NotSent).await,
            SendError::Lost(_) | SendError::Unfinished(_) => Duration::ZERO,
            SendError::TimedOut(timeout) => *timeout,
        };
        self.lose(submission, sent_ago, &error.to_string()).await;
    }

    async fn lose(&self, submission: Submission, sent_ago: Duration, error: &str) {
        tracing::warn!(
            lease_id = %submission.lease(),
            error,
            "submission outcome unknown; its slot stays held as uncertain"
        );
        submission.settle(Settlement::Uncertain { sent_ago }).await;
        self.rounds.wake();
    }
}

/// Runs a submission as a task, in a span that tells which call and which account it is of.
async fn detached<T: Send + 'static>(
    tasks: &TaskTracker,
    request_id: &str,
    submission: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    // What is told of a submission can be traced to its call at every level of the log.
    let span = tracing::error_span!("submission", request_id, account = Empty);
    let task = tasks.spawn(submission.instrument(span.clone()));
    task.await.unwrap_or_else(|error| {
        let _entered = span.entered();
        // A panic was logged with its place where it happened.
        tracing::error!(%error, "submission ended by a bug; its slot stays held as uncertain");
        Err(Error::OutcomeUnknown)
    })
}

#[cfg(test)]
mod tests;
