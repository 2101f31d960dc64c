//! Odd heads of answers: a job that was accepted is told to the client, whatever else the head says.

use serde_json::json;

use super::{
    client::leases,
    framing::{Message, answer, request},
    sockets::{ANY, START, Stage, TASK},
};

/// An accepted job, and a task.
const BODY: &str = r#"{"task":{"id":"77"}}"#;
/// Far beyond what the sidecar buffers of an answer.
const SIZE: usize = 1024 * 1024;
const LENGTH: &str = "content-length: 20";

/// An accepted job's answer with these lines in its head.
fn accepted(lines: &[&str]) -> Vec<u8> {
    answer("200 OK", &[lines, &[LENGTH]].concat(), BODY)
}

/// `count` lines.
fn many(count: usize) -> Vec<String> {
    (0..count).map(|idx| format!("x-line-{idx}: 1")).collect()
}

/// Carries one call of every kind that reads an answer in a way of its own.
async fn carried(stage: &Stage, answer: &[u8]) -> [Message; 3] {
    let mut told = Vec::new();
    for first in [
        format!("POST {START}"),
        format!("GET {TASK}"),
        format!("GET {ANY}"),
    ] {
        let call = request(&first, &["content-length: 2"], "{}");
        told.push(stage.exchange(call, answer).await.1);
    }
    told.try_into().unwrap()
}

async fn states(stage: &Stage) -> Vec<serde_json::Value> {
    let leases = leases(&stage.running).await;
    leases
        .into_iter()
        .map(|lease| lease["state"].clone())
        .collect()
}

/// Checks that the answer reaches every client with `value` as its `x-foo`, and that the job is bound.
async fn assert_read(answer: &[u8], value: Option<&str>) {
    let stage = Stage::new().await;
    for told in carried(&stage, answer).await {
        assert_eq!(told.status(), 200, "{told:?}");
        assert_eq!(told.content, BODY.as_bytes(), "{told:?}");
        assert_eq!(told.values("x-foo"), Vec::from_iter(value), "{told:?}");
        assert_eq!(told.values("x-last"), ["2"], "{told:?}");
        assert!(told.values("content-length").len() <= 1, "{told:?}");
    }
    assert_eq!(states(&stage).await, [json!("bound")]);
}

#[tokio::test]
async fn lines_that_no_rfc_allows_lose_no_job() {
    for (line, value) in [
        ("x-foo : 1", Some("1")),
        ("x-foo\t:1", Some("1")),
        ("x-foo: 1\r\n  2", Some("1 2")),
        ("x-foo: 1\r\n\t2\r\n \r\n 3", Some("1 2  3")),
        ("x-foo:\r\n 1", Some("1")),
        ("x-foo[bar]: 1", None),
        ("x-foo[bar]: 1\r\n folded: 2", None),
        ("x foo: 1", None),
        (" x-foo: 1", None),
        (": 1", None),
        ("x-foo", None),
        ("", None),
        ("x-foo: \u{1}", None),
        ("x-foo: \u{e9}", Some("\u{c3}\u{a9}")),
    ] {
        // A first line cannot be folded into another one, an empty one would end the head.
        let lines = [line, "x-last: 2"];
        let lines = &lines[usize::from(line.is_empty())..];
        assert_read(&accepted(lines), value).await;
    }
    let mut latin1 = accepted(&["x-foo: #", "x-last: 2"]);
    let hash = latin1.iter().position(|byte| *byte == b'#').unwrap();
    latin1[hash] = 0xff;
    assert_read(&latin1, Some("\u{ff}")).await;
}

#[tokio::test]
async fn odd_beginnings_and_line_ends_lose_no_job() {
    let lines = ["x-last: 2", LENGTH];
    for beginning in ["200", "200 ", "200 Fine \u{e9}", "200 OK\r\nx-foo[bar]: 1"] {
        assert_read(&answer(beginning, &lines, BODY), None).await;
    }
    let hints = "HTTP/1.1 103 Early Hints\r\nx-foo: 1\r\nx-foo[bar] : 1\r\n  2\r\n\r\n";
    let whole = [hints.as_bytes(), &answer("200 OK", &lines, BODY)].concat();
    assert_read(&whole, None).await;
    let bare = String::from_utf8(answer("200 OK", &lines, BODY)).unwrap();
    assert_read(bare.replace("\r\n", "\n").as_bytes(), None).await;
}

#[tokio::test]
async fn a_body_ends_where_an_odd_head_says() {
    let chunked = format!("14\r\n{BODY}\r\n0\r\n\r\n");
    for (line, body) in [
        ("content-length : 20", BODY),
        ("content-length:\r\n 20", BODY),
        ("content-length: 20\r\ncontent-length: 20", BODY),
        ("content-length: 20, 20", BODY),
        ("transfer-encoding : chunked", &chunked),
        ("transfer-encoding:\r\n chunked", &chunked),
        ("transfer-encoding: chunked\r\ncontent-length: 3", &chunked),
    ] {
        assert_read(&answer("200 OK", &["x-last: 2", line], body), None).await;
    }
}

#[tokio::test]
async fn two_hundred_lines_are_read_and_as_many_passed_on_as_clients_read() {
    let lines = many(198);
    let lines: Vec<_> = ["x-last: 2"]
        .into_iter()
        .chain(lines.iter().map(String::as_str))
        .collect();
    assert_read(&accepted(&lines), None).await;
    let stage = Stage::new().await;
    for told in carried(&stage, &accepted(&lines)).await {
        let names = told.names();
        assert!((90..=100).contains(&names.len()), "{names:?}");
        assert!(told.has("x-line-0") && told.has("x-line-80") && !told.has("x-line-197"));
        assert!(told.is("content-length", "20"), "{names:?}");
    }
    assert_unknown(&accepted(&[&lines[..], &["x-more: 1"]].concat())).await;
}

/// Checks that the answer is broken to every client, and that the job's slot is held.
async fn assert_unknown(answer: &[u8]) {
    let stage = Stage::new().await;
    for told in carried(&stage, answer).await {
        told.assert_refused(502, "outcome-unknown");
        assert!(told.is("x-kling-outcome", "unknown"), "{told:?}");
    }
    assert_eq!(states(&stage).await, [json!("uncertain")]);
}

#[tokio::test]
async fn a_head_that_cannot_be_trusted_leaves_the_outcome_unknown() {
    for line in [
        "content-length: 3",
        "content-length: 20, 3",
        "content-length:\r\n 3",
        "content-length : 3",
        "content-length: x",
        "content-length: -20",
        "x-foo: \0",
        "x-foo: 1\rx-bar: 2",
    ] {
        assert_unknown(&accepted(&[line])).await;
    }
}

#[tokio::test]
async fn a_head_beyond_the_limit_is_not_read_to_its_end() {
    let lines = "x-foo: 1\r\n".repeat(SIZE / 10);
    for line in [
        format!("x-foo: {}", "a".repeat(SIZE)),
        format!("x-foo: 1{}", "\r\n 2".repeat(SIZE / 4)),
        format!("x-foo[bar]: {}", "a".repeat(SIZE)),
        lines.trim_end().to_owned(),
    ] {
        let stage = Stage::new().await;
        let call = request(&format!("POST {START}"), &["content-length: 2"], "{}");
        let mut client = stage.client_sends(call).await;
        let mut upstream = stage.upstream().await;
        upstream.message().await;
        // The sidecar may close before it has taken all.
        upstream.try_send(accepted(&[&line])).await.ok();
        client
            .message()
            .await
            .assert_refused(502, "outcome-unknown");
        assert_eq!(states(&stage).await, [json!("uncertain")]);
    }
}
