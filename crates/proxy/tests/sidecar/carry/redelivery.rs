//! A client that gives up and sends the same job start again gets the answer that it missed, and no second
//! job.

mod endings;

use std::{collections::HashSet, sync::Arc, time::Duration};

use harness::{Answer, PATIENCE, Running, eventually, manual, send};
use http::{Method, StatusCode};
use kling_sim::{Effect, Fault};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::timeout,
};

use super::client::{JOB, JSON, PROMPT, accepted, drawn_seed, ready, task_id};

const ACCOUNTS: [(&str, u32); 2] = [("a@x", 4), ("b@x", 4)];
const NO_ROUNDS: (&str, &str) = ("RECONCILE__INTERVAL", "1h");
/// The job of this prompt fails.
const DOOMED: &str = r#"{"prompt":"doomed"}"#;
const GONE: &str =
    r#"kling_balancer_http_requests_total{code="499",method="POST",route="/v1/kling/*"}"#;
const UNDELIVERED: &str = "kling_balancer_undelivered_answers_total";

/// A sidecar whose next job start is answered after a while.
async fn slow(settings: &[(&str, &str)]) -> Arc<Running> {
    let sim = manual(&ACCOUNTS).start().await.unwrap();
    let running = ready(sim, &[&[NO_ROUNDS], settings].concat()).await;
    let slow = Effect::Delay(Duration::from_secs(1));
    running.sim.fault(Fault::new(slow).on_job_starts().times(1));
    Arc::new(running)
}

/// A connection on which a job start was sent.
struct Sender(TcpStream);

impl Sender {
    async fn new(running: &Running, lines: &str, body: &str) -> Self {
        let stream = TcpStream::connect(running.addr).await.unwrap();
        Self::over(stream, lines, body).await
    }

    async fn over(mut stream: TcpStream, lines: &str, body: &str) -> Self {
        let head = format!(
            "POST {JOB} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{lines}\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body.as_bytes()).await.unwrap();
        Self(stream)
    }

    /// The whole answer, if the connection ends with it or it is short.
    async fn answer(&mut self) -> String {
        let mut bytes = vec![0; 64 * 1024];
        let read = timeout(PATIENCE, self.0.read(&mut bytes)).await;
        let length = read.expect("no answer").unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }
}

async fn until_submitted(running: &Running, count: u64) {
    eventually(async || (running.sim.audit().submission_count == count).then_some(())).await;
}

/// Sends a start whose client leaves before the answer, and waits until the sidecar knows that no client has the answer.
async fn abandon(running: &Running, lines: &str, body: &str) {
    let first = Sender::new(running, lines, body).await;
    until_submitted(running, 1).await;
    drop(first);
    running
        .until_metric(UNDELIVERED, |count| count == 1.0)
        .await;
}

async fn start(running: &Running, headers: &[(&str, &str)], body: &str) -> Answer {
    let headers = [&[JSON], headers].concat();
    send(running.addr, Method::POST, JOB, &headers, body).await
}

#[track_caller]
fn assert_redelivered(answer: &Answer, id: i64) {
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.header("x-kling-replayed"), "undelivered");
    assert_eq!(task_id(answer), id);
}

async fn jobs(running: &Running, query: &str) -> Vec<Value> {
    let body = running.get(&format!("/jobs{query}")).await.json();
    body["jobs"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_start_that_comes_again_waits_for_the_answer_that_its_client_missed() {
    let running = slow(&[]).await;
    let first = Sender::new(&running, "", PROMPT).await;
    until_submitted(&running, 1).await;
    drop(first);
    // It does not wait for a slot, and waits for the answer all the same.
    let again = start(&running, &[("x-kling-wait", "0s")], PROMPT).await;
    let started = accepted(&running.sim);
    assert_eq!(started.len(), 1);
    assert_redelivered(&again, started[0]);
    // It is used up: the next one is another job.
    let another = start(&running, &[], PROMPT).await;
    assert!(!another.headers.contains_key("x-kling-replayed"));
    assert_eq!(accepted(&running.sim).len(), 2);
}

#[tokio::test]
async fn an_answer_that_nobody_got_waits_for_its_twin() {
    let running = slow(&[]).await;
    abandon(&running, "x-request-id: the-first\r\n", PROMPT).await;
    let id = accepted(&running.sim)[0];
    let listed = jobs(&running, "?requestId=the-first").await;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["taskId"], id.to_string());
    assert_eq!(listed[0]["outcome"], "accepted");
    assert_eq!(listed[0]["isDelivered"], false);
    let again = start(&running, &[], PROMPT).await;
    assert_redelivered(&again, id);
    eventually(async || {
        let listed = jobs(&running, "?requestId=the-first").await;
        (listed[0]["isDelivered"] == true).then_some(())
    })
    .await;
    assert_eq!(running.metric(UNDELIVERED).await, 1.0);
    assert_eq!(running.sim.audit().submission_count, 1);
}

#[tokio::test]
async fn what_differs_is_no_twin() {
    let running = slow(&[]).await;
    abandon(&running, "", PROMPT).await;
    let path = "/v1/kling/videos/image2video-frames";
    for answer in [
        start(&running, &[], r#"{"prompt":"a ship"}"#).await,
        // A fresh key asks for a second job.
        start(&running, &[("idempotency-key", "k")], PROMPT).await,
        send(running.addr, Method::POST, path, &[JSON], PROMPT).await,
    ] {
        assert!(
            !answer.headers.contains_key("x-kling-replayed"),
            "{answer:?}"
        );
    }
    assert_redelivered(
        &start(&running, &[], PROMPT).await,
        accepted(&running.sim)[0],
    );
}

#[tokio::test]
async fn a_start_under_a_key_is_delivered_to_no_other() {
    let running = slow(&[]).await;
    abandon(&running, "Idempotency-Key: k\r\n", PROMPT).await;
    let other = start(&running, &[], PROMPT).await;
    assert!(!other.headers.contains_key("x-kling-replayed"));
    let again = start(&running, &[("idempotency-key", "k")], PROMPT).await;
    assert_eq!(again.header("x-kling-replayed"), "answer");
    assert_eq!(task_id(&again), accepted(&running.sim)[0]);
    assert_eq!(jobs(&running, "?key=k").await.len(), 1);
}

#[tokio::test]
async fn equal_starts_of_clients_that_are_there_are_jobs_of_their_own() {
    let running = slow(&[]).await;
    let mut first = Sender::new(&running, "", PROMPT).await;
    until_submitted(&running, 1).await;
    let second = start(&running, &[], PROMPT).await;
    assert_eq!(second.status, StatusCode::OK);
    assert!(first.answer().await.starts_with("HTTP/1.1 200 "));
    // After a moment the client cannot reset the connection unseen.
    let third = start(&running, &[], PROMPT).await;
    assert!(!third.headers.contains_key("x-kling-replayed"));
    assert_eq!(accepted(&running.sim).len(), 3);
}

#[tokio::test]
async fn each_answer_is_promised_to_one_start_and_comes_back_with_its_client() {
    let running = slow(&[]).await;
    let first = Sender::new(&running, "", PROMPT).await;
    until_submitted(&running, 1).await;
    drop(first);
    // The second waits for the answer of the first, and leaves as well.
    let second = Sender::new(&running, "", PROMPT).await;
    let third = Sender::new(&running, "", PROMPT).await;
    drop((second, third));
    eventually(async || (!accepted(&running.sim).is_empty()).then_some(())).await;
    let ids: HashSet<_> = {
        let mut starts = JoinSet::new();
        for _ in 0..2 {
            let running = Arc::clone(&running);
            starts.spawn(async move { task_id(&start(&running, &[], PROMPT).await) });
        }
        starts.join_all().await.into_iter().collect()
    };
    assert_eq!(ids.len(), 2, "no answer is given twice");
    let started: HashSet<_> = accepted(&running.sim).into_iter().collect();
    assert!(ids.is_subset(&started));
}

#[tokio::test]
async fn a_refused_start_leaves_its_twin_to_go_on_by_itself() {
    let running = slow(&[]).await;
    running.sim.clear_faults();
    let refused = kling_sim::Answer::new(400);
    let slow = Effect::Delay(Duration::from_millis(500));
    running.sim.fault(Fault::new(slow).on_job_starts().times(1));
    let body = r#"{"nothing":"that a job needs"}"#;
    let first = Sender::new(&running, "", body).await;
    until_submitted(&running, 1).await;
    drop((first, refused));
    let again = start(&running, &[], body).await;
    assert_eq!(again.status, StatusCode::BAD_REQUEST, "{again:?}");
    until_submitted(&running, 2).await;
    assert!(accepted(&running.sim).is_empty());
}

#[tokio::test]
async fn a_lost_start_is_no_reason_for_a_second_job() {
    let rounds = ("RECONCILE__INTERVAL", "100ms");
    let sim = manual(&[("a@x", 4)]).start().await.unwrap();
    let running = Arc::new(
        ready(
            sim,
            &[
                rounds,
                ("RECONCILE__SETTLE", "1h"),
                ("UPSTREAM__REQUEST_TIMEOUT", "700ms"),
            ],
        )
        .await,
    );
    running
        .sim
        .fault(Fault::new(Effect::StallAfter).on_job_starts().times(1));
    let first = Sender::new(&running, "", PROMPT).await;
    until_submitted(&running, 1).await;
    drop(first);
    // It waits for the end of the first, and hears what that one would have heard.
    let again = start(&running, &[], PROMPT).await;
    let id = accepted(&running.sim)[0];
    if again.status == StatusCode::OK {
        assert_redelivered(&again, id);
    } else {
        assert_eq!(again.status, StatusCode::GATEWAY_TIMEOUT, "{again:?}");
        let found = eventually(async || {
            let again = start(&running, &[], PROMPT).await;
            (again.status == StatusCode::OK).then_some(again)
        })
        .await;
        assert_redelivered(&found, id);
    }
    assert_eq!(running.sim.audit().submission_count, 1);
}

#[tokio::test]
async fn its_own_poll_uses_an_answer_up() {
    let running = slow(&[]).await;
    abandon(&running, "", PROMPT).await;
    let id = accepted(&running.sim)[0];
    let poll = running.get(&format!("/v1/kling/tasks/{id}")).await;
    assert_eq!(poll.status, StatusCode::OK);
    let another = start(&running, &[], PROMPT).await;
    assert!(!another.headers.contains_key("x-kling-replayed"));
    assert_eq!(accepted(&running.sim).len(), 2);
}

#[tokio::test]
async fn a_job_that_failed_is_delivered_to_nobody() {
    let running = slow(&[]).await;
    abandon(&running, "", DOOMED).await;
    let id = accepted(&running.sim)[0];
    assert!(running.sim.finish(id));
    let another = start(&running, &[], DOOMED).await;
    assert!(!another.headers.contains_key("x-kling-replayed"));
    assert_eq!(accepted(&running.sim).len(), 2);
    let listed = jobs(&running, &format!("?taskId={id}")).await;
    assert_eq!(listed[0]["result"], "failed");
}

#[tokio::test]
async fn an_answer_is_delivered_though_its_account_hangs() {
    let running = slow(&[]).await;
    abandon(&running, "", PROMPT).await;
    let id = accepted(&running.sim)[0];
    let hangs = Fault::new(Effect::StallBefore).on("GET", "/tasks/{task_id}");
    running.sim.fault(hangs);
    assert_redelivered(&start(&running, &[], PROMPT).await, id);
    assert_eq!(accepted(&running.sim).len(), 1);
}

#[tokio::test]
async fn an_answer_is_kept_for_as_long_as_the_setting_says() {
    let running = slow(&[("FORWARD__REDELIVER", "0s")]).await;
    abandon(&running, "", PROMPT).await;
    let another = start(&running, &[], PROMPT).await;
    assert!(!another.headers.contains_key("x-kling-replayed"));
    assert_eq!(accepted(&running.sim).len(), 2);
}

#[tokio::test]
async fn clients_with_tokens_have_answers_of_their_own() {
    let tokens = r#"["first-client-token", "second-client-token"]"#;
    let running = slow(&[("AUTH__TOKENS", tokens)]).await;
    let first = Sender::new(
        &running,
        "Authorization: Bearer first-client-token\r\n",
        PROMPT,
    )
    .await;
    until_submitted(&running, 1).await;
    drop(first);
    eventually(async || (accepted(&running.sim).len() == 1).then_some(())).await;
    let other = start(
        &running,
        &[("authorization", "Bearer second-client-token")],
        PROMPT,
    )
    .await;
    assert!(!other.headers.contains_key("x-kling-replayed"));
    let again = start(
        &running,
        &[("authorization", "Bearer first-client-token")],
        PROMPT,
    )
    .await;
    assert_redelivered(&again, accepted(&running.sim)[0]);
}

/// The task in an answer that has come whole.
fn accepted_in(answer: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(answer).ok()?;
    let (_, json) = text.strip_prefix("HTTP/1.1 200 ")?.split_once("\r\n\r\n")?;
    let json: Value = serde_json::from_str(json).ok()?;
    json["task"]["id"].as_i64()
}

/// Sends a start, gives up after `patience`, and sends it again until it has an answer.
async fn insist(running: &Running, prompt: usize, patience: Duration) -> i64 {
    let body = format!(r#"{{"prompt":"number {prompt}"}}"#);
    loop {
        let lines = "x-kling-wait: 1m\r\nConnection: close\r\n";
        // Given up, its socket is closed before the next one is opened, as by a client that is a process.
        let mut sender = Sender::new(running, lines, &body).await;
        let mut answer = Vec::new();
        let reading = async {
            let mut has_more = true;
            while has_more && accepted_in(&answer).is_none() {
                let read = sender.0.read_buf(&mut answer).await;
                has_more = read.is_ok_and(|count| count > 0);
            }
        };
        let _is_over = timeout(patience, reading).await;
        if let Some(id) = accepted_in(&answer) {
            return id;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn impatient_clients_without_keys_start_each_job_once() {
    const PROMPTS: usize = 200;
    const AT_ONCE: usize = 20;
    let mut rng = SmallRng::seed_from_u64(drawn_seed());
    let sim = manual(&[("a@x", 110), ("b@x", 110)]).start().await.unwrap();
    let running = Arc::new(ready(sim, &[("RECONCILE__INTERVAL", "200ms")]).await);
    let slow = Effect::Delay(Duration::from_millis(400));
    running.sim.fault(Fault::new(slow).on_job_starts());
    let mut clients = JoinSet::new();
    let mut ids = HashSet::new();
    for prompt in 0..PROMPTS {
        if clients.len() == AT_ONCE {
            ids.insert(clients.join_next().await.unwrap().unwrap());
        }
        let running = Arc::clone(&running);
        let patience = Duration::from_millis(rng.random_range(10..300));
        clients.spawn(async move { insist(&running, prompt, patience).await });
    }
    ids.extend(timeout(6 * PATIENCE, clients.join_all()).await.unwrap());
    assert_eq!(ids.len(), PROMPTS, "every client has a task of its own");
    let started: HashSet<_> = accepted(&running.sim).into_iter().collect();
    assert_eq!(started, ids);
    assert_eq!(running.sim.audit().submission_count, PROMPTS as u64);
}
