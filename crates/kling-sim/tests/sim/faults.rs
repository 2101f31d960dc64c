//! Each effect of a fault, as a client without an HTTP library sees it.

use std::{io::ErrorKind, time::Duration};

use kling_sim::{Answer as Scripted, ChaosPlan, Effect, Fault, JobDuration, Outcome, Sim};
use serde_json::json;
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::client::{Answer, get, open, open_head, read, submit, until};

/// Long enough for loopback to deliver what was sent, short enough to wait for nothing.
const SILENCE: Duration = Duration::from_millis(50);

const JOB: &str = "/videos/text2video";

async fn sim() -> Sim {
    let sim = Sim::builder().account("a@x", 5).account("b@x", 5);
    sim.job_duration(JobDuration::Manual).start().await.unwrap()
}

fn body(email: &str) -> String {
    json!({"email": email, "prompt": "p"}).to_string()
}

/// Sends a job start on `a@x` under `effect`, which applies to this request alone.
async fn under(sim: &Sim, effect: Effect) -> TcpStream {
    sim.fault(Fault::new(effect).on("POST", JOB).account("a@x").times(1));
    open(sim, "POST", JOB, &body("a@x")).await
}

fn outcome(sim: &Sim) -> Outcome {
    sim.audit().submissions.last().unwrap().outcome
}

/// How a connection without an answer ends.
async fn end(mut stream: TcpStream) -> Result<usize, ErrorKind> {
    let end = stream.read_to_end(&mut Vec::new()).await;
    end.map_err(|error| error.kind())
}

#[tokio::test]
async fn a_scripted_answer_stands_in_for_the_job() {
    let sim = sim().await;
    let answer = Scripted::new(599)
        .header("retry-after", "7")
        .header("set-cookie", "a=1")
        .header("set-cookie", "b=2")
        .header("content-type", "text/html")
        .body("<html>");
    let answer = read(under(&sim, Effect::Answer(answer)).await).await;
    assert_eq!((answer.status, answer.text()), (599, "<html>"));
    assert_eq!(answer.header("retry-after"), Some("7"));
    assert_eq!(answer.header("content-type"), Some("text/html"));
    assert_eq!(answer.head.matches("set-cookie: ").count(), 2);
    assert_eq!(
        (sim.executing("a@x"), outcome(&sim)),
        (0, Outcome::Refused(599))
    );
    assert_eq!(sim.audit().submissions[0].body, body("a@x"));

    sim.fault(Fault::status(503));
    let refused = get(&sim, "/elsewhere").await;
    assert_eq!(
        refused.json(),
        json!({"error": "Service Unavailable", "code": 503})
    );
    sim.clear_faults();
    assert_eq!(get(&sim, "/accounts").await.status, 200);
}

#[tokio::test]
async fn a_fault_of_one_account_spares_the_other_and_ends_when_used_up() {
    let sim = sim().await;
    sim.fault(Fault::status(502).on_job_starts().account("a@x").times(2));
    let mut statuses = Vec::new();
    for email in ["a@x", "b@x", "a@x", "a@x"] {
        statuses.push(
            submit(&sim, &json!({"email": email, "prompt": "p"}))
                .await
                .status,
        );
    }
    assert_eq!(statuses, [502, 200, 502, 200]);

    sim.fault(
        Fault::status(504)
            .on("GET", "/tasks/{task_id}")
            .account("a@x"),
    );
    assert_eq!(get(&sim, "/tasks/1?email=a@x").await.status, 504);
    assert_eq!(get(&sim, "/tasks/1?email=b@x").await.status, 404);
    sim.fault(
        Fault::status(500)
            .on("GET", "/accounts/{email}")
            .account("b@x"),
    );
    assert_eq!(get(&sim, "/accounts/b@x").await.status, 500);
    assert_eq!(get(&sim, "/accounts/a@x").await.status, 200);
}

#[tokio::test]
async fn a_reset_before_acceptance_makes_no_job_and_one_after_it_does() {
    let sim = sim().await;
    let before = under(&sim, Effect::ResetBefore).await;
    assert_eq!(end(before).await, Err(ErrorKind::ConnectionReset));
    assert_eq!(
        (sim.executing("a@x"), outcome(&sim)),
        (0, Outcome::Unjudged("reset"))
    );
    let after = under(&sim, Effect::ResetAfter).await;
    assert_eq!(end(after).await, Err(ErrorKind::ConnectionReset));
    assert_eq!(sim.executing("a@x"), 1);
    assert!(matches!(outcome(&sim), Outcome::Accepted(_)));
}

#[tokio::test]
async fn a_stall_is_silent_with_or_without_a_job() {
    let sim = sim().await;
    for (count, effect, executing) in [(1, Effect::StallBefore, 0), (2, Effect::StallAfter, 1)] {
        let mut stream = under(&sim, effect).await;
        until(|| sim.audit().submission_count == count).await;
        timeout(SILENCE, stream.read_u8())
            .await
            .expect_err("open and silent");
        assert_eq!(sim.executing("a@x"), executing);
    }
}

#[tokio::test]
async fn a_truncated_answer_is_half_of_one_and_the_job_runs() {
    let sim = sim().await;
    let answer = read(under(&sim, Effect::TruncateAfter).await).await;
    assert_eq!((answer.status, answer.error), (200, None));
    assert_eq!(answer.body.len(), answer.content_length() / 2);
    assert!(answer.body.starts_with(b"{\"task\""));
    assert_eq!(sim.executing("a@x"), 1);
}

#[tokio::test]
async fn a_delayed_answer_is_whole_and_a_drip_takes_an_interval_for_each_byte() {
    let sim = sim().await;
    let begun = Instant::now();
    let answer = read(under(&sim, Effect::Delay(SILENCE)).await).await;
    assert!(begun.elapsed() >= SILENCE);
    assert_eq!(answer.status, 200);

    const INTERVAL: Duration = Duration::from_millis(1);
    let begun = Instant::now();
    let answer = read(under(&sim, Effect::Drip(INTERVAL)).await).await;
    assert!(answer.json()["task"]["id"].is_i64());
    let pauses = u32::try_from(answer.content_length() - 1).unwrap();
    assert!(begun.elapsed() >= INTERVAL * pauses);
    assert_eq!(sim.executing("a@x"), 2);
}

#[tokio::test]
async fn a_slow_job_starts_though_its_client_leaves_and_is_answered_at_the_end_of_its_time() {
    let sim = sim().await;
    let begun = Instant::now();
    let answer = read(under(&sim, Effect::Slow(SILENCE)).await).await;
    assert!(begun.elapsed() >= SILENCE);
    assert_eq!((answer.status, sim.executing("a@x")), (200, 1));
    drop(under(&sim, Effect::Slow(SILENCE)).await);
    until(|| sim.executing("a@x") == 2).await;
}

#[tokio::test]
async fn a_client_that_leaves_does_not_take_its_request_back() {
    let sim = sim().await;
    let started = submit(&sim, &json!({"email": "a@x", "prompt": "p"})).await;
    let path = format!("/scheduler/{}", started.json()["task"]["id"]);
    sim.fault(Fault::new(Effect::Delay(SILENCE)).on("DELETE", &path));
    let stream = open(&sim, "DELETE", &path, "").await;
    until(|| sim.requests().len() == 1).await;
    drop(stream);
    until(|| sim.executing("a@x") == 0).await;
}

#[tokio::test]
async fn an_early_answer_comes_before_the_body_and_closes() {
    let sim = sim().await;
    let effect = Effect::EarlyAnswer(Scripted::new(413));
    sim.fault(Fault::new(effect).on("POST", JOB));
    // The body is announced and never sent.
    let answer = read(open_head(&sim, "POST", JOB, "", 1000).await).await;
    assert_eq!(
        (answer.status, answer.header("connection")),
        (413, Some("close"))
    );
    let seen = sim.requests().pop().unwrap();
    assert_eq!(
        (seen.head.path.as_str(), seen.is_complete),
        ("/v1/kling/videos/text2video", false)
    );
    assert_eq!(sim.audit().submission_count, 0);
}

async fn statuses_under_chaos(seed: u64) -> Vec<u16> {
    let sim = sim().await;
    let plan = ChaosPlan::new(seed)
        .with(0.3, Effect::Answer(Scripted::new(502)))
        .with(0.3, Effect::TruncateAfter);
    sim.chaos(plan);
    let mut statuses = Vec::new();
    for n in 0..40_u32 {
        sim.finish_all();
        assert_eq!(
            get(&sim, "/scheduler").await.status,
            200,
            "only job starts are drawn for"
        );
        let Answer { status, body, .. } = read(open(&sim, "POST", JOB, &body("a@x")).await).await;
        let is_whole = body.ends_with(b"}");
        statuses.push(if is_whole { status } else { 0 });
        assert_eq!(sim.audit().submission_count, u64::from(n) + 1);
    }
    statuses
}

#[tokio::test]
async fn chaos_is_the_same_for_the_same_seed() {
    let statuses = statuses_under_chaos(1).await;
    assert_eq!(statuses, statuses_under_chaos(1).await);
    assert_ne!(statuses, statuses_under_chaos(2).await);
    for expected in [200, 502, 0] {
        assert!(statuses.contains(&expected), "{statuses:?}");
    }
}
