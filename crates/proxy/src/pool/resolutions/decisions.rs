//! How histories decide about lost submissions, and the tasks that are known for that.

use std::{sync::Arc, time::Duration};

use super::{
    super::{
        AccountKey, History, LeaseId, TaskId,
        history::{self, HistoryVerdict, Lost},
        known_tasks::{AcceptedJob, KnownTask, KnownTasks, Taken},
        steps::Counted,
    },
    CANDIDATES_MAX, LostSubmission, Resolution, Resolutions,
};

/// How a history was asked for.
#[derive(Clone, Copy, Debug)]
pub(in crate::pool) struct Asked {
    /// When.
    pub(in crate::pool) at: Duration,
    /// For how long after the last byte of a submission its job may turn up.
    pub(in crate::pool) settle: Duration,
    /// When the oldest submission of the account started that is under way and not lost.
    pub(in crate::pool) under_way: Option<Duration>,
}

/// An account whose history has to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecided {
    /// Which account.
    pub email: Arc<str>,
    /// Its name in logs.
    pub alias: accounts_fetcher::Alias,
    /// When the newest of its lost submissions lost its slot.
    pub since: Duration,
}

impl Resolutions {
    /// The accounts whose histories have to be read, with when the newest submission was lost there.
    pub(in crate::pool) fn undecided(&self) -> impl Iterator<Item = (AccountKey, Duration)> {
        self.undecided.iter().counted().map(|account| {
            let lost = self.keyed(*account);
            let since = lost
                .filter_map(|lost| lost.ended_at.max(lost.tied_at))
                .max();
            (*account, since.unwrap_or_default())
        })
    }

    /// The submissions with keys that are undecided on an account.
    fn keyed(&self, account: AccountKey) -> impl Iterator<Item = &LostSubmission> {
        let lost = self.lost.get(account).into_iter().flatten().counted();
        lost.filter_map(|id| {
            let submission = &self.submissions[id];
            match &submission.resolution {
                Resolution::Lost(lost)
                    if submission.claim.is_some()
                        && (lost.ended_at.is_some() || lost.tied_at.is_some()) =>
                {
                    Some(lost)
                }
                Resolution::Lost(_)
                | Resolution::Open
                | Resolution::Job(_)
                | Resolution::Given(..) => None,
            }
        })
    }

    /// Whether one of these tasks is older than every undecided submission of an account: then no
    /// task behind it can belong to one.
    pub(in crate::pool) fn reaches_back(&self, account: AccountKey, task_ids: &[TaskId]) -> bool {
        let since = self.keyed(account).filter_map(|lost| lost.on);
        let Some(oldest) = since.map(|(_, since)| since).min() else {
            return true;
        };
        let known = self.known.get(account);
        let mut tasks = task_ids.iter();
        known.is_some_and(|known| tasks.any(|task_id| known.is_older(task_id, oldest)))
    }

    /// A task was seen on an account.
    pub(in crate::pool) fn note_task(
        &mut self,
        account: AccountKey,
        task_id: &TaskId,
        now: Duration,
    ) -> Option<&mut KnownTask> {
        if !self.is_tracking {
            return None;
        }
        let has_lost = self.lost.get(account).is_some_and(|lost| !lost.is_empty());
        let known = self.known.entry(account)?.or_default();
        if known.get(task_id).is_none() {
            self.seen_changes.note(|| account);
        }
        Some(known.note(task_id, now, has_lost))
    }

    /// A reply or a client named a task, to the lease `id` if there is one. True if a round or a history gave
    /// it to another submission, and the history has to decide about that one again.
    pub(in crate::pool) fn note_named(
        &mut self,
        account: AccountKey,
        task_id: &TaskId,
        id: Option<LeaseId>,
        now: Duration,
    ) -> bool {
        let task = self.note_task(account, task_id, now);
        match task.and_then(|task| task.taken.replace(Taken::Named)) {
            Some(Taken::Given { to, .. }) if id != Some(to) => self.take_back(to),
            Some(Taken::Given { .. } | Taken::Named) | None => false,
        }
    }

    /// A submission was accepted, and its reply passed through here. How histories show its task
    /// tells how they show others.
    pub(in crate::pool) fn note_accepted(
        &mut self,
        account: AccountKey,
        task_id: &TaskId,
        job: AcceptedJob,
        now: Duration,
    ) {
        if let Some(task_type) = &job.task_type {
            self.shown.learn_type(&job.operation, task_type);
        }
        if let Some(task) = self.note_task(account, task_id, now) {
            task.accepted = Some(Box::new(job));
        }
    }

    /// Decides about the lost submissions of an account by its history. `task_of` returns the job
    /// that a round gave to a lease. Returns how many keys are decided.
    pub(in crate::pool) fn decide(
        &mut self,
        account: AccountKey,
        history: &History,
        asked: Asked,
        task_of: impl Fn(LeaseId) -> Option<TaskId>,
        now: Duration,
    ) -> usize {
        let unknown = KnownTasks::default();
        let known = self.known.get(account).unwrap_or(&unknown);
        self.shown.learn(&history.rows, known);
        let ids = self.lost.get(account).into_iter().flatten().counted();
        let lost = ids.filter_map(|id| {
            let Resolution::Lost(lost) = &self.submissions[id].resolution else {
                return None;
            };
            if lost.is_found {
                return None;
            }
            let is_over = lost.ended_at.is_some_and(|at| at <= asked.at);
            Some(Lost {
                id: *id,
                body: lost.body.as_ref()?,
                since: lost.on?.1,
                tied_to: task_of(*id),
                is_settled: is_over && lost.lost_at + asked.settle <= asked.at,
            })
        });
        let mut lost: Vec<_> = lost.collect();
        lost.sort_unstable_by_key(|lost| (lost.since, lost.id));
        let verdicts = history::decide(&lost, history, known, &self.shown, asked.under_way);
        // The newest last: the task known for longest is forgotten first.
        for row in history.rows.iter().rev().counted() {
            self.note_task(account, &row.task_id, now);
        }
        let verdicts = verdicts.into_iter();
        let decided =
            verdicts.filter(|(id, verdict)| self.take_verdict(account, *id, verdict, now));
        decided.count()
    }

    /// True if it decides a key.
    fn take_verdict(
        &mut self,
        account: AccountKey,
        id: LeaseId,
        verdict: &HistoryVerdict,
        now: Duration,
    ) -> bool {
        let Some(submission) = self.submissions.get_mut(&id) else {
            return false;
        };
        let is_keyed = submission.claim.is_some();
        let Resolution::Lost(lost) = &mut submission.resolution else {
            return false;
        };
        match verdict {
            HistoryVerdict::Unknown(candidates) => {
                lost.candidates = candidates.iter().take(CANDIDATES_MAX).cloned().collect();
                return false;
            }
            HistoryVerdict::NoJob => {
                self.free(id);
            }
            HistoryVerdict::Job(task_id) => {
                if lost.ended_at.is_some() {
                    let operation = lost.body.as_ref().map(|body| Arc::clone(&body.operation));
                    self.late_finds.push((operation, task_id.clone()));
                }
                self.give(id, account, task_id, now);
            }
        }
        is_keyed
    }

    /// A submission was decided on an account. True if none is left there.
    pub(in crate::pool) fn is_decided(&mut self, account: AccountKey) -> bool {
        let is_decided = self.keyed(account).next().is_none();
        if is_decided {
            self.undecided.remove(&account);
        }
        is_decided
    }
}
