//! Submissions: a job start is sent under a slot, whatever its client does meanwhile, and settled by its answer.

mod detached;
mod start;

use std::{fmt::Display, sync::Arc};

use http::Response;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::{Span, field};

use super::{
    account_list::AccountList,
    marking::Exchange,
    outcome::{FollowUp, Next, Referred, Verdict},
    response::{self, Carried, PeekedBody},
    retry::{Retry, UNSENT_PAUSE},
    sender::Sender,
};
use crate::{
    boxed::pinned,
    config,
    error::Error,
    events::{AccountFacts, Fact, JobFacts},
    jobs::Rounds,
    kling::error_text,
    ledger::{Ledger, NameLost, NoteMoved, PickRequest, RefusalAnswer, Slot, Submission},
    metrics::RetryReason,
    owners::Owners,
    picker::{Picked, Picker},
    pool::{Blame, Claim, LeaseId, Mark, Name, Settlement},
    records::{Fate, JobRecords, Outcome, UnderWay},
    upstream::SendError,
};

use detached::Detached;
pub(super) use start::{JobStart, Reservation};

/// Sends job starts.
#[derive(Debug)]
pub(super) struct Submissions {
    pub(super) sender: Arc<Sender>,
    pub(super) retry: Retry,
    pub(super) ledger: Arc<Ledger>,
    pub(super) picker: Arc<Picker>,
    pub(super) owners: Arc<Owners>,
    pub(super) rounds: Arc<Rounds>,
    pub(super) account_list: AccountList,
    pub(super) settings: config::Forward,
    pub(super) records: Arc<JobRecords>,
    pub(super) under_way: TaskTracker,
}

/// How a submission ended.
pub(super) enum Submitted {
    /// With this answer.
    Answered(Carried),
    /// Every account that was asked pushed back.
    PushedBack {
        /// The last answer.
        answer: Carried,
        /// How often the call has been sent by now.
        attempts: u32,
        /// The account that pushed back last.
        by: Option<Name>,
    },
    /// Nothing was sent, since this happened.
    NotSent(Error),
}

/// A submission that was sent.
struct Sent {
    submission: Submission,
    sent_at: Instant,
    /// The account that it was sent to.
    email: Option<Arc<str>>,
    has_slot: bool,
    mark: Option<Mark>,
    /// What the account said that refused it for a reason of its own.
    refusal: Option<RefusalAnswer>,
    /// It was refused with a mark before, for the mark's sake.
    is_repeated: bool,
}

/// How one attempt ended.
struct Attempt {
    answer: Result<Carried, Error>,
    next: Next,
    fate: Fate,
    /// It was sent twice.
    is_repeated: bool,
}

impl Submissions {
    /// Submits a call that was sent so often before. Dropped, it goes on as a task: a client that hangs up neither aborts
    /// a job start nor loses its slot.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(super) fn submit(
        self: &Arc<Self>,
        start: &Arc<JobStart>,
        reservation: Reservation,
        sent_count: u32,
        under_way: UnderWay,
        request_id: &str,
    ) -> impl Future<Output = Result<Submitted, Error>> + use<> {
        // What is told of a submission can be traced to its call at every level of the log.
        let account = reservation.alias().map(field::display);
        let span = tracing::error_span!("submission", request_id, account);
        let (submissions, start) = (Arc::clone(self), Arc::clone(start));
        let submitted = pinned(|| async move {
            let attempts = submissions.attempt_all(&start, reservation, sent_count, &under_way);
            let ended = attempts.await;
            let (submitted, fate) = ended.unwrap_or_else(|error| (Err(error), Fate::unsent()));
            under_way.settle(fate);
            submitted
        });
        Detached::new(&self.under_way, span, submitted)
    }

    /// Gives back what was reserved for a call that is not sent.
    pub(super) async fn take_back(&self, start: &JobStart, reservation: Reservation) {
        // A dropped slot goes back by itself; a key that was claimed without one must be freed.
        if let Reservation::Unlisted(lease) = reservation {
            let body = start.body.clone();
            let submission = self.ledger.submit_without_slot(lease, None, body);
            submission.settle(Settlement::NotSent, None).await;
        }
    }

    /// Waits until no submission is under way. No call may come in any more.
    pub(super) async fn drained(&self) {
        self.under_way.close();
        self.under_way.wait().await;
    }

    /// Submits, and again on another account where one provably did not take it.
    async fn attempt_all(
        &self,
        start: &JobStart,
        mut reservation: Reservation,
        sent_count: u32,
        under_way: &UnderWay,
    ) -> Result<(Result<Submitted, Error>, Fate), Error> {
        let mut attempts = self.retry.begin(UNSENT_PAUSE);
        let (mut refused_by, mut repeated_count) = (Vec::new(), 0);
        loop {
            let email = reservation.email().cloned();
            let attempt = self.attempt(start, reservation).await?;
            let Attempt {
                answer, next, fate, ..
            } = attempt;
            repeated_count += u32::from(attempt.is_repeated);
            // Few are refused.
            let account = || email.as_deref().map(Name::new);
            let is_repeated = match next {
                Next::Elsewhere | Next::ElsewhereOrLater
                    if email.is_some() && start.takes_any_account() =>
                {
                    refused_by.extend(account());
                    attempts.take_elsewhere()
                }
                Next::Again => {
                    let submitted = answer.map_or_else(Submitted::NotSent, Submitted::Answered);
                    return Ok((Ok(submitted), fate));
                }
                Next::Nothing | Next::Elsewhere | Next::ElsewhereOrLater => false,
            };
            let slot = if is_repeated {
                self.pick_again(start, &refused_by, under_way).await
            } else {
                None
            };
            let Some(slot) = slot else {
                if is_repeated {
                    attempts.give_back();
                }
                let attempts = sent_count + attempts.count() + repeated_count;
                let submitted = answer.map(|mut answer| {
                    // An answer tells of one attempt as it is.
                    if attempts > 1 {
                        response::count_attempts(&mut answer, attempts);
                    }
                    match next {
                        Next::ElsewhereOrLater => Submitted::PushedBack {
                            answer,
                            attempts,
                            by: account(),
                        },
                        Next::Nothing | Next::Elsewhere | Next::Again => {
                            Submitted::Answered(answer)
                        }
                    }
                });
                return Ok((submitted, fate));
            };
            reservation = Reservation::Slot(Box::new(slot));
            let alias = reservation.alias().map(field::display);
            Span::current().record("account", alias);
            self.sender.count_retry(match next {
                Next::ElsewhereOrLater => RetryReason::Full,
                Next::Elsewhere | Next::Nothing | Next::Again => RetryReason::Refused,
            });
            self.note_moved(account(), &reservation).await;
            tracing::debug!(attempts = attempts.count(), "submission is tried again");
        }
    }

    /// A job start that an account refused goes on with this reservation: counted if it is another account's.
    pub(super) async fn note_moved(&self, from: Option<Name>, reservation: &Reservation) {
        if let Some(from) = from
            && reservation.account().is_some_and(|to| to != from)
        {
            // It is a count: nothing depends on it.
            let _unavailable = self.ledger.call(NoteMoved { from }).await;
        }
    }

    /// A slot of an account that has not refused, if one is free and no other call has started the job
    /// under its key meanwhile.
    async fn pick_again(
        &self,
        start: &JobStart,
        refused_by: &[Name],
        under_way: &UnderWay,
    ) -> Option<Slot> {
        let mut exclude = refused_by.to_vec();
        exclude.sort_unstable();
        let lease = LeaseId::random(&mut rand::rng());
        under_way.note_lease(lease);
        let pick = PickRequest {
            lease: Some(lease),
            ..start.pick(exclude.into())
        };
        match self.picker.pick_again(&pick, Instant::now()).await.ok()? {
            Picked::Slot(slot) => Some(slot),
            Picked::Known(_) => None,
        }
    }

    /// Sends a submission once and settles it.
    ///
    /// # Errors
    /// If there is nothing that could be sent.
    async fn attempt(&self, start: &JobStart, reservation: Reservation) -> Result<Attempt, Error> {
        let mark = self.mark(start, &reservation).await;
        let email = reservation.email();
        let outgoing = match start.request.outgoing(&start.call, email, mark) {
            Ok(outgoing) => outgoing,
            Err(error) => {
                self.take_back(start, reservation).await;
                return Err(error);
            }
        };
        let has_slot = matches!(reservation, Reservation::Slot(_));
        let submission = self.begin(start, reservation);
        let exchange = self.exchange(start, submission.lease(), outgoing, mark);
        let Exchange {
            sent_at,
            email,
            answer,
            mark,
            is_repeated,
        } = exchange.await;
        let sent = Sent {
            submission,
            sent_at,
            email,
            has_slot,
            mark,
            refusal: None,
            is_repeated,
        };
        match answer {
            Ok(answer) => {
                let attempt = self.settle_answered(start, sent, answer).await;
                if !has_slot {
                    // Whatever it started runs on an account that rounds may know better.
                    self.rounds.wake();
                }
                Ok(attempt)
            }
            Err(error) => Ok(self.settle_unanswered(start, sent, error).await),
        }
    }

    /// Takes the reservation for the submission.
    fn begin(&self, start: &JobStart, reservation: Reservation) -> Submission {
        let body = start.body.clone();
        match reservation {
            Reservation::Slot(slot) => slot.submit(body),
            Reservation::Unlisted(lease) => {
                let given = start.request.email().map(Name::new);
                self.ledger.submit_without_slot(lease, given, body)
            }
        }
    }

    async fn settle_answered(
        &self,
        start: &JobStart,
        mut sent: Sent,
        answer: Response<PeekedBody>,
    ) -> Attempt {
        let (head, read) = answer.into_parts();
        // An answer that cannot be decoded names no job.
        let text = read.text(&head.headers).unwrap_or_default();
        let retry_after = accounts_fetcher::retry_after(&head.headers);
        let referred = Referred {
            email: sent.email.as_deref(),
            names_ids: start.names_ids(),
        };
        let mut verdict =
            Verdict::of_answer(head.status, &text, referred, retry_after, &self.settings);
        if let FollowUp::RejectToken(fault) = verdict.follow_up {
            self.picker.reject_token(fault, &self.sender.words(&text));
        } else {
            self.picker.note_answer(sent.sent_at);
        }
        if verdict.follow_up == FollowUp::FetchFirst {
            // The slot is kept meanwhile: an account that is gone would always have a free one.
            let account = sent
                .email
                .as_deref()
                .filter(|_| sent.has_slot && start.takes_any_account());
            if !self.account_list.has_left(account).await {
                verdict.next = Next::Nothing;
            }
        }
        sent.refusal = verdict.is_of_account.then(|| RefusalAnswer {
            status: head.status.as_u16(),
            text: self.sender.words(&error_text(&text)).into(),
        });
        if let Settlement::Accepted { task_id, .. } = &verdict.settlement {
            tracing::debug!(task_id = task_id.as_str(), "job started");
            if let Some(email) = &sent.email {
                self.owners.learn_task(task_id, email);
            }
            if read.is_whole() {
                let answers = &self.records.answers;
                answers.keep(sent.submission.lease(), &head.headers, &read.bytes);
            }
        }
        let (lease, marked) = (sent.submission.lease(), (sent.mark, sent.is_repeated));
        self.judge_mark(lease, marked, head.status, &verdict.settlement)
            .await;
        let (next, is_repeated) = (verdict.next, sent.is_repeated);
        let why = "the answer does not say whether there is a job";
        let told = Error::OutcomeUnknown;
        let fate = self.settle(start, sent, verdict, (&why, told)).await;
        let answer = response::into_response(Response::from_parts(head, read));
        Attempt {
            answer,
            next,
            fate,
            is_repeated,
        }
    }

    async fn settle_unanswered(&self, start: &JobStart, sent: Sent, error: SendError) -> Attempt {
        let verdict = Verdict::of_error(&error);
        let (next, is_repeated) = (verdict.next, sent.is_repeated);
        let why = error.to_string();
        let told = Error::from(error);
        let settled = self.settle(start, sent, verdict, (&why, told.clone()));
        let fate = settled.await;
        let answer = Err(told);
        Attempt {
            answer,
            next,
            fate,
            is_repeated,
        }
    }

    /// Tells the ledger what became of a submission, and wakes those who have to act. `why` it is not known, and
    /// what clients are `told`, if it is not.
    async fn settle(
        &self,
        start: &JobStart,
        sent: Sent,
        verdict: Verdict,
        (why, told): (&(dyn Display + Send + Sync), Error),
    ) -> Fate {
        let lease = sent.submission.lease();
        let is_uncertain = matches!(verdict.settlement, Settlement::Uncertain { .. });
        if is_uncertain {
            let job = JobFacts {
                operation: Some(Arc::clone(&start.body.operation)),
                account: sent.email.as_deref().map(AccountFacts::of),
                ..JobFacts::of(start.caller.clone())
            };
            let lost = Fact::lost(job, sent.mark, why);
            self.ledger.events().publish(&lost);
        }
        let outcome = outcome(&verdict.settlement, told);
        sent.submission
            .settle(verdict.settlement, sent.refusal)
            .await;
        let claim = if is_uncertain {
            self.name_lost(start, lease).await
        } else {
            None
        };
        match verdict.follow_up {
            FollowUp::Round => self.rounds.wake(),
            FollowUp::Fetch => self.account_list.refresh(),
            FollowUp::None | FollowUp::FetchFirst | FollowUp::RejectToken(_) => {}
        }
        Fate {
            outcome,
            email: sent.email,
            lease: Some(lease),
            claim,
        }
    }

    /// The claim by which the ledger can be asked what became of a lost submission: that of the client, or one
    /// of our own.
    async fn name_lost(&self, start: &JobStart, lease: LeaseId) -> Option<Claim> {
        if let Some(claim) = &start.claim {
            return Some(claim.clone());
        }
        let claim = Claim::of_lost(lease);
        let named = NameLost {
            lease,
            claim: claim.clone(),
        };
        let is_named = self.ledger.call(named).await == Ok(true);
        is_named.then_some(claim)
    }
}

/// What the records say of a submission. `told`: what clients are told if its outcome is not known.
fn outcome(settlement: &Settlement, told: Error) -> Outcome {
    match settlement {
        Settlement::Accepted { task_id, .. } => Outcome::Accepted(task_id.clone()),
        Settlement::Refused(blame) => Outcome::Refused(match blame {
            Blame::PushedBack { .. } => "full",
            Blame::SessionBroken => "session",
            Blame::NoCredit => "credit",
            Blame::Token => "token",
            Blame::Request => "refused",
        }),
        Settlement::NotSent | Settlement::Undelivered => Outcome::Unsent,
        Settlement::Uncertain { .. } => Outcome::Uncertain(told),
    }
}

#[cfg(test)]
mod tests;
