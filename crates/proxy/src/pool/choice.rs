//! Choosing: who is granted a slot, who waits for one, and why not.

use std::time::Duration;

use rand::Rng;

use super::{
    Account, AccountKey, AccountView, Admission, Ask, Constraint, Excluded, Handover, Lease,
    LeaseView, Phase, Pool, Refusal, Ttl, WaiterId,
};

impl Pool {
    /// Leases a slot of an account drawn uniformly among the eligible ones, in one step.
    ///
    /// # Errors
    /// A [`Refusal`]; nothing has changed then.
    pub fn pick(
        &mut self,
        ask: &Ask,
        now: Duration,
        rng: &mut impl Rng,
    ) -> Result<LeaseView, Refusal> {
        match self.draw(ask, rng) {
            Some(_) if self.is_learning() => Err(Refusal::Learning),
            Some(key) => Ok(self.grant(key, ask, now)),
            None => Err(self.refusal(&ask.constraint, now)),
        }
    }

    /// Like [`Pool::pick`], but joins the queue where every account that would do is full.
    ///
    /// # Errors
    /// A [`Refusal`] that waiting would not help, or [`Refusal::QueueFull`].
    pub fn pick_or_wait(
        &mut self,
        ask: Ask,
        now: Duration,
        rng: &mut impl Rng,
    ) -> Result<Admission, Refusal> {
        match self.pick(&ask, now, rng) {
            Ok(lease) => Ok(Admission::Granted(lease)),
            Err(Refusal::Saturated { .. } | Refusal::Unverified | Refusal::CoolingDown { .. })
                if self.waiters.len() >= self.limits.waiters_max =>
            {
                Err(Refusal::QueueFull)
            }
            Err(Refusal::Saturated { .. } | Refusal::Unverified | Refusal::CoolingDown { .. }) => {
                Ok(Admission::Queued(self.waiters.push(ask)))
            }
            Err(
                refusal @ (Refusal::Learning
                | Refusal::NoAccounts
                | Refusal::NoUsableAccount
                | Refusal::QueueFull),
            ) => Err(refusal),
        }
    }

    /// Takes a waiter out of the queue. False if it is not in it: it was granted, or has left.
    pub fn leave(&mut self, waiter: WaiterId) -> bool {
        let Some(ask) = self.waiters.remove(waiter) else {
            return false;
        };
        if let Constraint::Only(key) = ask.constraint {
            self.forget_if_gone(key);
        }
        true
    }

    /// What a waiter is told that stops waiting now, or `None` if it is not in the queue.
    pub fn prospect(&mut self, waiter: WaiterId, now: Duration) -> Option<Refusal> {
        let (constraint, ahead) = self.waiters.place(waiter)?;
        Some(self.saturated(&constraint, ahead, now))
    }

    /// The accounts a pick with `constraint` could take right now, in list order.
    pub fn eligible(&self, constraint: &Constraint) -> impl Iterator<Item = AccountView> {
        self.order
            .iter()
            .filter(|key| self.free.contains(**key) && constraint.allows(**key))
            .map(|key| self.accounts[*key].view())
    }

    /// Why a pick could not be granted even if every slot were free, or `None`.
    pub fn outage(&self) -> Option<Refusal> {
        if self.is_learning() {
            Some(Refusal::Learning)
        } else if !self.order.iter().any(|key| self.accounts[*key].is_listed) {
            Some(Refusal::NoAccounts)
        } else if self.usable_count == 0 {
            Some(Refusal::NoUsableAccount)
        } else {
            None
        }
    }

    /// Why a pick that takes any account would be refused now, or `None`.
    pub fn obstacle(&mut self, now: Duration) -> Option<Refusal> {
        if self.is_learning() {
            Some(Refusal::Learning)
        } else if self.free.is_empty() {
            Some(self.refusal(&Constraint::AnyBut(Excluded::default()), now))
        } else {
            None
        }
    }

    /// Nobody knows yet which accounts there are and what runs on them.
    fn is_learning(&self) -> bool {
        !self.has_list || (self.limits.reconciles && !self.has_round)
    }

    fn draw(&self, ask: &Ask, rng: &mut impl Rng) -> Option<AccountKey> {
        let fits = |key: AccountKey| ask.fits(self.accounts[key].in_flight());
        match &ask.constraint {
            Constraint::Only(key) => (self.free.contains(*key) && fits(*key)).then_some(*key),
            Constraint::AnyBut(excluded) if ask.max_jobs.is_none() => self.free.draw(excluded, rng),
            Constraint::AnyBut(excluded) => {
                let is_wanted = |key| !excluded.contains(key) && fits(key);
                self.free.draw_where(is_wanted, rng)
            }
        }
    }

    pub(super) fn grant(&mut self, key: AccountKey, ask: &Ask, now: Duration) -> LeaseView {
        let ttl = ask.ttl.map(|length| Ttl {
            length,
            ends_at: now + length,
        });
        let phase = Phase::RESERVED;
        let lease = Lease {
            account: key,
            created_at: now,
            operation: ask.operation.clone(),
            ttl,
            phase,
            is_overdue: false,
            deadline: None,
        };
        self.accounts[key].held += 1;
        self.accounts[key].standing.granted(ask.lease_id);
        self.free.set(key, self.accounts[key].is_eligible());
        let view = self.lease_view(ask.lease_id, &lease);
        self.leases.insert(ask.lease_id, lease);
        self.rearm(ask.lease_id);
        view
    }

    /// Only called when no account that would do has a free slot.
    fn refusal(&mut self, constraint: &Constraint, now: Duration) -> Refusal {
        if let Some(outage) = self.outage() {
            return outage;
        }
        let would_do = |key: &AccountKey| {
            let account = self.accounts.get(*key)?;
            account.is_usable().then_some(account)
        };
        let (usable_count, standing): (usize, Vec<&Account>) = match constraint {
            Constraint::Only(key) => {
                let account = would_do(key);
                (
                    usize::from(account.is_some()),
                    account.into_iter().collect(),
                )
            }
            Constraint::AnyBut(excluded) => {
                let excluded_count = excluded.keys().filter_map(|key| would_do(&key)).count();
                let is_plain = self.uncertain_count == 0 && self.turns.is_empty();
                let others = self
                    .order
                    .iter()
                    .filter(|key| !is_plain && !excluded.contains(**key));
                (
                    self.usable_count - excluded_count,
                    others.filter_map(would_do).collect(),
                )
            }
        };
        let free = standing.iter().filter(|account| account.has_free_slot());
        let is_in_doubt = |account: &&Account| {
            account.uncertain > 0 && account.in_flight() - account.uncertain < account.max_jobs()
        };
        if usable_count == 0 {
            Refusal::NoUsableAccount
        } else if let Some(until) = free
            .filter_map(|account| account.standing.cooling_until())
            .min()
        {
            let ready_in = until.saturating_sub(now);
            Refusal::CoolingDown { ready_in }
        } else if standing.iter().any(is_in_doubt) {
            Refusal::Unverified
        } else {
            self.saturated(constraint, self.waiters.len(), now)
        }
    }

    pub(super) fn hand_over_freed(
        &mut self,
        freed: Vec<AccountKey>,
        now: Duration,
        rng: &mut impl Rng,
    ) {
        if freed.is_empty() {
            return;
        }
        self.hand_over_all(now, rng);
        for key in freed {
            self.forget_if_gone(key);
        }
    }

    /// Gives the free slots of one account to the waiters that may take them, in order.
    pub(super) fn hand_over(&mut self, key: AccountKey, now: Duration) {
        while self.free.contains(key)
            && let in_flight = self.accounts[key].in_flight()
            && let Some(waiter) = self.waiters.first_for(key, in_flight)
        {
            self.serve(waiter, key, now);
        }
    }

    /// Gives free slots to every waiter that may take one, in order, each drawn uniformly.
    pub(super) fn hand_over_all(&mut self, now: Duration, rng: &mut impl Rng) {
        let mut next = self.waiters.first();
        while let Some((waiter, ask)) = next
            && !self.free.is_empty()
        {
            if let Some(key) = self.draw(ask, rng) {
                self.serve(waiter, key, now);
            }
            next = self.waiters.after(waiter);
        }
    }

    fn serve(&mut self, waiter: WaiterId, key: AccountKey, now: Duration) {
        if let Some(ask) = self.waiters.remove(waiter) {
            let lease = self.grant(key, &ask, now);
            self.handovers.push_back(Handover { waiter, lease });
        }
    }
}
