//! Which account a call goes to that any could answer.

use http::Method;
use kling_sim::Sim;

use super::wire::{JOB, Raw, exchange, ready, task_id, task_path};
use crate::harness::Running;

#[tokio::test]
async fn reads_go_to_the_first_healthy_account_of_the_list() {
    let sim = Sim::builder()
        .account("sick@x", 1)
        .account("b+1@x", 1)
        .account("c@x", 1);
    let sim = sim.start().await.unwrap();
    sim.set_account_error("sick@x", Some("Failed to refresh session: 500"));
    let running = ready(sim, &[]).await;
    for path in [
        "/tasks",
        "/tasks/?pageSize=5",
        "/avatars",
        "/elements/u_1",
        "/assets?email=",
    ] {
        let answer = running.get(&format!("/v1/kling{path}")).await;
        assert_eq!(answer.header("x-kling-account"), "b+1@x", "{path}");
        assert_eq!(answer.header("x-kling-attempts"), "1");
    }
    let upload = post_file(&running, "/v1/kling/assets").await;
    assert_eq!(upload.header("x-kling-account"), "b+1@x");
    let voice = running
        .post("/v1/kling/tts/create", r#"{"text":"hello"}"#)
        .await;
    assert_eq!(
        (voice.status.as_u16(), voice.header("x-kling-account")),
        (200, "b+1@x")
    );
    let queries: Vec<_> = running
        .sim
        .requests()
        .into_iter()
        .filter_map(|seen| seen.head.query)
        .collect();
    assert_eq!(
        queries,
        [
            "email=b%2B1%40x",
            "pageSize=5&email=b%2B1%40x",
            "email=b%2B1%40x",
            "email=b%2B1%40x",
            "email=b%2B1%40x",
            "email=b%2B1%40x",
        ]
    );
}

#[tokio::test]
async fn a_client_that_always_names_its_account_is_respected() {
    let running = Running::with(&[("a@x", 1), ("Bob@Example.com", 2)]).await;
    for spelling in ["Bob@Example.com", "bob@example.com"] {
        let body = format!(r#"{{"prompt":"p","email":"{spelling}"}}"#);
        let id = task_id(&running.post(JOB, &body).await);
        let poll = running
            .get(&format!("{}?email={spelling}", task_path(id)))
            .await;
        assert_eq!(poll.status, 200, "{spelling}: {poll:?}");
        assert_eq!(poll.header("x-kling-account"), "Bob@Example.com");
        let list = running
            .get(&format!("/v1/kling/tasks?email={spelling}&pageSize=1"))
            .await;
        assert_eq!(list.status, 200, "{spelling}: {list:?}");
        let upload = post_file(&running, &format!("/v1/kling/assets?email={spelling}")).await;
        assert_eq!(upload.status, 200, "{spelling}: {upload:?}");
        let body = format!(r#"{{"text":"hello","email":"{spelling}"}}"#);
        let voice = running.post("/v1/kling/tts/create", &body).await;
        assert_eq!(voice.status, 200, "{spelling}: {voice:?}");
        running.sim.finish(id);
        let gone = running
            .delete(&format!("{}?email={spelling}", task_path(id)))
            .await;
        assert_eq!(gone.status, 200, "{spelling}: {gone:?}");
    }
    // Another account than the one it means is never taken for it.
    let strange = running.get("/v1/kling/tasks?email=nobody@x").await;
    assert_eq!(strange.status, 404, "{strange:?}");
    assert_eq!(strange.header("x-kling-account"), "nobody@x");
}

async fn post_file(running: &Running, path: &str) -> Raw {
    let png = [("content-type", "image/png")];
    exchange(running.addr, Method::POST, path, &png, "\u{89}PNG").await
}

#[tokio::test]
async fn where_no_account_is_healthy_the_first_one_answers() {
    let sim = Sim::builder().account("a@x", 1).account("b@x", 1);
    let sim = sim.start().await.unwrap();
    sim.set_account_error("a@x", Some("Failed to refresh session: 500"));
    sim.set_account_error("b@x", Some("Failed to refresh session: 500"));
    let running = Running::beside(sim, &[]).await;
    running
        .until(|readiness| readiness.text.contains("no-usable-account"))
        .await;
    let path = "/v1/kling/tasks";
    let answer = running.get(path).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("x-kling-account")),
        (200, "a@x")
    );
    let missing = running.get(&task_path(7)).await;
    assert_eq!(missing.status, 404, "no account has it: {missing:?}");
    let start = running.post(JOB, r#"{"prompt":"p"}"#).await;
    start.assert_refused(503, "no-usable-account");
}

#[tokio::test]
async fn a_task_is_its_owners_however_its_path_is_written() {
    let running = Running::with(&[("a@x", 1), ("b@x", 1), ("c@x", 1)]).await;
    for _ in 0..3 {
        let id = task_id(&running.post(JOB, r#"{"prompt":"p"}"#).await);
        let digits = id.to_string();
        let encoded = format!("%3{}{}", &digits[..1], &digits[1..]);
        let mut owners = Vec::new();
        for path in [digits.clone(), format!("{digits}/"), encoded] {
            let answer = running.get(&format!("/v1/kling/tasks/{path}")).await;
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
            owners.push(answer.header("x-kling-account").to_owned());
        }
        owners.dedup();
        assert_eq!(owners.len(), 1);
    }
}
