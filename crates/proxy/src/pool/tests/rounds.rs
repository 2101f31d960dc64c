//! The book against the upstream's list of running jobs.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

pub(super) const RECONCILING: Limits = Limits {
    waiters_max: 3,
    job_ttl: Duration::from_secs(3900),
    reconciles: true,
    settle: Duration::from_secs(120),
    ties_picks: true,
};

pub(super) fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn task(id: u64) -> TaskId {
    id.to_string().parse().unwrap()
}

/// A pool that has had its first list and an empty first round, at time 0.
pub(super) fn learned(limits: Limits, accounts: &[(&str, u32)]) -> Bench {
    let mut bench = Bench {
        pool: Pool::new(limits),
        rng: SmallRng::seed_from_u64(7),
    };
    bench.apply(accounts, START);
    bench.round(0, &[]);
    bench
}

impl Bench {
    /// A round sent and answered at `seconds` that lists these jobs.
    pub(super) fn round(&mut self, seconds: u64, jobs: &[(u64, &str)]) -> Vec<Unlisted> {
        self.findings(seconds, jobs).unlisted
    }

    fn findings(&mut self, seconds: u64, jobs: &[(u64, &str)]) -> Findings {
        let executing = jobs
            .iter()
            .map(|(id, email)| Running {
                task_id: task(*id),
                email: (*email).to_owned(),
            })
            .collect();
        let round = Round {
            sent_at: at(seconds),
            executing,
            caps: Vec::new(),
        };
        self.pool.reconcile(&round, at(seconds), &mut self.rng)
    }

    pub(super) fn take(&mut self, seconds: u64, ttl: Option<Duration>) -> LeaseId {
        let ask = Ask {
            ttl,
            ..self.ask(None, &[])
        };
        self.pool.pick(&ask, at(seconds), &mut self.rng).unwrap().id
    }

    fn forward(&mut self, seconds: u64) -> LeaseId {
        self.take(seconds, None)
    }

    /// Held, uncertain and foreign slots of `a@x`.
    fn in_use(&self) -> (u32, u32, u32) {
        let account = self.pool.account("a@x").unwrap();
        (account.held, account.uncertain, account.foreign)
    }

    fn job_of(&self, id: LeaseId) -> Option<String> {
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
    assert_eq!(bench.in_use(), (0, 0, 1), "what runs already is counted");
    assert_eq!(
        bench.pick(),
        Err(Refusal::Saturated {
            free_in: None,
            position: 1,
        })
    );
}

#[test]
fn foreign_jobs_fill_an_account_and_leave_it() {
    let mut bench = learned(RECONCILING, &[("a@x", 2)]);
    bench.round(10, &[(1, "a@x"), (2, "a@x"), (3, "stranger@x")]);
    assert_eq!(bench.in_use(), (0, 0, 2));
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
    assert_eq!(bench.in_use(), (1, 0, 0), "the upstream still counts it");
    bench.round(11, &[]);
    assert_eq!(
        bench.in_use(),
        (1, 0, 0),
        "a round that was not sent later says nothing"
    );
    bench.round(13, &[]);
    assert_eq!(bench.in_use(), (0, 0, 0));
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
        [Running {
            task_id: task(7),
            email: "a@x".to_owned()
        }]
    );
    assert_eq!(bench.in_use(), (1, 0, 0));
    bench.pool.job_over(&task(7), at(11));
    bench.round(12, &[]);
    assert_eq!(bench.in_use(), (0, 0, 0));
}

#[test]
fn a_job_nobody_reports_on_is_let_go_after_its_ttl() {
    let mut bench = learned(RECONCILING, &[("a@x", 1)]);
    let lease = bench.forward(0);
    bench.pool.bind(lease, task(7), at(0)).unwrap();
    bench.round(3900, &[(7, "a@x")]);
    assert_eq!(bench.in_use(), (1, 0, 0), "the upstream still lists it");
    bench.round(3901, &[]);
    assert_eq!(bench.in_use(), (0, 0, 0));
    assert_eq!(bench.pool.ended_counts()[Cause::Unverified as usize], 1);
}

#[test]
fn a_submission_under_way_stands_for_a_new_job_for_one_round() {
    let mut bench = learned(RECONCILING, &[("a@x", 3)]);
    let lease = bench.forward(1);
    bench.round(10, &[(7, "a@x"), (8, "a@x")]);
    assert_eq!(bench.in_use(), (1, 0, 1), "one of the two is ours");
    bench.round(20, &[(7, "a@x"), (8, "a@x")]);
    assert_eq!(bench.in_use(), (1, 0, 2), "both may be another tool's");
    assert_eq!(bench.job_of(lease), None, "only its answer binds it");
    bench.pool.bind(lease, task(8), at(21)).unwrap();
    assert_eq!(bench.in_use(), (1, 0, 1), "it was the other one");
    bench.round(30, &[(7, "a@x"), (8, "a@x")]);
    assert_eq!(bench.in_use(), (1, 0, 1), "and so it stays");
}

#[test]
fn a_submission_that_is_lost_after_its_job_was_counted_has_it_all_the_same() {
    let mut bench = learned(RECONCILING, &[("a@x", 3)]);
    let lease = bench.forward(1);
    bench.round(10, &[(7, "a@x")]);
    bench.round(20, &[(7, "a@x")]);
    assert_eq!(bench.in_use(), (1, 0, 1));
    bench.pool.doubt(lease, at(21), at(21));
    assert_eq!(bench.job_of(lease), Some("7".to_owned()));
    assert_eq!(bench.in_use(), (1, 0, 0));
    // Or a little later, when its own round of standing for another one is over.
    let late = bench.forward(22);
    bench.round(30, &[(7, "a@x"), (8, "a@x")]);
    let other = bench.forward(31);
    bench.pool.doubt(late, at(31), at(31));
    assert_eq!(bench.job_of(late), Some("8".to_owned()));
    bench.pool.bind(other, task(8), at(32)).unwrap();
    assert_eq!(bench.in_use(), (2, 1, 0), "the answer knows better");
    bench.round(40, &[(7, "a@x"), (8, "a@x"), (9, "a@x")]);
    assert_eq!(bench.job_of(late), Some("9".to_owned()));
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
            executing: Vec::new(),
            caps: vec![Cap {
                email: "a@x".to_owned(),
                max_jobs,
            }],
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
fn a_lease_made_after_a_round_was_sent_stands_for_nothing_in_it() {
    let mut bench = learned(RECONCILING, &[("a@x", 3)]);
    bench.forward(10);
    bench.take(11, Some(TTL));
    bench.round(10, &[(7, "a@x")]);
    assert_eq!(bench.in_use(), (2, 0, 1));
}

#[test]
fn a_pick_is_tied_to_the_job_that_its_client_started() {
    let mut bench = learned(RECONCILING, &[("a@x", 2)]);
    let lease = bench.take(1, Some(TTL));
    bench.round(10, &[(7, "a@x")]);
    assert_eq!(bench.in_use(), (1, 0, 0), "counted once");
    assert_eq!(bench.job_of(lease), Some("7".to_owned()));

    let untied = Limits {
        ties_picks: false,
        ..RECONCILING
    };
    let mut bench = learned(untied, &[("a@x", 2)]);
    bench.take(1, Some(TTL));
    bench.round(10, &[(7, "a@x")]);
    assert_eq!(bench.in_use(), (1, 0, 1), "counted twice, to be safe");
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
        (2, 0, 1),
        "the job it was tied to is foreign at once"
    );
}

#[test]
fn a_lost_submission_finds_its_job_or_is_absent_in_two_settled_rounds() {
    let mut bench = learned(RECONCILING, &[("a@x", 2)]);
    let (found, absent) = (bench.forward(1), bench.forward(2));
    bench.pool.doubt(found, at(3), at(3));
    bench.pool.doubt(absent, at(3), at(3));
    assert_eq!(bench.in_use(), (0, 2, 0));
    bench.round(10, &[(7, "a@x")]);
    assert_eq!(bench.in_use(), (1, 1, 0));
    assert_eq!(bench.job_of(found), Some("7".to_owned()));
    bench.round(122, &[(7, "a@x")]);
    bench.round(123, &[(7, "a@x")]);
    assert_eq!(bench.in_use(), (1, 1, 0), "one settled round is not enough");
    bench.round(124, &[(7, "a@x")]);
    assert_eq!(bench.in_use(), (1, 0, 0));
    assert_eq!(bench.pool.ended_counts()[Cause::Absent as usize], 1);
}

#[test]
fn a_lost_submission_that_stood_for_a_job_has_it() {
    let mut bench = learned(RECONCILING, &[("a@x", 2)]);
    let lease = bench.forward(1);
    bench.round(10, &[(7, "a@x")]);
    bench.pool.doubt(lease, at(5), at(11));
    assert_eq!(bench.job_of(lease), Some("7".to_owned()));
    assert_eq!(bench.in_use(), (1, 0, 0));
}

#[test]
fn a_job_that_one_submission_only_stood_for_is_found_for_the_lost_one() {
    // Another one is under way, stands for the job first, and turns out to be another job or none.
    for ending in ["answered", "refused", "tied too"] {
        let mut bench = learned(RECONCILING, &[("a@x", 3)]);
        let lost = bench.forward(1);
        bench.pool.remember_fate(lost);
        bench.pool.doubt(lost, at(1), at(1));
        let other = bench.forward(2);
        bench.round(10, &[(11, "a@x")]);
        assert_eq!(bench.in_use(), (1, 1, 0), "{ending}");
        assert_eq!(bench.pool.fate(lost), Fate::Open);
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
        assert_eq!(bench.in_use(), (held, 0, 0), "{ending}");
        assert!(bench.pool.end(lost, Cause::Finished, at(13)));
        assert_eq!(bench.pool.fate(lost), Fate::Job(task(11)), "also later");
    }
}

#[test]
fn of_two_lost_submissions_and_one_job_neither_is_known_to_have_come_to_nothing() {
    for given_back in [None, Some(Cause::Released)] {
        let mut bench = learned(RECONCILING, &[("a@x", 3)]);
        let lost = [bench.forward(1), bench.forward(2)];
        for id in lost {
            bench.pool.remember_fate(id);
            bench.pool.doubt(id, at(2), at(2));
        }
        bench.round(10, &[(11, "a@x")]);
        if given_back.is_some() {
            assert!(bench.pool.release(lost[1], at(11)));
        }
        bench.round(122, &[(11, "a@x")]);
        bench.round(123, &[(11, "a@x")]);
        assert_eq!(bench.in_use(), (1, 0, 0));
        let fates = lost.map(|id| bench.pool.fate(id));
        let second = given_back.map_or(Fate::Open, |_| Fate::NoJob);
        assert_eq!(fates, [Fate::Job(task(11)), second]);
    }
}

#[test]
fn a_submission_that_could_not_be_looked_for_stays_open() {
    let mut bench = learned(RECONCILING, &[("a@x", 3)]);
    let lost = bench.forward(1);
    bench.pool.remember_fate(lost);
    bench.pool.doubt(lost, at(1), at(1));
    let late = at(1) + RECONCILING.job_ttl;
    bench.pool.expire(late, &mut bench.rng);
    assert_eq!(bench.pool.ended_counts()[Cause::Unverified as usize], 1);
    assert_eq!(bench.pool.fate(lost), Fate::Open);
}

#[test]
fn a_round_that_was_on_its_way_does_not_bring_back_a_job_that_is_no_longer_tracked() {
    let mut bench = learned(RECONCILING, &[("a@x", 3)]);
    let [untracked, lost] = [bench.forward(1), bench.forward(2)];
    bench.pool.bind(untracked, task(7), at(3)).unwrap();
    bench.pool.doubt(lost, at(3), at(3));
    bench.pool.job_untracked(&task(7), at(11));
    bench.round(10, &[(7, "a@x")]);
    assert_eq!(bench.in_use(), (0, 1, 0), "it is not the lost one's");
    bench.round(12, &[(7, "a@x")]);
    assert_eq!(bench.in_use(), (1, 0, 0), "this one was asked later");
}

#[test]
fn a_job_that_ran_before_a_submission_is_not_taken_for_its_own() {
    let mut bench = learned(RECONCILING, &[("a@x", 3)]);
    let other = bench.forward(1);
    bench.round(10, &[(11, "a@x")]);
    let lost = bench.forward(11);
    bench.pool.remember_fate(lost);
    bench.pool.doubt(lost, at(11), at(11));
    bench.pool.bind(other, task(22), at(12)).unwrap();
    assert_eq!(bench.in_use(), (1, 1, 1));
    bench.round(131, &[(11, "a@x"), (22, "a@x")]);
    bench.round(132, &[(11, "a@x"), (22, "a@x")]);
    assert_eq!(bench.pool.fate(lost), Fate::NoJob);
    bench.pool.forget_fate(lost);
    assert_eq!(bench.pool.fate(lost), Fate::Open);
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
        ((0, 0, 0), None)
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
    assert_eq!(bench.in_use(), (0, 0, 0));
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
    bench.pool.doubt(ids[0], at(2), at(2));
    let doubted = bench.pool.lease(ids[0]).unwrap().email;
    let sure = bench.pool.lease(ids[1]).unwrap().email;
    assert_eq!(refused(&mut bench, None), Refusal::Unverified);
    assert_eq!(refused(&mut bench, Some(&doubted)), Refusal::Unverified);
    let refusal = refused(&mut bench, Some(&sure));
    assert!(matches!(refusal, Refusal::Saturated { .. }), "{refusal:?}");
    // It may be a slot soon: whoever can wait, waits.
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
    bench.pool.job_started(task(7), "a@x", at(3));
    assert_eq!(bench.in_use(), (0, 0, 1));
    bench.round(3, &[]);
    assert_eq!(
        bench.in_use(),
        (0, 0, 1),
        "the round was sent before the job was known"
    );
    bench.round(4, &[(7, "a@x")]);
    bench.round(5, &[]);
    assert_eq!(bench.in_use(), (0, 0, 0));
}

#[test]
fn an_uncertain_slot_is_let_go_in_the_end_if_the_upstream_cannot_be_asked() {
    let mut bench = learned(RECONCILING, &[("a@x", 1)]);
    let lease = bench.forward(1);
    bench.pool.doubt(lease, at(2), at(2));
    bench.pool.expire(at(3901), &mut bench.rng);
    assert_eq!(bench.in_use(), (0, 1, 0));
    bench.pool.expire(at(3902), &mut bench.rng);
    assert_eq!(bench.in_use(), (0, 0, 0));
}

#[test]
fn an_expired_pick_is_decided_by_the_first_round_sent_afterwards() {
    let mut bench = learned(RECONCILING, &[("a@x", 2)]);
    bench.take(1, Some(TTL));
    bench.pool.expire(at(62), &mut bench.rng);
    bench.round(60, &[]);
    assert_eq!(
        bench.in_use(),
        (1, 0, 0),
        "it may have submitted in the last moment"
    );
    bench.round(61, &[]);
    assert_eq!(bench.in_use(), (0, 0, 0));
    let late = bench.take(100, Some(TTL));
    bench.round(200, &[(7, "a@x")]);
    assert_eq!(bench.job_of(late), Some("7".to_owned()), "it had");
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
    assert_eq!(bench.in_use(), (0, 0, 1));
    bench.round(3, &[]);
    assert_eq!(bench.in_use(), (0, 0, 1), "this round was sent before");
    bench.round(4, &[]);
    assert_eq!(bench.in_use(), (0, 0, 0));
    let unbound = bench.take(5, Some(TTL));
    assert!(bench.pool.release(unbound, at(6)));
    assert_eq!(bench.in_use(), (0, 0, 0), "an unbound one returns at once");
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
    assert_eq!(bench.in_use(), (0, 0, 0));
}

#[test]
fn a_job_bound_to_the_wrong_account_is_counted_where_it_runs() {
    let mut bench = learned(RECONCILING, &[("a@x", 1), ("b@x", 1)]);
    let ask = bench.ask(Some("b@x"), &[]);
    let lease = bench.pool.pick(&ask, at(1), &mut bench.rng).unwrap();
    bench.pool.bind(lease.id, task(7), at(2)).unwrap();
    bench.round(10, &[(7, "a@x")]);
    assert_eq!(bench.in_use(), (0, 0, 1));
    assert!(bench.pool.release(lease.id, at(11)));
    bench.round(12, &[]);
    assert_eq!(bench.in_use(), (0, 0, 0));
    assert_eq!(bench.held("b@x"), 0);
}

#[test]
fn a_job_that_two_answers_name_leaves_no_lease_without_an_end() {
    let mut bench = learned(RECONCILING, &[("a@x", 3)]);
    let [first, second] = [bench.forward(1), bench.forward(2)];
    bench.pool.bind(first, task(7), at(3)).unwrap();
    bench.pool.bind(second, task(7), at(4)).unwrap();
    assert_eq!(bench.in_use(), (1, 1, 0), "nobody knows of the first");
    bench.round(124, &[(7, "a@x")]);
    bench.round(125, &[(7, "a@x")]);
    assert_eq!(bench.in_use(), (1, 0, 0));
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
    assert_eq!(bench.in_use(), (1, 0, 1));
    // The upstream refused, or the submission was given up.
    for is_refused in [true, false] {
        let mut bench = learned(RECONCILING, &[("a@x", 1)]);
        let lease = bench.forward(1);
        bench.round(10, &[(11, "a@x")]);
        if is_refused {
            bench.pool.end(lease, Cause::Refused, at(11));
        } else {
            bench.pool.release(lease, at(11));
        }
        assert_eq!(bench.in_use(), (0, 0, 1));
    }
}

#[test]
fn a_job_started_without_a_slot_counts_when_its_account_joins() {
    let mut bench = learned(RECONCILING, &[("a@x", 2)]);
    bench.pool.job_started(task(7), "b@x", at(11));
    bench.pool.job_started(task(8), "a@x", at(11));
    bench.round(10, &[]);
    assert_eq!(bench.in_use(), (0, 0, 1), "this round was sent before");
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
    assert_eq!(bench.in_use(), (0, 0, 1), "whichever is answered first");
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
    assert_eq!(bench.in_use(), (1, 0, 0));
    bench.pool.expire(at(5 * 3600), &mut bench.rng);
    assert_eq!(bench.in_use(), (1, 0, 0));
    bench.pool.expire(at(4 * 3600 + 3900), &mut bench.rng);
    assert_eq!(
        bench.in_use(),
        (0, 0, 0),
        "nothing was heard of it for too long"
    );
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
        assert_eq!(bench.in_use(), (0, 0, 0), "with no word of its client");
        assert_eq!(bench.pool.lease(lease), None);
    }
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
    assert_eq!(bench.in_use(), (0, 0, 1));
    bench.pool.expire(at(3903), &mut bench.rng);
    assert_eq!(bench.handed_over(), [(waiter, "a@x".to_owned())]);
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

/// What happens in the world around the book.
#[derive(Clone, Debug)]
enum Event {
    /// A submission is begun; later its answer comes, or is lost, and there is a job or none.
    Submit,
    Answer {
        nth: usize,
        is_accepted: bool,
        is_lost: bool,
    },
    /// A client picks, and may submit by itself.
    Pick {
        submits: bool,
    },
    Bind(usize),
    Release(usize),
    /// Another tool starts a job.
    Foreign(bool),
    End(usize),
    Round,
    Pass(u64),
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Submit),
        4 => (any::<usize>(), any::<bool>(), prop::bool::weighted(0.3)).prop_map(
            |(nth, is_accepted, is_lost)| Event::Answer { nth, is_accepted, is_lost }
        ),
        2 => any::<bool>().prop_map(|submits| Event::Pick { submits }),
        1 => any::<usize>().prop_map(Event::Bind),
        1 => any::<usize>().prop_map(Event::Release),
        1 => any::<bool>().prop_map(Event::Foreign),
        3 => any::<usize>().prop_map(Event::End),
        4 => Just(Event::Round),
        2 => (1..90u64).prop_map(Event::Pass),
    ]
}

/// The upstream as it really is, and the book beside it.
struct World {
    bench: Bench,
    now: u64,
    next_task: u64,
    running: BTreeMap<u64, String>,
    under_way: Vec<(LeaseId, String, Duration)>,
    picked: Vec<(LeaseId, Option<u64>)>,
}

impl World {
    fn start_job(&mut self, email: &str) -> u64 {
        self.next_task += 1;
        self.running.insert(self.next_task, email.to_owned());
        self.next_task
    }

    pub(super) fn take(&mut self, ttl: Option<Duration>) -> Option<(LeaseId, String)> {
        let ask = Ask {
            ttl,
            ..self.bench.ask(None, &[])
        };
        let lease = self
            .bench
            .pool
            .pick(&ask, at(self.now), &mut self.bench.rng)
            .ok()?;
        Some((lease.id, lease.email.to_string()))
    }

    /// A round that is answered with the truth, and what the sidecar does about it.
    fn round(&mut self) {
        self.now += 1;
        let jobs: Vec<_> = self
            .running
            .iter()
            .map(|(id, email)| (*id, email.as_str()))
            .collect();
        let unlisted = self.bench.round(self.now, &jobs);
        for job in unlisted {
            let id: u64 = job.task_id.as_str().parse().unwrap();
            if !self.running.contains_key(&id) {
                self.bench.pool.job_over(&job.task_id, at(self.now));
            }
        }
        for email in ["a@x", "b@x"] {
            let truth = self
                .running
                .values()
                .filter(|running| *running == email)
                .count();
            let account = self.bench.pool.account(email).unwrap();
            assert!(
                account.in_flight() as usize >= truth,
                "{truth} jobs run: {account:?}"
            );
        }
    }

    fn happen(&mut self, event: Event) {
        let now = at(self.now);
        match event {
            Event::Submit => {
                if let Some((id, email)) = self.take(None) {
                    self.under_way.push((id, email, now));
                }
            }
            Event::Answer {
                nth,
                is_accepted,
                is_lost,
            } => {
                let Some(nth) = nth.checked_rem(self.under_way.len()) else {
                    return;
                };
                let (id, email, sent_at) = self.under_way.remove(nth);
                let job = is_accepted.then(|| self.start_job(&email));
                match (job, is_lost) {
                    (Some(job), false) => self.bench.pool.bind(id, task(job), now).unwrap(),
                    (None, false) => assert!(self.bench.pool.end(id, Cause::Refused, now)),
                    (_, true) => self.bench.pool.doubt(id, sent_at, now),
                }
            }
            Event::Pick { submits } => {
                if let Some((id, email)) = self.take(Some(TTL)) {
                    let job = submits.then(|| self.start_job(&email));
                    self.picked.push((id, job));
                }
            }
            Event::Bind(nth) => {
                let Some(nth) = nth.checked_rem(self.picked.len()) else {
                    return;
                };
                if let (id, Some(job)) = self.picked[nth] {
                    // It may have ended, or another lease's holder may have been told of the job.
                    self.bench.pool.bind(id, task(job), now).ok();
                }
            }
            Event::Release(nth) => {
                let Some(nth) = nth.checked_rem(self.picked.len()) else {
                    return;
                };
                let (id, _) = self.picked.remove(nth);
                self.bench.pool.release(id, now);
            }
            Event::Foreign(is_first) => {
                self.start_job(if is_first { "a@x" } else { "b@x" });
            }
            Event::End(nth) => {
                let nth = nth.checked_rem(self.running.len());
                let id = nth.and_then(|nth| self.running.keys().nth(nth).copied());
                id.and_then(|id| self.running.remove(&id));
            }
            Event::Round => self.round(),
            Event::Pass(seconds) => {
                self.now += seconds;
                self.bench.pool.expire(at(self.now), &mut self.bench.rng);
            }
        }
        self.now += 1;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_book_never_counts_less_than_runs_and_forgets_no_slot(
        events in prop::collection::vec(any_event(), 1..100),
    ) {
        let mut world = World {
            bench: learned(RECONCILING, &[("a@x", 3), ("b@x", 2)]),
            now: 1,
            next_task: 0,
            running: BTreeMap::new(),
            under_way: Vec::new(),
            picked: Vec::new(),
        };
        for event in events {
            world.happen(event);
        }
        // Everything ends: submissions are answered, jobs run out, and rounds go on.
        for (id, ..) in std::mem::take(&mut world.under_way) {
            world.bench.pool.end(id, Cause::Refused, at(world.now));
        }
        world.running.clear();
        for _ in 0..8 {
            world.now += 60;
            world.round();
        }
        prop_assert!(world.bench.pool.leases().is_empty(), "{:?}", world.bench.pool.leases());
        for account in world.bench.pool.accounts() {
            prop_assert_eq!(account.in_flight(), 0);
        }
    }
}
