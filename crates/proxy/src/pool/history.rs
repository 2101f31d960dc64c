//! Finds the tasks of lost submissions in an account's history.
//!
//! A round lists the jobs that run; a job that came and went between two rounds is in neither. The
//! history of the account (`GET /tasks?email=`) lists every task, whatever became of it. This
//! module decides from data alone what a history proves about a task:
//!
//! - **older** than a submission: it was known before the submission's first byte, or it is listed
//!   behind such a task, or its `createTime` is smaller than such a task's;
//! - **not ours**: it was named to another lease, or it has another prompt or type, and a history
//!   has shown an accepted job of the operation with both unchanged;
//! - **ours**: it agrees with the body in everything that both show, it agrees with no submission
//!   of another body, and it has been known for longer than any submission has been under way.
//!   Equal submissions get equal tasks one to one, and no task twice;
//! - **absent**: no task is left that could be ours, the history was read far enough, and histories
//!   show accepted jobs of the operation.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    mem,
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    Digest, Fingerprint, HistoryRow, LeaseId, OperationName, TaskId,
    changes::Changes,
    known_tasks::{KnownTasks, Taken},
    steps::Counted,
};

/// The most tasks that are read of a history: ten pages of a hundred.
pub const TASKS_MAX: usize = 1000;
/// The most operations for which we remember how histories show them: twice those that are known.
const OPERATIONS_MAX: usize = 32;
/// The most types of tasks that are remembered for one operation.
const TYPES_MAX: usize = 16;

/// What is known of the body of a submission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Body {
    /// The operation that it starts.
    pub operation: OperationName,
    /// Two different bodies of one operation have different fingerprints.
    pub fingerprint: Fingerprint,
    /// Its prompt, if it has one.
    pub prompt: Option<Digest>,
}

impl Body {
    /// Whether both start the same job.
    pub(super) fn is_equal(&self, other: &Self) -> bool {
        self.operation == other.operation && self.fingerprint == other.fingerprint
    }
}

/// The history of an account, as far as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Newest first.
    pub rows: Vec<HistoryRow>,
    /// It was read to its end.
    pub is_whole: bool,
    /// It has rows that cannot be read: they may be any task.
    pub has_unreadable: bool,
}

/// A submission that was lost.
#[derive(Debug)]
pub(super) struct Lost<'a> {
    pub(super) id: LeaseId,
    pub(super) body: &'a Body,
    /// When its slot was taken: before its first byte.
    pub(super) since: Duration,
    /// A round gave it this job.
    pub(super) tied_to: Option<TaskId>,
    /// Its job cannot turn up any more.
    pub(super) is_settled: bool,
}

/// What a history says about a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HistoryVerdict {
    /// It became this job.
    Job(TaskId),
    /// It became none.
    NoJob,
    /// It may have become one of these, or none.
    Unknown(Vec<TaskId>),
}

/// How histories show the jobs of operations.
#[derive(Debug, Default)]
pub(super) struct Shown {
    operations: BTreeMap<OperationName, ShownOperation>,
    pub(super) changes: Changes<OperationName>,
}

/// How histories show the jobs of one operation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ShownOperation {
    /// What accepted jobs were called.
    types: BTreeSet<Arc<str>>,
    /// A history has shown an accepted job.
    is_shown: bool,
    /// A history has shown one with its type and prompt unchanged.
    is_unchanged: bool,
    /// A history has shown one with another type or prompt.
    is_changed: bool,
}

impl ShownOperation {
    /// Another type or prompt proves another submission.
    fn tells_apart(&self) -> bool {
        self.is_unchanged && !self.is_changed
    }
}

impl Shown {
    /// The reply to a submission names the type of its task.
    pub(super) fn learn_type(&mut self, operation: &OperationName, task_type: &Arc<str>) {
        self.change(operation, |shown| {
            if shown.types.len() < TYPES_MAX {
                shown.types.insert(Arc::clone(task_type));
            }
        });
    }

    /// Learns how a history shows jobs that are known.
    pub(super) fn learn(&mut self, rows: &[HistoryRow], known: &KnownTasks) {
        for row in rows.iter().counted() {
            let task = known.get(&row.task_id);
            let Some(job) = task.and_then(|task| task.accepted.as_deref()) else {
                continue;
            };
            // A prompt that was not sent, or a type that no reply named, proves nothing.
            let has_both = job.task_type.is_some() && job.prompt.is_some();
            let is_changed = (job.task_type.is_some() && job.task_type != row.task_type)
                || (job.prompt.is_some() && job.prompt != row.prompt);
            self.change(&job.operation, |shown| {
                shown.is_shown = true;
                shown.is_unchanged |= has_both && !is_changed;
                shown.is_changed |= is_changed;
            });
        }
    }

    fn change(&mut self, operation: &OperationName, change: impl FnOnce(&mut ShownOperation)) {
        let is_full = self.operations.len() >= OPERATIONS_MAX;
        if is_full && !self.operations.contains_key(operation) {
            return;
        }
        let shown = self.operations.entry(Arc::clone(operation)).or_default();
        let before = self.changes.are_recorded().then(|| shown.clone());
        change(shown);
        if before.is_some_and(|before| before != *shown) {
            self.changes.note(|| Arc::clone(operation));
        }
    }

    pub(super) fn get(&self, operation: &OperationName) -> Option<&ShownOperation> {
        self.operations.get(operation)
    }

    /// What was learnt before a restart.
    pub(super) fn restore(&mut self, operation: OperationName, shown: ShownOperation) {
        self.change(&operation, |known| *known = shown);
    }

    fn has_shown(&self, operation: &OperationName) -> bool {
        self.operations
            .get(operation)
            .is_some_and(|shown| shown.is_shown)
    }

    fn is_type_of_another(&self, operation: &OperationName, task_type: &Arc<str>) -> bool {
        let is_its = |name: &OperationName| self.operations[name].types.contains(task_type);
        !is_its(operation) && self.operations.keys().any(is_its)
    }

    /// Whether type or prompt prove that the task is not of this submission.
    fn excludes(&self, body: &Body, row: &HistoryRow) -> bool {
        let Some(shown) = self.operations.get(&body.operation) else {
            return false;
        };
        let is_another_prompt = match (body.prompt, row.prompt) {
            (Some(sent), Some(shown)) if sent == shown => return false,
            (sent, shown) => sent.is_some() && shown.is_some(),
        };
        let another_type = row.task_type.as_ref();
        // An operation may have types that no reply has named yet.
        let is_another_type =
            another_type.is_some_and(|it| self.is_type_of_another(&body.operation, it));
        shown.tells_apart() && (is_another_prompt || is_another_type)
    }

    /// Whether the task agrees with the body in everything that both show.
    fn agrees(&self, body: &Body, row: &HistoryRow) -> bool {
        let is_same_prompt = match (body.prompt, row.prompt) {
            (Some(sent), Some(shown)) => sent == shown,
            _ => true,
        };
        let types = self
            .operations
            .get(&body.operation)
            .map(|shown| &shown.types);
        let is_same_type = match (types, &row.task_type) {
            (Some(types), Some(task_type)) => types.is_empty() || types.contains(task_type),
            _ => true,
        };
        is_same_prompt && is_same_type
    }
}

/// Decides about all lost submissions of one account, `lost`, by its history. `under_way`: when the
/// oldest of the account's other submissions started.
pub(super) fn decide(
    lost: &[Lost<'_>],
    history: &History,
    known: &KnownTasks,
    shown: &Shown,
    under_way: Option<Duration>,
) -> Vec<(LeaseId, HistoryVerdict)> {
    let mut views: Vec<_> = lost
        .iter()
        .map(|lost| View::new(lost, history, known, shown))
        .collect();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (idx, view) in views.iter().enumerate() {
        let mut equals = groups.iter_mut();
        match equals.find(|group| views[group[0]].is_equal(view)) {
            Some(group) => group.push(idx),
            None => groups.push(vec![idx]),
        }
    }
    let may_be_under_way =
        |row: &HistoryRow| under_way.is_some_and(|since| !known.is_older(&row.task_id, since));
    let matches = match_rows(&views, &groups, history, shown, known);
    let mut verdicts = Vec::new();
    for (number, group) in groups.iter().enumerate() {
        // Rounds gave these tasks to equal submissions already.
        let tied: HashSet<_> = group
            .iter()
            .filter_map(|idx| lost[*idx].tied_to.clone())
            .collect();
        let is_shared_out = |row: usize| tied.contains(&history.rows[row].task_id);
        let is_its = |row: usize| {
            matches[row] == RowMatch::Group(number) && !may_be_under_way(&history.rows[row])
        };
        let confirmed = group
            .iter()
            .filter_map(|idx| confirmed_tie(&lost[*idx], history, is_its));
        verdicts.extend(confirmed);
        let waiting = group.iter().copied();
        let waiting: Vec<_> = waiting.filter(|idx| lost[*idx].tied_to.is_none()).collect();
        // Oldest first, as the submissions are.
        let mut own: Vec<_> = (0..history.rows.len())
            .rev()
            .counted()
            .filter(|row| matches[*row] == RowMatch::Group(number) && !is_shared_out(*row))
            .collect();
        // If there are more equal tasks than submissions, it is unknown which ones are theirs.
        let is_told = own.len() <= waiting.len()
            && !own.iter().any(|row| may_be_under_way(&history.rows[*row]));
        let (settled, others): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|idx| lost[*idx].is_settled);
        // Submissions whose jobs may still turn up get their verdict later: settled ones choose
        // first.
        for idx in settled.into_iter().chain(others) {
            let candidates = mem::take(&mut views[idx].candidates);
            let place = own.iter().position(|row| candidates.contains(row));
            if let Some(place) = place.filter(|_| is_told && lost[idx].is_settled) {
                let task_id = history.rows[own.remove(place)].task_id.clone();
                verdicts.push((lost[idx].id, HistoryVerdict::Job(task_id)));
                continue;
            }
            let is_others = |row: &usize| {
                is_told && matches[*row] == RowMatch::Group(number) && !own.contains(row)
            };
            let left = candidates
                .iter()
                .filter(|row| !is_others(row) && !is_shared_out(**row));
            let left: Vec<_> = left.map(|row| history.rows[*row].task_id.clone()).collect();
            let is_proven = views[idx].reaches_back
                && !history.has_unreadable
                && lost[idx].is_settled
                && shown.has_shown(&lost[idx].body.operation);
            let verdict = if left.is_empty() && is_proven {
                HistoryVerdict::NoJob
            } else {
                HistoryVerdict::Unknown(left)
            };
            verdicts.push((lost[idx].id, verdict));
        }
    }
    verdicts
}

/// The verdict that a submission became the job that a round gave to it, if the row of that task `is_its`, and shows the
/// prompt that was submitted.
fn confirmed_tie(
    lost: &Lost<'_>,
    history: &History,
    is_its: impl Fn(usize) -> bool,
) -> Option<(LeaseId, HistoryVerdict)> {
    let tied_to = lost.tied_to.as_ref()?;
    let mut rows = history.rows.iter().counted();
    let row = rows.position(|row| row.task_id == *tied_to)?;
    let shown = history.rows[row].prompt;
    let is_confirmed = shown.is_some() && shown == lost.body.prompt && is_its(row);
    is_confirmed.then(|| (lost.id, HistoryVerdict::Job(tied_to.clone())))
}

/// The history as one submission sees it.
struct View<'a> {
    lost: &'a Lost<'a>,
    /// Rows that may be its task: neither older nor of another submission.
    candidates: BTreeSet<usize>,
    /// The history was read to its end, or to a task that is older.
    reaches_back: bool,
}

impl<'a> View<'a> {
    fn new(lost: &'a Lost<'a>, history: &History, known: &KnownTasks, shown: &Shown) -> Self {
        let is_known_older = |row: &HistoryRow| known.is_older(&row.task_id, lost.since);
        let first_older = history.rows.iter().counted().position(is_known_older);
        let older = history.rows.iter().filter(|row| is_known_older(row));
        let older_ms = older.filter_map(|row| row.created_ms).max();
        let newer = history.rows.iter().enumerate();
        let newer = newer.take(first_older.unwrap_or(history.rows.len()));
        let candidates = newer.filter(|(_, row)| {
            let is_older = row.created_ms.is_some_and(|ms| older_ms > Some(ms));
            let taken = known.get(&row.task_id).and_then(|task| task.taken.as_ref());
            let is_taken = taken.is_some_and(|taken| match taken {
                Taken::Named => true,
                Taken::Given { body, .. } => {
                    body.as_ref().is_some_and(|body| body.is_equal(lost.body))
                }
            });
            !is_older && !is_taken && !shown.excludes(lost.body, row)
        });
        Self {
            lost,
            candidates: candidates.map(|(idx, _)| idx).collect(),
            reaches_back: history.is_whole || first_older.is_some(),
        }
    }

    /// Whether both were lost with the same body.
    fn is_equal(&self, other: &View<'_>) -> bool {
        self.lost.body.is_equal(other.lost.body)
    }
}

/// The submissions a row may belong to, by the bodies that it agrees with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RowMatch {
    None,
    /// Only this group of equal submissions.
    Group(usize),
    Several,
}

fn match_rows(
    views: &[View<'_>],
    groups: &[Vec<usize>],
    history: &History,
    shown: &Shown,
    known: &KnownTasks,
) -> Vec<RowMatch> {
    let mut matches = vec![RowMatch::None; history.rows.len()];
    for (number, group) in groups.iter().enumerate() {
        let body = views[group[0]].lost.body;
        let candidates = group.iter().flat_map(|idx| &views[*idx].candidates);
        for row in candidates.counted() {
            let shown_row = &history.rows[*row];
            if !shown.agrees(body, shown_row) {
                continue;
            }
            // It was given to a submission with another body.
            if known.is_taken(&shown_row.task_id) {
                matches[*row] = RowMatch::Several;
                continue;
            }
            matches[*row] = match matches[*row] {
                RowMatch::None => RowMatch::Group(number),
                RowMatch::Group(other) if other == number => RowMatch::Group(number),
                RowMatch::Group(_) | RowMatch::Several => RowMatch::Several,
            };
        }
    }
    matches
}

#[cfg(test)]
mod tests;
