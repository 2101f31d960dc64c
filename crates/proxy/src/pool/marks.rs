//! Marks: which leases they are of, and of which operations the upstream is known to keep them.
//!
//! The vendor documents that the scheduler's list shows the `replyRef` of a job, not that it does so where there is
//! no `replyUrl`. So each operation is tried first: one marked submission at a time, until a job was listed with
//! its mark. Until then a missing mark proves nothing.

#[cfg(any(test, feature = "fuzzing"))]
mod check;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
};

use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};

use super::{
    LeaseId, Mark, OperationName, changes::Changes, lease::Lease, sorted::behind, steps::Counted,
};
use crate::keyed_hash::HashKey;

/// An operation is marked no more after so many accepted jobs were listed without their marks.
const MISSES_MAX: u32 = 3;
/// An operation goes unmarked for the rest of the run after so many marked submissions in a row failed.
const FAILURES_MAX: u32 = 2;
/// The most operations that are marked: twice those that are known.
const OPERATIONS_MAX: usize = 32;

impl Mark {
    /// The mark of a lease. It is a keyed hash, since who knows the id of a lease may release it.
    pub(crate) fn of(key: &HashKey, lease: LeaseId) -> Self {
        let hash = key.hash("mark", &lease.digits());
        let [bytes, _] = hash.as_chunks().0 else {
            unreachable!("a hash has 32 bytes");
        };
        Self::new(*bytes)
    }
}

/// What is known for good of the marks of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LearntMarks {
    /// The upstream lists its jobs with their marks.
    Proven,
    /// The upstream refuses marks, or drops them: they are sent no more.
    Off,
}

/// What became known of the marks of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarksChange {
    /// Which operation.
    pub operation: OperationName,
    /// What is known now.
    pub to: MarksKnown,
}

/// What is known of the marks of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarksKnown {
    /// A job was listed with its mark.
    Proven,
    /// A job was listed without its mark: one submission at a time is tried again.
    Doubted,
    /// Too many jobs were listed without their marks: no more are sent.
    Dropped,
    /// The upstream took a submission only without its mark: no more are sent.
    Refused,
    /// Marked submissions failed: no more are sent until the next start.
    Suspended,
}

/// What is wrong with a marked submission, by the upstream's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkFault {
    /// It was refused because of its mark, and is sent again without it.
    Refused,
    /// Without its mark it was accepted.
    AcceptedWithout,
    /// The upstream refused it, by a server's error.
    ServerError,
}

#[derive(Debug, Default)]
pub(super) struct Marks {
    /// The leases that have marks, whether they were sent or not.
    leases: HashMap<Mark, LeaseId, RandomState>,
    operations: BTreeMap<OperationName, MarkedOperation>,
    /// Leases whose marked submissions were accepted, and whose jobs no round has listed since.
    unjudged: BTreeSet<LeaseId>,
    changes: Vec<MarksChange>,
    /// Operations of which something is to be kept over a restart.
    pub(super) records: Changes<OperationName>,
}

#[derive(Debug, Default)]
struct MarkedOperation {
    learnt: Option<LearntMarks>,
    /// The only marked submission while nothing is proven.
    canary: Option<LeaseId>,
    /// How many accepted jobs were listed without their marks.
    misses: u32,
    /// How many marked submissions in a row failed.
    failures: u32,
}

impl Marks {
    /// A lease has this mark.
    pub(super) fn add(&mut self, mark: Mark, id: LeaseId) {
        self.leases.entry(mark).or_insert(id);
    }

    /// A lease has ended.
    pub(super) fn end(&mut self, id: LeaseId, lease: &Lease) {
        if let Some(mark) = lease.mark()
            && self.leases.get(&mark) == Some(&id)
        {
            self.leases.remove(&mark);
        }
        self.unjudged.remove(&id);
        if let Some(operation) = lease.operation() {
            self.end_trial(operation, id);
        }
    }

    /// The lease that has this mark.
    pub(super) fn lease_of(&self, mark: Mark) -> Option<LeaseId> {
        self.leases.get(&mark).copied()
    }

    /// Whether the submission under a lease is sent with its mark. If nothing is proven, it is the only one.
    pub(super) fn admit(&mut self, operation: &OperationName, id: LeaseId) -> bool {
        let Some(marked) = self.entry(operation) else {
            return false;
        };
        if marked.failures >= FAILURES_MAX {
            return false;
        }
        match marked.learnt {
            Some(LearntMarks::Proven) => true,
            Some(LearntMarks::Off) => false,
            None => *marked.canary.get_or_insert(id) == id,
        }
    }

    /// Whether a missing mark proves that a job is not of a marked submission of this operation.
    pub(super) fn is_proven(&self, operation: &OperationName) -> bool {
        let marked = self.operations.get(operation);
        marked.is_some_and(|marked| marked.learnt == Some(LearntMarks::Proven))
    }

    /// Whether a client may use a mark for a job of this operation, or, if that is not known, of any.
    pub(super) fn is_offered(&self, operation: Option<&OperationName>) -> bool {
        let is_good = |marked: &MarkedOperation| {
            marked.learnt == Some(LearntMarks::Proven) && marked.failures < FAILURES_MAX
        };
        match operation {
            Some(operation) => self.operations.get(operation).is_some_and(is_good),
            None => self.operations.values().any(is_good),
        }
    }

    /// A job of this operation was listed with its mark, on its account.
    pub(super) fn note_kept(&mut self, operation: &OperationName) {
        let Some(marked) = self.entry(operation) else {
            return;
        };
        if marked.learnt.is_none() {
            marked.learnt = Some(LearntMarks::Proven);
            marked.canary = None;
            self.tell(operation, MarksKnown::Proven);
        }
    }

    /// An accepted job was listed without the mark that its submission under the lease `id` had.
    pub(super) fn note_missing(&mut self, operation: &OperationName, id: LeaseId) {
        let Some(marked) = self.entry(operation) else {
            return;
        };
        if marked.learnt == Some(LearntMarks::Off) {
            return;
        }
        let was_proven = marked.learnt.take().is_some();
        marked.misses += 1;
        if marked.misses >= MISSES_MAX {
            self.turn_off(operation, MarksKnown::Dropped);
            return;
        }
        self.end_trial(operation, id);
        if was_proven {
            self.tell(operation, MarksKnown::Doubted);
        }
    }

    /// A marked submission of this operation was accepted.
    pub(super) fn note_accepted(&mut self, operation: &OperationName) {
        if let Some(marked) = self.operations.get_mut(operation)
            && marked.failures < FAILURES_MAX
        {
            marked.failures = 0;
        }
    }

    /// A marked submission of this operation got a server's error, or its outcome is unknown.
    pub(super) fn note_failed(&mut self, operation: &OperationName) {
        let Some(marked) = self.entry(operation) else {
            return;
        };
        marked.failures += 1;
        if marked.failures == FAILURES_MAX && marked.learnt != Some(LearntMarks::Off) {
            self.tell(operation, MarksKnown::Suspended);
        }
    }

    /// The upstream took a submission of this operation only without its mark.
    pub(super) fn note_refused(&mut self, operation: &OperationName) {
        let known = self.operations.get(operation);
        if known.is_none_or(|marked| marked.learnt != Some(LearntMarks::Off)) {
            self.turn_off(operation, MarksKnown::Refused);
        }
    }

    /// A round has to list the job of this lease: with its mark, or without.
    pub(super) fn judge_later(&mut self, id: LeaseId) {
        self.unjudged.insert(id);
    }

    /// A round has listed the job of this lease.
    pub(super) fn note_judged(&mut self, id: LeaseId) {
        self.unjudged.remove(&id);
    }

    /// The first lease behind `after` whose job no round has listed yet.
    pub(super) fn next_unjudged(&self, after: Option<LeaseId>) -> Option<LeaseId> {
        let mut unjudged = self.unjudged.range(behind(after)).counted();
        unjudged.next().copied()
    }

    /// Whether anything became known since the last call.
    pub(super) fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// What became known since the last call.
    pub(super) fn take_changes(&mut self) -> Vec<MarksChange> {
        mem::take(&mut self.changes)
    }

    /// The operations that were marked, and in a word what is known of each.
    pub(super) fn known(&self) -> impl Iterator<Item = (&OperationName, &'static str)> {
        self.operations.iter().map(|(operation, marked)| {
            let known = match marked.learnt {
                Some(LearntMarks::Off) => "off",
                _ if marked.failures >= FAILURES_MAX => "suspended",
                Some(LearntMarks::Proven) => "proven",
                None => "unproven",
            };
            (operation, known)
        })
    }

    /// What is to be kept of an operation over a restart.
    pub(super) fn record(&self, operation: &OperationName) -> Option<LearntMarks> {
        self.operations.get(operation)?.learnt
    }

    /// What an earlier run learnt of an operation.
    pub(super) fn restore(&mut self, operation: &OperationName, learnt: LearntMarks) {
        if let Some(marked) = self.entry(operation) {
            marked.learnt = Some(learnt);
        }
    }

    fn end_trial(&mut self, operation: &OperationName, id: LeaseId) {
        if let Some(marked) = self.operations.get_mut(operation)
            && marked.canary == Some(id)
        {
            marked.canary = None;
        }
    }

    fn turn_off(&mut self, operation: &OperationName, why: MarksKnown) {
        if let Some(marked) = self.entry(operation) {
            marked.learnt = Some(LearntMarks::Off);
            marked.canary = None;
            self.tell(operation, why);
        }
    }

    fn tell(&mut self, operation: &OperationName, to: MarksKnown) {
        let operation = operation.clone();
        self.records.note(|| operation.clone());
        self.changes.push(MarksChange { operation, to });
    }

    fn entry(&mut self, operation: &OperationName) -> Option<&mut MarkedOperation> {
        if self.operations.len() >= OPERATIONS_MAX && !self.operations.contains_key(operation) {
            return None;
        }
        Some(self.operations.entry(operation.clone()).or_default())
    }
}
