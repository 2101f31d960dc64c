//! The leases, and every index of them.
//!
//! Invariant: a lease changes only in here, so that the indexes always agree with its phase: by
//! task, by age, by the job it stands for, by deadline, and, if rounds are held, the leases of each account
//! without a job, and how many leases of an account the newest round shows no job of.

#[cfg(any(test, feature = "fuzzing"))]
mod check;
mod notes;
mod unseen;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
    time::Duration,
};

use foldhash::fast::RandomState;
use slotmap::SecondaryMap;

use super::{
    AccountKey, Cause, LeaseCounts, LeaseId, LeaseState, Limits, TaskId,
    changes::Changes,
    deadlines::{Deadlines, NEVER, Nanos, nanos},
    lease::{Lease, Listed, Phase, Ttl},
    page::LeasePlace,
    sorted::{Sorted, behind},
    steps::Counted,
};
use unseen::Unseen;

/// The order in which leases without a job are matched to new jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MatchRank {
    Forward,
    Uncertain,
    Pick,
}

/// A lease in an order by time.
pub(super) type TimedPlace = (Duration, LeaseId);

#[derive(Debug)]
pub(super) struct Leases {
    limits: Limits,
    /// Each in memory of its own: a map of so large values holds a quarter of them in vain, and copies all when it grows.
    by_id: HashMap<LeaseId, Box<Lease>, RandomState>,
    by_task: HashMap<TaskId, LeaseId, RandomState>,
    by_age: Sorted<(Nanos, LeaseId)>,
    /// The deadlines of leases. That of a bound lease may be too early: rounds move the real one
    /// on, and it is looked up when this one comes.
    deadlines: Deadlines<LeaseId>,
    /// When the newest round was sent.
    round_sent_at: Option<Duration>,
    rounds: RoundIndexes,
    unseen: Unseen,
    counts: LeaseCounts,
    ended_counts: [u64; Cause::ALL.len()],
    pub(super) changes: Changes<LeaseId>,
}

/// Indexes for rounds. Empty if none are held.
#[derive(Debug, Default)]
struct RoundIndexes {
    /// Leases without a job, in the order in which they were made.
    unmatched: SecondaryMap<AccountKey, Vec<LeaseId>>,
    /// By the job that they stand for.
    stand_ins: BTreeMap<TaskId, LeaseId>,
    /// Picks whose ttl is over, by its end.
    overdue: BTreeSet<TimedPlace>,
    /// Lost submissions, by when no job of theirs can turn up any more.
    settling: BTreeSet<TimedPlace>,
    /// Leases whose jobs only a round gave them.
    tied: SecondaryMap<AccountKey, BTreeSet<LeaseId>>,
    /// Bound leases whose jobs the newest round does not list.
    unlisted: BTreeSet<LeaseId>,
    /// Bound leases whose jobs are over and still listed.
    releasing: BTreeSet<LeaseId>,
}

impl RoundIndexes {
    fn add(&mut self, id: LeaseId, lease: &Lease, settle: Duration) {
        if lease.is_tied()
            && let Some(entry) = self.tied.entry(lease.account)
        {
            entry.or_default().insert(id);
        }
        match &lease.phase {
            Phase::Reserved { stands_for } => {
                if let Some(job) = stands_for {
                    self.stand_ins.insert(job.task_id.clone(), id);
                }
                if let Some(ttl) = lease.ttl.filter(|_| lease.is_overdue) {
                    self.overdue.insert((ttl.ends_at(), id));
                }
            }
            Phase::Uncertain { sent_at, .. } => {
                let settled_at = Duration::from_nanos(*sent_at) + settle;
                self.settling.insert((settled_at, id));
            }
            Phase::Bound(binding) if !binding.is_listed => {
                self.unlisted.insert(id);
            }
            Phase::Bound(binding) if binding.over_at.is_some() => {
                self.releasing.insert(id);
            }
            Phase::Bound(_) => {}
        }
    }

    fn remove(&mut self, id: LeaseId, lease: &Lease, settle: Duration) {
        if lease.is_tied()
            && let Some(tied) = self.tied.get_mut(lease.account)
        {
            tied.remove(&id);
        }
        match &lease.phase {
            Phase::Reserved { stands_for } => {
                if let Some(job) = stands_for {
                    self.stand_ins.remove(&job.task_id);
                }
                if let Some(ttl) = lease.ttl.filter(|_| lease.is_overdue) {
                    self.overdue.remove(&(ttl.ends_at(), id));
                }
            }
            Phase::Uncertain { sent_at, .. } => {
                let settled_at = Duration::from_nanos(*sent_at) + settle;
                self.settling.remove(&(settled_at, id));
            }
            Phase::Bound(binding) if !binding.is_listed => {
                self.unlisted.remove(&id);
            }
            Phase::Bound(binding) if binding.over_at.is_some() => {
                self.releasing.remove(&id);
            }
            Phase::Bound(_) => {}
        }
    }

    fn add_unmatched(&mut self, id: LeaseId, account: AccountKey) {
        if let Some(entry) = self.unmatched.entry(account) {
            entry.or_default().push(id);
        }
    }

    fn remove_unmatched(&mut self, id: LeaseId, account: AccountKey) {
        if let Some(ids) = self.unmatched.get_mut(account) {
            let place = ids.iter().counted().position(|other| *other == id);
            if let Some(place) = place {
                ids.remove(place);
            }
        }
    }
}

/// The first place behind `after`, if it is not later than `until`.
fn next_until(
    places: &BTreeSet<TimedPlace>,
    after: Option<TimedPlace>,
    until: Duration,
) -> Option<TimedPlace> {
    let next = places.range(behind(after)).counted().next();
    next.filter(|(at, _)| *at <= until).copied()
}

impl Leases {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            by_id: HashMap::default(),
            by_task: HashMap::default(),
            by_age: Sorted::default(),
            deadlines: Deadlines::default(),
            round_sent_at: None,
            rounds: RoundIndexes::default(),
            unseen: Unseen::default(),
            counts: LeaseCounts::default(),
            ended_counts: [0; Cause::ALL.len()],
            changes: Changes::default(),
        }
    }

    pub(super) fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.by_id.get(&id).map(|lease| &**lease)
    }

    /// Some leases, at most `count`: those whose deadlines come first. Does not depend on a hasher.
    pub(super) fn sample(&self, count: usize) -> impl Iterator<Item = &Lease> {
        let all = (self.by_id.len() <= count).then(|| self.by_id.values());
        let first = all.is_none().then(|| self.deadlines.iter().take(count));
        let first = first.into_iter().flatten();
        let first = first.filter_map(|(_, id)| self.by_id.get(id));
        let all = all.into_iter().flatten().counted();
        all.chain(first).map(|lease| &**lease)
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// How many there are, by what is known of their jobs.
    pub(super) fn counts(&self) -> LeaseCounts {
        self.counts
    }

    /// The leases behind a place, oldest first.
    pub(super) fn after(
        &self,
        place: Option<LeasePlace>,
    ) -> impl Iterator<Item = (LeaseId, &Lease)> {
        let place = place.map(|place| (place.made_at, place.id));
        let ids = self
            .by_age
            .behind(move |it| place.is_some_and(|place| *it <= place));
        let ids = ids.counted();
        ids.filter_map(|(_, id)| Some((*id, &**self.by_id.get(id)?)))
    }

    /// The lease that is bound to a job.
    pub(super) fn of_task(&self, task_id: &TaskId) -> Option<LeaseId> {
        self.by_task.get(task_id).copied()
    }

    /// The lease that stands for a job.
    pub(super) fn stand_in(&self, task_id: &TaskId) -> Option<LeaseId> {
        self.rounds.stand_ins.get(task_id).copied()
    }

    /// Adds a lease that was just made: it is reserved.
    pub(super) fn insert(&mut self, id: LeaseId, mut lease: Box<Lease>) {
        lease.deadline = lease.next_deadline(&self.limits, self.round_sent_at);
        *self.counts.of(lease.kind(), lease.state()) += 1;
        self.changes.note(|| id);
        self.by_age.insert((nanos(lease.created_at()), id));
        self.deadlines.move_to(&id, NEVER, lease.deadline);
        if self.limits.reconciles {
            self.rounds.add_unmatched(id, lease.account);
            self.unseen.add(id, &lease);
        }
        self.by_id.insert(id, lease);
    }

    /// Removes a lease.
    pub(super) fn remove(&mut self, id: LeaseId, cause: Cause) -> Option<Box<Lease>> {
        let lease = self.by_id.remove(&id)?;
        *self.counts.of(lease.kind(), lease.state()) -= 1;
        self.changes.note(|| id);
        self.by_age.remove(&(nanos(lease.created_at()), id));
        self.deadlines.move_to(&id, lease.deadline, NEVER);
        if let Some(binding) = lease.binding() {
            self.by_task.remove(&binding.task_id);
        } else if self.limits.reconciles {
            self.rounds.remove_unmatched(id, lease.account);
        }
        if self.limits.reconciles {
            self.rounds.remove(id, &lease, self.limits.settle);
            self.unseen.remove(id, &lease);
        }
        self.ended_counts[cause as usize] += 1;
        Some(lease)
    }

    /// Changes the phase of a lease. Returns the old one.
    pub(super) fn set_phase(&mut self, id: LeaseId, phase: Phase) -> Option<Phase> {
        let lease = self.by_id.get(&id)?;
        // Which job a submission stands for is not kept.
        let is_kept =
            lease.state() != LeaseState::Reserved || phase.state() != LeaseState::Reserved;
        if is_kept {
            self.changes.note(|| id);
        }
        *self.counts.of(lease.kind(), lease.state()) -= 1;
        *self.counts.of(lease.kind(), phase.state()) += 1;
        let was_bound = lease.binding().is_some();
        if let Some(binding) = lease.binding() {
            self.by_task.remove(&binding.task_id);
        }
        if let Phase::Bound(binding) = &phase {
            self.by_task.insert(binding.task_id.clone(), id);
        }
        let (account, is_bound) = (lease.account, matches!(phase, Phase::Bound(_)));
        let old = self.change(id, |lease| mem::replace(&mut lease.phase, phase));
        if self.limits.reconciles {
            match (was_bound, is_bound) {
                (false, true) => self.rounds.remove_unmatched(id, account),
                (true, false) => self.rounds.add_unmatched(id, account),
                (true, true) | (false, false) => {}
            }
        }
        old
    }

    /// Restarts the ttl of a pick.
    pub(super) fn renew(&mut self, id: LeaseId, length: Duration, now: Duration) {
        self.changes.note(|| id);
        self.change(id, |lease| {
            if let Some(ttl) = &mut lease.ttl {
                *ttl = Ttl::new(length, now + length);
                lease.is_overdue = false;
            }
        });
    }

    /// Learns that the job of a lease is over.
    pub(super) fn note_over(&mut self, id: LeaseId, now: Duration) {
        self.change(id, |lease| {
            if let Phase::Bound(binding) = &mut lease.phase {
                binding.over_at.get_or_insert(now);
            }
        });
    }

    /// The newest round lists the job of a bound lease, or no longer.
    pub(super) fn set_listed(&mut self, id: LeaseId, is_listed: bool) {
        let listed_at = self.round_sent_at;
        self.change(id, |lease| match &mut lease.phase {
            Phase::Bound(binding) => {
                let was_listed = mem::replace(&mut binding.is_listed, is_listed);
                if let Some(at) = listed_at.filter(|_| was_listed && !is_listed) {
                    binding.listed_at = binding.listed_at.max(at);
                }
            }
            Phase::Reserved { stands_for } if !is_listed => *stands_for = None,
            Phase::Reserved { .. } | Phase::Uncertain { .. } => {}
        });
    }

    /// The holder of a lease named its bound job: the binding no longer rests on a round alone.
    pub(super) fn confirm(&mut self, id: LeaseId) {
        self.changes.note(|| id);
        self.change(id, |lease| {
            if let Phase::Bound(binding) = &mut lease.phase {
                binding.tied_from = None;
            }
        });
    }

    /// Passes the next lease that is older than the round that was sent at `sent_at` and not older than the one before.
    /// False if there is no further one.
    pub(super) fn pass_older(&mut self, sent_at: Duration) -> bool {
        let border = self.unseen.border();
        let mut behind = self.by_age.behind(|place| Some(*place) <= border);
        let next = behind.next().filter(|(made, _)| *made < nanos(sent_at));
        let Some(lease) = next.and_then(|(_, id)| Some((*id, self.by_id.get(id)?))) else {
            return false;
        };
        self.unseen.pass(lease.0, lease.1);
        true
    }

    /// A round that was sent at `sent_at` is the newest one now. All leases that are older were
    /// [passed](Self::pass_older).
    pub(super) fn note_round(&mut self, sent_at: Duration) {
        self.round_sent_at = Some(sent_at);
    }

    /// How many leases of an account are older than the newest round, which lists no job of theirs.
    pub(super) fn unseen_count(&self, account: AccountKey) -> u32 {
        self.unseen.count(account)
    }

    /// An account whose [`Self::unseen_count`] changed. It is not told again until that changes again.
    pub(super) fn next_unseen_changed(&mut self) -> Option<AccountKey> {
        self.unseen.next_changed()
    }

    /// The first lease whose deadline has come.
    pub(super) fn next_due(&mut self, now: Duration) -> Option<LeaseId> {
        while let Some((at, id)) = self.deadlines.first_due(now) {
            // Rounds may have listed its job since.
            self.change(id, |_| ())?;
            if self.by_id[&id].deadline == nanos(at) {
                return Some(id);
            }
        }
        None
    }

    /// The ttl of a pick was over `at` this time, which is not noted yet: a round decides. False if the
    /// first deadline that has come is no such one, or none has.
    pub(super) fn set_next_overdue(&mut self, at: Duration) -> bool {
        let due = self.next_due(at).filter(|id| {
            let lease = &self.by_id[id];
            lease.state() == LeaseState::Reserved && !lease.is_overdue
        });
        if let Some(id) = due {
            self.set_overdue(id);
        }
        due.is_some()
    }

    /// The ttl of a pick is over: a round decides.
    pub(super) fn set_overdue(&mut self, id: LeaseId) {
        self.change(id, |lease| lease.is_overdue = true);
    }

    pub(super) fn next_deadline(&self) -> Nanos {
        self.deadlines.next()
    }

    /// The first pick behind `after` whose time was up when a round was sent at `sent_at`.
    pub(super) fn next_overdue(
        &self,
        after: Option<TimedPlace>,
        sent_at: Duration,
    ) -> Option<TimedPlace> {
        next_until(&self.rounds.overdue, after, sent_at)
    }

    /// The first lost submission behind `after` of which no job could turn up any more when a round was sent at
    /// `sent_at`.
    pub(super) fn next_settled(
        &self,
        after: Option<TimedPlace>,
        sent_at: Duration,
    ) -> Option<TimedPlace> {
        next_until(&self.rounds.settling, after, sent_at)
    }

    /// A round lists no job of a lost submission. Returns how many in a row did not.
    pub(super) fn count_absence(&mut self, id: LeaseId) -> u32 {
        // No index depends on the count.
        match self.by_id.get_mut(&id).map(|lease| &mut lease.phase) {
            Some(Phase::Uncertain { absences, .. }) => {
                *absences += 1;
                *absences
            }
            Some(Phase::Reserved { .. } | Phase::Bound(_)) | None => 0,
        }
    }

    /// The first bound lease behind `after` whose job the newest round does not list.
    pub(super) fn next_unlisted(&self, after: Option<LeaseId>) -> Option<LeaseId> {
        let mut unlisted = self.rounds.unlisted.range(behind(after)).counted();
        unlisted.next().copied()
    }

    /// Whether the newest round lists a job that is known to be over.
    pub(super) fn has_releasing(&self) -> bool {
        !self.rounds.releasing.is_empty()
    }

    /// The first job behind `after` that a lease stands for.
    pub(super) fn next_stand_in(&self, after: Option<TaskId>) -> Option<TaskId> {
        let mut stand_ins = self.rounds.stand_ins.range(behind(after)).counted();
        stand_ins.next().map(|(task_id, _)| task_id.clone())
    }

    /// Takes back a job from the lease that stands for it, if one does.
    pub(super) fn take_stood_for(&mut self, task_id: &TaskId) -> Option<Listed> {
        self.take_stand_in(self.stand_in(task_id)?)
    }

    /// Takes back the job that a lease stands for.
    fn take_stand_in(&mut self, id: LeaseId) -> Option<Listed> {
        self.change(id, |lease| match &mut lease.phase {
            Phase::Reserved { stands_for } => stands_for.take().map(|job| *job),
            Phase::Uncertain { .. } | Phase::Bound(_) => None,
        })?
    }

    /// The leases of an account without a job that were made `before`, in the order in which they
    /// are matched to new jobs.
    pub(super) fn without_job(
        &self,
        account: AccountKey,
        before: Duration,
    ) -> Vec<(MatchRank, LeaseId)> {
        let ids = self.rounds.unmatched.get(account);
        let ids = ids.map_or(&[][..], Vec::as_slice).iter().counted();
        let mut leases: Vec<_> = ids
            .filter_map(|id| {
                let lease = self.by_id.get(id)?;
                let rank = match (&lease.phase, lease.ttl) {
                    (Phase::Reserved { .. }, None) => MatchRank::Forward,
                    (Phase::Uncertain { .. }, _) => MatchRank::Uncertain,
                    (Phase::Reserved { .. }, Some(_)) if self.limits.ties_picks => MatchRank::Pick,
                    (Phase::Reserved { .. }, Some(_)) | (Phase::Bound(_), _) => return None,
                };
                (lease.created_at() < before).then_some(((rank, lease.created_at()), *id))
            })
            .collect();
        leases.sort_unstable();
        let ranked = leases.into_iter().map(|((rank, _), id)| (rank, id));
        ranked.collect()
    }

    /// When the oldest submission of an account started that is under way and not lost.
    pub(super) fn under_way_since(&self, account: AccountKey) -> Option<Duration> {
        let ids = self.rounds.unmatched.get(account);
        let ids = ids.map_or(&[][..], Vec::as_slice).iter().counted();
        let leases = ids.filter_map(|id| self.by_id.get(id));
        let under_way = leases.filter(|lease| lease.state() == LeaseState::Reserved);
        under_way.map(|lease| lease.created_at()).min()
    }

    pub(super) fn ended_counts(&self) -> [u64; Cause::ALL.len()] {
        self.ended_counts
    }

    /// An account is forgotten: it has no leases.
    pub(super) fn forget_account(&mut self, account: AccountKey) {
        self.rounds.unmatched.remove(account);
        self.rounds.tied.remove(account);
        self.unseen.forget_account(account);
    }

    /// Changes a lease, and the indexes of deadlines and rounds with it.
    fn change<T>(&mut self, id: LeaseId, change: impl FnOnce(&mut Lease) -> T) -> Option<T> {
        let lease = self.by_id.get_mut(&id)?;
        if self.limits.reconciles {
            self.rounds.remove(id, lease, self.limits.settle);
        }
        let was_unseen = self.unseen.is_unseen(id, lease);
        let changed = change(lease);
        if self.limits.reconciles {
            self.rounds.add(id, lease, self.limits.settle);
            self.unseen.note_change(id, lease, was_unseen);
        }
        let deadline = lease.next_deadline(&self.limits, self.round_sent_at);
        let old = mem::replace(&mut lease.deadline, deadline);
        self.deadlines.move_to(&id, old, deadline);
        Some(changed)
    }
}
