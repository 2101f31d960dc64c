//! The operations on the ledger, as values: applied in this process, or elsewhere one day.
//!
//! They name accounts by e-mail and give times as ages or tickets, since keys and clocks are
//! internal to the ledger. An operation that is asked twice takes effect once. As much as possible
//! is done before the ledger is locked: names are folded, lists compared, answers read.

use std::{sync::Arc, time::Duration};

use rand::Rng;

use super::{Clock, Dated, PickError, PickRequest};
use crate::pool::{
    AccountView, Body, Cause, Claim, Findings, History, Key, Kind, Known, LeaseError, LeaseId,
    LeaseView, List, ListChange, Name, Pool, Refusal, RoundChange, RunningJobs, Settlement, TaskId,
    Undecided, UnknownAccount, Update, WaiterId,
};

/// One operation on the ledger.
pub trait Operation {
    /// The answer.
    type Reply;

    /// Decides, and changes the pool.
    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply;
}

/// What an operation is applied to.
#[derive(Debug)]
pub struct Context<'a, R> {
    /// The pool.
    pub pool: &'a mut Pool,
    /// The time of the ledger's clock.
    pub now: Duration,
    /// Converts times of the ledger to calendar times.
    pub clock: &'a Clock,
    /// The generator that draws accounts.
    pub rng: &'a mut R,
}

impl<R> Context<'_, R> {
    fn dated<T>(&self, view: T) -> Dated<T> {
        let calendar = self.clock.calendar();
        Dated { view, calendar }
    }
}

/// The counts of the pool.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Every account, in list order.
    pub accounts: Vec<AccountView>,
    /// How many callers wait for a slot.
    pub waiters_count: usize,
    /// How many leases ended, in the order of [`Cause::ALL`].
    pub ended_counts: [u64; Cause::ALL.len()],
}

/// What a round starts from.
#[derive(Clone, Debug)]
pub struct RoundTicket {
    /// The time of the ledger's clock.
    pub sent_at: Duration,
    /// What the newest round showed, to compare this one with.
    pub running: Option<Arc<RunningJobs>>,
}

/// Tells what became of a slot, or of a submission that had none.
#[derive(Clone, Debug)]
pub struct Settle {
    /// Which lease. A submission without a slot has an id too.
    pub lease: LeaseId,
    /// The account that was asked.
    pub email: Option<Name>,
    /// What was submitted.
    pub body: Option<Body>,
    /// What became of it.
    pub settlement: Settlement,
}

impl Operation for Settle {
    type Reply = ();

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        context.pool.settle(
            self.lease,
            self.email.as_ref(),
            self.body,
            self.settlement,
            context.now,
        );
    }
}

/// Claims an idempotency key for a submission that has no slot because its account is not in the
/// list.
#[derive(Debug)]
pub struct ClaimKey {
    /// The key.
    pub claim: Claim,
    /// The id by which the submission will be settled.
    pub lease: LeaseId,
}

impl Operation for ClaimKey {
    type Reply = Result<(), Known>;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        context.pool.claim(&self.claim, self.lease, Kind::Forward)
    }
}

/// Gives a submission that was just lost a key, by which it can be asked what became of it. False if there can be
/// none.
#[derive(Debug)]
pub struct NameLost {
    /// Its lease.
    pub lease: LeaseId,
    /// The key.
    pub claim: Claim,
}

impl Operation for NameLost {
    type Reply = bool;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        context.pool.name_lost(self.lease, self.claim)
    }
}

/// What a key stands for already. Claims nothing.
#[derive(Debug)]
pub struct Recall {
    /// The key.
    pub claim: Claim,
}

impl Operation for Recall {
    type Reply = Option<Known>;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        context.pool.recall(&self.claim)
    }
}

/// Whether a call with this key would get nothing new.
#[derive(Debug)]
pub struct KnowsKey {
    /// The key.
    pub key: Key,
}

impl Operation for KnowsKey {
    type Reply = bool;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        context.pool.knows(&self.key)
    }
}

/// A place in the queue, for a caller that may come back to it.
#[derive(Debug)]
pub struct TakePlace;

impl Operation for TakePlace {
    type Reply = WaiterId;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        context.pool.take_place()
    }
}

/// One lease, if it is held.
#[derive(Debug)]
pub struct LeaseNow {
    /// Which lease.
    pub id: LeaseId,
}

impl Operation for LeaseNow {
    type Reply = Option<Dated<LeaseView>>;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        let view = context.pool.lease(self.id)?;
        Some(context.dated(view))
    }
}

/// Every held lease, in no particular order.
#[derive(Debug)]
pub struct LeasesNow;

impl Operation for LeasesNow {
    type Reply = Dated<Vec<LeaseView>>;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        let view = context.pool.leases();
        context.dated(view)
    }
}

/// Renews a lease, binds it to its job, or both.
#[derive(Debug)]
pub struct UpdateLease {
    /// Which lease.
    pub id: LeaseId,
    /// What changes.
    pub update: Update,
}

impl Operation for UpdateLease {
    type Reply = Result<Dated<LeaseView>, LeaseError>;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        let view = context.pool.update(self.id, self.update, context.now)?;
        Ok(context.dated(view))
    }
}

/// Gives a lease back on its holder's word. False if it is not held: nothing changes then.
#[derive(Debug)]
pub struct Release {
    /// Which lease.
    pub id: LeaseId,
}

impl Operation for Release {
    type Reply = bool;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        context.pool.release(self.id, context.now)
    }
}

/// Every account, in list order.
#[derive(Debug)]
pub struct AccountsNow;

impl Operation for AccountsNow {
    type Reply = Dated<Vec<AccountView>>;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        let view = context.pool.accounts().collect();
        context.dated(view)
    }
}

/// One account.
#[derive(Debug)]
pub struct AccountNow {
    /// Which account.
    pub email: Name,
}

impl Operation for AccountNow {
    type Reply = Result<Dated<AccountView>, UnknownAccount>;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        let view = context.pool.account_named(&self.email)?;
        Ok(context.dated(view))
    }
}

/// The account for a call that takes no slot: the first preferred one that is healthy, or else the first
/// healthy account of the list.
#[derive(Debug)]
pub struct HealthyAccount {
    /// The accounts to prefer, in this order.
    pub preferred: Vec<Name>,
}

impl Operation for HealthyAccount {
    type Reply = Option<Arc<str>>;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        let email = context.pool.healthy_account(&self.preferred);
        email.cloned()
    }
}

/// Switches an account off for new picks, or on again.
#[derive(Debug)]
pub struct SetDraining {
    /// Which account.
    pub email: Name,
    /// Whether it is switched off.
    pub is_draining: bool,
}

impl Operation for SetDraining {
    type Reply = Result<Dated<AccountView>, UnknownAccount>;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        let view = context
            .pool
            .set_draining_named(&self.email, self.is_draining, context.now)?;
        Ok(context.dated(view))
    }
}

/// What a pick would find now: every account in list order, and whether the pick could take it. Takes nothing.
#[derive(Debug)]
pub struct DryRun {
    /// The pick.
    pub request: PickRequest,
}

impl Operation for DryRun {
    type Reply = Result<Vec<(AccountView, bool)>, PickError>;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        let constraint = self.request.constraint(context.pool)?;
        Ok(context.pool.eligibility(&constraint).collect())
    }
}

/// Why no pick could be granted even if every slot were free, or `None`.
#[derive(Debug)]
pub struct UnavailableReason;

impl Operation for UnavailableReason {
    type Reply = Option<Refusal>;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        context.pool.unavailable_reason()
    }
}

/// Why a pick that takes any account and does not wait would be refused now, or `None`.
#[derive(Debug)]
pub struct RefusalNow;

impl Operation for RefusalNow {
    type Reply = Option<Refusal>;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        context.pool.refusal_now(context.now)
    }
}

/// What the metrics show.
#[derive(Debug)]
pub struct Statistics;

impl Operation for Statistics {
    type Reply = Stats;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        Stats {
            accounts: context.pool.accounts().collect(),
            waiters_count: context.pool.waiters_count(),
            ended_counts: context.pool.ended_counts(),
        }
    }
}

/// Whether slots are in use, or callers wait.
#[derive(Debug)]
pub struct IsBusy;

impl Operation for IsBusy {
    type Reply = bool;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        context.pool.is_busy()
    }
}

/// The account list in force, to compare a new one with.
#[derive(Debug)]
pub struct NewestList;

impl Operation for NewestList {
    type Reply = Option<Arc<List>>;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        context.pool.list()
    }
}

/// Takes over a new account list. False if the change was made against a list that is no longer in
/// force: nothing changes then.
#[derive(Debug)]
pub struct FollowList {
    /// What the new list changes.
    pub change: ListChange,
}

impl Operation for FollowList {
    type Reply = bool;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        context.pool.follow(self.change, context.now, context.rng)
    }
}

/// Takes a ticket for a question to the upstream. It is taken before the question is sent, so that
/// no answer counts as newer than it is.
#[derive(Debug)]
pub struct RoundBase;

impl Operation for RoundBase {
    type Reply = RoundTicket;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        RoundTicket {
            sent_at: context.now,
            running: context.pool.running(),
        }
    }
}

/// Learns from one round that was answered. `None` if the change was made against a round that is
/// no longer the newest: nothing changes then.
#[derive(Debug)]
pub struct FollowRound {
    /// What the round changes.
    pub change: RoundChange,
}

impl Operation for FollowRound {
    type Reply = Option<(Findings, Duration)>;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        let lag = context.now.saturating_sub(self.change.sent_at());
        let findings = context
            .pool
            .follow_round(self.change, context.now, context.rng)?;
        Some((findings, lag))
    }
}

/// Learns that a job is over. False if the pool does not count it: then no round need look for it.
#[derive(Debug)]
pub struct JobOver {
    /// Which job.
    pub task_id: TaskId,
}

impl Operation for JobOver {
    type Reply = bool;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        context.pool.job_over(&self.task_id, context.now)
    }
}

/// Learns that the upstream no longer counts a job: its slot is free.
#[derive(Debug)]
pub struct JobUntracked {
    /// Which job.
    pub task_id: TaskId,
}

impl Operation for JobUntracked {
    type Reply = ();

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        context.pool.job_untracked(&self.task_id, context.now);
    }
}

/// The accounts whose histories have to be read, with a ticket for the questions.
#[derive(Debug)]
pub struct UndecidedAccounts;

impl Operation for UndecidedAccounts {
    type Reply = (Duration, Vec<Undecided>);

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        (context.now, context.pool.undecided())
    }
}

/// Whether one of these tasks of an account's history shows that no older task can belong to an
/// undecided submission.
#[derive(Debug)]
pub struct ReachesBack {
    /// Which account.
    pub email: Name,
    /// The tasks.
    pub task_ids: Vec<TaskId>,
}

impl Operation for ReachesBack {
    type Reply = bool;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        context.pool.reaches_back(&self.email, &self.task_ids)
    }
}

/// Decides what became of lost submissions by the history of their account. Returns how many keys are
/// decided.
#[derive(Debug)]
pub struct Decide {
    /// Which account.
    pub email: Name,
    /// Its history.
    pub history: History,
    /// The ticket that was taken before the history was asked for.
    pub asked_at: Duration,
}

impl Operation for Decide {
    type Reply = usize;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        context
            .pool
            .decide_by_history(&self.email, &self.history, self.asked_at, context.now)
    }
}
