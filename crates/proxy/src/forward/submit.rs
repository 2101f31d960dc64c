//! Carrying job starts: a slot first, then the submission, in a task of its own.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use super::{
    Forward,
    answer::{self, ANSWER_READ_MAX, Carried},
    budget::{ATTEMPTS_MAX, pause_after},
    call::Call,
    keys::{Claim, Found},
    outcome::{self, Outcome},
    whole::{Outgoing, Whole},
};
use crate::{
    error::Error,
    idempotency::{Caller, Key},
    ledger::{PickRequest, Slot, Submission},
    pool::Blame,
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

impl Forward {
    /// Carries a call that starts a job: on the account that the client named, on the one that owns
    /// what the call names, or on a random one with a free slot.
    pub(super) async fn start_job(
        self: &Arc<Self>,
        call: Call,
        body: Incoming,
        caller: Caller,
    ) -> Result<Carried, Error> {
        let key = Key::read(&call.headers, caller, &call.method, call.path())?;
        let wait = match call.wait()? {
            Some(wait) => wait.min(self.selection.wait_max),
            None => self.selection.wait,
        };
        // A client that asks first is told before it sends what would be refused.
        if call.asks_first
            && !key.as_ref().is_some_and(|key| self.keys.knows(key))
            && let Some(obstacle) = self.picker.obstacle(!wait.is_zero()).await
        {
            return Err(obstacle);
        }
        let mut whole = self.buffer.read(&call, body, self.idle_timeout).await?;
        let claim = match key {
            None => None,
            Some(key) => {
                let fingerprint = whole.fingerprint(&call, self.keys.hasher());
                let found = self.keys.claim(key, fingerprint).await?;
                match found {
                    Found::Accepted(accepted) => return self.replay(&accepted).await,
                    Found::Claimed(claim) => Some(claim),
                }
            }
        };
        let preferred = self.place(&mut whole).await?;
        let request = PickRequest {
            email: whole.email().map(str::to_owned),
            exclude: Vec::new(),
            ttl: None,
            wait,
            operation: call.operation(),
            max_jobs: whole.max_jobs(),
        };
        match self.picker.pick_near(&request, preferred).await {
            Ok(slot) => self.in_its_own_task(call, whole, claim, Some(slot)).await,
            // An account that we do not know is the upstream's to judge, and perhaps a new one.
            Err(Error::UnknownAccount) => {
                self.fetcher.wake();
                self.in_its_own_task(call, whole, claim, None).await
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// Submits in a task that outlives its client: whoever hangs up neither aborts a job start nor
    /// loses its slot.
    async fn in_its_own_task(
        self: &Arc<Self>,
        call: Call,
        whole: Whole,
        claim: Option<Claim>,
        slot: Option<Slot>,
    ) -> Result<Carried, Error> {
        let (tell, answered) = oneshot::channel();
        let forward = Arc::clone(self);
        self.submissions.spawn(async move {
            let answer = forward.submit(&call, &whole, claim, slot).await;
            // A client that has left needs no answer.
            drop(tell.send(answer));
        });
        answered.await.unwrap_or(Err(Error::OutcomeUnknown))
    }

    /// Submits, and again where the upstream provably did not take it: on another account, or once
    /// more if nothing was sent.
    async fn submit(
        &self,
        call: &Call,
        whole: &Whole,
        mut claim: Option<Claim>,
        mut slot: Option<Slot>,
    ) -> Result<Carried, Error> {
        self.retries.earn();
        let begun = Instant::now();
        let mut refused_by = Vec::new();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let account = slot.as_ref().map(|slot| slot.lease().email.to_string());
            let Attempt { answer, next } = self.attempt(call, whole, claim.as_mut(), slot).await?;
            let is_last = attempts == ATTEMPTS_MAX || begun.elapsed() >= self.request_timeout;
            slot = match (next, account) {
                (Next::Elsewhere, Some(account)) if !is_last && whole.email().is_none() => {
                    refused_by.push(account);
                    self.another(call, whole, &refused_by).await
                }
                (Next::Again, Some(_)) if !is_last && self.upstream.is_reachable() => {
                    sleep(pause_after(attempts)).await;
                    self.another(call, whole, &refused_by).await
                }
                (Next::Nothing | Next::Elsewhere | Next::Again, _) => None,
            };
            if slot.is_none() {
                let mut answer = answer?;
                answer::count_attempts(&mut answer, attempts);
                return Ok(answer);
            }
            tracing::debug!(attempts, "submission is tried again");
        }
    }

    /// A slot of an account that has not refused yet, if there is one at once.
    async fn another(&self, call: &Call, whole: &Whole, refused_by: &[String]) -> Option<Slot> {
        let request = PickRequest {
            email: whole.email().map(str::to_owned),
            exclude: refused_by.to_vec(),
            ttl: None,
            wait: Duration::ZERO,
            operation: call.operation(),
            max_jobs: whole.max_jobs(),
        };
        let slot = self.picker.pick(&request).await.ok()?;
        self.retries.spend().then_some(slot)
    }

    /// Sends a submission once and settles what becomes of its slot.
    ///
    /// # Errors
    /// If there is nothing that could be sent.
    async fn attempt(
        &self,
        call: &Call,
        whole: &Whole,
        mut claim: Option<&mut Claim>,
        slot: Option<Slot>,
    ) -> Result<Attempt, Error> {
        let named = slot.as_ref().map(|slot| Arc::clone(&slot.lease().email));
        let Outgoing {
            email,
            target,
            headers,
            body,
        } = whole.outgoing(call, named.as_deref())?;
        let submission = slot.map(Slot::submit);
        if let Some(claim) = &mut claim {
            let memo = match &submission {
                Some(submission) => Some(submission.remember().await),
                None => None,
            };
            claim.sent(email.as_deref(), memo);
        }
        let sent = self.send(call, &target, headers, Full::new(body)).await;
        let mut answer = match sent {
            Ok(answer) => answer,
            Err(error) => {
                let mut next = Next::Nothing;
                if let SendError::NotSent(_) = error {
                    next = Next::Again;
                    if let Some(claim) = claim {
                        claim.refused();
                    }
                }
                self.settle_unanswered(&error, submission).await;
                let answer = Err(error.into());
                return Ok(Attempt { answer, next });
            }
        };
        answer::name_account(&mut answer, email.as_deref());
        let (head, body) = answer.into_parts();
        let read = answer::begin(body).await;
        let outcome = self.judge(head.status, &head.headers, &read.bytes);
        if let Outcome::Accepted(task_id) = &outcome
            && let Some(email) = &email
        {
            self.rounds.owners().learn(task_id, email.as_str().into());
            if submission.is_none() {
                self.ledger.job_started(task_id.clone(), email).await;
            }
        }
        if let Some(claim) = claim {
            let answer = read.is_whole().then_some((&head.headers, &*read.bytes));
            claim.judged(&outcome, answer);
        }
        let retry_after = accounts_fetcher::retry_after(&head.headers);
        let next = self.next(&outcome, head.status);
        self.settle(outcome, submission, retry_after).await;
        let answer = answer::resumed(Response::from_parts(head, read));
        Ok(Attempt { answer, next })
    }

    /// What may come after an answer.
    fn next(&self, outcome: &Outcome, status: StatusCode) -> Next {
        // It is as if the account did not exist: a 404 that says so is a 596 by another name.
        let is_movable = status == StatusCode::NOT_FOUND
            || self.settings.retry_statuses.contains(&status.as_u16());
        if outcome.is_of_account() && is_movable {
            Next::Elsewhere
        } else {
            Next::Nothing
        }
    }

    /// What an answer says, read as far as it came: a status can prove a refusal by itself.
    fn judge(&self, status: StatusCode, headers: &HeaderMap, bytes: &Bytes) -> Outcome {
        // What cannot be decoded names no job.
        let text = accounts_fetcher::decoded(headers, bytes.clone(), ANSWER_READ_MAX);
        let text = text.unwrap_or_default();
        outcome::judge(status, &text, &self.settings.refusal_patterns)
    }

    async fn settle(
        &self,
        outcome: Outcome,
        submission: Option<Submission>,
        retry_after: Option<Duration>,
    ) {
        if outcome == Outcome::TokenRejected {
            // The next regular fetch decides: one at once could be answered, and the next job be
            // refused again.
            self.picker.reject_token();
        }
        let Some(submission) = submission else {
            // Whatever it started runs on an account that rounds may know better.
            self.rounds.wake();
            return;
        };
        match (outcome.blame(retry_after), outcome) {
            (_, Outcome::Accepted(task_id)) => {
                let account = &submission.lease().alias;
                tracing::debug!(%account, task_id = task_id.as_str(), "job started");
                submission.accepted(task_id).await;
            }
            (None, _) => {
                let error = "the answer does not say whether there is a job";
                self.doubt(submission, self.ledger.now(), error);
            }
            (Some(blame), _) => {
                submission.refused(blame).await;
                match blame {
                    // An account that says it is full knows of jobs that we do not.
                    Blame::PushedBack { .. } => self.rounds.wake(),
                    // Its entry in the list may say more.
                    Blame::SessionBroken => self.fetcher.wake(),
                    Blame::NoCredit | Blame::Innocent | Blame::Token => {}
                }
            }
        }
    }

    async fn settle_unanswered(&self, error: &SendError, submission: Option<Submission>) {
        let Some(submission) = submission else {
            return;
        };
        // The last byte left at least as long ago.
        let since = match error {
            SendError::NotSent(_) => return submission.unsent().await,
            SendError::Lost(_) | SendError::Unfinished(_) => Duration::ZERO,
            SendError::TimedOut(timeout) => *timeout,
        };
        let sent_at = self.ledger.now().saturating_sub(since);
        self.doubt(submission, sent_at, &error.to_string());
    }

    fn doubt(&self, submission: Submission, sent_at: Duration, error: &str) {
        let lease = submission.lease();
        tracing::warn!(
            account = %lease.alias,
            lease_id = %lease.id,
            error,
            "nobody knows what came of a submission; its slot stays held"
        );
        submission.lost(sent_at);
        self.rounds.wake();
    }
}
