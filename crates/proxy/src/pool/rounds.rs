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
    AccountKey, Cause, Kind, LeaseError, LeaseId, LeaseState, Pool, Standing, TaskId,
    lease::{Bond, Lease, Listed, Phase},
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

/// The most jobs on accounts outside the list that are remembered: ten for each of a thousand.
const STRANGERS_MAX: usize = 10_000;

/// The most jobs that are remembered as no longer tracked, until the next round is answered.
const UNTRACKED_MAX: usize = 10_000;

/// A job that runs without a lease.
#[derive(Clone, Debug)]
pub(super) struct Foreign {
    account: AccountKey,
    /// When the first round that listed it was sent; zero for a job that was claimed before.
    first_at: Duration,
    /// When we last knew that it runs. Only a round sent later can say that it is gone.
    seen_at: Duration,
}

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
        let executing: Vec<_> = executing.cloned().collect();
        let listed: HashSet<&TaskId> = executing.iter().map(|job| &job.task_id).collect();
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

    /// Binds a lease to its job, as its submission's answer or its holder says. That beats what
    /// rounds made of it: a tie to this lease or to another one is undone. The answer to a
    /// submission that we carried beats what any client says.
    ///
    /// # Errors
    /// [`LeaseError`]; nothing has changed then. A lease that we hold for a submission can only be
    /// [`LeaseError::Unknown`].
    pub fn bind(&mut self, id: LeaseId, task_id: TaskId, now: Duration) -> Result<(), LeaseError> {
        let lease = self.leases.get_mut(&id).ok_or(LeaseError::Unknown)?;
        let (account, is_answer) = (lease.account, lease.kind() == Kind::Forward);
        let leased_at = lease.created_at;
        if let Phase::Bound(bond) = &mut lease.phase
            && bond.task_id == task_id
        {
            bond.tied_from = None;
            return Ok(());
        }
        let old = match &lease.phase {
            Phase::Bound(bond) => Some(bond.listed()),
            Phase::Reserved { stands_for } => stands_for.clone(),
            Phase::Uncertain { .. } => None,
        };
        let old = old.filter(|old| old.task_id != task_id);
        self.unclaim(&task_id, account, is_answer)?;
        // It takes jobs.
        self.restand(account, |standing| standing.well(leased_at));
        self.rephase(id, Phase::Bound(Bond::new(task_id, now)));
        if let Some(old) = old {
            self.let_go(old, account, now);
        }
        self.hand_over(account, now);
        Ok(())
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

    fn note_stranger(&mut self, job: Running, seen_at: Duration) {
        if self.strangers.len() < STRANGERS_MAX {
            self.strangers.push((job, seen_at));
        }
    }

    /// Learns that the upstream no longer counts a job: its slot is free.
    pub fn job_untracked(&mut self, task_id: &TaskId, now: Duration) {
        if self.limits.reconciles && self.untracked.len() < UNTRACKED_MAX {
            self.untracked.insert(task_id.clone(), now);
        }
        if let Some(&id) = self.by_task.get(task_id) {
            if !self.untie_early(id, now) {
                self.end(id, Cause::Finished, now);
            }
        } else if let Some(job) = self.foreign.remove(task_id) {
            self.change(job.account, |account| account.foreign -= 1);
            self.hand_over(job.account, now);
            self.forget_if_gone(job.account);
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

    fn strike_gone_foreign(
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
            if !self.untie_early(id, sent_at) {
                freed.extend(self.strike(id, cause, now));
            }
        }
        findings
    }

    /// A pick that was tied to a job, and outlives it: its client was promised a later end, and may
    /// still submit. False if there is nothing to wait for.
    fn untie_early(&mut self, id: LeaseId, now: Duration) -> bool {
        let Some(lease) = self.leases.get(&id) else {
            return false;
        };
        let is_promised = lease.ttl.is_some_and(|ttl| ttl.ends_at > now);
        let before = lease.bond().and_then(|bond| bond.tied_from.clone());
        match before.filter(|_| is_promised) {
            Some(before) => {
                self.rephase(id, *before);
                true
            }
            None => false,
        }
    }

    /// Finds whose the new jobs are: each lease without a job that was there before the round was
    /// sent stands for one. Only the surplus is foreign.
    fn claim_new(&mut self, sent_at: Duration, executing: &[Running], listed: &HashSet<&TaskId>) {
        self.count_stand_ins(sent_at, listed);
        let mut new: HashMap<AccountKey, VecDeque<Listed>> = HashMap::new();
        self.strangers.retain(|(_, seen_at)| *seen_at >= sent_at);
        for job @ Running { task_id, email } in executing {
            let Ok(key) = self.find(email) else {
                self.note_stranger(job.clone(), sent_at);
                continue;
            };
            match self.by_task.get(task_id).map(|id| self.leases[id].account) {
                Some(account) if account == key => {}
                // Its holder was wrong about the account. The slot it takes is here.
                Some(_) => self.add_foreign(Listed::claimed(task_id.clone()), key, sent_at),
                None if self.foreign.contains_key(task_id) => {}
                None => new.entry(key).or_default().push_back(Listed {
                    task_id: task_id.clone(),
                    first_at: sent_at,
                }),
            }
        }
        for ((rank, _), id) in self.without_job(None, sent_at) {
            let account = self.leases[&id].account;
            let earlier = (rank == Rank::Uncertain)
                .then(|| self.take_foreign_of(id))
                .flatten();
            let job = earlier.or_else(|| new.get_mut(&account)?.pop_front());
            if let Some(job) = job {
                self.claim(id, rank, job);
            }
        }
        for (account, surplus) in new {
            for job in surplus {
                self.add_foreign(job, account, sent_at);
            }
        }
    }

    /// What a submission under way stood for since an earlier round counts beside it from now on: it
    /// may be somebody else's, and hide a job for one round only.
    fn count_stand_ins(&mut self, sent_at: Duration, listed: &HashSet<&TaskId>) {
        let mut stood_for = Vec::new();
        for lease in self.leases.values_mut() {
            if let Phase::Reserved { stands_for } = &mut lease.phase {
                stood_for.extend(stands_for.take().map(|job| (lease.account, job)));
            }
        }
        for (account, job) in stood_for {
            if listed.contains(&job.task_id) {
                self.add_foreign(job, account, sent_at);
            }
        }
    }

    /// The job that counts as foreign, and may be of a submission that was lost before it was listed.
    fn take_foreign_of(&mut self, lost: LeaseId) -> Option<Listed> {
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

    /// A job turns out not to be of the lease that it was taken for. It is of another one that would
    /// have stood for it, or else foreign.
    pub(super) fn let_go(&mut self, job: Listed, account: AccountKey, now: Duration) {
        let mut waiting = self.without_job(Some(account), job.first_at).into_iter();
        let next = waiting.find(|(_, id)| self.leases[id].stands_for().is_none());
        match next {
            Some(((rank, _), id)) => self.claim(id, rank, job),
            None => self.add_foreign(job, account, now),
        }
    }

    /// Lets a lease without a job have one that is listed.
    fn claim(&mut self, id: LeaseId, rank: Rank, job: Listed) {
        if rank == Rank::Forward {
            let stands_for = Some(job);
            self.rephase(id, Phase::Reserved { stands_for });
        } else {
            self.tie(id, job);
        }
    }

    /// The leases without a job that were there `before`, in the order in which they stand for new
    /// jobs: those of one account, or all.
    fn without_job(
        &self,
        account: Option<AccountKey>,
        before: Duration,
    ) -> Vec<((Rank, Duration), LeaseId)> {
        let ranked = |(id, lease): (&LeaseId, &Lease)| {
            if account.is_some_and(|account| account != lease.account) {
                return None;
            }
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

    /// Binds a lease to a job that a round shows and nobody claims.
    fn tie(&mut self, id: LeaseId, job: Listed) {
        let Some(lease) = self.leases.get(&id) else {
            return;
        };
        let account = lease.account;
        let first_at = job.first_at;
        let mut bond = Bond::new(job.task_id, first_at);
        bond.tied_from = Some(Box::new(lease.phase.clone()));
        self.rephase(id, Phase::Bound(bond));
        self.mix_up(account, first_at);
        // The job that was to decide runs. Its client may never say so.
        if self.accounts[account].standing.is_probed_by(id) {
            self.restand(account, Standing::clear);
        }
    }

    /// Takes a job from whoever has it by a round's word, and if `is_answer` by a client's.
    fn unclaim(
        &mut self,
        task_id: &TaskId,
        account: AccountKey,
        is_answer: bool,
    ) -> Result<(), LeaseError> {
        let holder = self.by_task.get(task_id).copied();
        let foreign_on = self.foreign.get(task_id).map(|job| job.account);
        let before = holder.and_then(|holder| {
            let holding = &self.leases[&holder];
            let tied_from = holding.bond()?.tied_from.clone();
            tied_from.filter(|_| holding.account == account)
        });
        let is_elsewhere = foreign_on.is_some_and(|key| key != account);
        if !is_answer && (is_elsewhere || (holder.is_some() && before.is_none())) {
            return Err(LeaseError::TaskTaken);
        }
        if let Some(holder) = holder {
            self.rephase(holder, before.map_or(Phase::RESERVED, |before| *before));
        }
        if let Some(key) = foreign_on {
            self.foreign.remove(task_id);
            self.change(key, |account| account.foreign -= 1);
        }
        for lease in self.leases.values_mut() {
            if let Phase::Reserved { stands_for } = &mut lease.phase {
                stands_for.take_if(|job| job.task_id == *task_id);
            }
        }
        Ok(())
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

/// The order in which leases without a job stand for new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Forward,
    Uncertain,
    Pick,
}
