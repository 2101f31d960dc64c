//! What the simulator kept of each request is what the client sent.

use kling_sim::{JobDuration, REQUEST_BODY_BYTES_MAX, Sim};
use tokio::io::AsyncWriteExt;

use crate::client::{call_raw, get, open_head, open_with, read};

async fn sim() -> Sim {
    let sim = Sim::builder().account("a@x", 2);
    sim.job_duration(JobDuration::Manual).start().await.unwrap()
}

#[tokio::test]
async fn a_submission_is_kept_byte_for_byte_without_its_token() {
    let sim = sim().await;
    let body = "{ \"b\":1e400000, \"prompt\":\"\\u00e9\\/\", \"a\":123456789012345678901 }";
    let head = "X-Odd:  two  words \r\nX-Twice: 1\r\nX-Twice: 2\r\n";
    let path = "/videos/text2video/?x=%2F&x=1";
    let answer = read(open_with(&sim, "POST", path, head, body.as_bytes()).await).await;
    // Whether the simulator accepts such a number does not matter here.
    let submission = sim.audit().submissions.pop().unwrap();
    assert_eq!(submission.body, body, "answered {}", answer.status);
    let kept = submission.head;
    assert_eq!(kept.method, "POST");
    assert_eq!(kept.path, "/v1/kling/videos/text2video/");
    assert_eq!(kept.query.as_deref(), Some("x=%2F&x=1"));
    assert_eq!(kept.headers["x-odd"], "two  words");
    let twice: Vec<_> = kept.headers.get_all("x-twice").iter().collect();
    assert_eq!(twice, ["1", "2"]);
    assert!(!kept.headers.contains_key("authorization"));
}

#[tokio::test]
async fn other_requests_are_kept_too_unknown_ones_included() {
    let sim = sim().await;
    get(&sim, "/tasks?email=a@x").await;
    let large = vec![b'x'; REQUEST_BODY_BYTES_MAX + 1];
    assert_eq!(
        read(open_with(&sim, "PUT", "/new/thing", "", &large).await)
            .await
            .status,
        404
    );
    call_raw(&sim, "GET", "/v1/kling/accounts", "").await;
    let told: Vec<_> = sim
        .requests()
        .into_iter()
        .map(|seen| {
            let head = seen.head;
            let line = format!("{} {} {:?}", head.method, head.path, head.query);
            (line, seen.body.len(), seen.byte_count, seen.is_complete)
        })
        .collect();
    let max = REQUEST_BODY_BYTES_MAX;
    let expected = [
        (
            "GET /v1/kling/tasks Some(\"email=a@x\")".to_owned(),
            0,
            0,
            true,
        ),
        (
            "PUT /v1/kling/new/thing None".to_owned(),
            max,
            max as u64 + 1,
            true,
        ),
    ];
    assert_eq!(told, expected, "and nothing without the token");
    assert_eq!(sim.audit().submission_count, 0);
}

#[tokio::test]
async fn a_job_start_cut_short_is_no_submission() {
    let sim = sim().await;
    let mut stream = open_head(&sim, "POST", "/videos/text2video", "", 100).await;
    stream.write_all(b"{\"prompt\":").await.unwrap();
    stream.shutdown().await.unwrap();
    read(stream).await;
    let seen = sim.requests().pop().unwrap();
    assert_eq!((seen.byte_count, seen.is_complete), (10, false));
    assert_eq!((sim.audit().submission_count, sim.executing("a@x")), (0, 0));
}
