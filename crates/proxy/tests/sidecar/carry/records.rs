//! `/jobs` tells what became of job starts.

use harness::{Running, eventually, manual};
use http::{Method, StatusCode};
use kling_sim::{Effect, Fault};
use serde_json::{Value, json};

use super::client::{JOB, JSON, PROMPT, ready, task_id};

const NO_ROUNDS: (&str, &str) = ("RECONCILE__INTERVAL", "1h");

async fn jobs(running: &Running, query: &str, headers: &[(&str, &str)]) -> Vec<Value> {
    let answer = running
        .send(Method::GET, &format!("/jobs{query}"), headers, "")
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.json()["jobs"].as_array().unwrap().clone()
}

const STUDIO: (&str, &str) = ("authorization", "Bearer first-client-token");
const OTHER: (&str, &str) = ("authorization", "Bearer other-client-token");

/// A sidecar with two clients, one of which has a name.
async fn with_clients() -> Running {
    let sim = manual(&[("a@x", 2)]).start().await.unwrap();
    let tokens = tempfile::NamedTempFile::new().unwrap();
    let lines = "studio first-client-token\nother-client-token\n";
    std::fs::write(tokens.path(), lines).unwrap();
    let path = tokens.path().to_str().unwrap();
    let running = Running::beside(sim, &[NO_ROUNDS, ("AUTH__TOKENS_FILE", path)]).await;
    running
        .until(|readiness| readiness.status == StatusCode::OK)
        .await;
    running
}

#[tokio::test]
async fn a_job_is_listed_by_all_that_names_it() {
    let running = with_clients().await;
    let longest = "r".repeat(128);
    let keyed = [("x-request-id", "the-first"), ("idempotency-key", "\"k\"")];
    let plain = [("x-request-id", &*longest)];
    let mut ids = Vec::new();
    for headers in [
        [&[JSON, STUDIO], &keyed[..]].concat(),
        [&[JSON, OTHER], &plain[..]].concat(),
    ] {
        let answer = running.send(Method::POST, JOB, &headers, PROMPT).await;
        ids.push(task_id(&answer).to_string());
    }
    let all = eventually(async || {
        let all = jobs(&running, "", &[STUDIO]).await;
        let is_delivered = all.iter().all(|job| job["isDelivered"] == true);
        is_delivered.then_some(all)
    })
    .await;
    assert_eq!(all.len(), 2);
    assert_eq!(all[0]["requestId"], longest, "the newest is the first");
    let mut first = all[1].clone();
    let at = first["at"].take();
    assert!(at.as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    let expected = json!({
        "requestId": "the-first", "client": "studio", "operation": "/videos/text2video", "email": "a@x",
        "taskId": ids[0], "outcome": "accepted", "isDelivered": true, "at": null, "result": null,
    });
    assert_eq!(first, expected);
    for (query, wanted) in [
        ("?requestId=the-first", &ids[0]),
        ("?key=k", &ids[0]),
        ("?client=studio", &ids[0]),
        (&format!("?taskId={}", ids[1]), &ids[1]),
        ("?client=studio&key=k&requestId=the-first", &ids[0]),
    ] {
        let found = jobs(&running, query, &[STUDIO]).await;
        assert_eq!(found.len(), 1, "{query}");
        assert_eq!(found[0]["taskId"], **wanted, "{query}");
    }
    let since = format!("?since={}", all[0]["at"].as_str().unwrap());
    assert!(!jobs(&running, &since, &[STUDIO]).await.is_empty());
    for nothing in ["?client=nobody", "?since=2999-01-01T00:00:00Z"] {
        assert!(jobs(&running, nothing, &[STUDIO]).await.is_empty());
    }
}

#[tokio::test]
async fn outcomes_and_results_are_told() {
    let running = ready(manual(&[("a@x", 9)]).start().await.unwrap(), &[NO_ROUNDS]).await;
    let begin = async |id: &'static str, prompt: &str| {
        let body = format!(r#"{{"prompt":"{prompt}"}}"#);
        let headers = [JSON, ("x-request-id", id)];
        running.send(Method::POST, JOB, &headers, &body).await
    };
    let listed = async |id: &str| jobs(&running, &format!("?requestId={id}"), &[]).await;
    for (status, outcome) in [
        (596, "session"),
        (412, "credit"),
        (400, "refused"),
        (429, "full"),
    ] {
        running
            .sim
            .fault(Fault::status(status).on_job_starts().times(1));
        let id = outcome;
        assert_eq!(begin(id, "p").await.status, status);
        assert_eq!(listed(id).await[0]["outcome"], outcome);
        assert_eq!(listed(id).await[0]["taskId"], Value::Null);
        running.post("/accounts/a@x/resume", "").await;
    }
    for (prompt, result) in [("fine", "succeeded"), ("doomed", "failed")] {
        let task = task_id(&begin(result, prompt).await);
        assert_eq!(listed(result).await[0]["result"], Value::Null);
        assert!(running.sim.finish(task));
        running.get(&format!("/v1/kling/tasks/{task}")).await;
        assert_eq!(listed(result).await[0]["result"], result);
    }
    // A start that was not sent leaves no record.
    running.post("/accounts/a@x/drain", "").await;
    begin("unsent", "p")
        .await
        .assert_refused(503, "no-usable-account");
    assert!(listed("unsent").await.is_empty());
}

#[tokio::test]
async fn a_result_that_only_the_sidecar_saw_is_listed() {
    let running = Running::configured(&[("a@x", 2)], &[("RECONCILE__INTERVAL", "100ms")]).await;
    let begin = async |id: &'static str, prompt: &str| {
        let body = format!(r#"{{"prompt":"{prompt}"}}"#);
        let headers = [JSON, ("x-request-id", id)];
        running.send(Method::POST, JOB, &headers, &body).await
    };
    begin("failed", "doomed").await;
    let lost = Fault::new(Effect::ResetAfter).on_job_starts();
    running.sim.fault(lost.times(1));
    assert_eq!(
        begin("succeeded", "fine").await.status,
        StatusCode::BAD_GATEWAY
    );
    // A round lists both jobs before they end.
    eventually(async || {
        let leases = running.get("/leases").await.json();
        let leases = leases["leases"].as_array().unwrap();
        let bound = leases.iter().filter(|lease| lease["state"] == "bound");
        (bound.count() == 2).then_some(())
    })
    .await;
    assert_eq!(running.sim.finish_all(), 2);
    for result in ["failed", "succeeded"] {
        eventually(async || {
            let found = jobs(&running, &format!("?requestId={result}"), &[]).await;
            let is_told = found[0]["outcome"] == "accepted" && found[0]["result"] == result;
            is_told.then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_question_that_cannot_be_read_says_so() {
    let running = Running::with(&[("a@x", 1)]).await;
    for (query, field) in [
        ("?requestID=x", "requestID"),
        ("?taskId=seven", "taskId"),
        ("?since=yesterday", "since"),
        ("?key=a&key=b", "key"),
    ] {
        let refused = running.get(&format!("/jobs{query}")).await;
        refused.assert_refused(400, "bad-request");
        assert!(
            refused.json()["error"].as_str().unwrap().starts_with(field),
            "{refused:?}"
        );
    }
    let posted = running.post("/jobs", "").await;
    posted.assert_refused(405, "method-not-allowed");
    assert_eq!(posted.header("allow"), "GET, HEAD");
}

#[tokio::test]
async fn the_request_id_of_a_client_is_the_request_id() {
    let running = Running::with(&[("a@x", 1)]).await;
    let told = async |id: &str| {
        let answer = running
            .send(Method::GET, "/leases/x", &[("x-request-id", id)], "")
            .await;
        let told = answer.header("x-request-id").to_owned();
        assert_eq!(answer.json()["requestId"], told);
        told
    };
    assert_eq!(told("abc-123").await, "abc-123");
    for unfit in ["", "two words", &"r".repeat(129), "gr\u{fc}n"] {
        let new = told(unfit).await;
        assert_eq!(new.len(), 16, "{unfit}: {new}");
    }
}
