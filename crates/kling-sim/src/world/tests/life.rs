//! When a slot returns, what jobs are refused, what ids look like.

use super::*;

fn lagging(release_lag: Duration, tracking: Duration) -> World {
    let settings = Settings {
        job_duration: MINUTE,
        release_lag: release_lag..=release_lag,
        tracking,
        ..Settings::default()
    };
    world_with(settings, &[("a@x", 1)])
}

/// Final in `GET /tasks/{id}`, counted on the account, listed by the scheduler.
fn seen(world: &World, id: TaskId) -> (bool, u32, usize) {
    let task = world.task("a@x", id).unwrap();
    let listed = world.scheduler().as_array().unwrap().len();
    let available = world.scheduler_available();
    assert_eq!(available["executing"].as_array().unwrap().len(), listed);
    assert_eq!(available["available"][0]["executing"], listed);
    let is_final = task["status_final"].as_bool().unwrap();
    (is_final, world.executing("a@x"), listed)
}

#[test]
fn a_slot_returns_as_long_after_the_end_as_the_lag_says() {
    let mut world = lagging(Duration::from_secs(2), Duration::from_hours(1));
    let id = submit(&mut world, json!({})).unwrap();
    for (at, expected) in [
        (59, (false, 1, 1)),
        (60, (true, 1, 1)),
        (61, (true, 1, 1)),
        (62, (true, 0, 0)),
    ] {
        world.advance_to(Duration::from_secs(at));
        assert_eq!(seen(&world, id), expected, "after {at} s");
    }
}

#[test]
fn a_job_finished_by_hand_lags_too_and_can_be_let_go_at_once() {
    let mut world = lagging(Duration::from_secs(2), Duration::from_hours(1));
    let id = submit(&mut world, json!({})).unwrap();
    assert_eq!(world.finish_all(), 1);
    assert_eq!(seen(&world, id), (true, 1, 1));
    world.stop_tracking(id).unwrap();
    assert_eq!(seen(&world, id), (true, 0, 0));
    world.advance_to(Duration::from_secs(2));
    assert_eq!(world.executing("a@x"), 0, "freed once");
    assert_eq!(world.finish_all(), 0);
}

#[test]
fn lags_are_drawn_within_their_range() {
    let settings = Settings {
        job_duration: JobDuration::Manual,
        release_lag: Duration::ZERO..=Duration::from_secs(30),
        ..Settings::default()
    };
    let mut world = world_with(settings, &[("a@x", 50)]);
    for _ in 0..50 {
        submit(&mut world, json!({})).unwrap();
    }
    world.finish_all();
    world.advance_to(Duration::from_secs(15));
    let left = world.executing("a@x");
    assert!((1..50).contains(&left), "{left} of 50 after half the range");
    world.advance_to(Duration::from_secs(30));
    assert_eq!(world.executing("a@x"), 0);
}

#[test]
fn both_answers_of_the_scheduler_show_the_same_rows() {
    let mut world = world(MINUTE, &[("a@x", 3)]);
    let told = [
        json!({"replyUrl": "https://h.example/cb", "replyRef": "r1"}),
        json!({"replyRef": "r2", "replyUrl": ""}),
        json!({}),
    ];
    for fields in told {
        submit(&mut world, fields).unwrap();
    }
    let rows = world.scheduler();
    assert_eq!(world.scheduler_available()["executing"], rows);
    let shown = [0, 1, 2].map(|row| (rows[row].get("replyUrl"), rows[row].get("replyRef")));
    let (url, first, second) = (json!("https://h.example/cb"), json!("r1"), json!("r2"));
    let expected = [
        (Some(&url), Some(&first)),
        (None, Some(&second)),
        (None, None),
    ];
    assert_eq!(shown, expected);
}

#[test]
fn a_job_past_its_tracking_leaves_the_scheduler_and_goes_on() {
    let mut world = lagging(Duration::from_secs(2), Duration::from_secs(30));
    let id = submit(&mut world, json!({})).unwrap();
    world.advance_to(Duration::from_secs(29));
    assert_eq!(seen(&world, id), (false, 1, 1));
    world.advance_to(Duration::from_secs(30));
    assert_eq!(seen(&world, id), (false, 0, 0));
    world.advance_to(Duration::from_secs(60));
    assert_eq!(seen(&world, id), (true, 0, 0));
}

#[test]
fn a_job_is_tracked_for_an_hour() {
    let mut world = world(JobDuration::Manual, &[("a@x", 1)]);
    let id = submit(&mut world, json!({})).unwrap();
    world.advance_to(Duration::from_secs(3599));
    assert_eq!(seen(&world, id), (false, 1, 1));
    world.advance_to(Duration::from_secs(3600));
    assert_eq!(seen(&world, id), (false, 0, 0));
}

#[test]
fn a_forbidden_prompt_starts_nothing_and_a_doomed_one_fails_in_the_end() {
    let mut world = world(MINUTE, &[("a@x", 1)]);
    let refused = submit(&mut world, json!({"prompt": "a forbidden boat"}));
    assert_eq!(refused, Err(Refusal::Moderated));
    assert_eq!(world.executing("a@x"), 0);
    let id = submit(&mut world, json!({"prompt": "a doomed boat"})).unwrap();
    assert_eq!(seen(&world, id), (false, 1, 1));
    world.advance_to(Duration::from_secs(60));
    assert_eq!(seen(&world, id), (true, 0, 0));
    let task = world.task("a@x", id).unwrap();
    assert_eq!(
        (&task["status"], &task["status_name"]),
        (&json!(50), &json!("failed"))
    );
    assert_eq!(
        (&task["error"], &task["works"]),
        (&json!("Generation failed"), &json!([]))
    );
    assert_eq!(world.delete_task("a@x", id), Err(Refusal::NoWorks { id }));
}

#[test]
fn many_outputs_take_one_slot_and_numbers_of_their_own() {
    let mut world = world(MINUTE, &[("a@x", 3)]);
    let nine = submit(&mut world, json!({"imageCount": 9})).unwrap();
    let two = submit(&mut world, json!({"count": "2"})).unwrap();
    assert_eq!(world.executing("a@x"), 2);
    world.advance_to(Duration::from_secs(60));
    let deleted = [nine, two].map(|id| world.delete_task("a@x", id).unwrap());
    let work_ids = deleted
        .iter()
        .flat_map(|one| one["workIds"].as_array().unwrap());
    let distinct: std::collections::BTreeSet<i64> =
        work_ids.map(|id| id.as_i64().unwrap()).collect();
    assert_eq!(distinct.len(), 11);
}

#[test]
fn ids_have_the_digits_asked_for_and_grow() {
    let cases = [
        (
            TaskIds::Digits15,
            100_000_000_000_000..=1_000_000_000_000_000,
        ),
        (
            TaskIds::Digits18,
            100_000_000_000_000_000..=999_999_999_999_999_999,
        ),
        (
            TaskIds::Negative,
            -1_000_000_000_000_000..=-100_000_000_000_000,
        ),
    ];
    for (task_ids, expected) in cases {
        let settings = Settings {
            task_ids,
            ..Settings::default()
        };
        let mut world = world_with(settings, &[("a@x", 50)]);
        let ids: Vec<i64> = (0..50)
            .map(|_| submit(&mut world, json!({})).unwrap().get())
            .collect();
        assert!(ids.iter().all(|id| expected.contains(id)), "{ids:?}");
        assert!(ids.is_sorted_by(|a, b| a < b));
    }
}

#[test]
fn an_account_without_credit_refuses_when_it_is_not_full() {
    let mut world = world(MINUTE, &[("a@x", 1)]);
    assert!(world.set_account_credit("a@x", false));
    assert_eq!(submit(&mut world, json!({})), Err(Refusal::NoCredit));
    assert!(world.set_account_credit("a@x", true));
    submit(&mut world, json!({})).unwrap();
    assert!(world.set_account_credit("a@x", false));
    assert_eq!(submit(&mut world, json!({})), Err(at_capacity("a@x", 1, 1)));
    assert!(!world.set_account_credit("nobody@x", false));
}

#[test]
fn a_second_tool_starts_jobs_up_to_the_cap() {
    let mut world = world(MINUTE, &[("a@x", 2)]);
    let started = (0..3)
        .filter_map(|_| world.submit_directly("a@x").ok())
        .count();
    assert_eq!((started, world.executing("a@x")), (2, 2));
    let audit = world.audit();
    let account = audit.account("a@x").unwrap();
    assert_eq!((account.accepted, account.over_limit_foreign), (2, 1));
    assert_eq!(audit.submission_count, 0, "no request, no submission");
}

#[test]
fn jobs_count_however_the_scheduler_lists_them() {
    let mut world = world_with(Settings::default(), &[("a@x", 2), ("b@x", 1)]);
    let id = world.submit_directly("a@x").unwrap();
    world.submit_directly("b@x").unwrap();
    for (rows, listed_fields) in [
        (SchedulerRows::WithoutIds, Some([false, true])),
        (SchedulerRows::WithoutEmails, Some([true, false])),
        (SchedulerRows::Missing, None),
        (SchedulerRows::Whole, Some([true, true])),
    ] {
        assert!(world.set_scheduler_rows("a@x", rows));
        let shown = world.scheduler_available();
        assert_eq!(world.scheduler(), shown["executing"]);
        let listed = shown["executing"].as_array().unwrap();
        let (of_b, of_a): (Vec<_>, Vec<_>) = listed.iter().partition(|row| row["email"] == "b@x");
        assert_eq!(of_b.len(), 1, "{rows:?}");
        let fields = of_a
            .first()
            .map(|row| [row["id"] == json!(id), row["email"] == "a@x"]);
        assert_eq!(fields, listed_fields, "{rows:?}");
        assert_eq!(shown["available"][0]["executing"], 1, "{rows:?}");
    }
    assert!(!world.set_scheduler_rows("nobody@x", SchedulerRows::Missing));
}
