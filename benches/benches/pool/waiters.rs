//! Costs that grow with the queue: a slot that comes back and no waiter may take, a waiter that
//! gives up.

use std::{cell::LazyCell, num::NonZeroU32};

use criterion::{BenchmarkId, Criterion};
use proxy::pool::{Admission, Ask, Cause, Limits, Pool, WaiterId};

use crate::{
    filled::{FilledPool, STEP},
    fixtures::{MAX_JOBS, email, limits},
};

const SIZES: [(&str, u32); 3] = [("10", 10), ("1k", 1_000), ("10k", 10_000)];
/// Few accounts, many waiters.
const ACCOUNTS: u32 = 10;
/// The account whose slot comes back.
const FREED: u32 = 0;

/// Narrows down an ask for any account.
type Narrow = fn(&Pool, Ask) -> Ask;

fn as_it_is(_: &Pool, ask: Ask) -> Ask {
    ask
}

fn excluding(pool: &Pool, ask: Ask) -> Ask {
    let constraint = pool
        .constraint(None, &[email(FREED)])
        .expect("no account is asked for, so none is unknown");
    Ask { constraint, ..ask }
}

/// The slot that comes back would exceed the waiter's own cap.
fn with_own_cap(_: &Pool, ask: Ask) -> Ask {
    let max_jobs = NonZeroU32::new(MAX_JOBS - 1);
    Ask { max_jobs, ..ask }
}

/// A queue before full accounts.
struct Queue {
    filled: FilledPool,
    last: WaiterId,
}

impl Queue {
    fn new(waiters_count: u32, narrow: Narrow) -> Self {
        let limits = Limits {
            waiters_max: 10_000,
            ..limits()
        };
        let mut filled = FilledPool::new(limits, ACCOUNTS);
        filled.hold(ACCOUNTS, MAX_JOBS);
        let last = join(&mut filled, narrow);
        let mut queue = Self { filled, last };
        for _ in 1..waiters_count {
            queue.last = join(&mut queue.filled, narrow);
        }
        queue
    }

    /// A slot is free that none of the waiters may take.
    fn before_a_free_slot(waiters_count: u32, narrow: Narrow) -> Self {
        let mut queue = Self::new(waiters_count, narrow);
        let filled = &mut queue.filled;
        let freed = email(FREED);
        let lease = filled
            .pool
            .leases()
            .into_iter()
            .find(|lease| *lease.email == *freed);
        let lease = lease.expect("every slot is held");
        filled.pool.end(lease.id, Cause::Released, filled.now);
        assert!(
            filled.pool.next_handover().is_none(),
            "no waiter may take it"
        );
        queue
    }
}

fn join(filled: &mut FilledPool, narrow: Narrow) -> WaiterId {
    let ask = filled.ask();
    let ask = narrow(&filled.pool, ask);
    match filled.pool.pick_or_wait(ask, filled.now, &mut filled.rng) {
        Ok(Admission::Queued(waiter)) => waiter,
        other => unreachable!("no slot is left, and the queue is not full: {other:?}"),
    }
}

/// `release/<waiters>/<why none of them may take the slot>`: a pick of the one account with a free
/// slot, and its release.
pub(crate) fn release(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("release");
    let cases: [(&str, Narrow); 2] = [("excluded", excluding), ("own-cap", with_own_cap)];
    for (size, waiters_count) in SIZES {
        for (name, narrow) in cases {
            let mut queue = LazyCell::new(|| Queue::before_a_free_slot(waiters_count, narrow));
            group.bench_function(BenchmarkId::new(size, name), |bencher| {
                let filled = &mut queue.filled;
                bencher.iter(|| {
                    let ask = filled.ask_for(FREED);
                    let lease = filled.pick(&ask);
                    filled.pool.end(lease.id, Cause::Released, filled.now)
                });
            });
        }
    }
}

/// `give-up/<waiters>`: the last of them gets its estimate and leaves; another one joins.
pub(crate) fn give_up(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("give-up");
    for (size, waiters_count) in SIZES {
        let mut queue = LazyCell::new(|| Queue::new(waiters_count, as_it_is));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            let Queue { filled, last } = &mut *queue;
            bencher.iter(|| {
                let estimate = filled.pool.queue_estimate(*last, filled.now);
                filled.pool.leave(*last);
                *last = join(filled, as_it_is);
                estimate
            });
        });
    }
}

/// `expire/<waiters>`: a pick of the one account with a free slot, and its end by itself. All waiters
/// exclude that account.
pub(crate) fn expire(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("expire");
    for (size, waiters_count) in SIZES {
        let mut queue = LazyCell::new(|| Queue::before_a_free_slot(waiters_count, excluding));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            let filled = &mut queue.filled;
            bencher.iter(|| {
                let ask = Ask {
                    ttl: Some(STEP),
                    ..filled.ask_for(FREED)
                };
                filled.pick(&ask);
                filled.now += STEP;
                filled.pool.expire(filled.now, &mut filled.rng);
            });
        });
    }
}
