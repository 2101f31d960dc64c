//! What the upstream's own list of running jobs tells, and what else is learnt of jobs.
//!
//! Invariant: after a round, an account has at least as many slots in use as the round listed jobs
//! on it, with or without ids. Every job that is listed with an id is bound to a lease, matched to a
//! submission that is still under way, or foreign. Clocks of the upstream and ours are never compared: a job is new to a round if no
//! earlier one listed it.

use std::{sync::Arc, time::Duration};

use rand::Rng;

use super::{
    AccountCap, AccountCount, AccountKey, Cause, History, LeaseId, Name, Pool, RoundChange,
    RoundProgress, RunningJob, RunningJobs, TaskId, Undecided,
    following::Following,
    lease::{Listed, Phase},
    resolutions::Asked,
    steps::{self, Counted},
};
use crate::kling::scheduler::Executing;

/// How many rounds in a row must list no job of a lost submission.
pub(super) const ABSENCES_MIN: u32 = 2;

/// One answer of the upstream: which jobs run where.
#[derive(Clone, Debug, Default)]
pub struct Round {
    /// When the request for it was sent.
    pub sent_at: Duration,
    /// The jobs, in the upstream's order.
    pub executing: Vec<RunningJob>,
    /// For how long some of them have run, as the upstream tells. Only guesses rest on it.
    pub ages: Vec<(TaskId, Duration)>,
    /// The account of each further job, whose id cannot be read; `None` if it is not known either.
    pub unreadable: Vec<Option<String>>,
    /// The caps of the accounts that it names.
    pub caps: Vec<AccountCap>,
    /// How many jobs the upstream counts on the accounts that it names.
    pub counts: Vec<AccountCount>,
}

impl Round {
    /// What the upstream listed when it was asked at `sent_at`. Jobs without an account must have been named before.
    pub(crate) fn of(listed: Executing, sent_at: Duration) -> Self {
        let Executing {
            jobs,
            ages,
            nameless: _,
            unreadable,
            caps,
            counts,
        } = listed;
        Self {
            sent_at,
            executing: jobs,
            ages,
            unreadable,
            caps,
            counts,
        }
    }
}

/// What a round leaves to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Bound jobs that the upstream no longer lists. They are to be asked for: a job is over once
    /// [`Pool::job_over`] learned so and a later round still does not list it.
    pub unlisted: Vec<RunningJob>,
    /// Whether a job is listed that is known to be over: its slot comes back soon.
    pub is_release_due: bool,
}

impl Pool {
    /// What the newest round showed, or shows that is being followed: another one is compared with that.
    pub fn running(&self) -> Option<Arc<RunningJobs>> {
        let following = self.following.as_ref().map(Following::running);
        following.or(self.running.as_ref()).cloned()
    }

    /// Learns from one round that was answered.
    pub fn reconcile(&mut self, round: &Round, now: Duration, rng: &mut impl Rng) -> Findings {
        let change = RoundChange::between(self.running(), round.clone());
        self.follow_whole_round(change, now, rng)
            .unwrap_or_default()
    }

    /// Learns from one round that was answered. `None` if the change was made against a round that
    /// is no longer the newest: nothing changes then.
    pub fn follow_whole_round(
        &mut self,
        change: RoundChange,
        now: Duration,
        rng: &mut impl Rng,
    ) -> Option<Findings> {
        if !self.begin_round(change, now, rng) {
            return None;
        }
        match self.follow_round(usize::MAX, now, rng)? {
            RoundProgress::Whole(findings) => Some(findings),
            RoundProgress::Partial => None,
        }
    }

    /// Notes that the outcome of a submission is unknown. Its last byte was sent at `sent_at`.
    pub fn mark_uncertain(&mut self, id: LeaseId, sent_at: Duration, now: Duration) {
        let Some(lease) = self.leases.get(id) else {
            return;
        };
        let stood_for = match &lease.phase {
            Phase::Reserved { stands_for } => stands_for.as_deref().cloned(),
            Phase::Uncertain { .. } | Phase::Bound(_) => return,
        };
        let account = lease.account;
        // It may have stood for a job before marks were proven: that one has no mark.
        let (own, of_others) = if self.has_proven_mark(id) {
            (None, stood_for)
        } else {
            (stood_for, None)
        };
        let job = own.or_else(|| self.adopt_foreign(id));
        self.set_phase(id, Phase::uncertain(sent_at));
        if let Some(job) = job {
            self.tie(id, job);
            self.finish(now);
        }
        if let Some(job) = of_others {
            self.unassign(job, account, now);
            self.finish(now);
        }
    }

    /// Gives a lease back on its holder's word. If it is bound, its job counts as foreign in the
    /// same step: the upstream may still count it. False if there is no such lease.
    pub fn release(&mut self, id: LeaseId, now: Duration) -> bool {
        let Some(lease) = self.leases.get(id) else {
            return false;
        };
        if lease.binding().is_some() && self.limits.reconciles {
            // Its holder may know that the job is over.
            self.outbox.ask_for_round();
        }
        self.end(id, Cause::Released, now)
    }

    /// Learns that a job is over. Its slot returns with the first round sent after now that does
    /// not list it. False if the pool does not count the job.
    pub fn job_over(&mut self, task_id: &TaskId, now: Duration) -> bool {
        if let Some(id) = self.leases.of_task(task_id) {
            self.leases.note_over(id, now);
            return true;
        }
        self.foreign_jobs.account(task_id).is_some()
    }

    /// Learns that the upstream no longer counts a job: its slot is free.
    pub fn job_untracked(&mut self, task_id: &TaskId, now: Duration) {
        if let Some(id) = self.leases.of_task(task_id) {
            self.end_lease(id, Cause::Finished, now);
        } else {
            self.leases.take_stood_for(task_id);
        }
        self.take_foreign(task_id);
        if self.limits.reconciles {
            let listed_on = self.listed_on(task_id);
            self.foreign_jobs
                .note_untracked(task_id.clone(), listed_on, now);
        }
        self.finish(now);
    }

    /// The accounts whose histories have to be read.
    pub fn undecided(&self) -> Vec<Undecided> {
        let undecided = self.resolutions.undecided().filter_map(|(key, since)| {
            let account = self.accounts.get(key)?;
            Some(Undecided {
                email: Arc::clone(&account.listed.email),
                alias: account.listed.alias,
                since,
            })
        });
        undecided.collect()
    }

    /// Whether one of these tasks of an account's history shows that no older task can belong to an
    /// undecided submission.
    pub fn reaches_back(&self, email: &Name, task_ids: &[TaskId]) -> bool {
        let account = self.accounts.find(email);
        account.is_none_or(|key| self.resolutions.reaches_back(key, task_ids))
    }

    /// Decides what became of lost submissions by the history of their account, which was asked for at
    /// `asked_at`. Returns how many keys are decided.
    pub fn decide_by_history(
        &mut self,
        email: &Name,
        history: &History,
        asked_at: Duration,
        now: Duration,
    ) -> usize {
        let Some(key) = self.accounts.find(email) else {
            return 0;
        };
        for row in history.rows.iter().counted() {
            if let Some(result) = row.result {
                self.note_result(&row.task_id, result);
            }
        }
        let task_of = |id| {
            let binding = self.leases.get(id)?.binding()?;
            Some(binding.task_id.clone())
        };
        let asked = Asked {
            at: asked_at,
            settle: self.limits.settle,
            under_way: self.leases.under_way_since(key),
        };
        let decided_count = self.resolutions.decide(key, history, asked, task_of, now);
        self.note_late_finds(key);
        self.note_decided(Some(key));
        self.finish(now);
        decided_count
    }

    pub(super) fn count_listed(&mut self, email: &Name, is_added: bool) {
        if let Some(key) = self.accounts.find(email) {
            self.accounts.count_listed(key, is_added);
        }
    }

    /// The round does not list a job that the one before it did.
    pub(super) fn note_vanished(&mut self, task_id: &TaskId) {
        let holder = self.leases.of_task(task_id);
        let stand_in = self.leases.stand_in(task_id);
        for id in holder.into_iter().chain(stand_in) {
            self.leases.set_listed(id, false);
        }
        self.foreign_jobs.set_listed(task_id, false);
        self.foreign_jobs.forget_uncounted(task_id);
    }

    /// The round lists jobs that the one before it did not. Returns those that are not counted yet.
    pub(super) fn note_appeared(
        &mut self,
        appeared: impl Iterator<Item = (TaskId, Name)>,
        sent_at: Duration,
    ) -> Vec<(TaskId, AccountKey)> {
        let mut new = Vec::new();
        for (task_id, email) in appeared {
            steps::step();
            if !self.foreign_jobs.may_count(&task_id, &email, sent_at) {
                continue;
            }
            let job = Listed::unclaimable(task_id);
            let holder = self.leases.of_task(&job.task_id);
            if let Some(id) = holder {
                self.leases.set_listed(id, true);
            }
            let account = self.accounts.find(&email);
            let is_known = self.foreign_jobs.contains(&job.task_id);
            if self.foreign_jobs.is_at(&job.task_id, account, &email) {
                self.foreign_jobs.set_listed(&job.task_id, true);
            } else if is_known {
                // It has moved.
                self.take_foreign(&job.task_id);
            }
            let Some(key) = account else {
                self.foreign_jobs.add_elsewhere(job, email, sent_at);
                continue;
            };
            let holder = holder.and_then(|id| self.leases.get(id));
            match holder {
                Some(lease) if lease.account == key => {}
                // Its holder named the wrong account. The job takes a slot of this one.
                Some(_) => self.add_foreign(job, key, sent_at),
                None if is_known => self.add_foreign(job, key, sent_at),
                None => new.push((job.task_id, key)),
            }
        }
        new
    }
}
