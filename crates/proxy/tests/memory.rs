//! What an account and a lease take in memory, by a count of the bytes that the pool asks for. What the allocator adds to
//! them, and what the program takes beside the pool, `benches` measures (case `memory` of the rig).
//!
//! One test, since all threads share the count.

use std::{alloc::System, sync::Arc, time::Duration};

use accounts_fetcher::{Account, Snapshot};
use cap::Cap;
use proxy::pool::{AccountCap, Ask, Caller, LeaseId, Limits, Pool, Round};
use rand::{SeedableRng, rngs::StdRng};

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

const ACCOUNTS: u32 = 10_000;
const LEASES: u32 = 100_000;
/// An account, with its e-mail of 26 bytes, its place in the list that was fetched and in the one in force, and its
/// cap of the newest round.
const ACCOUNT_BYTES_MAX: usize = 268;
/// A lease of a pick, with a request id of 16 bytes, and what the indexes take for it.
const LEASE_BYTES_MAX: usize = 255;

fn email(account: u32) -> String {
    format!("account-{account:06}@example.com")
}

/// Lets the pool follow a round of no jobs, with the cap of each account.
fn follow_round(pool: &mut Pool, now: Duration, rng: &mut StdRng) {
    let cap = |account| AccountCap {
        email: email(account),
        max_jobs: 2 * LEASES / ACCOUNTS,
    };
    let round = Round {
        sent_at: now,
        caps: (0..ACCOUNTS).map(cap).collect(),
        ..Round::default()
    };
    pool.reconcile(&round, now, rng);
}

fn pick(pool: &mut Pool, nth: u32, now: Duration, rng: &mut StdRng) {
    let ask = Ask {
        lease_id: LeaseId::random(rng),
        ttl: Some(Duration::from_secs(3600)),
        constraint: pool.constraint(None, &[]).expect("it names no account"),
        caller: Caller {
            client: None,
            request_id: format!("{nth:016x}").into(),
        },
        operation: None,
        max_jobs: None,
        place: None,
        wait: Duration::ZERO,
        body: None,
        mark: None,
    };
    pool.pick(&ask, now, rng)
        .expect("half of the slots stay free");
}

/// What `count` things take each that were made since `before`.
fn each_since(before: usize, count: u32) -> usize {
    (HEAP.allocated() - before) / count as usize
}

#[test]
fn accounts_and_leases_take_few_bytes() {
    let mut rng = StdRng::seed_from_u64(1);
    let mut now = Duration::from_secs(1);
    let mut pool = Pool::new(Limits {
        waiters_max: 0,
        job_ttl: Duration::from_secs(3600),
        reconciles: true,
        settle: Duration::from_secs(1),
        ties_picks: true,
    });
    let before = HEAP.allocated();
    let account = |nth| Account::new(&email(nth), 2 * LEASES / ACCOUNTS);
    // As the fetcher does, it stays.
    let fetched: Arc<Snapshot> = Arc::new((0..ACCOUNTS).map(account).collect());
    // Then the next round is to look at all that joined.
    follow_round(&mut pool, now, &mut rng);
    pool.apply(&fetched, now, &mut rng);
    let account_bytes = each_since(before, ACCOUNTS);

    let before = HEAP.allocated();
    for nth in 0..LEASES {
        now += Duration::from_micros(10);
        pick(&mut pool, nth, now, &mut rng);
    }
    let lease_bytes = each_since(before, LEASES);
    let told = format!("{account_bytes} bytes an account, {lease_bytes} a lease");
    assert!(account_bytes <= ACCOUNT_BYTES_MAX, "{told}");
    assert!(lease_bytes <= LEASE_BYTES_MAX, "{told}");
}
