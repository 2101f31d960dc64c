//! The book against the upstream's list of running jobs.

use super::*;

pub(super) use crate::pool::fuzzing::{RECONCILING, at, task};

/// A pool that has had its first list and an empty first round, at time 0.
pub(super) fn learned(limits: Limits, accounts: &[(&str, u32)]) -> Bench {
    Bench::learned(limits, accounts)
}

/// A round sent at `seconds` that lists these jobs.
pub(super) fn round_of(seconds: u64, jobs: &[(u64, &str)]) -> Round {
    let executing = jobs.iter().map(|(id, email)| RunningJob {
        task_id: task(*id),
        email: (*email).to_owned(),
        mark: None,
    });
    Round {
        sent_at: at(seconds),
        executing: executing.collect(),
        ..Round::default()
    }
}

impl Bench {
    /// A round sent and answered at `seconds` that lists these jobs.
    pub(super) fn round(&mut self, seconds: u64, jobs: &[(u64, &str)]) -> Vec<RunningJob> {
        self.findings(seconds, jobs).unlisted
    }

    pub(super) fn findings(&mut self, seconds: u64, jobs: &[(u64, &str)]) -> Findings {
        let round = round_of(seconds, jobs);
        self.pool.reconcile(&round, at(seconds), &mut self.rng)
    }

    pub(super) fn take(&mut self, seconds: u64, ttl: Option<Duration>) -> LeaseId {
        let ask = Ask {
            ttl,
            ..self.ask(None, &[])
        };
        self.pool.pick(&ask, at(seconds), &mut self.rng).unwrap().id
    }

    pub(super) fn forward(&mut self, seconds: u64) -> LeaseId {
        self.take(seconds, None)
    }

    /// The slots of `a@x` in use.
    pub(super) fn in_use(&self) -> Slots {
        let account = self.pool.account("a@x").unwrap();
        Slots {
            held: account.held,
            uncertain: account.uncertain,
            foreign: account.foreign,
        }
    }

    pub(super) fn job_of(&self, id: LeaseId) -> Option<String> {
        let lease = self.pool.lease(id).unwrap();
        lease.task_id.map(|task_id| task_id.as_str().to_owned())
    }
}

#[test]
fn nothing_is_granted_before_the_first_round() {
    let mut bench = Bench {
        pool: Pool::new(RECONCILING),
        rng: SmallRng::seed_from_u64(1),
    };
    bench.apply(&[("a@x", 1)], START);
    assert_eq!(bench.pick(), Err(Refusal::Learning));
    bench.round(0, &[(1, "a@x")]);
    assert_eq!(
        bench.in_use(),
        Slots::foreign(1),
        "what runs already is counted"
    );
    let refused = bench.pick();
    assert!(
        matches!(refused, Err(Refusal::Saturated { position: 1, .. })),
        "{refused:?}"
    );
}

#[test]
fn foreign_jobs_fill_an_account_and_leave_it() {
    let mut bench = learned(RECONCILING, &[("a@x", 2)]);
    bench.round(10, &[(1, "a@x"), (2, "a@x"), (3, "stranger@x")]);
    assert_eq!(bench.in_use(), Slots::foreign(2));
    assert!(bench.pick().is_err());
    let waiter = bench.wait_for(None, &[]);
    bench.round(20, &[(2, "a@x")]);
    assert_eq!(bench.handed_over(), [(waiter, "a@x".to_owned())]);
}

#[test]
fn a_bound_slot_returns_when_its_job_is_over_and_a_later_round_does_not_list_it() {
    let mut bench = learned(RECONCILING, &[("a@x", 1)]);
    let lease = bench.forward(1);
    bench.pool.bind(lease, task(7), at(2)).unwrap();
    assert!(bench.round(10, &[(7, "a@x")]).is_empty());
    assert!(bench.pool.job_over(&task(7), at(11)));
    bench.round(12, &[(7, "a@x")]);
    assert_eq!(
        bench.in_use(),
        Slots::held(1),
        "the upstream still counts it"
    );
    bench.round(11, &[]);
    assert_eq!(
        bench.in_use(),
        Slots::held(1),
        "a round that was not sent later says nothing"
    );
    bench.round(13, &[]);
    assert_eq!(bench.in_use(), Slots::NONE);
    assert_eq!(bench.pool.ended_counts()[Cause::Finished as usize], 1);
}

#[test]
fn an_unlisted_job_is_asked_for_and_held_until_it_is_known_to_be_over() {
    let mut bench = learned(RECONCILING, &[("a@x", 1)]);
    let lease = bench.forward(1);
    bench.pool.bind(lease, task(7), at(2)).unwrap();
    assert!(
        bench.round(1, &[]).is_empty(),
        "this round was sent before the job was known"
    );
    let unlisted = bench.round(10, &[]);
    assert_eq!(
        unlisted,
        [RunningJob {
            task_id: task(7),
            email: "a@x".to_owned(),
            mark: None,
        }]
    );
    assert_eq!(bench.in_use(), Slots::held(1));
    bench.pool.job_over(&task(7), at(11));
    bench.round(12, &[]);
    assert_eq!(bench.in_use(), Slots::NONE);
}

#[test]
fn a_job_nobody_reports_on_is_let_go_after_its_ttl() {
    let mut bench = learned(RECONCILING, &[("a@x", 1)]);
    let lease = bench.forward(0);
    bench.pool.bind(lease, task(7), at(0)).unwrap();
    bench.round(3900, &[(7, "a@x")]);
    assert_eq!(
        bench.in_use(),
        Slots::held(1),
        "the upstream still lists it"
    );
    bench.round(3901, &[]);
    assert_eq!(bench.in_use(), Slots::NONE);
    assert_eq!(bench.pool.ended_counts()[Cause::Unverified as usize], 1);
}

#[test]
fn the_drift_is_what_a_round_had_to_mend() {
    let mut bench = learned(RECONCILING, &[("a@x", 9), ("b@x", 9)]);
    let drift = |bench: &Bench| {
        let accounts = bench.pool.accounts().map(|account| account.drift);
        accounts.collect::<Vec<_>>()
    };
    bench.round(1, &[(1, "a@x"), (2, "a@x"), (3, "elsewhere@x")]);
    assert_eq!(drift(&bench), [-2, 0], "two foreign jobs were new");
    bench.round(2, &[(1, "a@x"), (2, "a@x"), (3, "b@x")]);
    assert_eq!(drift(&bench), [0, -1]);
    bench.round(3, &[(3, "b@x")]);
    assert_eq!(drift(&bench), [2, 0], "and two are gone");
}

#[test]
fn a_lower_cap_counts_at_once_where_a_round_brings_the_news() {
    let mut bench = learned(RECONCILING, &[("a@x", 3)]);
    let tell = |bench: &mut Bench, max_jobs| {
        let round = Round {
            sent_at: at(1),
            caps: vec![AccountCap {
                email: "a@x".to_owned(),
                max_jobs,
            }],
            ..Round::default()
        };
        bench.pool.reconcile(&round, at(1), &mut bench.rng);
        bench.pool.account("a@x").unwrap().max_jobs
    };
    assert_eq!(tell(&mut bench, 2), 3, "no news: the list stands");
    assert_eq!(tell(&mut bench, 1), 1);
    let lease = bench.forward(2);
    assert!(!bench.pool.account("a@x").unwrap().is_eligible);
    bench.apply(&[("a@x", 3)], at(3));
    assert!(!bench.pool.account("a@x").unwrap().is_eligible, "old news");
    bench.apply(&[("a@x", 2)], at(4));
    assert!(bench.pool.account("a@x").unwrap().is_eligible, "news");
    assert_eq!(tell(&mut bench, 5), 2, "the list has the last word on more");
    bench.pool.end(lease, Cause::Released, at(5));
    bench.apply(&[], at(6));
    bench.apply(&[("a@x", 6)], at(7));
    assert_eq!(tell(&mut bench, 2), 2, "it joined while rounds were held");
}

#[test]
fn a_cap_counts_on_an_account_that_joins_while_the_first_round_is_followed() {
    let mut bench = Bench::empty(RECONCILING, 7);
    bench.apply(&[("a@x", 3)], START);
    let tell = |seconds| Round {
        sent_at: at(seconds),
        caps: vec![AccountCap {
            email: "b@x".to_owned(),
            max_jobs: 1,
        }],
        ..Round::default()
    };
    let change = RoundChange::between(None, tell(1));
    let Bench { pool, rng } = &mut bench;
    assert!(pool.begin_round(change, at(1), rng));
    let progress = pool.follow_round(1, at(1), rng);
    assert_eq!(progress, Some(RoundProgress::Partial));
    bench.apply(&[("a@x", 3), ("b@x", 3)], at(2));
    let Bench { pool, rng } = &mut bench;
    pool.reconcile(&tell(3), at(3), rng);
    let known = pool.reconcile(&tell(4), at(4), rng);
    assert_eq!(known, Findings::default());
    assert_eq!(pool.account("b@x").unwrap().max_jobs, 1);
}

/// Two slots of `a@x` in use: by job 9, which is ours, and by job 8 of another tool, which ends. The round lists job 7,
/// too, which did not count, since the upstream was said not to track it any more. Somebody waits.
fn beside_an_untracked_job() -> (Bench, Round) {
    let mut bench = learned(RECONCILING, &[("a@x", 2)]);
    bench.round(10, &[(7, "a@x"), (8, "a@x")]);
    bench.pool.job_untracked(&task(7), at(11));
    let lease = bench.forward(11);
    bench.pool.bind(lease, task(9), at(11)).unwrap();
    let ask = bench.ask(None, &[]);
    let admitted = bench.pool.pick_or_wait(ask, at(11), &mut bench.rng);
    assert!(matches!(admitted, Ok(Admission::Queued(_))), "{admitted:?}");
    (bench, round_of(12, &[(7, "a@x"), (9, "a@x")]))
}

/// Follows a round one step after the other.
fn follow_by_steps(bench: &mut Bench, round: Round) {
    let (Bench { pool, rng }, now) = (bench, round.sent_at);
    let change = RoundChange::between(pool.running(), round);
    assert!(pool.begin_round(change, now, rng));
    while pool.follow_round(1, now, rng) == Some(RoundProgress::Partial) {}
}

#[test]
fn no_slot_is_handed_over_before_a_job_counts_again() {
    let (mut bench, round) = beside_an_untracked_job();
    follow_by_steps(&mut bench, round);
    assert_eq!(bench.in_use(), Slots::held(1) + Slots::foreign(1));
    assert!(bench.pool.next_handover().is_none());
}

#[test]
fn no_cap_is_raised_before_a_job_counts_again() {
    let (mut bench, round) = beside_an_untracked_job();
    let tell = |round: Round, max_jobs| Round {
        caps: vec![AccountCap {
            email: "a@x".to_owned(),
            max_jobs,
        }],
        ..round
    };
    follow_by_steps(&mut bench, tell(round.clone(), 2));
    // The next one shows a lower cap, and tracks the job no more.
    let round = Round {
        sent_at: at(20),
        ..round
    };
    follow_by_steps(&mut bench, tell(round.clone(), 1));
    bench.pool.job_untracked(&task(7), at(21));
    let round = Round {
        sent_at: at(22),
        ..round
    };
    follow_by_steps(&mut bench, tell(round, 2));
    assert_eq!(bench.in_use(), Slots::held(1) + Slots::foreign(1));
    assert!(bench.pool.next_handover().is_none());
}

#[test]
fn a_job_that_did_not_count_is_counted_where_the_round_lists_it_or_nowhere() {
    let mut bench = learned(RECONCILING, &[("a@x", 3), ("b@x", 3)]);
    bench.round(10, &[(7, "a@x"), (8, "a@x")]);
    bench.pool.job_untracked(&task(7), at(11));
    bench.pool.job_untracked(&task(8), at(11));
    bench.round(12, &[(8, "b@x")]);
    assert_eq!(bench.in_use(), Slots::default());
    assert_eq!(bench.pool.account("b@x").unwrap().foreign, 1);
}

#[test]
fn a_job_that_its_holder_named_while_it_did_not_count_stays_nobodys() {
    let mut bench = learned(RECONCILING, &[("a@x", 3)]);
    bench.round(10, &[(7, "a@x")]);
    bench.pool.job_untracked(&task(7), at(11));
    let holder = bench.forward(11);
    bench.pool.bind(holder, task(7), at(11)).unwrap();
    bench.pool.release(holder, at(11));
    let lost = bench.forward(11);
    bench.pool.mark_uncertain(lost, at(11), at(11));
    bench.round(12, &[(7, "a@x")]);
    assert_eq!(bench.job_of(lost), None);
    assert_eq!(bench.in_use(), Slots::uncertain(1) + Slots::foreign(1));
}

#[test]
fn a_job_that_is_named_before_leases_are_matched_is_matched_to_none() {
    let mut bench = learned(RECONCILING, &[("a@x", 3)]);
    bench.round(10, &[(7, "a@x")]);
    bench.pool.job_untracked(&task(7), at(11));
    bench.forward(11);
    let Bench { pool, rng } = &mut bench;
    let change = RoundChange::between(pool.running(), round_of(12, &[(7, "a@x")]));
    assert!(pool.begin_round(change, at(12), rng));
    while pool.account("a@x").unwrap().foreign == 0 {
        assert_eq!(
            pool.follow_round(1, at(12), rng),
            Some(RoundProgress::Partial)
        );
    }
    pool.job_started(task(7), &Name::new("a@x"), at(13));
    pool.follow_round(usize::MAX, at(13), rng);
    assert_eq!(bench.in_use(), Slots::held(1) + Slots::foreign(1));
}

#[test]
fn accounts_that_move_all_the_time_hold_up_no_round() {
    let mut bench = learned(RECONCILING, &[("a@x", 2), ("b@x", 2)]);
    let Bench { pool, rng } = &mut bench;
    let change = RoundChange::between(pool.running(), round_of(10, &[(7, "a@x")]));
    assert!(pool.begin_round(change, at(10), rng));
    for _ in 0..50 {
        let Bench { pool, rng } = &mut bench;
        if pool.follow_round(1, at(10), rng) != Some(RoundProgress::Partial) {
            return;
        }
        let leases = [bench.forward(11), bench.forward(11)];
        for lease in leases {
            bench.pool.end(lease, Cause::Released, at(11));
        }
    }
    panic!("it is followed for ever");
}

#[test]
fn a_round_is_overtaken_by_one_that_begins_meanwhile() {
    let mut bench = learned(RECONCILING, &[("a@x", 3)]);
    let Bench { pool, rng } = &mut bench;
    let base = pool.running();
    let change =
        |seconds, id| RoundChange::between(base.clone(), round_of(seconds, &[(id, "a@x")]));
    assert!(pool.begin_round(change(1, 7), at(1), rng));
    assert_eq!(
        pool.follow_round(1, at(1), rng),
        Some(RoundProgress::Partial)
    );
    assert_eq!(pool.followed_sent_at(), Some(at(1)));
    // The other one was compared with what was not the newest any more.
    assert!(!pool.begin_round(change(2, 8), at(2), rng));
    assert_eq!(pool.followed_sent_at(), None, "the first one is whole");
    assert_eq!(pool.follow_round(1, at(2), rng), None);
    assert_eq!(bench.in_use(), Slots::foreign(1));
}

#[test]
fn nothing_is_granted_before_the_first_round_is_whole() {
    let mut bench = Bench::empty(RECONCILING, 7);
    bench.apply(&[("a@x", 3)], START);
    let change = RoundChange::between(None, round_of(1, &[(7, "a@x")]));
    let Bench { pool, rng } = &mut bench;
    assert!(pool.begin_round(change, at(1), rng));
    let mut steps = 0;
    while pool.follow_round(1, at(1), rng) == Some(RoundProgress::Partial) {
        assert_eq!(pool.unavailable_reason(), Some(Refusal::Learning));
        steps += 1;
    }
    assert!(steps > 1, "it is followed in {steps} steps");
    assert_eq!(pool.unavailable_reason(), None);
}

#[test]
fn the_end_of_a_ttl_makes_a_round_due_once() {
    let mut bench = learned(RECONCILING, &[("a@x", 2)]);
    let id = bench.take(1, Some(at(60)));
    let mut is_due_at = |seconds| {
        bench.pool.expire(at(seconds), &mut bench.rng);
        let is_due = bench.pool.take_round_due();
        (is_due, bench.pool.next_deadline())
    };
    assert_eq!(is_due_at(60), (false, Some(at(61))));
    let last = Some(at(61) + RECONCILING.job_ttl);
    assert_eq!(is_due_at(61), (true, last));
    assert_eq!(is_due_at(62), (false, last));
    let ttl = Some(at(10));
    let renewed = Update { ttl, task_id: None };
    bench.pool.update(id, renewed, at(70)).unwrap();
    assert_eq!(bench.pool.next_deadline(), Some(at(80)));
    bench.pool.expire(at(80), &mut bench.rng);
    assert!(bench.pool.take_round_due());
    bench.round(81, &[]);
    assert_eq!(
        (bench.in_use(), bench.pool.next_deadline()),
        (Slots::NONE, None)
    );
}

#[test]
fn a_release_is_due_while_a_job_is_over_that_is_still_listed() {
    let mut bench = learned(RECONCILING, &[("a@x", 2)]);
    let id = bench.take(1, None);
    bench.pool.bind(id, task(7), at(2)).unwrap();
    let listed = [(7, "a@x")];
    assert_eq!(bench.findings(3, &listed), Findings::default());
    assert!(bench.pool.job_over(&task(7), at(4)));
    assert!(bench.findings(5, &listed).is_release_due);
    assert_eq!(bench.findings(6, &[]), Findings::default());
    assert_eq!(bench.in_use(), Slots::NONE);
}

#[test]
fn a_slot_in_doubt_is_named_as_what_stands_in_the_way() {
    let mut bench = learned(RECONCILING, &[("a@x", 1), ("b@x", 1)]);
    let refused = |bench: &mut Bench, only: Option<&str>| {
        let ask = bench.ask(only, &[]);
        bench.pool.pick(&ask, at(2), &mut bench.rng).unwrap_err()
    };
    let ids = [bench.take(1, None), bench.take(1, None)];
    assert!(matches!(
        refused(&mut bench, None),
        Refusal::Saturated { .. }
    ));
    bench.pool.mark_uncertain(ids[0], at(2), at(2));
    let doubted = bench.pool.lease(ids[0]).unwrap().email;
    let sure = bench.pool.lease(ids[1]).unwrap().email;
    for only in [None, Some(&*doubted)] {
        let refusal = refused(&mut bench, only);
        assert!(matches!(refusal, Refusal::Unverified { .. }), "{refusal:?}");
    }
    let refusal = refused(&mut bench, Some(&sure));
    assert!(matches!(refusal, Refusal::Saturated { .. }), "{refusal:?}");
    // The slot may be free soon, so a caller that can wait waits.
    let ask = bench.ask(None, &[]);
    let admission = bench.pool.pick_or_wait(ask, at(2), &mut bench.rng);
    assert!(matches!(admission, Ok(Admission::Queued(_))));
    assert!(bench.pool.end(ids[0], Cause::Absent, at(3)));
    assert!(bench.pool.next_handover().is_some());
}

#[test]
fn a_job_whose_lease_is_gone_counts_as_foreign_until_a_round_misses_it() {
    let mut bench = learned(RECONCILING, &[("a@x", 1)]);
    let id = bench.take(1, None);
    assert!(bench.pool.release(id, at(2)));
    assert_eq!(
        bench.pool.bind(id, task(7), at(3)),
        Err(LeaseError::Unknown)
    );
    bench.pool.job_started(task(7), &Name::new("a@x"), at(3));
    assert_eq!(bench.in_use(), Slots::foreign(1));
    bench.round(3, &[]);
    assert_eq!(
        bench.in_use(),
        Slots::foreign(1),
        "the round was sent before the job was known"
    );
    bench.round(4, &[(7, "a@x")]);
    bench.round(5, &[]);
    assert_eq!(bench.in_use(), Slots::NONE);
}

#[test]
fn an_uncertain_slot_is_let_go_in_the_end_if_the_upstream_cannot_be_asked() {
    let mut bench = learned(RECONCILING, &[("a@x", 1)]);
    let lease = bench.forward(1);
    bench.pool.mark_uncertain(lease, at(2), at(2));
    bench.pool.expire(at(3901), &mut bench.rng);
    assert_eq!(bench.in_use(), Slots::uncertain(1));
    bench.pool.expire(at(3902), &mut bench.rng);
    assert_eq!(bench.in_use(), Slots::NONE);
}

#[test]
fn releasing_never_forgets_a_job_that_the_upstream_counts() {
    let mut bench = learned(RECONCILING, &[("a@x", 1)]);
    let lease = bench.take(1, Some(TTL));
    bench.pool.bind(lease, task(7), at(2)).unwrap();
    assert!(!bench.pool.take_round_due());
    assert!(bench.pool.release(lease, at(3)));
    assert!(bench.pool.take_round_due());
    assert!(!bench.pool.release(lease, at(3)));
    assert_eq!(bench.in_use(), Slots::foreign(1));
    bench.round(3, &[]);
    assert_eq!(
        bench.in_use(),
        Slots::foreign(1),
        "this round was sent before"
    );
    bench.round(4, &[]);
    assert_eq!(bench.in_use(), Slots::NONE);
    let unbound = bench.take(5, Some(TTL));
    assert!(bench.pool.release(unbound, at(6)));
    assert_eq!(
        bench.in_use(),
        Slots::NONE,
        "an unbound one returns at once"
    );
}

#[test]
fn a_job_that_is_no_longer_tracked_is_free_at_once() {
    let mut bench = learned(RECONCILING, &[("a@x", 2)]);
    let lease = bench.forward(1);
    bench.pool.bind(lease, task(7), at(2)).unwrap();
    bench.round(10, &[(7, "a@x"), (8, "a@x")]);
    bench.pool.job_untracked(&task(7), at(11));
    bench.pool.job_untracked(&task(8), at(11));
    bench.pool.job_untracked(&task(9), at(11));
    assert_eq!(bench.in_use(), Slots::NONE);
}

#[test]
fn a_job_started_without_a_slot_counts_when_its_account_joins() {
    let mut bench = learned(RECONCILING, &[("a@x", 2)]);
    bench.pool.job_started(task(7), &Name::new("b@x"), at(11));
    bench.pool.job_started(task(8), &Name::new("a@x"), at(11));
    bench.round(10, &[]);
    assert_eq!(
        bench.in_use(),
        Slots::foreign(1),
        "this round was sent before"
    );
    bench.apply(&[("a@x", 2), ("b@x", 1)], at(12));
    assert!(!bench.pool.account("b@x").unwrap().is_eligible);
    bench.round(13, &[]);
    assert!(bench.pool.account("b@x").unwrap().is_eligible);
}

#[test]
fn jobs_of_accounts_that_join_the_list_later_are_counted_from_their_first_moment() {
    let mut bench = Bench {
        pool: Pool::new(RECONCILING),
        rng: SmallRng::seed_from_u64(1),
    };
    bench.round(0, &[(11, "a@x")]);
    bench.apply(&[("a@x", 1)], at(1));
    assert_eq!(
        bench.in_use(),
        Slots::foreign(1),
        "whichever is answered first"
    );
    bench.round(10, &[(11, "a@x"), (12, "b@x")]);
    bench.apply(&[("a@x", 1), ("b@x", 1)], at(11));
    assert!(bench.pick().is_err());
}

#[test]
fn a_job_that_is_listed_for_longer_than_any_may_run_keeps_its_slot() {
    let mut bench = learned(RECONCILING, &[("a@x", 1)]);
    let lease = bench.forward(1);
    bench.pool.bind(lease, task(11), at(2)).unwrap();
    for hours in 1..5 {
        bench.round(hours * 3600, &[(11, "a@x")]);
        bench.pool.expire(at(hours * 3600), &mut bench.rng);
    }
    assert_eq!(bench.in_use(), Slots::held(1));
    bench.pool.expire(at(5 * 3600), &mut bench.rng);
    assert_eq!(bench.in_use(), Slots::held(1));
    bench.pool.expire(at(4 * 3600 + 3900), &mut bench.rng);
    assert_eq!(
        bench.in_use(),
        Slots::NONE,
        "nothing was heard of it for too long"
    );
}

#[test]
fn a_foreign_job_is_forgotten_in_the_end_if_the_upstream_cannot_be_asked() {
    let mut bench = learned(RECONCILING, &[("a@x", 1)]);
    let lease = bench.take(1, Some(TTL));
    bench.pool.bind(lease, task(11), at(2)).unwrap();
    bench.pool.release(lease, at(3));
    assert_eq!(bench.pool.next_deadline(), Some(at(3903)));
    let waiter = bench.wait_for(None, &[]);
    bench.pool.expire(at(3902), &mut bench.rng);
    assert_eq!(bench.in_use(), Slots::foreign(1));
    bench.pool.expire(at(3903), &mut bench.rng);
    assert_eq!(bench.handed_over(), [(waiter, "a@x".to_owned())]);
}

#[test]
fn a_release_serves_waiters_even_if_the_job_is_counted_elsewhere() {
    let mut bench = learned(RECONCILING, &[("a@x", 1), ("b@x", 1)]);
    let ask = bench.ask(Some("a@x"), &[]);
    let lease = bench.pool.pick(&ask, at(1), &mut bench.rng).unwrap();
    bench.pool.bind(lease.id, task(11), at(2)).unwrap();
    bench.round(10, &[(11, "b@x")]);
    let waiter = bench.wait_for(Some("a@x"), &[]);
    bench.pool.release(lease.id, at(11));
    assert_eq!(bench.handed_over(), [(waiter, "a@x".to_owned())]);
}
