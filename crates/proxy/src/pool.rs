//! The pool: the accounts, the leases on their slots, and the queue for a slot.
//!
//! Keeps these invariants after every call:
//!
//! - no grant on an account whose slots in use have reached its `maxJobs` of the newest snapshot;
//! - every choice is uniform over the eligible accounts;
//! - a slot comes back exactly once, however its lease ends;
//! - no slot stays free that a waiter may take: the call that frees it hands it to the
//!   longest-waiting one. So a newcomer may take any free slot at once.
//!
//! Pure, synchronous and deterministic: no I/O, no lock, no clock, and no result depends on a
//! hasher. Time is an argument, a [`Duration`] since the owner's start, and so is randomness.
//! [`Pool::next_handover`] returns what waiters were granted; the owner tells them.
//!
//! Each part owns its fields and their indexes: `accounts`, `leases`, `foreign_jobs`, `waiters`,
//! `resolutions`, `marks`, `forecast`, `outbox`. A rule over several of them has a file of its own: `choice`
//! grants and hands over, `roster` follows the account list, `matching` finds the lease of a job,
//! `marked_jobs` by its mark, `following` follows the upstream's list of jobs, `rounds` what else is learnt of them, `unnamed` counts jobs without ids. The cost of a rule depends on what changed, never on the size of
//! the pool.

mod account;
mod accounts;
mod ask;
mod caps;
mod changes;
mod choice;
mod deadlines;
mod fingerprint;
mod following;
mod forecast;
mod foreign_jobs;
mod free;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod glance;
mod health;
mod history;
mod known_tasks;
mod lease;
mod leases;
mod list;
mod losses;
mod marked_jobs;
mod marks;
mod matching;
mod name;
mod outbox;
mod page;
mod records;
mod resolutions;
mod restore;
mod roster;
mod rounds;
mod running_jobs;
mod settlement;
mod sorted;
mod steps;
mod tally;
mod unnamed;
mod waiters;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use rand::Rng;

pub use account::{AccountKey, AccountState, AccountView, LastRefusal, StateChange};
pub use accounts::{Departed, SERIES_MAX, Tallies};
pub use ask::{
    Admission, Ask, Caller, Constraint, Excluded, Handover, LeaseError, Refusal, UnknownAccount,
    Update,
};
pub use changes::{Changed, RecordName};
pub use fingerprint::{Fingerprint, FingerprintHasher};
pub use following::RoundProgress;
pub use forecast::OperationName;
pub use glance::{Glance, LeaseCounts, WAITERS_SHOWN_MAX, WaiterView};
pub use health::Blame;
pub use history::{Body, History, TASKS_MAX};
pub use lease::{Cause, Kind, LeaseId, LeaseIdError, LeaseState, LeaseView};
pub use list::{List, ListChange, ListDifference};
pub use losses::{Decision, LossDecided};
pub use marks::{LearntMarks, MarkFault, MarksChange, MarksKnown};
pub use name::Name;
pub use outbox::AccountNames;
pub use page::{AccountPlace, LeasePlace, Page, PlaceError};
pub use records::{
    AccountRecord, ForeignJobRecord, LeaseRecord, OperationRecord, PoolRecord, SubmissionRecord,
};
pub use resolutions::{Claim, KEYS_MAX, Key, Known, REMEMBERED_FOR, Undecided};
pub use restore::Saved;
pub use rounds::{Findings, Round};
pub use running_jobs::{RoundChange, RunningJobs};
pub use settlement::Settlement;
pub use tally::{JobChange, JobEnd, JobFacts, SubmissionOutcome, Tally};
pub use waiters::WaiterId;

pub use crate::kling::{
    history::{Digest, HistoryRow},
    mark::{Mark, MarkError},
    scheduler::{AccountCap, AccountCount, RunningJob},
    task::{JobResult, TASK_ID_DIGITS_MAX, TaskId, TaskIdError},
};

use accounts::Accounts;
use changes::Changes;
use deadlines::NEVER;
use following::Following;
use forecast::Forecast;
use foreign_jobs::ForeignJobs;
use lease::{Lease, Phase};
use leases::Leases;
use marks::Marks;
use outbox::Outbox;
use resolutions::Resolutions;
use roster::Incoming;
use waiters::Waiters;

/// The limits of the pool.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most waiters at once.
    pub waiters_max: usize,
    /// How long a slot is held for a bound job that is not heard of again.
    pub job_ttl: Duration,
    /// Whether rounds are held. If so, they decide which jobs are over, and no slot is granted
    /// before the first one.
    pub reconciles: bool,
    /// How long a lost submission may still turn up as a job.
    pub settle: Duration,
    /// Whether an unclaimed job is bound to a pick that has no job.
    pub ties_picks: bool,
}

/// The accounts, their slots, the leases on them and the queue for them.
#[derive(Debug)]
pub struct Pool {
    limits: Limits,
    /// The run of the sidecar that this is, if it is written.
    session: Option<Arc<str>>,
    /// The account list in force.
    list: Option<Arc<List>>,
    /// Whether another list was put into force.
    list_changes: Changes<()>,
    /// Whether the list is of this process, not from before a restart.
    is_list_fresh: bool,
    /// The list that is about to replace it.
    incoming: Option<Incoming>,
    /// What the newest round showed.
    running: Option<Arc<RunningJobs>>,
    /// The round that is about to replace it.
    following: Option<Following>,
    /// When the first round was sent. A job that it lists may have started while no process ran.
    first_round_at: Option<Duration>,
    accounts: Accounts,
    leases: Leases,
    foreign_jobs: ForeignJobs,
    waiters: Waiters,
    resolutions: Resolutions,
    marks: Marks,
    forecast: Forecast,
    outbox: Outbox,
}

impl Pool {
    /// An empty pool. It refuses every pick until a snapshot is applied.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            session: None,
            list: None,
            list_changes: Changes::default(),
            is_list_fresh: false,
            incoming: None,
            running: None,
            following: None,
            first_round_at: None,
            accounts: Accounts::default(),
            leases: Leases::new(limits),
            foreign_jobs: ForeignJobs::new(limits.job_ttl),
            waiters: Waiters::default(),
            resolutions: Resolutions::new(KEYS_MAX, limits.reconciles),
            marks: Marks::default(),
            forecast: Forecast::default(),
            outbox: Outbox::default(),
        }
    }

    /// The next slot that was handed to a waiter. The owner tells the waiters in this order.
    pub fn next_handover(&mut self) -> Option<Handover> {
        self.outbox.next_handover()
    }

    /// Whether there may be anything to tell since it was last taken: changes of states, jobs and marks, decided
    /// losses, drained accounts.
    pub fn has_news(&self) -> bool {
        self.outbox.has_news() || self.marks.has_changes()
    }

    /// The changes of state since the last call.
    pub fn take_state_changes(&mut self) -> Vec<StateChange> {
        self.outbox.take_state_changes()
    }

    /// The draining accounts that have come to run no job since the last call, and run none now. None is told before it
    /// is known what runs.
    pub fn take_drained(&mut self) -> Vec<AccountNames> {
        if self.is_learning() {
            return Vec::new();
        }
        let drained = self.outbox.take_drained().into_iter();
        let drained = drained.filter_map(|key| self.accounts.get(key));
        let drained = drained.filter(|account| account.is_drained());
        drained.map(|account| account.names()).collect()
    }

    /// The jobs that started and ended since the last call, in order.
    pub fn take_job_changes(&mut self) -> Vec<JobChange> {
        self.outbox.take_job_changes()
    }

    /// Whether something became due since the last call that only a round can decide.
    pub fn take_round_due(&mut self) -> bool {
        self.outbox.take_round_due()
    }

    /// Whether something became due since the last call that only the history of an account can
    /// decide.
    pub fn take_history_due(&mut self) -> bool {
        self.outbox.take_history_due()
    }

    /// Changes a lease: renews it, binds it to its job, or both.
    ///
    /// # Errors
    /// [`LeaseError`]; nothing has changed then.
    pub fn update(
        &mut self,
        id: LeaseId,
        update: Update,
        now: Duration,
    ) -> Result<LeaseView, LeaseError> {
        let lease = self.leases.get(id).ok_or(LeaseError::Unknown)?;
        match (update.task_id, update.ttl, lease.kind()) {
            (Some(task_id), _, _) => self.bind(id, task_id, now)?,
            (None, Some(length), Kind::Pick) => self.leases.renew(id, length, now),
            (None, _, _) => {}
        }
        self.lease(id).ok_or(LeaseError::Unknown)
    }

    /// Ends a lease and returns its slot. False if there is no such lease: nothing changes then.
    pub fn end(&mut self, id: LeaseId, cause: Cause, now: Duration) -> bool {
        let is_held = self.end_lease(id, cause, now).is_some();
        self.finish(now);
        is_held
    }

    /// Ends the lease of a submission that the upstream refused, and notes what that says about the
    /// account, in one step. False if there is no such lease: nothing changes then.
    pub fn refuse(&mut self, id: LeaseId, blame: Blame, now: Duration) -> bool {
        let leased_at = self.leases.get(id).map(|lease| lease.created_at());
        let (Some(key), Some(leased_at)) = (self.end_lease(id, Cause::Refused, now), leased_at)
        else {
            return false;
        };
        self.accounts.update(key, &mut self.outbox, |account| {
            account.change_health(|health| {
                if blame == Blame::Request {
                    health.record_success(leased_at);
                } else {
                    health.record_failure(blame, now);
                }
            });
        });
        self.finish(now);
        true
    }

    /// Ends every lease whose last deadline has come, and asks for a round for those whose ttl is
    /// over. False if nothing was due: nothing has changed then.
    pub fn expire(&mut self, now: Duration, rng: &mut impl Rng) -> bool {
        // What a waiter changed by leaving.
        self.accounts.note_states(now);
        if self.next_deadline().is_none_or(|at| at > now) {
            return false;
        }
        while let Some(id) = self.leases.next_due(now) {
            let is_expiry = self
                .leases
                .get(id)
                .is_some_and(|lease| lease.state() == LeaseState::Reserved && !lease.is_overdue);
            if is_expiry && self.limits.reconciles {
                self.leases.set_overdue(id);
                self.outbox.ask_for_round();
                continue;
            }
            let cause = if is_expiry {
                Cause::Expired
            } else {
                Cause::Unverified
            };
            self.end_lease(id, cause, now);
        }
        while let Some((job, account)) = self.foreign_jobs.next_expired(now) {
            self.note_uncounted(&job.task_id);
            if let Some(key) = account {
                self.uncount_foreign(key);
            }
        }
        while let Some(undecided) = self.resolutions.next_expired(now) {
            self.note_decided(undecided);
        }
        self.accounts.expire(now, &mut self.outbox);
        self.finish_drawn(now, rng);
        true
    }

    /// When [`Pool::expire`] next has something to do.
    pub fn next_deadline(&self) -> Option<Duration> {
        let deadlines = [
            self.leases.next_deadline(),
            self.accounts.next_deadline(),
            self.foreign_jobs.next_deadline(),
            self.resolutions.next_deadline(),
        ];
        let next = deadlines.into_iter().min().filter(|at| *at < NEVER);
        next.map(Duration::from_nanos)
    }

    /// The lease `id`, if it is held.
    pub fn lease(&self, id: LeaseId) -> Option<LeaseView> {
        self.leases.get(id).map(|lease| self.lease_view(id, lease))
    }

    /// Every held lease, oldest first. For tests and benchmarks: it walks over all of them.
    #[doc(hidden)]
    pub fn leases(&self) -> Vec<LeaseView> {
        let leases = self.leases.after(None);
        leases
            .map(|(id, lease)| self.lease_view(id, lease))
            .collect()
    }

    /// Every account, in list order; removed accounts whose jobs still run come last. For tests: it walks over
    /// all of them.
    #[doc(hidden)]
    pub fn accounts(&self) -> impl Iterator<Item = AccountView> {
        let accounts = self.accounts.after(None);
        accounts.map(|key| self.accounts[key].view(None))
    }

    /// The account of this name.
    ///
    /// # Errors
    /// [`UnknownAccount`] if there is none.
    pub fn account_named(&self, name: &Name, now: Duration) -> Result<AccountView, UnknownAccount> {
        let key = self.accounts.find(name).ok_or(UnknownAccount)?;
        Ok(self.account_view(key, now))
    }

    /// The account for a call that takes no slot: the first preferred one that is healthy, or else the first
    /// healthy account of the list. An account that cools is healthy, too: it
    /// only takes no jobs.
    pub fn healthy_account(&self, preferred: &[Name]) -> Option<&Arc<str>> {
        let known = preferred.iter().filter_map(|name| self.accounts.find(name));
        let mut healthy = known.filter(|key| self.accounts[*key].is_usable());
        let key = healthy.next().or_else(|| self.accounts.first_usable())?;
        Some(&self.accounts[key].listed.email)
    }

    /// How many callers wait.
    pub fn waiters_count(&self) -> usize {
        self.waiters.len()
    }

    /// Whether slots are in use, or callers wait.
    pub fn is_busy(&self) -> bool {
        self.accounts.in_flight() > 0 || self.waiters.len() > 0
    }

    /// The operations that were marked, and in a word what is known of each: at most 32.
    pub fn marks_known(&self) -> Vec<(OperationName, &'static str)> {
        let known = self.marks.known();
        known
            .map(|(operation, word)| (Arc::clone(operation), word))
            .collect()
    }

    /// How many leases ended, by cause, in the order of [`Cause::ALL`].
    pub fn ended_counts(&self) -> [u64; Cause::ALL.len()] {
        self.leases.ended_counts()
    }

    /// Removes a lease. Its slot is free then, but not yet handed to a waiter.
    fn end_lease(&mut self, id: LeaseId, cause: Cause, now: Duration) -> Option<AccountKey> {
        let lease = self.leases.remove(id, cause)?;
        let key = lease.account;
        self.marks.end(id, &lease);
        self.forecast.outdate();
        let email = &self.accounts[key].listed.email;
        let is_undecided = self.resolutions.end_lease(id, &lease, email, cause, now);
        if is_undecided {
            self.outbox.ask_for_history();
        }
        let is_uncertain = lease.state() == LeaseState::Uncertain;
        self.note_loss_ended(&lease, cause);
        self.accounts
            .give_back_slot(key, id, is_uncertain, &mut self.outbox);
        match lease.phase {
            // Here the end of a job becomes known, with its result.
            Phase::Bound(ref binding) => {
                self.note_job_ended(&lease, binding, cause, now);
                if cause == Cause::Finished {
                    let took = now.saturating_sub(binding.since);
                    self.forecast.learn(lease.operation(), took);
                }
                // The upstream may still count the job, whatever the holder knows.
                let is_given_back = match cause {
                    Cause::Released | Cause::Undelivered | Cause::Refused | Cause::Expired => true,
                    Cause::Finished | Cause::Absent | Cause::Unverified => false,
                };
                if is_given_back {
                    self.add_foreign(binding.listed().named(), key, now);
                } else {
                    self.note_uncounted(&binding.task_id);
                }
            }
            // The lease ended without claiming the job it was matched to: match it again.
            Phase::Reserved {
                stands_for: Some(job),
            } => self.unassign(*job, key, now),
            Phase::Reserved { stands_for: None } | Phase::Uncertain { .. } => {}
        }
        Some(key)
    }

    /// A job is not counted any more. If the newest round lists it, the next one that begins may count it again.
    fn note_uncounted(&mut self, task_id: &TaskId) {
        if let Some(email) = self.listed_on(task_id) {
            self.foreign_jobs.note_uncounted(task_id.clone(), email);
        }
    }

    /// The account that the newest round lists a job on.
    fn listed_on(&self, task_id: &TaskId) -> Option<Name> {
        let (name, _) = self.listing(task_id)?;
        Some(name.clone())
    }

    /// Changes the phase of a lease, and the counts of its account with it. Here the start of a job becomes known.
    fn set_phase(&mut self, id: LeaseId, phase: Phase) {
        let lease = self.leases.get(id);
        let binding = lease.and_then(Lease::binding);
        let before = binding.map(|binding| binding.task_id.clone());
        let was_lost = lease.is_some_and(|lease| lease.state() == LeaseState::Uncertain);
        self.change_phase(id, phase);
        if was_lost {
            self.note_loss_bound(id);
        }
        self.note_job_of(id, before.as_ref());
    }

    /// Changes the phase of a lease whose job, if any, is not new.
    fn change_phase(&mut self, id: LeaseId, phase: Phase) {
        let is_uncertain = phase.state() == LeaseState::Uncertain;
        let Some(old) = self.leases.set_phase(id, phase) else {
            return;
        };
        let was_tied = matches!(&old, Phase::Bound(binding) if binding.tied_from.is_some());
        if was_tied && let Some(account) = self.resolutions.note_untied(id) {
            self.note_decided(Some(account));
        }
        let was_uncertain = old.state() == LeaseState::Uncertain;
        if let Some(lease) = self.leases.get(id)
            && was_uncertain != is_uncertain
        {
            self.accounts
                .update(lease.account, &mut self.outbox, |account| {
                    let (from, to) = if is_uncertain {
                        (&mut account.held, &mut account.uncertain)
                    } else {
                        (&mut account.uncertain, &mut account.held)
                    };
                    *from -= 1;
                    *to += 1;
                });
        }
    }

    /// A submission with a key was decided on this account.
    fn note_decided(&mut self, account: Option<AccountKey>) {
        if let Some(account) = account
            && self.resolutions.is_decided(account)
        {
            self.accounts.note_idle(account);
        }
    }

    fn lease_view(&self, id: LeaseId, lease: &Lease) -> LeaseView {
        LeaseView::of(id, lease, &self.accounts[lease.account], &self.limits)
    }
}
