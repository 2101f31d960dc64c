//! Slots live as long as their jobs. The simulator's books judge.

use std::{sync::Arc, time::Duration};

use harness::{Answer, PATIENCE, Running, Slots, eventually, send, with_accounts};
use http::{Method, StatusCode};
use kling_sim::{Effect, Fault, JobDuration, Sim, SimBuilder, TOOL_HEADER};
use serde_json::Value;
use tokio::{task::JoinSet, time::timeout};

use super::client::{
    JOB, JSON, PROMPT, accepted, ended, leases, ready, slots, start_job, task_id, until_slots,
};

const FORM: (&str, &str) = ("content-type", "multipart/form-data; boundary=x");
const ACCOUNTS: [(&str, u32); 3] = [("a@x", 5), ("b@x", 3), ("c@x", 2)];
const FAST_ROUNDS: (&str, &str) = ("RECONCILE__INTERVAL", "100ms");

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Three accounts of ten slots together.
fn ten_slots() -> SimBuilder {
    with_accounts(&ACCOUNTS)
}

async fn beside(sim: SimBuilder, settings: &[(&str, &str)]) -> Arc<Running> {
    Arc::new(ready(sim.start().await.unwrap(), settings).await)
}

/// The `n`th of many job starts: JSON and forms, of every kind in turn.
async fn submit(running: &Running, n: usize, wait: &str) -> Answer {
    const PATHS: [&str; 8] = [
        "/videos/text2video",
        "/videos/omni/",
        "/images/kolors",
        "/avatars/video",
        "/videos/add-sound",
        "/images/upscale",
        "/videos/motion-upload",
        "/images/omni",
    ];
    let path = format!("/v1/kling{}", PATHS[n % PATHS.len()]);
    let (header, body) = if n.is_multiple_of(3) {
        let part = |(name, value)| {
            format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let reply_ref = format!("r{n}");
        let parts = [("prompt", "p"), ("replyRef", &*reply_ref)].map(part);
        (FORM, parts.concat() + "--x--\r\n")
    } else {
        (JSON, format!(r#"{{"prompt":"p","replyRef":"r{n}"}}"#))
    };
    let headers = [header, ("x-kling-wait", wait)];
    send(running.addr, Method::POST, &path, &headers, &body).await
}

/// No account ever ran more than it may, and nothing was sent twice.
#[track_caller]
fn assert_clean(sim: &Sim, accepted: u64) {
    let audit = sim.audit();
    assert_eq!((audit.over_limit(), audit.duplicates), (0, 0), "{audit}");
    let sum: u64 = audit.accounts.iter().map(|account| account.accepted).sum();
    assert_eq!(sum, accepted, "{audit}");
    for account in &audit.accounts {
        assert!(account.peak <= account.max_jobs, "{audit}");
    }
}

/// Every slot that the sidecar counts is one that the simulator counts, on every account.
async fn until_books_agree(running: &Running) {
    eventually(async || {
        let accounts = running.get("/accounts").await.json();
        let agree = |account: &Value| {
            let executing = running.sim.executing(account["email"].as_str().unwrap());
            account["inFlight"] == executing && account["uncertain"] == 0
        };
        let accounts = accounts["accounts"].as_array().unwrap();
        accounts.iter().all(agree).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_at_once_on_ten_slots_are_ten_jobs() {
    let running = beside(ten_slots().job_duration(JobDuration::Manual), &[]).await;
    let mut clients = JoinSet::new();
    for n in 0..60 {
        let running = Arc::clone(&running);
        clients.spawn(async move { submit(&running, n, "0s").await });
    }
    let answers = clients.join_all().await;
    let (started, refused): (Vec<_>, Vec<_>) = answers
        .iter()
        .partition(|answer| answer.status == StatusCode::OK);
    assert_eq!((started.len(), refused.len()), (10, 50));
    for answer in refused {
        answer.assert_refused(429, "saturated");
    }
    assert_clean(&running.sim, 10);
    for (email, max_jobs) in ACCOUNTS {
        assert_eq!(running.sim.executing(email), max_jobs);
        let account = running.account(email).await;
        assert_eq!(account["held"], max_jobs);
        assert_eq!(account["available"], 0);
    }
    let mut told: Vec<i64> = started.into_iter().map(task_id).collect();
    told.sort_unstable();
    let mut accepted = accepted(&running.sim);
    accepted.sort_unstable();
    assert_eq!(told, accepted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_that_wait_for_ten_slots_all_become_jobs() {
    let sim = ten_slots().job_duration(JobDuration::between(ms(10), ms(60)));
    let running = beside(sim, &[FAST_ROUNDS]).await;
    let mut clients = JoinSet::new();
    for n in 0..60 {
        let running = Arc::clone(&running);
        clients.spawn(async move { submit(&running, n, "60s").await });
    }
    for answer in clients.join_all().await {
        task_id(&answer);
    }
    assert_clean(&running.sim, 60);
    // No client polls these jobs: rounds find their ends.
    until_books_agree(&running).await;
    eventually(async || (running.held().await == 0).then_some(())).await;
    assert_eq!(ended(&running, "finished").await, 60.0);
}

/// Submits a job and polls it without pause until it ends, again and again.
async fn work(running: Arc<Running>, client: usize, job_count: usize) {
    for job in 0..job_count {
        let answer = submit(&running, client * 1000 + job, "60s").await;
        let path = format!("/v1/kling/tasks/{}", task_id(&answer));
        loop {
            let answer = running.get(&path).await;
            assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
            if answer.json()["status_final"] == true {
                break;
            }
        }
    }
}

async fn work_against_lag(low: u64, high: u64, client_count: usize, job_count: usize) {
    let sim = ten_slots()
        .job_duration(JobDuration::between(ms(20), ms(80)))
        .release_lag(ms(low)..=ms(high));
    let running = beside(sim, &[FAST_ROUNDS]).await;
    let mut clients = JoinSet::new();
    for client in 0..client_count {
        clients.spawn(work(Arc::clone(&running), client, job_count));
    }
    timeout(3 * PATIENCE, clients.join_all()).await.unwrap();
    assert_clean(&running.sim, (client_count * job_count) as u64);
    let audit = running.sim.audit();
    let submitted = audit.submission_count;
    assert_eq!(submitted, (client_count * job_count) as u64, "{audit}");
    until_books_agree(&running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_final_poll_never_frees_a_slot_that_the_upstream_still_counts() {
    work_against_lag(300, 900, 20, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_vendors_lag_of_two_seconds_causes_no_attempt_over_the_limit() {
    work_against_lag(2000, 2000, 20, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_is_old_when_it_arrives_frees_no_running_job() {
    let sim = ten_slots()
        .job_duration(JobDuration::between(ms(20), ms(400)))
        .release_lag(ms(0)..=ms(200));
    let running = beside(sim, &[FAST_ROUNDS]).await;
    // The upstream makes the list at once and sends it byte by byte, while jobs start and end.
    let slow = Fault::new(Effect::Drip(ms(1)));
    running.sim.fault(slow.on("GET", "/scheduler/available"));
    let mut clients = JoinSet::new();
    for client in 0..25 {
        clients.spawn(work(Arc::clone(&running), client, 1));
    }
    timeout(3 * PATIENCE, clients.join_all()).await.unwrap();
    assert_clean(&running.sim, 25);
    until_books_agree(&running).await;
}

#[tokio::test]
async fn a_final_poll_leads_to_a_round_that_frees_the_slot() {
    // The interval is longer than the test, so no round comes by itself.
    let settings = [("RECONCILE__INTERVAL", "1h")];
    let running = Running::configured(&[("a@x", 1)], &settings).await;
    let id = task_id(&start_job(&running).await);
    let path = format!("/v1/kling/tasks/{id}");
    let unfinished = running.get(&path).await.json();
    assert_eq!(unfinished["status_final"], false);
    start_job(&running).await.assert_refused(429, "saturated");
    assert!(running.sim.finish(id));
    assert_eq!(running.get(&path).await.json()["status_final"], true);
    until_slots(&running, "a@x", Slots::NONE).await;
    assert_eq!(ended(&running, "finished").await, 1.0);
}

#[tokio::test]
async fn a_second_tool_that_fills_an_account_is_seen_by_the_next_round() {
    let accounts = [("a@x", 2), ("b@x", 50)];
    let running = Running::configured(&accounts, &[FAST_ROUNDS]).await;
    let foreign = running.sim.submit_directly("a@x", 1)[0];
    let body = r#"{"prompt":"p","email":"a@x"}"#;
    let bearer = format!("Bearer {}", running.sim.token());
    let tool = [JSON, (TOOL_HEADER, "1"), ("authorization", &*bearer)];
    let taken = task_id(&send(running.sim.addr(), Method::POST, JOB, &tool, body).await);
    until_slots(&running, "a@x", Slots::foreign(2)).await;
    assert_eq!(running.account("a@x").await["state"], "full");
    for _ in 0..20 {
        task_id(&start_job(&running).await);
    }
    let only_a = running.post(JOB, body).await;
    only_a.assert_refused(429, "saturated");
    let audit = running.sim.audit();
    assert_eq!(audit.account("b@x").unwrap().accepted, 20, "{audit}");
    assert_eq!(audit.over_limit(), 0, "{audit}");

    running.sim.finish(foreign);
    running.sim.finish(taken);
    until_slots(&running, "a@x", Slots::NONE).await;
    task_id(&running.post(JOB, body).await);
}

#[tokio::test]
async fn a_waiting_job_start_is_served_when_a_second_tools_job_ends() {
    let running = Running::configured(&[("a@x", 1)], &[FAST_ROUNDS]).await;
    let running = Arc::new(running);
    let foreign = running.sim.submit_directly("a@x", 1)[0];
    until_slots(&running, "a@x", Slots::foreign(1)).await;
    let client = Arc::clone(&running);
    let waiting = tokio::spawn(async move { submit(&client, 1, "60s").await });
    running
        .until_metric("kling_balancer_waiters", |count| count == 1.0)
        .await;
    running.sim.finish(foreign);
    task_id(&waiting.await.unwrap());
    assert_eq!(running.sim.audit().over_limit(), 0);
}

#[tokio::test]
async fn to_stop_tracking_a_job_frees_its_slot_at_once() {
    let settings = [("RECONCILE__INTERVAL", "1h")];
    let running = Running::configured(&[("a@x", 1)], &settings).await;
    let id = task_id(&start_job(&running).await);
    let other = running.delete("/v1/kling/scheduler/7").await;
    assert_eq!(other.status, 404, "{other:?}");
    assert_eq!(slots(&running, "a@x").await, Slots::held(1));
    let path = format!("/v1/kling/scheduler/{id}");
    assert_eq!(running.delete(&path).await.status, StatusCode::NO_CONTENT);
    assert_eq!(
        slots(&running, "a@x").await,
        Slots::NONE,
        "no round is waited for"
    );
    task_id(&start_job(&running).await);
    assert_eq!(running.sim.audit().over_limit(), 0);
    // The second delete is a 404 and returns no second slot.
    assert_eq!(running.delete(&path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(slots(&running, "a@x").await, Slots::held(1));
    assert_eq!(leases(&running).await.len(), 1);
}

#[tokio::test]
async fn a_job_start_that_waits_in_vain_is_saturated() {
    let running = Running::with(&[("a@x", 1)]).await;
    task_id(&start_job(&running).await);
    let headers = [JSON, ("x-kling-wait", "100ms")];
    let answer = send(running.addr, Method::POST, JOB, &headers, PROMPT).await;
    answer.assert_refused(429, "saturated");
    assert_eq!(running.sim.audit().submission_count, 1);
    assert_eq!(running.metric("kling_balancer_waiters").await, 0.0);
}
