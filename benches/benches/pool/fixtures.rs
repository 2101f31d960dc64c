//! Shared by the benchmarks of the pool: limits, lists, an ask for any account.

use std::{sync::Arc, time::Duration};

use accounts_fetcher::{Account, Snapshot};
use criterion::Criterion;
use proxy::pool::{Ask, Caller, LeaseId, Limits, Pool};
use rand::rngs::ThreadRng;

/// As many slots as each account has.
pub(crate) const MAX_JOBS: u32 = 10;
/// Long enough that no lease ends by itself while we measure.
pub(crate) const TTL: Duration = Duration::from_secs(3600);

pub(crate) fn limits() -> Limits {
    Limits {
        waiters_max: 0,
        job_ttl: TTL,
        reconciles: false,
        settle: TTL,
        ties_picks: false,
    }
}

pub(crate) fn email(account_idx: u32) -> String {
    format!("account-{account_idx:06}@example.com")
}

pub(crate) fn snapshot(accounts_count: u32) -> Snapshot {
    let account = |idx| Account::new(&email(idx), MAX_JOBS);
    (0..accounts_count).map(account).collect()
}

/// `snapshot` as if fetched again: equal, and sharing no memory with it.
pub(crate) fn fetched_again(snapshot: &Snapshot) -> Snapshot {
    let again = |account: &Arc<Account>| Account::new(&account.email, account.max_jobs);
    snapshot.accounts.iter().map(again).collect()
}

pub(crate) fn ask(pool: &Pool, rng: &mut ThreadRng) -> Ask {
    let lease_id = LeaseId::random(rng);
    let constraint = pool
        .constraint(None, &[])
        .expect("no account is asked for, so none is unknown");
    Ask {
        lease_id,
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

pub(crate) fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args()
}

/// How long the parts of an operation take, between which the ledger lets others in.
#[derive(Clone, Copy, Default)]
pub(crate) struct Taken {
    whole: Duration,
    longest: Duration,
}

/// Which of these times a row shows.
pub(crate) type Measured = fn(Taken) -> Duration;

impl Taken {
    pub(crate) fn add(&mut self, part: Duration) {
        self.whole += part;
        self.longest = self.longest.max(part);
    }

    /// Of all parts together.
    pub(crate) fn whole(self) -> Duration {
        self.whole
    }

    /// Of the longest part.
    pub(crate) fn longest(self) -> Duration {
        self.longest
    }
}
