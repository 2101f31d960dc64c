//! The simulator's own calls, over HTTP and without a token.

use std::time::Duration;

use kling_sim::{JobDuration, Outcome, Sim};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::sleep,
};

use crate::client::{Answer, call_raw, get, open, open_raw, read, submit, until};

async fn sim() -> Sim {
    let sim = Sim::builder().account("a@x", 5).account("b@x", 5);
    sim.job_duration(JobDuration::Manual).start().await.unwrap()
}

pub(crate) async fn control(sim: &Sim, path: &str, body: &str) -> Answer {
    let head = format!("Content-Length: {}\r\n", body.len());
    let mut stream = open_raw(sim, "POST", &format!("/_sim/{path}"), &head).await;
    stream.write_all(body.as_bytes()).await.unwrap();
    read(stream).await
}

/// Adds a fault, which is accepted.
async fn fault(sim: &Sim, asked: Value) {
    let answer = control(sim, "faults", &asked.to_string()).await;
    assert_eq!((answer.status, answer.text()), (204, ""), "{asked}");
}

async fn clear_faults(sim: &Sim) {
    assert_eq!(
        call_raw(sim, "DELETE", "/_sim/faults", "").await.status,
        204
    );
}

/// Changes an account, which is accepted.
async fn account(sim: &Sim, email: &str, asked: Value) {
    let answer = control(sim, &format!("accounts/{email}"), &asked.to_string()).await;
    assert_eq!(answer.status, 204, "{asked}");
}

fn job(email: &str) -> Value {
    json!({"email": email, "prompt": "p"})
}

#[tokio::test]
async fn an_account_is_hung_and_mended() {
    let sim = sim().await;
    account(&sim, "a%40x", json!({"hung": true})).await;
    let hung = open(&sim, "GET", "/tasks?email=a@x", "").await;
    assert_eq!(get(&sim, "/tasks?email=b@x").await.status, 200);
    until(|| sim.requests().len() == 2).await;
    sleep(Duration::from_millis(50)).await;
    hung.try_read(&mut [0]).expect_err("open and silent");
    account(&sim, "a@x", json!({"hung": false})).await;
    assert_eq!(get(&sim, "/tasks?email=a@x").await.status, 200);
}

#[tokio::test]
async fn an_account_loses_its_session_and_its_credit_and_gets_them_back() {
    let sim = sim().await;
    for (asked, status) in [
        (json!({"error": "Session expired"}), 596),
        (json!({"error": "", "hasCredit": false}), 412),
        (json!({"hasCredit": true}), 200),
        (json!({}), 200),
    ] {
        account(&sim, "a@x", asked).await;
        assert_eq!(submit(&sim, &job("a@x")).await.status, status);
        assert_eq!(submit(&sim, &job("b@x")).await.status, 200);
        sim.finish_all();
    }
}

#[tokio::test]
async fn a_fault_is_narrowed_as_asked_and_cleared() {
    let sim = sim().await;
    fault(
        &sim,
        json!({"effect": {"status": 503}, "on": "jobStarts", "account": "a@x", "times": 1}),
    )
    .await;
    let mut statuses = Vec::new();
    for email in ["b@x", "a@x", "a@x"] {
        statuses.push(submit(&sim, &job(email)).await.status);
    }
    assert_eq!(statuses, [200, 503, 200]);

    fault(
        &sim,
        json!({"effect": {"encode": "gzip"}, "on": "GET /scheduler/available"}),
    )
    .await;
    for (path, expected) in [("/scheduler", None), ("/scheduler/available", Some("gzip"))] {
        assert_eq!(get(&sim, path).await.header("content-encoding"), expected);
    }
    clear_faults(&sim).await;
    assert!(get(&sim, "/scheduler/available").await.json().is_object());

    fault(&sim, json!({"effect": {"status": 500}})).await;
    assert_eq!(get(&sim, "/accounts").await.status, 500);
    let audit = call_raw(&sim, "GET", "/_sim/audit", "").await;
    assert_eq!(
        audit.status, 200,
        "no fault keeps the simulator from telling"
    );
}

#[tokio::test]
async fn every_effect_can_be_asked_for() {
    let sim = sim().await;
    for (effect, status, executing) in [
        (json!({"status": 429}), Some(429), 0),
        (json!({"delayMs": 1}), Some(200), 1),
        (json!({"slowMs": 1}), Some(200), 1),
        (json!({"dripMs": 0}), Some(200), 1),
        (json!({"encode": "utf8"}), Some(200), 1),
        (json!({"encode": "empty"}), Some(200), 1),
        (json!("truncateAfter"), Some(200), 1),
        (json!("resetBefore"), None, 0),
        (json!("resetAfter"), None, 1),
    ] {
        fault(&sim, json!({"effect": effect, "times": 1})).await;
        let mut wire = Vec::new();
        let mut stream = open(&sim, "POST", "/videos/text2video", &job("a@x").to_string()).await;
        let end = stream.read_to_end(&mut wire).await;
        let answer = end.is_ok().then(|| Answer::parse(&wire, None));
        assert_eq!(answer.map(|answer| answer.status), status, "{effect}");
        assert_eq!(sim.executing("a@x"), executing, "{effect}");
        sim.finish_all();
    }
    for (effect, executing) in [("stallBefore", 0), ("stallAfter", 1)] {
        fault(&sim, json!({"effect": effect, "times": 1})).await;
        let count = sim.audit().submission_count + 1;
        let stream = open(&sim, "POST", "/videos/text2video", &job("a@x").to_string()).await;
        until(|| sim.audit().submission_count == count).await;
        let outcome = sim.audit().submissions.pop().unwrap().outcome;
        let is_judged = matches!(outcome, Outcome::Accepted(_));
        assert_eq!(
            (u32::from(is_judged), sim.executing("a@x")),
            (executing, executing)
        );
        drop(stream);
    }
}

#[tokio::test]
async fn a_call_that_makes_no_sense_is_told_why() {
    let sim = sim().await;
    let bad_faults = [
        ("", "EOF while parsing"),
        ("[]", "expected struct"),
        ("{}", "missing field `effect`"),
        (r#"{"effect":"explode"}"#, "unknown variant `explode`"),
        (r#"{"effect":{"encode":"br"}}"#, "unknown variant `br`"),
        (r#"{"effect":{"status":99}}"#, "status must be 100 to 999"),
        (
            r#"{"effect":"stallAfter","email":"a@x"}"#,
            "unknown field `email`",
        ),
        (r#"{"effect":"stallAfter","times":0}"#, "nonzero"),
        (
            r#"{"effect":"stallAfter","on":"GET"}"#,
            "on must be jobStarts",
        ),
        (
            r#"{"effect":"stallAfter","on":"GET tasks"}"#,
            "on must be jobStarts",
        ),
    ];
    for (body, expected) in bad_faults {
        let answer = control(&sim, "faults", body).await;
        let error = answer.json()["error"].to_string();
        assert_eq!(answer.status, 400, "{body}");
        assert!(error.contains(expected), "{body}: {error}");
    }
    for (path, body, status) in [
        ("accounts/c@x", "{}", 404),
        ("accounts/a@x", r#"{"hung":1}"#, 400),
        ("accounts/a@x", r#"{"hang":true}"#, 400),
        ("accounts", "{}", 404),
        ("audit", "{}", 404),
        ("fault", "{}", 404),
    ] {
        assert_eq!(
            control(&sim, path, body).await.status,
            status,
            "{path} {body:.20}"
        );
    }
    assert_eq!(get(&sim, "/accounts").await.status, 200, "nothing was done");
}

#[tokio::test]
async fn calls_add_a_bounded_number_of_faults() {
    let sim = sim().await;
    for _ in 0..1_000 {
        sim.fault(kling_sim::Fault::status(503).on("GET", "/nowhere"));
    }
    let one_more = control(&sim, "faults", r#"{"effect":"stallAfter"}"#).await;
    assert_eq!(one_more.status, 400);
    assert_eq!(one_more.json()["error"], "There are 1000 faults already");
    clear_faults(&sim).await;
    fault(&sim, json!({"effect": {"status": 503}})).await;
}
