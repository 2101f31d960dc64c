//! Clients that name an account with every call, as the vendor's scripts do: their e-mail is respected, or
//! ignored so that their jobs are balanced.

use std::collections::BTreeMap;

use harness::{Running, eventually, manual, send};
use http::{Method, StatusCode};
use kling_sim::{Effect, Fault, Outcome, Sim, TaskId};
use serde_json::json;

use super::{
    client::{JOB, JSON, Raw, exchange, ready, task_id, task_path},
    ownership::{Style, account, call, keyed_post, post},
};

const THREE: [(&str, u32); 3] = [("a@x", 2), ("b@x", 2), ("c@x", 2)];
const NO_ROUNDS: (&str, &str) = ("RECONCILE__INTERVAL", "1h");
const IGNORE: (&str, &str) = ("FORWARD__CLIENT_EMAIL", "ignore");
const EMAIL: &str = "x-kling-email";
const PNG: (&str, &str) = ("content-type", "image/png");

async fn three(settings: &[(&str, &str)]) -> Running {
    ready(manual(&THREE).start().await.unwrap(), settings).await
}

/// How many jobs each account has, as the simulator counts them.
fn jobs(sim: &Sim) -> BTreeMap<String, usize> {
    let mut jobs = BTreeMap::new();
    for submission in sim.audit().submissions {
        if let Outcome::Accepted(_) = submission.outcome {
            *jobs.entry(submission.email.unwrap()).or_default() += 1;
        }
    }
    jobs
}

fn two_each() -> BTreeMap<String, usize> {
    THREE.map(|(email, _)| (email.to_owned(), 2)).into()
}

async fn call_as(running: &Running, method: Method, path: &str, wish: &str) -> Raw {
    let path = format!("/v1/kling{path}");
    exchange(running.addr, method, &path, &[(EMAIL, wish)], "").await
}

#[tokio::test]
async fn jobs_of_a_client_that_insists_on_an_account_are_balanced() {
    for style in [Style::Json, Style::Form] {
        let running = three(&[IGNORE]).await;
        for _ in 0..6 {
            let fields = json!({ "prompt": "a boat", "email": "a@x" });
            let answer = post(&running, style, "/videos/text2video", &fields).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        assert_eq!(jobs(&running.sim), two_each(), "{style:?}");
        assert_eq!(running.sim.audit().over_limit_ours(), 0);
    }
    let running = three(&[IGNORE]).await;
    for _ in 0..6 {
        let path = format!("{JOB}?email=a%40x");
        let body = r#"{"prompt":"a boat"}"#;
        let answer = exchange(running.addr, Method::POST, &path, &[JSON], body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(jobs(&running.sim), two_each(), "in the query");
}

#[tokio::test]
async fn an_email_outside_the_list_counts_as_absent() {
    let running = three(&[IGNORE]).await;
    for email in ["gone@x", "", "A@X"] {
        let fields = json!({ "prompt": "a boat", "email": email });
        let answer = post(&running, Style::Json, "/videos/text2video", &fields).await;
        assert_eq!(answer.status, 200, "{email}: {answer:?}");
    }
    let submissions = running.sim.audit().submissions;
    let known = |email: &str| THREE.iter().any(|(known, _)| *known == email);
    assert!(
        submissions
            .iter()
            .all(|it| known(it.email.as_deref().unwrap()))
    );
}

#[tokio::test]
async fn a_header_of_the_call_wins_over_the_setting() {
    let running = three(&[]).await;
    for _ in 0..6 {
        let headers = [JSON, (EMAIL, "ignore")];
        let body = r#"{"prompt":"a boat","email":"a@x"}"#;
        let answer = exchange(running.addr, Method::POST, JOB, &headers, body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(jobs(&running.sim), two_each());
    let seen = running.sim.audit().submissions;
    assert!(
        seen.iter().all(|it| !it.head.headers.contains_key(EMAIL)),
        "it is ours"
    );

    let running = three(&[IGNORE]).await;
    for (wish, expected) in [("respect", 200), ("Respect", 200), ("respect", 429)] {
        let headers = [JSON, (EMAIL, wish)];
        let body = r#"{"prompt":"a boat","email":"a@x"}"#;
        let answer = exchange(running.addr, Method::POST, JOB, &headers, body).await;
        assert_eq!(answer.status, expected, "{answer:?}");
    }
    assert_eq!(jobs(&running.sim), [("a@x".to_owned(), 2)].into());
}

#[tokio::test]
async fn a_header_that_cannot_be_read_is_refused_and_nothing_is_sent() {
    let running = three(&[IGNORE]).await;
    let before = running.sim.requests().len();
    let cases: [&[(&str, &str)]; 3] = [
        &[(EMAIL, "maybe")],
        &[(EMAIL, "")],
        &[(EMAIL, "ignore"), (EMAIL, "ignore")],
    ];
    for headers in cases {
        let path = task_path(7);
        let answer = send(running.addr, Method::GET, &path, headers, "").await;
        answer.assert_refused(400, "bad-request");
        assert!(answer.text.contains(EMAIL), "{answer:?}");
    }
    assert_eq!(running.sim.requests().len(), before);
}

#[tokio::test]
async fn polls_and_deletions_go_to_the_owner_whatever_account_is_named() {
    let running = three(&[IGNORE, NO_ROUNDS]).await;
    for _ in 0..6 {
        let body = r#"{"prompt":"a boat","email":"a@x"}"#;
        let answer = send(running.addr, Method::POST, JOB, &[JSON], body).await;
        let owner = answer.header("x-kling-account").to_owned();
        let id = task_id(&answer);
        let poll = call(&running, Method::GET, &format!("/tasks/{id}?email=a@x")).await;
        assert_eq!(account(&poll), owner);
        assert!(running.sim.finish(id));
        let path = format!("/tasks/{id}?email=b@x");
        let deleted = call(&running, Method::DELETE, &path).await;
        assert_eq!(account(&deleted), owner);
    }
}

/// A sidecar that knows of no job, and an ended one of `z@x`: more accounts than are asked at once, and
/// only that one answers.
async fn only_last_answers() -> (Running, TaskId) {
    let others: Vec<_> = (0..9).map(|idx| format!("{idx}@x")).collect();
    let accounts = others.iter().map(|email| (email.as_str(), 1));
    let accounts: Vec<_> = accounts.chain([("z@x", 1)]).collect();
    let sim = manual(&accounts).start().await.unwrap();
    let id = sim.submit_directly("z@x", 1)[0];
    assert!(sim.finish(id));
    let running = ready(sim, &[IGNORE, NO_ROUNDS]).await;
    for email in &others {
        let stalled = Fault::new(Effect::StallBefore).account(email);
        running.sim.fault(stalled);
    }
    (running, id)
}

#[tokio::test]
async fn an_unknown_task_is_searched_beginning_with_the_named_account() {
    let (running, id) = only_last_answers().await;
    let poll = call(&running, Method::GET, &format!("/tasks/{id}?email=Z@x")).await;
    assert_eq!(account(&poll), "z@x");
}

#[tokio::test]
async fn a_deletion_goes_to_the_owner_that_a_search_finds() {
    let running = three(&[IGNORE, NO_ROUNDS]).await;
    let other = running.sim.submit_directly("b@x", 1)[0];
    assert!(running.sim.finish(other));
    let path = format!("/tasks/{other}?email=a@x");
    let deleted = call(&running, Method::DELETE, &path).await;
    assert_eq!(account(&deleted), "b@x");
    // A task that no account has is the upstream's to refuse.
    let missing = call(&running, Method::GET, "/tasks/12?email=b@x").await;
    assert_eq!(missing.status, 404, "{missing:?}");
    assert_eq!(missing.header("x-kling-account"), "b@x");
}

#[tokio::test]
async fn a_task_in_a_body_is_searched_beginning_with_the_named_account() {
    let (running, id) = only_last_answers().await;
    let fields = json!({ "task_id": id.get(), "prompt": "x", "email": "z@x" });
    let extended = post(&running, Style::Json, "/videos/extend", &fields).await;
    assert_eq!(account(&extended), "z@x");
}

#[tokio::test]
async fn a_key_stands_for_the_same_job_whatever_account_is_named() {
    for style in [Style::Json, Style::Form] {
        let running = three(&[IGNORE]).await;
        let mut ids = Vec::new();
        for email in ["a@x", "b@x", "gone@x"] {
            let fields = json!({ "prompt": "a boat", "email": email });
            let answer = keyed_post(&running, style, &fields).await;
            assert_eq!(answer.status, 200, "{email}: {answer:?}");
            ids.push(answer.json()["task"]["id"].clone());
        }
        assert_eq!(ids[0], ids[1]);
        assert_eq!(ids[0], ids[2]);
        let other = json!({ "prompt": "a tree", "email": "a@x" });
        let reused = keyed_post(&running, style, &other).await;
        assert_eq!(reused.status, 422, "{reused:?}");
        assert_eq!(running.sim.audit().submission_count, 1);
    }
    let running = three(&[IGNORE]).await;
    for email in ["a%40x", "b%40x"] {
        let path = format!("{JOB}?email={email}");
        let headers = [JSON, ("idempotency-key", "k")];
        let body = r#"{"prompt":"a boat"}"#;
        let answer = exchange(running.addr, Method::POST, &path, &headers, body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(running.sim.audit().submission_count, 1);
}

#[tokio::test]
async fn uploads_keep_a_healthy_account_and_leave_a_drained_one() {
    let running = three(&[IGNORE]).await;
    let upload = async |email: &str| {
        let path = format!("/v1/kling/assets/?email={email}");
        let answer = exchange(running.addr, Method::POST, &path, &[PNG], "PNG").await;
        account(&answer).to_owned()
    };
    assert_eq!(upload("b@x").await, "b@x");
    assert_eq!(upload("gone@x").await, "a@x");
    let drained = running.post("/accounts/b@x/drain", "").await;
    assert_eq!(drained.status, StatusCode::OK);
    assert_eq!(upload("b@x").await, "a@x");
    let fields = json!({ "name": "hero", "email": "c@x", "prompt": "x" });
    let made = post(&running, Style::Json, "/tts/create", &fields).await;
    assert_eq!(made.header("x-kling-account"), "c@x");
    let fields = json!({ "name": "hero", "email": "b@x", "prompt": "x" });
    let made = post(&running, Style::Json, "/tts/create", &fields).await;
    assert_eq!(made.header("x-kling-account"), "a@x", "b@x is drained");
}

#[tokio::test]
async fn lists_of_an_account_keep_the_account_that_is_named() {
    let running = three(&[IGNORE]).await;
    for (path, wish) in [
        ("/tasks?email=c@x", "ignore"),
        ("/avatars?email=c@x", "ignore"),
        ("/accounts/c@x", "ignore"),
    ] {
        let answer = call_as(&running, Method::GET, path, wish).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        let seen = eventually(async || running.sim.requests().pop()).await;
        let target = format!("{}?{}", seen.head.path, seen.head.query.unwrap_or_default());
        assert!(
            target.contains("c@x") || target.contains("c%40x"),
            "{target}"
        );
    }
}
