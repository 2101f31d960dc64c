//! Costs that grow with the jobs: binding a lease to its job, and a round over all jobs.

use std::{cell::LazyCell, hint::black_box, time::Duration};

use criterion::{BatchSize, Bencher, BenchmarkId, Criterion};
use proxy::pool::{Ask, Cause, LeaseView, Limits, RoundChange, RoundProgress, RunningJob, TaskId};
use tokio::time::Instant;

use crate::{
    SIZES,
    filled::{FilledPool, STEP},
    fixtures::{MAX_JOBS, Measured, Taken, email, limits},
};

/// Upstream jobs have ids of 18 digits.
const FIRST_TASK_ID: u64 = 800_000_000_000_000_000;

/// A pool with carried submissions.
struct Carrier {
    filled: FilledPool,
    /// How many jobs have started.
    tasks_count: u64,
}

impl Carrier {
    /// Twice as many slots as `leases_count`.
    fn new(leases_count: u32) -> Self {
        let limits = Limits {
            reconciles: true,
            ..limits()
        };
        let accounts_count = leases_count * 2 / MAX_JOBS;
        Self {
            filled: FilledPool::new(limits, accounts_count),
            tasks_count: 0,
        }
    }

    /// So many submissions are under way.
    fn under_way(leases_count: u32) -> Self {
        let mut carrier = Self::new(leases_count);
        for _ in 0..leases_count {
            carrier.filled.now += STEP;
            carrier.submit();
        }
        carrier
    }

    /// So many submissions have become jobs, in this order.
    fn answered(jobs_count: u32) -> (Self, Vec<RunningJob>) {
        let mut carrier = Self::new(jobs_count);
        let mut jobs = Vec::new();
        for _ in 0..jobs_count {
            carrier.filled.now += STEP;
            let lease = carrier.submit();
            let job = carrier.job(lease.email.to_string());
            carrier.bind(&lease, job.task_id.clone());
            jobs.push(job);
        }
        (carrier, jobs)
    }

    fn submit(&mut self) -> LeaseView {
        let ask = Ask {
            ttl: None,
            ..self.filled.ask()
        };
        self.filled.pick(&ask)
    }

    fn bind(&mut self, lease: &LeaseView, task_id: TaskId) {
        self.filled
            .pool
            .bind(lease.id, task_id, self.filled.now)
            .expect("the lease is held, and no lease has the job");
    }

    fn task_id(&mut self) -> TaskId {
        self.tasks_count += 1;
        let task_id = FIRST_TASK_ID + self.tasks_count;
        task_id.to_string().parse().expect("digits are a task id")
    }

    fn job(&mut self, email: String) -> RunningJob {
        let task_id = self.task_id();
        RunningJob {
            task_id,
            email,
            mark: None,
        }
    }
}

/// `bind/<leases>`: one more submission is leased, answered with its job, and over, beside leases
/// of submissions that are under way. `bind/<leases>/without`: the same without the binding, so the
/// difference is the cost of binding.
pub(crate) fn bind(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("bind");
    for (size, leases_count) in SIZES {
        let mut carrier = LazyCell::new(|| Carrier::under_way(leases_count));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                let lease = carrier.submit();
                let task_id = carrier.task_id();
                carrier.bind(&lease, task_id);
                let now = carrier.filled.now;
                carrier.filled.pool.end(lease.id, Cause::Finished, now)
            });
        });
        group.bench_function(BenchmarkId::new(size, "without"), |bencher| {
            bencher.iter(|| {
                let lease = carrier.submit();
                black_box(carrier.task_id());
                let now = carrier.filled.now;
                carrier.filled.pool.end(lease.id, Cause::Finished, now)
            });
        });
    }
}

/// `round/<jobs>/same`: the pool follows one round that lists the same bound jobs as the one
/// before, and nothing else. `round/<jobs>/one-new`: it also lists another foreign job than the one
/// before. `round/<jobs>/compare`: the comparison of the same list, which happens before the ledger
/// is locked.
pub(crate) fn round(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("round");
    for (size, jobs_count) in SIZES {
        let mut answered = LazyCell::new(|| Carrier::answered(jobs_count));
        group.bench_function(BenchmarkId::new(size, "same"), |bencher| {
            let (carrier, jobs) = &mut *answered;
            let lists = [jobs.clone(), jobs.clone()];
            take_turns(bencher, &mut carrier.filled, lists);
        });
        group.bench_function(BenchmarkId::new(size, "one-new"), |bencher| {
            let (carrier, jobs) = &mut *answered;
            let lists = [(); 2].map(|()| {
                let mut list = jobs.clone();
                list.push(carrier.job(email(0)));
                list
            });
            take_turns(bencher, &mut carrier.filled, lists);
        });
        group.bench_function(BenchmarkId::new(size, "compare"), |bencher| {
            let (carrier, jobs) = &mut *answered;
            let filled = &carrier.filled;
            bencher.iter_batched(
                || filled.round(jobs.clone()),
                |round| RoundChange::between(filled.pool.running(), round),
                BatchSize::LargeInput,
            );
        });
    }
}

/// One iteration is one round. Its list is the one that the previous round did not have.
fn take_turns(bencher: &mut Bencher<'_>, filled: &mut FilledPool, lists: [Vec<RunningJob>; 2]) {
    let mut rounds = lists.map(|list| filled.round(list));
    filled.reconcile(&rounds[0]);
    bencher.iter_custom(|rounds_count| {
        let mut taken = Duration::ZERO;
        for _ in 0..rounds_count {
            rounds.swap(0, 1);
            filled.now += STEP;
            rounds[0].sent_at = filled.now;
            // The old jobs are kept until the pool has taken the new one, as the ledger's callers
            // do.
            let before = filled.pool.running();
            let change = RoundChange::between(before.clone(), rounds[0].clone());
            let begun = Instant::now();
            let findings = filled
                .pool
                .follow_whole_round(change, filled.now, &mut filled.rng);
            taken += begun.elapsed();
            black_box((findings, before));
        }
        taken
    });
}

/// How many steps of a round the ledger takes at once.
const PART: usize = 128;

/// `round-changed/<jobs>`: the pool follows a round that lists none of the jobs of the one before, and as many others:
/// bound ones and foreign ones in turns. `round-changed-part`: the longest part that is followed at once.
pub(crate) fn round_changed(criterion: &mut Criterion) {
    let names = [
        ("round-changed", Taken::whole as Measured),
        ("round-changed-part", Taken::longest),
    ];
    for (name, measured) in names {
        let mut group = criterion.benchmark_group(name);
        for (size, jobs_count) in SIZES {
            let mut answered = LazyCell::new(|| {
                let (mut carrier, bound) = Carrier::answered(jobs_count);
                let accounts = bound.iter().map(|job| job.email.clone());
                let foreign = accounts.map(|email| carrier.job(email)).collect();
                (carrier.filled, [foreign, bound])
            });
            group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
                bencher.iter_custom(|rounds_count| {
                    let (filled, lists) = &mut *answered;
                    let mut taken = Duration::ZERO;
                    for _ in 0..rounds_count {
                        lists.swap(0, 1);
                        taken += measured(follow_in_parts(filled, lists[0].clone()));
                    }
                    taken
                });
            });
        }
    }
}

/// The pool follows a round, as the ledger does.
fn follow_in_parts(filled: &mut FilledPool, jobs: Vec<RunningJob>) -> Taken {
    filled.now += STEP;
    let round = filled.round(jobs);
    let FilledPool { pool, now, rng } = filled;
    // The old jobs are kept until the pool has taken the new ones, as the ledger's callers do.
    let before = pool.running();
    let change = RoundChange::between(before.clone(), round);
    let mut taken = Taken::default();
    let mut begun = Instant::now();
    pool.begin_round(change, *now, rng);
    loop {
        let progress = pool.follow_round(PART, *now, rng);
        taken.add(begun.elapsed());
        pool.take_job_changes();
        if progress != Some(RoundProgress::Partial) {
            break;
        }
        begun = Instant::now();
    }
    drop(before);
    taken
}
