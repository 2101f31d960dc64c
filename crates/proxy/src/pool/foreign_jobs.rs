//! Jobs that run without a lease: jobs of other tools, and jobs whose leases are gone.
//!
//! Invariant: a job is here once, and the indexes agree with it. Jobs on accounts that are not in
//! the list wait here for their account. A job that the newest round lists and that is not counted
//! anywhere is remembered too, so that the next round can count it.
//!
//! Rounds go on while nothing can be written, and jobs of others come and go. So a job that goes before its record was
//! read for writing leaves no change: there are no more changes than jobs, and records that are written.

#[cfg(any(test, feature = "fuzzing"))]
mod check;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use foldhash::fast::RandomState;
use slotmap::SecondaryMap;

use super::{
    AccountKey, TaskId,
    changes::Changes,
    deadlines::{Deadlines, Nanos},
    lease::Listed,
    name::Name,
    sorted::behind,
    steps::Counted,
};

/// The most jobs that are remembered on accounts outside the list: ten on each of a thousand
/// accounts.
const ELSEWHERE_MAX: usize = 10_000;
/// The most jobs that are remembered as no longer tracked, until the next round is answered.
const UNTRACKED_MAX: usize = 10_000;

/// A job that runs without a lease.
#[derive(Clone, Debug)]
pub(super) struct ForeignJob {
    place: JobPlace,
    /// When the first round that listed it was sent. `None` for a job that an answer or a client
    /// named before.
    first_at: Option<Duration>,
    /// Since when we know of it.
    since: Duration,
    /// When we last knew that it runs, while the newest round does not list it. Only a round sent
    /// later can say that it is gone.
    seen_at: Duration,
    /// The newest round lists it.
    is_listed: bool,
    /// When it is forgotten if it is not heard of again, as noted in the index.
    deadline: Duration,
    /// Its record may stand in the journal.
    is_stored: bool,
}

/// Where a job runs.
#[derive(Clone, Debug)]
enum JobPlace {
    Account(AccountKey),
    /// On an account that is not in the list.
    Elsewhere(Name),
}

/// A job that is not counted anywhere.
#[derive(Clone, Debug)]
struct Uncounted {
    /// The account that the newest round lists it on.
    listed_on: Option<Name>,
    /// When the upstream stopped counting it: a round that was sent before may still list it.
    untracked_at: Option<Duration>,
}

impl ForeignJob {
    /// Whether the round sent at `sent_at`, which does not list it, shows that it is gone.
    fn is_gone(&self, sent_at: Duration) -> bool {
        !self.is_listed && self.seen_at < sent_at
    }
}

#[derive(Debug)]
pub(super) struct ForeignJobs {
    job_ttl: Duration,
    jobs: HashMap<TaskId, ForeignJob, RandomState>,
    /// Jobs that may be of a lost submission of their account, by when they were first listed.
    adoptable: SecondaryMap<AccountKey, BTreeSet<(Duration, TaskId)>>,
    /// By the folded e-mail of an account that is not in the list.
    elsewhere: BTreeMap<Arc<str>, BTreeSet<TaskId>>,
    elsewhere_count: usize,
    /// Jobs that the newest round does not list.
    unlisted: BTreeSet<TaskId>,
    /// When jobs are forgotten. A deadline in here may be too early: rounds move the real one on,
    /// and it is looked up when this one comes.
    deadlines: Deadlines<TaskId>,
    uncounted: BTreeMap<TaskId, Uncounted>,
    round_sent_at: Option<Duration>,
    pub(super) changes: Changes<TaskId>,
}

impl ForeignJobs {
    pub(super) fn new(job_ttl: Duration) -> Self {
        Self {
            job_ttl,
            jobs: HashMap::default(),
            adoptable: SecondaryMap::new(),
            elsewhere: BTreeMap::new(),
            elsewhere_count: 0,
            unlisted: BTreeSet::new(),
            deadlines: Deadlines::default(),
            uncounted: BTreeMap::new(),
            round_sent_at: None,
            changes: Changes::default(),
        }
    }

    pub(super) fn contains(&self, task_id: &TaskId) -> bool {
        self.jobs.contains_key(task_id)
    }

    /// Whether a job is on the account `account`, or waits for one of this name.
    pub(super) fn is_at(
        &self,
        task_id: &TaskId,
        account: Option<AccountKey>,
        email: &Name,
    ) -> bool {
        let place = self.jobs.get(task_id).map(|job| &job.place);
        match (place, account) {
            (Some(JobPlace::Account(key)), account) => Some(*key) == account,
            (Some(JobPlace::Elsewhere(name)), None) => name.folded() == email.folded(),
            (Some(JobPlace::Elsewhere(_)), Some(_)) | (None, _) => false,
        }
    }

    /// The account that a job counts on.
    pub(super) fn account(&self, task_id: &TaskId) -> Option<AccountKey> {
        match self.jobs.get(task_id)?.place {
            JobPlace::Account(key) => Some(key),
            JobPlace::Elsewhere(_) => None,
        }
    }

    /// Whether a job counts on `account`, first listed by the round sent at `sent_at` and named by none since.
    pub(super) fn is_new(&self, task_id: &TaskId, account: AccountKey, sent_at: Duration) -> bool {
        let job = self.jobs.get(task_id);
        job.is_some_and(|job| job.first_at == Some(sent_at))
            && self.account(task_id) == Some(account)
    }

    /// Some jobs that count on accounts, at most `count`: those that we have not heard of for longest. Each with its
    /// account, and since when we know of it.
    pub(super) fn sample(
        &self,
        count: usize,
    ) -> impl Iterator<Item = (&TaskId, AccountKey, Duration)> {
        let first = self.deadlines.iter().take(count);
        first.filter_map(|(_, task_id)| {
            let job = self.jobs.get(task_id)?;
            match job.place {
                JobPlace::Account(key) => Some((task_id, key, job.since)),
                JobPlace::Elsewhere(_) => None,
            }
        })
    }

    /// Where a job runs, on an account or on one that is not in the list, and since when we know of it.
    pub(super) fn whereabouts(
        &self,
        task_id: &TaskId,
    ) -> Option<(Result<AccountKey, &Name>, Duration)> {
        let job = self.jobs.get(task_id)?;
        let place = match &job.place {
            JobPlace::Account(key) => Ok(*key),
            JobPlace::Elsewhere(name) => Err(name),
        };
        Some((place, job.since))
    }

    /// The record of a job is read for writing.
    pub(super) fn note_stored(&mut self, task_id: &TaskId) {
        if let Some(job) = self.jobs.get_mut(task_id) {
            job.is_stored = true;
        }
    }

    /// A job was known before a restart.
    pub(super) fn set_since(&mut self, task_id: &TaskId, since: Duration) {
        self.change(task_id, |job| job.since = since);
    }

    /// Adds a job on an account. False if the job is there already.
    pub(super) fn add(&mut self, job: Listed, account: AccountKey, seen_at: Duration) -> bool {
        self.insert(job, JobPlace::Account(account), seen_at)
    }

    /// Remembers a job on an account that is not in the list.
    pub(super) fn add_elsewhere(&mut self, job: Listed, email: Name, seen_at: Duration) {
        if self.elsewhere_count < ELSEWHERE_MAX {
            self.insert(job, JobPlace::Elsewhere(email), seen_at);
        } else if job.is_listed {
            self.note_uncounted(job.task_id, email);
        }
    }

    fn insert(&mut self, job: Listed, place: JobPlace, seen_at: Duration) -> bool {
        let Listed {
            task_id,
            first_at,
            is_listed,
        } = job;
        if self.jobs.contains_key(&task_id) {
            return false;
        }
        let job = ForeignJob {
            place,
            first_at,
            since: seen_at,
            seen_at,
            is_listed,
            deadline: seen_at + self.job_ttl,
            // From before a restart, or as a job that was here a moment ago.
            is_stored: !self.changes.are_recorded() || self.changes.contains(&task_id),
        };
        self.index(&task_id, &job);
        self.changes.note(|| task_id.clone());
        self.jobs.insert(task_id, job);
        true
    }

    /// Removes a job. Returns it, with the account that it counted on.
    pub(super) fn remove(&mut self, task_id: &TaskId) -> Option<(Listed, Option<AccountKey>)> {
        let job = self.jobs.remove(task_id)?;
        if job.is_stored {
            self.changes.note(|| task_id.clone());
        } else {
            self.changes.forget(task_id);
        }
        self.unindex(task_id, &job);
        let account = match job.place {
            JobPlace::Account(key) => Some(key),
            JobPlace::Elsewhere(_) => None,
        };
        let listed = Listed {
            task_id: task_id.clone(),
            first_at: job.first_at,
            is_listed: job.is_listed,
        };
        Some((listed, account))
    }

    /// The earliest job of an account that was first listed after `since`, and that the round sent at `shown_at`, if
    /// one is being followed, does not show to be gone.
    pub(super) fn adoptable(
        &self,
        account: AccountKey,
        since: Duration,
        shown_at: Option<Duration>,
    ) -> Option<TaskId> {
        let is_gone = |task_id| shown_at.is_some_and(|at| self.jobs[task_id].is_gone(at));
        let mut jobs = self.adoptable.get(account)?.iter().counted();
        let (_, task_id) =
            jobs.find(|(first_at, task_id)| *first_at > since && !is_gone(task_id))?;
        Some(task_id.clone())
    }

    /// An account is forgotten: no job counts on it.
    pub(super) fn forget_account(&mut self, account: AccountKey) {
        self.adoptable.remove(account);
    }

    /// The newest round lists a job, or no longer.
    pub(super) fn set_listed(&mut self, task_id: &TaskId, is_listed: bool) {
        let round_sent_at = self.round_sent_at;
        self.change(task_id, |job| {
            let was_listed = std::mem::replace(&mut job.is_listed, is_listed);
            if let Some(at) = round_sent_at.filter(|_| was_listed && !is_listed) {
                job.seen_at = job.seen_at.max(at);
            }
        });
    }

    /// A round that was sent at `sent_at` is the newest one now.
    pub(super) fn note_round(&mut self, sent_at: Duration) {
        self.round_sent_at = Some(sent_at);
    }

    /// The first job behind `after` that the newest round does not list.
    pub(super) fn next_unlisted(&self, after: Option<TaskId>) -> Option<TaskId> {
        let mut unlisted = self.unlisted.range(behind(after)).counted();
        unlisted.next().cloned()
    }

    /// Whether the round sent at `sent_at` shows a job to be gone.
    pub(super) fn is_gone(&self, task_id: &TaskId, sent_at: Duration) -> bool {
        let job = self.jobs.get(task_id);
        job.is_some_and(|job| job.is_gone(sent_at))
    }

    /// Removes the first job that was not heard of for as long as a job may run. Returns it, with
    /// the account that it counted on.
    pub(super) fn next_expired(&mut self, now: Duration) -> Option<(Listed, Option<AccountKey>)> {
        while let Some((at, task_id)) = self.deadlines.first_due(now) {
            let job = &self.jobs[&task_id];
            let newest = self.round_sent_at.filter(|_| job.is_listed);
            let later = newest.map_or(job.seen_at, |at| at.max(job.seen_at)) + self.job_ttl;
            if later > at {
                self.change(&task_id, |job| job.deadline = later);
                continue;
            }
            return self.remove(&task_id);
        }
        None
    }

    pub(super) fn next_deadline(&self) -> Nanos {
        self.deadlines.next()
    }

    /// Takes the jobs that wait for an account of this name, with when they were last known to run.
    pub(super) fn take_elsewhere(&mut self, folded: &str) -> Vec<(Listed, Name, Duration)> {
        let task_ids = self.elsewhere.get(folded).cloned().unwrap_or_default();
        let jobs = task_ids.into_iter().counted().filter_map(|task_id| {
            let ForeignJob { place, seen_at, .. } = self.jobs[&task_id].clone();
            let JobPlace::Elsewhere(email) = place else {
                return None;
            };
            let (job, _) = self.remove(&task_id)?;
            Some((job, email, seen_at))
        });
        jobs.collect()
    }

    /// The newest round lists a job that is not counted: the next round may count it.
    pub(super) fn note_uncounted(&mut self, task_id: TaskId, email: Name) {
        let job = Uncounted {
            listed_on: Some(email),
            untracked_at: None,
        };
        self.uncounted.insert(task_id, job);
    }

    /// The upstream no longer counts a job. `listed_on`: the newest round lists it there.
    pub(super) fn note_untracked(
        &mut self,
        task_id: TaskId,
        listed_on: Option<Name>,
        now: Duration,
    ) {
        if listed_on.is_some() || self.uncounted.len() < UNTRACKED_MAX {
            let job = Uncounted {
                listed_on,
                untracked_at: Some(now),
            };
            self.uncounted.insert(task_id, job);
        }
    }

    /// Whether a job counts that the round sent at `sent_at` lists and the one before did not. It
    /// does not if the upstream has stopped tracking it since.
    pub(super) fn may_count(&mut self, task_id: &TaskId, email: &Name, sent_at: Duration) -> bool {
        let Some(job) = self.uncounted.get_mut(task_id) else {
            return true;
        };
        if job.untracked_at.is_some_and(|at| at >= sent_at) {
            job.listed_on = Some(email.clone());
            return false;
        }
        self.uncounted.remove(task_id);
        true
    }

    /// The newest round no longer lists a job that is not counted.
    pub(super) fn forget_uncounted(&mut self, task_id: &TaskId) {
        if let Some(job) = self.uncounted.get_mut(task_id) {
            job.listed_on = None;
        }
    }

    /// The first job behind `after` that is not counted.
    pub(super) fn next_uncounted(&self, after: Option<TaskId>) -> Option<TaskId> {
        let mut uncounted = self.uncounted.range(behind(after)).counted();
        uncounted.next().map(|(task_id, _)| task_id.clone())
    }

    /// An uncounted job counts from the round on that was sent at `sent_at`, if that one lists it, on `listed_on`, where
    /// the newest one did. Returns that name. A job that the newest one did not list is forgotten.
    pub(super) fn take_uncounted(
        &mut self,
        task_id: &TaskId,
        listed_on: Option<&Name>,
        sent_at: Duration,
    ) -> Option<Name> {
        let job = self.uncounted.get(task_id)?;
        let is_due = job.untracked_at.is_none_or(|at| at < sent_at);
        let is_where_it_was = job.listed_on.is_none() || job.listed_on.as_ref() == listed_on;
        if is_due && is_where_it_was {
            self.uncounted.remove(task_id)?.listed_on
        } else {
            None
        }
    }

    /// Whether a listed job is remembered as uncounted.
    pub(super) fn is_uncounted(&self, task_id: &TaskId) -> bool {
        let job = self.uncounted.get(task_id);
        job.is_some_and(|job| job.listed_on.is_some())
    }

    fn change(&mut self, task_id: &TaskId, change: impl FnOnce(&mut ForeignJob)) {
        let Some(mut job) = self.jobs.get(task_id).cloned() else {
            return;
        };
        self.unindex(task_id, &job);
        change(&mut job);
        self.index(task_id, &job);
        self.jobs.insert(task_id.clone(), job);
    }

    fn index(&mut self, task_id: &TaskId, job: &ForeignJob) {
        match &job.place {
            JobPlace::Account(key) => {
                if let Some(at) = job.first_at
                    && let Some(entry) = self.adoptable.entry(*key)
                {
                    entry.or_default().insert((at, task_id.clone()));
                }
            }
            JobPlace::Elsewhere(email) => {
                let of_account = self.elsewhere.entry(Arc::clone(email.folded()));
                of_account.or_default().insert(task_id.clone());
                self.elsewhere_count += 1;
            }
        }
        if !job.is_listed {
            self.unlisted.insert(task_id.clone());
        }
        self.deadlines.change(task_id, None, Some(job.deadline));
    }

    fn unindex(&mut self, task_id: &TaskId, job: &ForeignJob) {
        match &job.place {
            JobPlace::Account(key) => {
                if let Some(at) = job.first_at
                    && let Some(of_account) = self.adoptable.get_mut(*key)
                {
                    of_account.remove(&(at, task_id.clone()));
                }
            }
            JobPlace::Elsewhere(email) => {
                if let Some(of_account) = self.elsewhere.get_mut(email.folded()) {
                    of_account.remove(task_id);
                    if of_account.is_empty() {
                        self.elsewhere.remove(email.folded());
                    }
                }
                self.elsewhere_count -= 1;
            }
        }
        if !job.is_listed {
            self.unlisted.remove(task_id);
        }
        self.deadlines.change(task_id, Some(job.deadline), None);
    }
}
