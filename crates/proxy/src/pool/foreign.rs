//! Jobs that run without a lease: other tools', and those whose leases are gone.

use std::{collections::HashSet, time::Duration};

use super::{AccountKey, LeaseId, Pool, Running, TaskId, lease::Listed};

/// The most jobs on accounts outside the list that are remembered: ten for each of a thousand.
const STRANGERS_MAX: usize = 10_000;

/// A job that runs without a lease.
#[derive(Clone, Debug)]
pub(super) struct Foreign {
    pub(super) account: AccountKey,
    /// When the first round that listed it was sent; zero for a job that was claimed before.
    first_at: Duration,
    /// When we last knew that it runs. Only a round sent later can say that it is gone.
    seen_at: Duration,
}

impl Pool {
    /// Learns of a job whose submission we carried and which has no lease, or no longer: it counts,
    /// also on an account that is yet to join the list.
    pub fn job_started(&mut self, task_id: TaskId, email: &str, now: Duration) {
        if self.by_task.contains_key(&task_id) {
            return;
        }
        if let Ok(key) = self.find(email) {
            self.add_foreign(Listed::claimed(task_id), key, now);
        } else {
            let email = email.to_owned();
            self.note_stranger(Running { task_id, email }, now);
        }
    }

    pub(super) fn note_stranger(&mut self, job: Running, seen_at: Duration) {
        if self.strangers.len() < STRANGERS_MAX {
            self.strangers.push((job, seen_at));
        }
    }

    /// Forgets foreign jobs of which nothing was heard for as long as a job may run.
    pub(super) fn expire_foreign(&mut self, now: Duration, freed: &mut Vec<AccountKey>) {
        if self.foreign_deadline <= now {
            let job_ttl = self.limits.job_ttl;
            freed.extend(self.strike_foreign(|_, job| job.seen_at + job_ttl <= now));
            let seen_at = self.foreign.values().map(|job| job.seen_at).min();
            self.foreign_deadline = seen_at.map_or(Duration::MAX, |at| at + job_ttl);
        }
    }

    /// Counts the jobs that ran on accounts before these joined the list.
    pub(super) fn admit_strangers(&mut self, now: Duration) {
        for (job, seen_at) in std::mem::take(&mut self.strangers) {
            match self.find(&job.email) {
                Ok(key) => self.add_foreign(Listed::claimed(job.task_id), key, now),
                Err(_) => self.strangers.push((job, seen_at)),
            }
        }
    }

    pub(super) fn strike_gone_foreign(
        &mut self,
        sent_at: Duration,
        listed: &HashSet<&TaskId>,
    ) -> Vec<AccountKey> {
        for (task_id, job) in &mut self.foreign {
            if listed.contains(task_id) {
                job.seen_at = job.seen_at.max(sent_at);
            }
        }
        self.strike_foreign(|task_id, job| job.seen_at < sent_at && !listed.contains(task_id))
    }

    fn strike_foreign(&mut self, is_gone: impl Fn(&TaskId, &Foreign) -> bool) -> Vec<AccountKey> {
        let mut freed = Vec::new();
        self.foreign.retain(|task_id, job| {
            let is_gone = is_gone(task_id, job);
            if is_gone {
                freed.push(job.account);
            }
            !is_gone
        });
        for key in &freed {
            self.change(*key, |account| account.foreign -= 1);
        }
        freed
    }

    /// The job that counts as foreign, and may be of a submission that was lost before it was listed.
    pub(super) fn take_foreign_of(&mut self, lost: LeaseId) -> Option<Listed> {
        let lease = self.leases.get(&lost)?;
        let (account, since) = (lease.account, lease.created_at);
        if self.accounts[account].foreign == 0 {
            return None;
        }
        let jobs = self.foreign.iter();
        let may_be = jobs.filter(|(_, job)| job.account == account && job.first_at > since);
        let (task_id, job) = may_be.min_by_key(|(_, job)| job.first_at)?;
        let job = Listed {
            task_id: task_id.clone(),
            first_at: job.first_at,
        };
        self.foreign.remove(&job.task_id);
        self.change(account, |account| account.foreign -= 1);
        Some(job)
    }

    pub(super) fn add_foreign(&mut self, job: Listed, account: AccountKey, seen_at: Duration) {
        let Listed { task_id, first_at } = job;
        if self.limits.reconciles && !self.foreign.contains_key(&task_id) {
            let job = Foreign {
                account,
                first_at,
                seen_at,
            };
            self.foreign.insert(task_id, job);
            self.foreign_deadline = self.foreign_deadline.min(seen_at + self.limits.job_ttl);
            self.change(account, |account| account.foreign += 1);
        }
    }
}
