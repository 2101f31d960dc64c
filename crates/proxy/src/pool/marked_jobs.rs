//! Jobs that rounds list with marks.
//!
//! A mark names the lease of a job: that beats the match of a round, as an answer does. An answer beats a mark: the
//! mark is copied from the request, and any reader of the list may have sent it again. A marked job is never
//! matched to a lease by its turn. It is foreign if its mark is on two jobs, on another account than its lease, or
//! of no lease that is known.

use std::time::Duration;

use super::{
    AccountKey, Kind, LeaseId, LeaseState, Mark, MarkFault, MarksChange, Name, OperationName, Pool,
    RunningJobs, TaskId, lease::Listed, steps,
};

impl Pool {
    /// Whether the submission under this lease is to be sent with its mark, and with which: asked right before it
    /// is sent. Asked again, it gets the same answer.
    pub fn mark_submission(&mut self, id: LeaseId) -> Option<Mark> {
        // Without rounds there is no use in marks.
        if !self.limits.reconciles {
            return None;
        }
        let lease = self.leases.get(id)?;
        let is_new = lease.kind() == Kind::Forward && lease.state() == LeaseState::Reserved;
        let (mark, operation) = (lease.mark()?, lease.operation().as_ref()?);
        if !lease.is_marked {
            if !is_new || !self.marks.admit(operation, id) {
                return None;
            }
            self.leases.set_marked(id, true);
        }
        Some(mark)
    }

    /// The upstream's answer to a marked submission finds fault with it.
    pub fn note_mark_fault(&mut self, id: LeaseId, fault: MarkFault) {
        let lease = self.leases.get(id);
        let Some(operation) = lease.and_then(|lease| lease.operation().clone()) else {
            return;
        };
        match fault {
            MarkFault::Refused => self.leases.set_marked(id, false),
            MarkFault::AcceptedWithout => self.marks.note_refused(&operation),
            // Where marks are known to be taken, the fault is another.
            MarkFault::ServerError if self.marks.is_proven(&operation) => {}
            MarkFault::ServerError => self.marks.note_failed(&operation),
        }
    }

    /// Whether picks are told marks: of some operation they are known to be kept.
    pub fn offers_marks(&self) -> bool {
        self.marks.is_offered(None)
    }

    /// What became known of the marks of operations since the last call.
    pub fn take_marks_changes(&mut self) -> Vec<MarksChange> {
        self.marks.take_changes()
    }

    /// Binds the jobs that the round `running` lists with marks to the leases of these. `changed` were listed otherwise
    /// by the round before, `new` are not counted yet. Returns those of `new` that have no mark.
    pub(super) fn follow_marks(
        &mut self,
        running: &RunningJobs,
        changed: Vec<(TaskId, Name)>,
        new: Vec<(TaskId, AccountKey)>,
        now: Duration,
    ) -> Vec<(TaskId, AccountKey)> {
        let sent_at = running.sent_at;
        let is_marked = |(task_id, _): &(TaskId, AccountKey)| running.mark_of(task_id).is_some();
        let (marked, unmarked): (Vec<_>, _) = new.into_iter().partition(is_marked);
        for (task_id, account) in marked {
            steps::step();
            self.resolutions.note_task(account, &task_id, now);
            if !self.bind_marked(running, &task_id, account, now) {
                self.add_foreign(Listed::unclaimable(task_id), account, sent_at);
            }
        }
        for (task_id, email) in changed {
            steps::step();
            if let Some(account) = self.accounts.find(&email)
                && !self.bind_marked(running, &task_id, account, now)
            {
                self.disown(&task_id, account, sent_at);
            }
        }
        unmarked
    }

    /// A marked submission was accepted: where its job is listed, its mark must be, too.
    pub(super) fn note_accepted_marked(&mut self, id: LeaseId) {
        let Some(lease) = self.leases.get(id).filter(|lease| lease.is_marked) else {
            return;
        };
        if let Some(operation) = lease.operation() {
            self.marks.note_accepted(operation);
        }
        self.marks.judge_later(id);
        self.judge_mark(id);
    }

    /// Whether a job without a mark cannot be of this lease, since its submission was marked, and the upstream is
    /// known to keep marks.
    pub(super) fn has_proven_mark(&self, id: LeaseId) -> bool {
        let lease = self.leases.get(id).filter(|lease| lease.is_marked);
        let operation = lease.and_then(|lease| lease.operation().as_ref());
        operation.is_some_and(|operation| self.marks.is_proven(operation))
    }

    /// Whether the newest round lists a job with a mark.
    pub(super) fn is_marked_job(&self, task_id: &TaskId) -> bool {
        let listing = self.listing(task_id);
        listing.is_some_and(|(_, round)| round.mark_of(task_id).is_some())
    }

    /// Learns from the job of an accepted submission, if the newest round lists it, whether it keeps its mark.
    pub(super) fn judge_mark(&mut self, id: LeaseId) {
        let Some(lease) = self.leases.get(id) else {
            return;
        };
        let (Some(binding), Some(operation)) = (lease.binding(), lease.operation().clone()) else {
            return;
        };
        let Some((listed_on, running)) = self.listing(&binding.task_id) else {
            return;
        };
        if self.accounts.find(listed_on) != Some(lease.account) {
            return;
        }
        let shown = running.mark_of(&binding.task_id);
        let is_unique = shown.is_some_and(|mark| running.job_of(mark) == Some(&binding.task_id));
        let is_its = shown == lease.mark();
        self.marks.note_judged(id);
        match (is_its, is_unique) {
            (true, true) => self.marks.note_kept(&operation),
            // Somebody has sent it again.
            (true, false) => {}
            (false, _) => self.marks.note_missing(&operation, id),
        }
    }

    /// Gives a job to the lease, or to the lost submission, whose mark it is listed with. False if it counts
    /// for no lease by that.
    fn bind_marked(
        &mut self,
        running: &RunningJobs,
        task_id: &TaskId,
        account: AccountKey,
        now: Duration,
    ) -> bool {
        let mark = running.mark_of(task_id);
        let Some(mark) = mark.filter(|mark| running.job_of(*mark) == Some(task_id)) else {
            return false;
        };
        let id = self.marks.lease_of(mark);
        let holder = self.leases.of_task(task_id);
        let holding = holder.filter(|holder| Some(*holder) != id);
        let holding = holding.and_then(|holder| self.leases.get(holder));
        // An answer says that it is another submission's.
        if holding.is_some_and(|lease| lease.kind() == Kind::Forward && !lease.is_tied()) {
            return false;
        }
        match id {
            Some(id) => self.bind_to_mark(id, task_id, account, now),
            None => {
                if let Some(id) = self.resolutions.of_mark(mark, account) {
                    let operation = self.resolutions.operation_of(id);
                    self.learn_kept(operation.as_ref());
                    self.resolutions.decide_by_mark(id, account, task_id);
                    self.note_named(account, task_id, None, now);
                    self.note_decided(Some(account));
                }
                false
            }
        }
    }

    fn bind_to_mark(
        &mut self,
        id: LeaseId,
        task_id: &TaskId,
        account: AccountKey,
        now: Duration,
    ) -> bool {
        let Some(lease) = self.leases.get(id).filter(|it| it.account == account) else {
            return false;
        };
        let (kind, operation) = (lease.kind(), lease.operation().clone());
        let is_under_way = kind == Kind::Forward && lease.state() == LeaseState::Reserved;
        let named = lease.binding().filter(|_| !lease.is_tied());
        match named.map(|binding| binding.task_id == *task_id) {
            // An answer or a client has named another job.
            Some(false) => return false,
            Some(true) => {}
            None => {
                if self.name_job(id, task_id.clone(), now).is_err() {
                    return false;
                }
                self.leases.set_listed(id, true);
                self.resolutions.note_found(id, is_under_way);
            }
        }
        if kind == Kind::Forward {
            self.marks.note_judged(id);
            self.learn_kept(operation.as_ref());
        }
        true
    }

    fn learn_kept(&mut self, operation: Option<&OperationName>) {
        if let Some(operation) = operation {
            self.marks.note_kept(operation);
        }
    }

    /// A listed job has a mark that gives it to no lease. If it was matched to one without a mark, it is
    /// taken back.
    fn disown(&mut self, task_id: &TaskId, account: AccountKey, sent_at: Duration) {
        let holder = self.leases.of_task(task_id);
        let holding = holder.and_then(|id| self.leases.get(id));
        let before = holding.and_then(|lease| lease.binding()?.tied_from.clone());
        if let (Some(holder), Some(before)) = (holder, before) {
            self.set_phase(holder, before);
            self.add_foreign(Listed::unclaimable(task_id.clone()), account, sent_at);
            self.adopt_another(holder);
        }
        if let Some(job) = self.leases.take_stood_for(task_id) {
            self.add_foreign(job.named(), account, sent_at);
        }
        if self.foreign_jobs.account(task_id) == Some(account)
            && let Some(job) = self.take_foreign(task_id)
        {
            self.add_foreign(job.named(), account, sent_at);
        }
    }
}
