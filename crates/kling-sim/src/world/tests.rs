mod blame;
mod history;
mod life;

use std::time::Duration;

use http::{HeaderMap, Method};
use serde_json::{Value, json};

use super::*;
use crate::{
    body::Fields,
    head::Head,
    operation::{Selector, TEXT_TO_VIDEO},
    outcome::Outcome,
};

const MINUTE: JobDuration = JobDuration::Between(Duration::from_secs(60), Duration::from_secs(60));

fn world(job_duration: JobDuration, accounts: &[(&str, u32)]) -> World {
    let settings = Settings {
        job_duration,
        ..Settings::default()
    };
    world_with(settings, accounts)
}

fn world_with(settings: Settings, accounts: &[(&str, u32)]) -> World {
    let epoch = "2026-01-01T00:00:00Z".parse().unwrap();
    let mut world = World::new(settings, epoch);
    for &(email, max_jobs) in accounts {
        world.set_account(email.to_owned(), max_jobs);
    }
    world
}

/// A request with `body` that has just come.
fn call(world: &World, body: &Value) -> Call {
    let head = Head {
        method: Method::POST,
        path: "/v1/kling/videos/text2video".to_owned(),
        query: None,
        headers: HeaderMap::new(),
    };
    let body = body.to_string();
    Call {
        round: world.rounds(),
        fields: Fields::json(body.as_bytes()),
        body: body.into(),
        ..Call::new(head, String::new())
    }
}

fn submit_call(world: &mut World, call: &Call) -> Result<TaskId, Refusal> {
    let account = world.select(Selector::Body, call);
    let started = world.submit(&TEXT_TO_VIDEO, "/videos/text2video", call, account)?;
    Ok(started.job.id)
}

/// Submits `fields` and, unless they have one, a prompt.
fn submit(world: &mut World, mut fields: Value) -> Result<TaskId, Refusal> {
    if fields["prompt"].is_null() {
        fields["prompt"] = json!("a boat");
    }
    let call = call(world, &fields);
    submit_call(world, &call)
}

fn at_capacity(email: &str, executing: u32, cap: u32) -> Refusal {
    Refusal::AtCapacity {
        email: email.to_owned(),
        executing,
        cap,
    }
}

#[test]
fn a_manual_job_runs_until_it_is_finished_and_only_once() {
    let mut world = world(JobDuration::Manual, &[("a@x", 1)]);
    let id = submit(&mut world, json!({})).unwrap();
    world.advance_to(Duration::from_mins(59));
    assert_eq!(world.task("a@x", id).unwrap()["status_name"], "processing");
    assert_eq!(submit(&mut world, json!({})), Err(at_capacity("a@x", 1, 1)));
    assert!(world.finish(id));
    assert!(!world.finish(id));
    assert_eq!(world.task("a@x", id).unwrap()["status_name"], "succeed");
    submit(&mut world, json!({})).unwrap();
}

#[test]
fn finishing_a_timed_job_early_frees_its_slot_once() {
    let mut world = world(MINUTE, &[("a@x", 2)]);
    let id = submit(&mut world, json!({})).unwrap();
    submit(&mut world, json!({})).unwrap();
    assert!(world.finish(id));
    world.advance_to(Duration::from_secs(59));
    assert_eq!(world.jobs.executing("a@x"), 1);
    world.advance_to(Duration::from_secs(60));
    assert_eq!(world.jobs.executing("a@x"), 0);
}

#[test]
fn refuses_at_the_cap_and_counts_it_as_over_the_limit() {
    let mut world = world(MINUTE, &[("a@x", 2), ("b@x", 1)]);
    for _ in 0..2 {
        submit(&mut world, json!({"email": "a@x"})).unwrap();
    }
    assert_eq!(
        submit(&mut world, json!({"email": "a@x"})),
        Err(at_capacity("a@x", 2, 2))
    );
    submit(&mut world, json!({"email": "b@x"})).unwrap();
    let audit = world.audit();
    let a = audit.account("a@x").unwrap();
    assert_eq!(
        (a.peak, a.executing, a.accepted, a.over_limit()),
        (2, 2, 2, 1)
    );
    assert_eq!(audit.over_limit(), 1);
}

#[test]
fn max_jobs_of_a_call_lowers_the_cap_and_never_raises_it() {
    let mut world = world(MINUTE, &[("a@x", 2)]);
    submit(&mut world, json!({"maxJobs": 1})).unwrap();
    assert_eq!(
        submit(&mut world, json!({"maxJobs": 1})),
        Err(at_capacity("a@x", 1, 1))
    );
    submit(&mut world, json!({"maxJobs": 50})).unwrap();
    assert_eq!(
        submit(&mut world, json!({"maxJobs": 50})),
        Err(at_capacity("a@x", 2, 2))
    );
}

#[test]
fn an_account_resized_below_its_jobs_takes_none_until_they_are_fewer() {
    let mut world = world(JobDuration::Manual, &[("a@x", 3)]);
    let ids: Vec<TaskId> = (0..3)
        .map(|_| submit(&mut world, json!({})).unwrap())
        .collect();
    world.set_account("a@x".to_owned(), 2);
    assert_eq!(world.scheduler_available()["available"][0]["available"], 0);
    world.finish(ids[0]);
    assert_eq!(submit(&mut world, json!({})), Err(at_capacity("a@x", 2, 2)));
    world.finish(ids[1]);
    submit(&mut world, json!({})).unwrap();
}

#[test]
fn a_resized_account_keeps_its_place_and_a_removed_one_keeps_its_audit() {
    let mut world = world(MINUTE, &[("z@x", 1), ("a@x", 1)]);
    submit(&mut world, json!({"email": "z@x"})).unwrap();
    world.set_account("z@x".to_owned(), 9);
    let list = world.account_list();
    assert!(list.find("z@x") < list.find("a@x"), "{list}");
    assert!(world.remove_account("z@x"));
    assert!(!world.remove_account("z@x"));
    let audit = world.audit();
    let removed = audit.account("z@x").unwrap();
    assert_eq!(
        (removed.max_jobs, removed.executing, removed.accepted),
        (0, 1, 1)
    );
    assert_eq!(
        submit(&mut world, json!({"email": "z@x"})),
        Err(Refusal::AccountUnknown)
    );
}

#[test]
fn a_job_no_longer_tracked_frees_its_slot_and_goes_on() {
    let mut world = world(MINUTE, &[("a@x", 1)]);
    let id = submit(&mut world, json!({})).unwrap();
    world.stop_tracking(id).unwrap();
    assert_eq!(world.stop_tracking(id), Err(Refusal::NotRunning { id }));
    assert_eq!(world.scheduler(), json!([]));
    submit(&mut world, json!({})).unwrap();
    world.advance_to(Duration::from_secs(30));
    assert_eq!(world.task("a@x", id).unwrap()["status_name"], "processing");
    world.advance_to(Duration::from_secs(60));
    assert_eq!(world.task("a@x", id).unwrap()["status_name"], "succeed");
}

#[test]
fn only_one_account_needs_no_email() {
    let mut world = world(MINUTE, &[]);
    assert_eq!(submit(&mut world, json!({})), Err(Refusal::NotConfigured));
    world.set_account("a@x".to_owned(), 1);
    submit(&mut world, json!({})).unwrap();
    world.set_account("b@x".to_owned(), 1);
    assert_eq!(submit(&mut world, json!({})), Err(Refusal::EmailRequired));
}

#[test]
fn the_audit_tells_what_became_of_each_submission() {
    let mut world = world(MINUTE, &[("a@x", 1)]);
    let id = submit(&mut world, json!({})).unwrap();
    world.advance_to(Duration::from_secs(1));
    submit(&mut world, json!({"email": "nobody@x"})).unwrap_err();
    let submissions = world.audit().submissions;
    let told: Vec<_> = submissions
        .iter()
        .map(|submission| {
            (
                submission.at.as_secs(),
                submission.email.as_deref(),
                submission.outcome,
            )
        })
        .collect();
    let expected = [
        (0, Some("a@x"), Outcome::Accepted(id)),
        (1, Some("nobody@x"), Outcome::Refused(404)),
    ];
    assert_eq!(told, expected);
    assert_eq!(submissions[0].body, r#"{"prompt":"a boat"}"#);
}

#[test]
fn equal_seeds_give_equal_ids_and_durations_and_others_do_not() {
    let run = |seed| {
        let settings = Settings {
            seed,
            ..Settings::default()
        };
        let mut world = world_with(settings, &[("a@x", 50)]);
        let ids: Vec<TaskId> = (0..50)
            .map(|_| submit(&mut world, json!({})).unwrap())
            .collect();
        let durations: Vec<_> = world
            .jobs
            .tracked()
            .map(|job| job.duration.unwrap())
            .collect();
        (ids, durations)
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1).0, run(2).0);
    assert_ne!(run(1).1, run(2).1);
    let (ids, durations) = run(1);
    assert!(ids.is_sorted_by(|a, b| a < b));
    assert!(ids.iter().all(|id| id.get() < 1 << 53));
    let range = Duration::from_secs(5)..=Duration::from_secs(20);
    assert!(durations.iter().all(|duration| range.contains(duration)));
}

#[test]
fn bounds_of_a_duration_may_come_in_either_order() {
    let (low, high) = (Duration::from_secs(1), Duration::from_secs(2));
    let mut world = world(JobDuration::between(high, low), &[("a@x", 50)]);
    for _ in 0..50 {
        submit(&mut world, json!({})).unwrap();
    }
    assert!(
        world
            .jobs
            .tracked()
            .all(|job| (low..=high).contains(&job.duration.unwrap()))
    );
}
