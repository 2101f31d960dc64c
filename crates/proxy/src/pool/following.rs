//! Follows a round in steps, between which other operations may come.
//!
//! All that a round changes on an account is one step: its jobs, their marks, the leases that they are matched to, and its
//! cap. So at any time an account counts every job that one of two rounds lists on it: the one that is being followed, or
//! the one before. Jobs that both list, and that did not count until now, count before any slot comes back. What the round
//! shows to be absent is looked at last, once all that it lists is counted.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    iter, mem,
    sync::Arc,
    time::Duration,
    vec,
};

use foldhash::fast::RandomState;
use rand::Rng;

use super::{
    AccountKey, Cause, LeaseId, Name, Pool, RoundChange, RunningJob, RunningJobs, TaskId,
    caps::Caps,
    lease::Listed,
    leases::TimedPlace,
    rounds::{ABSENCES_MIN, Findings},
    running_jobs::RoundPart,
    steps,
};

/// A round that is being followed.
#[derive(Debug)]
pub(super) struct Following {
    running: Arc<RunningJobs>,
    /// What it changes that is not followed yet.
    parts: vec::IntoIter<RoundPart>,
    /// The folded e-mails that these parts concern.
    pending: HashSet<Arc<str>, RandomState>,
    caps: Caps,
    stage: Stage,
    /// Accounts on which more is counted than before, though the round changes nothing there. Once all is counted, leases
    /// are matched there, too: to these jobs, and lost submissions to those that were hidden.
    unmatched: BTreeMap<AccountKey, Vec<TaskId>>,
    findings: Findings,
}

/// What is looked at, and what of it was the last.
#[derive(Debug)]
enum Stage {
    /// The caps of these accounts, which joined the list since the round before.
    Joined(vec::IntoIter<AccountKey>),
    /// By how many slots accounts differ whose slots changed: of so many more.
    Drift(usize),
    /// The jobs that leases stand for.
    StandIns(Option<TaskId>),
    /// The jobs that are listed and not counted.
    Uncounted(Option<TaskId>),
    /// What the round changes.
    Parts,
    /// The leases that are older than it.
    Older,
    /// The jobs of others that it does not list.
    Gone(Option<TaskId>),
    /// The accounts that are matched though it changes nothing there.
    Unmatched,
    /// The marks of accepted submissions.
    Marks(Option<LeaseId>),
    /// The bound leases whose jobs it does not list.
    Bound(Option<LeaseId>),
    /// The picks whose ttl is over.
    Due,
    /// The lost submissions.
    Lost(Option<TimedPlace>),
    /// The picks whose ttl was over when it was sent.
    Overdue(Option<TimedPlace>),
    /// Nothing: it is followed.
    Done,
}

impl Following {
    pub(super) fn running(&self) -> &Arc<RunningJobs> {
        &self.running
    }
}

/// How far a round is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoundProgress {
    /// Steps are left.
    Partial,
    /// It is the newest round now. It leaves this to do.
    Whole(Findings),
}

impl Pool {
    /// Begins to follow a round. False if the change was made against a round that is no longer the newest: nothing
    /// changes then, except that a round which another call has begun is followed to its end.
    pub fn begin_round(&mut self, change: RoundChange, now: Duration, rng: &mut impl Rng) -> bool {
        self.follow_round(usize::MAX, now, rng);
        let RoundChange {
            base,
            running,
            parts,
            names,
            caps,
        } = change;
        if self.running.as_ref().map(Arc::as_ptr) != base.as_ref().map(Arc::as_ptr) {
            return false;
        }
        self.first_round_at.get_or_insert(running.sent_at);
        self.following = Some(Following {
            running,
            parts: parts.into_iter(),
            pending: names,
            caps,
            stage: Stage::Joined(self.accounts.take_joined().into_iter()),
            unmatched: BTreeMap::new(),
            findings: Findings::default(),
        });
        true
    }

    /// When the round was sent that is being followed.
    pub fn followed_sent_at(&self) -> Option<Duration> {
        Some(self.following.as_ref()?.running.sent_at)
    }

    /// Takes about `steps_max` steps of the round that has begun: one for each job that it changes, and for each lease
    /// that it is compared with. `None` if there is none.
    pub fn follow_round(
        &mut self,
        steps_max: usize,
        now: Duration,
        rng: &mut impl Rng,
    ) -> Option<RoundProgress> {
        let running = Arc::clone(&self.following.as_ref()?.running);
        let mut steps = 0;
        let progress = loop {
            let following = self.following.as_mut()?;
            let stage = mem::replace(&mut following.stage, Stage::Done);
            if matches!(stage, Stage::Done) {
                let findings = self.following.take()?.findings;
                self.running = Some(running);
                break RoundProgress::Whole(Findings {
                    is_release_due: self.leases.has_releasing(),
                    ..findings
                });
            }
            if steps >= steps_max {
                following.stage = stage;
                break RoundProgress::Partial;
            }
            let part = following.parts.as_slice().first();
            let part = part.filter(|_| matches!(stage, Stage::Parts));
            steps += part.map_or(1, RoundPart::len);
            let next = self.follow_step(&running, stage, now);
            self.following.as_mut()?.stage = next;
        };
        self.finish_drawn(now, rng);
        Some(progress)
    }

    /// The newest round that is followed on the accounts with this folded e-mail.
    pub(super) fn shown(&self, folded: &str) -> Option<&Arc<RunningJobs>> {
        match &self.following {
            Some(following) if !following.pending.contains(folded) => Some(&following.running),
            Some(_) | None => self.running.as_ref(),
        }
    }

    /// The account that the newest round lists a job on, and that round.
    pub(super) fn listing(&self, task_id: &TaskId) -> Option<(&Name, &Arc<RunningJobs>)> {
        let following = self.following.as_ref().map(|following| &following.running);
        let mut rounds = following.into_iter().chain(&self.running);
        rounds.find_map(|round| {
            let name = round.account_of(task_id)?;
            let is_shown = self
                .shown(name.folded())
                .is_some_and(|it| Arc::ptr_eq(it, round));
            is_shown.then_some((name, round))
        })
    }

    /// Every job that is listed, as [`Self::listing`] tells.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn shown_jobs(&self) -> BTreeMap<TaskId, Name> {
        let following = self.following.as_ref().map(|following| &following.running);
        let rounds = following.into_iter().chain(&self.running);
        let jobs = rounds.flat_map(|round| round.jobs());
        let shown =
            jobs.filter(|(task_id, name)| self.listing(task_id).is_some_and(|(on, _)| on == *name));
        shown
            .map(|(task_id, name)| (task_id.clone(), name.clone()))
            .collect()
    }

    /// Takes one step, or finds that none is left of this stage. Returns the stage of the next one.
    fn follow_step(&mut self, running: &Arc<RunningJobs>, stage: Stage, now: Duration) -> Stage {
        let sent_at = running.sent_at;
        match stage {
            Stage::Joined(joined) => {
                let next = self.learn_next_cap(joined);
                next.unwrap_or_else(|| Stage::Drift(self.accounts.moved_count()))
            }
            Stage::Drift(left) if left > 0 => {
                self.accounts.note_next_drift();
                Stage::Drift(left - 1)
            }
            Stage::Drift(_) => Stage::StandIns(None),
            Stage::StandIns(last) => {
                let next = self.unhide_next(running, last);
                next.unwrap_or(Stage::Uncounted(None))
            }
            Stage::Uncounted(last) => {
                let next = self.count_next_again(running, last, now);
                next.unwrap_or(Stage::Parts)
            }
            Stage::Parts => self.follow_next_part(running, now).unwrap_or(Stage::Older),
            Stage::Older if self.leases.pass_older(sent_at) => Stage::Older,
            Stage::Older => {
                self.leases.note_round(sent_at);
                self.foreign_jobs.note_round(sent_at);
                Stage::Gone(None)
            }
            Stage::Gone(last) => {
                let next = self.remove_next_gone(sent_at, last);
                next.unwrap_or(Stage::Unmatched)
            }
            Stage::Unmatched => {
                let next = self.match_next_unmatched(sent_at);
                next.unwrap_or(Stage::Marks(None))
            }
            Stage::Marks(last) => self.judge_next_mark(last).unwrap_or(Stage::Bound(None)),
            Stage::Bound(last) => {
                let next = self.look_for_next_bound(running, last, now);
                next.unwrap_or(Stage::Due)
            }
            Stage::Due if self.leases.set_next_overdue(sent_at) => Stage::Due,
            Stage::Due => Stage::Lost(None),
            Stage::Lost(last) => {
                let next = self.count_next_absence(running, last, now);
                next.unwrap_or(Stage::Overdue(None))
            }
            Stage::Overdue(last) => {
                let next = self.end_next_overdue(running, last, now);
                next.unwrap_or(Stage::Done)
            }
            Stage::Done => Stage::Done,
        }
    }

    /// The cap of an account that joined the list counts if it is another than the list's.
    fn learn_next_cap(&mut self, mut joined: vec::IntoIter<AccountKey>) -> Option<Stage> {
        let key = joined.next()?;
        steps::step();
        let account = self.accounts.get(key);
        let name = account.map(|account| Name::sharing(Arc::clone(&account.listed.email)));
        let caps = &self.following.as_ref()?.caps;
        if let Some(cap) = name.and_then(|name| caps.of_name(&name)) {
            self.observe_cap(key, cap);
        }
        Some(Stage::Joined(joined))
    }

    /// A cap counts if a round changes it.
    fn observe_cap(&mut self, key: AccountKey, cap: u32) {
        self.accounts
            .update(key, &mut self.outbox, |account| account.observe_cap(cap));
    }

    /// A submission under way hides a job for one round only. If the round still lists that job where it was, both
    /// count from now on.
    fn unhide_next(&mut self, running: &RunningJobs, last: Option<TaskId>) -> Option<Stage> {
        let task_id = self.leases.next_stand_in(last)?;
        let listed_on = running.account_of(&task_id);
        if listed_on.is_some() && self.listed_on(&task_id).as_ref() == listed_on {
            let id = self.leases.stand_in(&task_id)?;
            let account = self.leases.get(id)?.account;
            let job = self.leases.take_stood_for(&task_id)?;
            self.add_foreign(job, account, running.sent_at);
            self.following
                .as_mut()?
                .unmatched
                .entry(account)
                .or_default();
        }
        Some(Stage::StandIns(Some(task_id)))
    }

    /// A job that did not count until now does if the round still lists it where it was. Else the part of its account
    /// tells.
    fn count_next_again(
        &mut self,
        running: &RunningJobs,
        last: Option<TaskId>,
        now: Duration,
    ) -> Option<Stage> {
        let sent_at = running.sent_at;
        let task_id = self.foreign_jobs.next_uncounted(last)?;
        let listed_on = running.account_of(&task_id);
        if let Some(email) = self
            .foreign_jobs
            .take_uncounted(&task_id, listed_on, sent_at)
        {
            let new = self.note_appeared(iter::once((task_id.clone(), email)), sent_at);
            for (task_id, account) in self.follow_marks(running, Vec::new(), new, now) {
                let unmatched = &mut self.following.as_mut()?.unmatched;
                unmatched.entry(account).or_default().push(task_id.clone());
                self.add_foreign(Listed::new(task_id, sent_at), account, sent_at);
            }
        }
        Some(Stage::Uncounted(Some(task_id)))
    }

    /// Follows all that the round changes on some accounts.
    fn follow_next_part(&mut self, running: &RunningJobs, now: Duration) -> Option<Stage> {
        let following = self.following.as_mut()?;
        let RoundPart {
            names,
            appeared,
            vanished,
            caps,
            marked,
        } = following.parts.next()?;
        for folded in &names {
            following.pending.remove(folded);
        }
        let base = self.running.clone();
        for (task_id, email) in vanished {
            steps::step();
            self.count_listed(&email, false);
            if let Some(base) = &base {
                self.learn_from_foreign(&task_id, base, running.sent_at);
            }
            self.note_vanished(&task_id);
        }
        for (_, email) in &appeared {
            self.count_listed(email, true);
        }
        for folded in names {
            self.count_unnamed(running, &folded);
            self.accounts.note_drift_of(&folded);
        }
        let new = self.note_appeared(appeared.into_iter(), running.sent_at);
        let new = self.follow_marks(running, marked, new, now);
        self.match_new(new, running.sent_at, now);
        for (name, cap) in caps {
            steps::step();
            if let Some(key) = self.accounts.find(&name) {
                self.observe_cap(key, cap);
            }
        }
        Some(Stage::Parts)
    }

    /// A job of others that the round does not list is gone, unless it is known only since the round was sent.
    fn remove_next_gone(&mut self, sent_at: Duration, last: Option<TaskId>) -> Option<Stage> {
        let task_id = self.foreign_jobs.next_unlisted(last)?;
        if self.foreign_jobs.is_gone(&task_id, sent_at) {
            self.take_foreign(&task_id);
        }
        Some(Stage::Gone(Some(task_id)))
    }

    fn match_next_unmatched(&mut self, sent_at: Duration) -> Option<Stage> {
        let (account, task_ids) = self.following.as_mut()?.unmatched.pop_first()?;
        let mut new = VecDeque::new();
        for task_id in task_ids {
            if self.foreign_jobs.is_new(&task_id, account, sent_at) {
                new.extend(self.take_foreign(&task_id));
            }
        }
        self.match_on(account, new, sent_at);
        Some(Stage::Unmatched)
    }

    fn judge_next_mark(&mut self, last: Option<LeaseId>) -> Option<Stage> {
        let id = self.marks.next_unjudged(last)?;
        self.judge_mark(id);
        Some(Stage::Marks(Some(id)))
    }

    /// Decides about a bound job that the round does not list.
    fn look_for_next_bound(
        &mut self,
        running: &RunningJobs,
        last: Option<LeaseId>,
        now: Duration,
    ) -> Option<Stage> {
        let id = self.leases.next_unlisted(last)?;
        let lease = self.leases.get(id)?;
        let binding = lease.binding()?;
        let sent_at = running.sent_at;
        let is_over = binding.over_at.is_some_and(|over_at| over_at < sent_at);
        if binding.since >= sent_at {
            // The round was sent before the job was known.
        } else if is_over && self.shows_absence(running, lease.account) {
            self.end_lease(id, Cause::Finished, now);
        } else if binding.since + self.limits.job_ttl <= sent_at {
            self.end_lease(id, Cause::Unverified, now);
        } else if !is_over {
            let unlisted = RunningJob {
                task_id: binding.task_id.clone(),
                email: self.accounts[lease.account].listed.email.to_string(),
                mark: None,
            };
            self.following.as_mut()?.findings.unlisted.push(unlisted);
        }
        Some(Stage::Bound(Some(id)))
    }

    /// The round lists no job of a lost submission.
    fn count_next_absence(
        &mut self,
        running: &RunningJobs,
        last: Option<TimedPlace>,
        now: Duration,
    ) -> Option<Stage> {
        let (at, id) = self.leases.next_settled(last, running.sent_at)?;
        let account = self.leases.get(id)?.account;
        if self.shows_absence(running, account) && self.leases.count_absence(id) >= ABSENCES_MIN {
            self.end_lease(id, Cause::Absent, now);
        }
        Some(Stage::Lost(Some((at, id))))
    }

    /// The time of a pick is up, unless its job may be one that cannot be read.
    fn end_next_overdue(
        &mut self,
        running: &RunningJobs,
        last: Option<TimedPlace>,
        now: Duration,
    ) -> Option<Stage> {
        let (at, id) = self.leases.next_overdue(last, running.sent_at)?;
        if self.shows_absence(running, self.leases.get(id)?.account) {
            self.end_lease(id, Cause::Expired, now);
        }
        Some(Stage::Overdue(Some((at, id))))
    }
}
