//! What became of the submissions and the jobs of an account, counted since the start of the process.
//!
//! A job is counted as started when a lease is bound to it, once for each lease, and as ended when its slot comes
//! free: at that moment its result is known or it is not, and it counts so for ever. What becomes known later is
//! seen in the records of calls, not here. A job that only a round gave to a lease, and that turned out to be
//! another's, is uncounted. A job without a lease is not counted here: its client or an operator gave the lease back, its
//! account is not in the list, or it was found after the slot of its lost submission had come free.
//!
//! There is one place for each: [`Pool::note_job_of`], called by `Pool::set_phase`, and [`Pool::note_job_ended`], called
//! by `Pool::end_lease`. A lease that was bound before a restart ends here without a start.

use std::{sync::Arc, time::Duration};

use super::{
    Blame, Caller, Cause, JobResult, LastRefusal, Lease, LeaseId, Name, OperationName, Pool,
    Settlement, Tallies, TaskId, lease::Binding,
};

/// What became of a submission, in the words of the metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubmissionOutcome {
    /// There is a job.
    Accepted,
    /// The account is full or throttled.
    Full,
    /// The account's session is broken.
    Session,
    /// The account has no credit.
    Credit,
    /// The request is at fault, or the account has left the list.
    Refused,
    /// The token is at fault.
    Token,
    /// It never left.
    Unsent,
    /// It is not known whether there is a job.
    Uncertain,
}

impl SubmissionOutcome {
    /// Every outcome, in the order of the metric's series.
    pub const ALL: [Self; 8] = [
        Self::Accepted,
        Self::Full,
        Self::Session,
        Self::Credit,
        Self::Refused,
        Self::Token,
        Self::Unsent,
        Self::Uncertain,
    ];

    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Full => "full",
            Self::Session => "session",
            Self::Credit => "credit",
            Self::Refused => "refused",
            Self::Token => "token",
            Self::Unsent => "unsent",
            Self::Uncertain => "uncertain",
        }
    }

    /// `None` for what was no submission: a grant that never reached its caller.
    pub(super) fn of(settlement: &Settlement) -> Option<Self> {
        Some(match settlement {
            Settlement::Accepted { .. } => Self::Accepted,
            Settlement::Refused(Blame::PushedBack { .. }) => Self::Full,
            Settlement::Refused(Blame::SessionBroken) => Self::Session,
            Settlement::Refused(Blame::NoCredit) => Self::Credit,
            Settlement::Refused(Blame::Request) => Self::Refused,
            Settlement::Refused(Blame::Token) => Self::Token,
            Settlement::NotSent => Self::Unsent,
            Settlement::Uncertain { .. } => Self::Uncertain,
            Settlement::Undelivered => return None,
        })
    }
}

/// What is known of the end of a job when its slot comes free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobEnd {
    /// It ended with what was asked for.
    Succeeded,
    /// It ended without.
    Failed,
    /// Nothing.
    Unknown,
}

impl JobEnd {
    /// Every end, in the order of the metric's series.
    pub const ALL: [Self; 3] = [Self::Succeeded, Self::Failed, Self::Unknown];

    /// The word of the API and of the metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }

    /// How it ended, if that is known.
    pub fn result(self) -> Option<JobResult> {
        match self {
            Self::Succeeded => Some(JobResult::Succeeded),
            Self::Failed => Some(JobResult::Failed),
            Self::Unknown => None,
        }
    }
}

impl From<Option<JobResult>> for JobEnd {
    fn from(result: Option<JobResult>) -> Self {
        match result {
            Some(JobResult::Succeeded) => Self::Succeeded,
            Some(JobResult::Failed) => Self::Failed,
            None => Self::Unknown,
        }
    }
}

/// The counts of one account, or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Submissions by what became of them, in the order of [`SubmissionOutcome::ALL`].
    pub submissions: [u64; SubmissionOutcome::ALL.len()],
    /// Jobs that were started on a slot of ours.
    pub started: u64,
    /// Jobs whose slots came free, in the order of [`JobEnd::ALL`].
    pub ended: [u64; JobEnd::ALL.len()],
    /// Job starts that the account refused, and that another account was asked to take.
    pub moved: u64,
}

impl Tally {
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            submissions: std::array::from_fn(|idx| self.submissions[idx] + other.submissions[idx]),
            started: self.started + other.started,
            ended: std::array::from_fn(|idx| self.ended[idx] + other.ended[idx]),
            moved: self.moved + other.moved,
        }
    }

    /// How many jobs ended so.
    pub fn ended(&self, end: JobEnd) -> u64 {
        self.ended[end as usize]
    }
}

/// A job, as what is told of it names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobFacts {
    /// Who started it.
    pub caller: Caller,
    /// What it does, if that is known.
    pub operation: Option<OperationName>,
    /// Its account, in the list's spelling.
    pub email: Arc<str>,
    /// The account's name in logs and metrics.
    pub alias: accounts_fetcher::Alias,
    /// The job.
    pub task_id: TaskId,
}

/// A job started, or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobChange {
    /// A lease is bound to it.
    Started(JobFacts),
    /// Its slot came free.
    Ended {
        /// Which job.
        job: JobFacts,
        /// What is known of its end.
        end: JobEnd,
        /// From when it was known until it was known to be over, or else until its slot came free.
        took: Duration,
    },
}

impl Pool {
    /// The counts beside those of the accounts.
    pub fn tallies(&self) -> Tallies {
        self.accounts.tallies()
    }

    /// Counts a job start that an account refused, and that another account is asked to take. Nothing is counted on
    /// an account that has left.
    pub fn note_moved(&mut self, from: &Name) {
        if let Some(key) = self.accounts.find(from) {
            self.accounts.count(key, |tally| tally.moved += 1);
        }
    }

    /// Learns how a job ended that a lease is bound to. The first word counts.
    pub fn note_result(&mut self, task_id: &TaskId, result: JobResult) {
        if let Some(id) = self.leases.of_task(task_id) {
            self.leases.note_result(id, result);
        }
    }

    /// Learns in which words the account of a lease refuses its submission, for a reason of its own.
    pub fn note_refusal(&mut self, id: LeaseId, status: u16, text: Arc<str>, now: Duration) {
        if let Some(account) = self.leases.get(id).map(|lease| lease.account) {
            let refusal = LastRefusal {
                at: now,
                status,
                text,
            };
            self.accounts.note_refusal(account, refusal);
        }
    }

    /// Counts what became of a submission that has a slot, once. False if it has none, or was counted before.
    pub(super) fn count_submission(&mut self, id: LeaseId, settlement: &Settlement) -> bool {
        let Some(outcome) = SubmissionOutcome::of(settlement) else {
            return false;
        };
        let Some(account) = self.leases.note_counted(id) else {
            return false;
        };
        let count = |tally: &mut Tally| tally.submissions[outcome as usize] += 1;
        self.accounts.count(account, count);
        true
    }

    /// A lease is bound to another job than before, or to none. If the job that it had turns out to be another's, the
    /// new one is told as started, and counts in its place.
    pub(super) fn note_job_of(&mut self, id: LeaseId, before: Option<&TaskId>) {
        let Some(lease) = self.leases.get(id) else {
            return;
        };
        let (account, was_started) = (lease.account, lease.is_started);
        let now = lease.binding().map(|binding| &binding.task_id);
        if let Some(task_id) = now.filter(|now| before != Some(*now)) {
            let job = self.job_facts(lease, task_id);
            self.outbox.note_job_change(JobChange::Started(job));
        }
        match (before, now) {
            (None, Some(_)) => {
                self.leases.set_started(id, true);
                self.accounts.count(account, |tally| tally.started += 1);
            }
            (Some(_), None) if was_started => {
                self.leases.set_started(id, false);
                self.accounts.count(account, |tally| tally.started -= 1);
            }
            (Some(_), Some(_) | None) | (None, None) => {}
        }
    }

    /// The slot of a bound lease that has ended comes free.
    pub(super) fn note_job_ended(
        &mut self,
        lease: &Lease,
        binding: &Binding,
        cause: Cause,
        now: Duration,
    ) {
        // A round had given it the job of another submission.
        let is_mistaken =
            binding.tied_from.is_some() && matches!(cause, Cause::Refused | Cause::Undelivered);
        if is_mistaken {
            if lease.is_started {
                self.accounts
                    .count(lease.account, |tally| tally.started -= 1);
            }
            return;
        }
        let end = JobEnd::from(binding.result);
        self.accounts
            .count(lease.account, |tally| tally.ended[end as usize] += 1);
        let over_at = binding.over_at.unwrap_or(now);
        self.outbox.note_job_change(JobChange::Ended {
            job: self.job_facts(lease, &binding.task_id),
            end,
            took: over_at.saturating_sub(binding.since),
        });
    }

    fn job_facts(&self, lease: &Lease, task_id: &TaskId) -> JobFacts {
        let account = &self.accounts[lease.account].listed;
        JobFacts {
            caller: lease.caller.clone(),
            operation: lease.operation().clone(),
            email: Arc::clone(&account.email),
            alias: account.alias,
            task_id: task_id.clone(),
        }
    }
}
