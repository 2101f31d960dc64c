//! What became of submissions that somebody may ask about, also after their leases ended, and the
//! idempotency keys under which they are asked about.
//!
//! Invariant: a key leads to one lease. It is free again only where its submission provably became no job:
//! refused, never sent, given back by hand, or shown to be absent by the history of its account. A
//! full table refuses new keys; it forgets none before its time.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use foldhash::fast::RandomState;
use slotmap::SecondaryMap;

use super::{
    AccountKey, Cause, History, LeaseId, LeaseView, TaskId,
    history::{self, Body, Lost, Shown, Verdict},
    known_tasks::{AcceptedJob, KnownTask, KnownTasks},
    lease::{Kind, Lease, Phase},
    steps::{self, Counted},
};

/// The most keys at once: more than a job a minute on each of 50 accounts, for a day.
pub const KEYS_MAX: usize = 100_000;
/// How long a submission is remembered after it was decided, or lost for good.
pub const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 3600);
/// The most lost submissions without a key that are remembered: they can only be mistaken for one with
/// a key.
const UNKEYED_MAX: usize = 10_000;
/// The most tasks that are named as what a lost submission may have become.
const CANDIDATES_MAX: usize = 20;

/// An idempotency key with its scope: the same word of another client or for another operation is another
/// key. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// The key that this text names.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }
}

/// A call under an idempotency key.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The key.
    pub key: Key,
    /// Tells the call from another one under the same key.
    pub fingerprint: u64,
}

/// What a key stands for already, so that the call under it gets nothing new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// A call that is being answered, or a lost submission that may have become one of these tasks.
    InUse(Vec<TaskId>),
    /// Another call.
    Reused,
    /// A pick's lease that is held.
    Held(Box<LeaseView>),
    /// A job.
    Job {
        /// Which job.
        task_id: TaskId,
        /// On which account, if that is known.
        email: Option<Arc<str>>,
        /// The lease that its submission had.
        lease: LeaseId,
    },
    /// Nothing: but there is no room for one more key.
    Full,
}

#[derive(Debug)]
pub(super) struct Resolutions {
    keys_max: usize,
    /// Whether histories are read: else tasks need not be known.
    is_tracking: bool,
    submissions: HashMap<LeaseId, Submission, RandomState>,
    by_key: HashMap<Key, LeaseId, RandomState>,
    /// Lost submissions, by account.
    lost: SecondaryMap<AccountKey, BTreeSet<LeaseId>>,
    /// Accounts on which submissions with keys are undecided.
    undecided: BTreeSet<AccountKey>,
    /// When submissions are forgotten.
    expiry: BTreeSet<(Duration, LeaseId)>,
    /// Lost submissions without a key, by when they were lost.
    unkeyed: BTreeSet<(Duration, LeaseId)>,
    known: SecondaryMap<AccountKey, KnownTasks>,
    shown: Shown,
}

#[derive(Debug)]
struct Submission {
    claim: Option<Claim>,
    kind: Kind,
    email: Option<Arc<str>>,
    outcome: Outcome,
    /// When it is forgotten.
    expires_at: Option<Duration>,
}

/// What is known of a submission whose lease does not tell.
#[derive(Debug)]
enum Outcome {
    /// It is on its way, or its lease tells more.
    Open,
    /// Nobody knows.
    Lost(LostSubmission),
    /// There is a job.
    Job(TaskId),
}

#[derive(Debug)]
struct LostSubmission {
    body: Option<Body>,
    /// The account on which it was lost, and since when its lease was there. `None`: an account that we
    /// do not know.
    on: Option<(AccountKey, Duration)>,
    /// When the last byte of it was sent.
    lost_at: Duration,
    /// Since when it has no lease.
    ended_at: Option<Duration>,
    /// What the history of its account shows that may be its.
    candidates: Vec<TaskId>,
}

/// An account whose history has to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecided {
    /// Which account.
    pub email: Arc<str>,
    /// Its name in logs.
    pub alias: Arc<str>,
    /// When the newest of its lost submissions lost its slot.
    pub since: Duration,
}

impl Resolutions {
    pub(super) fn new(keys_max: usize, is_tracking: bool) -> Self {
        Self {
            keys_max,
            is_tracking,
            submissions: HashMap::default(),
            by_key: HashMap::default(),
            lost: SecondaryMap::new(),
            undecided: BTreeSet::new(),
            expiry: BTreeSet::new(),
            unkeyed: BTreeSet::new(),
            known: SecondaryMap::new(),
            shown: Shown::default(),
        }
    }

    /// Claims a key for the call that will have the lease `lease`. The same call may claim it again.
    ///
    /// # Errors
    /// What the key stands for.
    pub(super) fn claim(
        &mut self,
        claim: &Claim,
        lease: LeaseId,
        kind: Kind,
        of_lease: impl FnOnce(LeaseId) -> Option<LeaseView>,
    ) -> Result<(), Known> {
        if self.by_key.get(&claim.key) == Some(&lease) {
            return Ok(());
        }
        if let Some(known) = self.recall(claim, of_lease) {
            return Err(known);
        }
        if self.by_key.len() >= self.keys_max {
            return Err(Known::Full);
        }
        self.by_key.insert(claim.key.clone(), lease);
        let submission = Submission {
            claim: Some(claim.clone()),
            kind,
            email: None,
            outcome: Outcome::Open,
            expires_at: None,
        };
        self.submissions.insert(lease, submission);
        Ok(())
    }

    /// What a key stands for already.
    pub(super) fn recall(
        &self,
        claim: &Claim,
        of_lease: impl FnOnce(LeaseId) -> Option<LeaseView>,
    ) -> Option<Known> {
        let id = *self.by_key.get(&claim.key)?;
        let submission = self.submissions.get(&id)?;
        let known = submission.claim.as_ref();
        if known.is_some_and(|known| known.fingerprint != claim.fingerprint) {
            return Some(Known::Reused);
        }
        let job = |task_id, email| Known::Job {
            task_id,
            email,
            lease: id,
        };
        let in_use = Known::InUse(Vec::new());
        Some(match (of_lease(id), submission.kind, &submission.outcome) {
            (Some(lease), Kind::Pick, _) => Known::Held(Box::new(lease)),
            (Some(lease), Kind::Forward, _) => {
                let email = Some(lease.email);
                lease.task_id.map_or(in_use, |task_id| job(task_id, email))
            }
            (None, Kind::Forward, Outcome::Job(task_id)) => {
                job(task_id.clone(), submission.email.clone())
            }
            (None, Kind::Forward, Outcome::Lost(lost)) => Known::InUse(lost.candidates.clone()),
            (None, Kind::Pick | Kind::Forward, _) => in_use,
        })
    }

    /// Whether submissions with keys are undecided on an account.
    pub(super) fn is_undecided(&self, account: AccountKey) -> bool {
        self.undecided.contains(&account)
    }

    /// Whether a call with this key would get nothing new.
    pub(super) fn knows(&self, key: &Key) -> bool {
        self.by_key.contains_key(key)
    }

    /// Nothing came of a submission: its key is free. Returns the account on which it was undecided.
    pub(super) fn free(&mut self, id: LeaseId) -> Option<AccountKey> {
        let undecided = self.set_outcome(id, Outcome::Open);
        let submission = self.submissions.remove(&id)?;
        if let Some(claim) = &submission.claim {
            self.by_key.remove(&claim.key);
        }
        if let Some(at) = submission.expires_at {
            self.expiry.remove(&(at, id));
        }
        undecided
    }

    /// Replaces what is known of a submission. Returns the account on which it was undecided until now.
    fn set_outcome(&mut self, id: LeaseId, outcome: Outcome) -> Option<AccountKey> {
        let submission = self.submissions.get_mut(&id)?;
        let old = std::mem::replace(&mut submission.outcome, outcome);
        let (Outcome::Lost(lost), is_keyed) = (old, submission.claim.is_some()) else {
            return None;
        };
        if !is_keyed {
            self.unkeyed.remove(&(lost.lost_at, id));
        }
        let (account, _) = lost.on?;
        if let Some(of_account) = self.lost.get_mut(account) {
            of_account.remove(&id);
        }
        lost.ended_at.filter(|_| is_keyed).map(|_| account)
    }

    /// Nobody knows what came of a submission. `on`: the account of its lease, and since when that is
    /// there.
    pub(super) fn lose(
        &mut self,
        id: LeaseId,
        body: Option<Body>,
        email: Option<Arc<str>>,
        on: Option<(AccountKey, Duration)>,
        lost_at: Duration,
    ) {
        if let (Entry::Vacant(entry), Some(_)) = (self.submissions.entry(id), &body) {
            entry.insert(Submission {
                claim: None,
                kind: Kind::Forward,
                email: None,
                outcome: Outcome::Open,
                expires_at: None,
            });
        }
        if !self.submissions.contains_key(&id) {
            return;
        }
        let lost = LostSubmission {
            body,
            on,
            lost_at,
            ended_at: None,
            candidates: Vec::new(),
        };
        self.set_outcome(id, Outcome::Lost(lost));
        if let Some((account, _)) = on
            && let Some(entry) = self.lost.entry(account)
        {
            entry.or_default().insert(id);
        }
        let Some(submission) = self.submissions.get_mut(&id) else {
            return;
        };
        submission.email = email;
        if submission.claim.is_none() {
            self.unkeyed.insert((lost_at, id));
            if self.unkeyed.len() > UNKEYED_MAX
                && let Some((_, oldest)) = self.unkeyed.first().copied()
            {
                self.free(oldest);
            }
        }
    }

    /// The answer to a submission names its job.
    pub(super) fn accept(&mut self, id: LeaseId, task_id: &TaskId, email: Option<Arc<str>>) {
        self.set_outcome(id, Outcome::Job(task_id.clone()));
        if let Some(submission) = self.submissions.get_mut(&id) {
            submission.email = email;
        }
    }

    /// A submission has no lease, or no longer: it is forgotten in time.
    pub(super) fn let_expire(&mut self, id: LeaseId, now: Duration) {
        let Some(submission) = self.submissions.get_mut(&id) else {
            return;
        };
        let at = now + REMEMBERED_FOR;
        if let Some(old) = submission.expires_at.replace(at) {
            self.expiry.remove(&(old, id));
        }
        self.expiry.insert((at, id));
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
        let is_keyed = submission.claim.is_some();
        match (&lease.phase, submission.kind) {
            // Whoever waits for the answer knows more.
            (Phase::Reserved { .. }, Kind::Forward) => false,
            (Phase::Bound(bond), Kind::Forward) if is_keyed => {
                self.accept(id, &bond.task_id, Some(Arc::clone(email)));
                self.let_expire(id, now);
                false
            }
            // Given back by hand: whoever did it knows that there is no job.
            (Phase::Uncertain { .. }, Kind::Forward) if cause != Cause::Released => {
                if let Outcome::Lost(lost) = &mut submission.outcome {
                    lost.ended_at = Some(now);
                    self.let_expire(id, now);
                }
                if is_keyed {
                    self.undecided.insert(lease.account);
                }
                is_keyed
            }
            (_, Kind::Pick) | (Phase::Bound(_) | Phase::Uncertain { .. }, Kind::Forward) => {
                self.free(id);
                false
            }
        }
    }

    /// Forgets the first submission whose time is over, with the account on which it was undecided.
    pub(super) fn next_expired(&mut self, now: Duration) -> Option<Option<AccountKey>> {
        let (at, id) = self.expiry.first().copied()?;
        if at > now {
            return None;
        }
        steps::step();
        Some(self.free(id))
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.expiry.first().map(|(at, _)| *at)
    }

    /// The accounts whose histories have to be read, with when the newest submission was lost there.
    pub(super) fn undecided(&self) -> impl Iterator<Item = (AccountKey, Duration)> {
        self.undecided.iter().counted().map(|account| {
            let lost = self.keyed(*account);
            let since = lost.filter_map(|lost| lost.ended_at).max();
            (*account, since.unwrap_or_default())
        })
    }

    /// The submissions with keys that are undecided on an account.
    fn keyed(&self, account: AccountKey) -> impl Iterator<Item = &LostSubmission> {
        let lost = self.lost.get(account).into_iter().flatten().counted();
        lost.filter_map(|id| {
            let submission = &self.submissions[id];
            match &submission.outcome {
                Outcome::Lost(lost) if submission.claim.is_some() && lost.ended_at.is_some() => {
                    Some(lost)
                }
                Outcome::Lost(_) | Outcome::Open | Outcome::Job(_) => None,
            }
        })
    }

    /// Whether one of these tasks is older than every undecided submission of an account: then nothing
    /// behind it can be of one.
    pub(super) fn reaches_back(&self, account: AccountKey, task_ids: &[TaskId]) -> bool {
        let since = self.keyed(account).filter_map(|lost| lost.on);
        let Some(oldest) = since.map(|(_, since)| since).min() else {
            return true;
        };
        let known = self.known.get(account);
        let mut tasks = task_ids.iter();
        known.is_some_and(|known| tasks.any(|task_id| known.is_older(task_id, oldest)))
    }

    /// A task was seen on an account.
    pub(super) fn note_task(
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
        Some(known.note(task_id, now, has_lost))
    }

    /// A reply or a client named a task to a lease.
    pub(super) fn note_named(&mut self, account: AccountKey, task_id: &TaskId, now: Duration) {
        if let Some(task) = self.note_task(account, task_id, now) {
            task.is_named = true;
        }
    }

    /// A submission was accepted, and its reply passed through here.
    pub(super) fn note_accepted(
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
            task.is_named = true;
            task.accepted = Some(Box::new(job));
        }
    }

    /// Decides about the lost submissions of an account by its history, which was asked for at `asked_at`.
    /// `task_of` tells the job that a round gave to a lease. Returns how many keys are decided.
    pub(super) fn decide(
        &mut self,
        account: AccountKey,
        history: &History,
        asked_at: Duration,
        settle: Duration,
        task_of: impl Fn(LeaseId) -> Option<TaskId>,
        now: Duration,
    ) -> usize {
        let unknown = KnownTasks::default();
        let known = self.known.get(account).unwrap_or(&unknown);
        self.shown.learn(&history.rows, known);
        let ids = self.lost.get(account).into_iter().flatten().counted();
        let lost = ids.filter_map(|id| {
            let Outcome::Lost(lost) = &self.submissions[id].outcome else {
                return None;
            };
            let is_over = lost.ended_at.is_some_and(|at| at <= asked_at);
            Some(Lost {
                id: *id,
                body: lost.body.as_ref()?,
                since: lost.on?.1,
                tied_to: task_of(*id),
                is_settled: is_over && lost.lost_at + settle <= asked_at,
            })
        });
        let mut lost: Vec<_> = lost.collect();
        lost.sort_unstable_by_key(|lost| (lost.since, lost.id));
        let verdicts = history::decide(&lost, history, known, &self.shown);
        let mut decided_count = 0;
        for (id, verdict) in verdicts {
            decided_count += usize::from(self.take_verdict(id, verdict));
        }
        // The newest last: what is known longest is forgotten first.
        for row in history.rows.iter().rev().counted() {
            self.note_task(account, &row.task_id, now);
        }
        decided_count
    }

    /// True if a key is decided by it.
    fn take_verdict(&mut self, id: LeaseId, verdict: Verdict) -> bool {
        let Some(submission) = self.submissions.get_mut(&id) else {
            return false;
        };
        let is_keyed = submission.claim.is_some();
        let Outcome::Lost(lost) = &mut submission.outcome else {
            return false;
        };
        // Its lease decides as long as there is one.
        if lost.ended_at.is_none() {
            return false;
        }
        match verdict {
            Verdict::Unknown(mut candidates) => {
                candidates.truncate(CANDIDATES_MAX);
                lost.candidates = candidates;
                false
            }
            Verdict::NoJob => {
                self.free(id);
                is_keyed
            }
            Verdict::Job(task_id) => {
                self.set_outcome(id, Outcome::Job(task_id));
                is_keyed
            }
        }
    }

    /// Something was decided on an account. True if nothing is left there.
    pub(super) fn is_decided(&mut self, account: AccountKey) -> bool {
        let is_decided = self.keyed(account).next().is_none();
        if is_decided {
            self.undecided.remove(&account);
        }
        is_decided
    }

    /// An account is forgotten.
    pub(super) fn forget_account(&mut self, account: AccountKey) {
        self.known.remove(account);
        // Without keys: nobody asks about them.
        for id in self.lost.remove(account).unwrap_or_default() {
            self.free(id);
        }
    }
}
