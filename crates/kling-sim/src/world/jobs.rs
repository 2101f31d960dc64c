//! All jobs the simulator remembers, and the slots they hold.
//!
//! Invariant: `executing[email]` is the number of tracked jobs of that account, and every tracked
//! job is known. A job can be known without being tracked (ended, or given up through
//! `DELETE /scheduler/{id}`): it is still readable but holds no slot.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::job::{Job, TaskId};

/// Jobs remembered: a day of heavy use. Past it the oldest one without a slot is forgotten.
pub(crate) const JOBS_MAX: usize = 100_000;

/// The book of jobs.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    known: BTreeMap<TaskId, Job>,
    tracked: BTreeSet<TaskId>,
    /// Tracked jobs by the time at which they end.
    due: BTreeSet<(Duration, TaskId)>,
    executing: HashMap<String, u32>,
}

impl Jobs {
    /// Gives back the slots of all jobs that are over at `now`.
    pub(crate) fn advance_to(&mut self, now: Duration) {
        while let Some(&(ends_at, id)) = self.due.first()
            && ends_at <= now
        {
            self.untrack(id);
        }
    }

    /// Adds a job, which takes a slot.
    pub(crate) fn insert(&mut self, job: Job) {
        *self.executing.entry(job.email.clone()).or_default() += 1;
        self.tracked.insert(job.id);
        self.due
            .extend(job.ends_at().map(|ends_at| (ends_at, job.id)));
        self.known.insert(job.id, job);
        if self.known.len() > JOBS_MAX {
            self.forget_oldest();
        }
    }

    /// Ends a job at `now`; `false` if there is none that still runs.
    pub(crate) fn finish(&mut self, id: TaskId, now: Duration) -> bool {
        let Some(job) = self.known.get(&id).filter(|job| !job.phase(now).is_final()) else {
            return false;
        };
        let duration = now.saturating_sub(job.started);
        self.untrack(id);
        if let Some(job) = self.known.get_mut(&id) {
            job.duration = Some(duration);
        }
        true
    }

    /// Stops tracking a job, which returns its slot; `false` if it was not tracked.
    pub(crate) fn untrack(&mut self, id: TaskId) -> bool {
        let Some(job) = self.known.get(&id).filter(|_| self.tracked.remove(&id)) else {
            return false;
        };
        if let Some(ends_at) = job.ends_at() {
            self.due.remove(&(ends_at, id));
        }
        if let Some(count) = self.executing.get_mut(&job.email) {
            *count -= 1;
        }
        true
    }

    /// Finds a job, running or over.
    pub(crate) fn get(&self, id: TaskId) -> Option<&Job> {
        self.known.get(&id)
    }

    /// The number of slots taken on an account.
    pub(crate) fn executing(&self, email: &str) -> u32 {
        self.executing.get(email).copied().unwrap_or(0)
    }

    /// The jobs that hold a slot, oldest first.
    pub(crate) fn tracked(&self) -> impl Iterator<Item = &Job> {
        self.tracked.iter().filter_map(|id| self.known.get(id))
    }

    fn forget_oldest(&mut self) {
        let oldest = self
            .known
            .keys()
            .find(|id| !self.tracked.contains(id))
            .copied();
        if let Some(id) = oldest {
            self.known.remove(&id);
        }
    }
}
