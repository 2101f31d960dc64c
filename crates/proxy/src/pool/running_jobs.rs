//! The upstream's list of running jobs as the newest round showed it, and what a new one changes.
//!
//! Two lists are compared before the ledger is locked, so that the work under the lock depends only
//! on what changed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use foldhash::fast::RandomState;
use indexmap::{IndexMap, IndexSet, map::Entry};

use super::{
    AccountCount, Mark, Round, TaskId,
    caps::{Caps, ShownCaps},
    name::Name,
};

/// The jobs, caps and counts that one round listed.
#[derive(Debug, Default)]
pub struct RunningJobs {
    pub(super) sent_at: Duration,
    /// How long before it the round before was sent. 0 for the first one.
    pub(super) gap: Duration,
    jobs: IndexMap<TaskId, Name, RandomState>,
    /// For how long jobs had run, as the round tells.
    ages: HashMap<TaskId, Duration, RandomState>,
    marks: HashMap<TaskId, Mark, RandomState>,
    /// The only job that is listed with a mark. `None`: there are several.
    by_mark: HashMap<Mark, Option<TaskId>, RandomState>,
    /// The jobs by the folded e-mail that they are listed on.
    by_name: HashMap<Arc<str>, Vec<TaskId>, RandomState>,
    caps: ShownCaps,
    /// How many jobs run without an id that can be read, by the folded e-mail of their account.
    unnamed: BTreeMap<Arc<str>, BTreeMap<Name, u32>>,
    /// The accounts that are listed with a job whose id cannot be read, by their folded e-mails.
    unreadable: BTreeMap<Arc<str>, Vec<Name>>,
    /// A job is listed whose account is not known.
    pub(super) has_unknown: bool,
}

/// What a round changes, to be followed by [`Pool::begin_round`](super::Pool::begin_round).
#[derive(Debug)]
pub struct RoundChange {
    /// The jobs of the round before; `None` before the first round.
    pub(super) base: Option<Arc<RunningJobs>>,
    pub(super) running: Arc<RunningJobs>,
    pub(super) parts: Vec<RoundPart>,
    /// The folded e-mails that the parts concern.
    pub(super) names: HashSet<Arc<str>, RandomState>,
    /// All caps that the round shows.
    pub(super) caps: Caps,
}

/// What a round changes on the accounts of one name, or of some between which jobs moved. No other part concerns them.
#[derive(Debug, Default)]
pub(super) struct RoundPart {
    /// The folded e-mails.
    pub(super) names: Vec<Arc<str>>,
    /// In the upstream's order.
    pub(super) appeared: Vec<(TaskId, Name)>,
    pub(super) vanished: Vec<(TaskId, Name)>,
    pub(super) caps: Vec<(Name, u32)>,
    /// Jobs that are listed with another mark, or elsewhere, or that have a mark alone now or no longer.
    pub(super) marked: Vec<(TaskId, Name)>,
}

impl RoundPart {
    /// How many changes it holds.
    pub(super) fn len(&self) -> usize {
        let Self {
            names,
            appeared,
            vanished,
            caps,
            marked,
        } = self;
        names.len() + appeared.len() + vanished.len() + caps.len() + marked.len()
    }
}

/// The parts of a change, as they are put together.
#[derive(Default)]
struct Parts {
    /// By the first of their names.
    parts: IndexMap<Arc<str>, RoundPart, RandomState>,
    /// The folded e-mails between which jobs moved. They are of one part.
    moved: IndexSet<Arc<str>, RandomState>,
}

impl Parts {
    /// The part that concerns the accounts with this folded e-mail.
    fn of(&mut self, folded: &Arc<str>) -> &mut RoundPart {
        let moved = self.moved.first().filter(|_| self.moved.contains(folded));
        let part = self.parts.entry(Arc::clone(moved.unwrap_or(folded)));
        part.or_insert_with(|| RoundPart {
            names: match moved {
                Some(_) => self.moved.iter().cloned().collect(),
                None => vec![Arc::clone(folded)],
            },
            ..RoundPart::default()
        })
    }
}

impl RoundChange {
    /// When the round was sent.
    pub fn sent_at(&self) -> Duration {
        self.running.sent_at
    }

    /// Compares `round` with what the newest round showed.
    pub fn between(base: Option<Arc<RunningJobs>>, round: Round) -> Self {
        let none = RunningJobs::default();
        let old = base.as_deref().unwrap_or(&none);
        let before = base.as_ref().map_or(round.sent_at, |base| base.sent_at);
        let mut running = RunningJobs {
            sent_at: round.sent_at,
            gap: round.sent_at.saturating_sub(before),
            ages: round.ages.into_iter().collect(),
            ..RunningJobs::default()
        };
        running.jobs.reserve(round.executing.len());
        for job in round.executing {
            let known = old.jobs.get(&job.task_id);
            let known = known.filter(|name| **name.given() == *job.email);
            let name = known.cloned().unwrap_or_else(|| Name::new(&job.email));
            if let Entry::Vacant(entry) = running.jobs.entry(job.task_id) {
                if let Some(mark) = job.mark {
                    running.marks.insert(entry.key().clone(), mark);
                    let first = Some(entry.key().clone());
                    running
                        .by_mark
                        .entry(mark)
                        .and_modify(|only| *only = None)
                        .or_insert(first);
                }
                entry.insert(name);
            }
        }
        for (task_id, name) in &running.jobs {
            let of_name = running.by_name.entry(Arc::clone(name.folded()));
            of_name.or_default().push(task_id.clone());
        }
        let caps = Caps::of(round.caps);
        running.caps = caps.shown();
        running.note_unnamed(&round.unreadable, &round.counts);
        let parts = running.parts_since(old, &caps);
        let names = parts.iter().flat_map(|part| &part.names);
        Self {
            names: names.cloned().collect(),
            parts,
            running: Arc::new(running),
            base,
            caps,
        }
    }
}

impl RunningJobs {
    /// The account that a job is listed on.
    pub(super) fn account_of(&self, task_id: &TaskId) -> Option<&Name> {
        self.jobs.get(task_id)
    }

    /// What is listed otherwise than in `old`, with caps that it does not show.
    fn parts_since(&self, old: &Self, caps: &Caps) -> Vec<RoundPart> {
        // Accounts may differ in case only.
        let is_other = |(task_id, name): &(&TaskId, &Name), other: &Self| {
            other.jobs.get(*task_id) != Some(*name)
        };
        let appeared: Vec<_> = self.jobs.iter().filter(|job| is_other(job, old)).collect();
        let mut parts = Parts::default();
        for (task_id, name) in &appeared {
            if let Some(before) = old.jobs.get(*task_id)
                && before.folded() != name.folded()
            {
                let between = [before, *name].map(|name| Arc::clone(name.folded()));
                parts.moved.extend(between);
            }
        }
        for (task_id, name) in appeared {
            let part = parts.of(name.folded());
            part.appeared.push((task_id.clone(), name.clone()));
        }
        for (task_id, name) in old.jobs.iter().filter(|job| is_other(job, self)) {
            let part = parts.of(name.folded());
            part.vanished.push((task_id.clone(), name.clone()));
        }
        for (email, cap) in caps.changed_since(&old.caps) {
            let name = Name::new(email);
            parts.of(name.folded()).caps.push((name, cap));
        }
        for folded in old.unnamed.keys().chain(self.unnamed.keys()) {
            if old.unnamed.get(folded) != self.unnamed.get(folded) {
                parts.of(folded);
            }
        }
        for (task_id, name) in self.jobs.iter() {
            if self.is_newly_marked(task_id, old) {
                let part = parts.of(name.folded());
                part.marked.push((task_id.clone(), name.clone()));
            }
        }
        parts.parts.into_values().collect()
    }

    /// Whether `old` lists a marked job without this mark, with one that was not alone, or elsewhere.
    fn is_newly_marked(&self, task_id: &TaskId, old: &Self) -> bool {
        let shown = |jobs: &Self| {
            let mark = jobs.mark_of(task_id)?;
            let is_alone = jobs.job_of(mark) == Some(task_id);
            Some((mark, is_alone, jobs.jobs.get(task_id).cloned()))
        };
        let now = shown(self);
        now.is_some() && now != shown(old)
    }

    /// The mark that a job is listed with.
    pub(super) fn mark_of(&self, task_id: &TaskId) -> Option<Mark> {
        self.marks.get(task_id).copied()
    }

    /// The job that is listed with a mark, if only one is.
    pub(super) fn job_of(&self, mark: Mark) -> Option<&TaskId> {
        self.by_mark.get(&mark)?.as_ref()
    }

    /// For how long a job has run `now`, if the round tells it.
    pub(super) fn age_of(&self, task_id: &TaskId, now: Duration) -> Option<Duration> {
        let age = *self.ages.get(task_id)?;
        Some(age + now.saturating_sub(self.sent_at))
    }

    /// The jobs that are listed on names with this folded e-mail.
    pub(super) fn of_name(&self, folded: &str) -> impl Iterator<Item = (&TaskId, &Name)> {
        let task_ids = self.by_name.get(folded).into_iter().flatten();
        task_ids.filter_map(|task_id| self.jobs.get_key_value(task_id))
    }

    /// How many jobs without ids run on each of the names with this folded e-mail.
    pub(super) fn unnamed(&self, folded: &str) -> impl Iterator<Item = (&Name, u32)> {
        let names = self.unnamed.get(folded).into_iter().flatten();
        names.map(|(name, count)| (name, *count))
    }

    /// The names with this folded e-mail that are listed with a job whose id cannot be read.
    pub(super) fn unreadable(&self, folded: &str) -> &[Name] {
        let names = self.unreadable.get(folded);
        names.map_or(&[], Vec::as_slice)
    }

    /// Notes how many jobs run without an id that can be read: those that are listed without one, or as many as
    /// the upstream counts beyond those that are listed with one.
    fn note_unnamed(&mut self, unreadable: &[Option<String>], counts: &[AccountCount]) {
        let mut unnamed: BTreeMap<Name, u32> = BTreeMap::new();
        for email in unreadable {
            match email {
                Some(email) => {
                    let name = self.as_listed(Name::new(email));
                    *unnamed.entry(name).or_default() += 1;
                }
                None => self.has_unknown = true,
            }
        }
        for name in unnamed.keys() {
            let of_name = self.unreadable.entry(Arc::clone(name.folded()));
            of_name.or_default().push(name.clone());
        }
        for AccountCount { email, executing } in counts {
            let name = self.as_listed(Name::new(email));
            let listed = self.by_name.get(name.folded()).into_iter().flatten();
            let listed = listed.filter(|task_id| self.jobs.get(*task_id) == Some(&name));
            let listed = u32::try_from(listed.count()).unwrap_or(u32::MAX);
            let count = unnamed.entry(name).or_default();
            *count = (*count).max(executing.saturating_sub(listed));
        }
        for (name, count) in unnamed.into_iter().filter(|(_, count)| *count > 0) {
            let of_name = self.unnamed.entry(Arc::clone(name.folded()));
            of_name.or_default().insert(name, count);
        }
    }

    /// The account `name` as the listed jobs spell it, if they spell it in one way only.
    fn as_listed(&self, name: Name) -> Name {
        let task_ids = self.by_name.get(name.folded()).into_iter().flatten();
        let spellings: BTreeSet<_> = task_ids.filter_map(|id| self.jobs.get(id)).collect();
        match spellings.first() {
            Some(only) if spellings.len() == 1 => (*only).clone(),
            _ => name,
        }
    }

    /// Every listed job, and the account that it is listed on.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn jobs(&self) -> impl Iterator<Item = (&TaskId, &Name)> {
        self.jobs.iter()
    }
}
