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

    fn told_at(&mut self, only: Option<&str>, seconds: u64) -> (Option<u64>, usize) {
        let ask = self.ask(only, &[]);
        match self.pool.pick(&ask, at(seconds), &mut self.rng) {
            Err(Refusal::Saturated { free_in, position }) => {
                (free_in.map(|free_in| free_in.as_secs()), position)
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_slot_is_expected_when_such_jobs_are_over() {
    let mut bench = learned(RECONCILING, &[("a@x", 2)]);
    let first = bench.job("/videos", 1, 0);
    bench.job("/images", 2, 0);
    assert_eq!(bench.told_at(None, 10), (None, 1), "nothing is known yet");
    assert!(bench.pool.end(first, Cause::Finished, at(100)));
    bench.job("/videos", 3, 100);
    assert_eq!(bench.told_at(None, 110), (Some(90), 1));
    assert_eq!(bench.told_at(None, 150), (Some(50), 1));
    assert_eq!(bench.told_at(None, 300), (Some(0), 1), "any moment");
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
        let told = bench.told_at(None, now + 1).0.unwrap() + 1;
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
        assert_eq!(bench.told_at(None, 140), (Some(free_in), position));
        let ask = bench.ask(None, &[]);
        match bench.pool.pick_or_wait(ask, at(140), &mut bench.rng) {
            Ok(Admission::Queued(id)) => waiters.push(id),
            Ok(Admission::Granted(lease)) => panic!("{lease:?}"),
            // The queue holds three.
            Err(refusal) => assert_eq!((refusal, position), (Refusal::QueueFull, 4)),
        }
    }
    let told = bench.pool.queue_estimate(waiters[1], at(140));
    let second = Refusal::Saturated {
        free_in: Some(at(80)),
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
    assert_eq!(bench.told_at(Some("b@x"), 160), (Some(90), 1));
    assert_eq!(bench.told_at(Some("a@x"), 160), (Some(40), 1));
}

#[test]
fn operations_beyond_the_limit_count_as_one() {
    let mut bench = learned(RECONCILING, &[("a@x", 1)]);
    for id in 0..1000 {
        let lease = bench.job(&format!("/new/{id}"), id, id * 10);
        assert!(bench.pool.end(lease, Cause::Finished, at(id * 10 + 7)));
    }
    bench.job("/new/again", 5000, 20_000);
    assert_eq!(bench.told_at(None, 20_001), (Some(6), 1));
}
