//! What becomes of a `replyRef`: in the scheduler's answers, in refusals, and in the audit.

use kling_sim::{JobDuration, Outcome, ReplyRefs, Sim};
use serde_json::{Value, json};

use crate::{
    client::{Answer, get, open_with, post, post_form, read, submit},
    control::control,
};

const JOB: &str = "/videos/text2video";
const OTHER_JOB: &str = "/images/omni";
const URL: &str = "http://h.example/cb";

async fn sim() -> Sim {
    let sim = Sim::builder().account("a@x", 50).account("b@x", 50);
    sim.job_duration(JobDuration::Manual).start().await.unwrap()
}

/// A job start with a `replyRef` that is alone.
fn alone() -> Value {
    json!({"email": "a@x", "prompt": "p", "replyRef": "r1"})
}

fn with_url() -> Value {
    json!({"email": "a@x", "prompt": "p", "replyRef": "r1", "replyUrl": URL})
}

/// `replyRef` and `replyUrl` of the running jobs, which both lists show alike.
async fn listed(sim: &Sim) -> Vec<(Value, Value)> {
    let running = get(sim, "/scheduler").await.json();
    let available = get(sim, "/scheduler/available").await.json();
    assert_eq!(running, available["executing"]);
    let rows = running.as_array().unwrap().iter();
    let rows = rows.map(|row| (row["replyRef"].clone(), row["replyUrl"].clone()));
    rows.collect()
}

/// The `replyRef`s that arrived, oldest first.
fn arrived(sim: &Sim) -> Vec<Option<String>> {
    let submissions = sim.audit().submissions.into_iter();
    submissions.map(|one| one.reply_ref).collect()
}

fn error(answer: &Answer) -> String {
    answer.json()["error"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn both_lists_and_the_audit_show_it_whatever_the_body_is_written_in() {
    let sim = sim().await;
    let form = "email=a%40x&prompt=p&replyRef=r1&replyUrl=http%3A%2F%2Fh.example%2Fcb";
    let media = "Content-Type: application/x-www-form-urlencoded\r\n";
    let parts = [
        ("email", "a@x"),
        ("prompt", "p"),
        ("replyRef", "r1"),
        ("replyUrl", URL),
    ];
    for answer in [
        submit(&sim, &with_url()).await,
        post_form(&sim, JOB, &parts).await,
        read(open_with(&sim, "POST", JOB, media, form.as_bytes()).await).await,
    ] {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    submit(&sim, &alone()).await;
    submit(&sim, &json!({"email": "a@x", "prompt": "p"})).await;
    let both = (json!("r1"), json!(URL));
    let expected = [
        both.clone(),
        both.clone(),
        both,
        (json!("r1"), Value::Null),
        (Value::Null, Value::Null),
    ];
    assert_eq!(listed(&sim).await, expected);
    let r1 = || Some("r1".to_owned());
    assert_eq!(arrived(&sim), [r1(), r1(), r1(), r1(), None]);
}

#[tokio::test]
async fn a_dropped_one_is_in_the_audit_only() {
    let sim = sim().await;
    sim.set_reply_refs(ReplyRefs::Dropped);
    submit(&sim, &with_url()).await;
    sim.set_reply_refs(ReplyRefs::KeptWithUrl);
    submit(&sim, &with_url()).await;
    submit(&sim, &alone()).await;
    let expected = [
        (Value::Null, json!(URL)),
        (json!("r1"), json!(URL)),
        (Value::Null, Value::Null),
    ];
    assert_eq!(listed(&sim).await, expected);
    assert_eq!(arrived(&sim), vec![Some("r1".to_owned()); 3]);
}

#[tokio::test]
async fn one_that_is_alone_is_refused_by_name() {
    let sim = sim().await;
    for (reply_refs, status) in [(ReplyRefs::Alone400, 400), (ReplyRefs::Alone422, 422)] {
        sim.set_reply_refs(reply_refs);
        let refused = submit(&sim, &alone()).await;
        assert_eq!(refused.status, status);
        assert!(error(&refused).contains("replyRef"), "{refused:?}");
        let last = sim.audit().submissions.pop().unwrap();
        assert_eq!(last.outcome, Outcome::Refused(status));
        assert_eq!(last.reply_ref.as_deref(), Some("r1"));
        for body in [with_url(), json!({"email": "a@x", "prompt": "p"})] {
            assert_eq!(submit(&sim, &body).await.status, 200, "{body}");
        }
    }
    assert_eq!(sim.executing("a@x"), 4);
}

#[tokio::test]
async fn one_that_is_alone_breaks_the_answer_with_or_without_a_job() {
    let sim = sim().await;
    for (reply_refs, jobs) in [(ReplyRefs::Alone500, 0), (ReplyRefs::Alone500Started, 1)] {
        sim.set_reply_refs(reply_refs);
        let broken = submit(&sim, &alone()).await;
        assert_eq!(
            (broken.status, broken.json()["code"].as_u64()),
            (500, Some(500))
        );
        assert_eq!(sim.executing("a@x"), jobs, "{reply_refs:?}");
        let outcome = sim.audit().submissions.pop().unwrap().outcome;
        assert_eq!(matches!(outcome, Outcome::Accepted(_)), jobs > 0);
        assert_eq!(submit(&sim, &with_url()).await.status, 200);
        sim.finish_all();
    }
    assert_eq!(listed(&sim).await, []);
}

#[tokio::test]
async fn a_refusal_for_another_reason_quotes_it() {
    let sim = sim().await;
    sim.set_reply_refs(ReplyRefs::Quoted);
    for body in [with_url(), alone()] {
        let refused = submit(&sim, &body).await;
        assert_eq!(refused.status, 400);
        assert!(
            error(&refused).contains(r#""replyRef":"r1""#),
            "{refused:?}"
        );
    }
    let without = submit(&sim, &json!({"email": "a@x", "prompt": "p"})).await;
    assert_eq!(without.status, 400, "it was not the replyRef");
    assert!(!error(&without).contains("r1"), "{without:?}");
    assert_eq!(sim.executing("a@x"), 0);
}

#[tokio::test]
async fn one_operation_may_differ_from_the_others() {
    let sim = sim().await;
    assert!(sim.set_reply_refs_on(JOB, ReplyRefs::Dropped));
    for path in ["/tts/create", "/tasks", "/nowhere", ""] {
        assert!(!sim.set_reply_refs_on(path, ReplyRefs::Dropped), "{path}");
    }
    for path in [JOB, OTHER_JOB] {
        assert_eq!(post(&sim, path, &alone()).await.status, 200);
    }
    let dropped_and_kept = [(Value::Null, Value::Null), (json!("r1"), Value::Null)];
    assert_eq!(listed(&sim).await, dropped_and_kept);
}

#[tokio::test]
async fn every_treatment_can_be_asked_for() {
    let sim = sim().await;
    for (reply_refs, status, is_shown) in [
        ("kept", 200, true),
        ("dropped", 200, false),
        ("keptWithUrl", 200, false),
        ("alone400", 400, false),
        ("alone422", 422, false),
        ("alone500", 500, false),
        ("alone500Started", 500, true),
        ("quoted", 400, false),
    ] {
        let asked = json!({"replyRefs": reply_refs, "on": format!("POST {JOB}")});
        let done = control(&sim, "reply-refs", &asked.to_string()).await;
        assert_eq!((done.status, done.text()), (204, ""), "{asked}");
        assert_eq!(submit(&sim, &alone()).await.status, status, "{reply_refs}");
        let shown = listed(&sim).await;
        let is_listed = shown.contains(&(json!("r1"), Value::Null));
        assert_eq!(is_listed, is_shown, "{reply_refs}");
        assert_eq!(post(&sim, OTHER_JOB, &alone()).await.status, 200);
        sim.finish_all();
    }
    let all = control(&sim, "reply-refs", r#"{"replyRefs":"alone400"}"#).await;
    assert_eq!(all.status, 204);
    assert_eq!(post(&sim, OTHER_JOB, &alone()).await.status, 400);
    for (asked, expected) in [
        ("{}", "missing field `replyRefs`"),
        (r#"{"replyRefs":"lost"}"#, "unknown variant `lost`"),
        (r#"{"replyRefs":"kept","path":"/"}"#, "unknown field `path`"),
        (
            r#"{"replyRefs":"kept","on":"GET /tasks"}"#,
            "on must be a job start",
        ),
        (
            r#"{"replyRefs":"kept","on":"jobStarts"}"#,
            "on must be a job start",
        ),
    ] {
        let refused = control(&sim, "reply-refs", asked).await;
        assert_eq!(refused.status, 400, "{asked}");
        assert!(error(&refused).contains(expected), "{asked}: {refused:?}");
    }
}
