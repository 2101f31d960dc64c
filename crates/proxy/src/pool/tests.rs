mod changes;
mod consistency;
mod contested;
mod determinism;
mod facts;
mod forecast;
mod health;
mod incremental;
mod laws;
mod leases;
mod lists;
mod marks;
mod matching;
mod model;
mod names;
mod picks;
mod resolutions;
mod restarts;
mod roster;
mod rounds;
mod uniformity;
mod unnamed;
mod waiters;
mod world;

use std::time::Duration;

use accounts_fetcher::{Account, Snapshot};
use harness::Slots;
use proptest::prelude::*;
use rand::{SeedableRng, rngs::SmallRng};

use super::{
    fuzzing::{Bench, LIMITS, START, TTL},
    *,
};

/// How many steps of a round are taken at once.
fn any_round_steps() -> impl Strategy<Value = usize> {
    prop_oneof![1 => 1..16_usize, 1 => Just(usize::MAX)]
}

impl Bench {
    fn new(accounts: &[(&str, u32)]) -> Self {
        let mut bench = Self::empty(LIMITS, 7);
        bench.apply(accounts, START);
        bench
    }

    fn pick(&mut self) -> Result<LeaseView, Refusal> {
        self.pick_of(None, &[])
    }

    fn pick_of(&mut self, only: Option<&str>, exclude: &[&str]) -> Result<LeaseView, Refusal> {
        let ask = self.ask(only, exclude);
        self.pool.pick(&ask, START, &mut self.rng)
    }

    fn wait_for(&mut self, only: Option<&str>, exclude: &[&str]) -> WaiterId {
        let ask = self.ask(only, exclude);
        match self.pool.pick_or_wait(ask, START, &mut self.rng).unwrap() {
            Admission::Queued(id) => id,
            Admission::Granted(lease) => panic!("granted {lease:?} instead of queued"),
        }
    }

    fn fill(&mut self) -> Vec<LeaseView> {
        std::iter::from_fn(|| self.pick().ok()).collect()
    }

    fn release(&mut self, lease: &LeaseView) -> bool {
        self.pool.end(lease.id, Cause::Released, START)
    }

    fn handed_over(&mut self) -> Vec<(WaiterId, String)> {
        std::iter::from_fn(|| self.pool.next_handover())
            .map(|handover| (handover.waiter, handover.lease.email.to_string()))
            .collect()
    }

    fn held(&self, email: &str) -> u32 {
        self.pool.account(email).unwrap().held
    }
}

const SATURATED: Refusal = Refusal::Saturated {
    free_in: TTL,
    position: 1,
};
