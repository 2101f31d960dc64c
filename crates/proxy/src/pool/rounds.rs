//! The book against the upstream's own list of running jobs.
//!
//! Invariant: after a round, an account has at least as many slots in use as the round listed jobs
//! on it. Every listed job is claimed by a lease, stood for by a submission that is still under
//! way, or foreign. Clocks of the upstream and ours are never compared: a job is new to a round if
//! no earlier one listed it.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use rand::Rng;

use super::{
    AccountKey, Cause, LeaseError, LeaseId, LeaseState, Pool, TaskId,
    lease::{Bond, Lease, Phase},
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

/// A job that runs without a lease.
#[derive(Clone, Debug)]
pub(super) struct Foreign {
    account: AccountKey,
    /// Only a round sent later can say that it is gone.
    since: Duration,
}

impl Pool {
    /// Learns from one round that was answered, and returns the jobs to be asked for: they are over once
    /// [`Pool::job_over`] was told so and a later round still does not list them.
    pub fn reconcile(&mut self, round: &Round, now: Duration, rng: &mut impl Rng) -> Vec<Unlisted> {
        self.has_round = true;
        let listed: HashSet<&TaskId> = round.executing.iter().map(|job| &job.task_id).collect();
        let mut freed = self.strike_gone_foreign(round.sent_at, &listed);
        let unlisted = self.look_for_bound(round.sent_at, &listed, &mut freed);
        self.claim_new(round, &listed);
        self.decide_unclaimed(round.sent_at, &mut freed);
        self.hand_over_freed(freed, now, rng);
        unlisted
    }

    /// Binds a lease to its job, as its submission's answer or its holder says. That beats what
    /// rounds made of it: a tie to this lease or to another one is undone.
    ///
    /// # Errors
    /// [`LeaseError`]; nothing has changed then.
    pub fn bind(&mut self, id: LeaseId, task_id: TaskId, now: Duration) -> Result<(), LeaseError> {
        let lease = self.leases.get_mut(&id).ok_or(LeaseError::Unknown)?;
        let account = lease.account;
        if let Phase::Bound(bond) = &mut lease.phase
            && bond.task_id == task_id
        {
            bond.tied_from = None;
            return Ok(());
        }
        let old = lease.bond().map(|bond| bond.task_id.clone());
        self.unclaim(&task_id, account)?;
        let bond = Bond {
            task_id,
            since: now,
            over_at: None,
            tied_from: None,
        };
        self.rephase(id, Phase::Bound(bond));
        if let Some(old) = old {
            self.add_foreign(old, account, now);
        }
        self.hand_over(account, now);
        Ok(())
    }

    /// Notes that nobody knows what came of a submission whose last byte was sent at `sent_at`.
    pub fn doubt(&mut self, id: LeaseId, sent_at: Duration, now: Duration) {
        let Some(lease) = self.leases.get(&id) else {
            return;
        };
        let stood_for = match &lease.phase {
            Phase::Reserved { stands_for } => stands_for.clone(),
            Phase::Uncertain { .. } | Phase::Bound(_) => return,
        };
        self.rephase(
            id,
            Phase::Uncertain {
                sent_at,
                absences: 0,
            },
        );
        if let Some(task_id) = stood_for {
            self.tie(id, task_id, now);
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
                self.strike(id, Cause::Released);
                self.add_foreign(task_id, account, now);
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
        if let Some(&id) = self.by_task.get(task_id) {
            self.end(id, Cause::Finished, now);
        } else if let Some(job) = self.foreign.remove(task_id) {
            self.change(job.account, |account| account.foreign -= 1);
            self.hand_over(job.account, now);
            self.forget_if_gone(job.account);
        }
    }

    fn strike_gone_foreign(
        &mut self,
        sent_at: Duration,
        listed: &HashSet<&TaskId>,
    ) -> Vec<AccountKey> {
        let mut freed = Vec::new();
        self.foreign.retain(|task_id, job| {
            let is_gone = job.since < sent_at && !listed.contains(task_id);
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

    fn look_for_bound(
        &mut self,
        sent_at: Duration,
        listed: &HashSet<&TaskId>,
        freed: &mut Vec<AccountKey>,
    ) -> Vec<Unlisted> {
        let (mut unlisted, mut ended) = (Vec::new(), Vec::new());
        for (id, lease) in &self.leases {
            let Some(bond) = lease.bond() else { continue };
            if bond.since >= sent_at || listed.contains(&bond.task_id) {
                continue;
            }
            if bond.over_at.is_some_and(|over_at| over_at < sent_at) {
                ended.push((*id, Cause::Finished));
            } else if bond.since + self.limits.job_ttl <= sent_at {
                ended.push((*id, Cause::Unverified));
            } else {
                let email = self.accounts[lease.account].listed.email.to_string();
                unlisted.push(Running {
                    task_id: bond.task_id.clone(),
                    email,
                });
            }
        }
        freed.extend(
            ended
                .into_iter()
                .filter_map(|(id, cause)| self.strike(id, cause)),
        );
        unlisted
    }

    /// Finds whose the new jobs are: each lease without a job that was there before the round was
    /// sent stands for one. Only the surplus is foreign.
    fn claim_new(&mut self, round: &Round, listed: &HashSet<&TaskId>) {
        let mut waiting = self.without_job(round.sent_at);
        let mut stood_for = HashSet::new();
        for (_, id) in &waiting {
            let Some(lease) = self.leases.get_mut(id) else {
                continue;
            };
            if let Phase::Reserved { stands_for } = &mut lease.phase {
                stands_for.take_if(|task_id| !listed.contains(task_id));
                stood_for.extend(stands_for.clone());
            }
        }
        let mut new: HashMap<AccountKey, VecDeque<TaskId>> = HashMap::new();
        for Running { task_id, email } in &round.executing {
            let Ok(key) = self.find(email) else { continue };
            match self.by_task.get(task_id).map(|id| self.leases[id].account) {
                Some(account) if account == key => {}
                // Its holder was wrong about the account. The slot it takes is here.
                Some(_) => self.add_foreign(task_id.clone(), key, round.sent_at),
                None if self.foreign.contains_key(task_id) || stood_for.contains(task_id) => {}
                None => new.entry(key).or_default().push_back(task_id.clone()),
            }
        }
        waiting.retain(|(_, id)| {
            !matches!(
                &self.leases[id].phase,
                Phase::Reserved {
                    stands_for: Some(_)
                }
            )
        });
        for (rank, id) in waiting {
            let account = self.leases[&id].account;
            let Some(task_id) = new.get_mut(&account).and_then(VecDeque::pop_front) else {
                continue;
            };
            if rank.0 == Rank::Forward {
                self.rephase(
                    id,
                    Phase::Reserved {
                        stands_for: Some(task_id),
                    },
                );
            } else {
                self.tie(id, task_id, round.sent_at);
            }
        }
        for (account, surplus) in new {
            for task_id in surplus {
                self.add_foreign(task_id, account, round.sent_at);
            }
        }
    }

    /// The leases without a job, in the order in which they stand for new jobs.
    fn without_job(&self, before: Duration) -> Vec<((Rank, Duration), LeaseId)> {
        let ranked = |(id, lease): (&LeaseId, &Lease)| {
            let rank = match (lease.state(), lease.ttl) {
                (LeaseState::Reserved, None) => Rank::Forward,
                (LeaseState::Uncertain, _) => Rank::Uncertain,
                (LeaseState::Reserved, Some(_)) if self.limits.ties_picks => Rank::Pick,
                (LeaseState::Reserved, Some(_)) | (LeaseState::Bound, _) => return None,
            };
            (lease.created_at < before).then_some(((rank, lease.created_at), *id))
        };
        let mut waiting: Vec<_> = self.leases.iter().filter_map(ranked).collect();
        waiting.sort_unstable();
        waiting
    }

    /// Decides about what this round did not find: submissions that were lost, picks whose time
    /// was up when it was sent.
    fn decide_unclaimed(&mut self, sent_at: Duration, freed: &mut Vec<AccountKey>) {
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
                .filter_map(|(id, cause)| self.strike(id, cause)),
        );
    }

    /// Binds a lease to a job that a round shows and nobody claims.
    fn tie(&mut self, id: LeaseId, task_id: TaskId, since: Duration) {
        let Some(lease) = self.leases.get(&id) else {
            return;
        };
        let tied_from = Some(Box::new(lease.phase.clone()));
        self.rephase(
            id,
            Phase::Bound(Bond {
                task_id,
                since,
                over_at: None,
                tied_from,
            }),
        );
    }

    /// Takes a job from whoever has it by a round's word.
    fn unclaim(&mut self, task_id: &TaskId, account: AccountKey) -> Result<(), LeaseError> {
        if let Some(&holder) = self.by_task.get(task_id) {
            let holding = &self.leases[&holder];
            let before = holding.bond().and_then(|bond| bond.tied_from.clone());
            match before.filter(|_| holding.account == account) {
                Some(before) => self.rephase(holder, *before),
                None => return Err(LeaseError::TaskTaken),
            }
        }
        if let Some(job) = self.foreign.get(task_id) {
            if job.account != account {
                return Err(LeaseError::TaskTaken);
            }
            self.foreign.remove(task_id);
            self.change(account, |account| account.foreign -= 1);
        }
        for lease in self.leases.values_mut() {
            if let Phase::Reserved { stands_for } = &mut lease.phase {
                stands_for.take_if(|other| other == task_id);
            }
        }
        Ok(())
    }

    fn add_foreign(&mut self, task_id: TaskId, account: AccountKey, since: Duration) {
        if self.limits.reconciles && !self.foreign.contains_key(&task_id) {
            self.foreign.insert(task_id, Foreign { account, since });
            self.change(account, |account| account.foreign += 1);
        }
    }
}

/// The order in which leases without a job stand for new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Forward,
    Uncertain,
    Pick,
}
