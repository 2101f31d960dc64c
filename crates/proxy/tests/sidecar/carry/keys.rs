//! `Idempotency-Key` on job starts: a retry gets the first job and starts no second one.

use std::{sync::Arc, time::Duration};

use harness::{Answer, PATIENCE, Running, Slots, eventually, send};
use http::{Method, StatusCode};
use kling_sim::{
    Answer as Scripted, ChaosPlan, Effect, Fault, HistoryStyle, JobDuration, Outcome, Sim,
};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use serde_json::Value;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::client::{
    JOB, JSON, PROMPT, Raw, accepted, drawn_seed, exchange, leases, ready, slots, task_id,
    until_ended, until_slots,
};

const ROUNDS: [(&str, &str); 2] = [
    ("RECONCILE__INTERVAL", "100ms"),
    ("RECONCILE__SETTLE", "100ms"),
];

async fn keyed(running: &Running, key: &str) -> Answer {
    let headers = [JSON, ("idempotency-key", key)];
    send(running.addr, Method::POST, JOB, &headers, PROMPT).await
}

/// Comes back with the key until its fate is known.
async fn until_decided(running: &Running, key: &str) -> Answer {
    eventually(async || {
        let answer = keyed(running, key).await;
        if answer.status == StatusCode::CONFLICT {
            answer.assert_refused(409, "key-in-use");
            return None;
        }
        Some(answer)
    })
    .await
}

fn fault_once(running: &Running, effect: Effect) {
    let fault = Fault::new(effect).on_job_starts().times(1);
    running.sim.fault(fault);
}

async fn raw(running: &Running, path: &str, headers: &[(&str, &str)], body: &str) -> Raw {
    exchange(running.addr, Method::POST, path, headers, body.to_owned()).await
}

#[tokio::test]
async fn a_retry_gets_the_answer_that_there_was() {
    let running = Running::with(&[("a@x", 5), ("b@x", 5)]).await;
    let form = |boundary: &str| {
        let body = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\np\r\n--{boundary}--\r\n"
        );
        (format!("multipart/form-data; boundary={boundary}"), body)
    };
    let json = || ("application/json".to_owned(), PROMPT.to_owned());
    // A client draws a new boundary for every attempt.
    for (count, (key, tries)) in [
        ("json", [json(), json()]),
        ("form", [form("one"), form("two")]),
    ]
    .into_iter()
    .enumerate()
    {
        let [first, again] = tries.map(|(content_type, body)| {
            let running = &running;
            async move {
                let headers = [("content-type", &*content_type), ("idempotency-key", key)];
                raw(running, JOB, &headers, &body).await
            }
        });
        let (first, again) = (first.await, again.await);
        assert_eq!(again.status, StatusCode::OK, "{again:?}");
        assert_eq!(again.body, first.body);
        for name in ["x-kling-account", "content-type", "x-kling-attempts"] {
            assert_eq!(again.header(name), first.header(name));
        }
        assert!(!first.headers.contains_key("x-kling-replayed"));
        assert_eq!(again.header("x-kling-replayed"), "answer");
        assert_eq!(accepted(&running.sim).len(), count + 1);
    }
    assert_eq!(running.sim.audit().submission_count, 2);
}

#[tokio::test]
async fn a_retry_after_a_lost_reply_gets_the_job_that_was_accepted() {
    for effect in [Effect::ResetAfter, Effect::TruncateAfter] {
        let running = Running::configured(&[("a@x", 1), ("b@x", 1)], &ROUNDS).await;
        fault_once(&running, effect.clone());
        keyed(&running, "k")
            .await
            .assert_refused(502, "outcome-unknown");
        let id = accepted(&running.sim)[0];
        let answer = until_decided(&running, "k").await;
        assert_eq!(task_id(&answer), id, "{effect:?}");
        assert_eq!(answer.header("x-kling-replayed"), "reconciled");
        let poll = running.get(&format!("/v1/kling/tasks/{id}")).await;
        assert_eq!(
            answer.json(),
            serde_json::json!({ "task": poll.json()["task"] })
        );
        assert_eq!(
            answer.header("x-kling-account"),
            poll.header("x-kling-account")
        );

        assert!(running.sim.finish(id));
        until_ended(&running, "finished", 1.0).await;
        let late = keyed(&running, "k").await;
        assert_eq!(task_id(&late), id, "its slot is free long since");
        assert_eq!(late.json()["task"]["status_final"], true);
        assert_eq!(running.sim.audit().submission_count, 1);
    }
}

#[tokio::test]
async fn a_submission_that_became_no_job_frees_its_key() {
    let running = Running::configured(&[("a@x", 1)], &ROUNDS).await;
    let first = proven(&running).await;
    fault_once(&running, Effect::ResetBefore);
    keyed(&running, "k")
        .await
        .assert_refused(502, "outcome-unknown");
    let lost_at = running.sim.audit().submissions[1].at;
    let id = task_id(&until_decided(&running, "k").await);
    assert_eq!(accepted(&running.sim), [first, id]);
    let submissions = running.sim.audit().submissions;
    assert_eq!(submissions.len(), 3);
    let pause = submissions[2].at - lost_at;
    assert!(
        pause >= Duration::from_millis(100),
        "not before it is settled: {pause:?}"
    );
}

/// A job that was accepted and is over, which proves that histories show jobs of its operation.
async fn proven(running: &Running) -> i64 {
    let id = task_id(&keyed(running, "proven").await);
    running.sim.finish(id);
    until_slots(running, "a@x", Slots::NONE).await;
    id
}

/// A sidecar over an account whose jobs end at once, so that no round ever lists one.
async fn fleeting(settings: &[(&str, &str)]) -> Running {
    let moment = JobDuration::between(Duration::ZERO, Duration::ZERO);
    let sim = Sim::builder().account("a@x", 1).job_duration(moment);
    let sim = sim.release_lag(Duration::ZERO..=Duration::ZERO);
    ready(sim.start().await.unwrap(), settings).await
}

#[tokio::test]
async fn a_job_that_came_and_went_between_two_rounds_is_not_sent_again() {
    for effect in [Effect::ResetAfter, Effect::TruncateAfter] {
        let running = fleeting(&ROUNDS).await;
        fault_once(&running, effect);
        keyed(&running, "k")
            .await
            .assert_refused(502, "outcome-unknown");
        let answer = until_decided(&running, "k").await;
        assert_eq!(accepted(&running.sim), [task_id(&answer)]);
        assert_eq!(answer.header("x-kling-replayed"), "reconciled");
        assert_eq!(running.sim.audit().submission_count, 1);
    }
}

#[tokio::test]
async fn a_job_that_ran_while_rounds_failed_is_not_sent_again() {
    let settings = [ROUNDS[0], ("RECONCILE__SETTLE", "300ms")];
    let running = Running::configured(&[("a@x", 2)], &settings).await;
    proven(&running).await;
    let scheduler = Fault::status(500).on("GET", "/scheduler/available");
    running.sim.fault(scheduler);
    fault_once(&running, Effect::ResetAfter);
    keyed(&running, "k")
        .await
        .assert_refused(502, "outcome-unknown");
    let id = accepted(&running.sim)[1];
    assert!(running.sim.finish(id));
    keyed(&running, "k").await.assert_refused(409, "key-in-use");
    running.sim.clear_faults();
    let answer = until_decided(&running, "k").await;
    assert_eq!(task_id(&answer), id);
    assert_eq!(running.sim.audit().submission_count, 2);
}

/// Waits until the upstream was asked for a history at least this often.
async fn until_histories_asked(running: &Running, count: usize) {
    eventually(async || {
        let requests = running.sim.requests().into_iter();
        let asked = requests.filter(|it| it.head.path.ends_with("/tasks"));
        (asked.count() >= count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn as_long_as_the_history_cannot_be_read_a_lost_key_stays_in_use() {
    for effect in [Effect::ResetAfter, Effect::ResetBefore] {
        let running = fleeting(&ROUNDS).await;
        proven(&running).await;
        running.sim.fault(Fault::status(503).on("GET", "/tasks"));
        fault_once(&running, effect.clone());
        keyed(&running, "k")
            .await
            .assert_refused(502, "outcome-unknown");
        until_ended(&running, "absent", 1.0).await;
        until_histories_asked(&running, 2).await;
        keyed(&running, "k").await.assert_refused(409, "key-in-use");
        assert_eq!(running.sim.audit().submission_count, 2);
        running.sim.clear_faults();
        let answer = until_decided(&running, "k").await;
        let started = accepted(&running.sim);
        assert_eq!(started.len(), 2, "{effect:?}");
        assert_eq!(started[1], task_id(&answer));
    }
}

#[tokio::test]
async fn what_a_lost_submission_may_have_become_is_named() {
    let running = fleeting(&ROUNDS).await;
    proven(&running).await;
    running.sim.set_history(HistoryStyle::Bare);
    fault_once(&running, Effect::ResetAfter);
    keyed(&running, "k")
        .await
        .assert_refused(502, "outcome-unknown");
    // Another tool starts a job on the same account, and the history shows no prompts.
    let sim = &running.sim;
    let token = format!("Bearer {}", sim.token());
    let headers = [JSON, ("authorization", &*token), ("x-sim-tool", "other")];
    let body = r#"{"email":"a@x","prompt":"another"}"#;
    let other = task_id(&send(sim.addr(), Method::POST, JOB, &headers, body).await);
    let ours = accepted(&running.sim)[1];
    let answer = eventually(async || {
        let answer = keyed(&running, "k").await;
        answer.assert_refused(409, "key-in-use");
        answer.json().get("tasks").is_some().then_some(answer)
    })
    .await;
    let expected = serde_json::json!([other.to_string(), ours.to_string()]);
    assert_eq!(answer.json()["tasks"], expected);
    assert!(answer.text.contains("start the job anyway with a new one"));
    running.sim.set_history(HistoryStyle::Full);
    let answer = until_decided(&running, "k").await;
    assert_eq!(task_id(&answer), ours, "its prompt tells");
    assert_eq!(running.sim.audit().submission_count, 3);
}

#[tokio::test]
async fn an_unreadable_row_may_be_the_job() {
    let running = fleeting(&ROUNDS).await;
    proven(&running).await;
    assert!(running.sim.add_unreadable_history("a@x", true));
    fault_once(&running, Effect::ResetBefore);
    keyed(&running, "k")
        .await
        .assert_refused(502, "outcome-unknown");
    until_ended(&running, "absent", 1.0).await;
    until_histories_asked(&running, 4).await;
    keyed(&running, "k").await.assert_refused(409, "key-in-use");
    assert!(running.sim.add_unreadable_history("a@x", false));
    let answer = until_decided(&running, "k").await;
    assert_eq!(accepted(&running.sim)[1], task_id(&answer));
}

#[tokio::test]
async fn no_refusal_is_remembered() {
    let running = Running::with(&[("a@x", 1)]).await;
    for status in [400, 422, 429] {
        fault_once(&running, Effect::Answer(Scripted::new(status)));
        let email = format!("{JOB}?email=a@x");
        let headers = [JSON, ("idempotency-key", "k")];
        let refused = send(running.addr, Method::POST, &email, &headers, PROMPT).await;
        assert_eq!(refused.status, status);
        running.post("/accounts/a@x/resume", "").await;
    }
    let lease = running.pick("").await;
    keyed(&running, "k").await.assert_refused(429, "saturated");
    running.release(&lease).await;
    task_id(&keyed(&running, "k").await);
}

#[tokio::test]
async fn while_a_job_start_is_answered_its_key_is_in_use() {
    let running = Running::configured(&[("a@x", 5)], &ROUNDS).await;
    fault_once(&running, Effect::Delay(Duration::from_millis(300)));
    let head = format!(
        "POST {JOB} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Idempotency-Key: k\r\nContent-Length: {}\r\n\r\n{PROMPT}",
        PROMPT.len()
    );
    let mut client = TcpStream::connect(running.addr).await.unwrap();
    client.write_all(head.as_bytes()).await.unwrap();
    eventually(async || (running.held().await == 1).then_some(())).await;
    keyed(&running, "k").await.assert_refused(409, "key-in-use");
    // The client leaves, and the job is started nevertheless.
    drop(client);
    let answer = until_decided(&running, "k").await;
    assert_eq!(accepted(&running.sim), [task_id(&answer)]);
    assert_eq!(answer.header("x-kling-replayed"), "answer");
}

#[tokio::test]
async fn a_key_belongs_to_one_request() {
    let running = Running::with(&[("a@x", 9)]).await;
    let key = ("idempotency-key", "k");
    task_id(&keyed(&running, "k").await);
    for (path, body) in [
        (JOB, "{}"),
        ("/v1/kling/videos/text2video?email=a@x", PROMPT),
    ] {
        let other = send(running.addr, Method::POST, path, &[JSON, key], body).await;
        other.assert_refused(422, "key-reused");
    }
    let elsewhere = "/v1/kling/images/kolors";
    let other = send(running.addr, Method::POST, elsewhere, &[JSON, key], PROMPT).await;
    assert_eq!(
        other.status,
        StatusCode::OK,
        "another path is another scope"
    );
    assert_eq!(running.sim.audit().submission_count, 2);
    for bad in ["", "a b", &"k".repeat(256)] {
        let answer = keyed(&running, bad).await;
        answer.assert_refused(400, "bad-request");
        assert!(answer.text.contains("Idempotency-Key"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_replay_needs_no_slot_also_for_a_client_that_asks_first() {
    let running = Running::with(&[("a@x", 1)]).await;
    let id = task_id(&keyed(&running, "k").await);
    assert_eq!(slots(&running, "a@x").await, Slots::held(1));
    for (key, status) in [("k", 200), ("other", 429)] {
        let headers = [JSON, ("idempotency-key", key), ("expect", "100-continue")];
        let answer = raw(&running, JOB, &headers, PROMPT).await;
        assert_eq!(answer.status, status, "{answer:?}");
        if status == 200 {
            assert_eq!(answer.json()["task"]["id"], id);
        }
    }
}

#[tokio::test]
async fn a_job_that_cannot_be_read_now_keeps_its_key_and_a_dead_one_its_id() {
    let running = Running::configured(&[("a@x", 1)], &ROUNDS).await;
    fault_once(&running, Effect::ResetAfter);
    keyed(&running, "k")
        .await
        .assert_refused(502, "outcome-unknown");
    let id = accepted(&running.sim)[0];
    until_slots(&running, "a@x", Slots::held(1)).await;
    let read = |status| Fault::status(status).on("GET", "/tasks/{task_id}");
    running.sim.fault(read(503));
    keyed(&running, "k").await.assert_refused(409, "key-in-use");
    running.sim.clear_faults();
    running.sim.fault(read(404).times(1));
    let dead = keyed(&running, "k").await;
    assert_eq!(dead.json(), serde_json::json!({ "task": { "id": id } }));
    assert_eq!(running.sim.audit().submission_count, 1);
}

#[tokio::test]
async fn what_was_lost_on_an_account_that_nobody_counts_stays_undecided() {
    let running = Running::configured(&[("a@x", 1)], &ROUNDS).await;
    fault_once(&running, Effect::Answer(Scripted::new(503)));
    let path = format!("{JOB}?email=unknown@x");
    let headers = [JSON, ("idempotency-key", "k")];
    let try_it = async || send(running.addr, Method::POST, &path, &headers, PROMPT).await;
    assert_eq!(try_it().await.status, 503);
    try_it().await.assert_refused(409, "key-in-use");
    assert_eq!(running.sim.audit().submission_count, 1);
    assert!(leases(&running).await.is_empty());
}

#[tokio::test]
async fn where_one_of_two_lost_submissions_became_a_job_no_key_is_free() {
    let settings = [ROUNDS[0], ("RECONCILE__SETTLE", "1s")];
    let running = Running::configured(&[("a@x", 2)], &settings).await;
    for (key, effect) in [("one", Effect::ResetBefore), ("two", Effect::ResetAfter)] {
        fault_once(&running, effect);
        let lost = keyed(&running, key).await;
        lost.assert_refused(502, "outcome-unknown");
    }
    until_ended(&running, "absent", 1.0).await;
    let mut statuses = Vec::new();
    for key in ["one", "two"] {
        statuses.push(keyed(&running, key).await.status.as_u16());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409], "a round cannot tell which one it was");
    assert_eq!(running.sim.audit().submission_count, 2);
}

/// Starts one job with as many attempts as it takes, as a careless client does. Returns what it sent, and
/// the job that it was told of.
async fn insist(running: Arc<Running>, job: usize, seed: u64) -> (String, i64) {
    let mut rng = SmallRng::seed_from_u64(seed.wrapping_add(job as u64));
    let key = format!("job-{job}");
    let body = format!(r#"{{"prompt":"p of {key}","replyRef":"{key}"}}"#);
    let headers = [JSON, ("idempotency-key", &*key), ("x-kling-wait", "60s")];
    loop {
        if rng.random_ratio(1, 4) {
            // The client gives up some attempts before they are answered.
            let attempt = send(running.addr, Method::POST, JOB, &headers, &body);
            let patience = Duration::from_millis(rng.random_range(0..50));
            drop(timeout(patience, attempt).await);
        }
        let answer = send(running.addr, Method::POST, JOB, &headers, &body).await;
        if answer.status == StatusCode::OK && answer.text.contains(r#""task""#) {
            return (body, task_id(&answer));
        }
        // The client waits as long as the answer says.
        if answer.status == StatusCode::CONFLICT {
            let retry_after_ms = answer.json()["retryAfterMs"].as_u64().unwrap();
            sleep(Duration::from_millis(retry_after_ms)).await;
        }
    }
}

/// The JSON of a submission without the account that it was put on.
fn without_email(sent: &str) -> String {
    let mut body: Value = serde_json::from_str(sent).unwrap();
    body.as_object_mut().unwrap().remove("email");
    body.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_often_a_client_insists_there_is_one_job() {
    const JOBS: usize = 60;
    let seed = drawn_seed();
    let ms = Duration::from_millis;
    let sim = Sim::builder()
        .seed(seed)
        .account("a@x", 6)
        .account("b@x", 4);
    let sim = sim.job_duration(JobDuration::between(ms(400), ms(600)));
    let sim = sim.release_lag(ms(0)..=ms(100)).start().await.unwrap();
    let settings = [
        ROUNDS[0],
        ("RECONCILE__SETTLE", "400ms"),
        ("UPSTREAM__REQUEST_TIMEOUT", "200ms"),
    ];
    let running = Arc::new(ready(sim, &settings).await);
    let plan = ChaosPlan::new(seed)
        .with(0.10, Effect::Delay(ms(40)))
        .with(0.10, Effect::Answer(Scripted::new(422)))
        .with(0.15, Effect::ResetAfter)
        .with(0.10, Effect::TruncateAfter)
        .with(0.05, Effect::StallAfter);
    running.sim.chaos(plan);
    let mut clients = JoinSet::new();
    for job in 0..JOBS {
        clients.spawn(insist(Arc::clone(&running), job, seed));
    }
    let told = timeout(6 * PATIENCE, clients.join_all()).await.unwrap();
    let audit = running.sim.audit();
    assert_eq!(
        (audit.duplicates, audit.over_limit_ours()),
        (0, 0),
        "{audit}"
    );
    let accepted = audit.submissions.iter().filter_map(|submission| {
        let Outcome::Accepted(task_id) = submission.outcome else {
            return None;
        };
        let sent = String::from_utf8_lossy(&submission.body).into_owned();
        Some((without_email(&sent), task_id.get()))
    });
    let mut started: Vec<_> = accepted.collect();
    assert_eq!(started.len(), JOBS);
    let told = told.into_iter();
    let mut told: Vec<_> = told.map(|(sent, id)| (without_email(&sent), id)).collect();
    started.sort_unstable();
    told.sort_unstable();
    assert_eq!(told, started, "each was told of its own job");
}
