//! What became of a granted slot, in one value and one step.

use std::{sync::Arc, time::Duration};

use super::{
    Blame, Body, Cause, Lease, LeaseError, LeaseId, LeaseState, Name, Pool, TaskId,
    known_tasks::AcceptedJob,
};

/// What became of a slot that was granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// There is a job.
    Accepted {
        /// Which job.
        task_id: TaskId,
        /// The type of the task, if the reply names it.
        task_type: Option<Arc<str>>,
    },
    /// The upstream provably did not take the submission.
    Refused(Blame),
    /// The submission never left.
    NotSent,
    /// The client never learned of the grant.
    Undelivered,
    /// The outcome of the submission is unknown.
    Uncertain {
        /// How long ago its last byte was sent, at least.
        sent_ago: Duration,
    },
}

/// What is known of a submission whose outcome is not.
struct Lost {
    body: Option<Body>,
    /// The account that it was sent on.
    on: Option<Arc<str>>,
    sent_at: Duration,
    /// It is reported for the first time, and has a slot.
    is_first: bool,
}

impl Pool {
    /// Learns what became of a slot, or of a submission that had none, on the account `email`. A
    /// second report of the same changes nothing.
    pub fn settle(
        &mut self,
        id: LeaseId,
        email: Option<&Name>,
        body: Option<Body>,
        settlement: Settlement,
        now: Duration,
    ) {
        let is_first = self.count_submission(id, &settlement);
        let on = email.map(|email| Arc::clone(email.given()));
        match settlement {
            Settlement::Accepted { task_id, task_type } => {
                let is_told_again = self.resolutions.accept(id, &task_id, on);
                if let Some(body) = &body
                    && let Some(key) = email.and_then(|email| self.accounts.find(email))
                {
                    let job = AcceptedJob {
                        operation: Arc::clone(&body.operation),
                        task_type,
                        prompt: body.prompt,
                    };
                    self.resolutions.note_accepted(key, &task_id, job, now);
                }
                // The lease has ended since: newer facts about the job are known.
                if is_told_again && self.leases.get(id).is_none() {
                    return;
                }
                let bound = self.bind(id, task_id.clone(), now);
                self.note_accepted_marked(id);
                match (bound, email) {
                    (Err(LeaseError::Unknown | LeaseError::TaskTaken), Some(email)) => {
                        // An operator gave the lease back, or there was none. The job runs all the
                        // same.
                        self.resolutions.let_expire(id, now);
                        self.job_started(task_id, email, now);
                    }
                    (Err(_), None) => self.resolutions.let_expire(id, now),
                    (Ok(()), _) => {}
                }
            }
            Settlement::Refused(blame) => {
                self.forget_claim(id);
                self.refuse(id, blame, now);
            }
            Settlement::NotSent => {
                self.forget_claim(id);
                self.end(id, Cause::Released, now);
            }
            // Another call knows the lease.
            Settlement::Undelivered if self.leases.get(id).is_some_and(|it| it.is_told) => {}
            Settlement::Undelivered => {
                self.forget_claim(id);
                self.end(id, Cause::Undelivered, now);
            }
            Settlement::Uncertain { sent_ago } => {
                let lost = Lost {
                    body,
                    on,
                    sent_at: now.saturating_sub(sent_ago),
                    is_first,
                };
                self.lose(id, lost, now);
            }
        }
    }

    /// It is not known whether a submission became a job.
    fn lose(&mut self, id: LeaseId, lost: Lost, now: Duration) {
        let Lost {
            body,
            on,
            sent_at,
            is_first,
        } = lost;
        let lease = self.leases.get(id);
        let state = lease.map(Lease::state);
        if state == Some(LeaseState::Uncertain) || lease.is_some_and(Lease::is_tied) {
            return;
        }
        let since = lease.map(|lease| (lease.account, lease.created_at()));
        let mark = lease.and_then(|lease| lease.mark());
        let marked = lease.filter(|lease| lease.is_marked);
        let marked = marked.and_then(|lease| lease.operation().clone());
        let is_news = self.resolutions.lose(id, body, on, since, mark, sent_at);
        if let Some(operation) = marked.filter(|_| is_news) {
            self.marks.note_failed(&operation);
        }
        if state == Some(LeaseState::Bound) {
            // A round has listed its job with its mark, or a client has named it.
            self.resolutions.note_found(id, false);
            if is_first {
                self.note_loss_bound(id);
            }
            return;
        }
        if state.is_none() {
            self.resolutions.let_expire(id, now);
        }
        self.mark_uncertain(id, sent_at, now);
    }

    /// A submission became no job.
    fn forget_claim(&mut self, id: LeaseId) {
        let undecided = self.resolutions.free(id);
        self.note_decided(undecided);
    }
}
