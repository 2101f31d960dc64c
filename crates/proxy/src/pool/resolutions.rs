//! What became of submissions, also after their leases ended, and the idempotency keys under which
//! clients ask for them.
//!
//! Invariant: a key leads to one lease. It is free again only if its submission provably became no
//! job: refused, never sent, given back by hand, or shown to be absent by the history of its
//! account. A full table refuses new keys; it forgets no key early.

#[cfg(any(test, feature = "fuzzing"))]
mod check;
mod decisions;
mod keys;
mod marked;
mod restore;

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    mem,
    sync::Arc,
    time::Duration,
};

use foldhash::fast::RandomState;
use slotmap::SecondaryMap;

use super::{
    AccountKey, Cause, LeaseId, Mark, OperationName, TaskId,
    changes::Changes,
    deadlines::{Deadlines, Nanos},
    history::{Body, Shown},
    known_tasks::{KnownTasks, Taken},
    lease::{Kind, Lease, Phase},
};
pub(super) use decisions::Asked;
pub use decisions::Undecided;
pub(super) use keys::Holding;
pub use keys::{Claim, Key, Known};

/// The most keys at once: more than a job a minute on each of 50 accounts, for a day.
pub const KEYS_MAX: usize = 100_000;
/// How long a submission is remembered after it was decided, or lost for good.
pub const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 3600);
/// The most lost submissions without a key that are remembered. They matter only because they can
/// be mistaken for one with a key.
const UNKEYED_MAX: usize = 10_000;
/// The most tasks that are named as candidates for a lost submission.
const CANDIDATES_MAX: usize = 20;

#[derive(Debug)]
pub(super) struct Resolutions {
    keys_max: usize,
    /// Whether histories are read. If not, tasks need not be known.
    is_tracking: bool,
    submissions: HashMap<LeaseId, TrackedSubmission, RandomState>,
    by_key: HashMap<Key, LeaseId, RandomState>,
    /// Lost submissions with marks, also those that a round or a history gave a job.
    marked: HashMap<Mark, LeaseId, RandomState>,
    /// Lost submissions, by account.
    lost: SecondaryMap<AccountKey, BTreeSet<LeaseId>>,
    /// Accounts on which submissions with keys are undecided.
    undecided: BTreeSet<AccountKey>,
    /// When submissions are forgotten.
    expiry: Deadlines<LeaseId>,
    /// Lost submissions without a key, by when they were lost.
    unkeyed: BTreeSet<(Duration, LeaseId)>,
    known: SecondaryMap<AccountKey, KnownTasks>,
    /// Jobs that histories found for submissions whose slots had come free before, until they are told.
    late_finds: Vec<(Option<OperationName>, TaskId)>,
    pub(super) shown: Shown,
    pub(super) changes: Changes<LeaseId>,
    /// Accounts on which another task was seen.
    pub(super) seen_changes: Changes<AccountKey>,
}

#[derive(Debug)]
pub(super) struct TrackedSubmission {
    pub(super) claim: Option<Claim>,
    pub(super) kind: Kind,
    pub(super) email: Option<Arc<str>>,
    pub(super) resolution: Resolution,
    /// When it is forgotten.
    pub(super) expires_at: Option<Duration>,
    /// The mark by which its job can be found, if it was lost.
    pub(super) mark: Option<Mark>,
}

impl TrackedSubmission {
    /// A submission of which nothing is known yet.
    fn open(claim: Option<Claim>, kind: Kind) -> Self {
        Self {
            claim,
            kind,
            email: None,
            resolution: Resolution::Open,
            expires_at: None,
            mark: None,
        }
    }
}

/// What is known of a submission beyond its lease.
#[derive(Debug)]
pub(super) enum Resolution {
    /// It is under way, or its lease says more.
    Open,
    /// Its outcome is unknown.
    Lost(LostSubmission),
    /// A reply or a client named its job.
    Job(TaskId),
    /// A round or a history gave it this job.
    Given(TaskId, LostSubmission),
}

#[derive(Debug)]
pub(super) struct LostSubmission {
    pub(super) body: Option<Body>,
    /// The account on which it was lost, and when its lease was made. `None`: an unknown account.
    pub(super) on: Option<(AccountKey, Duration)>,
    /// When the last byte of it was sent.
    pub(super) lost_at: Duration,
    /// Since when it has no lease.
    pub(super) ended_at: Option<Duration>,
    /// Since when a round has given its lease a job. A history may confirm that.
    pub(super) tied_at: Option<Duration>,
    /// The tasks in its account's history that may be its job.
    pub(super) candidates: Vec<TaskId>,
    /// Its lease has its job, by the mark: it is lost only to the call that submitted it.
    pub(super) is_found: bool,
}

impl Resolutions {
    pub(super) fn new(keys_max: usize, is_tracking: bool) -> Self {
        Self {
            keys_max,
            is_tracking,
            submissions: HashMap::default(),
            by_key: HashMap::default(),
            marked: HashMap::default(),
            lost: SecondaryMap::new(),
            undecided: BTreeSet::new(),
            expiry: Deadlines::default(),
            unkeyed: BTreeSet::new(),
            known: SecondaryMap::new(),
            late_finds: Vec::new(),
            shown: Shown::default(),
            changes: Changes::default(),
            seen_changes: Changes::default(),
        }
    }

    /// The jobs that histories found since the last call for submissions whose slots had come free before.
    pub(super) fn take_late_finds(&mut self) -> Vec<(Option<OperationName>, TaskId)> {
        mem::take(&mut self.late_finds)
    }

    /// Whether submissions with keys are undecided on an account.
    pub(super) fn is_undecided(&self, account: AccountKey) -> bool {
        self.undecided.contains(&account)
    }

    /// A submission became no job: its key is free. Returns the account on which it was undecided.
    pub(super) fn free(&mut self, id: LeaseId) -> Option<AccountKey> {
        let undecided = self.set_resolution(id, Resolution::Open);
        self.forget_mark(id);
        let submission = self.submissions.remove(&id)?;
        if let Some(claim) = &submission.claim {
            self.by_key.remove(&claim.key);
        }
        self.expiry.change(&id, submission.expires_at, None);
        undecided
    }

    fn forget_mark(&mut self, id: LeaseId) {
        let submission = self.submissions.get_mut(&id);
        if let Some(mark) = submission.and_then(|it| it.mark.take()) {
            self.marked.remove(&mark);
        }
    }

    /// Replaces what is known of a submission. Returns the account on which it was undecided until now.
    fn set_resolution(&mut self, id: LeaseId, resolution: Resolution) -> Option<AccountKey> {
        let lost = self.take_lost(id);
        let submission = self.submissions.get_mut(&id)?;
        self.changes.note(|| id);
        submission.resolution = resolution;
        let is_keyed = submission.claim.is_some();
        let lost = lost.filter(|lost| is_keyed && lost.ended_at.is_some());
        let (account, _) = lost?.on?;
        Some(account)
    }

    /// Takes what is known of a lost submission, and leaves it open.
    fn take_lost(&mut self, id: LeaseId) -> Option<LostSubmission> {
        let submission = self.submissions.get_mut(&id)?;
        let lost = match mem::replace(&mut submission.resolution, Resolution::Open) {
            Resolution::Lost(lost) => lost,
            other @ (Resolution::Open | Resolution::Job(_) | Resolution::Given(..)) => {
                submission.resolution = other;
                return None;
            }
        };
        if submission.claim.is_none() {
            self.unkeyed.remove(&(lost.lost_at, id));
        }
        if let Some((account, _)) = lost.on
            && let Some(of_account) = self.lost.get_mut(account)
        {
            of_account.remove(&id);
        }
        Some(lost)
    }

    /// The outcome of a submission is unknown. `on`: the account of its lease, and when the lease
    /// was made. False if that was known.
    pub(super) fn lose(
        &mut self,
        id: LeaseId,
        body: Option<Body>,
        email: Option<Arc<str>>,
        on: Option<(AccountKey, Duration)>,
        mark: Option<Mark>,
        lost_at: Duration,
    ) -> bool {
        if let (Entry::Vacant(entry), Some(_)) = (self.submissions.entry(id), &body) {
            entry.insert(TrackedSubmission::open(None, Kind::Forward));
        }
        let Some(submission) = self.submissions.get_mut(&id) else {
            return false;
        };
        // The caller reported it again.
        if !matches!(submission.resolution, Resolution::Open) {
            return false;
        }
        self.changes.note(|| id);
        submission.email = email;
        if let Some(mark) = mark
            && let Entry::Vacant(entry) = self.marked.entry(mark)
        {
            entry.insert(id);
            submission.mark = Some(mark);
        }
        submission.resolution = Resolution::Lost(LostSubmission {
            body,
            on,
            lost_at,
            ended_at: None,
            tied_at: None,
            candidates: Vec::new(),
            is_found: false,
        });
        let is_keyed = submission.claim.is_some();
        self.index_lost(id, on);
        if !is_keyed {
            self.unkeyed.insert((lost_at, id));
            if self.unkeyed.len() > UNKEYED_MAX
                && let Some((_, oldest)) = self.unkeyed.first().copied()
            {
                self.free(oldest);
            }
        }
        true
    }

    fn index_lost(&mut self, id: LeaseId, on: Option<(AccountKey, Duration)>) {
        if let Some((account, _)) = on
            && let Some(entry) = self.lost.entry(account)
        {
            entry.or_default().insert(id);
        }
    }

    /// The answer to a submission names its job. True if that was known.
    pub(super) fn accept(
        &mut self,
        id: LeaseId,
        task_id: &TaskId,
        email: Option<Arc<str>>,
    ) -> bool {
        let known = self.submissions.get(&id).map(|known| &known.resolution);
        let is_known = match known {
            Some(Resolution::Job(job) | Resolution::Given(job, _)) => job == task_id,
            Some(Resolution::Open | Resolution::Lost(_)) | None => false,
        };
        self.set_resolution(id, Resolution::Job(task_id.clone()));
        self.forget_mark(id);
        match self.submissions.get_mut(&id) {
            Some(submission) if submission.claim.is_some() => submission.email = email,
            // Without a key no client can ask for it.
            Some(_) => {
                self.free(id);
            }
            None => {}
        }
        is_known
    }

    /// A round or a history gives a lost submission a job. An answer that names it to another one takes it
    /// back.
    fn give(&mut self, id: LeaseId, account: AccountKey, task_id: &TaskId, now: Duration) {
        self.changes.note(|| id);
        let Some(lost) = self.take_lost(id) else {
            return;
        };
        let body = lost.body.clone();
        match self.submissions.get_mut(&id) {
            Some(submission) if submission.claim.is_some() => {
                submission.resolution = Resolution::Given(task_id.clone(), lost);
            }
            Some(_) => {
                self.free(id);
            }
            None => {}
        }
        if let Some(task) = self.note_task(account, task_id, now) {
            task.taken.get_or_insert(Taken::Given { to: id, body });
        }
    }

    /// A job does not belong to the submission that got it, whose outcome is unknown again. True if
    /// the history has to decide again.
    fn take_back(&mut self, id: LeaseId) -> bool {
        self.changes.note(|| id);
        let Some(submission) = self.submissions.get_mut(&id) else {
            return false;
        };
        match mem::replace(&mut submission.resolution, Resolution::Open) {
            Resolution::Given(_, lost) => {
                let on = lost.on;
                submission.resolution = Resolution::Lost(lost);
                self.index_lost(id, on);
                self.undecided.extend(on.map(|(account, _)| account));
                true
            }
            other @ (Resolution::Open | Resolution::Job(_) | Resolution::Lost(_)) => {
                submission.resolution = other;
                false
            }
        }
    }

    /// A round has given the lease of a submission a job. True if the history of the account may confirm it.
    pub(super) fn note_tied(&mut self, id: LeaseId, at: Duration) -> bool {
        let Some(submission) = self.submissions.get_mut(&id) else {
            return false;
        };
        let Resolution::Lost(lost) = &mut submission.resolution else {
            return false;
        };
        lost.tied_at = Some(at);
        let on = lost.on.filter(|_| submission.claim.is_some());
        self.undecided.extend(on.map(|(account, _)| account));
        on.is_some()
    }

    /// The job that a round had given to the lease of a submission turned out to be another's, or to be its own. Returns
    /// the account whose history was to confirm it.
    pub(super) fn note_untied(&mut self, id: LeaseId) -> Option<AccountKey> {
        let submission = self.submissions.get_mut(&id)?;
        match &mut submission.resolution {
            Resolution::Lost(lost) => {
                lost.tied_at.take()?;
                Some(lost.on?.0)
            }
            Resolution::Open | Resolution::Job(_) | Resolution::Given(..) => None,
        }
    }

    /// A submission has no lease (any more): it is forgotten after [`REMEMBERED_FOR`].
    pub(super) fn let_expire(&mut self, id: LeaseId, now: Duration) {
        let Some(submission) = self.submissions.get_mut(&id) else {
            return;
        };
        self.changes.note(|| id);
        let at = now + REMEMBERED_FOR;
        let old = submission.expires_at.replace(at);
        self.expiry.change(&id, old, Some(at));
    }

    /// A lease ends. True if the history of its account has to decide now.
    pub(super) fn end_lease(
        &mut self,
        id: LeaseId,
        lease: &Lease,
        email: &Arc<str>,
        cause: Cause,
        now: Duration,
    ) -> bool {
        let Some(submission) = self.submissions.get_mut(&id) else {
            return false;
        };
        self.changes.note(|| id);
        let is_keyed = submission.claim.is_some();
        match (&lease.phase, submission.kind, &mut submission.resolution) {
            // Still reserved: the call that is in flight will report the outcome.
            (Phase::Reserved { .. }, Kind::Forward, _) => false,
            // Its answer named its job, whatever its lease was matched to later.
            (_, Kind::Forward, Resolution::Job(_) | Resolution::Given(..)) => {
                self.let_expire(id, now);
                false
            }
            (Phase::Bound(binding), Kind::Forward, Resolution::Lost(lost))
                if binding.tied_from.is_some() =>
            {
                lost.ended_at = Some(now);
                self.let_expire(id, now);
                if cause == Cause::Released {
                    self.free(id);
                    return false;
                }
                if is_keyed {
                    self.undecided.insert(lease.account);
                }
                is_keyed
            }
            // Its mark named its job, and the call that is in flight will report the outcome.
            (Phase::Bound(binding), Kind::Forward, resolution @ Resolution::Open) if !is_keyed => {
                *resolution = Resolution::Job(binding.task_id.clone());
                submission.email = Some(Arc::clone(email));
                self.let_expire(id, now);
                false
            }
            (Phase::Bound(binding), Kind::Forward, Resolution::Open | Resolution::Lost(_)) => {
                self.accept(id, &binding.task_id, Some(Arc::clone(email)));
                self.let_expire(id, now);
                false
            }
            // An operator's release settles it: there is no job.
            (Phase::Uncertain { .. }, Kind::Forward, _) if cause == Cause::Released => {
                self.free(id);
                false
            }
            (Phase::Uncertain { .. }, Kind::Forward, resolution) => {
                let is_undecided = match resolution {
                    Resolution::Lost(lost) => {
                        lost.ended_at = Some(now);
                        is_keyed
                    }
                    // The body is unknown, so no history can decide.
                    Resolution::Open | Resolution::Job(_) | Resolution::Given(..) => false,
                };
                self.let_expire(id, now);
                if is_undecided {
                    self.undecided.insert(lease.account);
                }
                is_undecided
            }
            (_, Kind::Pick, _) => {
                self.free(id);
                false
            }
        }
    }

    /// Forgets the first submission whose time is over. Returns the account on which it was
    /// undecided.
    pub(super) fn next_expired(&mut self, now: Duration) -> Option<Option<AccountKey>> {
        let (_, id) = self.expiry.first_due(now)?;
        Some(self.free(id))
    }

    pub(super) fn next_deadline(&self) -> Nanos {
        self.expiry.next()
    }

    /// An account is forgotten.
    pub(super) fn forget_account(&mut self, account: AccountKey) {
        self.known.remove(account);
        // They have no keys: no client can ask for them.
        for id in self.lost.remove(account).unwrap_or_default() {
            self.free(id);
        }
    }
}
