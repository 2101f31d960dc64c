//! Submissions over a restart.

use std::{sync::Arc, time::Duration};

use super::{
    super::{
        history::ShownOperation,
        known_tasks::{KnownTasks, Taken},
        {AccountKey, Kind, LeaseId, OperationName, TaskId},
    },
    LostSubmission, REMEMBERED_FOR, Resolution, Resolutions, TrackedSubmission,
};

/// The job of a submission, as far as it is remembered.
#[derive(Debug)]
pub(in crate::pool) struct RememberedJob {
    pub(in crate::pool) task_id: TaskId,
    pub(in crate::pool) email: Arc<str>,
    pub(in crate::pool) taken: Taken,
    /// When it was known at the latest.
    pub(in crate::pool) known_at: Duration,
}

impl Resolutions {
    pub(in crate::pool) fn get(&self, id: LeaseId) -> Option<&TrackedSubmission> {
        self.submissions.get(&id)
    }

    /// The tasks that were seen last on an account, and since when they are known.
    pub(in crate::pool) fn newest_tasks(
        &self,
        account: AccountKey,
    ) -> impl Iterator<Item = (&TaskId, Duration)> {
        self.known
            .get(account)
            .into_iter()
            .flat_map(KnownTasks::newest)
    }

    /// How histories show the jobs of an operation.
    pub(in crate::pool) fn shown(&self, operation: &OperationName) -> Option<&ShownOperation> {
        self.shown.get(operation)
    }

    pub(in crate::pool) fn restore_shown(
        &mut self,
        operation: OperationName,
        shown: ShownOperation,
    ) {
        self.shown.restore(operation, shown);
    }

    /// A waiter was granted its lease: what it claimed is kept from now on.
    pub(in crate::pool) fn note_granted(&mut self, id: LeaseId) {
        if self.submissions.contains_key(&id) {
            self.changes.note(|| id);
        }
    }

    /// Adds a submission as it was saved.
    pub(in crate::pool) fn restore(&mut self, id: LeaseId, mut submission: TrackedSubmission) {
        let may_be_found = matches!(
            submission.resolution,
            Resolution::Lost(_) | Resolution::Given(..)
        );
        submission.mark = submission.mark.filter(|_| may_be_found);
        if let Some(mark) = submission.mark {
            self.marked.insert(mark, id);
        }
        if let Some(claim) = &submission.claim {
            self.by_key.insert(claim.key.clone(), id);
        }
        self.expiry.change(&id, None, submission.expires_at);
        if let Resolution::Lost(lost) = &submission.resolution {
            if submission.claim.is_none() {
                self.unkeyed.insert((lost.lost_at, id));
            }
            self.index_lost(id, lost.on);
        }
        self.submissions.insert(id, submission);
    }

    /// The job that an answer, a round or a history named to a submission.
    pub(in crate::pool) fn job_of(&self, id: LeaseId) -> Option<TaskId> {
        match &self.submissions.get(&id)?.resolution {
            Resolution::Job(task_id) | Resolution::Given(task_id, _) => Some(task_id.clone()),
            Resolution::Open | Resolution::Lost(_) => None,
        }
    }

    /// Whether histories have to decide.
    pub(in crate::pool) fn has_undecided(&self) -> bool {
        !self.undecided.is_empty()
    }

    /// All leases are there again, as `is_held` tells. Returns the submissions that are not what was saved.
    pub(in crate::pool) fn end_restore(
        &mut self,
        is_held: impl Fn(LeaseId) -> bool,
        now: Duration,
    ) -> Vec<LeaseId> {
        let mut altered: Vec<_> = self.submissions.keys().copied().collect();
        altered.sort_unstable();
        altered.retain(|id| {
            if is_held(*id) {
                self.restore_held(*id)
            } else {
                self.restore_ended(*id, now)
            }
        });
        altered
    }

    /// Its lease was written before it ended. True if it is not what was saved.
    fn restore_held(&mut self, id: LeaseId) -> bool {
        let Some(submission) = self.submissions.get_mut(&id) else {
            return false;
        };
        let Some(at) = submission.expires_at.take() else {
            return false;
        };
        self.expiry.change(&id, Some(at), None);
        if let Resolution::Lost(lost) = &mut submission.resolution {
            lost.ended_at = None;
        }
        true
    }

    /// True if it is not what was saved.
    fn restore_ended(&mut self, id: LeaseId, now: Duration) -> bool {
        let Some(submission) = self.submissions.get_mut(&id) else {
            return false;
        };
        if submission.kind == Kind::Pick {
            self.free(id);
            return true;
        }
        let was_whole = submission.expires_at.is_some();
        let is_keyed = submission.claim.is_some();
        match &mut submission.resolution {
            // It had no slot, and was cut off. No history can decide.
            Resolution::Open => {
                let (body, email) = (None, submission.email.clone());
                self.lose(id, body, email, None, None, now);
            }
            Resolution::Lost(lost) => {
                lost.ended_at.get_or_insert(now);
                if let (true, Some((account, _))) = (is_keyed, lost.on) {
                    self.undecided.insert(account);
                }
            }
            Resolution::Job(_) | Resolution::Given(..) => {}
        }
        let is_remembered = self.submissions.get(&id);
        if is_remembered.is_some_and(|submission| submission.expires_at.is_none()) {
            self.let_expire(id, now);
        }
        !was_whole
    }

    /// The jobs of submissions that have no lease any more.
    pub(in crate::pool) fn jobs(&self) -> impl Iterator<Item = RememberedJob> {
        self.submissions.iter().filter_map(|(id, submission)| {
            let (task_id, taken) = match &submission.resolution {
                Resolution::Job(task_id) => (task_id, Taken::Named),
                Resolution::Given(task_id, LostSubmission { body, .. }) => {
                    let body = body.clone();
                    (task_id, Taken::Given { to: *id, body })
                }
                Resolution::Open | Resolution::Lost(_) => return None,
            };
            Some(RememberedJob {
                task_id: task_id.clone(),
                email: Arc::clone(submission.email.as_ref()?),
                taken,
                known_at: submission.expires_at?.saturating_sub(REMEMBERED_FOR),
            })
        })
    }
}
