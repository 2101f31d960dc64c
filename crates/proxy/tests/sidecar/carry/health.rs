//! What an account did decides where calls go that take no slot: an account that cannot work gets none.

use harness::{Running, manual};
use http::{Method, StatusCode};
use kling_sim::Fault;
use serde_json::json;

use super::{
    client::{JOB, JSON, exchange, ready},
    ownership::{Style, account, call, post},
};

const TWO: [(&str, u32); 2] = [("a@x", 2), ("b@x", 2)];
const PNG: (&str, &str) = ("content-type", "image/png");

/// A sidecar on which a job start of `a@x` was answered with `status`.
async fn refused_with(status: u16) -> Running {
    let running = ready(manual(&TWO).start().await.unwrap(), &[]).await;
    running
        .sim
        .fault(Fault::status(status).account("a@x").times(1));
    let body = r#"{"prompt":"a boat","email":"a@x"}"#;
    let answer = exchange(running.addr, Method::POST, JOB, &[JSON], body).await;
    assert_eq!(answer.status, status, "{answer:?}");
    running
}

/// The accounts that a read, an upload and a creating call go to.
async fn served_by(running: &Running) -> [String; 3] {
    let read = call(running, Method::GET, "/avatars").await;
    let path = "/v1/kling/assets/";
    let upload = exchange(running.addr, Method::POST, path, &[PNG], "PNG").await;
    let fields = json!({ "prompt": "x" });
    let made = post(running, Style::Json, "/tts/create", &fields).await;
    [
        account(&read).to_owned(),
        account(&upload).to_owned(),
        made.header("x-kling-account").to_owned(),
    ]
}

#[tokio::test]
async fn an_account_that_cannot_work_gets_no_reads_and_no_uploads() {
    for status in [596, 412] {
        let running = refused_with(status).await;
        assert_eq!(served_by(&running).await, ["b@x"; 3], "{status}");
        let resumed = running.post("/accounts/a@x/resume", "").await;
        assert_eq!(resumed.status, StatusCode::OK);
        assert_eq!(served_by(&running).await, ["a@x"; 3], "{status}");
    }
}

#[tokio::test]
async fn an_account_that_cools_or_is_full_is_healthy() {
    let running = refused_with(429).await;
    assert_eq!(served_by(&running).await, ["a@x"; 3]);
    let running = ready(manual(&TWO).start().await.unwrap(), &[]).await;
    running.sim.submit_directly("a@x", 2);
    assert_eq!(served_by(&running).await, ["a@x"; 3]);
}

#[tokio::test]
async fn the_first_healthy_account_is_found_behind_many_that_are_not() {
    let emails: Vec<_> = (0..70).map(|idx| format!("{idx:02}@x")).collect();
    let accounts: Vec<_> = emails.iter().map(|email| (email.as_str(), 1)).collect();
    let running = ready(manual(&accounts).start().await.unwrap(), &[]).await;
    for email in &emails[..64] {
        let drained = running.post(&format!("/accounts/{email}/drain"), "").await;
        assert_eq!(drained.status, StatusCode::OK);
    }
    assert_eq!(served_by(&running).await, ["64@x"; 3]);
}

#[tokio::test]
async fn where_no_account_is_healthy_the_first_one_answers() {
    let running = refused_with(596).await;
    let drained = running.post("/accounts/b@x/drain", "").await;
    assert_eq!(drained.status, StatusCode::OK);
    assert_eq!(served_by(&running).await, ["a@x"; 3]);
}
