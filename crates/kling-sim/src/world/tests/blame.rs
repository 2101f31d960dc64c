//! Tests of whose fault an attempt over the limit is.

use super::*;
use crate::{
    audit::AccountAudit,
    origin::{Origin, TOOL_HEADER},
};

/// Jobs end only by hand, so every started job counts until a test finishes it.
fn world(max_jobs: u32) -> World {
    super::world(JobDuration::Manual, &[("a@x", max_jobs)])
}

fn ours(world: &mut World) -> Option<TaskId> {
    submit(world, json!({})).ok()
}

fn foreign(world: &mut World, count: usize) -> Vec<TaskId> {
    let started = (0..count).map(|_| world.submit_directly("a@x").unwrap());
    started.collect()
}

/// An answered `GET /scheduler/available` of ours.
fn round(world: &mut World) {
    world.tell_jobs();
    world.tell_caps();
}

/// Makes an attempt of ours that must find the account full, and returns whose fault it is.
fn blamed(world: &mut World) -> Origin {
    let counts = |world: &World| {
        let AccountAudit {
            over_limit_ours,
            over_limit_foreign,
            ..
        } = world.audit().account("a@x").unwrap().clone();
        (over_limit_ours, over_limit_foreign)
    };
    let before = counts(world);
    assert_eq!(ours(world), None, "refused");
    let after = counts(world);
    match (after.0 - before.0, after.1 - before.1) {
        (1, 0) => Origin::Ours,
        (0, 1) => Origin::Foreign,
        other => panic!("counted once, not {other:?}"),
    }
}

#[test]
fn our_own_jobs_at_the_cap_are_our_fault_rounds_or_not() {
    let mut world = world(2);
    ours(&mut world).unwrap();
    ours(&mut world).unwrap();
    assert_eq!(blamed(&mut world), Origin::Ours);
    world.tell_caps();
    assert_eq!(blamed(&mut world), Origin::Ours);
    round(&mut world);
    assert_eq!(blamed(&mut world), Origin::Ours);
}

#[test]
fn a_foreign_job_never_told_is_not_our_fault() {
    let mut world = world(2);
    round(&mut world);
    round(&mut world);
    ours(&mut world).unwrap();
    foreign(&mut world, 1);
    assert_eq!(blamed(&mut world), Origin::Foreign);
}

#[test]
fn without_rounds_foreign_jobs_are_never_our_fault() {
    let mut world = world(2);
    world.tell_caps();
    foreign(&mut world, 2);
    assert_eq!(blamed(&mut world), Origin::Foreign);
}

#[test]
fn a_foreign_job_told_in_the_last_round_is_excused_and_one_told_before_it_is_not() {
    let mut world = world(2);
    round(&mut world);
    ours(&mut world).unwrap();
    foreign(&mut world, 1);
    round(&mut world);
    assert_eq!(blamed(&mut world), Origin::Foreign);
    round(&mut world);
    assert_eq!(blamed(&mut world), Origin::Ours);
}

#[test]
fn a_job_start_is_judged_by_the_rounds_answered_when_it_arrived() {
    let mut world = world(1);
    foreign(&mut world, 1);
    round(&mut world);
    let on_its_way = call(&world, &json!({"prompt": "p"}));
    round(&mut world);
    submit_call(&mut world, &on_its_way).unwrap_err();
    assert_eq!(world.audit().over_limit_foreign(), 1);
    assert_eq!(blamed(&mut world), Origin::Ours);
}

#[test]
fn known_and_unknown_foreign_jobs_are_counted_apart() {
    let mut world = world(3);
    ours(&mut world).unwrap();
    foreign(&mut world, 1);
    round(&mut world);
    round(&mut world);
    let unknown = foreign(&mut world, 1);
    assert_eq!(
        blamed(&mut world),
        Origin::Foreign,
        "two of three were known"
    );
    assert!(world.finish(unknown[0]));
    ours(&mut world).unwrap();
    assert_eq!(blamed(&mut world), Origin::Ours, "all three were");
}

#[test]
fn a_known_foreign_job_that_ended_counts_no_more() {
    let mut world = world(1);
    let ended = foreign(&mut world, 1);
    round(&mut world);
    round(&mut world);
    assert!(world.finish(ended[0]));
    foreign(&mut world, 1);
    assert_eq!(blamed(&mut world), Origin::Foreign);
}

#[test]
fn a_job_of_ours_counts_until_its_slot_returns() {
    let settings = Settings {
        job_duration: JobDuration::Manual,
        release_lag: Duration::from_secs(2)..=Duration::from_secs(2),
        ..Settings::default()
    };
    let mut world = world_with(settings, &[("a@x", 1)]);
    let id = ours(&mut world).unwrap();
    assert!(world.finish(id));
    assert_eq!(blamed(&mut world), Origin::Ours);
    world.advance_to(Duration::from_secs(2));
    ours(&mut world).unwrap();
}

#[test]
fn a_cap_lowered_just_now_is_excused_and_one_lowered_a_round_ago_is_not() {
    let mut world = world(2);
    round(&mut world);
    ours(&mut world).unwrap();
    world.set_account("a@x".to_owned(), 1);
    assert_eq!(blamed(&mut world), Origin::Foreign, "never told");
    round(&mut world);
    assert_eq!(
        blamed(&mut world),
        Origin::Foreign,
        "told in the last round"
    );
    round(&mut world);
    assert_eq!(blamed(&mut world), Origin::Ours, "told two rounds ago");
}

#[test]
fn a_job_start_is_judged_by_what_was_known_when_it_was_decided() {
    let settings = Settings {
        job_duration: JobDuration::Manual,
        reaction_rounds: 2,
        ..Settings::default()
    };
    let mut world = world_with(settings, &[("a@x", 3)]);
    round(&mut world);
    ours(&mut world).unwrap();
    foreign(&mut world, 1);
    world.set_account("a@x".to_owned(), 2);
    for _ in 0..3 {
        round(&mut world);
        assert_eq!(blamed(&mut world), Origin::Foreign, "decided before");
    }
    round(&mut world);
    assert_eq!(blamed(&mut world), Origin::Ours);
}

#[test]
fn a_lowered_cap_told_by_the_list_waits_for_a_round_too() {
    let mut world = world(2);
    round(&mut world);
    ours(&mut world).unwrap();
    world.set_account("a@x".to_owned(), 1);
    world.tell_list();
    world.tell_list();
    assert_eq!(blamed(&mut world), Origin::Foreign);
    world.tell_jobs();
    assert_eq!(
        blamed(&mut world),
        Origin::Foreign,
        "that round may have been under way"
    );
    world.tell_jobs();
    assert_eq!(
        blamed(&mut world),
        Origin::Ours,
        "GET /scheduler is a round as well"
    );
}

#[test]
fn a_call_of_ours_with_a_cap_of_its_own_knows_it() {
    let mut world = world(5);
    round(&mut world);
    ours(&mut world).unwrap();
    submit(&mut world, json!({"maxJobs": 1})).unwrap_err();
    assert_eq!(world.audit().over_limit_ours(), 1);
}

#[test]
fn what_the_second_tool_does_is_never_our_fault() {
    let mut world = world(1);
    round(&mut world);
    ours(&mut world).unwrap();
    assert!(world.submit_directly("a@x").is_err());
    let mut theirs = call(&world, &json!({"prompt": "p"}));
    let mark = "x".parse().unwrap();
    theirs.head.headers.insert(TOOL_HEADER, mark);
    submit_call(&mut world, &theirs).unwrap_err();
    let audit = world.audit();
    assert_eq!(
        (audit.over_limit_ours(), audit.over_limit_foreign()),
        (0, 2)
    );
    assert_eq!(audit.over_limit(), 2);
    assert_eq!(audit.submissions.last().unwrap().origin, Origin::Foreign);
}
