//! Answers before the end of a request, to clients that ask before they send and to clients that
//! still send.

use super::{
    framing::{answer, fine, request},
    sockets::{ANY, START, Stage, Wire},
};

const EXPECT: &str = "expect: 100-continue";
const GO_ON: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The header lines of a job start that asks before it sends its body.
fn asking<'a>(length: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&[EXPECT, "content-type: application/json", length], more].concat()
}

/// Checks that a job start that asks first gets its final answer at once.
async fn assert_refused_unsent(stage: &Stage, lines: &[&str], status: u16, reason: &str) {
    let first = format!("POST {START}");
    let mut client = stage.client_sends(request(&first, lines, "")).await;
    let told = client.message().await;
    told.assert_refused(status, reason);
    assert!(told.is("connection", "close"), "{told:?}");
    // The next bytes may be the body, so the sidecar must not read them as a request.
    client.ended().await;
}

#[tokio::test]
async fn a_job_start_that_asks_first_is_refused_by_its_head() {
    let stage = Stage::with(&[("FORWARD__BODY_MAX", "1KiB")]).await;
    let large = asking("content-length: 1025", &[]);
    assert_refused_unsent(&stage, &large, 413, "body-too-large").await;
    let encoded = asking("content-length: 2", &["content-encoding: gzip"]);
    assert_refused_unsent(&stage, &encoded, 415, "unsupported-media").await;
    let wait = asking("content-length: 2", &["x-kling-wait: soon"]);
    assert_refused_unsent(&stage, &wait, 400, "bad-request").await;
}

#[tokio::test]
async fn a_job_start_that_asks_first_is_refused_while_all_slots_are_in_use() {
    let stage = Stage::new().await;
    let mut leases = Vec::new();
    for _ in 0..super::sockets::SLOTS {
        leases.push(stage.running.pick("").await);
    }
    let lines = asking("content-length: 2", &[]);
    assert_refused_unsent(&stage, &lines, 429, "saturated").await;
    stage.running.release(&leases[0]).await;
    assert_accepted(&stage, &format!("POST {START}"), &lines).await;
}

#[tokio::test]
async fn a_job_start_that_asks_first_and_does_not_wait_is_refused_before_the_list_is_known() {
    let stage = Stage::without_accounts().await;
    let lines = asking("content-length: 2", &[]);
    assert_refused_unsent(&stage, &lines, 429, "learning").await;
    let waiting = asking("content-length: 2", &["x-kling-wait: 1h"]);
    let mut client = stage
        .client_sends(request(&format!("POST {START}"), &waiting, ""))
        .await;
    assert_eq!(client.take(GO_ON.len()).await, GO_ON);
}

/// Checks that the client is told to go on and then gets its answer, and that the question does not
/// reach the upstream.
async fn assert_accepted(stage: &Stage, first: &str, lines: &[&str]) {
    let mut client = stage.client_sends(request(first, lines, "")).await;
    assert_eq!(client.take(GO_ON.len()).await, GO_ON);
    client.send("{}").await;
    let mut upstream = stage.upstream().await;
    let seen = upstream.message().await;
    assert!(!seen.has("expect"), "{seen:?}");
    upstream.send(fine()).await;
    assert_eq!(client.message().await.content, b"{}");
    upstream.close().await;
}

#[tokio::test]
async fn a_call_that_asks_first_is_told_to_go_on() {
    let stage = Stage::new().await;
    let lines = asking("content-length: 2", &[]);
    for path in [START, ANY, "/v1/kling/assets", "/v1/kling/elements"] {
        assert_accepted(&stage, &format!("POST {path}"), &lines).await;
    }
}

#[tokio::test]
async fn a_call_that_asks_first_keeps_its_body_if_the_upstream_is_not_there() {
    let stage = Stage::new().await;
    let lines = asking("content-length: 2", &[]);
    let call = request(&format!("POST {ANY}"), &lines, "");
    let addr = stage.running.addr;
    let _running = stage.close_upstream();
    let mut client = Wire::connect(addr).await;
    client.send(call).await;
    let told = client.message().await;
    told.assert_refused(502, "upstream-unreachable");
}

/// An upload much larger than all buffers on its way.
const LARGE: &str = "content-length: 1000000000";

/// The answer of an upstream that refuses the upload.
fn too_large(lines: &[&str]) -> Vec<u8> {
    let lines = [&["content-length: 9", "x-any: y"], lines].concat();
    answer("413 Payload Too Large", &lines, "too large")
}

async fn assert_told(client: &mut Wire) {
    let told = client.message().await;
    assert_eq!(told.first, "HTTP/1.1 413 Payload Too Large");
    assert!(
        told.is("x-any", "y") && told.content == b"too large",
        "{told:?}"
    );
}

#[tokio::test]
async fn an_answer_in_mid_upload_reaches_the_client_though_the_upstream_hangs_up() {
    let stage = Stage::new().await;
    // Answer and end come close together, so the sidecar may notice either first.
    for _ in 0..100 {
        for body in [LARGE, "transfer-encoding: chunked"] {
            let call = request(&format!("POST {ANY}"), &[body], "");
            let mut client = stage.client_sends(call).await;
            let mut upstream = stage.upstream().await;
            upstream.head().await;
            let piece = match body {
                LARGE => vec![b'x'; 16 * 1024],
                _ => [b"4000\r\n", &[b'x'; 16 * 1024][..], b"\r\n"].concat(),
            };
            let flood = client.flood(piece);
            upstream.take(100_000).await;
            upstream.send(too_large(&["connection: close"])).await;
            drop(upstream);
            assert_told(&mut client).await;
            client.ended().await;
            drop(flood);
        }
    }
}

#[tokio::test]
async fn a_call_may_be_answered_while_it_is_sent() {
    let stage = Stage::new().await;
    let lines = ["transfer-encoding: chunked"];
    let call = request(&format!("POST {ANY}"), &lines, "");
    let mut client = stage.client_sends(&call).await;
    let mut upstream = stage.upstream().await;
    for _ in 0..2 {
        upstream.head().await;
        upstream.send(answer("200 OK", &lines, "")).await;
        // It is not known yet whether the request will be read to its end.
        assert!(client.head().await.is("connection", "close"));
        for _ in 0..3 {
            client.send("3\r\nabc\r\n").await;
            assert_eq!(upstream.chunk().await, b"abc");
            upstream.send("3\r\nxyz\r\n").await;
            assert_eq!(client.chunk().await, b"xyz");
        }
        client.send("0\r\n\r\n").await;
        assert_eq!(upstream.take(5).await, b"0\r\n\r\n");
        upstream.send("0\r\n\r\n").await;
        assert_eq!(client.take(5).await, b"0\r\n\r\n");
        client.ended().await;
        // The upstream's connection can carry another call.
        client = stage.client_sends(&call).await;
    }
}

#[tokio::test]
async fn an_answer_in_mid_upload_ends_both_connections_when_nobody_sends_on() {
    let stage = Stage::new().await;
    for path in [ANY, "/v1/kling/assets"] {
        let call = request(&format!("POST {path}"), &[LARGE], "the beginning");
        let mut client = stage.client_sends(call).await;
        let mut upstream = stage.upstream().await;
        upstream.head().await;
        upstream.take(13).await;
        upstream.send(too_large(&[])).await;
        assert_told(&mut client).await;
        upstream.ended().await;
        client.ended().await;
    }
}

#[tokio::test]
async fn an_upstream_that_answers_and_reads_nothing_holds_no_connection() {
    let stage = Stage::with(&[("UPSTREAM__IDLE_TIMEOUT", "300ms")]).await;
    let call = request(&format!("POST {ANY}"), &[LARGE], "");
    let mut client = stage.client_sends(call).await;
    let mut upstream = stage.upstream().await;
    upstream.head().await;
    let flood = client.flood(vec![b'x'; 16 * 1024]);
    flood.until_blocked().await;
    upstream.send(too_large(&[])).await;
    assert_told(&mut client).await;
    client.ended().await;
    drop(flood);
    upstream.until_gone().await;
}

#[tokio::test]
async fn a_job_start_is_answered_though_the_upstream_hangs_up_in_mid_body() {
    let stage = Stage::new().await;
    let mut body = vec![b' '; 8 * 1024 * 1024];
    body[..2].copy_from_slice(b"{}");
    let length = format!("content-length: {}", body.len());
    for _ in 0..20 {
        let call = request(&format!("POST {START}"), &[&length], &body);
        let mut client = stage.client_sends(call).await;
        let mut upstream = stage.upstream().await;
        upstream.head().await;
        upstream.take(100_000).await;
        upstream.send(too_large(&["connection: close"])).await;
        drop(upstream);
        assert_told(&mut client).await;
    }
}
