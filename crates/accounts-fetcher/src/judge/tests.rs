use super::*;

fn listed(json: &str) -> Answer {
    Answer::Listed(List::parse(json.as_bytes()).unwrap())
}

/// A list of the accounts `0@x`, `1@x`, …, as many as `count`.
fn crowd(count: usize) -> Answer {
    let entries: Vec<_> = (0..count).map(|n| format!(r#""{n}@x":{{}}"#)).collect();
    listed(&format!("{{{}}}", entries.join(",")))
}

fn judge_who_knows(answer: Answer) -> Judge {
    let mut judge = Judge::default();
    assert_eq!(judge.decide(answer).result, FetchResult::Ok);
    judge
}

fn known_count(judge: &Judge) -> usize {
    judge
        .last_good()
        .map_or(0, |snapshot| snapshot.accounts.len())
}

#[test]
fn the_first_list_is_believed_at_once() {
    let verdict = Judge::default().decide(crowd(3));
    let change = Change {
        is_any: true,
        added: 3,
        removed: 0,
        changed: 0,
    };
    assert_eq!(
        verdict,
        Verdict {
            result: FetchResult::Ok,
            change: Some(change)
        }
    );
}

#[test]
fn an_unchanged_list_is_the_same_snapshot() {
    let mut judge = judge_who_knows(crowd(3));
    let before = Arc::clone(judge.last_good().unwrap());
    assert_eq!(judge.decide(crowd(3)).change, Some(Change::default()));
    assert!(Arc::ptr_eq(&before, judge.last_good().unwrap()));
}

#[test]
fn a_change_is_counted_by_account() {
    let mut judge = judge_who_knows(listed(r#"{"a@x":{},"b@x":{},"c@x":{}}"#));
    let verdict = judge.decide(listed(
        r#"{"d@x":{},"b@x":{"maxJobs":9},"a@X":{},"e@x":{}}"#,
    ));
    let change = Change {
        is_any: true,
        added: 2,
        removed: 1,
        changed: 2,
    };
    assert_eq!(
        verdict.change,
        Some(change),
        "another spelling is a change of the same account"
    );
    let emails: Vec<_> = judge
        .last_good()
        .unwrap()
        .accounts
        .iter()
        .map(|a| &*a.email)
        .collect();
    assert_eq!(emails, ["d@x", "b@x", "a@X", "e@x"]);
}

#[test]
fn another_order_is_another_snapshot() {
    let mut judge = judge_who_knows(listed(r#"{"a@x":{},"b@x":{}}"#));
    let change = judge
        .decide(listed(r#"{"b@x":{},"a@x":{}}"#))
        .change
        .unwrap();
    assert_eq!(
        change,
        Change {
            is_any: true,
            ..Change::default()
        }
    );
}

#[test]
fn an_empty_list_is_believed_the_third_time_in_a_row() {
    for mut judge in [Judge::default(), judge_who_knows(crowd(2))] {
        let before = known_count(&judge);
        assert_eq!(judge.decide(crowd(0)).result, FetchResult::EmptyHeld);
        let held = Verdict {
            result: FetchResult::EmptyHeld,
            change: None,
        };
        assert_eq!(judge.decide(crowd(0)), held);
        assert_eq!(known_count(&judge), before);
        let verdict = judge.decide(crowd(0));
        assert_eq!(verdict.result, FetchResult::Empty);
        assert_eq!(verdict.change.unwrap().removed, before);
        assert!(judge.last_good().unwrap().accounts.is_empty());
    }
}

#[test]
fn not_configured_counts_like_an_empty_list() {
    let mut judge = judge_who_knows(crowd(1));
    let verdict = judge.decide(Answer::NotConfigured);
    assert_eq!(
        verdict,
        Verdict {
            result: FetchResult::NotConfigured,
            change: None
        }
    );
    assert_eq!(judge.decide(crowd(0)).result, FetchResult::EmptyHeld);
    let verdict = judge.decide(Answer::NotConfigured);
    assert_eq!(verdict.result, FetchResult::NotConfigured);
    assert!(
        verdict.change.is_some(),
        "the third of its kind is believed"
    );
}

#[test]
fn anything_in_between_starts_the_row_of_empty_lists_again() {
    let interruptions: [fn(&mut Judge); 2] = [
        |judge| assert_eq!(judge.decide(crowd(4)).result, FetchResult::Ok),
        |judge| judge.note_failure(),
    ];
    for interrupt in interruptions {
        let mut judge = judge_who_knows(crowd(4));
        judge.decide(crowd(0));
        judge.decide(crowd(0));
        interrupt(&mut judge);
        assert_eq!(judge.decide(crowd(0)).result, FetchResult::EmptyHeld);
        assert_eq!(known_count(&judge), 4);
    }
}

#[test]
fn what_is_already_empty_may_stay_empty() {
    let mut judge = Judge::default();
    for _ in 0..EMPTY_CONFIRMATIONS {
        judge.decide(crowd(0));
    }
    judge.note_failure();
    let verdict = judge.decide(crowd(0));
    assert_eq!(
        verdict,
        Verdict {
            result: FetchResult::Empty,
            change: Some(Change::default())
        }
    );
    assert_eq!(
        judge.decide(crowd(9)).result,
        FetchResult::Ok,
        "and may fill at once"
    );
}

#[test]
fn losing_more_than_half_is_held_until_the_next_list_confirms_it() {
    let mut judge = judge_who_knows(crowd(10));
    let held = Verdict {
        result: FetchResult::ShrinkHeld,
        change: None,
    };
    assert_eq!(judge.decide(crowd(4)), held);
    assert_eq!(known_count(&judge), 10);
    assert_eq!(
        judge.decide(crowd(1)).result,
        FetchResult::Ok,
        "the newer list, though it differs"
    );
    assert_eq!(known_count(&judge), 1);
}

#[test]
fn losing_half_is_believed() {
    assert_eq!(
        judge_who_knows(crowd(10)).decide(crowd(5)).result,
        FetchResult::Ok
    );
    assert_eq!(
        judge_who_knows(crowd(3)).decide(crowd(2)).result,
        FetchResult::Ok
    );
    assert_eq!(
        judge_who_knows(crowd(3)).decide(crowd(1)).result,
        FetchResult::ShrinkHeld
    );
}

#[test]
fn a_list_of_strangers_is_a_loss_too() {
    let mut judge = judge_who_knows(crowd(2));
    assert_eq!(
        judge
            .decide(listed(r#"{"a@y":{},"b@y":{},"c@y":{}}"#))
            .result,
        FetchResult::ShrinkHeld
    );
}

#[test]
fn a_flapping_list_is_never_believed() {
    let mut judge = judge_who_knows(crowd(10));
    for _ in 0..5 {
        assert_eq!(judge.decide(crowd(1)).result, FetchResult::ShrinkHeld);
        assert_eq!(judge.decide(crowd(10)).change, Some(Change::default()));
    }
    assert_eq!(known_count(&judge), 10);
}

#[test]
fn a_loss_is_confirmed_across_a_failed_fetch() {
    let mut judge = judge_who_knows(crowd(10));
    assert_eq!(judge.decide(crowd(1)).result, FetchResult::ShrinkHeld);
    judge.note_failure();
    assert_eq!(judge.decide(crowd(1)).result, FetchResult::Ok);
    assert_eq!(known_count(&judge), 1);
}

#[test]
fn a_rejected_entry_keeps_its_previous_value_in_its_new_place() {
    let mut judge = judge_who_knows(listed(r#"{"a@x":{"maxJobs":7},"b@x":{"maxJobs":2}}"#));
    let verdict = judge.decide(listed(
        r#"{"b@x":{"maxJobs":3},"new@x":{"maxJobs":-1},"a@X":{"maxJobs":"8"}}"#,
    ));
    assert_eq!(verdict.result, FetchResult::Partial);
    let expected = [Account::new("b@x", 3), Account::new("a@x", 7)].map(Arc::new);
    assert_eq!(
        *judge.last_good().unwrap().accounts,
        expected,
        "an unknown one is left out"
    );
}

#[test]
fn a_rejected_entry_is_not_a_missing_one() {
    let mut judge = judge_who_knows(listed(r#"{"a@x":{},"b@x":{},"c@x":{}}"#));
    let verdict = judge.decide(listed(r#"{"a@x":{},"b@x":0,"c@x":{"maxJobs":0.5}}"#));
    assert_eq!(verdict.result, FetchResult::Partial);
    assert_eq!(verdict.change, Some(Change::default()));
}
