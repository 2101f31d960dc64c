//! Calls that any account could answer, and the account that gets them.

use harness::{Running, eventually};
use http::{Method, StatusCode};
use kling_sim::{Effect, Fault, Sim};

use super::client::{JOB, Raw, exchange, ready, start_job, task_id, task_path};

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
    // The sidecar never replaces an unknown account by another one.
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

/// How often the simulator was asked for `path`.
fn asked_count(running: &Running, path: &str) -> usize {
    let requests = running.sim.requests();
    requests
        .iter()
        .filter(|request| request.head.path == path)
        .count()
}

#[tokio::test]
async fn a_read_that_fails_for_a_moment_is_asked_again() {
    let passing = [
        (Effect::Answer(kling_sim::Answer::new(503)), 2),
        (Effect::Answer(kling_sim::Answer::new(500)), 1),
        (Effect::Answer(kling_sim::Answer::new(522)), 1),
        (Effect::ResetBefore, 2),
        (Effect::TruncateAfter, 2),
    ];
    for (effect, times) in passing {
        let running = Running::with(&[("a@x", 9)]).await;
        let path = task_path(task_id(&start_job(&running).await));
        running.sim.fault(
            Fault::new(effect.clone())
                .on("GET", "/tasks/{task_id}")
                .times(times),
        );
        let answer = running.get(&path).await;
        assert_eq!(answer.status, StatusCode::OK, "{effect:?} {answer:?}");
        assert_eq!(answer.header("x-kling-attempts"), (times + 1).to_string());
        assert_eq!(asked_count(&running, &path), times as usize + 1);
    }
}

#[tokio::test]
async fn an_answer_about_a_task_that_never_comes_whole_is_unknown() {
    let running = Running::with(&[("a@x", 9)]).await;
    let path = task_path(task_id(&start_job(&running).await));
    let truncated = Fault::new(Effect::TruncateAfter).on("GET", "/tasks/{task_id}");
    running.sim.fault(truncated);
    let answer = running.get(&path).await;
    answer.assert_refused(502, "outcome-unknown");
    assert_eq!(asked_count(&running, &path), 3);
}

#[tokio::test]
async fn what_lasts_or_is_no_trouble_of_the_upstream_passes() {
    for (status, asked) in [(503, 3), (404, 1), (429, 1), (596, 1), (400, 1)] {
        let running = Running::with(&[("a@x", 9)]).await;
        let fault = Fault::status(status).on("GET", "/videos/effects");
        running.sim.fault(fault);
        let path = "/v1/kling/videos/effects";
        let answer = running.get(path).await;
        assert_eq!(answer.status.as_u16(), status);
        assert_eq!(answer.header("x-kling-attempts"), asked.to_string());
        assert_eq!(asked_count(&running, path), asked);
    }
}

#[tokio::test]
async fn what_changes_something_is_asked_once() {
    let running = Running::with(&[("a@x", 9)]).await;
    running.sim.fault(Fault::status(503));
    for (method, path) in [
        (Method::DELETE, "/v1/kling/tasks/7"),
        (Method::DELETE, "/v1/kling/scheduler/7"),
        (Method::POST, "/v1/kling/assets"),
        (Method::POST, "/v1/kling/tts/create"),
        (Method::GET, "/v1/kling/unheard/of"),
    ] {
        let json = [("content-type", "application/json")];
        let answer = running.send(method, path, &json, "{}").await;
        assert_eq!(answer.status.as_u16(), 503, "{path}");
        assert_eq!(asked_count(&running, path), 1, "{path}");
    }
}

#[tokio::test]
async fn a_new_account_is_known_at_once() {
    let settings = [("ACCOUNTS__REFRESH_INTERVAL", "1h")];
    let running = Running::configured(&[("a@x", 1)], &settings).await;
    let body = r#"{"email":"new@x","password":"p","maxJobs":2}"#;
    let answer = running.post("/v1/kling/accounts", body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    eventually(async || {
        let account = running.get("/accounts/new@x").await;
        (account.status == StatusCode::OK).then_some(())
    })
    .await;
}
