//! The pool as it goes on after a restart.
//!
//! Whatever held a slot holds it again. The submissions of the process that ended were cut off: their outcomes are not
//! known. Nothing is granted before a list and a round that are newer than the restart.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use accounts_fetcher::{Identity, Snapshot};

use super::{
    AccountKey, Claim, Kind, Known, LeaseId, LeaseState, Limits, Mark, Name, Pool, TaskId,
    account::{Account, Rank},
    health::AccountHealth,
    known_tasks::Taken,
    lease::{Binding, Lease, Listed, Phase},
    records::{
        AccountRecord, ForeignJobRecord, LeaseRecord, LostRecord, OperationRecord, PhaseRecord,
        ResolutionRecord, SeenTask, SubmissionRecord,
    },
    resolutions::{LostSubmission, Resolution, TrackedSubmission},
};
use crate::keyed_hash::HashKey;

/// The records of a pool.
#[derive(Debug, Default)]
pub struct Saved {
    /// The last account list.
    pub list: Option<Snapshot>,
    /// By e-mail.
    pub accounts: Vec<(Arc<str>, AccountRecord)>,
    /// By the ids of their leases.
    pub submissions: Vec<(LeaseId, SubmissionRecord)>,
    /// By their ids.
    pub leases: Vec<(LeaseId, LeaseRecord)>,
    /// By their tasks.
    pub foreign_jobs: Vec<(TaskId, ForeignJobRecord)>,
    /// By their names.
    pub operations: Vec<(Arc<str>, OperationRecord)>,
    /// The name of the run that goes on with them. Leases tell which one granted them.
    pub session: Option<Arc<str>>,
    /// How long the process was away, as the calendar tells. Pauses that the upstream asked for went on meanwhile.
    pub away: Duration,
}

/// What a restart changes of what was saved.
#[derive(Default)]
struct Altered {
    accounts: Vec<Arc<str>>,
    leases: Vec<LeaseId>,
    submissions: Vec<LeaseId>,
    foreign_jobs: Vec<TaskId>,
}

impl Pool {
    /// A pool that goes on at `now` from what was saved. Changes of records are noted from now on, beginning with what
    /// the restart itself changes.
    ///
    /// `key`: what marks are made with, if they are in use.
    pub(crate) fn restored(
        limits: Limits,
        saved: Saved,
        key: Option<&HashKey>,
        now: Duration,
    ) -> Self {
        let mut pool = Self::new(limits);
        pool.restore(saved, key, now);
        pool
    }

    /// What is known of the submission that had, or has, the lease `id`: its job, or that its outcome is not known.
    /// `None` if it was refused, or never granted.
    pub fn known_of(&self, id: LeaseId) -> Option<Known> {
        let submission = self.resolutions.get(id);
        if let Some(claim) = submission.and_then(|submission| submission.claim.as_ref()) {
            return self.recall(claim);
        }
        let (lease, is_tied) = (self.lease(id)?, self.leases.get(id)?.is_tied());
        Some(match lease.task_id.filter(|_| !is_tied) {
            Some(task_id) => Known::Job {
                task_id,
                email: Some(lease.email),
                lease: id,
            },
            None => Known::InUse(Vec::new()),
        })
    }

    fn restore(&mut self, saved: Saved, key: Option<&HashKey>, now: Duration) {
        let Saved {
            list,
            accounts,
            submissions,
            mut leases,
            foreign_jobs,
            operations,
            session,
            away,
        } = saved;
        self.session = session;
        if let Some(snapshot) = list {
            let mut nothing_to_draw = rand::rng();
            self.apply(&snapshot, now, &mut nothing_to_draw);
        }
        self.is_list_fresh = false;
        let mut altered = Altered::default();
        let mut seen = Vec::new();
        for (email, record) in accounts {
            let key = self.account_of(&email);
            let is_shortened = !away.is_zero() && record.health != AccountHealth::default();
            let is_respelled = self.accounts[key].listed.email != email;
            seen.extend(record.seen.into_iter().map(|task| (key, task)));
            if is_respelled || is_shortened {
                altered.accounts.push(email);
            }
            self.accounts.update(key, &mut self.outbox, |account| {
                account.is_draining = record.is_draining;
                account.change_health(|health| *health = record.health);
                account.change_health(|health| health.pass(away, now));
            });
        }
        for (operation, record) in operations {
            if let Some(learnt) = record.marks {
                self.marks.restore(&operation, learnt);
            }
            if let Some(seconds) = record.typical_seconds.filter(|it| it.is_finite()) {
                self.forecast.restore(Arc::clone(&operation), seconds);
            }
            self.resolutions.restore_shown(operation, record.history);
        }
        for (id, record) in submissions {
            let mark = key.map(|key| Mark::of(key, id));
            self.restore_submission(id, record, mark);
        }
        leases.sort_unstable_by_key(|(id, lease)| (lease.created_at, *id));
        for (id, record) in leases {
            let mark = key.map(|key| Mark::of(key, id));
            if self.restore_lease(id, &record, mark, now) {
                altered.leases.push(id);
            }
        }
        for (task_id, record) in foreign_jobs {
            if !self.restore_foreign(&task_id, &record, now) {
                // One of both was written before the job moved.
                altered.foreign_jobs.push(task_id);
            }
        }
        let leases = &self.leases;
        let is_held = |id| leases.get(id).is_some();
        altered.submissions = self.resolutions.end_restore(is_held, now);
        if self.resolutions.has_undecided() {
            self.outbox.ask_for_history();
        }
        self.know_tasks(seen);
        let leases = &self.leases;
        self.accounts
            .end_restore(&mut self.outbox, |id| leases.get(id).is_some());
        self.finish(now);
        self.record_changes();
        self.note_altered(altered);
    }

    /// What the restart itself changed is written, and no more.
    fn note_altered(&mut self, altered: Altered) {
        for email in altered.accounts {
            self.accounts.changes.note(|| email);
        }
        for id in altered.leases {
            self.leases.changes.note(|| id);
            self.resolutions.changes.note(|| id);
        }
        for id in altered.submissions {
            self.resolutions.changes.note(|| id);
        }
        for task_id in altered.foreign_jobs {
            self.foreign_jobs.changes.note(|| task_id);
        }
    }

    /// The account of this e-mail. One that is not in the list has left it.
    fn account_of(&mut self, email: &str) -> AccountKey {
        if let Some(key) = self.accounts.of_identity(&Identity::of(email)) {
            return key;
        }
        let listed = Arc::new(accounts_fetcher::Account::new(email, 0));
        let account = Account::new(listed, Rank::listed(u64::MAX));
        let key = self.accounts.insert(account);
        self.accounts.set_removed(key);
        self.accounts
            .update(key, &mut self.outbox, |account| account.is_in_list = false);
        key
    }

    fn restore_submission(&mut self, id: LeaseId, record: SubmissionRecord, mark: Option<Mark>) {
        let mut lost = |record: LostRecord| {
            let on = record.on.map(|on| (self.account_of(&on.account), on.since));
            LostSubmission {
                body: record.body,
                on,
                lost_at: record.lost_at,
                ended_at: record.ended_at,
                tied_at: None,
                candidates: Vec::new(),
                is_found: record.is_found,
            }
        };
        let resolution = match record.resolution {
            ResolutionRecord::Open => Resolution::Open,
            ResolutionRecord::Lost { lost: about } => Resolution::Lost(lost(about)),
            ResolutionRecord::Job { task_id } => Resolution::Job(task_id),
            ResolutionRecord::Given {
                task_id,
                lost: about,
            } => Resolution::Given(task_id, lost(about)),
        };
        let submission = TrackedSubmission {
            claim: record.claim,
            kind: record.kind,
            email: record.account,
            resolution,
            expires_at: record.expires_at,
            mark,
        };
        self.resolutions.restore(id, submission);
    }

    /// True if it is not what was saved.
    fn restore_lease(
        &mut self,
        id: LeaseId,
        record: &LeaseRecord,
        mark: Option<Mark>,
        now: Duration,
    ) -> bool {
        let key = self.account_of(record.account());
        self.accounts
            .update(key, &mut self.outbox, |account| account.held += 1);
        let lease = record.lease(key, mark);
        let mark = lease.mark();
        if let Some(mark) = mark {
            self.marks.add(mark, id);
        }
        let is_forward = lease.kind() == Kind::Forward;
        let is_cut_off = is_forward && record.phase == PhaseRecord::Reserved;
        self.leases.insert(id, Box::new(lease));
        let phase = if is_cut_off {
            match self.resolutions.job_of(id) {
                // Its answer was noted, and the lease was not.
                Some(task_id) => self.free_binding(task_id, now, None),
                None => {
                    self.lose_again(id, record, (key, mark), now);
                    None
                }
            }
        } else {
            self.phase_of(&record.phase, now)
        };
        let is_other_lease = phase.is_none();
        let phase = phase.unwrap_or(Phase::uncertain(now));
        let is_uncertain = phase.state() == LeaseState::Uncertain;
        // Its job was counted as started when it did.
        self.change_phase(id, phase);
        let lease = self.leases.get(id);
        let is_tied = lease.is_some_and(Lease::is_tied);
        // A crash may have come between the loss of a submission and its name.
        let is_nameless = !is_cut_off && is_forward && (is_uncertain || is_tied) && {
            let submission = self.resolutions.get(id);
            submission.is_none_or(|submission| submission.claim.is_none())
        };
        if is_nameless {
            self.lose_again(id, record, (key, mark), now);
        }
        if is_tied {
            self.resolutions.note_tied(id, now);
        }
        is_cut_off || is_other_lease || is_nameless
    }

    /// The outcome of a submission is not known: it was under way when its process ended, and may have left until then.
    fn lose_again(
        &mut self,
        id: LeaseId,
        record: &LeaseRecord,
        (account, mark): (AccountKey, Option<Mark>),
        now: Duration,
    ) {
        let email = Arc::clone(&self.accounts[account].listed.email);
        let body = record.body.as_deref().cloned();
        let on = Some((account, record.created_at));
        self.resolutions.lose(id, body, Some(email), on, mark, now);
        // The client of a call without a key can ask by this one. A key that the client gave stays.
        self.resolutions.name_lost(id, Claim::of_lost(id));
    }

    /// `None` for a job that another lease has.
    fn phase_of(&self, record: &PhaseRecord, now: Duration) -> Option<Phase> {
        match record {
            PhaseRecord::Reserved => Some(Phase::RESERVED),
            PhaseRecord::Uncertain { sent_at } => Some(Phase::uncertain((*sent_at).min(now))),
            PhaseRecord::Bound {
                task_id,
                since,
                tied_from,
            } => {
                let before = tied_from.as_ref().and_then(|it| self.phase_of(it, now));
                let mut bound = self.free_binding(task_id.clone(), now, before.clone());
                if let Some(Phase::Bound(binding)) = &mut bound {
                    binding.since = (*since).min(now);
                }
                // Of two leases with one job, one was written before the job was taken from it.
                bound.or(before)
            }
        }
    }

    fn free_binding(
        &self,
        task_id: TaskId,
        now: Duration,
        tied_from: Option<Phase>,
    ) -> Option<Phase> {
        let is_free = self.leases.of_task(&task_id).is_none();
        is_free.then(|| {
            let mut binding = Binding::new(task_id, now, false);
            binding.tied_from = tied_from;
            Phase::Bound(Box::new(binding))
        })
    }

    /// False if it is no foreign job any more: a lease has the job, or its account has left.
    fn restore_foreign(
        &mut self,
        task_id: &TaskId,
        record: &ForeignJobRecord,
        now: Duration,
    ) -> bool {
        if self.leases.of_task(task_id).is_some() {
            return false;
        }
        // It was listed before: no lost submission may take it over.
        let job = Listed {
            task_id: task_id.clone(),
            first_at: None,
            is_listed: false,
        };
        match self.accounts.find(&Name::new(&record.account)) {
            Some(key) => self.add_foreign(job, key, now),
            None if self.limits.reconciles => {
                self.foreign_jobs
                    .add_elsewhere(job, Name::new(&record.account), now);
            }
            None => {}
        }
        self.foreign_jobs.set_since(task_id, record.since.min(now));
        self.foreign_jobs.contains(task_id)
    }

    /// The tasks that are known of the accounts, oldest first: histories are read up to one of them.
    fn know_tasks(&mut self, seen: Vec<(AccountKey, SeenTask)>) {
        let mut known: BTreeMap<(Duration, TaskId), (AccountKey, Option<Taken>)> = BTreeMap::new();
        for (account, SeenTask { task_id, since }) in seen {
            known.insert((since, task_id), (account, None));
        }
        let bound = self.leases.after(None);
        for (_, lease) in bound {
            if let Some(binding) = lease.binding() {
                let taken = (!lease.is_tied()).then_some(Taken::Named);
                known.insert(
                    (binding.since, binding.task_id.clone()),
                    (lease.account, taken),
                );
            }
        }
        for (task_id, account, since) in self.foreign_jobs.sample(usize::MAX) {
            known.insert((since, task_id.clone()), (account, None));
        }
        for job in self.resolutions.jobs() {
            if let Some(key) = self.accounts.find(&Name::new(&job.email)) {
                known.insert((job.known_at, job.task_id), (key, Some(job.taken)));
            }
        }
        for ((since, task_id), (account, taken)) in known {
            if let Some(task) = self.resolutions.note_task(account, &task_id, since) {
                task.taken = taken.or(task.taken.take());
            }
        }
    }
}
