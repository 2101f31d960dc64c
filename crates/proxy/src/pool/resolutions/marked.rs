//! Submissions whose jobs are found by their marks.

use super::{
    super::{AccountKey, LeaseId, Mark, OperationName, TaskId, known_tasks::Taken},
    Kind, LostSubmission, Resolution, Resolutions, TrackedSubmission,
};

impl Resolutions {
    /// The submission with this mark that was lost on an account, if it is not known by an answer what became of it.
    pub(in crate::pool) fn of_mark(&self, mark: Mark, account: AccountKey) -> Option<LeaseId> {
        let id = *self.marked.get(&mark)?;
        let on = self.lost(id)?.on;
        on.is_some_and(|(lost_on, _)| lost_on == account)
            .then_some(id)
    }

    /// What a lost submission starts.
    pub(in crate::pool) fn operation_of(&self, id: LeaseId) -> Option<OperationName> {
        Some(self.lost(id)?.body.as_ref()?.operation.clone())
    }

    /// A round lists the job of a lost submission that has no lease any more, with its mark. It decides, whatever a
    /// round or a history gave to it before.
    pub(in crate::pool) fn decide_by_mark(
        &mut self,
        id: LeaseId,
        account: AccountKey,
        task_id: &TaskId,
    ) {
        let Some(submission) = self.submissions.get(&id) else {
            return;
        };
        let email = submission.email.clone();
        if let Resolution::Given(other, _) = &submission.resolution
            && other != task_id
            && let Some(known) = self.known.get_mut(account)
            && let Some(task) = known.get_mut(other)
            && matches!(&task.taken, Some(Taken::Given { to, .. }) if *to == id)
        {
            task.taken = None;
        }
        self.accept(id, task_id, email);
    }

    /// The job of a lease is known by its mark. If the call that submits it is still `under_way`, it is remembered
    /// until that has reported its outcome: the lease may end before.
    pub(in crate::pool) fn note_found(&mut self, id: LeaseId, is_under_way: bool) {
        if is_under_way {
            self.submissions
                .entry(id)
                .or_insert_with(|| TrackedSubmission::open(None, Kind::Forward));
        }
        self.set_found(id, true);
    }

    /// The job of a lease turned out to be another submission's.
    pub(in crate::pool) fn note_lost_again(&mut self, id: LeaseId) {
        self.set_found(id, false);
    }

    fn set_found(&mut self, id: LeaseId, is_found: bool) {
        self.changes.note(|| id);
        let submission = self.submissions.get_mut(&id);
        if let Some(Resolution::Lost(lost)) = submission.map(|it| &mut it.resolution) {
            lost.is_found = is_found;
        }
    }

    fn lost(&self, id: LeaseId) -> Option<&LostSubmission> {
        match &self.submissions.get(&id)?.resolution {
            Resolution::Lost(lost) | Resolution::Given(_, lost) => Some(lost),
            Resolution::Open | Resolution::Job(_) => None,
        }
    }
}
