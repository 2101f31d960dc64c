//! The upstream as a pure value: accounts, jobs, what they own, the audit and the scripts.
//!
//! The world has no I/O and no clock: its holder first calls [`World::advance_to`], and everything
//! that the world then does happens at that moment. Only `accept` accepts jobs. An account never
//! runs more jobs than its cap allowed when the last one was accepted.

mod accept;
mod history;
mod job;
mod jobs;
mod references;
mod resources;
mod results;
mod shelf;
mod task_info;
#[cfg(test)]
mod tests;
mod told;
mod view;

use std::{collections::HashSet, ops::RangeInclusive, time::Duration};

use jiff::Timestamp;
use rand::{SeedableRng, rngs::SmallRng};

pub use job::JobDuration;
pub use references::SAMPLE_IDS;
pub(crate) use results::{PublicUrl, RESULTS_PATH};
pub use task_info::HistoryStyle;

use crate::{
    account::{Account, SchedulerRows},
    audit::{Audit, Book, RequestSeen},
    call::Call,
    fault::{Effect, Faults, Target},
    list::Listing,
    operation::{self, Selector},
    refusal::Refusal,
    reply_refs::{ReplyRefRules, ReplyRefs},
    task_id::{TaskId, TaskIds},
};
use jobs::Jobs;
use shelf::Shelf;
use told::Told;

const FIRST_USER_ID: u64 = 1_000_001;

/// How a world behaves.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Equal seeds give equal draws.
    pub(crate) seed: u64,
    pub(crate) task_ids: TaskIds,
    pub(crate) job_duration: JobDuration,
    /// How long after a job's end its slot returns.
    pub(crate) release_lag: RangeInclusive<Duration>,
    /// How long a job is tracked, whether it ends or not.
    pub(crate) tracking: Duration,
    pub(crate) history: HistoryStyle,
    pub(crate) public_url: PublicUrl,
    /// How many rounds ago a job start may have been decided.
    pub(crate) reaction_rounds: u64,
    /// Ids that a job start may name on any account though no account has them.
    pub(crate) accepted_ids: HashSet<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: 1,
            task_ids: TaskIds::default(),
            job_duration: JobDuration::default(),
            release_lag: Duration::ZERO..=Duration::ZERO,
            tracking: Duration::from_mins(60),
            history: HistoryStyle::default(),
            public_url: PublicUrl("http://sim.example".to_owned()),
            reaction_rounds: 0,
            accepted_ids: HashSet::new(),
        }
    }
}

/// The state of the simulated upstream.
#[derive(Debug)]
pub(crate) struct World {
    /// The wall-clock time at which `now` was zero.
    epoch: Timestamp,
    now: Duration,
    settings: Settings,
    rng: SmallRng,
    last_task_id: TaskId,
    next_user_id: u64,
    accounts: Vec<Account>,
    jobs: Jobs,
    shelf: Shelf,
    book: Book,
    told: Told,
    pub(crate) listing: Listing,
    pub(crate) faults: Faults,
    pub(crate) reply_refs: ReplyRefRules,
}

impl World {
    /// A world without accounts that starts at `epoch`.
    pub(crate) fn new(settings: Settings, epoch: Timestamp) -> Self {
        let mut rng = SmallRng::seed_from_u64(settings.seed);
        Self {
            epoch,
            now: Duration::ZERO,
            last_task_id: settings.task_ids.draw_first(&mut rng),
            settings,
            rng,
            next_user_id: FIRST_USER_ID,
            accounts: Vec::new(),
            jobs: Jobs::default(),
            shelf: Shelf::default(),
            book: Book::default(),
            told: Told::default(),
            listing: Listing::default(),
            faults: Faults::default(),
            reply_refs: ReplyRefRules::default(),
        }
    }

    /// Moves time to `now` after the start and frees the slots that return by then.
    pub(crate) fn advance_to(&mut self, now: Duration) {
        self.now = now;
        self.jobs.advance_to(now);
    }

    /// Adds an account at the end of the list, or changes the cap of an existing one in its place.
    pub(crate) fn set_account(&mut self, email: String, max_jobs: u32) {
        self.book.open(&email);
        if let Some(account) = self.account_mut(&email) {
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
            has_credit: true,
            is_hung: false,
            has_unreadable_history: false,
            scheduler_rows: SchedulerRows::default(),
        });
    }

    /// Removes an account from the list; `false` if it was not there. Its jobs go on.
    pub(crate) fn remove_account(&mut self, email: &str) -> bool {
        let before = self.accounts.len();
        self.accounts.retain(|account| account.email != email);
        self.accounts.len() < before
    }

    /// Puts an account into its error state or out of it; `false` if the account is not configured.
    pub(crate) fn set_account_error(&mut self, email: &str, error: Option<String>) -> bool {
        let account = self.account_mut(email);
        account.map(|account| account.error = error).is_some()
    }

    /// Gives credit to an account or removes it; `false` if the account is not configured.
    pub(crate) fn set_account_credit(&mut self, email: &str, has_credit: bool) -> bool {
        let account = self.account_mut(email);
        account
            .map(|account| account.has_credit = has_credit)
            .is_some()
    }

    /// Hangs an account or mends it; `false` if the account is not configured.
    pub(crate) fn set_account_hung(&mut self, email: &str, is_hung: bool) -> bool {
        let account = self.account_mut(email);
        account.map(|account| account.is_hung = is_hung).is_some()
    }

    /// What interferes with a request whose head has arrived.
    pub(crate) fn interference(&mut self, target: &Target<'_>) -> Option<Effect> {
        self.hang(target).or_else(|| self.faults.take(target))
    }

    /// What interferes with a request as soon as its body names an account: a hung account in any
    /// case, and a scripted fault if no other fault interfered before.
    pub(crate) fn interference_by_account(
        &mut self,
        target: &Target<'_>,
        before: Option<Effect>,
    ) -> Option<Effect> {
        let hang = self.hang(target);
        hang.or(before)
            .or_else(|| self.faults.take_scripted(target))
    }

    /// The effect of a hung account on a request that names it.
    fn hang(&self, target: &Target<'_>) -> Option<Effect> {
        let account = self.account(target.email.as_deref()?)?;
        account.is_hung.then_some(Effect::StallBefore)
    }

    /// Sets what the operation of a path does with a `replyRef`; `false` if it is no job start.
    pub(crate) fn set_reply_refs_on(&mut self, path: &str, reply_refs: ReplyRefs) -> bool {
        let found = operation::find("POST", path);
        let found = found.filter(|(row, _)| row.job_kind().is_some());
        found
            .map(|(row, _)| self.reply_refs.set_on(row.path, reply_refs))
            .is_some()
    }

    /// How long an operation under this effect waits before it happens, and from then to its answer.
    pub(crate) fn pauses(&mut self, effect: &Effect) -> (Duration, Duration) {
        effect.pauses(&mut self.rng)
    }

    /// Whether this account is configured.
    pub(crate) fn is_account(&self, email: &str) -> bool {
        self.account(email).is_some()
    }

    /// Sets how the scheduler lists the jobs of an account; `false` if the account is not configured.
    pub(crate) fn set_scheduler_rows(&mut self, email: &str, rows: SchedulerRows) -> bool {
        let account = self.account_mut(email);
        account
            .map(|account| account.scheduler_rows = rows)
            .is_some()
    }

    /// Whether any account is configured.
    pub(crate) fn is_configured(&self) -> bool {
        !self.accounts.is_empty()
    }

    /// The e-mail of the account that a call concerns; empty if the operation needs no account.
    pub(crate) fn select(&self, selector: Selector, call: &Call) -> Result<String, Refusal> {
        let named = match selector {
            Selector::Unneeded => return Ok(String::new()),
            Selector::Query => call.head.query("email"),
            Selector::QueryAlways => {
                let named = call.head.query("email");
                Some(named.ok_or(Refusal::FieldMissing { field: "email" })?)
            }
            Selector::Body => call.fields.as_ref().map_err(Clone::clone)?.text("email")?,
        };
        Ok(self.resolve(named.as_deref())?.email.clone())
    }

    /// Ends a job now; `false` if no such job is running.
    pub(crate) fn finish(&mut self, id: TaskId) -> bool {
        self.jobs.finish(id, self.now)
    }

    /// Ends all jobs that run now, and says how many.
    pub(crate) fn finish_all(&mut self) -> usize {
        let running: Vec<TaskId> = self.jobs.running(self.now).collect();
        for &id in &running {
            self.jobs.finish(id, self.now);
        }
        running.len()
    }

    /// `DELETE /scheduler/{id}`: frees the slot, while the job itself goes on.
    pub(crate) fn stop_tracking(&mut self, id: TaskId) -> Result<(), Refusal> {
        if self.jobs.untrack(id) {
            Ok(())
        } else {
            Err(Refusal::NotRunning { id })
        }
    }

    /// The number of slots taken on an account, as the upstream counts them.
    pub(crate) fn executing(&self, email: &str) -> u32 {
        self.jobs.executing(email)
    }

    /// How many rounds of the program under test were answered.
    pub(crate) fn rounds(&self) -> u64 {
        self.told.rounds()
    }

    /// Remembers that a round tells the program under test of all tracked jobs.
    pub(crate) fn tell_jobs(&mut self) {
        self.told.round(self.jobs.tracked().map(|job| job.id));
    }

    /// Remembers that a list tells the program under test of all caps.
    pub(crate) fn tell_list(&mut self) {
        for account in &self.accounts {
            self.told.listed_cap(&account.email, account.max_jobs);
        }
    }

    /// Remembers that a round tells the program under test of all caps.
    pub(crate) fn tell_caps(&mut self) {
        for account in &self.accounts {
            self.told.cap(&account.email, account.max_jobs);
        }
    }

    /// Keeps a request that is not a submission.
    pub(crate) fn log(&mut self, call: &Call, is_complete: bool) {
        self.book.log(RequestSeen {
            at: self.now,
            head: call.head.clone(),
            body: call.body.clone(),
            byte_count: call.byte_count,
            is_complete,
        });
    }

    /// The newest requests that were not submissions, oldest first.
    pub(crate) fn requests(&self) -> Vec<RequestSeen> {
        self.book.requests()
    }

    /// A copy of the audit as of now.
    pub(crate) fn audit(&self) -> Audit {
        let mut audit = self.book.copy();
        for audited in &mut audit.accounts {
            let account = self.account(&audited.email);
            audited.max_jobs = account.map_or(0, |account| account.max_jobs);
            audited.executing = self.jobs.executing(&audited.email);
        }
        audit
    }

    /// The account that a call concerns: the one it names, or the only one.
    fn resolve(&self, email: Option<&str>) -> Result<&Account, Refusal> {
        match (email, self.accounts.as_slice()) {
            (_, []) => Err(Refusal::NotConfigured),
            (None, [only]) => Ok(only),
            (None, _) => Err(Refusal::EmailRequired),
            (Some(email), _) => self.account(email).ok_or(Refusal::AccountUnknown),
        }
    }

    fn account(&self, email: &str) -> Option<&Account> {
        self.accounts.iter().find(|account| account.email == email)
    }

    fn account_mut(&mut self, email: &str) -> Option<&mut Account> {
        let mut accounts = self.accounts.iter_mut();
        accounts.find(|account| account.email == email)
    }
}
