mod consistency;
mod contested;
mod determinism;
mod forecast;
mod health;
mod incremental;
mod laws;
mod leases;
mod lists;
mod matching;
mod model;
mod names;
mod picks;
mod resolutions;
mod roster;
mod rounds;
mod uniformity;
mod unnamed;
mod waiters;
mod world;

use std::time::Duration;

use accounts_fetcher::{Account, Snapshot};
use harness::Slots;
use rand::{SeedableRng, rngs::SmallRng};

use super::*;

const LIMITS: Limits = Limits {
    waiters_max: 3,
    job_ttl: Duration::from_secs(3900),
    reconciles: false,
    settle: Duration::from_secs(120),
    ties_picks: true,
};
const TTL: Duration = Duration::from_secs(60);
const START: Duration = Duration::ZERO;

/// A pool with its randomness, and short names for the operations of tests.
struct Bench {
    pool: Pool,
    rng: SmallRng,
}

/// The operations on accounts, by e-mail.
impl Pool {
    fn account(&self, email: &str) -> Result<AccountView, UnknownAccount> {
        self.account_named(&Name::new(email))
    }

    fn set_draining(
        &mut self,
        email: &str,
        is_draining: bool,
        now: Duration,
    ) -> Result<AccountView, UnknownAccount> {
        self.set_draining_named(&Name::new(email), is_draining, now)
    }
}

impl Bench {
    fn new(accounts: &[(&str, u32)]) -> Self {
        let mut bench = Self {
            pool: Pool::new(LIMITS),
            rng: SmallRng::seed_from_u64(7),
        };
        bench.apply(accounts, START);
        bench
    }

    fn apply(&mut self, accounts: &[(&str, u32)], now: Duration) {
        let accounts = accounts
            .iter()
            .map(|(email, max)| Account::new(email, *max))
            .collect();
        self.pool.apply(&Snapshot { accounts }, now, &mut self.rng);
    }

    fn ask(&mut self, only: Option<&str>, exclude: &[&str]) -> Ask {
        let exclude: Vec<_> = exclude.iter().map(|email| (*email).to_owned()).collect();
        let constraint = self.pool.constraint(only, &exclude).unwrap();
        Ask {
            lease_id: LeaseId::random(&mut self.rng),
            ttl: Some(TTL),
            constraint,
            operation: None,
            max_jobs: None,
            place: None,
        }
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
