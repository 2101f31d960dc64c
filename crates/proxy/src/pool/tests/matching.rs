//! Which lease gets a job that an answer names, a client names, or a round lists.

use super::{
    resolutions::Fate,
    rounds::{RECONCILING, at, learned, task},
    *,
};

#[test]
fn a_submission_under_way_stands_for_a_new_job_for_one_round() {
    let mut bench = learned(RECONCILING, &[("a@x", 3)]);
    let lease = bench.forward(1);
    bench.round(10, &[(7, "a@x"), (8, "a@x")]);
    assert_eq!(
        bench.in_use(),
        Slots::held(1) + Slots::foreign(1),
        "one of the two is ours"
    );
    bench.round(20, &[(7, "a@x"), (8, "a@x")]);
    assert_eq!(
        bench.in_use(),
        Slots::held(1) + Slots::foreign(2),
        "both may be another tool's"
    );
    assert_eq!(bench.job_of(lease), None, "only its answer binds it");
    bench.pool.bind(lease, task(8), at(21)).unwrap();
    assert_eq!(
        bench.in_use(),
        Slots::held(1) + Slots::foreign(1),
        "it was the other one"
    );
    bench.round(30, &[(7, "a@x"), (8, "a@x")]);
    assert_eq!(
        bench.in_use(),
        Slots::held(1) + Slots::foreign(1),
        "and so it stays"
    );
}

#[test]
fn a_submission_that_is_lost_after_its_job_was_counted_has_it_all_the_same() {
    let mut bench = learned(RECONCILING, &[("a@x", 3)]);
    let lease = bench.forward(1);
    bench.round(10, &[(7, "a@x")]);
    bench.round(20, &[(7, "a@x")]);
    assert_eq!(bench.in_use(), Slots::held(1) + Slots::foreign(1));
    bench.pool.mark_uncertain(lease, at(21), at(21));
    assert_eq!(bench.job_of(lease), Some("7".to_owned()));
    assert_eq!(bench.in_use(), Slots::held(1));
    // The same a little later, when the submission no longer stands for the job.
    let late = bench.forward(22);
    bench.round(30, &[(7, "a@x"), (8, "a@x")]);
    let other = bench.forward(31);
    bench.pool.mark_uncertain(late, at(31), at(31));
    assert_eq!(bench.job_of(late), Some("8".to_owned()));
    bench.pool.bind(other, task(8), at(32)).unwrap();
    assert_eq!(
        bench.in_use(),
        Slots::held(2) + Slots::uncertain(1),
        "the answer knows better"
    );
    bench.round(40, &[(7, "a@x"), (8, "a@x"), (9, "a@x")]);
    assert_eq!(bench.job_of(late), Some("9".to_owned()));
}

#[test]
fn a_job_that_a_submission_stood_for_goes_with_the_round_that_no_longer_lists_it() {
    let mut bench = learned(RECONCILING, &[("a@x", 3)]);
    bench.forward(1);
    bench.round(10, &[(7, "a@x")]);
    assert_eq!(bench.in_use(), Slots::held(1));
    bench.round(20, &[]);
    assert_eq!(bench.in_use(), Slots::held(1), "it is nobody else's either");
}

#[test]
fn a_lost_submission_takes_no_job_that_the_round_shows_to_be_gone() {
    let mut bench = learned(RECONCILING, &[("a@x", 5)]);
    let (first, second) = (bench.forward(1), bench.forward(2));
    bench.pool.mark_uncertain(first, at(3), at(3));
    bench.pool.mark_uncertain(second, at(3), at(3));
    bench.round(10, &[(7, "a@x")]);
    assert_eq!(bench.job_of(first).as_deref(), Some("7"));
    bench.round(20, &[]);
    // Its answer comes late: it names another job, and no lease has this one.
    bench.pool.bind(first, task(8), at(25)).unwrap();
    bench.round(30, &[(8, "a@x"), (9, "a@x")]);
    assert_eq!(bench.job_of(second).as_deref(), Some("9"));
    assert_eq!(bench.in_use(), Slots::held(2));
}

#[test]
fn a_lease_made_after_a_round_was_sent_stands_for_nothing_in_it() {
    let mut bench = learned(RECONCILING, &[("a@x", 3)]);
    bench.forward(10);
    bench.take(11, Some(TTL));
    bench.round(10, &[(7, "a@x")]);
    assert_eq!(bench.in_use(), Slots::held(2) + Slots::foreign(1));
}

#[test]
fn a_pick_is_tied_to_the_job_that_its_client_started() {
    let mut bench = learned(RECONCILING, &[("a@x", 2)]);
    let lease = bench.take(1, Some(TTL));
    bench.round(10, &[(7, "a@x")]);
    assert_eq!(bench.in_use(), Slots::held(1), "counted once");
    assert_eq!(bench.job_of(lease), Some("7".to_owned()));

    let untied = Limits {
        ties_picks: false,
        ..RECONCILING
    };
    let mut bench = learned(untied, &[("a@x", 2)]);
    bench.take(1, Some(TTL));
    bench.round(10, &[(7, "a@x")]);
    assert_eq!(
        bench.in_use(),
        Slots::held(1) + Slots::foreign(1),
        "counted twice, to be safe"
    );
}

#[test]
fn an_explicit_bind_beats_a_tie() {
    let mut bench = learned(RECONCILING, &[("a@x", 4)]);
    let (first, second) = (bench.take(1, Some(TTL)), bench.take(2, Some(TTL)));
    bench.round(10, &[(7, "a@x")]);
    assert_eq!(
        bench.job_of(first),
        Some("7".to_owned()),
        "the oldest stands first"
    );
    bench.pool.bind(second, task(7), at(11)).unwrap();
    assert_eq!(
        (bench.job_of(first), bench.job_of(second)),
        (None, Some("7".to_owned()))
    );
    let lease = bench.pool.lease(first).unwrap();
    assert_eq!(lease.state, LeaseState::Reserved);
    assert_eq!(
        lease.expires_at,
        Some(at(1) + TTL - at(5)),
        "with its old expiry"
    );
    assert_eq!(
        bench.pool.bind(first, task(7), at(12)),
        Err(LeaseError::TaskTaken)
    );

    bench.round(20, &[(7, "a@x"), (8, "a@x")]);
    assert_eq!(bench.job_of(first), Some("8".to_owned()));
    bench.pool.bind(first, task(9), at(21)).unwrap();
    assert_eq!(
        bench.in_use(),
        Slots::held(2) + Slots::foreign(1),
        "the job it was tied to is foreign at once"
    );
}

#[test]
fn a_lost_submission_finds_its_job_or_is_absent_in_two_settled_rounds() {
    let mut bench = learned(RECONCILING, &[("a@x", 2)]);
    let (found, absent) = (bench.forward(1), bench.forward(2));
    bench.pool.mark_uncertain(found, at(3), at(3));
    bench.pool.mark_uncertain(absent, at(3), at(3));
    assert_eq!(bench.in_use(), Slots::uncertain(2));
    bench.round(10, &[(7, "a@x")]);
    assert_eq!(bench.in_use(), Slots::held(1) + Slots::uncertain(1));
    assert_eq!(bench.job_of(found), Some("7".to_owned()));
    bench.round(122, &[(7, "a@x")]);
    bench.round(123, &[(7, "a@x")]);
    assert_eq!(
        bench.in_use(),
        Slots::held(1) + Slots::uncertain(1),
        "one settled round is not enough"
    );
    bench.round(124, &[(7, "a@x")]);
    assert_eq!(bench.in_use(), Slots::held(1));
    assert_eq!(bench.pool.ended_counts()[Cause::Absent as usize], 1);
}

#[test]
fn a_lost_submission_that_stood_for_a_job_has_it() {
    let mut bench = learned(RECONCILING, &[("a@x", 2)]);
    let lease = bench.forward(1);
    bench.round(10, &[(7, "a@x")]);
    bench.pool.mark_uncertain(lease, at(5), at(11));
    assert_eq!(bench.job_of(lease), Some("7".to_owned()));
    assert_eq!(bench.in_use(), Slots::held(1));
}

#[test]
fn a_job_that_one_submission_only_stood_for_is_found_for_the_lost_one() {
    // Another submission is under way, stands for the job first, and turns out to have another job
    // or none.
    for ending in ["answered", "refused", "tied too"] {
        let mut bench = learned(RECONCILING, &[("a@x", 3)]);
        let lost = bench.forward(1);
        bench.claim_for(lost);
        bench.pool.mark_uncertain(lost, at(1), at(1));
        let other = bench.forward(2);
        bench.round(10, &[(11, "a@x")]);
        assert_eq!(
            bench.in_use(),
            Slots::held(1) + Slots::uncertain(1),
            "{ending}"
        );
        assert_eq!(bench.fate(lost), Fate::Open);
        match ending {
            "refused" => assert!(bench.pool.end(other, Cause::Refused, at(11))),
            "answered" => bench.pool.bind(other, task(22), at(11)).unwrap(),
            _ => {
                bench.round(11, &[(11, "a@x"), (22, "a@x")]);
                assert_eq!(bench.job_of(lost), Some("11".to_owned()));
                bench.pool.bind(other, task(22), at(12)).unwrap();
            }
        }
        assert_eq!(bench.job_of(lost), Some("11".to_owned()), "{ending}");
        let held = if ending == "refused" { 1 } else { 2 };
        assert_eq!(bench.in_use(), Slots::held(held), "{ending}");
        assert!(bench.pool.end(lost, Cause::Finished, at(13)));
        assert_eq!(bench.fate(lost), Fate::Job(task(11)), "also later");
    }
}

#[test]
fn of_two_lost_submissions_and_one_job_neither_is_known_to_have_come_to_nothing() {
    for given_back in [None, Some(Cause::Released)] {
        let mut bench = learned(RECONCILING, &[("a@x", 3)]);
        let lost = [bench.forward(1), bench.forward(2)];
        for id in lost {
            bench.claim_for(id);
            bench.pool.mark_uncertain(id, at(2), at(2));
        }
        bench.round(10, &[(11, "a@x")]);
        if given_back.is_some() {
            assert!(bench.pool.release(lost[1], at(11)));
        }
        bench.round(122, &[(11, "a@x")]);
        bench.round(123, &[(11, "a@x")]);
        assert_eq!(bench.in_use(), Slots::held(1));
        let fates = lost.map(|id| bench.fate(id));
        let second = given_back.map_or(Fate::Open, |_| Fate::NoJob);
        assert_eq!(fates, [Fate::Job(task(11)), second]);
    }
}

#[test]
fn a_submission_that_could_not_be_looked_for_stays_open() {
    let mut bench = learned(RECONCILING, &[("a@x", 3)]);
    let lost = bench.forward(1);
    bench.claim_for(lost);
    bench.pool.mark_uncertain(lost, at(1), at(1));
    let late = at(1) + RECONCILING.job_ttl;
    bench.pool.expire(late, &mut bench.rng);
    assert_eq!(bench.pool.ended_counts()[Cause::Unverified as usize], 1);
    assert_eq!(bench.fate(lost), Fate::Open);
}

#[test]
fn a_round_that_was_on_its_way_does_not_bring_back_a_job_that_is_no_longer_tracked() {
    let mut bench = learned(RECONCILING, &[("a@x", 3)]);
    let [untracked, lost] = [bench.forward(1), bench.forward(2)];
    bench.pool.bind(untracked, task(7), at(3)).unwrap();
    bench.pool.mark_uncertain(lost, at(3), at(3));
    bench.pool.job_untracked(&task(7), at(11));
    bench.round(10, &[(7, "a@x")]);
    assert_eq!(
        bench.in_use(),
        Slots::uncertain(1),
        "it is not the lost one's"
    );
    bench.round(12, &[(7, "a@x")]);
    assert_eq!(bench.in_use(), Slots::held(1), "this one was asked later");
}

#[test]
fn a_job_that_ran_before_a_submission_is_not_taken_for_its_own() {
    let mut bench = learned(RECONCILING, &[("a@x", 3)]);
    let other = bench.forward(1);
    bench.round(10, &[(11, "a@x")]);
    let lost = bench.forward(11);
    bench.claim_for(lost);
    bench.pool.mark_uncertain(lost, at(11), at(11));
    bench.pool.bind(other, task(22), at(12)).unwrap();
    assert_eq!(
        bench.in_use(),
        Slots::held(1) + Slots::uncertain(1) + Slots::foreign(1)
    );
    bench.round(131, &[(11, "a@x"), (22, "a@x")]);
    bench.round(132, &[(11, "a@x"), (22, "a@x")]);
    assert!(bench.pool.lease(lost).is_none(), "its slot is free");
    assert_eq!(bench.fate(lost), Fate::Open, "its key is not yet");
}

#[test]
fn an_expired_pick_is_decided_by_the_first_round_sent_afterwards() {
    let mut bench = learned(RECONCILING, &[("a@x", 2)]);
    bench.take(1, Some(TTL));
    bench.pool.expire(at(62), &mut bench.rng);
    bench.round(60, &[]);
    assert_eq!(
        bench.in_use(),
        Slots::held(1),
        "it may have submitted in the last moment"
    );
    bench.round(61, &[]);
    assert_eq!(bench.in_use(), Slots::NONE);
    let late = bench.take(100, Some(TTL));
    bench.round(200, &[(7, "a@x")]);
    assert_eq!(bench.job_of(late), Some("7".to_owned()), "it had");
}

#[test]
fn a_job_bound_to_the_wrong_account_is_counted_where_it_runs() {
    let mut bench = learned(RECONCILING, &[("a@x", 1), ("b@x", 1)]);
    let ask = bench.ask(Some("b@x"), &[]);
    let lease = bench.pool.pick(&ask, at(1), &mut bench.rng).unwrap();
    bench.pool.bind(lease.id, task(7), at(2)).unwrap();
    bench.round(10, &[(7, "a@x")]);
    assert_eq!(bench.in_use(), Slots::foreign(1));
    assert!(bench.pool.release(lease.id, at(11)));
    bench.round(12, &[]);
    assert_eq!(bench.in_use(), Slots::NONE);
    assert_eq!(bench.held("b@x"), 0);
}

#[test]
fn a_job_that_two_answers_name_leaves_no_lease_without_an_end() {
    let mut bench = learned(RECONCILING, &[("a@x", 3)]);
    let [first, second] = [bench.forward(1), bench.forward(2)];
    bench.pool.bind(first, task(7), at(3)).unwrap();
    bench.pool.bind(second, task(7), at(4)).unwrap();
    assert_eq!(
        bench.in_use(),
        Slots::held(1) + Slots::uncertain(1),
        "nobody knows of the first"
    );
    bench.round(124, &[(7, "a@x")]);
    bench.round(125, &[(7, "a@x")]);
    assert_eq!(bench.in_use(), Slots::held(1));
}

#[test]
fn a_job_that_was_counted_on_another_account_frees_a_slot_there() {
    let mut bench = learned(RECONCILING, &[("a@x", 1), ("b@x", 1)]);
    let lease = bench.forward(1);
    let email = bench.pool.lease(lease).unwrap().email;
    let other = if &*email == "a@x" { "b@x" } else { "a@x" };
    bench.round(10, &[(7, other)]);
    let waiter = bench.wait_for(Some(other), &[]);
    bench.pool.bind(lease, task(7), at(11)).unwrap();
    assert_eq!(bench.handed_over(), [(waiter, other.to_owned())]);
}

#[test]
fn a_job_that_a_submission_stood_for_is_counted_when_it_was_not_its_own() {
    // The answer names another job.
    let mut bench = learned(RECONCILING, &[("a@x", 2)]);
    let lease = bench.forward(1);
    bench.round(10, &[(11, "a@x")]);
    bench.pool.bind(lease, task(22), at(11)).unwrap();
    assert_eq!(bench.in_use(), Slots::held(1) + Slots::foreign(1));
    // The upstream refuses the submission, or the sidecar gives it up.
    for is_refused in [true, false] {
        let mut bench = learned(RECONCILING, &[("a@x", 1)]);
        let lease = bench.forward(1);
        bench.round(10, &[(11, "a@x")]);
        if is_refused {
            bench.pool.end(lease, Cause::Refused, at(11));
        } else {
            bench.pool.release(lease, at(11));
        }
        assert_eq!(bench.in_use(), Slots::foreign(1));
    }
}

#[test]
fn a_tied_pick_ends_with_its_job() {
    let mut bench = learned(RECONCILING, &[("a@x", 1)]);
    for is_untracked in [true, false] {
        let lease = bench.take(20, Some(at(600)));
        let job = u64::from(is_untracked) + 70;
        bench.round(21, &[(job, "a@x")]);
        assert_eq!(bench.job_of(lease), Some(job.to_string()));
        if is_untracked {
            bench.pool.job_untracked(&task(job), at(22));
        } else {
            bench.pool.job_over(&task(job), at(22));
            bench.round(23, &[]);
        }
        assert_eq!(bench.in_use(), Slots::NONE, "with no word of its client");
        assert_eq!(bench.pool.lease(lease), None);
    }
}

#[test]
fn the_answer_to_our_own_submission_beats_what_a_client_says() {
    let mut bench = learned(RECONCILING, &[("a@x", 2)]);
    let (ours, picked) = (bench.forward(1), bench.take(1, Some(TTL)));
    bench.pool.bind(picked, task(11), at(2)).unwrap();
    bench.pool.bind(ours, task(11), at(3)).unwrap();
    assert_eq!(
        (bench.job_of(ours), bench.job_of(picked)),
        (Some("11".to_owned()), None)
    );
}
