//! Leases of submissions as `/leases` shows them, and how clients change them.

use std::{sync::Arc, time::Duration};

use harness::{Running, Slots, eventually};
use http::Method;
use jiff::{SignedDuration, Timestamp};
use kling_sim::{Effect, Fault, JobDuration, Sim, TaskIds};
use serde_json::{Value, json};

use super::client::{
    JOB, JSON, PROMPT, exchange, leases, ready, slots, start_job, task_id, until_slots,
};

/// A sidecar over one account whose next job start takes a second, so that a test can look
/// meanwhile.
async fn slow(task_ids: TaskIds) -> Arc<Running> {
    let sim = Sim::builder().account("a@x", 1).task_ids(task_ids);
    let sim = sim.job_duration(JobDuration::Manual).start().await.unwrap();
    let slow = Effect::Delay(Duration::from_secs(1));
    sim.fault(Fault::new(slow).on_job_starts().times(1));
    let running = ready(sim, &[("RECONCILE__INTERVAL", "1h")]).await;
    Arc::new(running)
}

async fn reserved(running: &Running) -> Value {
    eventually(async || leases(running).await.pop()).await
}

#[tokio::test]
async fn a_submission_is_reserved_and_then_bound_under_its_digits() {
    for (task_ids, digits) in [
        (TaskIds::Digits15, 15),
        (TaskIds::Digits18, 18),
        (TaskIds::Negative, 16),
    ] {
        let running = slow(task_ids).await;
        let client = Arc::clone(&running);
        let client = tokio::spawn(async move { client.post(JOB, PROMPT).await });
        let lease = reserved(&running).await;
        for (field, value) in [
            ("state", json!("reserved")),
            ("kind", json!("forward")),
            ("email", json!("a@x")),
            ("maxJobs", json!(1)),
            ("inFlight", json!(1)),
            ("taskId", json!(null)),
            ("expiresAt", json!(null)),
        ] {
            assert_eq!(lease[field], value, "{field} of {lease}");
        }
        let answer = client.await.unwrap();
        let id = task_id(&answer).to_string();
        assert_eq!(id.len(), digits, "{id}");
        assert!(
            answer.text.contains(&format!(r#""id":{id},"#)),
            "{answer:?}"
        );
        let bound = leases(&running).await.remove(0);
        assert_eq!(bound["leaseId"], lease["leaseId"]);
        assert_eq!(bound["state"], "bound");
        assert_eq!(bound["kind"], "forward");
        assert_eq!(bound["taskId"], id, "a string of all its digits");
        assert!(bound["expiresAt"].is_string(), "{bound}");

        // The same digits find the job again and end it.
        let path = format!("/v1/kling/tasks/{id}");
        assert_eq!(running.get(&path).await.status, 200);
        let untracked = running.delete(&format!("/v1/kling/scheduler/{id}")).await;
        assert_eq!(untracked.status, 204);
        assert_eq!(slots(&running, "a@x").await, Slots::NONE);
    }
}

#[tokio::test]
async fn a_job_whose_lease_was_given_back_meanwhile_counts_as_soon_as_it_is_known() {
    let running = slow(TaskIds::Digits18).await;
    let client = Arc::clone(&running);
    let client = tokio::spawn(async move { client.post(JOB, PROMPT).await });
    let lease = reserved(&running).await;
    running.release(&lease).await;
    assert_eq!(slots(&running, "a@x").await, Slots::NONE);
    let id = task_id(&client.await.unwrap());
    assert_eq!(
        slots(&running, "a@x").await,
        Slots::foreign(1),
        "no round is waited for"
    );
    start_job(&running).await.assert_refused(429, "saturated");
    assert_eq!(running.sim.audit().over_limit(), 0);
    running.sim.finish(id);
    let path = format!("/v1/kling/tasks/{id}");
    assert_eq!(running.get(&path).await.json()["status_final"], true);
    until_slots(&running, "a@x", Slots::NONE).await;
}

#[tokio::test]
async fn a_bound_lease_given_back_leaves_its_job_counted() {
    let running = Running::configured(&[("a@x", 1)], &[("RECONCILE__INTERVAL", "100ms")]).await;
    let id = task_id(&start_job(&running).await);
    let lease = leases(&running).await.remove(0);
    running.release(&lease).await;
    assert_eq!(slots(&running, "a@x").await, Slots::foreign(1));
    start_job(&running).await.assert_refused(429, "saturated");
    running.sim.finish(id);
    until_slots(&running, "a@x", Slots::NONE).await;
    assert_eq!(running.sim.audit().over_limit(), 0);
}

/// Starts a job at the upstream itself, on the account of a lease.
async fn call_directly(running: &Running, lease: &Value) -> i64 {
    let sim = &running.sim;
    let token = format!("Bearer {}", sim.token());
    let base_url = sim.base_url();
    let path = &base_url[base_url.find("/v1").unwrap()..];
    let path = format!("{path}/videos/text2video");
    let body = json!({"prompt": "p", "email": lease["email"]}).to_string();
    let headers = [JSON, ("authorization", &*token)];
    let answer = exchange(sim.addr(), Method::POST, &path, &headers, body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["task"]["id"].as_i64().unwrap()
}

#[tokio::test]
async fn a_job_started_beside_us_on_a_picked_slot_counts_once_and_needs_no_bind() {
    let running = Running::configured(&[("a@x", 1)], &[("RECONCILE__INTERVAL", "100ms")]).await;
    let lease = running.pick("").await;
    let id = call_directly(&running, &lease).await;
    let bound = eventually(async || {
        let held = leases(&running).await.pop()?;
        (held["state"] == "bound").then_some(held)
    })
    .await;
    assert_eq!(bound["leaseId"], lease["leaseId"]);
    assert_eq!(bound["taskId"], id.to_string());
    assert_eq!(slots(&running, "a@x").await, Slots::held(1), "once");
    start_job(&running).await.assert_refused(429, "saturated");
    assert_eq!(running.sim.executing("a@x"), 1);
    assert!(running.sim.finish(id));
    until_slots(&running, "a@x", Slots::NONE).await;
    task_id(&start_job(&running).await);
    assert_eq!(running.sim.audit().over_limit(), 0);
}

#[tokio::test]
async fn a_job_outlives_the_ttl_of_its_pick_and_frees_the_slot_with_no_further_call() {
    let running = Running::configured(&[("a@x", 1)], &[("RECONCILE__INTERVAL", "100ms")]).await;
    let lease = running.pick("?ttl=1s").await;
    let id = call_directly(&running, &lease).await;
    let ends_at: Timestamp = lease["expiresAt"].as_str().unwrap().parse().unwrap();
    let margin = SignedDuration::from_millis(200);
    eventually(async || (Timestamp::now() > ends_at + margin).then_some(())).await;
    assert_eq!(slots(&running, "a@x").await, Slots::held(1), "the job runs");
    assert!(running.sim.finish(id));
    until_slots(&running, "a@x", Slots::NONE).await;
    assert_eq!(running.sim.audit().over_limit(), 0);
}

#[tokio::test]
async fn without_ties_a_pick_and_its_job_count_twice_until_it_is_bound() {
    let settings = [
        ("RECONCILE__INTERVAL", "100ms"),
        ("RECONCILE__TIE_PICKS", "false"),
    ];
    let running = Running::configured(&[("a@x", 3)], &settings).await;
    let lease = running.pick("").await;
    let id = call_directly(&running, &lease).await;
    until_slots(&running, "a@x", Slots::held(1) + Slots::foreign(1)).await;
    let path = format!("/leases/{}", lease["leaseId"].as_str().unwrap());
    let bound = running.put(&path, &format!(r#"{{"taskId":{id}}}"#)).await;
    assert_eq!(bound.status, 200);
    assert_eq!(slots(&running, "a@x").await, Slots::held(1));
    assert!(running.sim.finish(id));
    until_slots(&running, "a@x", Slots::NONE).await;
}

#[tokio::test]
async fn a_bound_lease_given_back_is_looked_for_at_once() {
    let sim = Sim::builder().account("a@x", 1).start().await.unwrap();
    let running = ready(sim, &[("RECONCILE__INTERVAL", "1h")]).await;
    let lease = running.pick("").await;
    let path = format!("/leases/{}", lease["leaseId"].as_str().unwrap());
    // The job ended long ago.
    let bound = running.put(&path, r#"{"taskId":7}"#).await;
    assert_eq!(bound.status, 200, "{bound:?}");
    running.release(&lease).await;
    until_slots(&running, "a@x", Slots::NONE).await;
}

#[tokio::test]
async fn the_books_of_two_submissions_under_way_are_not_mixed_up_by_a_round() {
    let sim = Sim::builder().account("a@x", 2).start().await.unwrap();
    let slow = Effect::Delay(Duration::from_millis(500));
    sim.fault(Fault::new(slow).on_job_starts().times(1));
    let running = ready(sim, &[("RECONCILE__INTERVAL", "100ms")]).await;
    let running = Arc::new(running);
    let client = Arc::clone(&running);
    let slow = tokio::spawn(async move { client.post(JOB, PROMPT).await });
    reserved(&running).await;
    // Rounds list this job while the other submission is under way.
    let quick = task_id(&start_job(&running).await);
    let slow = task_id(&slow.await.unwrap());
    let held = leases(&running).await;
    let bound: Vec<_> = held.iter().map(|lease| lease["taskId"].clone()).collect();
    assert_eq!(bound, [json!(slow.to_string()), json!(quick.to_string())]);
    assert_eq!(slots(&running, "a@x").await, Slots::held(2));
}
