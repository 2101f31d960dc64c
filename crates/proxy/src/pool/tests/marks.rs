//! Jobs that the upstream lists with marks, and what is learnt of that.

mod learning;

use super::{
    resolutions::{Fate, whole},
    rounds::{RECONCILING, at, learned, task},
    *,
};
use crate::keyed_hash::HashKey;

const VIDEO: &str = "/videos/text2video";
const IMAGE: &str = "/images/kolors";

/// The mark of a lease.
fn mark_of(id: LeaseId) -> Mark {
    let key = HashKey::from_hex(&"5".repeat(64)).unwrap();
    Mark::of(&key, id)
}

impl Bench {
    fn take_marked(&mut self, seconds: u64, operation: &str, ttl: Option<Duration>) -> LeaseView {
        let ask = self.ask(Some("a@x"), &[]);
        let ask = Ask {
            ttl,
            operation: Some(operation.into()),
            mark: Some(mark_of(ask.lease_id)),
            ..ask
        };
        self.pool.pick(&ask, at(seconds), &mut self.rng).unwrap()
    }

    /// A submission on `a@x` that is about to be sent.
    fn submission(&mut self, seconds: u64, operation: &str) -> LeaseId {
        self.take_marked(seconds, operation, None).id
    }

    /// One that is sent with its mark.
    fn marked(&mut self, seconds: u64, operation: &str) -> LeaseId {
        let id = self.submission(seconds, operation);
        assert_eq!(self.pool.mark_submission(id), Some(mark_of(id)));
        id
    }

    /// One that is lost, under a key.
    fn marked_and_lost(&mut self, seconds: u64, operation: &str, text: &str) -> LeaseId {
        let id = self.marked(seconds, operation);
        self.claim_for(id);
        self.lose(id, seconds, text);
        id
    }

    /// A round that lists jobs, some with the marks of leases.
    fn marked_round(&mut self, seconds: u64, jobs: &[(u64, &str, Option<LeaseId>)]) {
        let executing = jobs.iter().map(|(id, email, of)| RunningJob {
            task_id: task(*id),
            email: (*email).to_owned(),
            mark: of.map(mark_of),
        });
        let round = Round {
            sent_at: at(seconds),
            executing: executing.collect(),
            ..Round::default()
        };
        self.pool.reconcile(&round, at(seconds), &mut self.rng);
    }

    /// The upstream is known to keep the marks of `operation`.
    fn prove(&mut self, operation: &str) {
        self.pool
            .marks
            .restore(&operation.into(), LearntMarks::Proven);
    }
}

fn bench() -> Bench {
    learned(RECONCILING, &[("a@x", 9), ("b@x", 9)])
}

#[test]
fn a_job_that_is_listed_with_a_mark_is_that_submissions_while_the_call_is_under_way() {
    let mut bench = bench();
    let first = bench.submission(1, VIDEO);
    let marked = bench.marked(2, VIDEO);
    bench.claim_for(marked);
    bench.marked_round(10, &[(7, "a@x", Some(marked))]);
    assert_eq!(bench.job_of(marked).as_deref(), Some("7"));
    assert_eq!(bench.job_of(first), None);
    assert_eq!(bench.fate(marked), Fate::Job(task(7)));
    assert_eq!(bench.in_use(), Slots::held(2));
    // The call ends in doubt: that is no news, but that it was found is told once, as it is told that it was lost.
    for found_count in [1, 0] {
        bench.lose(marked, 11, "boat");
        let decided = bench.pool.take_decided_losses();
        let found = decided.iter().map(|it| (it.decision, it.task_id.clone()));
        let expected = (Decision::Found, Some(task(7)));
        assert!(found.eq(vec![expected; found_count]), "{decided:?}");
    }
    assert_eq!(bench.fate(marked), Fate::Job(task(7)));
    assert_eq!(bench.in_use(), Slots::held(2));
}

#[test]
fn each_of_many_lost_submissions_is_found_as_what_it_is() {
    let mut bench = bench();
    bench.prove(VIDEO);
    let marked = [1, 2, 3, 4].map(|seconds| bench.marked(seconds, VIDEO));
    let [keyed @ .., unkeyed] = marked;
    for (id, text) in marked.into_iter().zip(["boat", "tree", "boat", "boat"]) {
        if id != unkeyed {
            bench.claim_for(id);
        }
        bench.lose(id, 4, text);
    }
    // Its client has a replyRef of its own.
    let unmarked = bench.submission(5, VIDEO);
    bench.claim_for(unmarked);
    bench.lose(unmarked, 5, "boat");
    let jobs = [
        (25, "a@x", None),
        (24, "a@x", Some(unkeyed)),
        (23, "a@x", Some(keyed[2])),
        (22, "a@x", Some(keyed[1])),
        (21, "a@x", Some(keyed[0])),
    ];
    bench.marked_round(10, &jobs);
    for (id, job) in keyed.iter().zip(21..) {
        assert_eq!(bench.fate(*id), Fate::Job(task(job)));
        assert_eq!(bench.job_of(*id), Some(job.to_string()));
    }
    assert_eq!(bench.job_of(unkeyed).as_deref(), Some("24"));
    assert_eq!(bench.job_of(unmarked).as_deref(), Some("25"));
    // All others are known by their marks.
    let texts = [
        (25, "boat"),
        (24, "boat"),
        (23, "boat"),
        (22, "tree"),
        (21, "boat"),
    ];
    bench.decide(11, &whole(&texts));
    assert_eq!(bench.fate(unmarked), Fate::Job(task(25)));
    assert_eq!(bench.in_use(), Slots::held(5));
}

#[test]
fn a_mark_undoes_ties_of_its_lease_and_of_its_job() {
    let mut bench = bench();
    let marked = bench.marked_and_lost(1, VIDEO, "boat");
    let other = bench.submission(2, IMAGE);
    bench.claim_for(other);
    bench.lose(other, 2, "tree");
    bench.marked_round(10, &[(5, "a@x", None), (6, "a@x", None)]);
    assert_eq!(bench.job_of(marked).as_deref(), Some("5"), "by its turn");
    assert_eq!(bench.job_of(other).as_deref(), Some("6"), "by its turn");
    bench.marked_round(20, &[(5, "a@x", None), (6, "a@x", Some(marked))]);
    assert_eq!(bench.job_of(marked).as_deref(), Some("6"));
    assert_eq!(bench.fate(marked), Fate::Job(task(6)));
    assert_eq!(bench.job_of(other).as_deref(), Some("5"), "what is left");
    assert_eq!(bench.in_use(), Slots::held(2));
}

#[test]
fn an_answer_beats_a_mark() {
    for is_answered_first in [false, true] {
        let mut bench = bench();
        let marked = bench.marked(1, VIDEO);
        bench.claim_for(marked);
        if is_answered_first {
            bench.accept(marked, 2, 7, "boat");
        }
        bench.marked_round(10, &[(6, "a@x", Some(marked)), (7, "a@x", None)]);
        if !is_answered_first {
            assert_eq!(bench.job_of(marked).as_deref(), Some("6"));
            bench.accept(marked, 11, 7, "boat");
        }
        assert_eq!(bench.job_of(marked).as_deref(), Some("7"));
        assert_eq!(bench.fate(marked), Fate::Job(task(7)));
        let expected = Slots {
            held: 1,
            uncertain: 0,
            foreign: 1,
        };
        assert_eq!(bench.in_use(), expected, "6 is foreign");
        bench.marked_round(20, &[(6, "a@x", Some(marked)), (7, "a@x", None)]);
        assert_eq!(bench.job_of(marked).as_deref(), Some("7"));
        assert_eq!(bench.in_use(), expected);
    }
}

#[test]
fn an_answer_to_another_submission_beats_a_mark() {
    let mut bench = bench();
    let marked = bench.marked_and_lost(1, VIDEO, "boat");
    let answered = bench.submission(2, IMAGE);
    bench.accept(answered, 3, 6, "tree");
    bench.marked_round(10, &[(6, "a@x", Some(marked))]);
    assert_eq!(bench.job_of(answered).as_deref(), Some("6"));
    assert_eq!(bench.job_of(marked), None);
    assert_eq!(bench.fate(marked), Fate::Open);
    // The other way round, the answer takes the job back.
    let late = bench.submission(11, IMAGE);
    bench.marked_round(12, &[(6, "a@x", Some(marked)), (8, "a@x", None)]);
    bench.accept(late, 13, 8, "tree");
    assert_eq!(bench.job_of(late).as_deref(), Some("8"));
}

#[test]
fn an_answer_takes_a_job_from_the_one_that_its_mark_gave_it_to() {
    let mut bench = bench();
    let marked = bench.marked_and_lost(1, VIDEO, "boat");
    let late = bench.submission(2, IMAGE);
    bench.marked_round(10, &[(6, "a@x", Some(marked))]);
    assert_eq!(bench.fate(marked), Fate::Job(task(6)));
    bench.accept(late, 11, 6, "tree");
    assert_eq!(bench.job_of(late).as_deref(), Some("6"));
    assert_eq!(bench.job_of(marked), None);
    assert_eq!(bench.fate(marked), Fate::Open, "it is lost again");
    let expected = Slots {
        held: 1,
        uncertain: 1,
        foreign: 0,
    };
    assert_eq!(bench.in_use(), expected);
}

#[test]
fn a_mark_that_proves_nothing_makes_its_job_foreign() {
    let stranger = LeaseId::random(&mut SmallRng::seed_from_u64(3));
    for is_listed_before in [false, true] {
        let mut bench = bench();
        let marked = bench.marked_and_lost(1, VIDEO, "boat");
        if is_listed_before {
            // Without marks they are matched by their turn.
            let unmarked = [
                (4, "a@x", None),
                (5, "a@x", None),
                (6, "b@x", None),
                (7, "a@x", None),
            ];
            bench.marked_round(5, &unmarked);
            assert_eq!(bench.job_of(marked).as_deref(), Some("4"));
        }
        let jobs = [
            (4, "a@x", Some(marked)),
            (5, "a@x", Some(marked)),
            (6, "b@x", Some(marked)),
            (7, "a@x", Some(stranger)),
        ];
        bench.marked_round(10, &jobs);
        assert_eq!(bench.job_of(marked), None);
        assert_eq!(bench.fate(marked), Fate::Open);
        let expected = Slots {
            held: 0,
            uncertain: 1,
            foreign: 3,
        };
        assert_eq!(bench.in_use(), expected);
        assert!(!bench.pool.marks.is_proven(&VIDEO.into()));
        // No other lost submission gets them by its turn.
        let other = bench.submission(2, IMAGE);
        bench.claim_for(other);
        bench.lose(other, 11, "tree");
        bench.marked_round(12, &jobs);
        assert_eq!(bench.job_of(other), None);
        // On its account alone, it is its job.
        bench.marked_round(20, &[(5, "a@x", Some(marked)), (7, "a@x", Some(stranger))]);
        assert_eq!(bench.fate(marked), Fate::Job(task(5)));
    }
}

#[test]
fn a_job_on_another_account_than_its_mark_says_is_foreign_there() {
    let mut bench = bench();
    let marked = bench.marked_and_lost(1, VIDEO, "boat");
    bench.marked_round(10, &[(6, "b@x", Some(marked))]);
    assert_eq!(bench.fate(marked), Fate::Open);
    assert_eq!(bench.in_use(), Slots::uncertain(1));
    assert_eq!(bench.pool.account("b@x").unwrap().foreign, 1);
    assert!(!bench.pool.marks.is_proven(&VIDEO.into()));
}

#[test]
fn a_lost_submission_that_has_no_lease_any_more_is_found_by_its_mark() {
    let mut bench = bench();
    bench.accepted_job(1, 10, "other");
    let marked = bench.marked_and_lost(2, VIDEO, "boat");
    bench.marked_round(122, &[]);
    bench.marked_round(123, &[]);
    assert!(bench.pool.lease(marked).is_none(), "its slot is free");
    assert_eq!(bench.fate(marked), Fate::Open);
    bench.marked_round(130, &[(6, "a@x", Some(marked))]);
    assert_eq!(bench.fate(marked), Fate::Job(task(6)));
    assert_eq!(bench.in_use(), Slots::foreign(1), "the job counts");
    assert!(bench.pool.undecided().is_empty());
    // The key knows it when it runs no more.
    bench.marked_round(140, &[]);
    assert_eq!(bench.fate(marked), Fate::Job(task(6)));
}

#[test]
fn a_mark_corrects_a_history() {
    let mut bench = bench();
    bench.accepted_job(1, 10, "other");
    let marked = bench.marked_and_lost(2, VIDEO, "boat");
    let equal = bench.submission(60, VIDEO);
    bench.claim_for(equal);
    bench.lose(equal, 60, "boat");
    bench.marked_round(122, &[]);
    bench.marked_round(123, &[]);
    assert_eq!(bench.decide(124, &whole(&[(11, "boat"), (10, "other")])), 1);
    assert_eq!(bench.fate(marked), Fate::Job(task(11)));
    bench.marked_round(130, &[(12, "a@x", Some(marked))]);
    assert_eq!(bench.fate(marked), Fate::Job(task(12)));
    // So the other task may be the equal one's.
    bench.marked_round(181, &[(12, "a@x", Some(marked))]);
    bench.marked_round(182, &[(12, "a@x", Some(marked))]);
    bench.decide(183, &whole(&[(12, "boat"), (11, "boat"), (10, "other")]));
    assert_eq!(bench.fate(equal), Fate::Job(task(11)));
}

#[test]
fn a_job_that_a_mark_names_is_no_candidate_of_an_equal_submission() {
    let mut bench = bench();
    bench.prove(VIDEO);
    bench.accepted_job(1, 10, "other");
    let first = bench.marked_and_lost(2, VIDEO, "boat");
    let second = bench.marked_and_lost(3, VIDEO, "boat");
    bench.marked_round(10, &[(12, "a@x", Some(second))]);
    bench.marked_round(123, &[(12, "a@x", Some(second))]);
    bench.marked_round(124, &[(12, "a@x", Some(second))]);
    assert!(bench.pool.lease(first).is_none());
    bench.decide(125, &whole(&[(12, "boat"), (10, "other")]));
    assert_eq!(bench.fate(first), Fate::NoJob, "12 is the second one's");
    assert_eq!(bench.fate(second), Fate::Job(task(12)));
}

#[test]
fn an_unmarked_job_goes_to_a_marked_submission_only_until_marks_are_proven() {
    for is_proven in [false, true] {
        let mut bench = bench();
        if is_proven {
            bench.prove(VIDEO);
        }
        let marked = bench.marked_and_lost(1, VIDEO, "boat");
        bench.marked_round(10, &[(6, "a@x", None)]);
        let is_tied = bench.job_of(marked).is_some();
        assert_eq!(is_tied, !is_proven);
        if is_proven {
            let expected = Slots {
                held: 0,
                uncertain: 1,
                foreign: 1,
            };
            assert_eq!(bench.in_use(), expected);
            assert_eq!(bench.fate(marked), Fate::Open);
            // Nor does it adopt it later.
            let late = bench.marked(11, VIDEO);
            bench.marked_round(12, &[(6, "a@x", None), (7, "a@x", None)]);
            bench.lose(late, 13, "tree");
            assert_eq!(bench.job_of(late), None);
            bench.marked_round(20, &[(6, "a@x", None), (7, "a@x", Some(late))]);
            assert_eq!(bench.job_of(late).as_deref(), Some("7"));
        }
    }
}

#[test]
fn a_submission_that_stood_for_an_unmarked_job_does_not_keep_it_once_marks_are_proven() {
    let mut bench = bench();
    let marked = bench.marked(1, VIDEO);
    bench.marked_round(10, &[(6, "a@x", None)]);
    bench.prove(VIDEO);
    bench.lose(marked, 11, "boat");
    assert_eq!(bench.job_of(marked), None);
    let expected = Slots {
        held: 0,
        uncertain: 1,
        foreign: 1,
    };
    assert_eq!(bench.in_use(), expected);
}

#[test]
fn what_became_of_a_call_is_known_though_its_job_was_over_before_it() {
    let mut bench = bench();
    let marked = bench.marked(1, VIDEO);
    bench.marked_round(10, &[(6, "a@x", Some(marked))]);
    bench.marked_round(20, &[]);
    assert!(bench.pool.job_over(&task(6), at(21)));
    bench.marked_round(30, &[]);
    assert_eq!(bench.in_use(), Slots::NONE);
    // It had no key: now it gets one by which the record of the call is resolved.
    bench.lose(marked, 31, "boat");
    let claim = Claim {
        key: Key::new("lost"),
        fingerprint: Fingerprint::of(["1"]),
    };
    assert!(bench.pool.name_lost(marked, claim.clone()));
    let known = bench.pool.recall(&claim);
    assert!(
        matches!(&known, Some(Known::Job { task_id, .. }) if *task_id == task(6)),
        "{known:?}"
    );
}

#[test]
fn a_pick_gets_a_mark_once_they_are_proven_and_is_found_by_it() {
    let mut bench = bench();
    assert_eq!(bench.take_marked(1, VIDEO, Some(TTL)).mark, None);
    bench.prove(VIDEO);
    assert_eq!(bench.take_marked(2, IMAGE, Some(TTL)).mark, None);
    let picks = [3, 4].map(|seconds| bench.take_marked(seconds, VIDEO, Some(TTL)));
    for pick in &picks {
        assert_eq!(pick.mark, Some(mark_of(pick.id)));
        assert_eq!(bench.pool.lease(pick.id).unwrap().mark, pick.mark);
    }
    bench.marked_round(10, &[(6, "a@x", Some(picks[1].id))]);
    assert_eq!(bench.job_of(picks[1].id).as_deref(), Some("6"));
    assert_eq!(bench.job_of(picks[0].id), None);
    // Its client may not have sent the mark.
    bench.marked_round(20, &[(6, "a@x", Some(picks[1].id)), (7, "a@x", None)]);
    bench.marked_round(30, &[(6, "a@x", Some(picks[1].id)), (7, "a@x", None)]);
    let leases = bench.pool.leases().into_iter();
    let tied = leases.filter(|lease| lease.task_id == Some(task(7)));
    assert_eq!(tied.count(), 1, "it is tied to a pick as ever");
    let unknown = Ask {
        operation: None,
        mark: Some(mark_of(picks[0].id)),
        ..bench.ask(None, &[])
    };
    let view = bench.pool.pick(&unknown, at(31), &mut bench.rng).unwrap();
    assert!(view.mark.is_some(), "marks of some operation are proven");
}

#[test]
fn a_waiter_gets_its_mark_with_its_slot() {
    let mut bench = learned(RECONCILING, &[("a@x", 1)]);
    let full = bench.submission(1, VIDEO);
    let ask = bench.ask(None, &[]);
    let ask = Ask {
        ttl: None,
        operation: Some(VIDEO.into()),
        mark: Some(mark_of(ask.lease_id)),
        ..ask
    };
    let id = ask.lease_id;
    bench.pool.pick_or_wait(ask, at(2), &mut bench.rng).unwrap();
    bench.pool.refuse(full, Blame::Request, at(3));
    assert_eq!(bench.pool.mark_submission(id), Some(mark_of(id)));
}
