//! What each answer to a job start means for its slot and for the client.

use harness::{Running, Slots, stored_gzip};
use http::Method;
use kling_sim::{Answer, Effect, Fault, Outcome};

use super::client::{
    JOB, JSON, PROMPT, Raw, accepted, ended, exchange, leases, slots, start_job, task_id,
};

/// An answer with marks that tell it from any other.
fn marked(status: u16, body: &str) -> Answer {
    Answer::new(status)
        .header("x-mark", "one")
        .header("x-mark", "two")
        .header("retry-after", "7")
        .body(body.to_owned())
}

/// Starts a job, lets the upstream answer with this status and body, and checks that the answer
/// passed unchanged.
async fn answered(running: &Running, status: u16, body: &str) -> Raw {
    let fault = Fault::new(Effect::Answer(marked(status, body)));
    running.sim.fault(fault.on_job_starts().times(1));
    let answer = exchange(running.addr, Method::POST, JOB, &[JSON], PROMPT).await;
    assert_eq!(answer.status.as_u16(), status, "{answer:?}");
    assert_eq!(answer.body, body.as_bytes(), "{answer:?}");
    let marks: Vec<_> = answer.headers.get_all("x-mark").iter().collect();
    assert_eq!(marks, ["one", "two"], "{answer:?}");
    assert_eq!(answer.header("retry-after"), "7");
    assert_eq!(answer.header("x-kling-account"), "a@x");
    assert_eq!(answer.header("x-kling-attempts"), "1");
    assert!(!answer.headers.contains_key("x-kling-outcome"));
    let audit = running.sim.audit();
    assert_eq!(audit.submission_count, 1, "sent once");
    assert_eq!(audit.submissions[0].outcome, Outcome::Refused(status));
    answer
}

#[tokio::test]
async fn a_provable_refusal_returns_the_slot() {
    for (status, body) in [
        (429, r#"{"error":"at capacity","code":429}"#),
        (596, r#"{"error":"session"}"#),
        (412, "no credit"),
        (404, "Account configuration not found. To create…"),
        (404, r#"{"error":"no such operation"}"#),
        (400, r#"{ "error" : "\u0062ad" }"#),
        (401, ""),
        (402, "subscription"),
        (403, "<html>"),
        (422, "{"),
        (500, r#"{"message":"Service busy (CM_EXT.POther)"}"#),
        (500, r#"{"error":"violates the Community Guidelines"}"#),
        (302, "moved"),
        (304, ""),
        (499, "client closed"),
    ] {
        let running = Running::with(&[("a@x", 1)]).await;
        answered(&running, status, body).await;
        assert_eq!(slots(&running, "a@x").await, Slots::NONE, "{status} {body}");
        assert_eq!(leases(&running).await.len(), 0, "{status} {body}");
        assert_eq!(ended(&running, "refused").await, 1.0, "{status} {body}");
    }
}

#[tokio::test]
async fn a_doubtful_answer_holds_the_slot_as_uncertain() {
    for (status, body) in [
        (200, ""),
        (200, "{}"),
        (200, r#"{"task":{"id":"u_7"}}"#),
        (200, r#"{"task":{"id":1.5}}"#),
        (200, r#"{"task":{"id":7}"#),
        (201, r#"{"task":{"id":7}}"#),
        (202, r#"{"task":{"id":7}}"#),
        (204, ""),
        (299, "fine"),
        (408, "timeout"),
        (500, r#"{"error":"oops"}"#),
        (502, "<html>bad gateway</html>"),
        (503, ""),
        (504, ""),
        (520, ""),
        (524, "cloud"),
        (599, ""),
        (999, ""),
    ] {
        let running = Running::with(&[("a@x", 1)]).await;
        answered(&running, status, body).await;
        assert_eq!(
            slots(&running, "a@x").await,
            Slots::uncertain(1),
            "{status} {body}"
        );
        let held = leases(&running).await;
        assert_eq!(held.len(), 1);
        assert_eq!(
            (&held[0]["state"], &held[0]["kind"], &held[0]["taskId"]),
            (&"uncertain".into(), &"forward".into(), &().into()),
            "{status} {body}"
        );
        // The uncertain slot may be taken, so the account gets no further job.
        start_job(&running).await.assert_refused(429, "unverified");
        assert_eq!(running.sim.audit().submission_count, 1);
    }
}

#[tokio::test]
async fn another_account_is_never_tried_after_a_doubtful_answer() {
    let running = Running::with(&[("a@x", 1), ("b@x", 1)]).await;
    running
        .sim
        .fault(Fault::status(502).on_job_starts().times(1));
    assert_eq!(start_job(&running).await.status, 502);
    assert_eq!(running.sim.audit().submission_count, 1);
    task_id(&start_job(&running).await);
    start_job(&running).await.assert_refused(429, "unverified");
    assert_eq!(running.sim.audit().over_limit(), 0);
}

#[tokio::test]
async fn the_simulators_own_refusals_return_the_slot() {
    let running = Running::with(&[("a@x", 1)]).await;
    let forbidden = running.post(JOB, r#"{"prompt":"forbidden"}"#).await;
    assert_eq!(forbidden.status, 500);
    assert_eq!(running.post(JOB, "{}").await.status, 400, "no prompt");
    running.sim.set_account_credit("a@x", false);
    assert_eq!(start_job(&running).await.status, 412);
    running.sim.set_account_credit("a@x", true);
    assert_eq!(slots(&running, "a@x").await, Slots::NONE);
    assert_eq!(ended(&running, "refused").await, 3.0);
}

#[tokio::test]
async fn an_answer_before_the_body_was_read_counts_like_any_other() {
    // The body exceeds all socket buffers, so the answer comes before most of it is sent.
    let long = format!(r#"{{"prompt":"{}"}}"#, "x".repeat(8 * 1024 * 1024));
    for body in [PROMPT.to_owned(), long] {
        let running = Running::with(&[("a@x", 1)]).await;
        let early = Effect::EarlyAnswer(marked(413, "too much"));
        running
            .sim
            .fault(Fault::new(early).on_job_starts().times(1));
        let length = body.len();
        let answer = exchange(running.addr, Method::POST, JOB, &[JSON], body).await;
        assert_eq!(answer.status, 413, "{length} bytes: {answer:?}");
        assert_eq!(answer.body, "too much");
        assert_eq!(slots(&running, "a@x").await, Slots::NONE, "{length} bytes");
    }
}

#[tokio::test]
async fn a_job_is_bound_though_the_client_takes_gzip() {
    let running = Running::with(&[("a@x", 1)]).await;
    let headers = [JSON, ("accept-encoding", "gzip, br")];
    let answer = exchange(running.addr, Method::POST, JOB, &headers, PROMPT).await;
    assert!(!answer.headers.contains_key("content-encoding"));
    let id = task_id(&answer.text());
    let held = leases(&running).await;
    assert_eq!(held[0]["state"], "bound");
    assert_eq!(held[0]["taskId"], id.to_string());
    let submission = &running.sim.audit().submissions[0];
    let asked: Vec<_> = submission
        .head
        .headers
        .get_all("accept-encoding")
        .iter()
        .collect();
    assert_eq!(asked, ["identity"]);
}

#[tokio::test]
async fn an_answer_that_is_encoded_all_the_same_is_bound_and_passes_untouched() {
    let running = Running::with(&[("a@x", 1)]).await;
    let body = stored_gzip(br#"{"task":{"id":987654321987654321,"status":5}}"#);
    let encoded = Answer::new(200)
        .header("content-encoding", "gzip")
        .header("vary", "accept-encoding")
        .body(body.clone());
    let fault = Fault::new(Effect::Answer(encoded));
    running.sim.fault(fault.on_job_starts().times(1));
    let answer = exchange(running.addr, Method::POST, JOB, &[JSON], PROMPT).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body, body);
    assert_eq!(answer.header("content-encoding"), "gzip");
    assert_eq!(answer.header("vary"), "accept-encoding");
    let held = leases(&running).await;
    assert_eq!(held.len(), 1);
    assert_eq!(held[0]["state"], "bound");
    assert_eq!(held[0]["taskId"], "987654321987654321");
}

#[tokio::test]
async fn an_encoding_that_cannot_be_read_is_doubtful() {
    for encoding in ["br", "gzip", "gzip, gzip"] {
        let running = Running::with(&[("a@x", 1)]).await;
        let body = r#"{"task":{"id":7}}"#;
        let encoded = Answer::new(200)
            .header("content-encoding", encoding)
            .body(body);
        let fault = Fault::new(Effect::Answer(encoded));
        running.sim.fault(fault.on_job_starts().times(1));
        let answer = exchange(running.addr, Method::POST, JOB, &[JSON], PROMPT).await;
        assert_eq!(
            (answer.status.as_u16(), &*answer.body),
            (200, body.as_bytes())
        );
        assert_eq!(
            slots(&running, "a@x").await,
            Slots::uncertain(1),
            "{encoding}"
        );
    }
}

#[tokio::test]
async fn an_answer_that_drips_is_bound_and_comes_whole() {
    let running = Running::with(&[("a@x", 1)]).await;
    let drip = Effect::Drip(std::time::Duration::from_micros(100));
    running.sim.fault(Fault::new(drip).on_job_starts().times(1));
    let id = task_id(&start_job(&running).await);
    assert_eq!([id], *accepted(&running.sim));
    assert_eq!(leases(&running).await[0]["taskId"], id.to_string());
}
