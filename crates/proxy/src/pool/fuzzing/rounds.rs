//! The book under any answers of the scheduler: each line of the data is one answer.

use super::{
    events::{check_parts, check_running},
    *,
};
use crate::kling::{check::scheduler_answer, scheduler::Executing};

/// The accounts, two of which differ in case only.
const ACCOUNTS: &[(&str, u32)] = &[("a@x", 3), ("A@x", 2), ("b@x", 1)];

/// Follows the rounds that `data` tells, beside submissions and picks.
///
/// # Panics
/// If what is read is not what stands there, or an index of the book does not agree with its entries.
pub fn run(data: &[u8]) {
    let mut bench = Bench::learned(RECONCILING, ACCOUNTS);
    let mut now = START;
    for line in data.split(|byte| *byte == b'\n') {
        now += at(100);
        submit(&mut bench, now);
        scheduler_answer(line);
        let Ok(mut read) = Executing::read(line) else {
            continue;
        };
        read.name_by_owner(|task_id| task_id.as_str().ends_with('7').then(|| "a@x".to_owned()));
        let Bench { pool, rng } = &mut bench;
        let rows = read.jobs.len();
        let findings = pool.reconcile(&Round::of(read, now), now, rng);
        for job in findings.unlisted {
            pool.job_over(&job.task_id, now);
        }
        while pool.next_handover().is_some() {}
        check_parts(pool, |_| true);
        let running = pool.running().expect("a round was followed");
        assert!(running.jobs().count() <= rows, "jobs that no row tells");
        check_running(pool);
    }
    // What no round lists any more is over, whatever the rounds before it told. No lease ends because it is old.
    for _ in 0..9 {
        now += at(200);
        let round = Round {
            sent_at: now,
            ..Round::default()
        };
        let Bench { pool, rng } = &mut bench;
        for job in pool.reconcile(&round, now, rng).unlisted {
            pool.job_over(&job.task_id, now);
        }
        pool.expire(now, rng);
        check_parts(pool, |_| true);
    }
    for account in bench.pool.accounts() {
        assert_eq!(account.in_flight(), 0, "{account:?}");
    }
}

/// A pick, a submission that is lost, and one that became job 1, as far as there are free slots.
fn submit(bench: &mut Bench, now: Duration) {
    let Bench { pool, rng } = bench;
    pool.expire(now, rng);
    for (nth, ttl) in [Some(TTL), None, None].into_iter().enumerate() {
        let ask = Ask {
            ttl,
            ..bench.ask(None, &[])
        };
        let Bench { pool, rng } = &mut *bench;
        let Ok(lease) = pool.pick(&ask, now, rng) else {
            return;
        };
        match nth {
            0 => {}
            1 => pool.mark_uncertain(lease.id, now, now),
            // Another lease may have the job.
            _ => drop(pool.bind(lease.id, task(1), now)),
        }
    }
}
