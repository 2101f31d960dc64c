//! What is read of the pool at a glance: who waits, what is held, how long jobs take. Its cost does not depend on how
//! many leases, waiters or accounts there are.

use std::{sync::Arc, time::Duration};

use super::{Caller, Kind, LeaseState, OperationName, Pool};

/// The most waiters that are shown: more than a person reads.
pub const WAITERS_SHOWN_MAX: usize = 50;

/// What is read at a glance. Times are durations since the pool's start.
#[derive(Clone, Debug)]
pub struct Glance {
    /// How many callers wait.
    pub waiters_count: usize,
    /// The first of them, at most [`WAITERS_SHOWN_MAX`].
    pub waiters: Vec<WaiterView>,
    /// How many leases are held.
    pub leases: LeaseCounts,
    /// How long jobs of an operation take, by operation, as far as that was learnt.
    pub usual: Vec<(OperationName, Duration)>,
}

/// A caller that waits for a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaiterView {
    /// Who calls.
    pub caller: Caller,
    /// What its job does, if it said.
    pub operation: Option<OperationName>,
    /// The only account that it accepts, if it named one.
    pub email: Option<Arc<str>>,
    /// Since when it waits.
    pub since: Duration,
    /// Until when it waits at most.
    pub deadline: Duration,
}

/// How many leases are held, by what is known of their jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseCounts {
    /// Picks without a job.
    pub picks: usize,
    /// Submissions that we carry and that are not answered yet.
    pub submissions: usize,
    /// Submissions of which it is not known whether they became jobs.
    pub uncertain: usize,
    /// Jobs.
    pub jobs: usize,
}

impl LeaseCounts {
    /// The count of leases of this kind and state.
    pub(super) fn of(&mut self, kind: Kind, state: LeaseState) -> &mut usize {
        match (state, kind) {
            (LeaseState::Reserved, Kind::Pick) => &mut self.picks,
            (LeaseState::Reserved, Kind::Forward) => &mut self.submissions,
            (LeaseState::Uncertain, _) => &mut self.uncertain,
            (LeaseState::Bound, _) => &mut self.jobs,
        }
    }
}

impl Pool {
    /// Reads the pool at a glance.
    pub fn glance(&self) -> Glance {
        Glance {
            waiters_count: self.waiters.len(),
            waiters: self.first_waiters(WAITERS_SHOWN_MAX),
            leases: self.leases.counts(),
            usual: self.forecast.usual(),
        }
    }

    /// The first waiters in order, at most so many.
    fn first_waiters(&self, count: usize) -> Vec<WaiterView> {
        let waiters = self.waiters.in_order().take(count);
        let waiters = waiters.map(|(id, waiter, only)| WaiterView {
            caller: waiter.terms.caller.clone(),
            operation: waiter.terms.operation.clone(),
            email: only.map(|key| Arc::clone(&self.accounts[key].listed.email)),
            since: id.since(),
            deadline: waiter.deadline,
        });
        waiters.collect()
    }
}
