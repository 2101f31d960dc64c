//! Answers that come before the whole request was read, RFC 9112 §9.6: the connection goes on if little is left, and
//! else its client is told that it closes. Either way no next request is lost.

use harness::Running;

use super::{
    framing::{answer, chunked, fine},
    sockets::{ANY, START, Stage, Wire},
};

/// The most that is read of a request after its answer is known.
const REST_MAX: usize = 64 * 1024;
const BODY_MAX: (&str, &str) = ("FORWARD__BODY_MAX", "512B");
const TOKEN: &str = "a-token-of-a-client";

/// A request that is answered by its head.
struct Early {
    first: String,
    lines: String,
    status: u16,
}

fn early(first: impl Into<String>, lines: &[&str], status: u16) -> Early {
    Early {
        first: first.into(),
        lines: lines.iter().map(|line| format!("{line}\r\n")).collect(),
        status,
    }
}

impl Early {
    /// The head, with what it says of its body.
    fn head(&self, body: &str) -> Vec<u8> {
        let (first, lines) = (&self.first, &self.lines);
        format!("{first} HTTP/1.1\r\n{lines}{body}\r\n\r\n").into_bytes()
    }
}

/// Every kind of answer of ours that needs no body.
fn kinds() -> Vec<Early> {
    let start = format!("POST {START}");
    let ours = "host: localhost";
    let many = ["x-many: 1"; 101];
    vec![
        early("POST /accounts/a@x/drain?x", &[ours], 400),
        early(&start, &[ours, "x-kling-wait: soon"], 400),
        early(&start, &[ours, ours], 400),
        early("POST /pick", &[ours, "origin: https://evil.example"], 403),
        early("POST /nowhere", &[ours], 404),
        early("PUT /pick", &[ours], 405),
        early(&start, &[ours], 413),
        early(&start, &[ours, "content-encoding: gzip"], 415),
        early("POST /pick", &["host: evil.example"], 421),
        early(&start, &[&[ours], &many[..]].concat(), 431),
        // Our own answers that read no body.
        early("GET /accounts", &[ours], 200),
        early("GET /livez", &[ours], 200),
    ]
}

async fn open() -> Running {
    Running::configured(&[("a@x", 9)], &[BODY_MAX]).await
}

async fn until_answered(running: &Running, bytes: impl AsRef<[u8]>) -> Wire {
    let mut client = Wire::connect(running.addr).await;
    client.send(bytes).await;
    client
}

const NEXT: &str = "GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// Checks that the answer is the early one, that it does not announce the end, and that the next request on the
/// connection is answered, too.
async fn assert_goes_on(running: &Running, kind: &Early, body: &str, bytes: &[u8]) {
    let call = [&kind.head(body), bytes, NEXT.as_bytes()].concat();
    let mut client = until_answered(running, call).await;
    let told = client.message().await;
    assert_eq!(
        told.status(),
        kind.status,
        "{} {body}: {told:?}",
        kind.first
    );
    assert!(!told.has("connection"), "{} {body}: {told:?}", kind.first);
    for _ in 0..2 {
        let next = client.message().await;
        assert_eq!(next.content, b"alive\n", "{} {body}", kind.first);
        client.send(NEXT).await;
    }
}

/// Checks that the answer is the early one, and announces the end, which comes in order: a reset could destroy it.
async fn assert_closes(running: &Running, kind: &Early, body: &str, bytes: &[u8]) {
    let mut client = until_answered(running, [&kind.head(body), bytes].concat()).await;
    let told = client.message().await;
    assert_eq!(
        told.status(),
        kind.status,
        "{} {body}: {told:?}",
        kind.first
    );
    assert!(
        told.is("connection", "close"),
        "{} {body}: {told:?}",
        kind.first
    );
    let (rest, end) = client.rest().await;
    assert!(
        rest.is_empty() && end.is_ok(),
        "{} {body}: {end:?}",
        kind.first
    );
}

#[tokio::test]
async fn an_early_answer_reads_what_is_little_and_keeps_the_connection() {
    let running = open().await;
    for kind in kinds() {
        for length in [1024, 60 * 1024, REST_MAX] {
            let body = format!("content-length: {length}");
            assert_goes_on(&running, &kind, &body, &vec![b'x'; length]).await;
        }
        if kind.status == 413 {
            // It is refused when it has become too large.
            continue;
        }
        let bytes = chunked(&["x".repeat(REST_MAX).as_str()], &["x-trailer: 1"]);
        assert_goes_on(&running, &kind, "transfer-encoding: chunked", &bytes).await;
    }
    assert_eq!(running.held().await, 0);
}

#[tokio::test]
async fn an_early_answer_to_more_says_that_the_connection_closes() {
    let running = open().await;
    for kind in kinds() {
        for length in [REST_MAX + 1, 1024 * 1024] {
            let body = format!("content-length: {length}");
            assert_closes(&running, &kind, &body, &vec![b'x'; length]).await;
        }
        // What is refused when it has become too large has been read to there.
        let length = if kind.status == 413 {
            1024 * 1024
        } else {
            REST_MAX + 1
        };
        let bytes = chunked(&["x".repeat(length).as_str()], &[]);
        assert_closes(&running, &kind, "transfer-encoding: chunked", &bytes).await;
    }
    assert_eq!(running.held().await, 0);
}

#[tokio::test]
async fn a_client_that_sends_no_more_is_answered_all_the_same() {
    let running = open().await;
    for kind in kinds().iter().filter(|it| matches!(it.status, 404 | 415)) {
        for body in ["content-length: 1000", "transfer-encoding: chunked"] {
            assert_closes(&running, kind, body, b"3").await;
        }
    }
}

#[tokio::test]
async fn a_client_that_sends_on_for_ever_is_left() {
    let running = open().await;
    let kind = early("POST /nowhere", &["host: localhost"], 404);
    for body in ["content-length: 1000000000", "transfer-encoding: chunked"] {
        let mut client = until_answered(&running, kind.head(body)).await;
        // It sends byte after byte, and reads nothing.
        client.until_gone().await;
    }
}

#[tokio::test]
async fn a_client_of_http_1_0_is_told_one_thing() {
    let running = open().await;
    let head =
        "POST /nowhere HTTP/1.0\r\nhost: localhost\r\nconnection: keep-alive\r\ncontent-length: ";
    for (length, told) in [(REST_MAX, "keep-alive"), (REST_MAX + 1, "close")] {
        let call = [
            format!("{head}{length}\r\n\r\n").as_bytes(),
            &vec![b'x'; length],
        ]
        .concat();
        let mut client = until_answered(&running, &call).await;
        let said = client.message().await;
        assert_eq!(said.first, "HTTP/1.0 404 Not Found");
        assert!(said.is("connection", told), "{said:?}");
        if told == "keep-alive" {
            client.send(&call).await;
            assert_eq!(client.message().await.status(), 404);
        }
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_ends_the_connection() {
    let running = open().await;
    let kind = early("POST /nowhere", &["host: localhost"], 404);
    assert_closes(
        &running,
        &kind,
        "transfer-encoding: chunked",
        b"no size\r\n",
    )
    .await;
}

#[tokio::test]
async fn a_client_that_asks_first_is_answered_at_once_and_told_that_the_connection_closes() {
    let running = open().await;
    for kind in kinds() {
        let body = "expect: 100-Continue\r\ncontent-length: 513";
        // The first that it gets is the answer, not `100 Continue`.
        assert_closes(&running, &kind, body, b"").await;
    }
}

#[tokio::test]
async fn a_client_without_the_right_token_is_told_before_it_has_sent_all() {
    let watchers = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(watchers.path(), "the-token-of-a-watcher").unwrap();
    let settings = [
        ("AUTH__TOKENS", TOKEN),
        ("AUTH__READ_TOKENS_FILE", watchers.path().to_str().unwrap()),
    ];
    let running = Running::configured(&[("a@x", 9)], &settings).await;
    let watcher = "authorization: Bearer the-token-of-a-watcher";
    for path in [START, "/pick", ANY] {
        for (lines, status) in [
            (&["host: localhost"][..], 401),
            (&["host: localhost", watcher], 403),
            (&["host: a", "host: b"], 400),
        ] {
            let kind = early(format!("POST {path}"), lines, status);
            assert_goes_on(&running, &kind, "content-length: 100", &[b'x'; 100]).await;
            assert_closes(&running, &kind, "content-length: 70000", &[b'x'; 70_000]).await;
        }
    }
}

#[tokio::test]
async fn a_head_that_cannot_be_read_is_answered_before_the_connection_ends() {
    let running = open().await;
    let large = format!("x-large: {}\r\n", "x".repeat(1_000_000));
    let many = "x-many: 1\r\n".repeat(1000);
    for (lines, status) in [(large.as_str(), 431), (&many, 431), ("no field\r\n", 400)] {
        // More than systems buffer: a client that sends all before it reads must be able to.
        let body = vec![b'x'; 16 * 1024 * 1024];
        let head = format!("POST /pick HTTP/1.1\r\nhost: localhost\r\n{lines}\r\n");
        let mut client = until_answered(&running, [head.as_bytes(), &body].concat()).await;
        let told = client.message().await;
        assert_eq!(told.status(), status, "{told:?}");
        assert!(told.is("connection", "close"), "{told:?}");
        let (_, end) = client.rest().await;
        assert!(end.is_ok(), "{end:?}");
    }
}

#[tokio::test]
async fn an_early_answer_of_the_upstream_says_that_the_connection_closes() {
    let stage = Stage::new().await;
    for status in ["200 OK", "401 Unauthorized", "413 Payload Too Large"] {
        for (body, bytes) in [
            ("content-length: 1000", b"x".as_slice()),
            ("content-length: 1000000", b"x"),
            ("transfer-encoding: chunked", b"1\r\nx\r\n"),
        ] {
            for path in [ANY, "/v1/kling/assets"] {
                let kind = early(format!("POST {path}"), &["host: localhost"], 0);
                let mut client = stage.client_sends([&kind.head(body), bytes].concat()).await;
                let mut upstream = stage.upstream().await;
                upstream.head().await;
                upstream.take(bytes.len()).await;
                let lines = ["content-length: 5"];
                upstream.send(answer(status, &lines, "early")).await;
                let told = client.message().await;
                assert!(told.first.ends_with(status), "{told:?}");
                assert_eq!(told.content, b"early");
                assert!(told.is("connection", "close"), "{told:?}");
                let (rest, end) = client.rest().await;
                assert!(rest.is_empty() && end.is_ok(), "{end:?}");
                upstream.ended().await;
            }
        }
    }
}

#[tokio::test]
async fn an_answer_to_a_whole_request_leaves_the_connection_open() {
    let stage = Stage::new().await;
    let bodies = [
        ("content-length: 70000", vec![b'x'; 70_000]),
        ("transfer-encoding: chunked", chunked(&["x"], &[])),
    ];
    for (body, bytes) in &bodies {
        let kind = early(format!("POST {ANY}"), &["host: localhost"], 0);
        let call = [&kind.head(body), bytes.as_slice()].concat();
        let mut client = stage.client_sends(&call).await;
        let mut upstream = stage.upstream().await;
        for _ in 0..2 {
            upstream.message().await;
            upstream.send(fine()).await;
            assert!(!client.message().await.has("connection"), "{body}");
            client.send(&call).await;
        }
        upstream.message().await;
        upstream.close().await;
    }
}
