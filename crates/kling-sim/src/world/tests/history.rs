//! Which rows `GET /tasks` has, and in which order.

use super::*;
use crate::prompt::DOOMED;

/// 2026-01-01T00:00:00Z, when every world of these tests begins.
const EPOCH_MS: u64 = 1_767_225_600_000;

/// A world whose account has started `count` jobs, one a millisecond, the first after one.
fn world(count: u32) -> (World, Vec<TaskId>) {
    let mut world = super::world(JobDuration::Manual, &[("a@x", 500), ("b@x", 1)]);
    let started = (1..=count).map(|n| {
        world.advance_to(Duration::from_millis(n.into()));
        submit(&mut world, json!({"email": "a@x"})).unwrap()
    });
    let ids = started.collect();
    (world, ids)
}

fn ask(world: &World, query: &str) -> Result<Value, Refusal> {
    let head = Head {
        method: Method::GET,
        path: "/v1/kling/tasks".to_owned(),
        query: Some(query.to_owned()),
        headers: HeaderMap::new(),
    };
    world.tasks("a@x", &Call::new(head, String::new()))
}

/// The ids of the history's rows; a row without works has none.
fn ids(world: &World, query: &str) -> Vec<Option<i64>> {
    let list = ask(world, query).unwrap();
    let rows = list["history"].as_array().unwrap().iter();
    rows.map(|row| row["works"].get(0)?["taskId"].as_i64())
        .collect()
}

/// What [`ids`] should be: those of `started` in `range`, newest first.
fn newest(started: &[TaskId], range: std::ops::Range<usize>) -> Vec<Option<i64>> {
    let newest = started[range].iter().rev();
    newest.map(|id| Some(id.get())).collect()
}

#[test]
fn a_page_has_twenty_rows_or_what_was_asked_for_up_to_a_hundred() {
    let (world, started) = world(130);
    for (query, row_count) in [
        ("", 20),
        ("pageSize=1", 1),
        ("pageSize=20", 20),
        ("pageSize=99", 99),
        ("pageSize=100", 100),
        ("pageSize=101", 100),
        ("pageSize=18446744073709551615", 100),
        ("pageSize=0", 20),
        ("pageSize=-1", 20),
        ("pageSize=2.5", 20),
        ("pageSize=many", 20),
        ("pageSize=", 20),
    ] {
        let newest = newest(&started, 130 - row_count..130);
        assert_eq!(ids(&world, query), newest, "{query}");
    }
}

#[test]
fn both_bounds_exclude_the_moment_they_name() {
    let (world, started) = world(5);
    for (bound, at, range) in [
        ("Before", 1, 0..0),
        ("Before", 2, 0..1),
        ("Before", 6, 0..5),
        ("After", 0, 0..5),
        ("After", 4, 4..5),
        ("After", 5, 5..5),
    ] {
        let query = format!("created{bound}={}", EPOCH_MS + at);
        assert_eq!(ids(&world, &query), newest(&started, range), "{query}");
    }
    let after = format!("createdAfter={}&pageSize=2", EPOCH_MS + 1);
    assert_eq!(ids(&world, &after), newest(&started, 3..5), "the newest");
    assert!(ask(&world, "createdBefore=1&createdAfter=1").is_err());
}

#[test]
fn pages_one_before_the_other_tell_of_every_job_once() {
    let (world, started) = world(130);
    let mut told = Vec::new();
    let mut before = EPOCH_MS + 1_000;
    loop {
        let query = format!("pageSize=30&createdBefore={before}");
        let page = ask(&world, &query).unwrap();
        let Some(oldest) = page["history"].as_array().unwrap().last() else {
            break;
        };
        before = oldest["works"][0]["createTime"].as_u64().unwrap();
        told.extend(ids(&world, &query));
    }
    assert_eq!(told, newest(&started, 0..130));
}

#[test]
fn what_runs_what_failed_and_what_a_second_tool_started_is_there_until_it_is_deleted() {
    let (mut world, _) = world(0);
    let ours = submit(&mut world, json!({"email": "a@x"})).unwrap();
    let failed = submit(&mut world, json!({"email": "a@x", "prompt": DOOMED})).unwrap();
    let foreign = world.submit_directly("a@x").unwrap();
    submit(&mut world, json!({"email": "b@x"})).unwrap();
    world.finish(failed);
    let started = [ours, failed, foreign];
    assert_eq!(ids(&world, ""), newest(&started, 0..3));
    let shown = ask(&world, "").unwrap();
    let status = |row: usize| &shown["history"][row]["works"][0]["status_name"];
    assert_eq!(
        [0, 1, 2].map(status),
        ["processing", "failed", "processing"]
    );

    world.stop_tracking(ours).unwrap();
    assert_eq!(ids(&world, ""), newest(&started, 0..3), "without a slot");
    world.finish(foreign);
    world.delete_task("a@x", foreign).unwrap();
    assert_eq!(ids(&world, ""), newest(&started, 0..2));
}

#[test]
fn an_unreadable_row_is_the_first_of_every_page() {
    let (mut world, started) = world(3);
    assert!(world.add_unreadable_history("a@x", true));
    let mut expected = newest(&started, 0..3);
    expected.insert(0, None);
    assert_eq!(ids(&world, ""), expected);
    assert_eq!(ids(&world, "pageSize=2"), expected[..2]);
    let before = format!("createdBefore={EPOCH_MS}");
    assert_eq!(ids(&world, &before), [None]);
    world.set_account("a@x".to_owned(), 7);
    assert_eq!(ids(&world, ""), expected, "resized");

    assert!(world.add_unreadable_history("a@x", false));
    assert_eq!(ids(&world, ""), newest(&started, 0..3));
    assert!(!world.add_unreadable_history("nobody@x", true));
}
