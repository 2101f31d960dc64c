//! The cost of operations, counted in entries of the book that they look at, at two sizes of the book. A cost
//! that is proportional to the change is the same at both.

mod lists;

use super::{
    rounds::{RECONCILING, at, learned, round_of, task},
    *,
};
use crate::pool::steps;

const SMALL: u32 = 200;
const LARGE: u32 = 8 * SMALL;
/// An order statistic takes a step for each bit of the number of entries. Eight times as many are three bits
/// more, there and back.
const BITS: u64 = 6;
/// The number of slots of each account.
const MAX_JOBS: u32 = 5;

const WIDE: Limits = Limits {
    waiters_max: 100_000,
    ..RECONCILING
};

fn email(account: u32) -> String {
    format!("{account:05}@x")
}

fn list(accounts: u32, max_jobs: u32) -> Vec<(String, u32)> {
    (0..accounts).map(|n| (email(n), max_jobs)).collect()
}

fn apply(bench: &mut Bench, list: &[(String, u32)], now: Duration) {
    let list: Vec<_> = list.iter().map(|(email, max)| (&**email, *max)).collect();
    bench.apply(&list, now);
}

/// A book of this many accounts, and as many waiters if it has any.
fn book(accounts: u32) -> Bench {
    let mut bench = learned(WIDE, &[]);
    apply(&mut bench, &list(accounts, MAX_JOBS), START);
    bench
}

fn take_of(bench: &mut Bench, account: u32, seconds: u64, ttl: Option<Duration>) -> LeaseId {
    let ask = Ask {
        ttl,
        ..bench.ask(Some(&email(account)), &[])
    };
    bench
        .pool
        .pick(&ask, at(seconds), &mut bench.rng)
        .unwrap()
        .id
}

/// Every account runs this many jobs, and rounds list them all.
fn running_book(accounts: u32, jobs: u32) -> (Bench, Vec<(u64, String)>) {
    let mut bench = book(accounts);
    let mut running = Vec::new();
    for account in 0..accounts {
        for job in 0..jobs {
            let lease = take_of(&mut bench, account, 1, None);
            let id = u64::from(account * MAX_JOBS + job) + 1;
            bench.pool.bind(lease, task(id), at(1)).unwrap();
            running.push((id, email(account)));
        }
    }
    round(&mut bench, 2, &running);
    (bench, running)
}

fn change_of_round(bench: &Bench, seconds: u64, jobs: &[(u64, String)]) -> RoundChange {
    let jobs: Vec<_> = jobs.iter().map(|(id, email)| (*id, &**email)).collect();
    RoundChange::between(bench.pool.running(), round_of(seconds, &jobs))
}

fn round(bench: &mut Bench, seconds: u64, jobs: &[(u64, String)]) {
    let change = change_of_round(bench, seconds, jobs);
    let findings = bench
        .pool
        .follow_whole_round(change, at(seconds), &mut bench.rng);
    findings.expect("it is the newest");
}

/// The cost of `operation` on a prepared book of each size.
fn costs<S>(mut set_up: impl FnMut(u32) -> S, operation: impl Fn(&mut S)) -> (u64, u64) {
    let mut cost = |size| {
        let mut book = set_up(size);
        steps::taken_by(|| operation(&mut book))
    };
    (cost(SMALL), cost(LARGE))
}

#[track_caller]
fn assert_flat(costs: (u64, u64), most: u64) {
    let (small, large) = costs;
    assert!(large <= small, "{small} steps became {large}");
    assert!(large <= most, "{large} steps");
}

/// Checks that the cost is flat, except for this many comings, leavings and places of waiters.
#[track_caller]
fn assert_nearly_flat(costs: (u64, u64), waiters: u64, most: u64) {
    let (small, large) = costs;
    assert!(
        large <= small + BITS * waiters,
        "{small} steps became {large}"
    );
    assert!(large <= most, "{large} steps");
}

#[test]
fn a_walk_over_the_book_would_be_seen() {
    let walked = costs(book, |bench| assert!(bench.pool.accounts().count() > 0));
    assert_eq!(walked, (u64::from(SMALL), u64::from(LARGE)));
}

#[test]
fn a_glance_looks_at_the_first_waiters_only() {
    let set_up = |size| {
        let mut bench = book(size);
        for account in 0..size {
            let email = email(account);
            for _ in 0..MAX_JOBS {
                take_of(&mut bench, account, 1, None);
            }
            bench.wait_for(Some(&email), &[]);
        }
        bench
    };
    let glance = |bench: &mut Bench| {
        let glance = bench.pool.glance();
        assert!(glance.waiters_count > glance.waiters.len());
        let emails = glance.waiters.iter().map(|it| it.email.as_deref());
        let emails: Vec<_> = emails.collect();
        let first: Vec<_> = (0..50).map(email).collect();
        assert!(emails.iter().copied().flatten().eq(&first), "{emails:?}");
    };
    let most = WAITERS_SHOWN_MAX as u64 + 1;
    assert_flat(costs(set_up, glance), most);
}

#[test]
fn binding_a_job_is_flat() {
    let set_up = |size| {
        let mut bench = book(size);
        for account in 0..size {
            take_of(&mut bench, account, 1, None);
        }
        let lease = take_of(&mut bench, 0, 1, None);
        (bench, lease)
    };
    let bind = |(bench, lease): &mut (Bench, LeaseId)| {
        bench.pool.bind(*lease, task(1), at(2)).unwrap();
    };
    assert_flat(costs(set_up, bind), 8);
}

#[test]
fn undoing_a_tie_is_flat() {
    let set_up = |size| {
        let mut bench = book(size);
        for account in 0..size {
            take_of(&mut bench, account, 1, Some(TTL));
        }
        let lease = take_of(&mut bench, 0, 2, Some(TTL));
        round(&mut bench, 3, &[(1, email(0))]);
        (bench, lease)
    };
    let bind = |(bench, lease): &mut (Bench, LeaseId)| {
        bench.pool.bind(*lease, task(1), at(4)).unwrap();
    };
    assert_flat(costs(set_up, bind), 16);
}

#[test]
fn losing_and_finding_a_submission_is_flat() {
    let set_up = |size| {
        let mut bench = book(size);
        // The book holds keys of other submissions, including lost ones.
        for account in 0..size {
            let lease = take_of(&mut bench, account, 1, None);
            bench.claim_for(lease);
            if account > 0 {
                bench.pool.mark_uncertain(lease, at(1), at(1));
            }
        }
        round(&mut bench, 2, &[]);
        let lease = take_of(&mut bench, 0, 3, None);
        bench.claim_for(lease);
        (bench, lease)
    };
    let lose_and_tie = |(bench, lease): &mut (Bench, LeaseId)| {
        bench.pool.mark_uncertain(*lease, at(4), at(4));
        round(bench, 5, &[(1, email(0))]);
    };
    assert_flat(costs(set_up, lose_and_tie), 24);
}

#[test]
fn a_release_costs_a_step_for_each_constraint_of_those_who_wait() {
    let set_up = |size: u32| {
        let mut bench = book(2);
        let leases: Vec<_> = (0..MAX_JOBS * 2)
            .map(|n| take_of(&mut bench, n % 2, 1, Some(TTL)))
            .collect();
        for n in 0..size {
            let mut ask = bench.ask(None, &[&email(0)]);
            if n % 2 == 0 {
                ask = Ask {
                    max_jobs: std::num::NonZeroU32::new(1),
                    ..bench.ask(None, &[])
                };
            }
            let queued = bench.pool.pick_or_wait(ask, at(1), &mut bench.rng);
            assert!(matches!(queued, Ok(Admission::Queued(_))));
        }
        (bench, leases)
    };
    let release = |(bench, leases): &mut (Bench, Vec<LeaseId>)| {
        assert!(bench.pool.release(leases[0], at(2)));
        assert!(bench.pool.next_handover().is_none());
    };
    assert_flat(costs(set_up, release), 8);
    let hand_over = |(bench, leases): &mut (Bench, Vec<LeaseId>)| {
        assert!(bench.pool.release(leases[1], at(2)));
        assert!(bench.pool.next_handover().is_some());
    };
    assert_nearly_flat(costs(set_up, hand_over), 1, 40);
    let expire = |(bench, _): &mut (Bench, Vec<LeaseId>)| {
        // The slots of expired picks wait for a round, which returns ten, and five of them fit.
        bench.pool.expire(at(62), &mut bench.rng);
        round(bench, 63, &[]);
        let handed_over = std::iter::from_fn(|| bench.pool.next_handover()).count();
        assert_eq!(handed_over, MAX_JOBS as usize + 1);
    };
    assert_nearly_flat(costs(set_up, expire), u64::from(MAX_JOBS) + 1, 500);
}

#[test]
fn giving_up_is_flat() {
    let set_up = |size: u32| {
        let mut bench = book(1);
        for _ in 0..MAX_JOBS {
            take_of(&mut bench, 0, 1, None);
        }
        let waiters: Vec<_> = (0..size)
            .map(|_| {
                let ask = bench.ask(None, &[]);
                match bench.pool.pick_or_wait(ask, at(1), &mut bench.rng) {
                    Ok(Admission::Queued(waiter)) => waiter,
                    other => panic!("{other:?}"),
                }
            })
            .collect();
        (bench, waiters)
    };
    let give_up = |(bench, waiters): &mut (Bench, Vec<WaiterId>)| {
        let last = *waiters.last().unwrap();
        let told = bench.pool.queue_estimate(last, at(1));
        let position = waiters.len();
        assert!(matches!(told, Some(Refusal::Saturated { position: it, .. }) if it == position));
        assert!(bench.pool.leave(last));
    };
    assert_nearly_flat(costs(set_up, give_up), 2, 60);
}

/// A book in which every account is full and the first one is special.
fn full_book(size: u32, odd: impl Fn(&mut Bench, LeaseId)) -> Bench {
    let mut bench = book(size);
    for account in 0..size {
        for _ in 1..MAX_JOBS {
            take_of(&mut bench, account, 1, None);
        }
    }
    for account in (0..size).rev() {
        let last = take_of(&mut bench, account, 1, None);
        if account == 0 {
            odd(&mut bench, last);
        }
    }
    // The pool seldom guesses when a slot will be free. This refusal makes it guess.
    refuse(&mut bench, None);
    bench
}

fn refuse(bench: &mut Bench, max_jobs: Option<u32>) -> Refusal {
    let ask = Ask {
        max_jobs: max_jobs.and_then(std::num::NonZeroU32::new),
        ..bench.ask(None, &[])
    };
    bench.pool.pick(&ask, at(1), &mut bench.rng).unwrap_err()
}

#[test]
fn a_refusal_is_flat_whatever_is_odd() {
    let uncertain = |size| {
        full_book(size, |bench, lease| {
            bench.pool.mark_uncertain(lease, at(1), at(1))
        })
    };
    assert_flat(
        costs(uncertain, |bench| {
            let refusal = refuse(bench, None);
            assert!(matches!(refusal, Refusal::Unverified { .. }), "{refusal:?}");
        }),
        4,
    );
    let cooling = |size| {
        full_book(size, |bench, lease| {
            let blame = Blame::PushedBack { retry_after: None };
            assert!(bench.pool.refuse(lease, blame, at(1)));
        })
    };
    assert_flat(
        costs(cooling, |bench| {
            let refusal = refuse(bench, None);
            assert!(
                matches!(refusal, Refusal::CoolingDown { .. }),
                "{refusal:?}"
            );
        }),
        4,
    );
    let half_full = |size| {
        let mut bench = book(size);
        for account in 0..size {
            take_of(&mut bench, account, 1, None);
        }
        refuse(&mut bench, Some(1));
        bench
    };
    assert_flat(
        costs(half_full, |bench| {
            let refusal = refuse(bench, Some(1));
            assert!(matches!(refusal, Refusal::Saturated { .. }), "{refusal:?}");
        }),
        8,
    );
}

#[test]
fn a_page_looks_at_its_own_rows_and_the_next_one() {
    let set_up = |size| running_book(size, 1).0;
    let accounts = |bench: &mut Bench| {
        let constraint = bench.pool.constraint(None, &[]).unwrap();
        let pool = &bench.pool;
        let first = pool.accounts_after(None, 50, &constraint, START);
        let second = pool.accounts_after(first.next.as_ref(), 50, &constraint, START);
        assert_eq!(second.rows[0].0.email, email(50).into());
        assert_eq!((first.rows.len(), second.rows.len()), (50, 50));
    };
    assert_flat(costs(set_up, accounts), 102);
    let leases = |bench: &mut Bench| {
        let first = bench.pool.leases_after(None, 50);
        let second = bench.pool.leases_after(first.next, 50);
        assert!(first.rows[49].id != second.rows[0].id);
        assert_eq!((first.rows.len(), second.rows.len()), (50, 50));
    };
    assert_flat(costs(set_up, leases), 102);
}

#[test]
fn a_round_costs_what_it_changes() {
    type Jobs = Vec<(u64, String)>;
    let set_up = |how: fn(&mut Jobs)| {
        move |size: u32| {
            let (bench, mut jobs) = running_book(size, 3);
            how(&mut jobs);
            let change = change_of_round(&bench, 10, &jobs);
            (bench, Some(change))
        }
    };
    let follow = |(bench, change): &mut (Bench, Option<RoundChange>)| {
        let change = change.take().unwrap();
        let findings = bench
            .pool
            .follow_whole_round(change, at(10), &mut bench.rng);
        findings.expect("it is the newest");
    };
    // The first round has counted every account, so the next round shows what moved since.
    let set_up = |how: fn(&mut Jobs)| {
        let set_up = set_up(how);
        move |size| {
            let (mut bench, change) = set_up(size);
            let jobs = running_book(size, 3).1;
            round(&mut bench, 5, &jobs);
            let base = bench.pool.running();
            let change = change.map(|change| RoundChange { base, ..change });
            (bench, change)
        }
    };
    assert_flat(costs(set_up(|_| ()), follow), 4);
    assert_flat(costs(set_up(|jobs| drop(jobs.pop())), follow), 12);
    assert_flat(
        costs(set_up(|jobs| jobs.push((99_999, email(3)))), follow),
        12,
    );
}

#[test]
fn a_part_of_a_round_costs_its_own_steps() {
    const STEPS: usize = 50;
    // Each account runs three jobs and has a lost submission and a pick whose time is up. The round lists other jobs.
    let set_up = |size: u32| {
        let (mut bench, mut jobs) = running_book(size, 3);
        for account in 0..size {
            let lost = take_of(&mut bench, account, 3, None);
            bench.pool.mark_uncertain(lost, at(3), at(3));
            take_of(&mut bench, account, 3, Some(at(9)));
        }
        round(&mut bench, 200, &jobs);
        jobs.iter_mut().for_each(|(id, _)| *id += 100_000);
        let change = change_of_round(&bench, 400, &jobs);
        (bench, Some(change))
    };
    let most = |size| {
        let (mut bench, mut change) = set_up(size);
        let mut most = 0;
        loop {
            let mut progress = None;
            let taken = steps::taken_by(|| {
                let Bench { pool, rng } = &mut bench;
                if let Some(change) = change.take() {
                    assert!(pool.begin_round(change, at(400), rng));
                }
                progress = pool.follow_round(STEPS, at(400), rng);
            });
            most = most.max(taken);
            if let Some(RoundProgress::Whole(findings)) = progress {
                assert_eq!(findings.unlisted.len(), 3 * size as usize);
                return most;
            }
        }
    };
    let (small, large) = (most(SMALL), most(LARGE));
    assert!(large <= 8 * STEPS as u64, "{small} and {large} entries");
    assert!(large <= small + BITS, "{small} entries became {large}");
}

#[test]
fn the_end_of_a_ttl_is_flat() {
    let set_up = |size| {
        let mut bench = book(size);
        take_of(&mut bench, 0, 1, Some(at(30)));
        for account in 1..size {
            take_of(&mut bench, account, 1, Some(at(600)));
        }
        bench
    };
    let expire = |bench: &mut Bench| {
        bench.pool.expire(at(31), &mut bench.rng);
        round(bench, 32, &[]);
        assert_eq!(bench.pool.ended_counts()[Cause::Expired as usize], 1);
    };
    // Every account has moved since the first round. A round of its own counts that.
    let settled = |size| {
        let mut bench = set_up(size);
        round(&mut bench, 2, &[]);
        bench
    };
    assert_flat(costs(settled, expire), 16);
}
