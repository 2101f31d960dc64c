//! What the pool tells callers while every slot is in use.

use std::sync::Arc;

use super::{
    rounds::{RECONCILING, at, learned, task},
    *,
};

impl Bench {
    /// Starts a job of `operation` at `seconds`, and returns its lease.
    fn job(&mut self, operation: &str, id: u64, seconds: u64) -> LeaseId {
        let ask = Ask {
            operation: Some(Arc::from(operation)),
            ttl: None,
            ..self.ask(None, &[])
        };
        let now = at(seconds);
        let lease = self.pool.pick(&ask, now, &mut self.rng).unwrap();
        self.pool.bind(lease.id, task(id), now).unwrap();
        lease.id
    }

    fn told_at(&mut self, only: Option<&str>, seconds: u64) -> (u64, usize) {
        let refusal = self.refused_at(only, seconds);
        let Refusal::Saturated { free_in, position } = refusal else {
            panic!("{refusal:?}");
        };
        (free_in.as_secs(), position)
    }

    fn refused_at(&mut self, only: Option<&str>, seconds: u64) -> Refusal {
        let ask = self.ask(only, &[]);
        let refused = self.pool.pick(&ask, at(seconds), &mut self.rng);
        refused.unwrap_err()
    }

    /// A round that lists these jobs of `a@x`, and says for how long some have run.
    fn aged_round(&mut self, seconds: u64, jobs: &[(u64, Option<u64>)]) {
        let executing = jobs.iter().map(|(id, _)| RunningJob {
            task_id: task(*id),
            email: "a@x".to_owned(),
            mark: None,
        });
        let ages = jobs.iter();
        let ages = ages.filter_map(|(id, age)| Some((task(*id), at((*age)?))));
        let round = Round {
            sent_at: at(seconds),
            executing: executing.collect(),
            ages: ages.collect(),
            ..Round::default()
        };
        self.pool.reconcile(&round, at(seconds), &mut self.rng);
    }
}

/// A pool that knows its accounts, and no round.
fn started(accounts: &[(&str, u32)]) -> Bench {
    let mut bench = Bench {
        pool: Pool::new(RECONCILING),
        rng: SmallRng::seed_from_u64(7),
    };
    bench.apply(accounts, START);
    bench
}

#[test]
fn a_slot_is_expected_when_such_jobs_are_over() {
    let mut bench = learned(RECONCILING, &[("a@x", 1)]);
    let first = bench.job("/videos/omni", 1, 0);
    assert!(bench.pool.end(first, Cause::Finished, at(100)));
    let second = bench.job("/videos/omni", 2, 100);
    assert_eq!(bench.told_at(None, 110), (90, 1));
    assert_eq!(bench.told_at(None, 150), (50, 1));
    assert!(bench.pool.end(second, Cause::Finished, at(200)));
    bench.job("/videos/extend", 3, 200);
    assert_eq!(bench.told_at(None, 210), (170, 1), "another operation");
}

#[test]
fn before_a_job_has_ended_a_slot_is_expected_as_such_jobs_usually_end() {
    for (operation, usual) in [("/videos/omni", 180), ("/images/omni", 30), ("/new", 180)] {
        let mut bench = learned(RECONCILING, &[("a@x", 1)]);
        let job = bench.job(operation, 1, 0);
        assert_eq!(bench.told_at(None, 10), (usual - 10, 1), "{operation}");
        assert!(bench.pool.end(job, Cause::Finished, at(100)));
        bench.job(operation, 2, 100);
        assert_eq!(bench.told_at(None, 110), (90, 1), "{operation}");
    }
}

#[test]
fn what_has_lasted_for_long_lasts_longer() {
    let mut bench = learned(RECONCILING, &[("a@x", 1)]);
    bench.job("/images/omni", 1, 0);
    let told = [1, 12, 24, 28, 40, 400, 4000].map(|now| bench.told_at(None, now).0);
    assert_eq!(told, [29, 18, 6, 7, 10, 100, 1000]);
}

#[test]
fn a_job_that_is_known_to_be_over_frees_its_slot_with_the_next_round() {
    let mut bench = learned(RECONCILING, &[("a@x", 1)]);
    bench.job("/videos/omni", 1, 1);
    bench.round(10, &[(1, "a@x")]);
    assert!(bench.pool.job_over(&task(1), at(11)));
    assert_eq!(bench.told_at(None, 11), (10, 1), "rounds are 10 s apart");
}

#[test]
fn jobs_of_others_count_from_the_first_round_that_lists_them() {
    let mut bench = started(&[("a@x", 2)]);
    bench.aged_round(100, &[(1, None), (2, None)]);
    assert_eq!(bench.told_at(None, 100), (180, 1), "right after the start");
    assert_eq!(bench.told_at(None, 140), (140, 1));
    bench.aged_round(150, &[(2, None)]);
    bench.job("/images/omni", 3, 150);
    assert_eq!(bench.told_at(None, 150), (30, 1), "our own ends first");
    let ask = bench.ask(None, &[]);
    let queued = bench.pool.pick_or_wait(ask, at(150), &mut bench.rng);
    assert!(matches!(queued, Ok(Admission::Queued(_))));
    assert_eq!(bench.told_at(None, 150), (130, 2));
}

#[test]
fn jobs_of_others_are_as_old_as_the_upstream_tells() {
    let mut bench = started(&[("a@x", 1)]);
    bench.aged_round(5, &[(1, Some(100))]);
    assert_eq!(bench.told_at(None, 10), (75, 1));
    // It is not younger than we know.
    bench.aged_round(65, &[(1, Some(0))]);
    assert_eq!(bench.told_at(None, 65), (120, 1));
}

#[test]
fn jobs_of_others_teach_how_long_jobs_take() {
    let mut bench = started(&[("a@x", 1)]);
    bench.aged_round(5, &[(1, Some(60))]);
    // It ended between the two rounds, and another one began.
    bench.aged_round(15, &[(2, Some(4))]);
    assert_eq!(bench.told_at(None, 15), (66, 1), "70 s, and 4 are over");
    // Of the third it is not known when it began.
    bench.aged_round(25, &[(3, None)]);
    bench.aged_round(35, &[(4, Some(0))]);
    let told = bench.told_at(None, 35).0;
    assert_eq!(told, 63, "70 s and 14 s, by one eighth");
}

#[test]
fn a_job_that_is_listed_under_another_spelling_teaches_nothing() {
    let mut bench = started(&[("a@x", 1)]);
    bench.aged_round(5, &[(1, Some(60))]);
    bench.round(15, &[(1, "A@x")]);
    assert_eq!(bench.told_at(None, 15), (170, 1), "as videos usually take");
}

#[test]
fn an_account_with_more_jobs_than_slots_has_none_free_after_the_first() {
    let mut bench = started(&[("a@x", 1)]);
    bench.aged_round(0, &[(1, Some(100)), (2, Some(50)), (3, Some(10))]);
    assert_eq!(bench.told_at(None, 0), (170, 1));
}

#[test]
fn slots_of_accounts_that_take_no_jobs_are_not_promised() {
    let mut bench = learned(RECONCILING, &[("a@x", 1), ("b@x", 1)]);
    for id in [1, 2] {
        bench.job("/videos/omni", id, 50 * id);
    }
    let first = bench.pool.leases.of_task(&task(1)).unwrap();
    let email = bench.pool.lease(first).unwrap().email;
    assert_eq!(bench.told_at(None, 110), (120, 1));
    bench.pool.set_draining(&email, true, at(110)).unwrap();
    assert_eq!(bench.told_at(None, 111), (169, 1));
}

#[test]
fn jobs_without_ids_are_expected_to_take_as_long_as_others() {
    let mut bench = started(&[("a@x", 1)]);
    bench.unreadable_round(0, &[], &["a@x"]);
    assert_eq!(bench.told_at(None, 10), (180, 1));
}

#[test]
fn a_slot_in_doubt_is_free_after_settle_and_two_rounds() {
    let mut bench = learned(RECONCILING, &[("a@x", 1)]);
    bench.round(10, &[]);
    let lost = bench.forward(11);
    bench.pool.mark_uncertain(lost, at(12), at(12));
    let told = |bench: &mut Bench, seconds| {
        let refusal = bench.refused_at(None, seconds);
        let Refusal::Unverified { free_in } = refusal else {
            panic!("{refusal:?}");
        };
        free_in.as_secs()
    };
    assert_eq!(told(&mut bench, 12), 120 + 2 * 10);
    for seconds in (20..=140).step_by(10) {
        bench.round(seconds, &[]);
    }
    assert_eq!(told(&mut bench, 140), 10, "one of the rounds has been");
    assert_eq!(
        told(&mut bench, 300),
        10,
        "the next round that is answered decides"
    );
    bench.round(301, &[]);
    assert_eq!(bench.in_use(), Slots::NONE);
}

#[test]
fn a_job_that_ends_before_a_slot_in_doubt_is_told_of() {
    let mut bench = learned(RECONCILING, &[("a@x", 2)]);
    bench.job("/images/omni", 1, 1);
    let lost = bench.forward(2);
    bench.pool.mark_uncertain(lost, at(2), at(2));
    let told = bench.refused_at(None, 2);
    assert_eq!(told, Refusal::Unverified { free_in: at(29) });
}

#[test]
fn without_rounds_a_slot_in_doubt_is_held_as_long_as_a_job_may_run() {
    let mut bench = Bench::new(&[("a@x", 1)]);
    let lost = bench.take(1, None);
    bench.pool.mark_uncertain(lost, at(1), at(1));
    let free_in = LIMITS.job_ttl;
    assert_eq!(bench.refused_at(None, 1), Refusal::Unverified { free_in });
}

#[test]
fn a_full_queue_is_shorter_once_the_first_slot_is_free() {
    let mut bench = learned(RECONCILING, &[("a@x", 2)]);
    bench.job("/videos/omni", 1, 0);
    bench.job("/images/omni", 2, 0);
    let queue_up = |bench: &mut Bench| {
        let ask = bench.ask(None, &[]);
        bench.pool.pick_or_wait(ask, at(10), &mut bench.rng)
    };
    for _ in 0..RECONCILING.waiters_max {
        assert!(matches!(queue_up(&mut bench), Ok(Admission::Queued(_))));
    }
    let free_in = at(20);
    assert_eq!(queue_up(&mut bench), Err(Refusal::QueueFull { free_in }));
}

#[test]
fn newer_jobs_count_more_and_no_single_one_decides() {
    let mut bench = learned(RECONCILING, &[("a@x", 1)]);
    let mut now = 0;
    let mut took = |bench: &mut Bench, seconds| {
        let lease = bench.job("/videos", now, now);
        now += seconds;
        assert!(bench.pool.end(lease, Cause::Finished, at(now)));
        let next = bench.job("/videos", now + 1, now);
        let told = bench.told_at(None, now + 1).0 + 1;
        assert!(bench.pool.end(next, Cause::Absent, at(now + 1)));
        now += 1;
        told
    };
    assert_eq!(took(&mut bench, 100), 100);
    assert_eq!(took(&mut bench, 900), 200, "one eighth of the way");
    for _ in 0..50 {
        took(&mut bench, 60);
    }
    assert_eq!(took(&mut bench, 60), 60);
}

#[test]
fn whoever_stands_further_back_is_told_of_a_later_slot() {
    let mut bench = learned(RECONCILING, &[("a@x", 2), ("b@x", 1)]);
    let sample = bench.job("/videos", 9, 0);
    assert!(bench.pool.end(sample, Cause::Finished, at(100)));
    for (id, seconds) in [(1, 110), (2, 120), (3, 130)] {
        bench.job("/videos", id, seconds);
    }
    let mut waiters = Vec::new();
    for (position, free_in) in [(1, 70), (2, 80), (3, 90), (4, 90)] {
        assert_eq!(bench.told_at(None, 140), (free_in, position));
        let ask = bench.ask(None, &[]);
        match bench.pool.pick_or_wait(ask, at(140), &mut bench.rng) {
            Ok(Admission::Queued(id)) => waiters.push(id),
            Ok(Admission::Granted(lease)) => panic!("{lease:?}"),
            // The queue holds three.
            Err(refusal) => {
                let free_in = at(70);
                assert_eq!((refusal, position), (Refusal::QueueFull { free_in }, 4));
            }
        }
    }
    let told = bench.pool.queue_estimate(waiters[1], at(140));
    let second = Refusal::Saturated {
        free_in: at(80),
        position: 2,
    };
    assert_eq!(told, Some(second));
    assert!(bench.pool.leave(waiters[0]));
    let told = bench.pool.queue_estimate(waiters[1], at(140));
    assert!(matches!(told, Some(Refusal::Saturated { position: 1, .. })));
    assert_eq!(bench.pool.queue_estimate(waiters[0], at(140)), None);
}

#[test]
fn a_named_account_is_judged_by_its_own_jobs() {
    let mut bench = learned(RECONCILING, &[("a@x", 1)]);
    let sample = bench.job("/videos", 9, 0);
    assert!(bench.pool.end(sample, Cause::Finished, at(100)));
    bench.job("/videos", 1, 100);
    bench.apply(&[("a@x", 1), ("b@x", 1)], at(150));
    bench.job("/videos", 2, 150);
    assert_eq!(bench.told_at(Some("b@x"), 160), (90, 1));
    assert_eq!(bench.told_at(Some("a@x"), 160), (40, 1));
}

#[test]
fn operations_beyond_the_limit_count_as_one() {
    let mut bench = learned(RECONCILING, &[("a@x", 1)]);
    for id in 0..1000 {
        let lease = bench.job(&format!("/new/{id}"), id, id * 10);
        assert!(bench.pool.end(lease, Cause::Finished, at(id * 10 + 7)));
    }
    bench.job("/new/again", 5000, 20_000);
    assert_eq!(bench.told_at(None, 20_001), (6, 1));
}
