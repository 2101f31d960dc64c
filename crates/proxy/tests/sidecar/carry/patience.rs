//! Job starts wait for what passes by itself, and are refused with a 429 only when their wait is over.

use std::{sync::Arc, time::Duration};

use harness::{Answer, Running, eventually, manual};
use http::{Method, StatusCode};
use kling_sim::{Effect, Fault, ListFault};
use tokio::task::JoinHandle;

use super::client::{JOB, JSON, PROMPT, accepted, task_id};

const WAITERS: &str = "kling_balancer_waiters";
const ROUNDS: (&str, &str) = ("RECONCILE__INTERVAL", "100ms");
const LONG: (&str, &str) = ("FORWARD__WAIT", "60s");

/// Starts a job without waiting for its answer.
fn begin(running: &Arc<Running>, headers: &[(&'static str, &'static str)]) -> JoinHandle<Answer> {
    begin_with(running, headers, PROMPT.to_owned())
}

/// A job start of more bytes than a small one has: those have memory of their own.
fn large() -> String {
    format!(r#"{{"prompt":"{}"}}"#, "x".repeat(80 * 1024))
}

fn begin_with(
    running: &Arc<Running>,
    headers: &[(&'static str, &'static str)],
    body: String,
) -> JoinHandle<Answer> {
    let running = Arc::clone(running);
    let headers = [&[JSON], headers].concat();
    tokio::spawn(async move { running.send(Method::POST, JOB, &headers, &body).await })
}

async fn until_waiting(running: &Running, count: u32) {
    let count = f64::from(count);
    running
        .until_metric(WAITERS, |waiting| waiting == count)
        .await;
}

#[tokio::test]
async fn a_job_start_waits_for_a_slot_unless_it_says_otherwise() {
    let running = Arc::new(Running::configured(&[("a@x", 1)], &[ROUNDS, LONG]).await);
    let id = task_id(&running.post(JOB, PROMPT).await);
    let hasty = begin(&running, &[("x-kling-wait", "0s")]).await.unwrap();
    hasty.assert_refused(429, "saturated");
    let waiting = begin(&running, &[]);
    until_waiting(&running, 1).await;
    // A pick waits only if it says so.
    running.get("/pick").await.assert_refused(429, "saturated");
    assert!(running.sim.finish(id));
    task_id(&waiting.await.unwrap());
    let audit = running.sim.audit();
    assert_eq!(
        (audit.submission_count, audit.over_limit()),
        (2, 0),
        "{audit}"
    );
}

#[tokio::test]
async fn a_job_start_waits_for_the_first_list_and_the_first_round() {
    let sim = manual(&[("a@x", 1)]).start().await.unwrap();
    sim.list_fault(ListFault::status(503));
    let running = Arc::new(Running::beside(sim, &[ROUNDS, LONG]).await);
    let hasty = begin(&running, &[("x-kling-wait", "0s")]).await.unwrap();
    hasty.assert_refused(429, "learning");
    let late = begin(&running, &[("x-kling-wait", "300ms")]).await.unwrap();
    late.assert_refused(429, "learning");
    running
        .get("/pick?wait=10s")
        .await
        .assert_refused(503, "learning");
    let named = r#"{"prompt":"a boat","email":"a@x"}"#;
    let to_a = {
        let running = Arc::clone(&running);
        tokio::spawn(async move { running.post(JOB, named).await })
    };
    running
        .until_metric(
            r#"kling_balancer_http_requests_total{code="429",method="POST",route="/v1/kling/*"}"#,
            |count| count == 2.0,
        )
        .await;
    running.sim.clear_list_fault();
    task_id(&to_a.await.unwrap());
    assert_eq!(running.sim.audit().submission_count, 1);
}

#[tokio::test]
async fn what_a_person_has_to_mend_is_not_waited_out() {
    let sim = manual(&[("a@x", 1)]).start().await.unwrap();
    sim.list_fault(ListFault::Unauthorized);
    let running = Arc::new(Running::beside(sim, &[ROUNDS, LONG]).await);
    // It waits for the first fetch, and no longer.
    let refused = begin(&running, &[]).await.unwrap();
    refused.assert_refused(503, "token-rejected");
}

#[tokio::test]
async fn a_slot_that_another_tool_took_is_waited_for() {
    let settings = [("RECONCILE__INTERVAL", "200ms"), LONG];
    let running = Arc::new(Running::configured(&[("a@x", 1)], &settings).await);
    let foreign = running.sim.submit_directly("a@x", 1)[0];
    // The upstream says "full", and the job start goes back to the queue.
    let waiting = begin(&running, &[]);
    eventually(async || (running.sim.audit().submission_count == 1).then_some(())).await;
    until_waiting(&running, 1).await;
    assert!(running.sim.finish(foreign));
    let answer = waiting.await.unwrap();
    task_id(&answer);
    assert_eq!(accepted(&running.sim).len(), 1);
    let attempts: u64 = answer.header("x-kling-attempts").parse().unwrap();
    assert_eq!(attempts, running.sim.audit().submission_count);
}

#[tokio::test]
async fn a_job_start_that_was_pushed_back_keeps_its_place() {
    let settings = [("RECONCILE__INTERVAL", "1h"), LONG];
    let running = Arc::new(Running::configured(&[("a@x", 1)], &settings).await);
    running
        .sim
        .fault(Fault::status(429).on_job_starts().times(1));
    let first = begin(&running, &[("x-request-id", "first")]);
    eventually(async || (running.sim.audit().submission_count == 1).then_some(())).await;
    until_waiting(&running, 1).await;
    let second = begin(&running, &[]);
    until_waiting(&running, 2).await;
    // The account has cooled down: the first is served first.
    running.post("/accounts/a@x/resume", "").await;
    let id = task_id(&first.await.unwrap());
    assert!(!second.is_finished());
    assert_eq!(accepted(&running.sim), [id]);
    second.abort();
}

#[tokio::test]
async fn a_wait_that_ends_after_a_push_back_gets_the_upstreams_own_answer() {
    let settings = [("RECONCILE__INTERVAL", "1h"), ("FORWARD__WAIT", "500ms")];
    let running = Arc::new(Running::configured(&[("a@x", 1), ("b@x", 1)], &settings).await);
    let busy = kling_sim::Answer::new(429)
        .header("retry-after", "60")
        .body("exactly this");
    running
        .sim
        .fault(Fault::new(Effect::Answer(busy)).on_job_starts());
    let answer = begin(&running, &[]).await.unwrap();
    assert_eq!(
        (answer.status, &*answer.text),
        (StatusCode::TOO_MANY_REQUESTS, "exactly this")
    );
    assert_eq!(answer.header("x-kling-attempts"), "2");
    assert_eq!(running.sim.audit().submission_count, 2, "each account once");
}

#[tokio::test]
async fn bytes_are_waited_for_like_a_slot() {
    let settings = [
        ROUNDS,
        LONG,
        ("FORWARD__BODY_MAX", "100KiB"),
        ("FORWARD__BUFFER_TOTAL", "100KiB"),
    ];

    let running = Arc::new(Running::configured(&[("a@x", 1)], &settings).await);
    let id = task_id(&running.post(JOB, PROMPT).await);
    // It holds all the memory while it waits for its slot.
    let first = begin_with(&running, &[], large());
    until_waiting(&running, 1).await;
    let hasty = begin_with(&running, &[("x-kling-wait", "0s")], large())
        .await
        .unwrap();
    hasty.assert_refused(429, "queue-full");
    let second = begin_with(&running, &[], large());
    assert!(running.sim.finish(id));
    let id = task_id(&first.await.unwrap());
    assert!(running.sim.finish(id));
    task_id(&second.await.unwrap());
    assert_eq!(running.sim.audit().submission_count, 3);
}

/// Waits until there is the record of a job start that waits.
async fn until_recorded(running: &Running) {
    eventually(async || {
        let listed = running.get("/jobs").await.json();
        let mut jobs = listed["jobs"].as_array().unwrap().iter();
        jobs.any(|job| job["outcome"] == "waiting").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_job_start_that_waits_for_the_first_list_is_told_of_the_shutdown() {
    let sim = manual(&[("a@x", 1)]).start().await.unwrap();
    // No news of the list either.
    sim.list_fault(ListFault::Stalled);
    let settings = [ROUNDS, LONG, ("ACCOUNTS__TIMEOUT", "5m")];
    let running = Arc::new(Running::beside(sim, &settings).await);
    let waiting = begin(&running, &[]);
    until_recorded(&running).await;
    running.shutdown.cancel();
    let refused = waiting.await.unwrap();
    refused.assert_refused(429, "shutting-down");
}

#[tokio::test]
async fn a_job_start_that_waits_for_bytes_is_told_of_the_shutdown() {
    let settings = [
        ROUNDS,
        LONG,
        ("FORWARD__BODY_MAX", "100KiB"),
        ("FORWARD__BUFFER_TOTAL", "100KiB"),
    ];

    let running = Arc::new(Running::configured(&[("a@x", 2)], &settings).await);
    // A submission under way holds all the memory, beyond the end of this test.
    let hangs = Fault::new(Effect::StallBefore).on_job_starts();
    running.sim.fault(hangs);
    let first = begin_with(&running, &[], large());
    eventually(async || (running.sim.audit().submission_count == 1).then_some(())).await;
    let waiting = begin_with(&running, &[], large());
    running.shutdown.cancel();
    let refused = waiting.await.unwrap();
    refused.assert_refused(429, "shutting-down");
    first.abort();
}

#[tokio::test]
async fn the_default_is_the_longer_of_25_seconds_and_the_wait_of_picks() {
    let wait = |settings: &[&str]| {
        let flags = [&["kling-balancer"], settings].concat();
        let flags = proxy::cli::command().get_matches_from(flags);
        let env = [("KLB_UPSTREAM__TOKEN".to_owned(), "t".to_owned())];
        let config = proxy::config::Config::load(&flags, env.into_iter(), None).unwrap();
        config.forward.wait
    };
    let seconds = Duration::from_secs;
    assert_eq!(wait(&[]), seconds(25));
    assert_eq!(wait(&["--selection.wait", "4m"]), seconds(240));
    assert_eq!(
        wait(&["--selection.wait", "4m", "--forward.wait", "0s"]),
        seconds(0)
    );
    assert_eq!(
        wait(&["--forward.wait", "20m"]),
        seconds(600),
        "the longest there is"
    );
    assert_eq!(wait(&["--selection.wait_max", "10s"]), seconds(10));
}
