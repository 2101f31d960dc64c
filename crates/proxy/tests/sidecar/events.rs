//! `/events`: what happens reaches every reader in order, and a reader that is slow, idle or gone costs the others
//! nothing.

mod kinds;
mod log;
mod many;
mod reader;

use std::time::Duration;

use harness::{Running, listening, manual, within};
use http::Method;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use reader::{Reader, Told};

/// Two events: an idle account that is drained has nothing left to wait for.
const DRAIN: &str = "/accounts/a@x/drain";
/// One event.
const RESUME: &str = "/accounts/a@x/resume";

/// A sidecar about whose only account so many pairs of three events were told.
async fn told(pairs: usize) -> Running {
    let running = Running::with(&[("a@x", 1)]).await;
    for _ in 0..pairs {
        running.post(DRAIN, "").await;
        running.post(RESUME, "").await;
    }
    running
}

/// The events up to the next one of this type, which is included.
async fn until(reader: &mut Reader, kind: &str) -> Vec<Told> {
    let mut seen = Vec::new();
    loop {
        let told = reader.next().await;
        let told = told.unwrap_or_else(|| panic!("no {kind} after {seen:#?}"));
        let is_last = told.kind == kind;
        seen.push(told);
        if is_last {
            return seen;
        }
    }
}

#[tokio::test]
async fn a_reader_that_comes_again_misses_nothing() {
    let running = told(2).await;
    let mut first = Reader::after(&running, 0).await;
    let all = until(&mut first, "account-drained").await;
    assert!(
        ["sidecar-started", "list-changed", "ready", "account-state"]
            .iter()
            .all(|kind| all.iter().any(|told| told.kind == *kind)),
        "{all:#?}"
    );
    for (told, next) in all.iter().zip(&all[1..]) {
        assert_eq!(told.id + 1, next.id);
    }
    for told in &all {
        assert_eq!(told.data["id"], told.id, "the id is in the data too");
        assert_eq!(told.data["type"], *told.kind);
        let message = told.data["message"].as_str().unwrap();
        assert!(message.split(' ').count() >= 3, "{message}");
    }
    drop(first);
    // What happens meanwhile is there when it comes again.
    let last = all.last().unwrap().id;
    running.post(DRAIN, "").await;
    let mut again = Reader::after(&running, last).await;
    assert_eq!(again.next().await.unwrap().id, last + 1);
    // Without an id only what happens from now on is told.
    let mut fresh = Reader::open(running.addr, &[]).await;
    running.post(RESUME, "").await;
    let told = fresh.next().await.unwrap();
    assert_eq!(told.data["to"], "available", "{told:?}");
    assert_eq!(told.data["email"], "a@x");
    assert_eq!(
        told.data["alias"],
        running.account("a@x").await["alias"],
        "{told:?}"
    );
}

#[tokio::test]
async fn ids_grow_over_a_restart() {
    let sim = manual(&[("a@x", 1)]).start().await.unwrap();
    let mut last = 0;
    for _ in 0..3 {
        let end = CancellationToken::new();
        let sidecar = listening(&sim, &[], end.clone()).await;
        let addr = sidecar.addr().unwrap();
        let task = tokio::spawn(sidecar.run());
        // What an earlier process told is not kept, and its ids are older than all of this one.
        let mut reader = Reader::open(addr, &[("last-event-id", &last.to_string())]).await;
        let seen = until(&mut reader, "ready").await;
        assert_eq!(seen[0].kind, "sidecar-started", "{seen:#?}");
        assert!(seen[0].id > last);
        last = seen.last().unwrap().id;
        end.cancel();
        task.await.unwrap().unwrap();
        while let Some(told) = reader.next().await {
            assert!(told.id > last);
            last = told.id;
        }
    }
}

#[tokio::test]
async fn what_is_no_id_is_refused() {
    let running = Running::with(&[("a@x", 1)]).await;
    for id in [
        "",
        "x",
        "-1",
        "+1",
        "1.0",
        "0x10",
        " 1 2",
        "18446744073709551616",
    ] {
        let headers = [("last-event-id", id)];
        let answer = running.send(Method::GET, "/events", &headers, "").await;
        answer.assert_refused(400, "bad-request");
        assert!(answer.text.contains("Last-Event-ID"), "{answer:?}");
    }
    let twice = [("last-event-id", "1"), ("last-event-id", "1")];
    let answer = running.send(Method::GET, "/events", &twice, "").await;
    answer.assert_refused(400, "bad-request");
    let queried = running.get("/events?after=1").await;
    queried.assert_refused(400, "bad-request");
    let posted = running.post("/events", "").await;
    posted.assert_refused(405, "method-not-allowed");
    assert_eq!(running.metric("kling_balancer_event_readers").await, 0.0);
}

#[tokio::test]
async fn a_token_that_may_only_look_reads_events() {
    let tokens = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(tokens.path(), "page read-token-of-16-chars\n").unwrap();
    let settings = [
        ("AUTH__TOKENS", "full-token-of-16-chars"),
        ("AUTH__READ_TOKENS_FILE", tokens.path().to_str().unwrap()),
    ];
    let running = Running::configured(&[("a@x", 1)], &settings).await;
    let refused = running.get("/events").await;
    refused.assert_refused(401, "unauthorized");
    for token in ["read-token-of-16-chars", "full-token-of-16-chars"] {
        let shown = format!("Bearer {token}");
        let headers = [("authorization", &*shown), ("last-event-id", "0")];
        let mut reader = Reader::open(running.addr, &headers).await;
        assert_eq!(reader.next().await.unwrap().kind, "sidecar-started");
        assert!(reader.head.contains("content-type: text/event-stream\r\n"));
        assert!(reader.head.contains("cache-control: no-store\r\n"));
        assert!(reader.head.contains("connection: close\r\n"));
    }
}

#[tokio::test]
async fn a_reader_that_leaves_is_forgotten() {
    let running = Running::with(&[("a@x", 1)]).await;
    let readers = "kling_balancer_event_readers";
    for _ in 0..3 {
        let reader = Reader::open(running.addr, &[]).await;
        running.until_metric(readers, |count| count == 1.0).await;
        drop(reader);
        // Nothing is written to it meanwhile.
        running.until_metric(readers, |count| count == 0.0).await;
    }
    assert_eq!(
        running
            .metric("kling_balancer_event_readers_cut_total")
            .await,
        0.0
    );
}

#[tokio::test]
async fn the_end_of_a_stream_is_told_and_holds_up_no_shutdown() {
    let running = Running::with(&[("a@x", 1)]).await;
    // In chunks: the last one of length 0 tells the end.
    let mut chunked = Reader::request(running.addr, "HTTP/1.1", &[("last-event-id", "0")]).await;
    let mut stuck = Reader::request(running.addr, "HTTP/1.1", &[]).await;
    running.shutdown.cancel();
    within(running.task).await.unwrap().unwrap();
    let rest = chunked.rest().await;
    assert!(rest.contains("event: not-ready\n"), "{rest}");
    assert!(rest.contains(r#""reasons":["shutting-down"]"#), "{rest}");
    assert!(rest.ends_with("\r\n0\r\n\r\n"), "{rest}");
    assert!(stuck.rest().await.ends_with("\r\n0\r\n\r\n"));
}

/// The trace id of W3C's own example.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[tokio::test]
async fn the_id_of_a_trace_runs_from_the_call_to_its_end() {
    let settings = [("RECONCILE__INTERVAL", "100ms")];
    let running = Running::configured(&[("a@x", 1)], &settings).await;
    let mut reader = Reader::open(running.addr, &[]).await;
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let headers = [
        ("content-type", "application/json"),
        ("traceparent", &*parent),
    ];
    let job = "/v1/kling/videos/text2video";
    let started = running
        .send(Method::POST, job, &headers, r#"{"prompt":"a boat"}"#)
        .await;
    let task_id = started.json()["task"]["id"].to_string();
    let leases = running.get("/leases").await.json();
    assert_eq!(leases["leases"][0]["requestId"], TRACE, "{leases}");
    let listed = running
        .get(&format!("/jobs?requestId={TRACE}"))
        .await
        .json();
    assert_eq!(listed["jobs"][0]["taskId"], *task_id, "{listed}");
    // The upstream gets the trace as it came, and no id that the client did not send.
    let submissions = running.sim.audit().submissions;
    let head = &submissions[0].head;
    let sent = |name: &str| head.headers.get(name).and_then(|it| it.to_str().ok());
    assert_eq!(sent("traceparent"), Some(&*parent));
    assert_eq!(sent("x-request-id"), None);
    // Answers of our own say it, refusals included.
    let full = running
        .send(Method::POST, job, &headers, r#"{"prompt":"a boat"}"#)
        .await;
    full.assert_refused(429, "saturated");
    assert_eq!(full.header("x-request-id"), TRACE);
    assert_eq!(running.sim.finish_all(), 1);
    let seen = until(&mut reader, "job-ended").await;
    for kind in ["job-started", "job-ended"] {
        let told = seen.iter().find(|told| told.kind == kind).unwrap();
        let Value::Object(data) = &told.data else {
            panic!("{told:?}")
        };
        assert_eq!(data["requestId"], TRACE);
        assert_eq!(data["client"], Value::Null);
        assert_eq!(data["operation"], "/videos/text2video");
        assert_eq!(data["email"], "a@x");
        assert_eq!(data["taskId"], *task_id);
    }
    let durations = r#"kling_balancer_job_duration_seconds_count{operation="/videos/text2video"}"#;
    assert_eq!(running.metric(durations).await, 1.0);
    let took = seen.last().unwrap().data["durationMs"].as_u64().unwrap();
    assert!(Duration::from_millis(took) < harness::PATIENCE);
}
