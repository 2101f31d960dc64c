//! Carrying job starts: a slot first, then the submission, in a task of its own.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::sync::oneshot;

use super::{
    Forward,
    answer::{self, ANSWER_READ_MAX, Beginning, Carried, End, Resumed},
    call::Call,
    outcome::{self, Outcome},
    whole::Outgoing,
};
use crate::{
    error::Error,
    ledger::{PickRequest, Slot, Submission},
    upstream::SendError,
};

impl Forward {
    /// Carries a call that starts a job: on the account that the client named, or on a random one
    /// with a free slot.
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
        let whole = self.buffer.read(&call, body, self.idle_timeout).await?;
        let request = PickRequest {
            email: whole.email().map(str::to_owned),
            exclude: Vec::new(),
            ttl: None,
            wait,
        };
        match self.picker.pick(&request).await {
            Ok(slot) => {
                let outgoing = whole.outgoing(&call, Some(&slot.lease().email))?;
                self.in_its_own_task(call, outgoing, Some(slot)).await
            }
            // An account that we do not know is the upstream's to judge, and perhaps a new one.
            Err(Error::UnknownAccount) => {
                self.fetcher.wake();
                let outgoing = whole.outgoing(&call, None)?;
                self.in_its_own_task(call, outgoing, None).await
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// Submits in a task that outlives its client: whoever hangs up neither aborts a job start nor
    /// loses its slot.
    async fn in_its_own_task(
        self: &Arc<Self>,
        call: Call,
        outgoing: Outgoing,
        slot: Option<Slot>,
    ) -> Result<Carried, Error> {
        let (tell, answered) = oneshot::channel();
        let forward = Arc::clone(self);
        self.submissions.spawn(async move {
            let submission = slot.map(Slot::submit);
            let answer = forward.submit(&call, outgoing, submission).await;
            // A client that has left needs no answer.
            drop(tell.send(answer));
        });
        answered.await.unwrap_or(Err(Error::OutcomeUnknown))
    }

    /// Sends a submission and settles what becomes of its slot.
    async fn submit(
        &self,
        call: &Call,
        outgoing: Outgoing,
        submission: Option<Submission>,
    ) -> Result<Carried, Error> {
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
                self.settle_unanswered(&error, submission).await;
                return Err(error.into());
            }
        };
        answer::name_account(&mut answer, email.as_deref());
        let (head, mut rest) = answer.into_parts();
        let Beginning {
            bytes,
            trailers,
            end,
        } = answer::begin(&mut rest).await;
        let outcome = self.judge(head.status, &head.headers, &bytes);
        self.settle(outcome, submission).await;
        match end {
            End::Whole | End::Longer => {
                let body = Resumed::new(bytes, trailers, rest);
                Ok(answer::carried(http::Response::from_parts(head, body)))
            }
            End::Broken(error) => {
                tracing::debug!(%error, "the answer to a submission did not come whole");
                Err(Error::OutcomeUnknown)
            }
        }
    }

    /// What an answer says, read as far as it came: a status can prove a refusal by itself.
    fn judge(&self, status: StatusCode, headers: &HeaderMap, bytes: &Bytes) -> Outcome {
        // What cannot be decoded names no job.
        let text = accounts_fetcher::decoded(headers, bytes.clone(), ANSWER_READ_MAX);
        let text = text.unwrap_or_default();
        outcome::judge(status, &text, &self.settings.refusal_patterns)
    }

    async fn settle(&self, outcome: Outcome, submission: Option<Submission>) {
        let Some(submission) = submission else {
            // Whatever it started runs on an account that rounds may know better.
            self.rounds.wake();
            return;
        };
        let account = Arc::clone(&submission.lease().alias);
        match outcome {
            Outcome::Accepted(task_id) => {
                tracing::debug!(%account, task_id = task_id.as_str(), "job started");
                let email = Arc::clone(&submission.lease().email);
                self.rounds.owners().learn(&task_id, email);
                submission.accepted(task_id).await;
            }
            Outcome::Unknown => {
                let error = "the answer does not say whether there is a job";
                self.doubt(submission, self.ledger.now(), error);
            }
            Outcome::PushedBack
            | Outcome::SessionBroken
            | Outcome::NoCredit
            | Outcome::TokenRejected
            | Outcome::InputRefused => {
                tracing::debug!(%account, ?outcome, "submission refused");
                submission.refused().await;
                // An account that says it is full knows of jobs that we do not.
                if outcome == Outcome::PushedBack {
                    self.rounds.wake();
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
