//! The tasks that were seen on an account, and since when.
//!
//! A task does not belong to a submission if it was known before the submission was sent, or if it
//! was named to another lease.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use foldhash::fast::RandomState;

use super::{Body, Digest, LeaseId, OperationName, TaskId, history::TASKS_MAX};

/// The most tasks that are kept for an account without lost submissions: as many as may start and
/// be named while one submission is under way.
const KNOWN_MAX: usize = 128;
/// The most tasks of an account that are kept over a restart: as many as may become known while one submission is under
/// way, so that one of them is older.
const KEPT_MAX: usize = 16;

/// The newest tasks of an account.
#[derive(Debug, Default)]
pub(super) struct KnownTasks {
    tasks: HashMap<TaskId, KnownTask, RandomState>,
    /// In the order in which they became known.
    order: VecDeque<TaskId>,
}

#[derive(Debug)]
pub(super) struct KnownTask {
    /// When we first knew of it.
    pub(super) since: Duration,
    /// Which submission it belongs to, if that is known.
    pub(super) taken: Option<Taken>,
    /// What was submitted, if its reply passed through here.
    pub(super) accepted: Option<Box<AcceptedJob>>,
}

/// Which submission a task belongs to.
#[derive(Debug)]
pub(super) enum Taken {
    /// A reply or a client named it to a lease.
    Named,
    /// A round or a history gave it to a lost submission with this body.
    Given { to: LeaseId, body: Option<Body> },
}

/// A submission that was accepted.
#[derive(Debug)]
pub(super) struct AcceptedJob {
    pub(super) operation: OperationName,
    /// What the reply called it.
    pub(super) task_type: Option<Arc<str>>,
    pub(super) prompt: Option<Digest>,
}

impl KnownTasks {
    pub(super) fn get(&self, task_id: &TaskId) -> Option<&KnownTask> {
        self.tasks.get(task_id)
    }

    pub(super) fn get_mut(&mut self, task_id: &TaskId) -> Option<&mut KnownTask> {
        self.tasks.get_mut(task_id)
    }

    /// The tasks that became known last, oldest first.
    pub(super) fn newest(&self) -> impl Iterator<Item = (&TaskId, Duration)> {
        let first = self.order.len().saturating_sub(KEPT_MAX);
        let newest = self.order.range(first..);
        newest.filter_map(|task_id| Some((task_id, self.get(task_id)?.since)))
    }

    /// Whether it is known which submission a task belongs to.
    pub(super) fn is_taken(&self, task_id: &TaskId) -> bool {
        self.get(task_id).is_some_and(|task| task.taken.is_some())
    }

    /// Whether a task was known before `time`.
    pub(super) fn is_older(&self, task_id: &TaskId, time: Duration) -> bool {
        self.get(task_id).is_some_and(|task| task.since < time)
    }

    /// A task was seen. If the account has lost submissions, as many tasks are kept as are read of
    /// a history.
    pub(super) fn note(
        &mut self,
        task_id: &TaskId,
        now: Duration,
        has_lost: bool,
    ) -> &mut KnownTask {
        if !self.tasks.contains_key(task_id) {
            let known_max = if has_lost { TASKS_MAX } else { KNOWN_MAX };
            while self.order.len() >= known_max
                && let Some(oldest) = self.order.pop_front()
            {
                self.tasks.remove(&oldest);
            }
            self.order.push_back(task_id.clone());
        }
        let unknown = || KnownTask {
            since: now,
            taken: None,
            accepted: None,
        };
        self.tasks.entry(task_id.clone()).or_insert_with(unknown)
    }
}
