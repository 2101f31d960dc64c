//! What must hold for the pool, whatever happens to it: the worlds around it and the checks. The fuzz targets read
//! their events from bytes, the tests draw them at random.
#![expect(clippy::unwrap_used, reason = "a check fails by panicking")]

pub(crate) mod events;
pub(crate) mod journal;
pub(crate) mod model;
pub(crate) mod rounds;
pub(crate) mod world;

use std::{iter, time::Duration};

use accounts_fetcher::{Account, Snapshot};
use arbitrary::{Arbitrary, Unstructured};
use rand::{SeedableRng, rngs::SmallRng};

use super::*;

pub(super) const LIMITS: Limits = Limits {
    waiters_max: 3,
    job_ttl: Duration::from_secs(3900),
    reconciles: false,
    settle: Duration::from_secs(120),
    ties_picks: true,
};
pub(super) const RECONCILING: Limits = Limits {
    reconciles: true,
    ..LIMITS
};
pub(super) const TTL: Duration = Duration::from_secs(60);
pub(super) const START: Duration = Duration::ZERO;

pub(super) fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn task(id: u64) -> TaskId {
    id.to_string().parse().unwrap()
}

/// A pool with its randomness, and short names for operations.
pub(super) struct Bench {
    pub(super) pool: Pool,
    pub(super) rng: SmallRng,
}

/// The operations on accounts, by e-mail.
impl Pool {
    pub(super) fn account(&self, email: &str) -> Result<AccountView, UnknownAccount> {
        self.account_named(&Name::new(email), START)
    }

    pub(super) fn set_draining(
        &mut self,
        email: &str,
        is_draining: bool,
        now: Duration,
    ) -> Result<AccountView, UnknownAccount> {
        self.set_draining_named(&Name::new(email), is_draining, now)
    }
}

impl Bench {
    /// A pool without a list.
    pub(super) fn empty(limits: Limits, seed: u64) -> Self {
        Self {
            pool: Pool::new(limits),
            rng: SmallRng::seed_from_u64(seed),
        }
    }

    /// A pool that has had its first list and an empty first round, at time 0.
    pub(super) fn learned(limits: Limits, accounts: &[(&str, u32)]) -> Self {
        let mut bench = Self::empty(limits, 7);
        bench.learn(accounts, START);
        bench
    }

    /// The first list and an empty first round.
    pub(super) fn learn(&mut self, accounts: &[(&str, u32)], now: Duration) {
        self.apply(accounts, now);
        let Self { pool, rng } = self;
        pool.reconcile(&Round::default(), now, rng);
    }

    pub(super) fn apply(&mut self, accounts: &[(&str, u32)], now: Duration) {
        let accounts = accounts.iter();
        let list: Snapshot = accounts
            .map(|(email, max)| Account::new(email, *max))
            .collect();
        self.pool.apply(&list, now, &mut self.rng);
    }

    pub(super) fn ask(&mut self, only: Option<&str>, exclude: &[&str]) -> Ask {
        let exclude: Vec<_> = exclude.iter().map(|email| (*email).to_owned()).collect();
        let constraint = self.pool.constraint(only, &exclude).unwrap();
        Ask {
            lease_id: LeaseId::random(&mut self.rng),
            ttl: Some(TTL),
            constraint,
            caller: Caller::default(),
            operation: None,
            max_jobs: None,
            place: None,
            wait: Duration::ZERO,
            body: None,
            mark: None,
        }
    }
}

/// One of so many numbers.
fn below(bytes: &mut Unstructured<'_>, count: u64) -> arbitrary::Result<u64> {
    bytes.int_in_range(0..=count - 1)
}

/// Which of a list whose length is not known yet.
fn nth(bytes: &mut Unstructured<'_>) -> arbitrary::Result<usize> {
    Ok(usize::from(bytes.arbitrary::<u8>()?))
}

/// How many steps of a round are taken at once: a few, or all.
fn round_steps(bytes: &mut Unstructured<'_>) -> arbitrary::Result<usize> {
    let steps = 1 + usize::from(bytes.arbitrary::<u8>()? % 16);
    Ok(if steps == 16 { usize::MAX } else { steps })
}

/// At most so many items.
fn few<'a, T>(
    bytes: &mut Unstructured<'a>,
    most: u64,
    mut item: impl FnMut(&mut Unstructured<'a>) -> arbitrary::Result<T>,
) -> arbitrary::Result<Vec<T>> {
    let count = below(bytes, most + 1)?;
    (0..count).map(|_| item(bytes)).collect()
}

/// In so many percent of all cases an item.
fn maybe<'a, T>(
    bytes: &mut Unstructured<'a>,
    percent: u8,
    item: impl FnOnce(&mut Unstructured<'a>) -> arbitrary::Result<T>,
) -> arbitrary::Result<Option<T>> {
    bytes.ratio(percent, 100)?.then(|| item(bytes)).transpose()
}

/// The events that `bytes` tell, as far as they tell any.
fn events<'a, T: Arbitrary<'a>>(mut bytes: Unstructured<'a>) -> impl Iterator<Item = T> {
    iter::from_fn(move || {
        (!bytes.is_empty())
            .then(|| bytes.arbitrary().ok())
            .flatten()
    })
}
