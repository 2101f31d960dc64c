//! Matches jobs to leases: an answer names the job, a client names it, or a round lists it.
//!
//! An answer beats a mark, a mark beats a client's word, and a client's word beats the match of a round.

use std::{
    collections::{BTreeMap, VecDeque},
    iter,
    time::Duration,
};

use super::{
    AccountKey, Kind, Lease, LeaseError, LeaseId, LeaseState, Name, Pool, TaskId,
    health::AccountHealth,
    lease::{Binding, Listed, Phase},
    leases::MatchRank,
};

impl Pool {
    /// Binds a lease to its job, as its submission's answer or its holder says. That beats the
    /// match of a round: a tie to this lease or to another one is undone. The answer to a
    /// submission that we carried beats every client's word.
    ///
    /// # Errors
    /// [`LeaseError`]; nothing has changed then. For the lease of a submission that we carry it can
    /// only be [`LeaseError::Unknown`].
    pub fn bind(&mut self, id: LeaseId, task_id: TaskId, now: Duration) -> Result<(), LeaseError> {
        self.name_job(id, task_id, now)?;
        self.finish(now);
        Ok(())
    }

    /// The same, in the midst of an operation.
    pub(super) fn name_job(
        &mut self,
        id: LeaseId,
        task_id: TaskId,
        now: Duration,
    ) -> Result<(), LeaseError> {
        let lease = self.leases.get(id).ok_or(LeaseError::Unknown)?;
        let (account, leased_at) = (lease.account, lease.created_at());
        let is_answer = lease.kind() == Kind::Forward;
        if lease
            .binding()
            .is_some_and(|binding| binding.task_id == task_id)
        {
            self.leases.confirm(id);
            self.note_named(account, &task_id, Some(id), now);
            self.note_success(account, leased_at);
            return Ok(());
        }
        let old = match &lease.phase {
            Phase::Bound(binding) => Some(binding.listed()),
            Phase::Reserved { stands_for } => stands_for.as_deref().cloned(),
            Phase::Uncertain { .. } => None,
        };
        let is_listed = self.take_task(&task_id, account, is_answer, now)?;
        let was_listed = old
            .as_ref()
            .is_some_and(|old| old.task_id == task_id && old.is_listed);
        self.note_named(account, &task_id, Some(id), now);
        self.note_success(account, leased_at);
        let binding = Binding::new(task_id.clone(), now, is_listed || was_listed);
        self.set_phase(id, Phase::Bound(Box::new(binding)));
        if let Some(old) = old.filter(|old| old.task_id != task_id) {
            self.unassign(old, account, now);
        }
        self.note_elsewhere(&task_id, account);
        Ok(())
    }

    /// An account takes jobs.
    fn note_success(&mut self, account: AccountKey, leased_at: Duration) {
        self.accounts.update(account, &mut self.outbox, |account| {
            account.change_health(|health| health.record_success(leased_at));
        });
    }

    /// A reply or a client named a task, to the lease `id` if there is one. If a round or a history gave it
    /// to another submission, histories decide about that one again.
    pub(super) fn note_named(
        &mut self,
        account: AccountKey,
        task_id: &TaskId,
        id: Option<LeaseId>,
        now: Duration,
    ) {
        if self.resolutions.note_named(account, task_id, id, now) {
            self.outbox.ask_for_history();
        }
    }

    /// A job counts on `account`. If rounds list it on another account, the next one counts it
    /// there too.
    fn note_elsewhere(&mut self, task_id: &TaskId, account: AccountKey) {
        let listed_on = self.listed_on(task_id);
        if listed_on.is_some_and(|on| self.accounts.find(&on) != Some(account)) {
            self.note_uncounted(task_id);
        }
    }

    /// Matches the new jobs of the round that was sent at `sent_at` to leases: each lease without a job that was made
    /// before gets one. Only the surplus is foreign.
    pub(super) fn match_new(
        &mut self,
        new: Vec<(TaskId, AccountKey)>,
        sent_at: Duration,
        now: Duration,
    ) {
        let mut by_account: BTreeMap<AccountKey, VecDeque<Listed>> = BTreeMap::new();
        for (task_id, account) in new {
            self.resolutions.note_task(account, &task_id, now);
            let job = Listed::new(task_id, sent_at);
            by_account.entry(account).or_default().push_back(job);
        }
        for (account, jobs) in by_account {
            self.match_on(account, jobs, sent_at);
        }
    }

    /// The same on one account. Its lost submissions take earlier jobs first, which no lease has.
    ///
    /// What the first round lists may have started while no process ran: it is given to no lost submission, and both
    /// count.
    pub(super) fn match_on(
        &mut self,
        account: AccountKey,
        mut jobs: VecDeque<Listed>,
        sent_at: Duration,
    ) {
        let is_first = self.first_round_at == Some(sent_at);
        for (rank, id) in self.leases.without_job(account, sent_at) {
            let is_unmatched = is_first && rank == MatchRank::Uncertain;
            if is_unmatched || self.stands_in(id) || self.has_proven_mark(id) {
                continue;
            }
            let earlier = (rank == MatchRank::Uncertain)
                .then(|| self.adopt_foreign(id))
                .flatten();
            let Some(job) = earlier.or_else(|| jobs.pop_front()) else {
                continue;
            };
            self.take_for(id, rank, job);
        }
        for job in jobs {
            let job = if is_first { job.named() } else { job };
            self.add_foreign(job, account, sent_at);
        }
    }

    /// Whether a lease stands for a job.
    fn stands_in(&self, id: LeaseId) -> bool {
        let lease = self.leases.get(id);
        lease.is_some_and(|lease| lease.stands_for().is_some())
    }

    /// Takes `job` away from the lease that it was matched to. If it is listed, the next unmatched
    /// lease of the account gets it. If it is not listed, or there is no such lease, it counts as
    /// foreign.
    pub(super) fn unassign(&mut self, job: Listed, account: AccountKey, now: Duration) {
        if !job.is_listed || self.is_marked_job(&job.task_id) {
            self.add_foreign(job, account, now);
            return;
        }
        let before = job.first_at.unwrap_or_default();
        let is_of_first_round = job.first_at == self.first_round_at;
        let waiting = self.leases.without_job(account, before).into_iter();
        let waiting =
            waiting.filter(|(rank, _)| !(is_of_first_round && *rank == MatchRank::Uncertain));
        let mut waiting =
            waiting.filter(|(_, id)| !self.stands_in(*id) && !self.has_proven_mark(*id));
        match waiting.next() {
            Some((rank, id)) => self.take_for(id, rank, job),
            None => self.add_foreign(job, account, now),
        }
    }

    /// Matches a job that is listed to a lease without one.
    fn take_for(&mut self, id: LeaseId, rank: MatchRank, job: Listed) {
        if rank == MatchRank::Forward {
            let stands_for = Some(Box::new(job));
            self.set_phase(id, Phase::Reserved { stands_for });
        } else {
            self.tie(id, job);
        }
    }

    /// Binds a lease to an unclaimed job that a round lists.
    pub(super) fn tie(&mut self, id: LeaseId, job: Listed) {
        let Some(lease) = self.leases.get(id) else {
            return;
        };
        let (account, first_at) = (lease.account, job.first_at.unwrap_or_default());
        let mut binding = Binding::new(job.task_id, first_at, job.is_listed);
        binding.tied_from = Some(lease.phase.clone());
        self.set_phase(id, Phase::Bound(Box::new(binding)));
        if self.resolutions.note_tied(id, first_at) {
            self.outbox.ask_for_history();
        }
        // The probing job was accepted. A client that picked may never report it.
        self.accounts.update(account, &mut self.outbox, |account| {
            if account.health().is_probation_of(id) {
                account.change_health(AccountHealth::clear);
            }
        });
    }

    /// Takes a foreign job that may belong to a lost submission: it was first listed after the
    /// lease was made, and the round that is being followed, if there is one, does not show that it is gone.
    pub(super) fn adopt_foreign(&mut self, lost: LeaseId) -> Option<Listed> {
        if self.has_proven_mark(lost) {
            return None;
        }
        let lease = self.leases.get(lost)?;
        let (account, since) = (lease.account, lease.created_at());
        let shown_at = self.followed_sent_at();
        let task_id = self.foreign_jobs.adoptable(account, since, shown_at)?;
        self.take_foreign(&task_id)
    }

    /// Removes a foreign job from the pool and from the count of its account.
    pub(super) fn take_foreign(&mut self, task_id: &TaskId) -> Option<Listed> {
        let (job, account) = self.foreign_jobs.remove(task_id)?;
        if let Some(account) = account {
            self.uncount_foreign(account);
        }
        Some(job)
    }

    pub(super) fn uncount_foreign(&mut self, account: AccountKey) {
        self.forecast.outdate();
        self.accounts
            .update(account, &mut self.outbox, |account| account.foreign -= 1);
    }

    /// Counts a job without a lease on an account.
    pub(super) fn add_foreign(&mut self, job: Listed, account: AccountKey, seen_at: Duration) {
        if self.limits.reconciles && self.foreign_jobs.add(job, account, seen_at) {
            self.accounts
                .update(account, &mut self.outbox, |account| account.foreign += 1);
        }
    }

    /// Learns of a job whose submission we carried and that has no lease (any more). It counts,
    /// even on an account that is not in the list yet.
    pub fn job_started(&mut self, task_id: TaskId, email: &Name, now: Duration) {
        if self.leases.of_task(&task_id).is_some() {
            return;
        }
        let has_stand_in = self.leases.stand_in(&task_id).is_some();
        let job = Listed {
            first_at: None,
            is_listed: self.listed_on(&task_id).is_some(),
            task_id,
        };
        match self.accounts.find(email) {
            Some(key) => {
                // A round may have counted it already, or matched it to another submission.
                self.take_foreign(&job.task_id);
                self.leases.take_stood_for(&job.task_id);
                self.note_named(key, &job.task_id, None, now);
                self.note_elsewhere(&job.task_id, key);
                self.add_foreign(job, key, now);
            }
            // It stays on the account where a round counted it.
            None if self.limits.reconciles && !has_stand_in => {
                self.foreign_jobs.add_elsewhere(job, email.clone(), now);
            }
            None => {}
        }
        self.finish(now);
    }

    /// Takes a job from the lease to which a round or, if `is_answer`, a client assigned it. True
    /// if the newest round lists it.
    fn take_task(
        &mut self,
        task_id: &TaskId,
        account: AccountKey,
        is_answer: bool,
        now: Duration,
    ) -> Result<bool, LeaseError> {
        let holder = self.leases.of_task(task_id);
        let foreign_on = self.foreign_jobs.account(task_id);
        let holding = holder.and_then(|holder| self.leases.get(holder));
        let binding = holding.and_then(|lease| lease.binding());
        let mut is_listed = binding.is_some_and(|binding| binding.is_listed);
        let before = holding
            .filter(|lease| lease.account == account)
            .and_then(|lease| lease.binding()?.tied_from.clone());
        let is_elsewhere = foreign_on.is_some_and(|key| key != account);
        if !is_answer && (is_elsewhere || (holder.is_some() && before.is_none())) {
            return Err(LeaseError::TaskTaken);
        }
        if let Some(holder) = holder {
            let is_pick = holding.is_some_and(|lease| lease.kind() == Kind::Pick);
            let phase = match (before, is_pick) {
                (Some(before), _) => before,
                (None, true) => Phase::RESERVED,
                // The upstream gave one job to two submissions: the outcome of this one is unknown.
                (None, false) => Phase::uncertain(now),
            };
            self.set_phase(holder, phase);
            self.resolutions.note_lost_again(holder);
        }
        let foreign = self.take_foreign(task_id);
        let stood_for = self.leases.take_stood_for(task_id);
        for job in iter::empty().chain(foreign).chain(stood_for) {
            is_listed |= job.is_listed;
        }
        if let Some(holder) = holder {
            self.adopt_another(holder);
        }
        Ok(is_listed)
    }

    /// A lease has lost its job to another one. A lost submission takes one of the other unclaimed jobs, if there
    /// is one.
    pub(super) fn adopt_another(&mut self, id: LeaseId) {
        if self.leases.get(id).map(Lease::state) == Some(LeaseState::Uncertain)
            && let Some(job) = self.adopt_foreign(id)
        {
            self.tie(id, job);
        }
    }
}
