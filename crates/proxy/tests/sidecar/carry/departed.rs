//! A 404 on a job start may mean that its account is gone: the list says whether it is.

use harness::{Answer, Running, eventually, send};
use http::Method;
use kling_sim::{Answer as Scripted, Effect, Fault, ListFault};
use tokio::task::JoinSet;

use super::client::{JOB, JSON, PROMPT, start_job, task_id};

const ACCOUNTS: [(&str, u32); 2] = [("a@x", 20), ("b@x", 20)];
const RARE_FETCHES: (&str, &str) = ("ACCOUNTS__REFRESH_INTERVAL", "1h");

async fn running() -> Running {
    Running::configured(&ACCOUNTS, &[RARE_FETCHES]).await
}

/// Answers every job start on `b@x` with a 404 that says this.
fn missing(running: &Running, text: &'static str) {
    let answer = Effect::Answer(Scripted::new(404).body(text));
    let fault = Fault::new(answer).on_job_starts().account("b@x");
    running.sim.fault(fault);
}

fn fetch_count(running: &Running) -> u64 {
    running.sim.list_requests().seen
}

/// Starts jobs on any account until one was tried on `b@x`.
async fn until_tried(running: &Running) -> Answer {
    loop {
        let answer = start_job(running).await;
        let submissions = running.sim.audit().submissions;
        if submissions
            .iter()
            .any(|it| it.email.as_deref() == Some("b@x"))
        {
            return answer;
        }
    }
}

#[tokio::test]
async fn jobs_go_elsewhere_when_their_account_has_left_the_list() {
    for text in [
        r#"{"error":"Account b@x not found"}"#,
        "<html>nothing here</html>",
    ] {
        let running = running().await;
        missing(&running, text);
        assert!(running.sim.remove_account("b@x"));
        let mut starts = JoinSet::new();
        for _ in 0..12 {
            let addr = running.addr;
            starts.spawn(async move { send(addr, Method::POST, JOB, &[JSON], PROMPT).await });
        }
        for answer in starts.join_all().await {
            task_id(&answer);
        }
        let list = running.get("/accounts").await.json();
        assert_eq!(list["accounts"].as_array().unwrap().len(), 1, "{list}");
        let count = fetch_count(&running);
        assert!(count <= 3, "all shared a fetch or two, not {count}: {text}");
    }
}

#[tokio::test]
async fn an_account_that_is_still_in_the_list_is_healthy_and_the_client_gets_the_404() {
    let running = running().await;
    missing(&running, "Account b@x not found");
    let answer = until_tried(&running).await;
    assert_eq!(answer.status.as_u16(), 404, "{answer:?}");
    assert_eq!(answer.text, "Account b@x not found");
    assert_eq!(answer.header("x-kling-attempts"), "1");
    assert_eq!(running.account("b@x").await["state"], "available");
    assert_eq!(running.account("b@x").await["inFlight"], 0);
    assert_eq!(fetch_count(&running), 2);
}

#[tokio::test]
async fn a_list_that_does_not_come_is_not_waited_for_long() {
    let running = running().await;
    missing(&running, "Account b@x not found");
    running.sim.remove_account("b@x");
    running.sim.list_fault(ListFault::Stalled);
    assert_eq!(until_tried(&running).await.status.as_u16(), 404);
    assert_eq!(running.account("b@x").await["state"], "available");
}

#[tokio::test]
async fn a_named_account_is_not_left_but_the_list_is_fetched() {
    let running = running().await;
    missing(&running, "Account b@x not found");
    running.sim.remove_account("b@x");
    let body = r#"{"prompt":"a boat","email":"b@x"}"#;
    assert_eq!(running.post(JOB, body).await.status.as_u16(), 404);
    assert_eq!(running.sim.audit().submission_count, 1);
    eventually(async || {
        let account = running.get("/accounts/b@x").await;
        (account.status.as_u16() == 404).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_404_about_what_the_call_names_is_no_news_of_the_account() {
    let running = running().await;
    let answer = Effect::Answer(Scripted::new(404).body("Unable to locate element u_1"));
    running.sim.fault(Fault::new(answer).on_job_starts());
    let body = r#"{"prompt":"a boat","element_1":"u_1"}"#;
    let answer = running.post("/v1/kling/videos/omni", body).await;
    assert_eq!(answer.status.as_u16(), 404, "{answer:?}");
    assert_eq!(fetch_count(&running), 1);
}
