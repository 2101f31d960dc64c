//! Choosing: which caller is granted a slot, which one waits, and why a call is refused.

use std::{collections::BTreeMap, time::Duration};

use rand::Rng;

use super::{
    AccountKey, Admission, Ask, Claim, Constraint, Excluded, Handover, Kind, Known, Lease, LeaseId,
    LeaseView, Pool, Refusal, WaiterId,
    account::Account,
    ask::Terms,
    free::FreeList,
    lease::{Particulars, Ttl},
    resolutions::Holding,
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
        match self.accounts.draw(ask.wish(), rng) {
            Some(_) if self.is_learning() => Err(Refusal::Learning),
            Some(key) => Ok(self.grant(key, ask.terms(), now)),
            None => Err(self.refusal(&ask.constraint, ask.place, now)),
        }
    }

    /// Like [`Pool::pick`], but joins the queue if every accepted account is full.
    ///
    /// # Errors
    /// A [`Refusal`] that waiting would not help, or [`Refusal::QueueFull`].
    pub fn pick_or_wait(
        &mut self,
        ask: Ask,
        now: Duration,
        rng: &mut impl Rng,
    ) -> Result<Admission, Refusal> {
        let free_in = match self.pick(&ask, now, rng) {
            Ok(lease) => return Ok(Admission::Granted(lease)),
            Err(Refusal::CoolingDown { ready_in }) => ready_in,
            Err(Refusal::Saturated { .. } | Refusal::Unverified { .. }) => {
                // The refusal has renewed the forecast. The first waiter leaves the queue first.
                let any = Constraint::AnyBut(Excluded::default());
                self.forecast.free_in(&any, 0, now)
            }
            Err(
                refusal @ (Refusal::Learning
                | Refusal::NoAccounts
                | Refusal::NoUsableAccount
                | Refusal::QueueFull { .. }),
            ) => return Err(refusal),
        };
        if self.waiters.len() >= self.limits.waiters_max {
            return Err(Refusal::QueueFull { free_in });
        }
        Ok(Admission::Queued(self.waiters.push(ask, now)))
    }

    /// A place in the queue behind all others, for a caller that may come back to it: its slot may turn out
    /// to be none.
    pub fn take_place(&mut self, now: Duration) -> WaiterId {
        self.waiters.next_place(now)
    }

    /// For how long the first waiter has waited.
    pub fn oldest_waits_for(&self, now: Duration) -> Option<Duration> {
        let since = self.waiters.oldest_since()?;
        Some(now.saturating_sub(since))
    }

    /// What the call with the lease `id` got already: the lease, or a place in the queue.
    pub fn admitted(&self, id: LeaseId) -> Option<Admission> {
        let waiting = || self.waiters.of_lease(id).map(Admission::Queued);
        self.lease(id).map(Admission::Granted).or_else(waiting)
    }

    /// Claims an idempotency key for the call that asks for the lease `id`.
    ///
    /// # Errors
    /// What the key stands for: then the call gets nothing new.
    pub fn claim(&mut self, claim: &Claim, id: LeaseId, kind: Kind) -> Result<(), Known> {
        let Self {
            resolutions,
            leases,
            accounts,
            limits,
            ..
        } = self;
        resolutions
            .claim(claim, id, kind, |id| {
                let lease = leases.get(id)?;
                let view = LeaseView::of(id, lease, &accounts[lease.account], limits);
                let is_tied = lease.is_tied();
                Some(Holding { view, is_tied })
            })
            .inspect_err(|known| {
                if let Known::Held(held) = known {
                    leases.note_told(held.id);
                }
            })
    }

    /// Gives a submission that was just lost a key, by which it can be asked what became of it. False if it
    /// has one, is not lost, or the table of keys is full.
    pub fn name_lost(&mut self, id: LeaseId, claim: Claim) -> bool {
        self.resolutions.name_lost(id, claim)
    }

    /// What a key stands for already. Claims nothing.
    pub fn recall(&self, claim: &Claim) -> Option<Known> {
        self.resolutions.recall(claim, |id| {
            let lease = self.leases.get(id)?;
            let (view, is_tied) = (self.lease_view(id, lease), lease.is_tied());
            Some(Holding { view, is_tied })
        })
    }

    /// The call that asks for the lease `id` got no slot: the key that it claimed is free.
    pub fn unclaim(&mut self, id: LeaseId) {
        self.resolutions.free(id);
    }

    /// Whether a call with this key would get nothing new.
    pub fn knows(&self, key: &super::Key) -> bool {
        self.resolutions.knows(key)
    }

    /// Takes a waiter out of the queue. False if it is not in the queue: it was granted, or has
    /// left.
    pub fn leave(&mut self, waiter: WaiterId) -> bool {
        let Some((left, pinned_to)) = self.waiters.remove(waiter) else {
            return false;
        };
        self.resolutions.free(left.terms.lease_id);
        if let Some(key) = pinned_to {
            self.accounts.note_idle(key);
            self.forget_idle();
            self.settle_names();
            self.settle_unnamed();
        }
        true
    }

    /// The answer to a waiter that stops waiting now, or `None` if it is not in the queue.
    pub fn queue_estimate(&mut self, waiter: WaiterId, now: Duration) -> Option<Refusal> {
        self.renew_forecast(now);
        let (constraint, ahead) = self.waiters.place(waiter)?;
        Some(Refusal::Saturated {
            free_in: self.forecast.free_in(constraint, ahead, now),
            position: ahead + 1,
        })
    }

    /// Why a pick could not be granted even if every slot were free, or `None`.
    pub fn unavailable_reason(&self) -> Option<Refusal> {
        if self.is_learning() {
            Some(Refusal::Learning)
        } else if !self.accounts.has_listed() {
            Some(Refusal::NoAccounts)
        } else if !self.accounts.has_usable() {
            Some(Refusal::NoUsableAccount)
        } else {
            None
        }
    }

    /// Why a pick that takes any account would be refused now, or `None`.
    pub fn refusal_now(&mut self, now: Duration) -> Option<Refusal> {
        if self.is_learning() {
            Some(Refusal::Learning)
        } else if self.accounts.has_free() {
            None
        } else {
            Some(self.refusal(&Constraint::AnyBut(Excluded::default()), None, now))
        }
    }

    /// Whether the accounts, or the jobs that run on them, are not known yet.
    pub fn is_learning(&self) -> bool {
        !self.is_list_fresh || (self.limits.reconciles && self.running.is_none())
    }

    fn grant(&mut self, key: AccountKey, terms: Terms, now: Duration) -> LeaseView {
        let id = terms.lease_id;
        let ttl = terms.ttl.map(|length| Ttl::new(length, now + length));
        // A client may send no mark before it is known that they are kept.
        let is_offered = ttl.is_none() || self.marks.is_offered(terms.operation.as_ref());
        let particulars = Particulars {
            operation: terms.operation,
            mark: terms.mark.filter(|_| is_offered),
            body: terms.body,
            earlier_run: None,
        };
        let lease = Box::new(Lease::new(key, now, terms.caller, ttl, particulars));
        let account = self.accounts.take_slot(key, id, now);
        let view = LeaseView::of(id, &lease, account, &self.limits);
        if let Some(mark) = lease.mark() {
            self.marks.add(mark, id);
        }
        self.leases.insert(id, lease);
        view
    }

    /// Only called when no accepted account has a free slot.
    fn refusal(
        &mut self,
        constraint: &Constraint,
        place: Option<WaiterId>,
        now: Duration,
    ) -> Refusal {
        if let Some(reason) = self.unavailable_reason() {
            return reason;
        }
        if self.accounts.count_usable(constraint) == 0 {
            return Refusal::NoUsableAccount;
        }
        if let Some(until) = self.accounts.first_cooled(constraint) {
            let ready_in = until.saturating_sub(now);
            return Refusal::CoolingDown { ready_in };
        }
        self.renew_forecast(now);
        let ahead = self.waiters.ahead_of(place);
        let free_in = self.forecast.free_in(constraint, ahead, now);
        if self.accounts.is_unverified(constraint) {
            Refusal::Unverified { free_in }
        } else {
            Refusal::Saturated {
                free_in,
                position: ahead + 1,
            }
        }
    }

    /// Ends an operation that may have opened an account or two: their slots go to the waiters that may
    /// take them, in order.
    pub(super) fn finish(&mut self, now: Duration) {
        loop {
            self.settle_names();
            self.settle_unnamed();
            if self.waiters.len() == 0 {
                self.accounts.clear_opened();
            } else {
                for key in self.accounts.take_opened() {
                    self.hand_over(key, now);
                }
            }
            self.forget_idle();
            // Once an account is forgotten, its name may mean exactly one other account.
            if !self.accounts.has_renamed() {
                self.accounts.note_states(now);
                return;
            }
        }
    }

    fn hand_over(&mut self, key: AccountKey, now: Duration) {
        while self.accounts.is_free(key)
            && let in_flight = self.accounts[key].in_flight()
            && let Some(waiter) = self.waiters.first_for(key, in_flight)
        {
            self.serve(waiter, key, now);
        }
    }

    /// Ends an operation that may have opened many accounts: waiters are served in order, each with
    /// a slot drawn uniformly. No waiter can use an account that did not open.
    pub(super) fn finish_drawn(&mut self, now: Duration, rng: &mut impl Rng) {
        self.settle_names();
        self.settle_unnamed();
        if self.waiters.len() == 0 {
            self.accounts.clear_opened();
        } else {
            let opened = self.accounts.take_opened().into_iter();
            let opened = opened.filter(|key| self.accounts.is_free(*key)).collect();
            self.hand_over_drawn(opened, now, rng);
        }
        self.forget_idle();
        if self.accounts.has_renamed() {
            self.finish(now);
        }
        self.accounts.note_states(now);
    }

    fn hand_over_drawn(&mut self, mut opened: FreeList, now: Duration, rng: &mut impl Rng) {
        let mut firsts = if opened.is_empty() {
            BTreeMap::new()
        } else {
            self.waiters.firsts(opened.iter())
        };
        while let Some((waiter, group)) = firsts.pop_first()
            && !opened.is_empty()
        {
            let drawn = self.waiters.wish(group).and_then(|wish| {
                let fits = |key| wish.constraint.allows(key) && self.accounts.fits(wish, key);
                match wish.constraint {
                    Constraint::Only(key) => (opened.contains(*key) && fits(*key)).then_some(*key),
                    Constraint::AnyBut(_) => opened.draw_where(opened.len(), fits, rng),
                }
            });
            // No slot opens while they are handed out, so the rest of this group gets none either.
            let Some(key) = drawn else {
                continue;
            };
            self.serve(waiter, key, now);
            opened.set(key, self.accounts.is_free(key));
            firsts.extend(self.waiters.first_of(group).map(|next| (next, group)));
        }
    }

    fn serve(&mut self, waiter: WaiterId, key: AccountKey, now: Duration) {
        if let Some((served, _)) = self.waiters.remove(waiter) {
            let lease_id = served.terms.lease_id;
            let lease = self.grant(key, served.terms, now);
            // What it claimed is kept from now on.
            self.resolutions.note_granted(lease_id);
            self.outbox.hand_over(Handover { waiter, lease });
        }
    }

    /// Forgets the accounts that left the list once nothing refers to them.
    fn forget_idle(&mut self) {
        while let Some(key) = self.accounts.next_idle() {
            let is_forgettable = self.accounts.get(key).is_some_and(Account::is_forgettable);
            let is_awaited = self.waiters.is_awaited(key) || self.resolutions.is_undecided(key);
            if is_forgettable && !is_awaited {
                self.accounts.forget(key);
                self.leases.forget_account(key);
                self.foreign_jobs.forget_account(key);
                self.resolutions.forget_account(key);
            }
        }
    }
}
