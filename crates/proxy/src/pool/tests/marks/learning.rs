//! What is learnt of the marks of an operation, and which submissions are marked by that.

use super::*;

impl Bench {
    fn changes(&mut self) -> Vec<MarksKnown> {
        let changes = self.pool.take_marks_changes().into_iter();
        changes.map(|change| change.to).collect()
    }

    fn may_mark(&mut self, seconds: u64) -> bool {
        let id = self.submission(seconds, VIDEO);
        let mark = self.pool.mark_submission(id);
        self.pool.refuse(id, Blame::Request, at(seconds));
        mark.is_some()
    }

    /// A marked submission that is accepted as the job `id`, which rounds list with its mark or without.
    fn accepted_and_listed(&mut self, seconds: u64, id: u64, is_kept: bool) -> LeaseId {
        let lease = self.marked(seconds, VIDEO);
        self.accept(lease, seconds, id, "boat");
        self.marked_round(seconds, &[(id, "a@x", is_kept.then_some(lease))]);
        lease
    }
}

#[test]
fn one_submission_at_a_time_is_marked_until_a_job_was_listed_with_its_mark() {
    let mut bench = bench();
    let first = bench.marked(1, VIDEO);
    assert!(!bench.may_mark(2));
    assert!(bench.pool.mark_submission(first).is_some(), "asked again");
    let other = bench.submission(3, IMAGE);
    assert!(bench.pool.mark_submission(other).is_some());
    bench.accept(first, 4, 6, "boat");
    assert!(!bench.may_mark(5), "no round has listed it yet");
    bench.marked_round(10, &[(6, "a@x", Some(first))]);
    assert_eq!(bench.changes(), [MarksKnown::Proven]);
    let marked = [11, 12].map(|seconds| bench.marked(seconds, VIDEO));
    assert_ne!(marked[0], marked[1]);
}

#[test]
fn a_lost_submission_that_is_listed_with_its_mark_proves_it_too() {
    let mut bench = bench();
    let lost = bench.marked_and_lost(1, VIDEO, "boat");
    bench.marked_round(10, &[(6, "a@x", Some(lost))]);
    assert_eq!(bench.changes(), [MarksKnown::Proven]);
}

#[test]
fn a_run_that_no_round_lists_proves_nothing() {
    let mut bench = bench();
    let first = bench.marked(1, VIDEO);
    bench.accept(first, 2, 6, "boat");
    bench.marked_round(10, &[]);
    bench.pool.job_over(&task(6), at(11));
    bench.marked_round(20, &[]);
    assert_eq!(bench.in_use(), Slots::NONE);
    let second = bench.marked(21, VIDEO);
    assert!(!bench.may_mark(22), "{second} is the only one");
    assert_eq!(bench.changes(), []);
}

#[test]
fn an_operation_is_marked_no_more_after_three_jobs_were_listed_without_their_marks() {
    let mut bench = bench();
    for nth in 1..=3 {
        assert!(bench.may_mark(10 * nth), "{nth}");
        let seconds = 10 * nth + 1;
        bench.accepted_and_listed(seconds, nth, false);
        // Once is enough for one job.
        bench.marked_round(seconds + 1, &[(nth, "a@x", None)]);
    }
    assert_eq!(bench.changes(), [MarksKnown::Dropped]);
    assert!(!bench.may_mark(50));
    assert_eq!(
        bench.pool.marks.record(&VIDEO.into()),
        Some(LearntMarks::Off)
    );
    let other = bench.submission(51, IMAGE);
    assert!(bench.pool.mark_submission(other).is_some());
}

#[test]
fn a_job_that_is_listed_before_its_answer_comes_counts_too() {
    let mut bench = bench();
    let first = bench.marked(1, VIDEO);
    bench.marked_round(10, &[(6, "a@x", None)]);
    bench.accept(first, 11, 6, "boat");
    bench.marked_round(20, &[]);
    let again = bench.marked(21, VIDEO);
    bench.accept(again, 22, 7, "boat");
    bench.marked_round(30, &[(7, "a@x", None)]);
    bench.accepted_and_listed(40, 8, false);
    assert_eq!(bench.changes(), [MarksKnown::Dropped]);
}

#[test]
fn a_job_without_its_mark_takes_the_proof_back() {
    let mut bench = bench();
    bench.accepted_and_listed(1, 1, true);
    bench.accepted_and_listed(10, 2, false);
    assert_eq!(bench.changes(), [MarksKnown::Proven, MarksKnown::Doubted]);
    assert_eq!(bench.pool.marks.record(&VIDEO.into()), None);
    let canary = bench.marked(20, VIDEO);
    assert!(!bench.may_mark(21));
    // A missing mark proves nothing again.
    bench.claim_for(canary);
    bench.lose(canary, 22, "boat");
    bench.marked_round(30, &[(3, "a@x", None)]);
    assert_eq!(bench.job_of(canary).as_deref(), Some("3"));
}

#[test]
fn two_failures_in_a_row_end_the_marks_of_a_run() {
    let mut bench = bench();
    let lost = bench.marked(1, VIDEO);
    bench.lose(lost, 1, "boat");
    bench.lose(lost, 2, "boat");
    bench.marked_round(122, &[]);
    bench.marked_round(123, &[]);
    bench.accepted_and_listed(130, 6, true);
    for (nth, seconds) in [(1, 140), (2, 141)] {
        assert!(bench.may_mark(seconds), "{nth}");
        let lost = bench.marked(seconds, VIDEO);
        bench.lose(lost, seconds, "boat");
    }
    assert!(!bench.may_mark(150));
    assert_eq!(bench.changes(), [MarksKnown::Proven, MarksKnown::Suspended]);
    let pick = bench.take_marked(151, VIDEO, Some(TTL));
    assert_eq!(pick.mark, None, "clients are not told to use one");
    // The next run may try again.
    assert_eq!(
        bench.pool.marks.record(&VIDEO.into()),
        Some(LearntMarks::Proven)
    );
}

#[test]
fn server_errors_that_refuse_count_until_marks_are_proven() {
    for is_proven in [false, true] {
        let mut bench = bench();
        if is_proven {
            bench.prove(VIDEO);
        }
        for seconds in [1, 2] {
            let id = bench.marked(seconds, VIDEO);
            bench.pool.note_mark_fault(id, MarkFault::ServerError);
            bench.pool.refuse(id, Blame::Request, at(seconds));
        }
        assert_eq!(bench.may_mark(3), is_proven);
    }
}

#[test]
fn an_operation_that_is_taken_only_without_marks_is_marked_no_more() {
    for is_accepted in [false, true] {
        let mut bench = bench();
        bench.prove(VIDEO);
        let id = bench.marked(1, VIDEO);
        bench.claim_for(id);
        bench.pool.note_mark_fault(id, MarkFault::Refused);
        assert_eq!(bench.pool.lease(id).unwrap().mark, None);
        if is_accepted {
            bench.pool.note_mark_fault(id, MarkFault::AcceptedWithout);
            bench.accept(id, 2, 6, "boat");
            bench.marked_round(10, &[(6, "a@x", None)]);
            assert_eq!(bench.changes(), [MarksKnown::Refused]);
            assert!(!bench.may_mark(11));
        } else {
            // It was sent without its mark, so a job without one may be its own.
            bench.lose(id, 2, "boat");
            bench.marked_round(10, &[(6, "a@x", None)]);
            bench.decide(11, &whole(&[(6, "boat")]));
            assert_eq!(bench.fate(id), Fate::Job(task(6)));
            assert!(bench.may_mark(11));
        }
    }
}

#[test]
fn what_was_learnt_is_kept_over_a_restart() {
    let mut bench = bench();
    bench.prove(VIDEO);
    bench.pool.marks.restore(&IMAGE.into(), LearntMarks::Off);
    let marked = [1, 2].map(|seconds| bench.marked(seconds, VIDEO));
    assert_ne!(marked[0], marked[1]);
    let off = bench.submission(3, IMAGE);
    assert_eq!(bench.pool.mark_submission(off), None);
    let learnt = [VIDEO, IMAGE, "/other"].map(|name| bench.pool.marks.record(&name.into()));
    assert_eq!(
        learnt,
        [Some(LearntMarks::Proven), Some(LearntMarks::Off), None]
    );
}

#[test]
fn nothing_is_marked_where_nobody_looks() {
    let mut bench = Bench::new(&[("a@x", 2)]);
    let id = bench.submission(0, VIDEO);
    assert_eq!(bench.pool.mark_submission(id), None);
    assert_eq!(bench.pool.lease(id).unwrap().mark, None);
}
