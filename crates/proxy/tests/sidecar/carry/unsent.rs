//! Calls that were not sent, because no connection could be opened.

use std::{net::Ipv4Addr, sync::Arc};

use harness::{Running, Slots, eventually};
use http::{Method, StatusCode};
use tempfile::NamedTempFile;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
};

use super::client::{JOB, JSON, PROMPT, slots};

const TRIED: &str = r#"kling_balancer_upstream_request_duration_seconds_count{class="job-start"}"#;

/// A sidecar whose upstream has bound its port, but refuses connections until it listens.
pub(crate) async fn unreachable() -> (Arc<Running>, TcpSocket, NamedTempFile) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let base_url = format!("http://{}/v1/kling", socket.local_addr().unwrap());
    let list = NamedTempFile::new().unwrap();
    std::fs::write(list.path(), r#"{"a@x":{"maxJobs":2}}"#).unwrap();
    let settings = [
        ("UPSTREAM__BASE_URL", base_url.as_str()),
        ("ACCOUNTS__FILE", list.path().to_str().unwrap()),
        ("RECONCILE__INTERVAL", "0"),
    ];
    let running = Running::configured(&[], &settings).await;
    (Arc::new(running), socket, list)
}

#[tokio::test]
async fn a_submission_that_was_not_sent_is_tried_again_and_takes_no_slot() {
    let (running, _socket, _list) = unreachable().await;
    for keyed in [&[JSON][..], &[JSON, ("idempotency-key", "k")]] {
        let waits = [keyed, &[("x-kling-wait", "700ms")]].concat();
        let answer = running.send(Method::POST, JOB, &waits, PROMPT).await;
        // Vendor clients come back after a 429, and give up after a 502.
        answer.assert_refused(429, "upstream-unreachable");
    }
    let listed = running.get("/jobs").await.json();
    for job in listed["jobs"].as_array().unwrap() {
        assert_eq!(job["outcome"], "unsent", "{listed}");
        assert_eq!(job["isDelivered"], true, "{listed}");
    }
    // Tries at 0, 100 and 300 ms open the breaker. While it is open, nothing is tried.
    assert_eq!(running.metric(TRIED).await, 4.0);
    let readiness = running.get("/readyz?verbose").await;
    assert_eq!(readiness.status, 200, "picks are granted");
    assert!(readiness.text.contains("[-] connections"), "{readiness:?}");
    assert_eq!(slots(&running, "a@x").await, Slots::NONE);
    let account = running.account("a@x").await;
    assert_eq!(account["state"], "available", "it is not to blame");
    let released = r#"kling_balancer_leases_ended_total{cause="released"}"#;
    assert_eq!(running.metric(released).await, 4.0);
    for path in ["/v1/kling/tasks/7?email=a@x", "/v1/kling/assets"] {
        let answer = running.get(path).await;
        answer.assert_refused(502, "upstream-unreachable");
    }
}

#[tokio::test]
async fn a_submission_reaches_an_upstream_that_comes_back_in_time_and_is_sent_once() {
    let (running, socket, _list) = unreachable().await;
    let client = Arc::clone(&running);
    let client = tokio::spawn(async move {
        let headers = [JSON, ("x-kling-wait", "60s")];
        client.send(Method::POST, JOB, &headers, PROMPT).await
    });
    eventually(async || (running.metric(TRIED).await > 0.0).then_some(())).await;
    let listener = socket.listen(8).unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut request = Vec::new();
    while !request.ends_with(b"}") {
        assert!(
            stream.read_buf(&mut request).await.unwrap() > 0,
            "{request:?}"
        );
    }
    let body = r#"{"task":{"id":7}}"#;
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await.unwrap();
    let answer = client.await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.header("x-kling-attempts"), "1");
    assert_eq!(slots(&running, "a@x").await, Slots::held(1));
}

#[tokio::test]
async fn a_job_start_that_waits_for_an_upstream_is_told_of_the_shutdown() {
    let (running, _socket, _list) = unreachable().await;
    let client = Arc::clone(&running);
    let client = tokio::spawn(async move {
        let headers = [JSON, ("x-kling-wait", "60s")];
        client.send(Method::POST, JOB, &headers, PROMPT).await
    });
    // The breaker is open: from now on it waits, and tries nothing.
    eventually(async || (running.metric(TRIED).await >= 3.0).then_some(())).await;
    running.shutdown.cancel();
    let refused = client.await.unwrap();
    refused.assert_refused(429, "shutting-down");
}
