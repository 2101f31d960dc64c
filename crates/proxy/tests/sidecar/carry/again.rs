//! Requests that are sent again, and searches for owners, are counted by why and how they end.

use harness::{Running, manual};
use http::Method;
use kling_sim::{Answer, Effect, Fault};

use super::client::{JOB, PROMPT, ready, start_job, task_id, task_path};

async fn retries(running: &Running) -> Vec<(&'static str, f64)> {
    let mut counts = Vec::new();
    for reason in ["failed", "full", "mark", "refused", "unsent"] {
        let series = format!(r#"kling_balancer_retries_total{{reason="{reason}"}}"#);
        let count = running.metric(&series).await;
        if count > 0.0 {
            counts.push((reason, count));
        }
    }
    counts
}

#[tokio::test]
async fn what_is_sent_again_is_counted_by_why() {
    let sim = manual(&[("a@x", 2), ("b@x", 2)]).start().await.unwrap();
    let running = ready(sim, &[("RECONCILE__INTERVAL", "100ms")]).await;
    assert_eq!(retries(&running).await, []);
    running
        .sim
        .fault(Fault::status(502).on("GET", "/assets").times(1));
    assert_eq!(running.get("/v1/kling/assets").await.status, 200);
    assert_eq!(retries(&running).await, [("failed", 1.0)]);

    running
        .sim
        .fault(Fault::status(412).on_job_starts().times(1));
    task_id(&start_job(&running).await);
    assert_eq!(retries(&running).await, [("failed", 1.0), ("refused", 1.0)]);

    // The account without credit is parked; the other one takes the marked start after all.
    let refused = Answer::new(400).body(r#"{"error":"unknown field replyRef","code":400}"#);
    running
        .sim
        .fault(Fault::new(Effect::Answer(refused)).on_job_starts().times(1));
    task_id(&start_job(&running).await);
    assert_eq!(
        retries(&running).await,
        [("failed", 1.0), ("mark", 1.0), ("refused", 1.0)]
    );
}

#[tokio::test]
async fn a_start_that_found_its_account_full_is_counted_when_it_is_sent_again() {
    let sim = manual(&[("a@x", 2), ("b@x", 2)]).start().await.unwrap();
    let running = ready(sim, &[]).await;
    running
        .sim
        .fault(Fault::status(429).on_job_starts().times(1));
    let answer = running.post(JOB, PROMPT).await;
    assert_eq!(answer.header("x-kling-attempts"), "2");
    assert_eq!(retries(&running).await, [("full", 1.0)]);
}

#[tokio::test]
async fn searches_for_owners_are_counted_by_their_result() {
    let sim = manual(&[("a@x", 2), ("b@x", 2)]).start().await.unwrap();
    // No round may teach owners.
    let running = ready(sim, &[("RECONCILE__INTERVAL", "1h")]).await;
    let searches = async || {
        let mut counts = Vec::new();
        for result in ["found", "not-found", "unknown"] {
            let series = format!(r#"kling_balancer_owner_searches_total{{result="{result}"}}"#);
            counts.push(running.metric(&series).await);
        }
        counts
    };
    let id = running.sim.submit_directly("b@x", 1)[0].get();
    for _ in 0..2 {
        assert_eq!(running.get(&task_path(id)).await.status, 200);
        assert_eq!(searches().await, [1.0, 0.0, 0.0], "it is remembered");
    }
    assert_eq!(running.get(&task_path(7)).await.status, 404);
    assert_eq!(searches().await, [1.0, 1.0, 0.0]);
    let questions = Fault::status(503).on("GET", "/tasks/{task_id}");
    running.sim.fault(questions);
    let unknown = running.get(&task_path(8)).await;
    unknown.assert_refused(503, "owner-unknown");
    assert_eq!(searches().await, [1.0, 1.0, 1.0]);
}

#[tokio::test]
async fn a_read_that_is_sent_again_says_the_same_each_time() {
    let sim = manual(&[("a@x", 1)]).start().await.unwrap();
    let running = ready(sim, &[]).await;
    let path = task_path(task_id(&start_job(&running).await));
    running
        .sim
        .fault(Fault::status(502).on("GET", "/tasks/{task_id}").times(2));
    let lines = [("x-any", "one"), ("accept", "*/*"), ("x-any", "two")];
    let answer = running.send(Method::GET, &path, &lines, "").await;
    assert_eq!(answer.header("x-kling-attempts"), "3");
    let sent = running.sim.requests().into_iter().map(|seen| seen.head);
    let sent: Vec<_> = sent.filter(|head| head.path == path).collect();
    let any: Vec<_> = sent[0].headers.get_all("x-any").iter().collect();
    assert_eq!(any, ["one", "two"]);
    assert_eq!(sent.len(), 3);
    for head in &sent {
        assert_eq!(
            (&head.query, &head.headers),
            (&sent[0].query, &sent[0].headers)
        );
    }
}
