//! Carrying job starts: a slot first, then the submission, in a task of its own.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::{sync::oneshot, time::Instant};

use super::{
    Forward,
    answer::{self, ANSWER_READ_MAX, Carried},
    call::Call,
    outcome::{self, Outcome},
    whole::{Outgoing, Whole},
};
use crate::{
    error::Error,
    ledger::{PickRequest, Slot, Submission},
    pool::Blame,
    upstream::SendError,
};

/// The most accounts one job start is sent to.
const ATTEMPTS_MAX: usize = 3;

/// How one attempt ended.
struct Attempt {
    answer: Result<Carried, Error>,
    /// The account did not take it, for a reason that is not the job's.
    is_refused_by_account: bool,
}

impl Forward {
    /// Carries a call that starts a job: on the account that the client named, on the one that owns
    /// what the call names, or on a random one with a free slot.
    pub(super) async fn start_job(
        self: &Arc<Self>,
        call: Call,
        body: Incoming,
    ) -> Result<Carried, Error> {
        let wait = match call.wait()? {
            Some(wait) => wait.min(self.selection.wait_max),
            None => self.selection.wait,
        };
        // A client that asks first is told before it sends what would be refused.
        if call.asks_first
            && let Some(obstacle) = self.picker.obstacle(!wait.is_zero()).await
        {
            return Err(obstacle);
        }
        let mut whole = self.buffer.read(&call, body, self.idle_timeout).await?;
        let preferred = self.place(&mut whole).await?;
        let request = PickRequest {
            email: whole.email().map(str::to_owned),
            exclude: Vec::new(),
            ttl: None,
            wait,
            max_jobs: whole.max_jobs(),
        };
        match self.pick_near(&request, preferred).await {
            Ok(slot) => self.in_its_own_task(call, whole, Some(slot)).await,
            // An account that we do not know is the upstream's to judge, and perhaps a new one.
            Err(Error::UnknownAccount) => {
                self.fetcher.wake();
                self.in_its_own_task(call, whole, None).await
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
        slot: Option<Slot>,
    ) -> Result<Carried, Error> {
        let (tell, answered) = oneshot::channel();
        let forward = Arc::clone(self);
        self.submissions.spawn(async move {
            let answer = forward.submit(&call, &whole, slot).await;
            // A client that has left needs no answer.
            drop(tell.send(answer));
        });
        answered.await.unwrap_or(Err(Error::OutcomeUnknown))
    }

    /// Submits, and again on another account where the first provably did not take it.
    async fn submit(
        &self,
        call: &Call,
        whole: &Whole,
        mut slot: Option<Slot>,
    ) -> Result<Carried, Error> {
        self.retries.earn();
        let begun = Instant::now();
        let mut tried = Vec::new();
        loop {
            let account = slot.as_ref().map(|slot| Arc::clone(&slot.lease().email));
            let attempt = self.attempt(call, whole, slot).await?;
            tried.extend(account.as_deref().map(str::to_owned));
            let may_move = whole.email().is_none()
                && attempt.is_refused_by_account
                && tried.len() < ATTEMPTS_MAX
                && begun.elapsed() < self.request_timeout;
            slot = if may_move {
                self.another(whole, &tried).await
            } else {
                None
            };
            if slot.is_none() {
                let mut answer = attempt.answer?;
                let attempts = u32::try_from(tried.len().max(1)).unwrap_or(u32::MAX);
                answer::count_attempts(&mut answer, attempts);
                return Ok(answer);
            }
            tracing::debug!(
                attempts = tried.len(),
                "submission moves to another account"
            );
        }
    }

    /// A slot of an account that was not tried yet, if there is one at once.
    async fn another(&self, whole: &Whole, tried: &[String]) -> Option<Slot> {
        let request = PickRequest {
            email: None,
            exclude: tried.to_vec(),
            ttl: None,
            wait: Duration::ZERO,
            max_jobs: whole.max_jobs(),
        };
        let slot = self.picker.pick(&request).await.ok()?;
        self.retries.spend().then_some(slot)
    }

    /// Sends a submission once and settles what becomes of its slot.
    ///
    /// # Errors
    /// If nothing could be sent.
    async fn attempt(
        &self,
        call: &Call,
        whole: &Whole,
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
        let sent = self.send(call, &target, headers, Full::new(body)).await;
        let mut answer = match sent {
            Ok(answer) => answer,
            Err(error) => {
                self.settle_unanswered(&error, submission).await;
                return Err(error.into());
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
        }
        let retry_after = accounts_fetcher::retry_after(&head.headers);
        let is_movable = self.settings.retry_statuses.contains(&head.status.as_u16());
        let is_refused_by_account = match outcome {
            // It is as if the account did not exist: a 404 that says so is a 596 by another name.
            Outcome::SessionBroken => is_movable || head.status == StatusCode::NOT_FOUND,
            Outcome::PushedBack | Outcome::NoCredit => is_movable,
            Outcome::Accepted(_)
            | Outcome::TokenRejected
            | Outcome::InputRefused
            | Outcome::Unknown => false,
        };
        self.settle(outcome, submission, retry_after).await;
        let answer = match read.resume() {
            Ok(body) => Ok(answer::carried(Response::from_parts(head, body))),
            Err(error) => {
                tracing::debug!(%error, "the answer to a submission did not come whole");
                Err(Error::OutcomeUnknown)
            }
        };
        Ok(Attempt {
            answer,
            is_refused_by_account,
        })
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
        let Some(submission) = submission else {
            // Whatever it started runs on an account that rounds may know better.
            self.rounds.wake();
            return;
        };
        let account = Arc::clone(&submission.lease().alias);
        match outcome {
            Outcome::Accepted(task_id) => {
                tracing::debug!(%account, task_id = task_id.as_str(), "job started");
                submission.accepted(task_id).await;
            }
            Outcome::Unknown => {
                let error = "the answer does not say whether there is a job";
                self.doubt(submission, self.ledger.now(), error);
            }
            Outcome::PushedBack => {
                tracing::info!(%account, ?retry_after, "account pushed back and is left alone");
                submission.refused(Blame::PushedBack { retry_after }).await;
                // An account that says it is full knows of jobs that we do not.
                self.rounds.wake();
            }
            Outcome::SessionBroken => {
                tracing::error!(
                    %account,
                    "account is quarantined: its session is broken. Add it again with POST \
                     /accounts, then it is tried again"
                );
                submission.refused(Blame::SessionBroken).await;
                self.fetcher.wake();
            }
            Outcome::NoCredit => {
                tracing::warn!(%account, "account is parked: it has no credit");
                submission.refused(Blame::NoCredit).await;
            }
            Outcome::TokenRejected => {
                submission.refused(Blame::Token).await;
                self.picker.reject_token();
                self.fetcher.wake();
            }
            Outcome::InputRefused => {
                tracing::debug!(%account, "job refused for what was asked");
                submission.refused(Blame::Innocent).await;
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
