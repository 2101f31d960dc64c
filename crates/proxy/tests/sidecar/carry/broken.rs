//! Messages that break off or never come: the sidecar never completes them, and tells the client
//! whether the upstream may have acted.

use super::{
    framing::{Message, answer, fine, request},
    sockets::{ANY, START, Stage, TASK, Wire},
};

/// Answers that break off: short of their length, in mid-chunk, between chunks, or with a chunk that is none.
fn broken_answers() -> [Vec<u8>; 6] {
    let chunked = ["transfer-encoding: chunked"];
    [
        answer("200 OK", &["content-length: 10"], "{\"a\":"),
        answer("200 OK", &["content-length: 10"], ""),
        answer("200 OK", &chunked, "5\r\n{\"a\""),
        answer("200 OK", &chunked, "5\r\n{\"a\":\r\n"),
        answer("200 OK", &chunked, "0x5\r\n{\"a\":\r\n"),
        answer("200 OK", &chunked, "5\n{\"a\":\r\n"),
    ]
}

#[tokio::test]
async fn a_broken_answer_is_never_completed() {
    let stage = Stage::new().await;
    for broken in broken_answers() {
        let call = request(&format!("GET {ANY}"), &[], "");
        let mut client = stage.client_sends(call).await;
        let mut upstream = stage.upstream().await;
        upstream.message().await;
        upstream.send(broken).await;
        drop(upstream);
        let (told, _) = client.rest().await;
        let told = String::from_utf8(told).unwrap();
        let (head, body) = told.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{told}");
        let is_whole = match head.contains("chunked") {
            true => body.ends_with("0\r\n\r\n"),
            false => body.len() == 10,
        };
        assert!(!is_whole, "{told}");
    }
}

#[track_caller]
fn assert_unknown(told: &Message, status: u16) {
    told.assert_refused(status, "outcome-unknown");
    assert!(told.is("x-kling-outcome", "unknown"), "{told:?}");
    assert!(!told.has("retry-after"), "{told:?}");
}

#[tokio::test]
async fn a_broken_answer_that_is_read_leaves_its_outcome_unknown() {
    let stage = Stage::new().await;
    for first in [format!("POST {START}"), format!("GET {TASK}")] {
        for broken in broken_answers() {
            let call = request(&first, &["content-length: 2"], "{}");
            let mut client = stage.client_sends(call).await;
            let mut upstream = stage.upstream().await;
            upstream.message().await;
            upstream.send(broken).await;
            drop(upstream);
            assert_unknown(&client.message().await, 502);
        }
    }
}

#[tokio::test]
async fn an_upstream_that_ends_before_its_answer_leaves_the_outcome_unknown() {
    let stage = Stage::new().await;
    for path in [ANY, START] {
        for beginning in ["", "HTTP/1.1 200 OK\r\ncontent-", "no HTTP at all\r\n\r\n"] {
            let call = request(&format!("POST {path}"), &["content-length: 2"], "{}");
            let mut client = stage.client_sends(call).await;
            let mut upstream = stage.upstream().await;
            upstream.message().await;
            upstream.send(beginning).await;
            drop(upstream);
            assert_unknown(&client.message().await, 502);
        }
    }
}

#[tokio::test]
async fn an_upstream_that_is_not_there_was_sent_nothing() {
    let stage = Stage::new().await;
    let addr = stage.running.addr;
    let running = stage.close_upstream();
    for (first, status) in [
        (format!("GET {ANY}"), 502),
        (format!("POST {START}"), 429),
        (format!("GET {TASK}"), 502),
        ("POST /v1/kling/avatars".to_owned(), 502),
    ] {
        let mut client = Wire::connect(addr).await;
        client
            .send(request(&first, &["content-length: 2"], "{}"))
            .await;
        let told = client.message().await;
        told.assert_refused(status, "upstream-unreachable");
        assert!(told.is("retry-after", "1") && !told.has("x-kling-outcome"));
    }
    assert_eq!(running.held().await, 0, "no slot is left behind");
}

#[tokio::test]
async fn an_upstream_that_says_nothing_is_given_up_in_time() {
    let stage = Stage::with(&[("UPSTREAM__REQUEST_TIMEOUT", "200ms")]).await;
    for first in [
        format!("GET {ANY}"),
        format!("POST {START}"),
        format!("GET {TASK}"),
    ] {
        for beginning in [
            "",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 200 OK\r\nx: ",
        ] {
            let call = request(&first, &["content-length: 2"], "{}");
            let mut client = stage.client_sends(call).await;
            let mut upstream = stage.upstream().await;
            upstream.message().await;
            upstream.send(beginning).await;
            assert_unknown(&client.message().await, 504);
            upstream.ended().await;
        }
    }
}

/// Short: tests wait for it to pass.
const SHORT: [(&str, &str); 1] = [("UPSTREAM__IDLE_TIMEOUT", "200ms")];

#[tokio::test]
async fn an_answer_that_stands_still_is_broken_off() {
    let stage = Stage::with(&SHORT).await;
    for lines in [["content-length: 10"], ["transfer-encoding: chunked"]] {
        let call = request(&format!("GET {ANY}"), &[], "");
        let mut client = stage.client_sends(call).await;
        let mut upstream = stage.upstream().await;
        upstream.message().await;
        upstream
            .send(answer("200 OK", &lines, "3\r\nabc\r\n"))
            .await;
        assert_eq!(client.head().await.status(), 200);
        assert_eq!(client.take(8).await, b"3\r\nabc\r\n");
        assert_eq!(client.rest().await.0, b"");
        upstream.ended().await;
    }
    for first in [format!("POST {START}"), format!("GET {TASK}")] {
        let call = request(&first, &["content-length: 2"], "{}");
        let mut client = stage.client_sends(call).await;
        let mut upstream = stage.upstream().await;
        upstream.message().await;
        upstream
            .send(answer("200 OK", &["content-length: 10"], "{"))
            .await;
        assert_unknown(&client.message().await, 502);
        upstream.ended().await;
    }
}

#[tokio::test]
async fn a_request_that_stands_still_is_refused_and_never_completed() {
    let stage = Stage::with(&SHORT).await;
    for (lines, beginning) in [
        (["content-length: 10"], "{\"a\""),
        (["transfer-encoding: chunked"], "4\r\n{\"a\"\r\n"),
    ] {
        let call = request(&format!("POST {ANY}"), &lines, beginning);
        let mut client = stage.client_sends(call).await;
        let mut upstream = stage.upstream().await;
        upstream.head().await;
        client.message().await.assert_refused(400, "bad-request");
        assert_eq!(upstream.rest().await.0, beginning.as_bytes());

        let call = request(&format!("POST {START}"), &lines, beginning);
        let mut client = stage.client_sends(call).await;
        client.message().await.assert_refused(400, "bad-request");
    }
    let (seen, _) = stage
        .exchange(request(&format!("GET {ANY}/last"), &[], ""), fine())
        .await;
    assert_eq!(seen.asks().1, "/base/any/last", "no job start was sent");
    assert_eq!(stage.running.held().await, 0);
}

#[tokio::test]
async fn a_body_that_is_not_what_it_says_is_refused_and_never_completed() {
    let stage = Stage::new().await;
    let lines = ["transfer-encoding: chunked"];
    for odd in ["zz\r\n", "-1\r\n", "0x1\r\na\r\n", "3\r\nabcd\r\n0\r\n\r\n"] {
        for path in [ANY, START] {
            let call = request(&format!("POST {path}"), &lines, "3\r\nabc\r\n");
            let mut client = stage.client_sends(call).await;
            if path == ANY {
                let mut upstream = stage.upstream().await;
                upstream.head().await;
                assert_eq!(upstream.chunk().await, b"abc");
                client.send(odd).await;
                let (rest, _) = upstream.rest().await;
                assert!(!rest.ends_with(b"0\r\n\r\n"), "{odd:?}: {rest:?}");
            } else {
                client.send(odd).await;
            }
            let told = client.message().await;
            told.assert_refused(400, "bad-request");
            client.ended().await;
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_in_mid_body_ends_its_request_upstream() {
    let stage = Stage::new().await;
    for (lines, beginning) in [
        (["content-length: 10"], "abc"),
        (["transfer-encoding: chunked"], "3\r\nabc\r\n"),
    ] {
        let call = request(&format!("POST {ANY}"), &lines, beginning);
        let client = stage.client_sends(call).await;
        let mut upstream = stage.upstream().await;
        upstream.head().await;
        upstream.take(beginning.len()).await;
        drop(client);
        assert_eq!(upstream.rest().await.0, b"", "nothing ends the body");
    }
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_answer_upstream() {
    let stage = Stage::new().await;
    let call = request(&format!("GET {ANY}"), &[], "");
    let mut client = stage.client_sends(&call).await;
    let mut upstream = stage.upstream().await;
    upstream.message().await;
    let endless = ["transfer-encoding: chunked"];
    upstream.send(answer("200 OK", &endless, "")).await;
    client.head().await;
    let flood = upstream.flood(b"3\r\nabc\r\n".to_vec());
    client.chunk().await;
    drop(client);
    upstream.ended().await;
    drop(flood);

    // An upstream that sends nothing notices the hang-up too.
    let mut client = stage.client_sends(&call).await;
    let mut upstream = stage.upstream().await;
    upstream.message().await;
    upstream.send(answer("200 OK", &endless, "")).await;
    client.head().await;
    drop(client);
    upstream.ended().await;

    let client = stage.client_sends(&call).await;
    let mut upstream = stage.upstream().await;
    upstream.message().await;
    drop(client);
    upstream.ended().await;
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_reaches_nobody() {
    let stage = Stage::new().await;
    let call = request(&format!("GET {ANY}"), &[], "");
    let excess = [
        fine(),
        b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil".to_vec(),
    ]
    .concat();
    let (_, told) = stage.exchange(&call, excess).await;
    assert_eq!(told.content, b"{}");
    let (_, told) = stage.exchange(&call, fine()).await;
    assert_eq!(told.content, b"{}");
}
