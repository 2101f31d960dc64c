//! The costs of a pick inside the process: the pool, the ledger around it, and a floor beside them.
//!
//! The floor does only what every pick must do: it draws a lease id and an account at random, and
//! puts the account under the id into a hash map of the same size. So the distance to the floor is
//! the cost of our rules, on any machine.

use std::{
    cell::LazyCell,
    collections::HashMap,
    hint::black_box,
    num::NonZeroUsize,
    sync::{Arc, Barrier},
    thread,
    time::Duration,
};

use accounts_fetcher::{Account, Snapshot};
use criterion::{BenchmarkId, Criterion};
use foldhash::fast::RandomState;
use proxy::{
    ledger::{
        FollowList, FollowListOn, ListProgress, NewestList, PickRequest, Release,
        local::{Entry, Local},
    },
    pool::{Cause, LeaseId, ListChange, Pool},
};
use rand::{RngExt, rngs::ThreadRng};
use tokio::time::Instant;

use super::fixtures::{MAX_JOBS, TTL, ask, fetched_again, limits, snapshot};

const SIZES: [(&str, u32); 4] = [
    ("10", 10),
    ("1k", 1_000),
    ("10k", 10_000),
    ("100k", 100_000),
];
/// Percent of all slots that are held while we measure.
const OCCUPANCIES: [u32; 3] = [0, 50, 99];

/// `snapshot` with another cap on every hundredth account, and on one at least.
fn one_percent_changed(snapshot: &Snapshot) -> Snapshot {
    let mut accounts = fetched_again(snapshot).accounts.to_vec();
    for account in accounts.iter_mut().step_by(100) {
        Arc::make_mut(account).max_jobs += 1;
    }
    Snapshot {
        accounts: accounts.into(),
    }
}

/// How many slots are held at `percent`.
fn held_count(accounts_count: u32, percent: u32) -> u32 {
    accounts_count * MAX_JOBS / 100 * percent
}

/// A pool with a list and `held_count` leases, each picked a microsecond after the one before.
fn filled_pool(accounts_count: u32, held_count: u32) -> (Pool, Duration) {
    let mut rng = rand::rng();
    let mut pool = Pool::new(limits());
    let mut now = Duration::ZERO;
    pool.apply(&snapshot(accounts_count), now, &mut rng);
    for _ in 0..held_count {
        now += Duration::from_micros(1);
        let ask = ask(&pool, &mut rng);
        pool.pick(&ask, now, &mut rng).expect("slots are left");
    }
    (pool, now)
}

fn request() -> PickRequest {
    PickRequest {
        ttl: Some(TTL),
        ..PickRequest::default()
    }
}

fn memory_pick(memory: &Local, request: &PickRequest) -> LeaseId {
    match memory.enter(LeaseId::random(&mut rand::rng()), request) {
        Ok(Entry::Granted(lease)) => lease.id,
        refused => unreachable!("slots are left: {refused:?}"),
    }
}

fn filled_memory(accounts_count: u32, held_count: u32) -> Local {
    let memory = Local::new(limits());
    let change = ListChange::between(memory.call(NewestList), &snapshot(accounts_count));
    let mut progress = memory.call(FollowList { change });
    while progress == Some(ListProgress::Partial) {
        progress = Some(memory.call(FollowListOn));
    }
    let request = request();
    for _ in 0..held_count {
        memory_pick(&memory, &request);
    }
    memory
}

/// The least work of a pick and a release.
struct Floor {
    accounts: Vec<u32>,
    leases: HashMap<u128, u32, RandomState>,
}

impl Floor {
    fn filled(accounts_count: u32, held_count: u32) -> Self {
        let mut floor = Self {
            accounts: (0..accounts_count).collect(),
            leases: HashMap::default(),
        };
        let mut rng = rand::rng();
        for _ in 0..held_count {
            floor.pick(&mut rng);
        }
        floor
    }

    fn pick(&mut self, rng: &mut ThreadRng) -> u128 {
        let id = rng.random();
        let account = self.accounts[rng.random_range(0..self.accounts.len())];
        self.leases.insert(id, account);
        id
    }

    fn release(&mut self, id: u128) -> Option<u32> {
        self.leases.remove(&id)
    }
}

/// `pick/<what>/<accounts>/<percent of slots held>`: one pick and one release.
pub(super) fn pick_and_release(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pick");
    let cases = SIZES
        .iter()
        .flat_map(|size| OCCUPANCIES.map(|percent| (size, percent)));
    for (&(size, accounts_count), percent) in cases {
        let held_count = held_count(accounts_count, percent);
        let case = format!("{size}/{percent}%");
        group.bench_function(BenchmarkId::new("floor", &case), |bencher| {
            let mut floor = Floor::filled(accounts_count, held_count);
            let mut rng = rand::rng();
            bencher.iter(|| {
                let id = floor.pick(&mut rng);
                floor.release(black_box(id))
            });
        });
        group.bench_function(BenchmarkId::new("pool", &case), |bencher| {
            let (mut pool, now) = filled_pool(accounts_count, held_count);
            let mut rng = rand::rng();
            bencher.iter(|| {
                let ask = ask(&pool, &mut rng);
                let lease = pool.pick(&ask, now, &mut rng).expect("slots are left");
                pool.end(black_box(lease).id, Cause::Released, now)
            });
        });
        group.bench_function(BenchmarkId::new("memory", &case), |bencher| {
            let memory = filled_memory(accounts_count, held_count);
            let request = request();
            bencher.iter(|| {
                let id = memory_pick(&memory, &request);
                memory.call(Release { id: black_box(id) })
            });
        });
    }
}

/// `contended/<threads>/<accounts>`: what a pick and a release through the ledger take on each of so many threads at
/// once, half of all slots held. One row for one thread, one for as many as there are cores.
pub(super) fn contended(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("contended");
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    for (size, accounts_count) in [("10", 10), ("10k", 10_000)] {
        let memory =
            LazyCell::new(|| filled_memory(accounts_count, held_count(accounts_count, 50)));
        for threads_count in [1, cores] {
            group.bench_function(
                BenchmarkId::new(threads_count.to_string(), size),
                |bencher| {
                    let memory = &*memory;
                    bencher.iter_custom(|iters| {
                        let start = Barrier::new(threads_count);
                        let pick = || {
                            let request = request();
                            start.wait();
                            let begun = Instant::now();
                            for _ in 0..iters {
                                let id = memory_pick(memory, &request);
                                memory.call(Release { id: black_box(id) });
                            }
                            begun.elapsed()
                        };
                        thread::scope(|scope| {
                            let threads: Vec<_> =
                                (0..threads_count).map(|_| scope.spawn(pick)).collect();
                            let took = threads.into_iter().map(|it| it.join().expect("it ends"));
                            took.max().unwrap_or_default()
                        })
                    });
                },
            );
        }
    }
}

/// `full/<what>/<accounts>`: a pick that is refused, since every slot is held.
pub(super) fn refused(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("full");
    for (size, accounts_count) in SIZES {
        let held_count = accounts_count * MAX_JOBS;
        group.bench_function(BenchmarkId::new("pool", size), |bencher| {
            let (mut pool, now) = filled_pool(accounts_count, held_count);
            let mut rng = rand::rng();
            bencher.iter(|| {
                let ask = ask(&pool, &mut rng);
                pool.pick(&ask, now, &mut rng)
                    .expect_err("every slot is held")
            });
        });
        group.bench_function(BenchmarkId::new("memory", size), |bencher| {
            let memory = filled_memory(accounts_count, held_count);
            let request = request();
            bencher.iter(|| {
                let id = LeaseId::random(&mut rand::rng());
                memory.enter(id, &request).expect_err("every slot is held")
            });
        });
    }
}

/// `apply/<what>/<accounts>/<what changed>`: half of the slots are held. Two lists alternate.
///
/// The floor looks every e-mail up and compares the account with the one it has: the least work
/// that shows that nothing changed.
pub(super) fn apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply");
    for (size, accounts_count) in SIZES {
        let one = snapshot(accounts_count);
        let held_count = held_count(accounts_count, 50);
        group.bench_function(BenchmarkId::new("floor", size), |bencher| {
            let again = fetched_again(&one);
            let known: HashMap<Arc<str>, &Arc<Account>, RandomState> = one
                .accounts
                .iter()
                .map(|account| (Arc::clone(&account.email), account))
                .collect();
            let is_known = |account: &&Arc<Account>| known.get(&account.email) == Some(account);
            bencher.iter(|| again.accounts.iter().filter(is_known).count());
        });
        let cases = [
            ("same", fetched_again(&one)),
            ("1%new", one_percent_changed(&one)),
        ];
        for (name, other) in &cases {
            let case = format!("{size}/{name}");
            group.bench_function(BenchmarkId::new("pool", case), |bencher| {
                let (mut pool, now) = filled_pool(accounts_count, held_count);
                let mut rng = rand::rng();
                let mut lists = [other, &one].into_iter().cycle();
                bencher.iter(|| {
                    let list = lists.next().expect("a cycle has no end");
                    pool.apply(list, now, &mut rng);
                });
            });
        }
    }
}
