//! All jobs the simulator remembers, and the slots they hold.
//!
//! Invariant: `executing[email]` is the number of tracked jobs of that account, and every tracked
//! job is known. A job can be known without being tracked (ended, past its tracking, or given up
//! through `DELETE /scheduler/{id}`): it is still readable but holds no slot. A job can be over
//! and still be tracked, until the upstream notices.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use super::job::Job;
use crate::task_id::TaskId;

/// The most jobs remembered: a day of heavy use. Past this limit the oldest job without a slot is
/// forgotten.
pub(crate) const JOBS_MAX: usize = 100_000;

/// All remembered jobs.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    known: BTreeMap<TaskId, Job>,
    tracked: BTreeSet<TaskId>,
    /// Tracked jobs by the time at which their slots return.
    due: BTreeSet<(Duration, TaskId)>,
    executing: HashMap<String, u32>,
}

impl Jobs {
    /// Frees the slots that return by `now`.
    pub(crate) fn advance_to(&mut self, now: Duration) {
        while let Some(&(leaves_at, id)) = self.due.first()
            && leaves_at <= now
        {
            self.untrack(id);
        }
    }

    /// Adds a job, which takes a slot.
    pub(crate) fn insert(&mut self, job: Job) {
        *self.executing.entry(job.email.clone()).or_default() += 1;
        self.tracked.insert(job.id);
        self.due.insert((job.leaves_at(), job.id));
        self.known.insert(job.id, job);
        if self.known.len() > JOBS_MAX {
            self.forget_oldest();
        }
    }

    /// Ends a job at `now`; `false` if no such job is running. Its slot returns as late as that of
    /// any other job.
    pub(crate) fn finish(&mut self, id: TaskId, now: Duration) -> bool {
        let Some(job) = self.known.get_mut(&id) else {
            return false;
        };
        if job.phase(now).is_final() {
            return false;
        }
        let was_due = self.due.remove(&(job.leaves_at(), id));
        job.duration = Some(now.saturating_sub(job.started));
        if was_due {
            self.due.insert((job.leaves_at(), id));
            self.advance_to(now);
        }
        true
    }

    /// The jobs that still run at `now`.
    pub(crate) fn running(&self, now: Duration) -> impl Iterator<Item = TaskId> {
        let running = self.known.values();
        let running = running.filter(move |job| !job.phase(now).is_final());
        running.map(|job| job.id)
    }

    /// Stops tracking a job, which returns its slot; `false` if it was not tracked.
    pub(crate) fn untrack(&mut self, id: TaskId) -> bool {
        let Some(job) = self.known.get(&id).filter(|_| self.tracked.remove(&id)) else {
            return false;
        };
        self.due.remove(&(job.leaves_at(), id));
        if let Some(count) = self.executing.get_mut(&job.email) {
            *count -= 1;
        }
        true
    }

    /// Makes a job unreadable. A slot that it still holds returns at its usual time.
    pub(crate) fn delete(&mut self, id: TaskId) {
        if let Some(job) = self.known.get_mut(&id) {
            job.is_deleted = true;
        }
    }

    /// Finds a readable job, running or over.
    pub(crate) fn get(&self, id: TaskId) -> Option<&Job> {
        self.known.get(&id).filter(|job| !job.is_deleted)
    }

    /// The readable job with the highest number up to `id`.
    pub(crate) fn last_until(&self, id: TaskId) -> Option<&Job> {
        let (_, job) = self.known.range(..=id).next_back()?;
        (!job.is_deleted).then_some(job)
    }

    /// All readable jobs of an account, newest first.
    pub(crate) fn of(&self, email: &str) -> impl Iterator<Item = &Job> {
        let known = self.known.values().rev();
        known.filter(move |job| job.email == email && !job.is_deleted)
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
