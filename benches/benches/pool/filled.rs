//! A filled pool to measure on.

use std::time::Duration;

use proxy::pool::{Ask, Constraint, LeaseId, LeaseView, Limits, Pool, Round, RunningJob};
use rand::rngs::ThreadRng;

use crate::fixtures::{ask, email, snapshot};

/// The time between two leases, and between two rounds: so short that nothing ends by itself.
pub(crate) const STEP: Duration = Duration::from_micros(1);

/// A pool, with its time and its random generator.
pub(crate) struct FilledPool {
    pub(crate) pool: Pool,
    pub(crate) now: Duration,
    pub(crate) rng: ThreadRng,
}

impl FilledPool {
    /// A pool with a list. If rounds are held, it has followed an empty one: nothing is granted
    /// before the first.
    pub(crate) fn new(limits: Limits, accounts_count: u32) -> Self {
        let mut filled = Self {
            pool: Pool::new(limits),
            now: Duration::ZERO,
            rng: rand::rng(),
        };
        let list = snapshot(accounts_count);
        filled.pool.apply(&list, filled.now, &mut filled.rng);
        if limits.reconciles {
            let round = filled.round(Vec::new());
            filled.reconcile(&round);
        }
        filled
    }

    /// Asks for any account.
    pub(crate) fn ask(&mut self) -> Ask {
        ask(&self.pool, &mut self.rng)
    }

    /// Asks for one account only.
    pub(crate) fn ask_for(&mut self, account_idx: u32) -> Ask {
        let constraint = self.only(account_idx);
        Ask {
            constraint,
            ..self.ask()
        }
    }

    fn only(&self, account_idx: u32) -> Constraint {
        self.pool
            .constraint(Some(&email(account_idx)), &[])
            .expect("the account is in the list")
    }

    /// A pick that is granted.
    pub(crate) fn pick(&mut self, ask: &Ask) -> LeaseView {
        self.pool
            .pick(ask, self.now, &mut self.rng)
            .expect("a slot is left")
    }

    /// Holds so many slots of every account, in list order.
    pub(crate) fn hold(&mut self, accounts_count: u32, slots_each: u32) -> Vec<LeaseId> {
        let mut held = Vec::new();
        for account_idx in 0..accounts_count {
            let constraint = self.only(account_idx);
            for _ in 0..slots_each {
                self.now += STEP;
                let ask = Ask {
                    constraint: constraint.clone(),
                    ..self.ask()
                };
                held.push(self.pick(&ask).id);
            }
        }
        held
    }

    /// A round that is sent now.
    pub(crate) fn round(&self, executing: Vec<RunningJob>) -> Round {
        Round {
            sent_at: self.now,
            executing,
            ..Round::default()
        }
    }

    /// Learns from a round that is answered at once.
    pub(crate) fn reconcile(&mut self, round: &Round) {
        self.pool.reconcile(round, self.now, &mut self.rng);
    }
}
