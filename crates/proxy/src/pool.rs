//! The heart: which accounts exist, who holds their slots, who waits for one.
//!
//! Owns the choice, the leases and the waiters, and keeps these invariants after every call:
//!
//! - no grant on an account whose slots in use have reached its `maxJobs` of the newest snapshot;
//! - every choice is uniform over the eligible accounts;
//! - a slot comes back exactly once, however its lease ends;
//! - no free slot that a waiter may take: it was handed over in the call that freed it, to the
//!   longest-waiting one. So whatever is free is a newcomer's at once.
//!
//! Pure and synchronous: no I/O, no lock, no clock. Time is an argument, a [`Duration`] since the
//! owner's start, and so is randomness. What waiters were granted is collected by
//! [`Pool::next_handover`]; telling them is the owner's part.

mod account;
mod ask;
mod choice;
mod claims;
mod fates;
mod forecast;
mod foreign;
mod free;
mod lease;
mod roster;
mod rounds;
mod standing;
mod waiters;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use accounts_fetcher::{Identity, Snapshot};
use foldhash::fast::RandomState;
use rand::Rng;
use slotmap::SlotMap;

pub use account::{AccountKey, AccountView, State, Turn};
pub use ask::{
    Admission, Ask, Constraint, Excluded, Handover, LeaseError, Refusal, UnknownAccount, Update,
};
pub use fates::Fate;
pub use forecast::Operation;
pub use lease::{
    Cause, Kind, LeaseId, LeaseIdError, LeaseState, LeaseView, TASK_ID_DIGITS_MAX, TaskId,
    TaskIdError,
};
pub use rounds::{Cap, Findings, Round, Running, Unlisted};
pub use standing::Blame;
pub use waiters::WaiterId;

use account::Account;
use fates::Fates;
use forecast::Forecast;
use foreign::Foreign;
use free::FreeList;
use lease::{Lease, Phase, Ttl};
use standing::Standing;
use waiters::Waiters;

/// What bounds the book.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most waiters at once.
    pub waiters_max: usize,
    /// How long a slot is held for a bound job of which nothing more is heard.
    pub job_ttl: Duration,
    /// Whether rounds are held: then they decide about what is over, and none is granted before
    /// the first.
    pub reconciles: bool,
    /// How long a submission that was lost may still turn up as a job.
    pub settle: Duration,
    /// Whether a job that nobody claims is taken for the one of a pick without a job.
    pub ties_picks: bool,
}

/// The accounts, their slots, the leases on them and the queue for them.
#[derive(Debug)]
pub struct Pool {
    limits: Limits,
    has_list: bool,
    has_round: bool,
    /// How many lists were applied.
    list_no: u64,
    accounts: SlotMap<AccountKey, Account>,
    /// In list order; removed accounts whose jobs still run come last.
    order: Vec<AccountKey>,
    /// By the lower-cased e-mail: accounts that differ only in case share an entry.
    by_name: HashMap<String, Vec<AccountKey>, RandomState>,
    by_identity: HashMap<Identity, AccountKey, RandomState>,
    usable_count: usize,
    /// Uncertain slots on all accounts.
    uncertain_count: u32,
    free: FreeList,
    leases: HashMap<LeaseId, Lease, RandomState>,
    by_task: HashMap<TaskId, LeaseId, RandomState>,
    fates: Fates,
    forecast: Forecast,
    foreign: HashMap<TaskId, Foreign, RandomState>,
    /// No foreign job is let go before then.
    foreign_deadline: Duration,
    /// Jobs that the upstream no longer counts, and since when: a round that is on its way may list
    /// them still.
    untracked: HashMap<TaskId, Duration, RandomState>,
    /// Jobs on accounts that are not in the list, and when they were last known to run.
    strangers: Vec<(Running, Duration)>,
    deadlines: BTreeSet<(Duration, LeaseId)>,
    is_round_due: bool,
    /// When the standing of accounts changes by itself.
    turns: BTreeSet<(Duration, AccountKey)>,
    /// What turned since it was last asked for.
    turned: Vec<Turn>,
    waiters: Waiters,
    handovers: VecDeque<Handover>,
    ended_counts: [u64; Cause::ALL.len()],
}

impl Pool {
    /// An empty book that refuses every pick until a snapshot is applied.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            has_list: false,
            has_round: false,
            list_no: 0,
            accounts: SlotMap::with_key(),
            order: Vec::new(),
            by_name: HashMap::default(),
            by_identity: HashMap::default(),
            usable_count: 0,
            uncertain_count: 0,
            free: FreeList::default(),
            leases: HashMap::default(),
            by_task: HashMap::default(),
            fates: Fates::default(),
            forecast: Forecast::default(),
            foreign: HashMap::default(),
            foreign_deadline: Duration::MAX,
            untracked: HashMap::default(),
            strangers: Vec::new(),
            deadlines: BTreeSet::new(),
            is_round_due: false,
            turns: BTreeSet::new(),
            turned: Vec::new(),
            waiters: Waiters::default(),
            handovers: VecDeque::new(),
            ended_counts: [0; Cause::ALL.len()],
        }
    }

    /// The next slot that was handed to a waiter. The owner tells it, in this order.
    pub fn next_handover(&mut self) -> Option<Handover> {
        self.handovers.pop_front()
    }

    /// Changes a lease: renews it, binds it to its job, or both.
    ///
    /// # Errors
    /// [`LeaseError`]; nothing has changed then.
    pub fn update(
        &mut self,
        id: LeaseId,
        update: Update,
        now: Duration,
    ) -> Result<LeaseView, LeaseError> {
        let lease = self.leases.get_mut(&id).ok_or(LeaseError::Unknown)?;
        match (update.task_id, update.ttl, &mut lease.ttl) {
            (Some(task_id), _, _) => self.bind(id, task_id, now)?,
            (None, Some(length), Some(ttl)) => {
                *ttl = Ttl {
                    length,
                    ends_at: now + length,
                };
                lease.is_overdue = false;
                self.rearm(id);
            }
            (None, _, _) => {}
        }
        self.lease(id).ok_or(LeaseError::Unknown)
    }

    /// Ends a lease and returns its slot. False if there is no such lease: nothing changes then.
    pub fn end(&mut self, id: LeaseId, cause: Cause, now: Duration) -> bool {
        let Some(key) = self.strike(id, cause, now) else {
            return false;
        };
        self.hand_over(key, now);
        self.forget_if_gone(key);
        true
    }

    /// Ends the lease of a submission that the upstream refused, and notes what that says about the
    /// account, in one step. False if there is no such lease: nothing changes then.
    pub fn refuse(&mut self, id: LeaseId, blame: Blame, now: Duration) -> bool {
        let leased_at = self.leases.get(&id).map(|lease| lease.created_at);
        let (Some(key), Some(leased_at)) = (self.strike(id, Cause::Refused, now), leased_at) else {
            return false;
        };
        self.restand(key, |standing| {
            if blame == Blame::Innocent {
                standing.well(leased_at);
            } else {
                standing.blame(blame, now);
            }
        });
        self.hand_over(key, now);
        self.forget_if_gone(key);
        true
    }

    /// Lets go of every lease whose last deadline has come, and asks for a round about those whose
    /// ttl is over.
    pub fn expire(&mut self, now: Duration, rng: &mut impl Rng) {
        let mut freed = Vec::new();
        while let Some(&(at, id)) = self.deadlines.first()
            && at <= now
        {
            if self.is_for_a_round(id) {
                continue;
            }
            let is_expiry =
                self.leases[&id].state() == LeaseState::Reserved && !self.limits.reconciles;
            let cause = if is_expiry {
                Cause::Expired
            } else {
                Cause::Unverified
            };
            freed.extend(self.strike(id, cause, now));
        }
        self.expire_foreign(now, &mut freed);
        while let Some(&(at, key)) = self.turns.first()
            && at <= now
        {
            self.restand(key, |standing| standing.pass(now));
            freed.push(key);
        }
        self.hand_over_freed(freed, now, rng);
    }

    /// What kept accounts from being picked, and what does now, since this was last asked.
    pub fn take_turned(&mut self) -> Vec<Turn> {
        std::mem::take(&mut self.turned)
    }

    /// Whether something became due that only a round can decide, since this was last asked.
    pub fn take_round_due(&mut self) -> bool {
        std::mem::take(&mut self.is_round_due)
    }

    /// When the pool next looks at something by itself.
    pub fn next_deadline(&self) -> Option<Duration> {
        let lease = self.deadlines.first().map_or(Duration::MAX, |(at, _)| *at);
        let turn = self.turns.first().map_or(Duration::MAX, |(at, _)| *at);
        let next = lease.min(turn).min(self.foreign_deadline);
        Some(next).filter(|at| *at < Duration::MAX)
    }

    /// The lease `id`, if it is held.
    pub fn lease(&self, id: LeaseId) -> Option<LeaseView> {
        self.leases.get(&id).map(|lease| self.lease_view(id, lease))
    }

    /// Every held lease, oldest first.
    pub fn leases(&self) -> Vec<LeaseView> {
        let mut leases: Vec<_> = self
            .leases
            .iter()
            .map(|(id, lease)| self.lease_view(*id, lease))
            .collect();
        leases.sort_by_key(|lease| (lease.created_at, lease.id));
        leases
    }

    /// Every account, in list order; removed accounts whose jobs still run come last.
    pub fn accounts(&self) -> impl Iterator<Item = AccountView> {
        self.order.iter().map(|key| self.accounts[*key].view())
    }

    /// The account `email`.
    ///
    /// # Errors
    /// [`UnknownAccount`] if it is not in the book.
    pub fn account(&self, email: &str) -> Result<AccountView, UnknownAccount> {
        self.find(email).map(|key| self.accounts[key].view())
    }

    /// How many callers wait.
    pub fn waiters_count(&self) -> usize {
        self.waiters.len()
    }

    /// How many leases ended, by cause, in the order of [`Cause::ALL`].
    pub fn ended_counts(&self) -> [u64; Cause::ALL.len()] {
        self.ended_counts
    }

    /// A pick whose ttl is over: its slot waits for a round, which is due.
    fn is_for_a_round(&mut self, id: LeaseId) -> bool {
        let reconciles = self.limits.reconciles;
        let overdue = self.leases.get_mut(&id).filter(|lease| {
            reconciles && lease.state() == LeaseState::Reserved && !lease.is_overdue
        });
        let Some(lease) = overdue else {
            return false;
        };
        lease.is_overdue = true;
        self.is_round_due = true;
        self.rearm(id);
        true
    }

    /// Takes a lease out of the book. Its slot is free then, but not yet handed to a waiter.
    fn strike(&mut self, id: LeaseId, cause: Cause, now: Duration) -> Option<AccountKey> {
        let lease = self.leases.remove(&id)?;
        if let Some(deadline) = lease.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        self.fates.decide(id, &lease, cause);
        self.forecast.outdate();
        let stood_for = match lease.phase {
            Phase::Bound(ref bond) => {
                self.by_task.remove(&bond.task_id);
                if cause == Cause::Finished {
                    let took = now.saturating_sub(bond.since);
                    self.forecast.learn(&lease.operation, took);
                }
                None
            }
            Phase::Reserved { ref stands_for } => stands_for.clone(),
            Phase::Uncertain { .. } => None,
        };
        self.ended_counts[cause as usize] += 1;
        if self.accounts[lease.account].standing.is_probed_by(id) {
            self.restand(lease.account, Standing::want_probe);
        }
        let is_uncertain = lease.state() == LeaseState::Uncertain;
        self.change(lease.account, |account| {
            *(if is_uncertain {
                &mut account.uncertain
            } else {
                &mut account.held
            }) -= 1;
        });
        // The job was there, and is not this lease's.
        if let Some(job) = stood_for {
            self.let_go(job, lease.account, now);
        }
        Some(lease.account)
    }

    /// Moves a lease on in its life, with all that hangs on it.
    fn rephase(&mut self, id: LeaseId, phase: Phase) {
        let Some(lease) = self.leases.get_mut(&id) else {
            return;
        };
        let (account, before) = (lease.account, lease.state());
        let old = std::mem::replace(&mut lease.phase, phase);
        let after = lease.state();
        if let Phase::Bound(bond) = old {
            self.by_task.remove(&bond.task_id);
        }
        if let Some(bond) = lease.bond() {
            self.by_task.insert(bond.task_id.clone(), id);
        }
        match (
            before == LeaseState::Uncertain,
            after == LeaseState::Uncertain,
        ) {
            (false, true) => self.change(account, |account| {
                account.held -= 1;
                account.uncertain += 1;
            }),
            (true, false) => self.change(account, |account| {
                account.uncertain -= 1;
                account.held += 1;
            }),
            (true, true) | (false, false) => {}
        }
        self.rearm(id);
    }

    /// Notes the next deadline of a lease anew.
    fn rearm(&mut self, id: LeaseId) {
        let Some(lease) = self.leases.get_mut(&id) else {
            return;
        };
        let deadline = lease.next_deadline(&self.limits);
        let old = std::mem::replace(&mut lease.deadline, deadline);
        if old == deadline {
            return;
        }
        if let Some(old) = old {
            self.deadlines.remove(&(old, id));
        }
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, id));
        }
    }

    /// Changes how an account stands with the upstream, and what follows from it.
    fn restand(&mut self, key: AccountKey, change: impl FnOnce(&mut Standing)) {
        let before = self.accounts[key].state();
        self.change(key, |account| change(&mut account.standing));
        self.note_turn(key, before);
        let account = &mut self.accounts[key];
        let turn = account.standing.next_deadline();
        let old = std::mem::replace(&mut account.turn, turn);
        if old == turn {
            return;
        }
        self.turns.extend(turn.map(|at| (at, key)));
        if let Some(old) = old {
            self.turns.remove(&(old, key));
        }
    }

    /// Remembers that an account is no longer in the state that it was in `before`.
    fn note_turn(&mut self, key: AccountKey, before: State) {
        let account = &self.accounts[key];
        let (from, to) = (before.without_slots(), account.state().without_slots());
        if from != to {
            let alias = Arc::clone(&account.listed.alias);
            self.turned.push(Turn { alias, from, to });
        }
    }

    /// Changes what decides about an account, and what follows from it.
    fn change(&mut self, key: AccountKey, change: impl FnOnce(&mut Account)) {
        let account = &mut self.accounts[key];
        self.usable_count -= usize::from(account.is_usable());
        self.uncertain_count -= account.uncertain;
        change(account);
        self.usable_count += usize::from(account.is_usable());
        self.uncertain_count += account.uncertain;
        self.free.set(key, account.is_eligible());
    }

    fn lease_view(&self, id: LeaseId, lease: &Lease) -> LeaseView {
        let account = &self.accounts[lease.account];
        LeaseView {
            id,
            email: account.listed.email.clone(),
            alias: account.listed.alias.clone(),
            kind: lease.kind(),
            state: lease.state(),
            task_id: lease.bond().map(|bond| bond.task_id.clone()),
            max_jobs: account.max_jobs(),
            in_flight: account.in_flight(),
            created_at: lease.created_at,
            expires_at: lease.told_expiry(&self.limits),
        }
    }
}
