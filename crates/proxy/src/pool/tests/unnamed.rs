//! Jobs that rounds show without ids: rows that cannot be read, and counts beyond the rows.

use proptest::prelude::*;

use super::{
    rounds::{RECONCILING, at, learned, task},
    *,
};

/// What a round shows besides the rows that can be read.
#[derive(Clone, Copy, Default)]
struct Odd<'a> {
    unreadable: &'a [&'a str],
    counts: &'a [(&'a str, u32)],
}

impl Bench {
    fn odd_round(&mut self, seconds: u64, jobs: &[(u64, &str)], odd: Odd<'_>) -> Findings {
        let executing = jobs.iter().map(|(id, email)| RunningJob {
            task_id: task(*id),
            email: (*email).to_owned(),
            mark: None,
        });
        // A row whose account cannot be read either has an empty name here.
        let unreadable = odd.unreadable.iter();
        let unreadable = unreadable.map(|email| (!email.is_empty()).then(|| (*email).to_owned()));
        let counts = odd.counts.iter().map(|(email, executing)| AccountCount {
            email: (*email).to_owned(),
            executing: *executing,
        });
        let round = Round {
            sent_at: at(seconds),
            executing: executing.collect(),
            unreadable: unreadable.collect(),
            counts: counts.collect(),
            ..Round::default()
        };
        self.pool.reconcile(&round, at(seconds), &mut self.rng)
    }

    /// A round sent and answered at `seconds` that lists these jobs, and further ones without ids.
    pub(super) fn unreadable_round(
        &mut self,
        seconds: u64,
        jobs: &[(u64, &str)],
        unreadable: &[&str],
    ) -> Findings {
        let odd = Odd {
            unreadable,
            ..Odd::default()
        };
        self.odd_round(seconds, jobs, odd)
    }

    fn counted_round(&mut self, seconds: u64, jobs: &[(u64, &str)], counts: &[(&str, u32)]) {
        let odd = Odd {
            counts,
            ..Odd::default()
        };
        self.odd_round(seconds, jobs, odd);
    }

    fn in_flight(&self, email: &str) -> u32 {
        self.pool.account(email).unwrap().in_flight()
    }
}

#[test]
fn rows_without_ids_fill_an_account_until_the_next_round() {
    let mut bench = learned(RECONCILING, &[("a@x", 2)]);
    bench.unreadable_round(10, &[(1, "a@x")], &["a@x"]);
    assert_eq!(bench.in_use(), Slots::foreign(2));
    assert!(bench.pick().is_err());
    let waiter = bench.wait_for(None, &[]);
    bench.unreadable_round(20, &[], &["a@x"]);
    assert_eq!(bench.handed_over(), [(waiter, "a@x".to_owned())]);
    bench.round(30, &[]);
    assert_eq!(bench.in_use(), Slots::held(1));
}

#[test]
fn a_count_above_the_rows_is_believed_until_the_next_round() {
    let mut bench = learned(RECONCILING, &[("a@x", 3), ("b@x", 1)]);
    bench.counted_round(10, &[(1, "a@x")], &[("a@x", 3), ("b@x", 0)]);
    assert_eq!(bench.in_use(), Slots::foreign(3));
    assert_eq!(bench.in_flight("b@x"), 0);
    bench.counted_round(20, &[(1, "a@x")], &[("a@x", 2)]);
    assert_eq!(bench.in_use(), Slots::foreign(2));
    bench.counted_round(30, &[(1, "a@x")], &[("a@x", 1)]);
    assert_eq!(bench.in_use(), Slots::foreign(1));
    bench.counted_round(40, &[(1, "a@x"), (2, "a@x")], &[("a@x", 1)]);
    assert_eq!(bench.in_use(), Slots::foreign(2), "the rows are more");
}

#[test]
fn the_larger_of_rows_and_count_is_what_runs() {
    for (unreadable, count, foreign) in [(2, 1, 3), (1, 4, 4), (2, 3, 3), (0, 1, 1)] {
        let mut bench = learned(RECONCILING, &[("a@x", 9)]);
        let odd = Odd {
            unreadable: &["a@x", "a@x"][..unreadable],
            counts: &[("a@x", count)],
        };
        bench.odd_round(10, &[(1, "a@x")], odd);
        assert_eq!(
            bench.in_use(),
            Slots::foreign(foreign),
            "{unreadable} {count}"
        );
    }
}

#[test]
fn an_account_is_counted_however_it_is_spelled() {
    let mut bench = learned(RECONCILING, &[("a@x", 9)]);
    let odd = Odd {
        unreadable: &["A@x"],
        counts: &[("a@X", 3)],
    };
    bench.odd_round(10, &[(1, "A@X")], odd);
    assert_eq!(bench.in_use(), Slots::foreign(3));
}

#[test]
fn a_row_without_an_id_may_be_the_job_of_an_older_lease() {
    let mut bench = learned(RECONCILING, &[("a@x", 3)]);
    let lease = bench.forward(1);
    bench.pool.bind(lease, task(7), at(2)).unwrap();
    bench.forward(3);
    bench.unreadable_round(10, &[], &["a@x", "a@x"]);
    assert_eq!(bench.in_use(), Slots::held(2), "they are counted once");
    bench.unreadable_round(20, &[(7, "a@x")], &["a@x", "a@x"]);
    assert_eq!(bench.in_use(), Slots::held(2) + Slots::foreign(1));
}

#[test]
fn what_was_granted_since_comes_on_top() {
    let mut bench = learned(RECONCILING, &[("a@x", 4)]);
    bench.forward(1);
    // A slot is granted after the round was sent, and the round is answered after that.
    let since = bench.forward(12);
    bench.unreadable_round(11, &[], &["a@x", "a@x"]);
    assert_eq!(bench.in_use(), Slots::held(2) + Slots::foreign(1));
    // Its answer names a job that the round lists: that row is counted already.
    bench.unreadable_round(11, &[(8, "a@x")], &["a@x"]);
    assert_eq!(bench.in_use(), Slots::held(2) + Slots::foreign(1));
    bench.pool.bind(since, task(8), at(13)).unwrap();
    assert_eq!(bench.in_use(), Slots::held(2));
    let later = bench.forward(14);
    bench.pool.bind(later, task(9), at(15)).unwrap();
    assert_eq!(bench.in_use(), Slots::held(3));
    assert!(bench.pool.end(later, Cause::Refused, at(16)));
    bench.round(17, &[(8, "a@x")]);
    assert_eq!(bench.in_use(), Slots::held(2));
}

#[test]
fn a_row_that_an_ended_lease_may_have_had_is_foreign_at_once() {
    for cause in [Cause::Refused, Cause::Released, Cause::Undelivered] {
        let mut bench = learned(RECONCILING, &[("a@x", 1)]);
        let lease = bench.forward(1);
        bench.counted_round(10, &[], &[("a@x", 1)]);
        assert_eq!(bench.in_use(), Slots::held(1));
        let waiter = bench.wait_for(None, &[]);
        bench.pool.end(lease, cause, at(11));
        assert_eq!(bench.in_use(), Slots::foreign(1), "{cause:?}");
        assert_eq!(bench.handed_over(), []);
        bench.counted_round(20, &[], &[("a@x", 0)]);
        assert_eq!(bench.handed_over(), [(waiter, "a@x".to_owned())]);
    }
}

#[test]
fn a_bound_slot_is_held_while_a_row_of_its_account_cannot_be_read() {
    for unreadable in ["a@x", ""] {
        let mut bench = learned(RECONCILING, &[("a@x", 2), ("b@x", 1)]);
        let ask = Ask {
            ttl: None,
            ..bench.ask(Some("a@x"), &[])
        };
        let lease = bench.pool.pick(&ask, at(1), &mut bench.rng).unwrap().id;
        bench.pool.bind(lease, task(7), at(2)).unwrap();
        let odd = Odd {
            unreadable: &[unreadable],
            ..Odd::default()
        };
        let findings = bench.odd_round(10, &[], odd);
        assert_eq!(findings.unlisted.len(), 1, "it is asked about all the same");
        bench.pool.job_over(&task(7), at(11));
        let findings = bench.odd_round(12, &[], odd);
        assert_eq!(findings.unlisted, [], "what is known is not asked again");
        assert_eq!(bench.in_use(), Slots::held(1), "{unreadable:?}");
        bench.unreadable_round(13, &[], &["b@x"]);
        assert_eq!(bench.in_use(), Slots::NONE, "{unreadable:?}");
    }
}

#[test]
fn a_bound_slot_is_let_go_in_the_end_whatever_cannot_be_read() {
    let mut bench = learned(RECONCILING, &[("a@x", 2)]);
    let lease = bench.forward(0);
    bench.pool.bind(lease, task(7), at(0)).unwrap();
    bench.unreadable_round(3900, &[], &["a@x"]);
    assert_eq!(bench.in_use(), Slots::foreign(1));
    assert_eq!(bench.pool.ended_counts()[Cause::Unverified as usize], 1);
}

#[test]
fn a_lost_submission_is_not_absent_while_a_row_of_its_account_cannot_be_read() {
    let mut bench = learned(RECONCILING, &[("a@x", 2)]);
    let lease = bench.forward(1);
    bench.pool.mark_uncertain(lease, at(2), at(2));
    for seconds in [130, 140, 150] {
        bench.unreadable_round(seconds, &[], &["a@x"]);
        assert_eq!(bench.in_use(), Slots::uncertain(1));
    }
    bench.round(160, &[]);
    assert_eq!(
        bench.in_use(),
        Slots::uncertain(1),
        "one round shows nothing"
    );
    bench.round(170, &[]);
    assert_eq!(bench.in_use(), Slots::NONE);
}

#[test]
fn a_pick_does_not_expire_while_a_row_of_its_account_cannot_be_read() {
    let mut bench = learned(RECONCILING, &[("a@x", 2)]);
    bench.take(1, Some(TTL));
    bench.unreadable_round(70, &[], &["a@x"]);
    assert_eq!(bench.in_use(), Slots::held(1));
    bench.round(80, &[]);
    assert_eq!(bench.in_use(), Slots::NONE);
    assert_eq!(bench.pool.ended_counts()[Cause::Expired as usize], 1);
}

#[test]
fn jobs_without_ids_count_on_accounts_that_join_later() {
    let mut bench = learned(RECONCILING, &[("a@x", 1)]);
    let odd = Odd {
        unreadable: &["b@x"],
        counts: &[("c@x", 2)],
    };
    bench.odd_round(10, &[], odd);
    bench.apply(&[("a@x", 1), ("b@x", 1), ("c@x", 3)], at(11));
    assert_eq!((bench.in_flight("b@x"), bench.in_flight("c@x")), (1, 2));
    bench.apply(&[("a@x", 1)], at(12));
    let state = bench.pool.account("b@x").unwrap().state;
    assert_eq!(state, AccountState::Removed, "its job still runs");
    bench.round(20, &[]);
    assert!(bench.pool.account("b@x").is_err());
}

#[test]
fn a_job_that_is_no_longer_tracked_uncovers_no_other() {
    let mut bench = learned(RECONCILING, &[("a@x", 3)]);
    let lease = bench.forward(1);
    bench.pool.bind(lease, task(7), at(2)).unwrap();
    bench.counted_round(10, &[(7, "a@x")], &[("a@x", 1)]);
    bench.pool.job_untracked(&task(7), at(11));
    assert_eq!(bench.in_use(), Slots::NONE);
}

proptest! {
    /// In flight is the larger of what is held by older leases or listed, and what the round shows, plus what
    /// was granted since.
    #[test]
    fn a_round_shows_what_runs_whatever_can_be_read(
        older in prop::collection::vec(any::<Option<bool>>(), 0..5),
        younger in 0..3usize,
        foreign in 0..3u64,
        unreadable in 0..4usize,
        count in prop::option::of(0..9u32),
    ) {
        let mut bench = learned(RECONCILING, &[("a@x", 20)]);
        let mut jobs = Vec::new();
        for (id, is_listed) in (100..).zip(&older) {
            let lease = bench.forward(1);
            if let Some(is_listed) = is_listed {
                bench.pool.bind(lease, task(id), at(2)).unwrap();
                if *is_listed {
                    jobs.push((id, "a@x"));
                }
            }
        }
        // A lease without a job stands for a foreign one in the round that first lists it, so they come before.
        let known: Vec<_> = (1..=foreign).map(|id| (id, "a@x")).collect();
        for (id, email) in &known {
            bench.pool.job_started(task(*id), &Name::new(email), at(2));
        }
        jobs.extend(known);
        for _ in 0..younger {
            bench.forward(11);
        }
        let counts: Vec<_> = count.map(|count| ("a@x", count)).into_iter().collect();
        let odd = Odd { unreadable: &["a@x"; 4][..unreadable], counts: &counts };
        bench.odd_round(10, &jobs, odd);
        let rows = jobs.len() + unreadable;
        let known = older.len() + usize::try_from(foreign).unwrap();
        let shown = rows.max(count.unwrap_or(0) as usize);
        prop_assert_eq!(bench.in_flight("a@x") as usize, known.max(shown) + younger);
    }
}
