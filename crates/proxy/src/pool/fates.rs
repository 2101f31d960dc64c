//! What became of submissions that somebody will ask about, also after their leases ended.
//!
//! Rounds count jobs, they do not tell whose a job is. Where several submissions were lost on one
//! account, a job that is found is given to the oldest of them; that none is found for another one
//! then proves nothing about it.

use std::{collections::HashMap, time::Duration};

use foldhash::fast::RandomState;

use super::{
    AccountKey, Cause, LeaseId, LeaseState, Pool, TaskId,
    lease::{Lease, Phase},
};

/// What is known of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nobody knows: it is on its way, may yet be found, or cannot be told from another one.
    Open,
    /// It became this job.
    Job(TaskId),
    /// It was lost before it became a job.
    NoJob,
}

/// The submissions that are remembered. As many as there are who ask.
#[derive(Debug, Default)]
pub(super) struct Fates(HashMap<LeaseId, Remembered, RandomState>);

#[derive(Debug)]
struct Remembered {
    fate: Fate,
    /// A job that could be its own was given to another lease.
    is_mixed_up: bool,
}

impl Fates {
    /// A lease ends.
    pub(super) fn decide(&mut self, id: LeaseId, lease: &Lease, cause: Cause) {
        let Some(remembered) = self.0.get_mut(&id) else {
            return;
        };
        match &lease.phase {
            Phase::Bound(bond) => remembered.fate = Fate::Job(bond.task_id.clone()),
            Phase::Uncertain { .. } => {
                let is_proved = cause == Cause::Absent && !remembered.is_mixed_up;
                // Whoever gives it back by hand knows better.
                if is_proved || cause == Cause::Released {
                    remembered.fate = Fate::NoJob;
                }
            }
            // Whoever waits for the answer knows more.
            Phase::Reserved { .. } => {}
        }
    }
}

impl Pool {
    /// Keeps in mind what becomes of a lease's submission, until it is
    /// [forgotten](Self::forget_fate).
    pub fn remember_fate(&mut self, id: LeaseId) {
        let remembered = Remembered {
            fate: Fate::Open,
            is_mixed_up: false,
        };
        self.fates.0.insert(id, remembered);
    }

    /// What became of a submission that is remembered.
    pub fn fate(&self, id: LeaseId) -> Fate {
        let bond = self.leases.get(&id).and_then(Lease::bond);
        let remembered = self.fates.0.get(&id);
        match (bond, remembered) {
            (Some(bond), _) => Fate::Job(bond.task_id.clone()),
            (None, Some(remembered)) => remembered.fate.clone(),
            (None, None) => Fate::Open,
        }
    }

    /// Nobody will ask about it any more.
    pub fn forget_fate(&mut self, id: LeaseId) {
        self.fates.0.remove(&id);
    }

    /// A job of `account` that was first listed at `first_at` is given to a lease by its place in the
    /// queue: it could be any other's that was lost before.
    pub(super) fn mix_up(&mut self, account: AccountKey, first_at: Duration) {
        for (id, remembered) in &mut self.fates.0 {
            let lease = self.leases.get(id);
            remembered.is_mixed_up |= lease.is_some_and(|lease| {
                lease.account == account
                    && lease.state() == LeaseState::Uncertain
                    && lease.created_at < first_at
            });
        }
    }
}
