//! The book of leases, whoever keeps it: the one door to the accounts and their slots.
//!
//! Every ledger grants by the rules of [`crate::pool`]; they differ in what survives a crash and
//! in who shares the book. A grant is a [`Slot`]: a value that goes back when it is dropped; sent
//! upstream it becomes a [`Submission`], which does not.

mod clock;
pub mod memory;

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use accounts_fetcher::Snapshot;
use jiff::Timestamp;
use thiserror::Error;

use crate::pool::{
    AccountView, Blame, Cause, Fate, Findings, LeaseError, LeaseId, LeaseView, Operation, Refusal,
    Round, TaskId, UnknownAccount, Update,
};
use memory::Memory;

pub use clock::Clock;

/// What a pick asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PickRequest {
    /// Only this account.
    pub email: Option<String>,
    /// None of these. Unknown e-mails exclude nothing.
    pub exclude: Vec<String>,
    /// How long the lease lasts unless renewed, bound or released. `None` for a submission that we
    /// carry: its lease lasts until it is answered.
    pub ttl: Option<Duration>,
    /// How long to wait for a slot at most.
    pub wait: Duration,
    /// What the job does, if that is known: for the guess when a slot will be free.
    pub operation: Operation,
    /// The call's own cap: no account with as many slots in use.
    pub max_jobs: Option<NonZeroU32>,
}

/// Why a pick was not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PickError {
    /// The account asked for is not in the list.
    #[error(transparent)]
    UnknownAccount(#[from] UnknownAccount),
    /// There is no slot.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// What a pick would find: every account, and which of them it could take.
#[derive(Clone, Debug)]
pub struct Survey {
    /// Every account, in list order.
    pub accounts: Vec<AccountView>,
    /// The e-mails the pick would draw from.
    pub eligible: Vec<Arc<str>>,
}

/// What the book counts.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Every account, in list order.
    pub accounts: Vec<AccountView>,
    /// How many callers wait for a slot.
    pub waiters_count: usize,
    /// How many leases ended, in the order of [`Cause::ALL`].
    pub ended_counts: [u64; Cause::ALL.len()],
}

/// A slot just granted, not yet in the hands of who asked for it.
///
/// Dropped before it is [kept](Slot::keep), the slot goes back: a caller that is gone cannot know
/// the lease, so nobody will use it.
#[derive(Debug)]
#[must_use = "a dropped slot goes back at once"]
pub struct Slot {
    ledger: Arc<Ledger>,
    lease: LeaseView,
    is_kept: bool,
}

impl Slot {
    /// The lease that holds the slot.
    pub fn lease(&self) -> &LeaseView {
        &self.lease
    }

    /// Leaves the slot with its lease: from now on its holder releases it, or its ttl.
    pub fn keep(mut self) {
        self.is_kept = true;
    }

    /// Takes the slot for a submission that is sent now.
    pub fn submit(mut self) -> Submission {
        self.is_kept = true;
        Submission {
            ledger: Arc::clone(&self.ledger),
            lease: self.lease.clone(),
            is_decided: false,
        }
    }
}

/// The slot of a submission that is about to be sent, until it is known what came of it.
///
/// Dropped undecided, the slot stays held as uncertain: nobody knows whether there is a job.
#[derive(Debug)]
#[must_use = "a dropped submission is an uncertain one"]
pub struct Submission {
    ledger: Arc<Ledger>,
    lease: LeaseView,
    is_decided: bool,
}

impl Submission {
    /// The lease that holds the slot.
    pub fn lease(&self) -> &LeaseView {
        &self.lease
    }

    /// Keeps in mind what becomes of it, also after its slot went back.
    pub async fn remember(&self) -> Memo {
        let (ledger, lease) = (Arc::clone(&self.ledger), self.lease.id);
        ledger.remember(lease).await;
        Memo { ledger, lease }
    }

    /// There is a job: the slot is its.
    pub async fn accepted(mut self, task_id: TaskId) {
        self.is_decided = true;
        let (ledger, lease) = (&self.ledger, &self.lease);
        ledger.accept(lease.id, &lease.email, task_id).await;
    }

    /// The upstream provably did not take it: the slot goes back, and the account is left alone if it
    /// is to blame.
    pub async fn refused(mut self, blame: Blame) {
        self.is_decided = true;
        self.ledger.refuse(self.lease.id, blame).await;
    }

    /// It was never sent: the slot goes back.
    pub async fn unsent(mut self) {
        self.is_decided = true;
        self.ledger.end(self.lease.id, Cause::Released).await;
    }

    /// Nobody knows what came of it. Its last byte was sent at `sent_at`.
    pub fn lost(mut self, sent_at: Duration) {
        self.is_decided = true;
        self.ledger.doubt(self.lease.id, sent_at);
    }
}

impl Drop for Submission {
    fn drop(&mut self) {
        if !self.is_decided {
            self.ledger.doubt(self.lease.id, self.ledger.now());
        }
    }
}

/// Remembers a submission. Dropped, it is forgotten.
#[derive(Debug)]
pub struct Memo {
    ledger: Arc<Ledger>,
    lease: LeaseId,
}

impl Memo {
    /// What became of the submission.
    pub async fn fate(&self) -> Fate {
        self.ledger.fate(self.lease).await
    }
}

impl Drop for Memo {
    fn drop(&mut self) {
        self.ledger.forget(self.lease);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.is_kept {
            self.ledger.give_back(self.lease.id);
        }
    }
}

/// The book of leases. Memory is lost with the process and never awaits anything but a free slot.
#[derive(Debug)]
pub enum Ledger {
    /// In this process.
    Memory(Memory),
}

#[expect(
    clippy::unused_async,
    reason = "a ledger outside this process has to await its answers"
)]
impl Ledger {
    /// Leases a slot of a random account that will do, waiting up to `request.wait` for one.
    ///
    /// Cancel-safe: a dropped call leaves the queue, and gives back what it was granted meanwhile.
    ///
    /// # Errors
    /// [`PickError`]; no slot is taken then. A wait that ends is [`Refusal::Saturated`].
    pub async fn pick(self: &Arc<Self>, request: &PickRequest) -> Result<Slot, PickError> {
        let lease = match &**self {
            Self::Memory(memory) => memory.pick(request).await?,
        };
        Ok(Slot {
            ledger: Arc::clone(self),
            lease,
            is_kept: false,
        })
    }

    /// What `request` would find now. Takes nothing.
    ///
    /// # Errors
    /// [`PickError`] if the account asked for cannot be found.
    pub async fn survey(&self, request: &PickRequest) -> Result<Survey, PickError> {
        match self {
            Self::Memory(memory) => memory.survey(request),
        }
    }

    /// The lease `id`, if it is held.
    pub async fn lease(&self, id: LeaseId) -> Option<LeaseView> {
        match self {
            Self::Memory(memory) => memory.lease(id),
        }
    }

    /// Every held lease, oldest first.
    pub async fn leases(&self) -> Vec<LeaseView> {
        match self {
            Self::Memory(memory) => memory.leases(),
        }
    }

    /// Renews a lease, binds it to its job, or both.
    ///
    /// # Errors
    /// [`LeaseError`]; nothing has changed then.
    pub async fn update(&self, id: LeaseId, update: Update) -> Result<LeaseView, LeaseError> {
        match self {
            Self::Memory(memory) => memory.update(id, update),
        }
    }

    /// Gives a lease back on its holder's word. False if it is not held: nothing changes then.
    pub async fn release(&self, id: LeaseId) -> bool {
        match self {
            Self::Memory(memory) => memory.release(id),
        }
    }

    /// Learns from one round that was answered. Returns what it leaves to do.
    pub async fn reconcile(&self, round: &Round) -> Findings {
        match self {
            Self::Memory(memory) => memory.reconcile(round),
        }
    }

    /// Waits until something is due that only a round can decide. For one caller; cancel-safe.
    pub async fn round_due(&self) {
        match self {
            Self::Memory(memory) => memory.round_due().await,
        }
    }

    /// Learns of a job that a submission without a slot started.
    pub async fn job_started(&self, task_id: TaskId, email: &str) {
        match self {
            Self::Memory(memory) => memory.job_started(task_id, email),
        }
    }

    /// Learns that a job is over. False if nobody waits for that: then no round need look for it.
    pub async fn job_over(&self, task_id: &TaskId) -> bool {
        match self {
            Self::Memory(memory) => memory.job_over(task_id),
        }
    }

    /// Learns that the upstream no longer counts a job: its slot is free.
    pub async fn job_untracked(&self, task_id: &TaskId) {
        match self {
            Self::Memory(memory) => memory.job_untracked(task_id),
        }
    }

    /// The time on the clock that leases count by.
    pub fn now(&self) -> Duration {
        match self {
            Self::Memory(memory) => memory.clock().now(),
        }
    }

    /// Makes `snapshot` the account list.
    pub async fn apply(&self, snapshot: &Snapshot) {
        match self {
            Self::Memory(memory) => memory.apply(snapshot),
        }
    }

    /// Every account, in list order.
    pub async fn accounts(&self) -> Vec<AccountView> {
        match self {
            Self::Memory(memory) => memory.accounts(),
        }
    }

    /// The account `email`.
    ///
    /// # Errors
    /// [`UnknownAccount`] if it is not in the book.
    pub async fn account(&self, email: &str) -> Result<AccountView, UnknownAccount> {
        match self {
            Self::Memory(memory) => memory.account(email),
        }
    }

    /// Switches an account off for new picks, or on again.
    ///
    /// # Errors
    /// [`UnknownAccount`] if it is not in the book.
    pub async fn set_draining(
        &self,
        email: &str,
        is_draining: bool,
    ) -> Result<AccountView, UnknownAccount> {
        match self {
            Self::Memory(memory) => memory.set_draining(email, is_draining),
        }
    }

    /// Why no pick can be granted whatever is released, or `None`.
    pub async fn outage(&self) -> Option<Refusal> {
        match self {
            Self::Memory(memory) => memory.outage(),
        }
    }

    /// Why a pick that takes any account and does not wait would be refused now, or `None`.
    pub async fn obstacle(&self) -> Option<Refusal> {
        match self {
            Self::Memory(memory) => memory.obstacle(),
        }
    }

    /// What the metrics show.
    pub async fn figures(&self) -> Figures {
        match self {
            Self::Memory(memory) => memory.figures(),
        }
    }

    /// Ends leases in time. Runs until dropped; cancel-safe.
    pub async fn keep_time(&self) {
        match self {
            Self::Memory(memory) => memory.keep_time().await,
        }
    }

    /// The calendar time of a moment in a lease's life.
    pub fn timestamp(&self, time: Duration) -> Timestamp {
        match self {
            Self::Memory(memory) => memory.clock().timestamp(time),
        }
    }

    async fn accept(&self, id: LeaseId, email: &str, task_id: TaskId) {
        match self {
            Self::Memory(memory) => memory.accept(id, email, task_id),
        }
    }

    async fn refuse(&self, id: LeaseId, blame: Blame) {
        match self {
            Self::Memory(memory) => memory.refuse(id, blame),
        }
    }

    async fn remember(&self, id: LeaseId) {
        match self {
            Self::Memory(memory) => memory.remember(id),
        }
    }

    async fn fate(&self, id: LeaseId) -> Fate {
        match self {
            Self::Memory(memory) => memory.fate(id),
        }
    }

    fn forget(&self, id: LeaseId) {
        match self {
            Self::Memory(memory) => memory.forget(id),
        }
    }

    async fn end(&self, id: LeaseId, cause: Cause) {
        match self {
            Self::Memory(memory) => memory.end(id, cause),
        };
    }

    fn doubt(&self, id: LeaseId, sent_at: Duration) {
        match self {
            Self::Memory(memory) => memory.doubt(id, sent_at),
        }
    }

    fn give_back(&self, id: LeaseId) {
        match self {
            Self::Memory(memory) => memory.end(id, Cause::Undelivered),
        };
    }
}

#[cfg(test)]
pub(crate) mod tests {
    //! What tests of other rooms need of a ledger.

    use accounts_fetcher::Account;

    use super::*;
    use crate::pool::Limits;

    /// A ledger over one account `a@x` of so many slots.
    pub(crate) fn ledger_of(max_jobs: u32) -> Arc<Ledger> {
        let hour = Duration::from_secs(3600);
        let memory = Memory::new(Limits {
            waiters_max: 0,
            job_ttl: hour,
            reconciles: false,
            settle: hour,
            ties_picks: false,
        });
        let accounts = vec![Account::new("a@x", max_jobs)];
        memory.apply(&Snapshot { accounts });
        Arc::new(Ledger::Memory(memory))
    }

    /// Any account will do, for a minute, now or never.
    pub(crate) fn any_account() -> PickRequest {
        PickRequest {
            email: None,
            exclude: Vec::new(),
            ttl: Some(Duration::from_secs(60)),
            wait: Duration::ZERO,
            operation: None,
            max_jobs: None,
        }
    }
}
