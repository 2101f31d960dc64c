//! The same operations with the same seed give the same result with any hashers.
//!
//! Every map of a pool draws a hasher of its own. So several pools that run the same operations run
//! them with different hashers.

use rand::RngExt;

use super::{
    rounds::{RECONCILING, at, learned, task},
    *,
};

/// The number of pools. If a hasher decides the order of two entries, the test passes once in 2^7.
const POOLS: usize = 8;
const STEPS: u64 = 400;

const ACCOUNTS: [(&str, u32); 6] = [
    ("a@x", 3),
    ("b@x", 2),
    ("c@x", 4),
    ("d@x", 1),
    ("e@x", 5),
    ("f@x", 2),
];

/// Runs the operations of `seed`, and records everything that can be seen.
fn trace(seed: u64) -> Vec<String> {
    let mut bench = learned(RECONCILING, &ACCOUNTS);
    bench.rng = SmallRng::seed_from_u64(seed);
    let mut choices = SmallRng::seed_from_u64(seed ^ 1);
    let mut leases: Vec<LeaseId> = Vec::new();
    let mut running: Vec<(u64, &str)> = Vec::new();
    let mut trace = Vec::new();
    for second in 1..STEPS {
        let now = at(second);
        let done = match choices.random_range(0..12) {
            0..3 => {
                let ttl = choices.random_bool(0.5).then_some(TTL);
                let ask = Ask {
                    ttl,
                    ..bench.ask(None, &[])
                };
                let admitted = bench.pool.pick_or_wait(ask, now, &mut bench.rng);
                if let Ok(Admission::Granted(lease)) = &admitted {
                    leases.push(lease.id);
                }
                format!("{admitted:?}")
            }
            3 => {
                let email = ACCOUNTS[choices.random_range(0..ACCOUNTS.len())].0;
                running.push((second, email));
                String::new()
            }
            4 if !running.is_empty() => {
                running.swap_remove(choices.random_range(0..running.len()));
                // Many leases end at once, and their slots become free in some order.
                running.truncate(running.len() / 2);
                String::new()
            }
            5..8 => {
                let findings = bench.findings(second, &running);
                for job in &findings.unlisted {
                    bench.pool.job_over(&job.task_id, now);
                }
                format!("{findings:?}")
            }
            8 if !leases.is_empty() => {
                let id = leases.swap_remove(choices.random_range(0..leases.len()));
                match choices.random_range(0..3) {
                    0 => bench.pool.mark_uncertain(id, now, now),
                    1 => drop(bench.pool.bind(id, task(second), now)),
                    _ => drop(bench.pool.release(id, now)),
                }
                String::new()
            }
            9 => {
                bench.pool.expire(at(second + 30), &mut bench.rng);
                String::new()
            }
            10 => {
                let caps = choices.random_range(1..5);
                let accounts = ACCOUNTS.map(|(email, max)| (email, max.min(caps)));
                let left = choices.random_range(3..=ACCOUNTS.len());
                bench.apply(&accounts[..left], now);
                String::new()
            }
            _ => String::new(),
        };
        let handed_over: Vec<_> = std::iter::from_fn(|| bench.pool.next_handover()).collect();
        leases.extend(handed_over.iter().map(|handover| handover.lease.id));
        let mut held = bench.pool.leases();
        held.sort_by_key(|lease| lease.id);
        let accounts: Vec<_> = bench.pool.accounts().collect();
        trace.push(format!("{done}\n{handed_over:?}\n{held:?}\n{accounts:?}"));
    }
    trace
}

#[test]
fn one_seed_gives_one_trace_whatever_the_hashers() {
    for seed in 0..20 {
        let first = trace(seed);
        for _ in 1..POOLS {
            for (step, (a, b)) in first.iter().zip(trace(seed)).enumerate() {
                assert_eq!(*a, b, "seed {seed}, step {step}");
            }
        }
    }
}
