//! Submissions without an answer: what the client is told, and how the slot comes back.

use std::time::Duration;

use harness::{Answer, Running, Slots, eventually, send};
use http::Method;
use kling_sim::{Effect, Fault, Sim};

use super::client::{
    JOB, JSON, PROMPT, accepted, ended, leases, slots, start_job, task_id, until_ended, until_slots,
};

const SCHEDULER: &str = "/scheduler/available";

#[track_caller]
fn assert_unknown(answer: &Answer, status: u16) {
    answer.assert_refused(status, "outcome-unknown");
    assert_eq!(answer.header("x-kling-outcome"), "unknown");
    assert!(
        answer.json()["error"]
            .as_str()
            .unwrap()
            .contains("costs money")
    );
}

/// A sidecar over one account of one slot, with a submission that went wrong by `effect`.
async fn lost(effect: Effect, status: u16, settings: &[(&str, &str)]) -> Running {
    let running = Running::configured(&[("a@x", 1)], settings).await;
    running
        .sim
        .fault(Fault::new(effect).on_job_starts().times(1));
    assert_unknown(&start_job(&running).await, status);
    running
}

/// The times at which rounds reached the simulator.
fn rounds(sim: &Sim) -> Vec<Duration> {
    let requests = sim.requests().into_iter();
    let rounds = requests.filter(|request| request.head.path.ends_with(SCHEDULER));
    rounds.map(|round| round.at).collect()
}

#[tokio::test]
async fn a_job_of_a_lost_answer_is_found_by_a_round() {
    for (effect, status) in [
        (Effect::ResetAfter, 502),
        (Effect::TruncateAfter, 502),
        (Effect::StallAfter, 504),
    ] {
        let settings = [
            ("UPSTREAM__REQUEST_TIMEOUT", "300ms"),
            ("RECONCILE__INTERVAL", "100ms"),
            ("RECONCILE__SETTLE", "100ms"),
        ];
        let running = lost(effect.clone(), status, &settings).await;
        let id = accepted(&running.sim)[0];
        let lease = eventually(async || {
            let held = leases(&running).await;
            held.into_iter().find(|lease| lease["state"] == "bound")
        })
        .await;
        assert_eq!(lease["taskId"], id.to_string(), "{effect:?}");
        assert_eq!(lease["kind"], "forward");
        assert_eq!(slots(&running, "a@x").await, Slots::held(1), "{effect:?}");
        start_job(&running).await.assert_refused(429, "saturated");
        assert!(running.sim.finish(id));
        until_slots(&running, "a@x", Slots::NONE).await;
        assert_eq!(ended(&running, "finished").await, 1.0);
        assert_eq!(running.sim.audit().submission_count, 1, "sent once");
    }
}

#[tokio::test]
async fn a_slot_without_a_job_returns_after_two_rounds_beyond_the_settle_time() {
    let settle = Duration::from_millis(200);
    let settings = [
        ("RECONCILE__INTERVAL", "100ms"),
        ("RECONCILE__SETTLE", "200ms"),
    ];
    let running = lost(Effect::ResetBefore, 502, &settings).await;
    let lost_at = running.sim.audit().submissions[0].at;
    start_job(&running).await.assert_refused(429, "unverified");
    until_ended(&running, "absent", 1.0).await;
    let late = rounds(&running.sim)
        .into_iter()
        .filter(|at| *at >= lost_at + settle);
    assert!(late.count() >= 2, "{lost_at:?} {:?}", rounds(&running.sim));
    assert_eq!(slots(&running, "a@x").await, Slots::NONE);
    task_id(&start_job(&running).await);
}

#[tokio::test]
async fn a_submission_that_timed_out_before_it_became_a_job_is_freed_too() {
    let settings = [
        ("UPSTREAM__REQUEST_TIMEOUT", "200ms"),
        ("RECONCILE__INTERVAL", "100ms"),
        ("RECONCILE__SETTLE", "100ms"),
    ];
    let running = lost(Effect::StallBefore, 504, &settings).await;
    until_ended(&running, "absent", 1.0).await;
    assert_eq!(slots(&running, "a@x").await, Slots::NONE);
    assert_eq!(accepted(&running.sim), [0_i64; 0]);
}

#[tokio::test]
async fn a_doubtful_answer_whose_job_exists_is_bound_by_a_round() {
    let settings = [("RECONCILE__INTERVAL", "100ms")];
    let running = Running::configured(&[("a@x", 1)], &settings).await;
    running
        .sim
        .fault(Fault::status(524).on_job_starts().times(1));
    assert_eq!(start_job(&running).await.status, 524);
    // The gateway gave up, but the submission that it had passed on became a job.
    let id = running.sim.submit_directly("a@x", 1)[0];
    let lease = eventually(async || {
        let held = leases(&running).await;
        held.into_iter().find(|lease| lease["state"] == "bound")
    })
    .await;
    assert_eq!(lease["taskId"], id.to_string());
    assert_eq!(slots(&running, "a@x").await, Slots::held(1));
}

#[tokio::test]
async fn a_late_job_of_a_lost_submission_is_still_its_own() {
    let settings = [
        ("UPSTREAM__REQUEST_TIMEOUT", "150ms"),
        ("RECONCILE__INTERVAL", "100ms"),
        ("RECONCILE__SETTLE", "10s"),
    ];
    let effect = Effect::Delay(Duration::from_millis(600));
    let running = lost(effect, 504, &settings).await;
    until_slots(&running, "a@x", Slots::held(1)).await;
    let id = accepted(&running.sim)[0];
    assert_eq!(leases(&running).await[0]["taskId"], id.to_string());
}

#[tokio::test]
async fn an_uncertain_slot_is_given_up_unverified_where_no_round_is_answered() {
    let settings = [
        ("RECONCILE__INTERVAL", "100ms"),
        ("RECONCILE__SETTLE", "100ms"),
        ("LEASES__JOB_TTL", "1s"),
    ];
    let running = Running::configured(&[("a@x", 1)], &settings).await;
    running.sim.fault(Fault::status(503).on("GET", SCHEDULER));
    running
        .sim
        .fault(Fault::new(Effect::ResetBefore).on_job_starts());
    let before = running.sim.audit().submission_count;
    assert_unknown(&start_job(&running).await, 502);
    assert_eq!(running.sim.audit().submission_count, before + 1);
    assert_eq!(slots(&running, "a@x").await, Slots::uncertain(1));
    until_ended(&running, "unverified", 1.0).await;
    assert_eq!(slots(&running, "a@x").await, Slots::NONE);
    assert_eq!(ended(&running, "absent").await, 0.0);
}

#[tokio::test]
async fn an_uncertain_slot_can_be_given_back_by_hand() {
    let running = lost(Effect::ResetBefore, 502, &[]).await;
    let lease = leases(&running).await.remove(0);
    running.release(&lease).await;
    assert_eq!(slots(&running, "a@x").await, Slots::NONE);
    task_id(&start_job(&running).await);
}

#[tokio::test]
async fn nothing_sent_takes_no_slot() {
    let running = Running::with(&[("a@x", 1)]).await;
    let Running { sim, addr, .. } = running;
    // This closes the port and all idle connections.
    sim.shutdown().await;
    for _ in 0..3 {
        let answer = send(addr, Method::POST, JOB, &[JSON], PROMPT).await;
        answer.assert_refused(429, "upstream-unreachable");
        assert!(!answer.headers.contains_key("x-kling-outcome"));
    }
    let account = send(addr, Method::GET, "/accounts/a@x", &[], "")
        .await
        .json();
    assert_eq!(
        (&account["held"], &account["uncertain"]),
        (&0.into(), &0.into())
    );
}

#[tokio::test]
async fn the_last_slots_are_unverified_only_while_doubt_holds_them() {
    let running = Running::with(&[("a@x", 1), ("b@x", 1)]).await;
    running.sim.fault(
        Fault::new(Effect::ResetBefore)
            .on_job_starts()
            .account("a@x"),
    );
    let mut outcomes = Vec::new();
    for _ in 0..2 {
        outcomes.push(start_job(&running).await.status.as_u16());
    }
    outcomes.sort_unstable();
    assert_eq!(outcomes, [200, 502], "one on each account");
    start_job(&running).await.assert_refused(429, "unverified");
    let only_b = running.post(JOB, r#"{"prompt":"p","email":"b@x"}"#).await;
    only_b.assert_refused(429, "saturated");
    let only_a = running.post(JOB, r#"{"prompt":"p","email":"a@x"}"#).await;
    only_a.assert_refused(429, "unverified");
}
