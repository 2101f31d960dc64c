//! Jobs that two submissions may have started. A job belongs to one submission at most, and an answer
//! decides.

use super::{
    resolutions::{Fate, bench, whole},
    rounds::{RECONCILING, at, learned, task},
    *,
};

impl Bench {
    fn keyed(&mut self, seconds: u64) -> LeaseId {
        let lease = self.forward(seconds);
        self.claim_for(lease);
        lease
    }
}

/// A whole history with a task of this type whose prompt is hidden, and the one that was shown before.
fn hidden(id: u64, task_type: Option<&str>) -> History {
    let mut history = whole(&[(id, ""), (10, "other")]);
    history.rows[0].task_type = task_type.map(Into::into);
    history.rows[0].prompt = None;
    history
}

/// A bench on which a history has shown an accepted job: number 10, a video of "other".
fn bench_that_shows() -> Bench {
    let mut bench = bench();
    bench.accepted_job(1, 10, "other");
    bench
}

#[test]
fn a_task_that_a_history_gave_away_is_not_given_again_to_an_equal_submission() {
    let mut bench = bench_that_shows();
    let first = bench.keyed(2);
    bench.lose(first, 2, "boat");
    let second = bench.keyed(60);
    bench.lose(second, 60, "boat");
    bench.round(122, &[]);
    bench.round(123, &[]);
    assert_eq!(bench.decide(124, &whole(&[(11, "boat"), (10, "other")])), 1);
    assert_eq!(bench.fate(first), Fate::Job(task(11)));
    bench.round(181, &[]);
    bench.round(182, &[]);
    bench.decide(183, &whole(&[(11, "boat"), (10, "other")]));
    assert_eq!(bench.fate(second), Fate::NoJob, "11 is the first one's");
}

#[test]
fn a_task_that_a_round_gave_away_is_not_given_again_to_an_equal_submission() {
    let mut bench = bench_that_shows();
    let first = bench.keyed(2);
    bench.lose(first, 2, "boat");
    let second = bench.keyed(3);
    bench.lose(second, 3, "boat");
    bench.round(10, &[(11, "a@x")]);
    bench.decide(11, &whole(&[(11, "boat"), (10, "other")]));
    assert_eq!(bench.fate(first), Fate::Job(task(11)));
    bench.pool.job_over(&task(11), at(20));
    bench.round(30, &[]);
    assert_eq!(bench.fate(first), Fate::Job(task(11)));
    bench.round(130, &[]);
    bench.round(131, &[]);
    bench.decide(132, &whole(&[(11, "boat"), (10, "other")]));
    assert_eq!(bench.fate(second), Fate::NoJob, "11 is the first one's");
}

#[test]
fn a_task_that_a_submission_without_a_key_had_is_not_given_to_an_equal_one() {
    let mut bench = bench_that_shows();
    let unkeyed = bench.forward(2);
    bench.lose(unkeyed, 2, "boat");
    let lost = bench.keyed(3);
    bench.lose(lost, 3, "boat");
    bench.round(10, &[(11, "a@x")]);
    bench.pool.job_over(&task(11), at(20));
    bench.round(30, &[]);
    bench.round(130, &[]);
    bench.round(131, &[]);
    bench.decide(132, &whole(&[(11, "boat"), (10, "other")]));
    assert_eq!(
        bench.fate(lost),
        Fate::NoJob,
        "a round gave 11 to the other one"
    );
}

#[test]
fn a_task_that_a_submission_under_way_may_have_is_not_given_to_a_lost_one() {
    let mut bench = bench_that_shows();
    let lost = bench.keyed(2);
    bench.lose(lost, 2, "boat");
    let under_way = bench.keyed(3);
    bench.round(122, &[]);
    bench.round(123, &[]);
    // The history shows the task of the submission under way.
    bench.decide(124, &hidden(12, None));
    bench.accept(under_way, 125, 12, "tree");
    assert_eq!(bench.fate(under_way), Fate::Job(task(12)));
    assert_eq!(bench.fate(lost), Fate::Open, "12 was the other one's");
    bench.decide(126, &hidden(12, None));
    assert_eq!(bench.fate(lost), Fate::NoJob, "nothing else is there");
}

#[test]
fn a_submission_whose_job_may_turn_up_yet_takes_no_task_from_an_equal_one() {
    let mut bench = bench_that_shows();
    // The submission that was sent first is lost last.
    let slow = bench.keyed(2);
    let fast = bench.keyed(3);
    bench.lose(fast, 3, "boat");
    bench.lose(slow, 100, "boat");
    bench.round(123, &[]);
    bench.round(124, &[]);
    // Job 11 belongs to the fast submission.
    bench.decide(125, &whole(&[(11, "boat"), (10, "other")]));
    assert_eq!(bench.fate(fast), Fate::Job(task(11)));
    // The job of the slow submission turns up.
    bench.round(130, &[(12, "a@x")]);
    bench.decide(131, &whole(&[(12, "boat"), (11, "boat"), (10, "other")]));
    assert_eq!(bench.fate(slow), Fate::Job(task(12)));
    assert_eq!(bench.fate(fast), Fate::Job(task(11)));
}

#[test]
fn a_task_of_a_type_that_no_reply_has_named_proves_no_absence() {
    let mut bench = bench_that_shows();
    let avatar = Body {
        operation: "/avatars/video".into(),
        fingerprint: Fingerprint::of(["1"]),
        prompt: None,
    };
    let other = bench.forward(2);
    let sent_ago = Duration::ZERO;
    let uncertain = Settlement::Uncertain { sent_ago };
    let email = Name::new("a@x");
    bench
        .pool
        .settle(other, Some(&email), Some(avatar), uncertain, at(2));
    let lost = bench.keyed(3);
    bench.lose(lost, 3, "boat");
    bench.round(123, &[]);
    bench.round(124, &[]);
    // The task fits all that is known of the avatar. That proves nothing about the boat, now or later.
    for seconds in [125, 126] {
        bench.decide(seconds, &hidden(12, Some("of a boat")));
        assert_eq!(bench.fate(lost), Fate::Open, "12 may be its job");
    }
}

#[test]
fn a_tie_that_ended_with_its_job_is_undone_by_a_later_answer() {
    let mut bench = bench_that_shows();
    let lost = bench.keyed(2);
    bench.lose(lost, 2, "boat");
    let slow = bench.keyed(3);
    // The slow submission stands for its job for one round, then the lost one gets the job.
    bench.round(10, &[(11, "a@x")]);
    bench.round(20, &[(11, "a@x")]);
    assert_eq!(bench.fate(lost), Fate::Open, "11 may be of the slow one");
    bench.pool.job_over(&task(11), at(21));
    bench.round(30, &[]);
    bench.accept(slow, 31, 11, "tree");
    assert_eq!(bench.fate(slow), Fate::Job(task(11)));
    assert_eq!(
        bench.fate(lost),
        Fate::Open,
        "the answer named it to another"
    );
    bench.decide(200, &whole(&[(11, "tree"), (10, "other")]));
    assert_eq!(bench.fate(lost), Fate::NoJob, "nothing else is there");
}

#[test]
fn a_tie_is_told_once_the_history_confirms_it() {
    let mut bench = bench_that_shows();
    let lost = bench.keyed(2);
    bench.lose(lost, 2, "boat");
    let slow = bench.keyed(3);
    bench.round(10, &[(11, "a@x")]);
    bench.round(20, &[(11, "a@x")]);
    let history = whole(&[(12, "tree"), (11, "boat"), (10, "other")]);
    assert!(bench.pool.take_history_due());
    bench.decide(20, &history);
    assert_eq!(bench.fate(lost), Fate::Open, "11 may be of the slow one");
    bench.accept(slow, 21, 12, "tree");
    assert_eq!(bench.fate(lost), Fate::Open);
    assert_eq!(bench.decide(22, &history), 1);
    assert_eq!(bench.fate(lost), Fate::Job(task(11)));
}

#[test]
fn a_tie_to_a_job_of_another_prompt_is_not_told() {
    let mut bench = bench_that_shows();
    let lost = bench.keyed(2);
    bench.lose(lost, 2, "boat");
    // Another tool's.
    bench.round(10, &[(11, "a@x")]);
    assert_eq!(
        bench.job_of(lost).as_deref(),
        Some("11"),
        "both slots count"
    );
    for (now, history) in [
        (11, whole(&[(11, "tool"), (10, "other")])),
        (12, hidden(11, Some("video"))),
        (13, whole(&[(10, "other")])),
    ] {
        assert_eq!(bench.decide(now, &history), 0, "{history:?}");
        assert_eq!(bench.fate(lost), Fate::Open);
    }
    bench.pool.job_over(&task(11), at(130));
    bench.round(131, &[]);
    bench.decide(200, &whole(&[(12, "boat"), (11, "tool"), (10, "other")]));
    assert_eq!(bench.fate(lost), Fate::Job(task(12)));
}

#[test]
fn of_two_lost_submissions_each_is_told_its_own_job() {
    let mut bench = bench_that_shows();
    let (first, second) = (bench.keyed(2), bench.keyed(3));
    bench.lose(first, 2, "boat");
    bench.lose(second, 3, "tree");
    // The job of the first one comes and goes between two rounds.
    bench.round(10, &[(11, "a@x")]);
    let fates = |bench: &Bench| [first, second].map(|lease| bench.fate(lease));
    assert_eq!(fates(&bench), [Fate::Open, Fate::Open]);
    bench.round(123, &[(11, "a@x")]);
    bench.round(124, &[(11, "a@x")]);
    let history = whole(&[(12, "boat"), (11, "tree"), (10, "other")]);
    bench.decide(200, &history);
    assert_eq!(fates(&bench), [Fate::Open, Fate::Job(task(11))]);
    bench.pool.job_over(&task(11), at(201));
    bench.round(202, &[]);
    assert!(bench.pool.take_history_due(), "the tie was wrong");
    bench.decide(203, &history);
    let told = [Fate::Job(task(12)), Fate::Job(task(11))];
    assert_eq!(fates(&bench), told);
}

#[test]
fn a_tie_is_not_told_while_a_pick_may_have_the_job() {
    for ties_picks in [true, false] {
        let limits = Limits {
            ties_picks,
            ..RECONCILING
        };
        let mut bench = learned(limits, &[("a@x", 9)]);
        let lost = bench.keyed(2);
        bench.lose(lost, 2, "boat");
        let pick = bench.take(3, Some(TTL));
        bench.round(10, &[(11, "a@x")]);
        assert_eq!(bench.fate(lost), Fate::Open, "11 may be of the pick");
        let history = whole(&[(12, "tree"), (11, "boat")]);
        bench.decide(10, &history);
        assert_eq!(bench.fate(lost), Fate::Open, "11 may be of the pick");
        bench.pool.bind(pick, task(12), at(11)).unwrap();
        bench.decide(12, &history);
        assert_eq!(bench.fate(lost), Fate::Job(task(11)));
    }
}

#[test]
fn a_tie_is_not_told_while_a_pick_is_only_tied() {
    let mut bench = learned(RECONCILING, &[("a@x", 9)]);
    let lost = bench.keyed(2);
    bench.lose(lost, 2, "boat");
    let pick = bench.take(3, Some(TTL));
    bench.round(10, &[(11, "a@x"), (12, "a@x")]);
    assert_eq!(
        bench.fate(lost),
        Fate::Open,
        "it may have 12, and the pick 11"
    );
    bench.pool.bind(pick, task(11), at(12)).unwrap();
    bench.round(20, &[(11, "a@x"), (12, "a@x")]);
    bench.decide(21, &whole(&[(12, "boat"), (11, "tree")]));
    assert_eq!(bench.fate(lost), Fate::Job(task(12)));
}

#[test]
fn a_loss_that_can_turn_up_no_more_is_no_rival() {
    let mut bench = learned(RECONCILING, &[("a@x", 9)]);
    let old = bench.forward(2);
    bench.lose(old, 2, "tree");
    bench.round(123, &[]);
    bench.round(124, &[]);
    let lost = bench.keyed(3000);
    bench.lose(lost, 3000, "boat");
    bench.round(3010, &[(11, "a@x")]);
    bench.decide(3011, &whole(&[(11, "boat")]));
    assert_eq!(bench.fate(lost), Fate::Job(task(11)));
}

#[test]
fn a_lease_that_is_given_back_by_hand_frees_its_key_though_it_may_have_a_job() {
    let mut bench = learned(RECONCILING, &[("a@x", 9)]);
    let lost = bench.keyed(2);
    bench.lose(lost, 2, "boat");
    let _slow = bench.keyed(3);
    bench.round(10, &[(11, "a@x")]);
    bench.round(20, &[(11, "a@x")]);
    assert_eq!(bench.fate(lost), Fate::Open);
    assert!(bench.pool.release(lost, at(21)));
    assert_eq!(bench.fate(lost), Fate::NoJob);
}

#[test]
fn equal_lost_submissions_share_what_rounds_list() {
    let mut bench = bench_that_shows();
    let (first, second) = (bench.keyed(2), bench.keyed(3));
    bench.lose(first, 2, "boat");
    bench.lose(second, 3, "boat");
    bench.round(10, &[(11, "a@x")]);
    bench.decide(11, &whole(&[(11, "boat"), (10, "other")]));
    assert_eq!(bench.fate(first), Fate::Job(task(11)));
    assert_eq!(bench.fate(second), Fate::Open);
}

#[test]
fn a_lost_submission_whose_tie_was_undone_has_another_job_that_nobody_claims() {
    let mut bench = learned(RECONCILING, &[("a@x", 9)]);
    let lost = bench.keyed(1);
    bench.lose(lost, 1, "boat");
    bench.round(10, &[(11, "a@x"), (12, "a@x")]);
    let pick = bench.take(11, Some(TTL));
    bench.pool.bind(pick, task(11), at(12)).unwrap();
    let listed = [(11, "a@x"), (12, "a@x")];
    bench.round(20, &listed);
    bench.round(121, &listed);
    bench.round(122, &listed);
    bench.decide(123, &whole(&[(12, "boat"), (11, "tree")]));
    assert_eq!(
        bench.fate(lost),
        Fate::Job(task(12)),
        "rounds list a job that nobody claims"
    );
}

#[test]
fn a_job_that_another_submission_stood_for_counts_when_it_is_answered_late() {
    let mut bench = learned(RECONCILING, &[("a@x", 2)]);
    let [first, second] = [1, 2].map(|seconds| bench.forward(seconds));
    bench.pool.release(second, at(3));
    // The first submission stands for the job of the second one.
    bench.round(10, &[(11, "a@x")]);
    bench.accept(second, 11, 11, "tree");
    bench.accept(first, 12, 12, "boat");
    assert_eq!(bench.in_use(), Slots::held(1) + Slots::foreign(1));
    bench.round(20, &[(11, "a@x"), (12, "a@x")]);
    assert_eq!(
        bench.in_use(),
        Slots::held(1) + Slots::foreign(1),
        "two jobs are listed"
    );
    bench.round(21, &[(11, "a@x"), (12, "a@x")]);
    assert_eq!(
        bench.in_use(),
        Slots::held(1) + Slots::foreign(1),
        "two jobs are listed"
    );
}

#[test]
fn a_job_that_an_answer_named_is_not_of_the_submission_that_stood_for_it() {
    let mut bench = learned(RECONCILING, &[("a@x", 2)]);
    let first = bench.keyed(1);
    let second = bench.keyed(2);
    bench.pool.release(second, at(3));
    bench.round(10, &[(11, "a@x")]);
    bench.accept(second, 11, 11, "tree");
    bench.lose(first, 12, "boat");
    assert_eq!(bench.fate(second), Fate::Job(task(11)));
    assert_eq!(bench.fate(first), Fate::Open, "11 is the second one's");
}

#[test]
fn a_pick_that_was_not_delivered_leaves_the_job_that_a_round_tied_to_it_counted() {
    let mut bench = learned(RECONCILING, &[("a@x", 1)]);
    let pick = bench.take(1, Some(TTL));
    bench.round(2, &[(11, "a@x")]);
    bench
        .pool
        .settle(pick, None, None, Settlement::Undelivered, at(3));
    assert_eq!(
        bench.in_use(),
        Slots::foreign(1),
        "the newest round lists 11"
    );
}

#[test]
fn a_loss_that_is_told_again_changes_nothing() {
    let mut bench = bench_that_shows();
    let lost = bench.keyed(2);
    bench.lose(lost, 2, "boat");
    bench.round(122, &[]);
    bench.round(123, &[]);
    bench.lose(lost, 124, "boat");
    bench.decide(125, &whole(&[(11, "boat"), (10, "other")]));
    assert_eq!(bench.fate(lost), Fate::Job(task(11)));
    bench.lose(lost, 126, "boat");
    assert_eq!(bench.fate(lost), Fate::Job(task(11)));
}

#[test]
fn an_acceptance_that_is_told_again_brings_no_finished_job_back() {
    let mut bench = learned(RECONCILING, &[("a@x", 1)]);
    let lease = bench.keyed(2);
    bench.accept(lease, 3, 11, "boat");
    bench.pool.job_over(&task(11), at(4));
    bench.round(5, &[]);
    assert_eq!(bench.in_use(), Slots::NONE);
    bench.accept(lease, 6, 11, "boat");
    assert_eq!(bench.in_use(), Slots::NONE);
}

#[test]
fn a_key_whose_job_another_submission_was_told_too_is_forgotten_in_time() {
    let mut bench = bench_that_shows();
    let first = bench.keyed(2);
    bench.accept(first, 3, 11, "boat");
    let second = bench.keyed(4);
    bench.accept(second, 5, 11, "boat");
    bench.pool.job_over(&task(11), at(20));
    bench.round(130, &[]);
    bench.round(131, &[]);
    assert_eq!(bench.in_use(), Slots::NONE);
    bench.pool.expire(at(200) + REMEMBERED_FOR, &mut bench.rng);
    bench
        .pool
        .expire(at(200) + 9 * REMEMBERED_FOR, &mut bench.rng);
    assert_eq!(bench.fate(second), Fate::NoJob);
    assert_eq!(bench.fate(first), Fate::NoJob, "forgotten in time");
}

#[test]
fn a_job_counts_where_an_answer_says_and_where_rounds_list_it() {
    let mut bench = learned(RECONCILING, &[("a@x", 1), ("b@x", 1)]);
    let foreign = |bench: &Bench| ["a@x", "b@x"].map(|on| bench.pool.account(on).unwrap().foreign);
    bench.round(10, &[(11, "a@x")]);
    assert_eq!(foreign(&bench), [1, 0]);
    bench.pool.job_started(task(11), &Name::new("b@x"), at(11));
    assert_eq!(foreign(&bench), [0, 1]);
    bench.round(12, &[(11, "a@x")]);
    assert_eq!(foreign(&bench), [1, 0], "the newest round knows better");
    bench
        .pool
        .job_started(task(11), &Name::new("nobody@x"), at(13));
    assert_eq!(foreign(&bench), [1, 0]);
}
