//! Idempotency keys become free only if there is provably no job.

use super::{
    rounds::{RECONCILING, at, learned, task},
    *,
};
use crate::pool::resolutions::Resolutions;

const VIDEO: &str = "/videos/text2video";

/// What a key says about its submission.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is undecided.
    Open,
    /// There is this job.
    Job(TaskId),
    /// There is none: the key is free.
    NoJob,
}

fn claim(word: &str) -> Claim {
    Claim {
        key: Key::new(word),
        fingerprint: Fingerprint::of(["1"]),
    }
}

/// A body whose fingerprint and prompt are those of `text`.
fn body(text: &str) -> Body {
    Body {
        operation: VIDEO.into(),
        fingerprint: Fingerprint::of([text]),
        prompt: Some(Digest::of(text)),
    }
}

fn row(id: u64, prompt: &str) -> HistoryRow {
    HistoryRow {
        task_id: task(id),
        task_type: Some("video".into()),
        prompt: Some(Digest::of(prompt)),
        created_ms: Some(1000 + i64::try_from(id).unwrap()),
        result: None,
    }
}

pub(super) fn whole(rows: &[(u64, &str)]) -> History {
    History {
        rows: rows.iter().map(|(id, prompt)| row(*id, prompt)).collect(),
        is_whole: true,
        has_unreadable: false,
    }
}

impl Bench {
    /// Claims a key for the submission of a lease.
    pub(super) fn claim_for(&mut self, id: LeaseId) {
        let claim = claim(&id.to_string());
        self.pool.claim(&claim, id, Kind::Forward).unwrap();
    }

    pub(super) fn fate(&self, id: LeaseId) -> Fate {
        match self.pool.recall(&claim(&id.to_string())) {
            None => Fate::NoJob,
            Some(Known::Job { task_id, .. }) => Fate::Job(task_id),
            Some(Known::InUse(_)) => Fate::Open,
            Some(known) => panic!("{known:?}"),
        }
    }

    fn candidates(&self, id: LeaseId) -> Vec<TaskId> {
        match self.pool.recall(&claim(&id.to_string())) {
            Some(Known::InUse(tasks)) => tasks,
            other => panic!("{other:?}"),
        }
    }

    fn settle(&mut self, id: LeaseId, text: &str, settlement: Settlement, seconds: u64) {
        let email = Name::new("a@x");
        let body = Some(body(text));
        self.pool
            .settle(id, Some(&email), body, settlement, at(seconds));
    }

    /// A submission that is accepted as the job `id` and ends.
    pub(super) fn accepted_job(&mut self, seconds: u64, id: u64, text: &str) -> LeaseId {
        let lease = self.forward(seconds);
        self.accept(lease, seconds, id, text);
        assert!(self.pool.end(lease, Cause::Finished, at(seconds)));
        lease
    }

    pub(super) fn accept(&mut self, lease: LeaseId, seconds: u64, id: u64, text: &str) {
        let task_id = task(id);
        let task_type = Some("video".into());
        let accepted = Settlement::Accepted { task_id, task_type };
        self.settle(lease, text, accepted, seconds);
    }

    /// A submission under a key that is lost.
    fn lost(&mut self, seconds: u64, text: &str) -> LeaseId {
        let lease = self.forward(seconds);
        self.claim_for(lease);
        self.lose(lease, seconds, text);
        lease
    }

    pub(super) fn lose(&mut self, lease: LeaseId, seconds: u64, text: &str) {
        let sent_ago = Duration::ZERO;
        self.settle(lease, text, Settlement::Uncertain { sent_ago }, seconds);
    }

    /// Two rounds that list no job, long enough after `seconds` for everything lost by then.
    fn absent_rounds(&mut self, seconds: u64) -> u64 {
        self.round(seconds + 120, &[]);
        self.round(seconds + 121, &[]);
        seconds + 122
    }

    pub(super) fn decide(&mut self, seconds: u64, history: &History) -> usize {
        let email = Name::new("a@x");
        self.pool
            .decide_by_history(&email, history, at(seconds), at(seconds))
    }
}

pub(super) fn bench() -> Bench {
    learned(RECONCILING, &[("a@x", 9)])
}

#[test]
fn a_job_that_came_and_went_unseen_is_found_in_the_history() {
    let mut bench = bench();
    bench.accepted_job(1, 10, "other");
    let lost = bench.lost(2, "boat");
    let now = bench.absent_rounds(2);
    assert!(bench.pool.take_history_due());
    assert_eq!(bench.in_use(), Slots::NONE, "the slot is free");
    assert_eq!(bench.fate(lost), Fate::Open, "the key is not");
    let undecided = bench.pool.undecided();
    assert_eq!(undecided.len(), 1);
    assert_eq!(&*undecided[0].email, "a@x");
    assert_eq!(bench.decide(now, &whole(&[(11, "boat"), (10, "other")])), 1);
    assert_eq!(bench.fate(lost), Fate::Job(task(11)));
    assert!(bench.pool.undecided().is_empty());
}

#[test]
fn a_submission_that_never_was_frees_its_key_once_the_history_proves_it() {
    let mut bench = bench();
    bench.accepted_job(1, 10, "other");
    let lost = bench.lost(2, "boat");
    let now = bench.absent_rounds(2);
    assert_eq!(bench.decide(now, &whole(&[(10, "other")])), 1);
    assert_eq!(bench.fate(lost), Fate::NoJob);
}

#[test]
fn absence_is_not_proven_by_a_history_that_may_hide_the_job() {
    let older = [(10, "other")];
    let cut = History {
        is_whole: false,
        ..whole(&[(12, "x")])
    };
    let unreadable = History {
        has_unreadable: true,
        ..whole(&older)
    };
    // Histories may show no job of this operation, because none has shown one yet.
    let unproven = whole(&[]);
    for (history, why) in [
        (cut, "cut"),
        (unreadable, "unreadable"),
        (unproven, "unproven"),
    ] {
        let mut bench = bench();
        bench.accepted_job(1, 10, "other");
        let lost = bench.lost(2, "boat");
        let now = bench.absent_rounds(2);
        assert_eq!(bench.decide(now, &history), 0, "{why}");
        assert_eq!(bench.fate(lost), Fate::Open, "{why}");
        assert_eq!(bench.decide(now, &whole(&older)), 1, "and then it is");
        assert_eq!(bench.fate(lost), Fate::NoJob);
    }
}

#[test]
fn a_history_that_was_asked_for_before_the_slot_was_free_decides_nothing() {
    let mut bench = bench();
    bench.accepted_job(1, 10, "other");
    let lost = bench.lost(2, "boat");
    let now = bench.absent_rounds(2);
    let email = Name::new("a@x");
    let history = whole(&[(10, "other")]);
    let decided = bench
        .pool
        .decide_by_history(&email, &history, at(now - 10), at(now));
    assert_eq!((decided, bench.fate(lost)), (0, Fate::Open));
}

#[test]
fn what_may_be_its_job_keeps_a_key_in_use_and_is_named() {
    let mut bench = bench();
    bench.accepted_job(1, 10, "other");
    let lost = bench.lost(2, "boat");
    let now = bench.absent_rounds(2);
    let hidden = |id| HistoryRow {
        prompt: None,
        task_type: None,
        ..row(id, "")
    };
    let mut history = whole(&[(10, "other")]);
    history.rows.insert(0, hidden(12));
    history.rows.insert(0, hidden(13));
    assert_eq!(bench.decide(now, &history), 0);
    assert_eq!(bench.candidates(lost), [task(13), task(12)]);
    // The reply of another submission names one of the two jobs, so the other one is left.
    let late = bench.forward(now);
    bench.accept(late, now, 13, "late");
    assert_eq!(bench.decide(now + 1, &history), 1);
    assert_eq!(bench.fate(lost), Fate::Job(task(12)));
}

#[test]
fn submissions_with_other_prompts_are_told_apart_and_equal_ones_share_equal_tasks() {
    let mut bench = bench();
    bench.accepted_job(1, 10, "other");
    let lost: Vec<_> = ["boat", "tree", "boat", "boat", "house"]
        .into_iter()
        .zip(2..)
        .map(|(text, seconds)| bench.lost(seconds, text))
        .collect();
    let now = bench.absent_rounds(7);
    let history = whole(&[(13, "boat"), (12, "tree"), (11, "boat"), (10, "other")]);
    assert_eq!(bench.decide(now, &history), 5);
    let fates: Vec<_> = lost.iter().map(|id| bench.fate(*id)).collect();
    let expected = [
        Fate::Job(task(11)),
        Fate::Job(task(12)),
        Fate::Job(task(13)),
        Fate::NoJob,
        Fate::NoJob,
    ];
    assert_eq!(fates, expected);
}

#[test]
fn another_prompt_proves_nothing_where_prompts_are_rewritten() {
    let mut bench = bench();
    bench.accepted_job(1, 10, "other");
    let lost = bench.lost(2, "boat");
    let now = bench.absent_rounds(2);
    let history = whole(&[(11, "a fine boat"), (10, "a fine other")]);
    assert_eq!(bench.decide(now, &history), 0);
    assert_eq!(bench.candidates(lost), [task(11)]);
}

#[test]
fn more_equal_tasks_than_submissions_cannot_be_told_apart() {
    let mut bench = bench();
    bench.accepted_job(1, 10, "other");
    let lost = bench.lost(2, "boat");
    let now = bench.absent_rounds(2);
    let history = whole(&[(12, "boat"), (11, "boat"), (10, "other")]);
    assert_eq!(bench.decide(now, &history), 0);
    assert_eq!(bench.candidates(lost), [task(12), task(11)]);
}

#[test]
fn a_task_that_a_round_gave_to_an_equal_submission_is_not_shared_out_again() {
    let mut bench = bench();
    bench.accepted_job(1, 10, "other");
    let [first, second] = [2, 3].map(|seconds| bench.lost(seconds, "boat"));
    bench.round(10, &[(11, "a@x")]);
    let history = whole(&[(11, "boat"), (10, "other")]);
    assert_eq!(bench.decide(11, &history), 1);
    assert_eq!(bench.fate(first), Fate::Job(task(11)));
    bench.round(130, &[(11, "a@x")]);
    bench.round(131, &[(11, "a@x")]);
    assert_eq!(bench.fate(second), Fate::Open);
    assert_eq!(bench.decide(132, &history), 1);
    assert_eq!(bench.fate(second), Fate::NoJob);
}

#[test]
fn a_lost_submission_without_a_key_may_own_a_task_too() {
    let mut bench = bench();
    bench.accepted_job(1, 10, "other");
    let unkeyed = bench.forward(2);
    bench.lose(unkeyed, 2, "tree");
    let lost = bench.lost(3, "boat");
    let now = bench.absent_rounds(3);
    let hidden = History {
        rows: vec![
            HistoryRow {
                prompt: None,
                ..row(11, "")
            },
            row(10, "other"),
        ],
        ..whole(&[])
    };
    assert_eq!(bench.decide(now, &hidden), 0, "it may be either's");
    assert_eq!(bench.candidates(lost), [task(11)]);
    assert_eq!(
        bench.decide(now + 1, &whole(&[(11, "tree"), (10, "other")])),
        1
    );
    assert_eq!(bench.fate(lost), Fate::NoJob);
}

#[test]
fn tasks_of_before_are_older_also_by_the_vendors_clock() {
    let mut bench = bench();
    bench.accepted_job(1, 10, "other");
    let lost = bench.lost(2, "boat");
    let now = bench.absent_rounds(2);
    // The history lists the task in front of a known one, though it was created earlier.
    let mut history = whole(&[(9, "boat"), (10, "other"), (8, "boat")]);
    history.is_whole = false;
    assert_eq!(bench.decide(now, &history), 1);
    assert_eq!(bench.fate(lost), Fate::NoJob);
}

#[test]
fn a_key_that_cannot_be_decided_is_free_after_a_day() {
    let mut bench = bench();
    let lost = bench.lost(2, "boat");
    let now = bench.absent_rounds(2) - 1;
    let end = at(now) + REMEMBERED_FOR;
    bench
        .pool
        .expire(end - Duration::from_nanos(1), &mut bench.rng);
    assert_eq!(bench.fate(lost), Fate::Open);
    bench.pool.expire(end, &mut bench.rng);
    assert_eq!(bench.fate(lost), Fate::NoJob);
    assert!(bench.pool.undecided().is_empty());
}

#[test]
fn giving_a_lost_lease_back_by_hand_frees_its_key() {
    let mut bench = bench();
    let lost = bench.lost(2, "boat");
    assert!(bench.pool.release(lost, at(3)));
    assert_eq!(bench.fate(lost), Fate::NoJob);
}

#[test]
fn a_refusal_frees_the_key_and_a_job_keeps_it_for_a_day() {
    for settlement in [
        Settlement::Refused(Blame::Request),
        Settlement::NotSent,
        Settlement::Undelivered,
    ] {
        let mut bench = bench();
        let lease = bench.forward(1);
        bench.claim_for(lease);
        bench.settle(lease, "boat", settlement, 2);
        assert_eq!(bench.fate(lease), Fate::NoJob);
        assert_eq!(bench.in_use(), Slots::NONE);
    }
    let mut bench = bench();
    let lease = bench.forward(1);
    bench.claim_for(lease);
    bench.accept(lease, 2, 11, "boat");
    assert!(bench.pool.end(lease, Cause::Finished, at(50)));
    let end = at(50) + REMEMBERED_FOR;
    bench
        .pool
        .expire(end - Duration::from_nanos(1), &mut bench.rng);
    assert_eq!(bench.fate(lease), Fate::Job(task(11)));
    bench.pool.expire(end, &mut bench.rng);
    assert_eq!(bench.fate(lease), Fate::NoJob);
}

#[test]
fn a_lease_that_was_given_back_in_mid_submission_leaves_its_key_to_the_answer() {
    for is_lost in [false, true] {
        let mut bench = bench();
        let lease = bench.forward(1);
        bench.claim_for(lease);
        assert!(bench.pool.release(lease, at(2)));
        assert_eq!(bench.fate(lease), Fate::Open, "it is on its way");
        if is_lost {
            bench.lose(lease, 3, "boat");
            assert_eq!(bench.fate(lease), Fate::Open);
        } else {
            bench.accept(lease, 3, 11, "boat");
            assert_eq!(bench.fate(lease), Fate::Job(task(11)));
            assert_eq!(
                bench.in_use(),
                Slots::foreign(1),
                "the job runs all the same"
            );
        }
    }
}

#[test]
fn settlements_take_effect_once() {
    let mut bench = bench();
    let lease = bench.forward(1);
    for _ in 0..2 {
        bench.accept(lease, 2, 11, "boat");
        assert_eq!(bench.in_use(), Slots::held(1));
    }
    bench.lose(lease, 3, "boat");
    assert_eq!(bench.in_use(), Slots::held(1), "its answer came");
    let refused = bench.forward(4);
    for _ in 0..2 {
        bench.settle(refused, "boat", Settlement::Refused(Blame::Request), 5);
        assert_eq!(bench.in_use(), Slots::held(1));
    }
}

#[test]
fn a_picks_key_leads_to_its_lease_as_long_as_that_is_held() {
    let mut bench = bench();
    let id = bench.take(1, Some(TTL));
    let claim = claim("k");
    bench.pool.claim(&claim, id, Kind::Pick).unwrap();
    assert_eq!(
        bench.pool.claim(&claim, id, Kind::Pick),
        Ok(()),
        "the same call"
    );
    let other = LeaseId::random(&mut bench.rng);
    let held = bench.pool.claim(&claim, other, Kind::Pick).unwrap_err();
    assert!(matches!(held, Known::Held(lease) if lease.id == id));
    let another_call = Claim {
        fingerprint: Fingerprint::of(["2"]),
        ..claim.clone()
    };
    let reused = bench.pool.claim(&another_call, other, Kind::Pick);
    assert_eq!(reused, Err(Known::Reused));
    assert!(bench.pool.release(id, at(2)));
    bench.pool.claim(&another_call, other, Kind::Pick).unwrap();
}

#[test]
fn a_waiter_that_leaves_frees_its_key() {
    let mut bench = learned(RECONCILING, &[("a@x", 1)]);
    bench.take(1, Some(TTL));
    let ask = bench.ask(None, &[]);
    let id = ask.lease_id;
    bench.pool.claim(&claim("k"), id, Kind::Pick).unwrap();
    let Ok(Admission::Queued(waiter)) = bench.pool.pick_or_wait(ask, at(1), &mut bench.rng) else {
        panic!("a slot was free");
    };
    assert_eq!(
        bench.pool.recall(&claim("k")),
        Some(Known::InUse(Vec::new()))
    );
    assert!(bench.pool.leave(waiter));
    assert_eq!(bench.pool.recall(&claim("k")), None);
}

#[test]
fn a_full_table_refuses_new_keys_and_forgets_none() {
    let mut bench = bench();
    bench.pool.resolutions = Resolutions::new(4, true);
    let leases: Vec<_> = (0..4)
        .map(|seconds| {
            let lease = bench.forward(seconds);
            bench.claim_for(lease);
            lease
        })
        .collect();
    let new = LeaseId::random(&mut bench.rng);
    let full = bench.pool.claim(&claim("new"), new, Kind::Forward);
    assert_eq!(full, Err(Known::Full));
    for lease in &leases {
        assert_eq!(bench.fate(*lease), Fate::Open);
    }
    bench.settle(leases[0], "boat", Settlement::NotSent, 5);
    bench.pool.claim(&claim("new"), new, Kind::Forward).unwrap();
}

#[test]
fn an_account_with_an_undecided_submission_is_not_forgotten() {
    let mut bench = learned(RECONCILING, &[("a@x", 9), ("b@x", 0)]);
    bench.accepted_job(1, 10, "other");
    bench.lost(2, "boat");
    let now = bench.absent_rounds(2);
    bench.apply(&[("b@x", 0)], at(now));
    assert!(bench.pool.account("a@x").is_ok());
    assert_eq!(bench.decide(now, &whole(&[(10, "other")])), 1);
    assert!(bench.pool.account("a@x").is_err());
}
