//! The upstream's list of running jobs as the newest round showed it, and what a new one changes.
//!
//! Two lists are compared before the ledger is locked, so that the work under the lock depends only
//! on what changed.

use std::{
    collections::{BTreeMap, HashMap},
    iter,
    sync::Arc,
    time::Duration,
};

use foldhash::fast::RandomState;
use indexmap::IndexMap;

use super::{AccountCap, Round, TaskId, name::Name};

/// The jobs and caps that one round listed.
#[derive(Debug, Default)]
pub struct RunningJobs {
    pub(super) sent_at: Duration,
    jobs: IndexMap<TaskId, Name, RandomState>,
    /// The jobs by the folded e-mail that they are listed on.
    by_name: HashMap<Arc<str>, Vec<TaskId>, RandomState>,
    caps: BTreeMap<Name, u32>,
}

/// What a round changes, to be applied by [`Pool::follow_round`](super::Pool::follow_round).
#[derive(Debug)]
pub struct RoundChange {
    /// The jobs of the round before; `None` before the first round.
    pub(super) base: Option<Arc<RunningJobs>>,
    pub(super) running: Arc<RunningJobs>,
    /// In the upstream's order.
    pub(super) appeared: Vec<(TaskId, Name)>,
    pub(super) vanished: Vec<(TaskId, Name)>,
    pub(super) caps: Vec<(Name, u32)>,
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
        let mut running = RunningJobs {
            sent_at: round.sent_at,
            ..RunningJobs::default()
        };
        running.jobs.reserve(round.executing.len());
        for job in round.executing {
            let known = old.jobs.get(&job.task_id);
            let known = known.filter(|name| **name.given() == *job.email);
            let name = known.cloned().unwrap_or_else(|| Name::new(&job.email));
            running.jobs.entry(job.task_id).or_insert(name);
        }
        for (task_id, name) in &running.jobs {
            let of_name = running.by_name.entry(Arc::clone(name.folded()));
            of_name.or_default().push(task_id.clone());
        }
        for AccountCap { email, max_jobs } in round.caps {
            running.caps.insert(Name::new(&email), max_jobs);
        }
        let moved = |task_id: &TaskId, name: &Name, other: &RunningJobs| {
            // Accounts may differ in case only.
            other.jobs.get(task_id) != Some(name)
        };
        let appeared = running.jobs.iter();
        let appeared = appeared.filter(|(task_id, name)| moved(task_id, name, old));
        let appeared = appeared.map(|(task_id, name)| (task_id.clone(), name.clone()));
        let appeared = appeared.collect();
        let vanished = old.jobs.iter();
        let vanished = vanished.filter(|(task_id, name)| moved(task_id, name, &running));
        let vanished = vanished.map(|(task_id, name)| (task_id.clone(), name.clone()));
        let vanished = vanished.collect();
        let caps = running.caps.iter();
        let caps = caps.filter(|(name, cap)| old.caps.get(*name) != Some(*cap));
        let caps = caps.map(|(name, cap)| (name.clone(), *cap)).collect();
        Self {
            running: Arc::new(running),
            appeared,
            vanished,
            caps,
            base,
        }
    }
}

impl RunningJobs {
    /// The account that a job is listed on.
    pub(super) fn account_of(&self, task_id: &TaskId) -> Option<&Name> {
        self.jobs.get(task_id)
    }

    /// The jobs that are listed on names with this folded e-mail.
    pub(super) fn of_name(&self, folded: &str) -> impl Iterator<Item = (&TaskId, &Name)> {
        let task_ids = self.by_name.get(folded).into_iter().flatten();
        task_ids.filter_map(|task_id| self.jobs.get_key_value(task_id))
    }

    /// The cap of the account `name`: of exactly this spelling, else the only one that differs just
    /// in ASCII case.
    pub(super) fn cap(&self, name: &Name) -> Option<u32> {
        if let Some(cap) = self.caps.get(name) {
            return Some(*cap);
        }
        let mut alike = self.caps.range(name.first_alike()..);
        let mut alike = iter::from_fn(|| alike.next().filter(|(other, _)| other.is_alike(name)));
        alike
            .next()
            .map(|(_, cap)| *cap)
            .filter(|_| alike.next().is_none())
    }

    /// Every listed job, and the account that it is listed on.
    #[cfg(test)]
    pub(super) fn jobs(&self) -> impl Iterator<Item = (&TaskId, &Name)> {
        self.jobs.iter()
    }
}
