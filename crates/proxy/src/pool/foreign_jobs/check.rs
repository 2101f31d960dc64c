//! Checks every index of the foreign jobs against the jobs themselves.

use super::*;

impl ForeignJobs {
    /// How many jobs count on each account. Panics if an index does not agree with the jobs.
    pub(in crate::pool) fn check(&self) -> BTreeMap<AccountKey, u32> {
        let mut counts = BTreeMap::new();
        let mut adoptable: BTreeMap<AccountKey, BTreeSet<_>> = BTreeMap::new();
        let mut elsewhere: BTreeMap<Arc<str>, BTreeSet<_>> = BTreeMap::new();
        let mut unlisted = BTreeSet::new();
        let mut deadlines = Deadlines::default();
        for (task_id, job) in &self.jobs {
            match &job.place {
                JobPlace::Account(key) => {
                    *counts.entry(*key).or_default() += 1;
                    if let Some(first_at) = job.first_at {
                        let entry = adoptable.entry(*key).or_default();
                        entry.insert((first_at, task_id.clone()));
                    }
                }
                JobPlace::Elsewhere(name) => {
                    let entry = elsewhere.entry(Arc::clone(name.folded())).or_default();
                    entry.insert(task_id.clone());
                }
            }
            if !job.is_listed {
                unlisted.insert(task_id.clone());
            }
            deadlines.change(task_id, None, Some(job.deadline));
        }
        assert_eq!(self.unlisted, unlisted);
        assert_eq!(self.deadlines, deadlines);
        let elsewhere_count: usize = elsewhere.values().map(BTreeSet::len).sum();
        assert_eq!(
            (&self.elsewhere, self.elsewhere_count),
            (&elsewhere, elsewhere_count)
        );
        let kept = self.adoptable.iter().filter(|(_, ids)| !ids.is_empty());
        let kept: BTreeMap<_, _> = kept.map(|(key, ids)| (key, ids.clone())).collect();
        assert_eq!(kept, adoptable);
        counts
    }

    /// The account that a job counts on, if it counts on one, and whether the newest round lists it.
    pub(in crate::pool) fn place(&self, task_id: &TaskId) -> Option<(Option<AccountKey>, bool)> {
        let job = self.jobs.get(task_id)?;
        let key = match &job.place {
            JobPlace::Account(key) => Some(*key),
            JobPlace::Elsewhere(_) => None,
        };
        Some((key, job.is_listed))
    }

    /// The jobs that the newest round is said to list.
    pub(in crate::pool) fn said_listed(&self) -> impl Iterator<Item = &TaskId> {
        let listed = self.jobs.iter().filter(|(_, job)| job.is_listed);
        listed.map(|(task_id, _)| task_id)
    }
}
