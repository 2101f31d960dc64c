//! Does the operations of the pool often enough for callgrind to count them: see `benches/instructions`.
//!
//! Each operation is a function that is never inlined, so that its calls and its instructions, with all that it calls,
//! can be read from one run by its name.

use std::{env, hint::black_box, time::Duration};

use accounts_fetcher::{Account, Snapshot};
use proxy::pool::{
    Admission, Ask, Caller, Cause, LeaseId, LeaseView, Limits, Pool, Round, RoundChange,
    RunningJob, TaskId,
};
use rand::{SeedableRng, rngs::StdRng};

/// How often an operation is done.
const TIMES: u32 = 1000;
/// How often a round is followed. To make it takes far longer than to follow it.
const ROUNDS: u32 = 10;
/// Long enough that no lease ends by itself.
const TTL: Duration = Duration::from_secs(3600);
/// The time between two operations.
const STEP: Duration = Duration::from_micros(1);
const FIRST_TASK_ID: u64 = 800_000_000_000_000_000;
const USAGE: &str = "pool-steps ACCOUNTS LEASES WAITERS";

fn main() -> Result<(), &'static str> {
    let sizes = env::args().skip(1).map(|size| size.parse());
    let sizes: Result<Vec<u32>, _> = sizes.collect();
    let Ok(&[accounts, leases, waiters]) = sizes.as_deref() else {
        return Err(USAGE);
    };
    // At least half of the slots stay free.
    let slots_each = 2 + 2 * leases.div_ceil(accounts);
    let mut picked = Steps::new(accounts, slots_each, false);
    for _ in 0..leases {
        picked.pick(Some(TTL));
    }
    for _ in 0..TIMES {
        pick_and_end(&mut picked);
    }
    let mut carried = Steps::new(accounts, slots_each, true);
    let jobs = carried.start_jobs(leases);
    for _ in 0..TIMES {
        bind_and_end(&mut carried);
    }
    // The first one lists all of them for the first time.
    let change = carried.round(&jobs, true);
    carried.take_in(change);
    for nth in 0..ROUNDS {
        let change = carried.round(&jobs, nth % 2 == 1);
        // The old jobs are kept until the pool has taken the new ones, as the ledger's callers do.
        let before = carried.pool.running();
        follow_round(&mut carried, change);
        drop(before);
    }
    let mut full = Steps::new(accounts, 1, false);
    let mut lease = full.pick(Some(TTL)).id;
    for _ in 1..accounts {
        full.pick(Some(TTL));
    }
    for _ in 0..waiters {
        full.wait();
    }
    for _ in 0..TIMES {
        lease = release_to_waiter(&mut full, lease);
    }
    Ok(())
}

/// A slot of any account, and its release.
#[inline(never)]
fn pick_and_end(steps: &mut Steps) {
    let lease = steps.pick(Some(TTL));
    steps.pool.end(lease.id, Cause::Released, steps.now);
}

/// A submission, its job, and the end of that.
#[inline(never)]
fn bind_and_end(steps: &mut Steps) {
    let lease = steps.pick(None);
    let job = steps.job(&lease);
    let bound = steps.pool.bind(lease.id, job.task_id, steps.now);
    bound.expect("the lease is held, and no lease has the job");
    steps.pool.end(lease.id, Cause::Finished, steps.now);
}

/// A round that lists what the one before listed, or one job more or less: what happens under the lock.
#[inline(never)]
fn follow_round(steps: &mut Steps, change: RoundChange) {
    steps.take_in(change);
}

/// A slot comes back while all slots are in use: the caller that waits longest gets it. Another one joins the queue.
#[inline(never)]
fn release_to_waiter(steps: &mut Steps, lease: LeaseId) -> LeaseId {
    steps.pool.end(lease, Cause::Released, steps.now);
    let handover = steps.pool.next_handover().expect("callers wait");
    steps.wait();
    handover.lease.id
}

/// A pool, its time and its randomness.
struct Steps {
    pool: Pool,
    now: Duration,
    rng: StdRng,
    jobs_count: u64,
}

impl Steps {
    /// A pool that knows its accounts, and, if rounds are held, that no job runs.
    fn new(accounts: u32, slots_each: u32, reconciles: bool) -> Self {
        let limits = Limits {
            waiters_max: usize::MAX,
            job_ttl: TTL,
            reconciles,
            settle: TTL,
            ties_picks: false,
        };
        let mut steps = Self {
            pool: Pool::new(limits),
            now: Duration::ZERO,
            rng: StdRng::seed_from_u64(1),
            jobs_count: 0,
        };
        let account = |idx| Account::new(&email(idx), slots_each);
        let list: Snapshot = (0..accounts).map(account).collect();
        steps.pool.apply(&list, steps.now, &mut steps.rng);
        if reconciles {
            let round = steps.round(&[], false);
            steps.take_in(round);
        }
        steps
    }

    fn ask(&mut self, ttl: Option<Duration>) -> Ask {
        self.now += STEP;
        let constraint = self.pool.constraint(None, &[]);
        Ask {
            lease_id: LeaseId::random(&mut self.rng),
            ttl,
            constraint: constraint.expect("no account is asked for, so none is unknown"),
            caller: Caller::default(),
            operation: None,
            max_jobs: None,
            place: None,
            wait: TTL,
            body: None,
            mark: None,
        }
    }

    fn pick(&mut self, ttl: Option<Duration>) -> LeaseView {
        let ask = self.ask(ttl);
        let granted = self.pool.pick(&ask, self.now, &mut self.rng);
        granted.expect("a slot is left")
    }

    fn wait(&mut self) {
        let ask = self.ask(Some(TTL));
        match self.pool.pick_or_wait(ask, self.now, &mut self.rng) {
            Ok(Admission::Queued(_)) => {}
            other => unreachable!("no slot is left: {other:?}"),
        }
    }

    fn job(&mut self, lease: &LeaseView) -> RunningJob {
        self.jobs_count += 1;
        RunningJob {
            task_id: task_id(self.jobs_count),
            email: lease.email.to_string(),
            mark: None,
        }
    }

    /// So many submissions have become jobs.
    fn start_jobs(&mut self, count: u32) -> Vec<RunningJob> {
        let start = |_| {
            let lease = self.pick(None);
            let job = self.job(&lease);
            let bound = self.pool.bind(lease.id, job.task_id.clone(), self.now);
            bound.expect("the lease is held, and no lease has the job");
            job
        };
        (0..count).map(start).collect()
    }

    /// What a round says anew that lists these jobs, and one that is not ours if `has_foreign`.
    fn round(&mut self, jobs: &[RunningJob], has_foreign: bool) -> RoundChange {
        self.now += STEP;
        let foreign = RunningJob {
            task_id: task_id(0),
            email: email(0),
            mark: None,
        };
        let jobs = jobs.iter().cloned().chain(has_foreign.then_some(foreign));
        let round = Round {
            sent_at: self.now,
            executing: jobs.collect(),
            ..Round::default()
        };
        RoundChange::between(self.pool.running(), round)
    }

    fn take_in(&mut self, change: RoundChange) {
        black_box(
            self.pool
                .follow_whole_round(change, self.now, &mut self.rng),
        );
    }
}

fn email(account: u32) -> String {
    format!("account-{account:06}@example.com")
}

fn task_id(nth: u64) -> TaskId {
    let digits = (FIRST_TASK_ID + nth).to_string();
    digits.parse().expect("digits are a task id")
}
