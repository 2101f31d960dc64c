//! Whose a job is: named by an answer, named by a client, or seen by a round.
//!
//! An answer beats a client's word, and that beats what rounds made of it.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    iter,
    time::Duration,
};

use super::{
    AccountKey, Kind, LeaseError, LeaseId, LeaseState, Pool, Running, Standing, TaskId,
    lease::{Bond, Lease, Listed, Phase},
};

/// The order in which leases without a job stand for new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Forward,
    Uncertain,
    Pick,
}

impl Pool {
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
        let elsewhere = self.unclaim(&task_id, account, is_answer, now)?;
        // It takes jobs.
        self.restand(account, |standing| standing.well(leased_at));
        self.rephase(id, Phase::Bound(Bond::new(task_id, now)));
        if let Some(old) = old {
            self.let_go(old, account, now);
        }
        for key in iter::once(account).chain(elsewhere) {
            self.hand_over(key, now);
            self.forget_if_gone(key);
        }
        Ok(())
    }

    /// Finds whose the new jobs are: each lease without a job that was there before the round was
    /// sent stands for one. Only the surplus is foreign.
    pub(super) fn claim_new(
        &mut self,
        sent_at: Duration,
        executing: &[(Option<AccountKey>, &Running)],
        listed: &HashSet<&TaskId>,
    ) {
        self.count_stand_ins(sent_at, listed);
        let mut new: HashMap<AccountKey, VecDeque<Listed>> = HashMap::new();
        self.strangers.retain(|(_, seen_at)| *seen_at >= sent_at);
        for (key, job) in executing {
            let Some(key) = *key else {
                self.note_stranger((*job).clone(), sent_at);
                continue;
            };
            let task_id = &job.task_id;
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

    /// Binds a lease to a job that a round shows and nobody claims.
    pub(super) fn tie(&mut self, id: LeaseId, job: Listed) {
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

    /// Takes a job from whoever has it by a round's word, and if `is_answer` by a client's. Returns the
    /// account that it was counted on as foreign, if that is another one.
    fn unclaim(
        &mut self,
        task_id: &TaskId,
        account: AccountKey,
        is_answer: bool,
        now: Duration,
    ) -> Result<Option<AccountKey>, LeaseError> {
        let holder = self.by_task.get(task_id).copied();
        let foreign_on = self.foreign.get(task_id).map(|job| job.account);
        let before = holder.and_then(|holder| {
            let holding = &self.leases[&holder];
            let tied_from = holding.bond()?.tied_from.clone();
            tied_from.filter(|_| holding.account == account)
        });
        let elsewhere = foreign_on.filter(|key| *key != account);
        if !is_answer && (elsewhere.is_some() || (holder.is_some() && before.is_none())) {
            return Err(LeaseError::TaskTaken);
        }
        if let Some(holder) = holder {
            let phase = match (before, self.leases[&holder].ttl) {
                (Some(before), _) => *before,
                (None, Some(_)) => Phase::RESERVED,
                // The upstream gave two submissions one job: nobody knows what came of this one.
                (None, None) => Phase::Uncertain {
                    sent_at: now,
                    absences: 0,
                },
            };
            self.rephase(holder, phase);
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
        Ok(elsewhere)
    }
}
