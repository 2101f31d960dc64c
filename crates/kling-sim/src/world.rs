//! The upstream as a pure value: accounts, jobs, the audit and the script of `GET /accounts`.
//!
//! No I/O and no clock: whoever holds the world first calls [`World::advance_to`], and everything
//! it then does happens at that moment. There is one place where a job is accepted,
//! [`World::submit`]; an account never runs more jobs than its cap allowed at that moment.

mod job;
mod jobs;
mod request;
#[cfg(test)]
mod tests;
mod view;

use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

pub(crate) use self::job::Job;
pub use self::job::{JobDuration, TaskId};
use self::jobs::Jobs;
use self::request::JobRequest;
use crate::audit::{Audit, Book, Outcome, Submission};
use crate::list::Listing;
use crate::operation::Operation;
use crate::refusal::Refusal;

/// What the upstream accepts as `maxJobs` of an account or a call.
pub const MAX_JOBS: RangeInclusive<u32> = 1..=50;

/// Task ids start with 15 digits, as Kling's other ids do, and grow by less than a thousand each:
/// they stay below 2^53 for longer than anybody will wait.
const FIRST_TASK_ID: RangeInclusive<u64> = 100_000_000_000_000..=900_000_000_000_000;
const TASK_ID_STEP: RangeInclusive<u64> = 1..=999;

const FIRST_USER_ID: u64 = 1_000_001;

/// One configured account.
#[derive(Debug)]
struct Account {
    email: String,
    user_id: u64,
    max_jobs: u32,
    error: Option<String>,
}

/// A job that was accepted, and the arguments its answer echoes.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) job: Job,
    arguments: Vec<(String, String)>,
}

/// The state of the simulated upstream.
#[derive(Debug)]
pub(crate) struct World {
    /// The wall-clock time at which `now` was zero.
    epoch: Timestamp,
    now: Duration,
    rng: SmallRng,
    job_duration: JobDuration,
    last_task_id: u64,
    next_user_id: u64,
    accounts: Vec<Account>,
    jobs: Jobs,
    book: Book,
    pub(crate) listing: Listing,
}

impl World {
    /// A world without accounts that starts at `epoch`; equal seeds give equal draws.
    pub(crate) fn new(seed: u64, job_duration: JobDuration, epoch: Timestamp) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        Self {
            epoch,
            now: Duration::ZERO,
            job_duration,
            last_task_id: rng.random_range(FIRST_TASK_ID),
            next_user_id: FIRST_USER_ID,
            rng,
            accounts: Vec::new(),
            jobs: Jobs::default(),
            book: Book::default(),
            listing: Listing::default(),
        }
    }

    /// Moves time to `now` after the start and ends the jobs that are over by then.
    pub(crate) fn advance_to(&mut self, now: Duration) {
        self.now = now;
        self.jobs.advance_to(now);
    }

    /// Adds an account at the end of the list, or resizes it where it stands.
    pub(crate) fn set_account(&mut self, email: String, max_jobs: u32) {
        self.book.open(&email);
        if let Some(account) = self
            .accounts
            .iter_mut()
            .find(|account| account.email == email)
        {
            account.max_jobs = max_jobs;
            return;
        }
        let user_id = self.next_user_id;
        self.next_user_id += 1;
        self.accounts.push(Account {
            email,
            user_id,
            max_jobs,
            error: None,
        });
    }

    /// Takes an account off the list. Its jobs go on; `false` if it was not there.
    pub(crate) fn remove_account(&mut self, email: &str) -> bool {
        let before = self.accounts.len();
        self.accounts.retain(|account| account.email != email);
        self.accounts.len() < before
    }

    /// Puts an account into its error state or out of it; `false` if it is not configured.
    pub(crate) fn set_account_error(&mut self, email: &str, error: Option<String>) -> bool {
        let account = self
            .accounts
            .iter_mut()
            .find(|account| account.email == email);
        account.map(|account| account.error = error).is_some()
    }

    /// Whether any account is configured.
    pub(crate) fn is_configured(&self) -> bool {
        !self.accounts.is_empty()
    }

    /// Judges a job start and writes the verdict into the audit.
    pub(crate) fn submit(
        &mut self,
        operation: &'static Operation,
        body: Bytes,
    ) -> Result<Started, Refusal> {
        let request = JobRequest::parse(operation, &body);
        let named = request
            .as_ref()
            .ok()
            .and_then(|request| request.email.clone());
        let verdict = request.and_then(|request| self.accept(operation, request));
        let (email, outcome) = match &verdict {
            Ok(started) => (
                Some(started.job.email.clone()),
                Outcome::Accepted(started.job.id),
            ),
            Err(refusal) => (named, Outcome::Refused(refusal.status().as_u16())),
        };
        self.book.record(Submission {
            at: self.now,
            email,
            body,
            outcome,
        });
        verdict
    }

    /// Ends a job now; `false` if there is none that still runs.
    pub(crate) fn finish(&mut self, id: TaskId) -> bool {
        self.jobs.finish(id, self.now)
    }

    /// `DELETE /scheduler/{id}`: frees the slot, while the job itself goes on.
    pub(crate) fn stop_tracking(&mut self, id: TaskId) -> Result<(), Refusal> {
        if self.jobs.untrack(id) {
            Ok(())
        } else {
            Err(Refusal::NotRunning { id })
        }
    }

    /// A copy of the audit as of now.
    pub(crate) fn audit(&self) -> Audit {
        let mut audit = self.book.copy();
        for audited in &mut audit.accounts {
            let account = self
                .accounts
                .iter()
                .find(|account| account.email == audited.email);
            audited.max_jobs = account.map_or(0, |account| account.max_jobs);
            audited.executing = self.jobs.executing(&audited.email);
        }
        audit
    }

    fn accept(
        &mut self,
        operation: &'static Operation,
        request: JobRequest,
    ) -> Result<Started, Refusal> {
        let account = self.resolve(request.email.as_deref())?;
        let email = account.email.clone();
        if let Some(error) = account.error.clone() {
            return Err(Refusal::AccountInError { email, error });
        }
        let user_id = account.user_id;
        let cap = request
            .max_jobs
            .unwrap_or(account.max_jobs)
            .min(account.max_jobs);
        let executing = self.jobs.executing(&email);
        if executing >= cap {
            self.book.over_limit(&email);
            return Err(Refusal::AtCapacity {
                email,
                executing,
                cap,
            });
        }
        self.book
            .accepted(&email, executing + 1, request.reply_ref.as_deref());
        let job = Job {
            id: self.next_task_id(),
            email,
            user_id,
            operation,
            started: self.now,
            duration: self.job_duration.draw(&mut self.rng),
            reply_url: request.reply_url,
            reply_ref: request.reply_ref,
        };
        self.jobs.insert(job.clone());
        Ok(Started {
            job,
            arguments: request.arguments,
        })
    }

    /// The account a call is about: the one it names, or the only one.
    fn resolve(&self, email: Option<&str>) -> Result<&Account, Refusal> {
        match (email, self.accounts.as_slice()) {
            (_, []) => Err(Refusal::NotConfigured),
            (None, [only]) => Ok(only),
            (None, _) => Err(Refusal::EmailRequired),
            (Some(email), accounts) => accounts
                .iter()
                .find(|account| account.email == email)
                .ok_or(Refusal::AccountUnknown),
        }
    }

    fn next_task_id(&mut self) -> TaskId {
        self.last_task_id += self.rng.random_range(TASK_ID_STEP);
        TaskId::from(self.last_task_id)
    }
}
