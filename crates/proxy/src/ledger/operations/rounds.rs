//! What the upstream shows: rounds, jobs that are over, histories of accounts.

use std::{sync::Arc, time::Duration};

use rand::Rng;

use super::{Context, Operation};
use crate::pool::{
    History, JobResult, Name, Pool, RoundChange, RoundProgress, RunningJobs, TaskId, Undecided,
};

/// What a round starts from.
#[derive(Clone, Debug)]
pub struct RoundTicket {
    /// The time of the ledger's clock.
    pub sent_at: Duration,
    /// What the newest round showed, to compare this one with.
    pub running: Option<Arc<RunningJobs>>,
}

/// Takes a ticket for a question to the upstream. It is taken before the question is sent, so that
/// no answer counts as newer than it is.
#[derive(Debug)]
pub struct RoundBase;

impl Operation for RoundBase {
    type Reply = RoundTicket;
    const IS_READ: bool = true;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        RoundTicket {
            sent_at: context.now,
            running: context.pool.running(),
        }
    }
}

/// The most steps of a round that one operation takes: about a tenth of a millisecond.
const ROUND_STEPS_MAX: usize = 128;

/// Begins to learn from one round that was answered. Replies how far, and how long ago it was sent. `None` if the change
/// was made against a round that is no longer the newest: nothing changes then, except that one which has begun is
/// followed to its end.
#[derive(Debug)]
pub struct FollowRound {
    /// What the round changes.
    pub change: RoundChange,
}

impl Operation for FollowRound {
    type Reply = Option<(RoundProgress, Duration)>;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        let sent_at = self.change.sent_at();
        let Context { pool, now, rng, .. } = context;
        let is_begun = pool.begin_round(self.change, now, rng);
        is_begun.then(|| follow_on(pool, sent_at, now, rng))?
    }
}

/// Learns some more from the round that has begun. `None` if it was followed to its end meanwhile.
#[derive(Debug)]
pub struct FollowRoundOn {
    /// When the round was sent.
    pub sent_at: Duration,
}

impl Operation for FollowRoundOn {
    type Reply = Option<(RoundProgress, Duration)>;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        let Context { pool, now, rng, .. } = context;
        follow_on(pool, self.sent_at, now, rng)
    }
}

/// Follows the round that was sent at `sent_at`, if it is the one that has begun. Returns how long ago that was, too.
fn follow_on(
    pool: &mut Pool,
    sent_at: Duration,
    now: Duration,
    rng: &mut impl Rng,
) -> Option<(RoundProgress, Duration)> {
    if pool.followed_sent_at() != Some(sent_at) {
        return None;
    }
    let progress = pool.follow_round(ROUND_STEPS_MAX, now, rng)?;
    Some((progress, now.saturating_sub(sent_at)))
}

/// Learns that a job is over. False if the pool does not count it: then no round need look for it.
#[derive(Debug)]
pub struct JobOver {
    /// Which job.
    pub task_id: TaskId,
    /// How it ended, if that is known.
    pub result: Option<JobResult>,
}

impl Operation for JobOver {
    type Reply = bool;

    fn apply<R: Rng>(self, context: Context<'_, R>) -> Self::Reply {
        if let Some(result) = self.result {
            context.pool.note_result(&self.task_id, result);
        }
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
    const IS_READ: bool = true;

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
    const IS_READ: bool = true;

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
