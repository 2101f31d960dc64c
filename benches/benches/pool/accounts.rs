//! Costs that grow with the accounts: refusals, lists, and accounts that are forgotten.

use std::{cell::LazyCell, num::NonZeroU32, sync::Arc, time::Duration};

use accounts_fetcher::{Account, Snapshot};
use criterion::{
    BenchmarkId, Criterion,
    measurement::{Measurement, WallTime},
};
use proxy::pool::{Ask, Blame, Cause, LeaseId, ListChange, Refusal};
use rand::seq::SliceRandom;
use tokio::time::Instant;

use crate::{
    SIZES,
    filled::FilledPool,
    fixtures::{MAX_JOBS, Measured, Taken, fetched_again, limits, snapshot},
};

fn half_full(accounts_count: u32) -> FilledPool {
    let mut filled = FilledPool::new(limits(), accounts_count);
    filled.hold(accounts_count, MAX_JOBS / 2);
    filled
}

/// All accounts full, one of them only because of an uncertain submission.
fn one_uncertain(accounts_count: u32) -> FilledPool {
    let mut filled = FilledPool::new(limits(), accounts_count);
    let held = filled.hold(accounts_count, MAX_JOBS);
    filled.pool.mark_uncertain(held[0], filled.now, filled.now);
    filled
}

/// All accounts full but one, which pushed back.
fn one_cooling(accounts_count: u32) -> FilledPool {
    let mut filled = FilledPool::new(limits(), accounts_count);
    let held = filled.hold(accounts_count, MAX_JOBS);
    let blame = Blame::PushedBack { retry_after: None };
    filled.pool.refuse(held[0], blame, filled.now);
    filled
}

/// A pick of any account that is refused.
fn refusal(filled: &mut FilledPool, max_jobs: Option<NonZeroU32>) -> Refusal {
    let ask = Ask {
        max_jobs,
        ..filled.ask()
    };
    filled
        .pool
        .pick(&ask, filled.now, &mut filled.rng)
        .expect_err("no account will do")
}

/// A way to be refused.
struct Case {
    name: &'static str,
    filled: fn(u32) -> FilledPool,
    max_jobs: Option<NonZeroU32>,
    is_so: fn(Refusal) -> bool,
}

/// `refused/<accounts>/uncertain`: a pick that is refused, every slot held, one of them by an
/// uncertain submission. `/cooling`: one slot is free, on an account that cools. `/own-cap`: every
/// account is half full, which is too much for the caller's own `maxJobs`.
pub(crate) fn refused(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("refused");
    let cases = [
        Case {
            name: "uncertain",
            filled: one_uncertain,
            max_jobs: None,
            is_so: |refusal| matches!(refusal, Refusal::Unverified { .. }),
        },
        Case {
            name: "cooling",
            filled: one_cooling,
            max_jobs: None,
            is_so: |refusal| matches!(refusal, Refusal::CoolingDown { .. }),
        },
        Case {
            name: "own-cap",
            filled: half_full,
            max_jobs: NonZeroU32::new(MAX_JOBS / 2),
            is_so: |refusal| matches!(refusal, Refusal::Saturated { .. }),
        },
    ];
    for (size, accounts_count) in SIZES {
        for case in &cases {
            let mut filled = LazyCell::new(|| (case.filled)(accounts_count));
            group.bench_function(BenchmarkId::new(size, case.name), |bencher| {
                let filled = &mut *filled;
                let found = refusal(filled, case.max_jobs);
                assert!((case.is_so)(found), "{found:?}");
                bencher.iter(|| refusal(filled, case.max_jobs));
            });
        }
    }
}

/// As many entries as the ledger takes over under one lock.
const PART: usize = 128;

/// Makes another list of one: at one place, or everywhere.
type Differ = fn(&mut Vec<Arc<Account>>, usize);

const DIFFERENCES: [(&str, Differ); 6] = [
    ("equal", |_, _| ()),
    ("one-cap", |list, idx| {
        Arc::make_mut(&mut list[idx]).max_jobs += 1
    }),
    ("one-gone", |list, idx| drop(list.remove(idx))),
    ("all-caps", |list, _| {
        for account in list {
            Arc::make_mut(account).max_jobs += 1;
        }
    }),
    ("half-gone", |list, _| {
        let mut is_kept = false;
        list.retain(|_| {
            is_kept = !is_kept;
            is_kept
        });
    }),
    ("all-new", |list, _| {
        for account in list {
            *account = Account::new(&format!("new-{}", account.email), account.max_jobs).into();
        }
    }),
];

/// The pool takes over a list, as the ledger does.
fn take_over(filled: &mut FilledPool, list: &Snapshot) -> Taken {
    let FilledPool { pool, now, rng } = filled;
    // The old list is kept until the pool has taken the new one, as the ledger's callers do.
    let before = pool.list();
    let change = ListChange::between(before.clone(), list);
    let mut taken = Taken::default();
    let mut begun = Instant::now();
    pool.begin_list(change, *now, rng);
    let mut has_more = true;
    while has_more {
        has_more = pool.follow_list(PART, *now, rng);
        taken.add(begun.elapsed());
        pool.take_state_changes();
        begun = Instant::now();
    }
    drop(before);
    taken
}

/// `swap/<accounts>/<what the other list is>`: the pool takes over a list that was compared with
/// the one before. `swap-part`: the longest part that is taken over at once. Half of the slots of each account are
/// held. Two lists alternate; in `one-gone` one account in their middle leaves and comes back.
pub(crate) fn swap(criterion: &mut Criterion) {
    for (name, measured) in [
        ("swap", Taken::whole as Measured),
        ("swap-part", Taken::longest),
    ] {
        let mut group = criterion.benchmark_group(name);
        for (size, accounts_count) in SIZES {
            for (name, differ) in DIFFERENCES {
                let mut filled = LazyCell::new(|| half_full(accounts_count));
                let lists = LazyCell::new(|| {
                    let one = snapshot(accounts_count);
                    let mut accounts = fetched_again(&one).accounts.to_vec();
                    let middle = accounts.len() / 2;
                    differ(&mut accounts, middle);
                    let accounts = accounts.into();
                    [Snapshot { accounts }, one]
                });
                let mut swaps_count = 0;
                group.bench_function(BenchmarkId::new(size, name), |bencher| {
                    bencher.iter_custom(|iters| {
                        let mut taken = Duration::ZERO;
                        for _ in 0..iters {
                            taken += measured(take_over(&mut filled, &lists[swaps_count % 2]));
                            swaps_count += 1;
                        }
                        taken
                    });
                });
            }
        }
    }
}

/// As many rows as the ledger reads under one lock.
const ROWS: usize = 64;

/// `page/<accounts>/accounts`, `/leases`: a page from the middle of the list. Half of the slots of each account are
/// held.
pub(crate) fn page(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("page");
    for (size, accounts_count) in SIZES {
        let filled = LazyCell::new(|| half_full(accounts_count));
        let half = usize::try_from(accounts_count).expect("64 bits") / 2;
        group.bench_function(BenchmarkId::new(size, "accounts"), |bencher| {
            let pool = &filled.pool;
            let any = pool.constraint(None, &[]).expect("none is asked for");
            let middle = pool.accounts_after(None, half, &any, Duration::ZERO).next;
            bencher.iter(|| pool.accounts_after(middle.as_ref(), ROWS, &any, Duration::ZERO));
        });
        group.bench_function(BenchmarkId::new(size, "leases"), |bencher| {
            let middle = filled.pool.leases_after(None, half).next;
            bencher.iter(|| filled.pool.leases_after(middle, ROWS));
        });
    }
}

/// Each account has one slot held, and every second one has left the list. Returns the leases on
/// those, in random order.
fn half_left(accounts_count: u32) -> (FilledPool, Vec<LeaseId>) {
    let mut filled = FilledPool::new(limits(), accounts_count);
    let held = filled.hold(accounts_count, 1);
    let all = snapshot(accounts_count);
    let stays = all.accounts.iter().step_by(2);
    let list = Snapshot {
        accounts: stays.cloned().collect(),
    };
    filled.pool.apply(&list, filled.now, &mut filled.rng);
    let mut left: Vec<_> = held.into_iter().skip(1).step_by(2).collect();
    left.shuffle(&mut filled.rng);
    (filled, left)
}

/// `forget/<accounts>`: the end of the one lease on an account that has left the list, so that the
/// account is forgotten. Half of the accounts have left when the first one ends, none of them is
/// left after the last one; then the pool is built again, unmeasured.
pub(crate) fn forget(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("forget");
    for (size, accounts_count) in SIZES {
        let mut leaving = LazyCell::new(|| half_left(accounts_count));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter_custom(|iters| {
                let mut ends_left = usize::try_from(iters).expect("64 bits");
                let mut took = Duration::ZERO;
                while ends_left > 0 {
                    if leaving.1.is_empty() {
                        *leaving = half_left(accounts_count);
                    }
                    let (filled, leases) = &mut *leaving;
                    let rest = leases.len().saturating_sub(ends_left);
                    let ending = leases.split_off(rest);
                    let clock = WallTime.start();
                    for id in &ending {
                        filled.pool.end(*id, Cause::Released, filled.now);
                    }
                    took += WallTime.end(clock);
                    ends_left -= ending.len();
                }
                took
            });
        });
    }
}
