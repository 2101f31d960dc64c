//! What became of submissions that somebody will ask about, also after their leases ended.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::{LeaseId, Pool, TaskId, lease::Phase};

/// What is known of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nobody knows yet, or it is on its way.
    Open,
    /// It became this job.
    Job(TaskId),
    /// It was lost before it became a job.
    NoJob,
}

/// The fates of submissions that are remembered. As many as there are who ask.
#[derive(Debug, Default)]
pub(super) struct Fates(HashMap<LeaseId, Fate, RandomState>);

impl Fates {
    /// A lease ends in `phase`.
    pub(super) fn decide(&mut self, id: LeaseId, phase: &Phase) {
        let Some(fate) = self.0.get_mut(&id) else {
            return;
        };
        match phase {
            Phase::Bound(bond) => *fate = Fate::Job(bond.task_id.clone()),
            Phase::Uncertain { .. } => *fate = Fate::NoJob,
            // Whoever waits for the answer knows more.
            Phase::Reserved { .. } => {}
        }
    }
}

impl Pool {
    /// Keeps in mind what becomes of a lease's submission, until it is [forgotten](Self::forget_fate).
    pub fn remember_fate(&mut self, id: LeaseId) {
        self.fates.0.insert(id, Fate::Open);
    }

    /// What became of a submission that is remembered.
    pub fn fate(&self, id: LeaseId) -> Fate {
        let bond = self.leases.get(&id).and_then(|lease| lease.bond());
        match bond {
            Some(bond) => Fate::Job(bond.task_id.clone()),
            None => self.fates.0.get(&id).cloned().unwrap_or(Fate::Open),
        }
    }

    /// Nobody will ask about it any more.
    pub fn forget_fate(&mut self, id: LeaseId) {
        self.fates.0.remove(&id);
    }
}
