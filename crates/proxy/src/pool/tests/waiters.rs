//! Waiters: which of them is served, and when.

use super::*;

#[test]
fn a_raised_cap_serves_waiters_in_order() {
    let mut bench = Bench::new(&[("a@x", 1)]);
    bench.fill();
    let waiters = [(); 3].map(|()| bench.wait_for(None, &[]));
    bench.apply(&[("a@x", 3)], START);
    let served: Vec<_> = bench
        .handed_over()
        .into_iter()
        .map(|(waiter, _)| waiter)
        .collect();
    assert_eq!(served, waiters[..2]);
    assert_eq!(bench.pool.waiters_count(), 1);
}

#[test]
fn a_freed_slot_goes_to_the_longest_waiting_that_may_take_it() {
    let mut bench = Bench::new(&[("a@x", 1), ("b@x", 1)]);
    let leases = bench.fill();
    let of = |email: &str| {
        leases
            .iter()
            .find(|lease| &*lease.email == email)
            .unwrap()
            .clone()
    };
    let only_b = bench.wait_for(Some("b@x"), &[]);
    let not_a = bench.wait_for(None, &["a@x"]);
    let any = bench.wait_for(None, &[]);
    bench.release(&of("a@x"));
    assert_eq!(bench.handed_over(), [(any, "a@x".to_owned())]);
    bench.release(&of("b@x"));
    assert_eq!(bench.handed_over(), [(only_b, "b@x".to_owned())]);
    assert!(bench.pool.leave(not_a));
    assert!(!bench.pool.leave(only_b), "it was served");
}

#[test]
fn a_newcomer_is_served_only_with_a_slot_no_waiter_may_take() {
    let mut bench = Bench::new(&[("a@x", 1), ("b@x", 1)]);
    let leases = bench.fill();
    bench.wait_for(Some("b@x"), &[]);
    let of_a = leases
        .iter()
        .find(|lease| &*lease.email == "a@x")
        .unwrap()
        .clone();
    bench.release(&of_a);
    assert_eq!(bench.handed_over(), [], "no waiter takes a slot of a@x");
    assert_eq!(&*bench.pick().unwrap().email, "a@x");
}

#[test]
fn the_queue_is_bounded_and_a_place_left_is_free_again() {
    let mut bench = Bench::new(&[("a@x", 1)]);
    bench.fill();
    let waiters = [(); 3].map(|()| bench.wait_for(None, &[]));
    let ask = bench.ask(None, &[]);
    let refused = bench.pool.pick_or_wait(ask, START, &mut bench.rng);
    assert_eq!(refused, Err(Refusal::QueueFull { free_in: TTL }));
    assert!(bench.pool.leave(waiters[0]));
    bench.wait_for(None, &[]);
}

#[test]
fn a_waiter_outlives_the_absence_of_its_account() {
    let mut bench = Bench::new(&[("a@x", 1), ("b@x", 1)]);
    let leases = bench.fill();
    let waiter = bench.wait_for(Some("a@x"), &[]);
    bench.apply(&[("b@x", 1)], START);
    for lease in &leases {
        bench.release(lease);
    }
    assert_eq!(bench.handed_over(), []);
    bench.apply(&[("b@x", 1), ("a@x", 1)], START);
    assert_eq!(bench.handed_over(), [(waiter, "a@x".to_owned())]);
}

#[test]
fn an_account_that_joins_stays_excluded() {
    let mut bench = Bench::new(&[("a@x", 1)]);
    bench.fill();
    let not_b = bench.wait_for(None, &["b@x"]);
    bench.apply(&[("a@x", 1), ("b@x", 1)], START);
    assert_eq!(bench.handed_over(), []);
    bench.apply(&[("a@x", 1), ("b@x", 1), ("c@x", 1)], START);
    assert_eq!(bench.handed_over(), [(not_b, "c@x".to_owned())]);
}

#[test]
fn a_resumed_account_serves_waiters() {
    let mut bench = Bench::new(&[("a@x", 1), ("b@x", 1)]);
    bench.pool.set_draining("a@x", true, START).unwrap();
    bench.fill();
    let waiter = bench.wait_for(None, &[]);
    bench.pool.set_draining("a@x", false, START).unwrap();
    assert_eq!(bench.handed_over(), [(waiter, "a@x".to_owned())]);
}

#[test]
fn a_caller_that_comes_back_has_its_old_place() {
    let mut bench = Bench::new(&[("a@x", 1)]);
    let come = |bench: &mut Bench, place| {
        let ask = Ask {
            place,
            ..bench.ask(None, &[])
        };
        bench.pool.pick_or_wait(ask, START, &mut bench.rng).unwrap()
    };
    let first = bench.pool.take_place(START);
    let Admission::Granted(lease) = come(&mut bench, Some(first)) else {
        panic!("a slot is free");
    };
    // The upstream pushed the first caller back, and another job took its slot.
    let second = bench.wait_for(None, &[]);
    bench.release(&lease);
    assert_eq!(bench.handed_over(), [(second, "a@x".to_owned())]);
    let third = bench.wait_for(None, &[]);
    // It need not wait to be told its place.
    let ask = Ask {
        place: Some(first),
        ..bench.ask(None, &[])
    };
    let refused = bench.pool.pick(&ask, START, &mut bench.rng).unwrap_err();
    assert!(
        matches!(refused, Refusal::Saturated { position: 1, .. }),
        "{refused:?}"
    );
    assert_eq!(come(&mut bench, Some(first)), Admission::Queued(first));
    // A place is taken once.
    let Admission::Queued(fourth) = come(&mut bench, Some(first)) else {
        panic!("no slot is free");
    };
    for (idx, waiter) in [first, third, fourth].into_iter().enumerate() {
        let told = bench.pool.queue_estimate(waiter, START);
        assert!(
            matches!(told, Some(Refusal::Saturated { position, .. }) if position == idx + 1),
            "{told:?}"
        );
    }
    for expected in [first, third, fourth] {
        let lease = bench.pool.leases()[0].clone();
        bench.release(&lease);
        assert_eq!(bench.handed_over(), [(expected, "a@x".to_owned())]);
    }
}
