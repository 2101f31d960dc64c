//! The book against the upstream's own list of running jobs.
//!
//! Invariant: after a round, an account has at least as many slots in use as the round listed jobs
//! on it. Every listed job is claimed by a lease, stood for by a submission that is still under
//! way, or foreign. Clocks of the upstream and ours are never compared: a job is new to a round if
//! no earlier one listed it.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use rand::Rng;

use super::{
    AccountKey, Cause, LeaseId, Pool, TaskId,
    lease::{Listed, Phase},
};

/// How many rounds in a row must list no job of a lost submission.
const ABSENCES_MIN: u32 = 2;

/// One answer of the upstream: which jobs run where.
#[derive(Clone, Debug)]
pub struct Round {
    /// When the request for it was sent.
    pub sent_at: Duration,
    /// The jobs, in the upstream's order.
    pub executing: Vec<Running>,
    /// The caps of the accounts that it names.
    pub caps: Vec<Cap>,
}

/// What an account may run at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cap {
    /// Which account.
    pub email: String,
    /// How many jobs.
    pub max_jobs: u32,
}

/// A job that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Which job.
    pub task_id: TaskId,
    /// On which account.
    pub email: String,
}

/// A bound job that the upstream no longer lists, while nobody knows whether it is over.
pub type Unlisted = Running;

/// What a round leaves to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Jobs to be asked for: they are over once [`Pool::job_over`] was told so and a later round
    /// still does not list them.
    pub unlisted: Vec<Unlisted>,
    /// Whether a job is listed that is known to be over: its slot comes back soon.
    pub is_release_due: bool,
}

/// The most jobs that are remembered as no longer tracked, until the next round is answered.
const UNTRACKED_MAX: usize = 10_000;

impl Pool {
    /// Learns from one round that was answered.
    pub fn reconcile(&mut self, round: &Round, now: Duration, rng: &mut impl Rng) -> Findings {
        self.has_round = true;
        for cap in &round.caps {
            if let Ok(key) = self.find(&cap.email) {
                self.change(key, |account| account.tell_cap(cap.max_jobs));
            }
        }
        self.untracked.retain(|_, at| *at >= round.sent_at);
        let executing = round.executing.iter();
        let executing = executing.filter(|job| !self.untracked.contains_key(&job.task_id));
        let executing: Vec<_> = executing
            .map(|job| (self.find(&job.email).ok(), job))
            .collect();
        let listed: HashSet<&TaskId> = executing.iter().map(|(_, job)| &job.task_id).collect();
        self.note_drift(executing.iter().filter_map(|(key, _)| *key));
        let mut freed = self.strike_gone_foreign(round.sent_at, &listed);
        let findings = self.look_for_bound(round.sent_at, now, &listed, &mut freed);
        self.claim_new(round.sent_at, &executing, &listed);
        self.decide_unclaimed(round.sent_at, now, &mut freed);
        // Whatever was freed: a tie may have ended a quarantine, which opens an account too.
        self.hand_over_all(now, rng);
        for key in freed {
            self.forget_if_gone(key);
        }
        findings
    }

    /// Notes that nobody knows what came of a submission whose last byte was sent at `sent_at`.
    pub fn doubt(&mut self, id: LeaseId, sent_at: Duration, now: Duration) {
        let Some(lease) = self.leases.get(&id) else {
            return;
        };
        let account = lease.account;
        let stood_for = match &lease.phase {
            Phase::Reserved { stands_for } => stands_for.clone(),
            Phase::Uncertain { .. } | Phase::Bound(_) => return,
        };
        let job = stood_for.or_else(|| self.take_foreign_of(id));
        self.rephase(
            id,
            Phase::Uncertain {
                sent_at,
                absences: 0,
            },
        );
        if let Some(job) = job {
            self.tie(id, job);
            self.hand_over(account, now);
        }
    }

    /// Gives a lease back on its holder's word. A bound one's job counts as foreign in the same
    /// step: the upstream may still count it. False if there is no such lease.
    pub fn release(&mut self, id: LeaseId, now: Duration) -> bool {
        let Some(lease) = self.leases.get(&id) else {
            return false;
        };
        let job = lease.bond().map(|bond| bond.task_id.clone());
        match job.filter(|_| self.limits.reconciles) {
            None => self.end(id, Cause::Released, now),
            Some(task_id) => {
                let account = lease.account;
                self.strike(id, Cause::Released, now);
                self.add_foreign(Listed::claimed(task_id), account, now);
                // Its holder may know that the job is over.
                self.is_round_due = true;
                // The job may be counted already, on the account where it really runs.
                self.hand_over(account, now);
                self.forget_if_gone(account);
                true
            }
        }
    }

    /// Learns that a job is over. Its slot returns with the first round sent after now that does
    /// not list it. False if nobody waits for that.
    pub fn job_over(&mut self, task_id: &TaskId, now: Duration) -> bool {
        let lease = self
            .by_task
            .get(task_id)
            .and_then(|id| self.leases.get_mut(id));
        if let Some(Phase::Bound(bond)) = lease.map(|lease| &mut lease.phase) {
            bond.over_at.get_or_insert(now);
            return true;
        }
        self.foreign.contains_key(task_id)
    }

    /// Learns that the upstream no longer counts a job: its slot is free.
    pub fn job_untracked(&mut self, task_id: &TaskId, now: Duration) {
        if self.limits.reconciles && self.untracked.len() < UNTRACKED_MAX {
            self.untracked.insert(task_id.clone(), now);
        }
        if let Some(&id) = self.by_task.get(task_id) {
            self.end(id, Cause::Finished, now);
        } else if let Some(job) = self.foreign.remove(task_id) {
            self.change(job.account, |account| account.foreign -= 1);
            self.hand_over(job.account, now);
            self.forget_if_gone(job.account);
        }
    }

    /// `executing` are the accounts of the jobs that a round lists.
    fn note_drift(&mut self, executing: impl Iterator<Item = AccountKey>) {
        let mut listed: HashMap<AccountKey, i64> = HashMap::new();
        for key in executing {
            *listed.entry(key).or_default() += 1;
        }
        for (key, account) in &mut self.accounts {
            let listed = listed.get(&key).copied().unwrap_or_default();
            account.drift = i64::from(account.in_flight()) - listed;
        }
    }

    fn look_for_bound(
        &mut self,
        sent_at: Duration,
        now: Duration,
        listed: &HashSet<&TaskId>,
        freed: &mut Vec<AccountKey>,
    ) -> Findings {
        let mut findings = Findings::default();
        let (mut runs, mut ended) = (Vec::new(), Vec::new());
        for (id, lease) in &mut self.leases {
            let (job_ttl, account) = (self.limits.job_ttl, lease.account);
            let Phase::Bound(bond) = &mut lease.phase else {
                continue;
            };
            if listed.contains(&bond.task_id) {
                bond.listed_at = bond.listed_at.max(sent_at);
                findings.is_release_due |= bond.over_at.is_some();
                runs.push(*id);
            } else if bond.since >= sent_at {
                // The round was on its way before the job was known.
            } else if bond.over_at.is_some_and(|over_at| over_at < sent_at) {
                ended.push((*id, Cause::Finished));
            } else if bond.since + job_ttl <= sent_at {
                ended.push((*id, Cause::Unverified));
            } else {
                let email = self.accounts[account].listed.email.to_string();
                findings.unlisted.push(Running {
                    task_id: bond.task_id.clone(),
                    email,
                });
            }
        }
        for id in runs {
            self.rearm(id);
        }
        for (id, cause) in ended {
            freed.extend(self.strike(id, cause, now));
        }
        findings
    }

    /// Decides about what this round did not find: submissions that were lost, picks whose time
    /// was up when it was sent.
    fn decide_unclaimed(&mut self, sent_at: Duration, now: Duration, freed: &mut Vec<AccountKey>) {
        let mut ended = Vec::new();
        for (id, lease) in &mut self.leases {
            match (&mut lease.phase, lease.ttl) {
                (
                    Phase::Uncertain {
                        sent_at: lost_at,
                        absences,
                    },
                    _,
                ) if *lost_at + self.limits.settle <= sent_at => {
                    *absences += 1;
                    if *absences >= ABSENCES_MIN {
                        ended.push((*id, Cause::Absent));
                    }
                }
                (Phase::Reserved { .. }, Some(ttl)) if ttl.ends_at <= sent_at => {
                    ended.push((*id, Cause::Expired));
                }
                (Phase::Uncertain { .. } | Phase::Reserved { .. } | Phase::Bound(_), _) => {}
            }
        }
        freed.extend(
            ended
                .into_iter()
                .filter_map(|(id, cause)| self.strike(id, cause, now)),
        );
    }
}
