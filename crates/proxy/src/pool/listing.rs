//! The upstream's list of running jobs as the newest round showed it, and what a new one changes.
//!
//! Two lists are compared before the book is locked, so that what is done under its lock depends on what
//! changed alone.

use std::{sync::Arc, time::Duration};

use foldhash::fast::RandomState;
use indexmap::IndexMap;

use super::{Cap, Round, TaskId, name::Name};

/// The jobs and caps that one round listed.
#[derive(Debug, Default)]
pub struct Listing {
    pub(super) sent_at: Duration,
    jobs: IndexMap<TaskId, Name, RandomState>,
    /// By the folded e-mail.
    caps: IndexMap<Arc<str>, (Name, u32), RandomState>,
}

/// What a round changes, to be applied by [`Pool::follow_round`](super::Pool::follow_round).
#[derive(Debug)]
pub struct RoundChange {
    /// The listing that it changes; `None` before the first round.
    pub(super) base: Option<Arc<Listing>>,
    pub(super) listing: Arc<Listing>,
    /// In the upstream's order.
    pub(super) appeared: Vec<(TaskId, Name)>,
    pub(super) vanished: Vec<(TaskId, Name)>,
    pub(super) caps: Vec<(Name, u32)>,
}

impl RoundChange {
    /// When the round was sent.
    pub fn sent_at(&self) -> Duration {
        self.listing.sent_at
    }

    /// Compares `round` with what the newest round showed.
    pub fn between(base: Option<Arc<Listing>>, round: Round) -> Self {
        let none = Listing::default();
        let old = base.as_deref().unwrap_or(&none);
        let mut listing = Listing {
            sent_at: round.sent_at,
            ..Listing::default()
        };
        listing.jobs.reserve(round.executing.len());
        for job in round.executing {
            let known = old.jobs.get(&job.task_id);
            let known = known.filter(|name| **name.given() == *job.email);
            let name = known.cloned().unwrap_or_else(|| Name::new(&job.email));
            listing.jobs.entry(job.task_id).or_insert(name);
        }
        for Cap { email, max_jobs } in round.caps {
            let name = Name::new(&email);
            let folded = Arc::clone(name.folded());
            listing.caps.insert(folded, (name, max_jobs));
        }
        let moved = |task_id: &TaskId, name: &Name, other: &Listing| {
            let there = other.jobs.get(task_id);
            there.is_none_or(|there| there.folded() != name.folded())
        };
        let appeared = listing.jobs.iter();
        let appeared = appeared.filter(|(task_id, name)| moved(task_id, name, old));
        let appeared = appeared.map(|(task_id, name)| (task_id.clone(), name.clone()));
        let appeared = appeared.collect();
        let vanished = old.jobs.iter();
        let vanished = vanished.filter(|(task_id, name)| moved(task_id, name, &listing));
        let vanished = vanished.map(|(task_id, name)| (task_id.clone(), name.clone()));
        let vanished = vanished.collect();
        let caps = listing.caps.iter();
        let caps = caps.filter(|(folded, told)| old.caps.get(*folded) != Some(*told));
        let caps = caps.map(|(_, told)| told.clone()).collect();
        Self {
            listing: Arc::new(listing),
            appeared,
            vanished,
            caps,
            base,
        }
    }
}

impl Listing {
    /// The account that a job is listed on.
    pub(super) fn account_of(&self, task_id: &TaskId) -> Option<&Name> {
        self.jobs.get(task_id)
    }

    /// The cap of the account with this folded e-mail.
    pub(super) fn cap(&self, folded: &str) -> Option<u32> {
        self.caps.get(folded).map(|(_, cap)| *cap)
    }

    /// Every listed job, and the account that it is listed on.
    #[cfg(test)]
    pub(super) fn jobs(&self) -> impl Iterator<Item = (&TaskId, &Name)> {
        self.jobs.iter()
    }
}
