//! Marks: the `replyRef` that is put into job starts, and what the upstream makes of it.

use std::collections::BTreeMap;

use harness::{Answer, Running, Slots, eventually, manual, send};
use http::{Method, StatusCode};
use kling_sim::{Effect, Fault, Outcome, ReplyRefs, Submission};
use serde_json::{Value, json};

use super::client::{
    JOB, JSON, PROMPT, accepted, exchange, leases, ready, slots, start_job, task_id, until_slots,
};

const VIDEO: &str = "/videos/text2video";
const ROUNDS: [(&str, &str); 2] = [
    ("RECONCILE__INTERVAL", "100ms"),
    ("RECONCILE__SETTLE", "100ms"),
];
/// No round after the first one.
const NO_ROUNDS: [(&str, &str); 1] = [("RECONCILE__INTERVAL", "1h")];

fn newest(running: &Running) -> Submission {
    running.sim.audit().submissions.pop().unwrap()
}

/// The marks of all submissions, oldest first.
fn marks(running: &Running) -> Vec<Option<String>> {
    let submissions = running.sim.audit().submissions.into_iter();
    submissions.map(|submission| submission.reply_ref).collect()
}

/// Waits until two more rounds were answered: one was sent after now.
async fn two_rounds(running: &Running) {
    let series = "kling_balancer_rounds_total{result=\"ok\"}";
    let before = running.metric(series).await;
    running
        .until_metric(series, |count| count >= before + 2.0)
        .await;
}

/// Waits until the marks of video jobs are proven.
async fn prove(running: &Running) {
    let id = task_id(&start_job(running).await);
    two_rounds(running).await;
    assert!(running.sim.finish(id));
    until_slots(running, "a@x", Slots::NONE).await;
}

async fn keyed(running: &Running, key: &str, prompt: &str) -> Answer {
    let headers = [JSON, ("idempotency-key", key)];
    let body = json!({ "prompt": prompt }).to_string();
    send(running.addr, Method::POST, JOB, &headers, &body).await
}

#[tokio::test]
async fn a_job_start_differs_by_the_email_and_its_mark_alone() {
    let running = Running::configured(&[("a@x", 9)], &NO_ROUNDS).await;
    let json = r#"{ "prompt":"a\u0020boat", "n":1.50e0, "big":12345678901234567890 }"#;
    exchange(running.addr, Method::POST, JOB, &[JSON], json).await;
    let sent = newest(&running);
    let mark = sent.reply_ref.unwrap();
    assert_eq!((mark.len(), &mark[..4]), (36, "klb-"));
    let put_in = format!(r#"{{"email":"a@x","replyRef":"{mark}","#);
    assert_eq!(sent.body, json.replacen('{', &put_in, 1));
    let lease = leases(&running).await.remove(0);
    assert_eq!(lease["mark"], *mark, "the lease shows it");
    let id = lease["leaseId"].as_str().unwrap();
    assert!(!mark.contains(id), "who knows the id may release the slot");

    let form = "--b\r\nContent-Disposition: form-data; name=\"imageUrl\"\r\n\r\nhttps://h.example/i\r\n--b--\r\n";
    let media = ("content-type", "multipart/form-data; boundary=b");
    let path = "/v1/kling/videos/image2video-frames";
    exchange(running.addr, Method::POST, path, &[media], form).await;
    let sent = newest(&running);
    let mark = sent.reply_ref.unwrap();
    let part = |name, value: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let expected = [&*part("email", "a@x"), &*part("replyRef", &mark), form].concat();
    assert_eq!(sent.body, expected);
}

#[tokio::test]
async fn a_mark_is_put_in_beside_an_email_of_the_clients_too() {
    let running = Running::configured(&[("a@x", 9)], &NO_ROUNDS).await;
    running.post(JOB, r#"{"email":"a@x","prompt":"p"}"#).await;
    let sent = newest(&running);
    let mark = sent.reply_ref.unwrap();
    let expected = format!(r#"{{"email":"a@x","replyRef":"{mark}","prompt":"p"}}"#);
    assert_eq!(sent.body, expected);
}

#[tokio::test]
async fn nothing_is_put_in_where_the_client_has_a_reply_of_its_own() {
    let form = "--b\r\nContent-Disposition: form-data; name=\"replyUrl\"\r\n\r\n\r\n--b--\r\n";
    for (path, media, body) in [
        (
            JOB,
            "application/json",
            r#"{"prompt":"p","replyRef":"mine"}"#,
        ),
        (JOB, "application/json", r#"{"prompt":"p","replyRef":null}"#),
        (
            JOB,
            "application/json",
            "{\"prompt\":\"p\",\"replyRef\":\"\"}",
        ),
        (
            JOB,
            "application/json",
            r#"{"prompt":"p","reply\u0055rl":null}"#,
        ),
        (JOB, "multipart/form-data; boundary=b", form),
        (JOB, "application/x-www-form-urlencoded", "prompt=p"),
        (
            "/v1/kling/videos/text2video?replyUrl=x",
            "application/json",
            PROMPT,
        ),
        // The vendor documents no replyRef here.
        ("/v1/kling/videos/omni", "application/json", PROMPT),
        ("/v1/kling/videos/new-thing", "application/json", PROMPT),
    ] {
        let settings = [NO_ROUNDS[0], ("FORWARD__EXTRA_JOBS", "/videos/new-thing")];
        let running = Running::configured(&[("a@x", 9)], &settings).await;
        let media = [("content-type", media)];
        exchange(running.addr, Method::POST, path, &media, body).await;
        let submissions = running.sim.audit().submissions.into_iter();
        let requests = running.sim.requests().into_iter();
        let posts = requests.filter(|request| request.head.method == Method::POST);
        let bodies = submissions.map(|it| it.body).chain(posts.map(|it| it.body));
        let bodies: Vec<_> = bodies.collect();
        assert!(!bodies.is_empty(), "{path} {body}");
        for sent in bodies {
            let sent = String::from_utf8_lossy(&sent);
            assert!(!sent.contains("klb-"), "{sent}");
        }
    }
}

#[tokio::test]
async fn nothing_is_marked_if_marks_are_off() {
    let settings = [("FORWARD__MARK", "off"), ROUNDS[0]];
    let running = Running::configured(&[("a@x", 9)], &settings).await;
    start_job(&running).await;
    assert_eq!(marks(&running), [None]);
    assert_eq!(leases(&running).await[0]["mark"], Value::Null);
    two_rounds(&running).await;
    assert_eq!(running.pick("").await["mark"], Value::Null);
}

#[tokio::test]
async fn one_job_at_a_time_is_marked_until_a_round_lists_one_with_its_mark() {
    let running = Running::configured(&[("a@x", 9)], &NO_ROUNDS).await;
    start_job(&running).await;
    start_job(&running).await;
    let first = marks(&running);
    assert!(first[0].is_some() && first[1].is_none(), "{first:?}");
    assert_eq!(running.pick("").await["mark"], Value::Null);

    let running = Running::configured(&[("a@x", 9)], &ROUNDS).await;
    start_job(&running).await;
    two_rounds(&running).await;
    start_job(&running).await;
    start_job(&running).await;
    let marks = marks(&running);
    assert!(marks.iter().all(Option::is_some), "{marks:?}");
    assert!(marks[1] != marks[2]);
    let pick = running.pick("").await;
    assert!(pick["mark"].as_str().unwrap().starts_with("klb-"));
}

/// Several jobs whose answers were lost on one account, beside a stranger's job, are found each by its own key.
#[tokio::test]
async fn lost_jobs_are_told_apart_by_their_marks() {
    let settings = [ROUNDS[0], ROUNDS[1], ("UPSTREAM__REQUEST_TIMEOUT", "1s")];
    let running = Running::configured(&[("a@x", 9)], &settings).await;
    prove(&running).await;
    let before = running.sim.audit().submission_count;
    running.sim.submit_directly("a@x", 1);
    let lost = Fault::new(Effect::StallAfter).on_job_starts().times(4);
    running.sim.fault(lost);
    let keys = ["one", "two", "three"];
    let prompts = keys.map(|key| format!("prompt of {key}"));
    // All are sent before one of them is lost.
    let answers = tokio::join!(
        keyed(&running, keys[0], &prompts[0]),
        keyed(&running, keys[1], &prompts[1]),
        keyed(&running, keys[2], &prompts[2]),
        start_job(&running),
    );
    for answer in [answers.0, answers.1, answers.2, answers.3] {
        answer.assert_refused(504, "outcome-unknown");
    }
    let submissions = running.sim.audit().submissions.into_iter();
    let jobs = submissions.filter_map(|submission| {
        let body: Value = serde_json::from_slice(&submission.body).ok()?;
        let Outcome::Accepted(id) = submission.outcome else {
            return None;
        };
        Some((body["prompt"].as_str()?.to_owned(), id.get()))
    });
    let jobs: BTreeMap<_, _> = jobs.collect();
    for (key, prompt) in keys.into_iter().zip(&prompts) {
        let answer = eventually(async || {
            let answer = keyed(&running, key, prompt).await;
            (answer.status == StatusCode::OK).then_some(answer)
        })
        .await;
        assert_eq!(answer.header("x-kling-replayed"), "reconciled");
        assert_eq!(task_id(&answer), jobs[prompt]);
    }
    let expected = Slots {
        held: 4,
        uncertain: 0,
        foreign: 1,
    };
    until_slots(&running, "a@x", expected).await;
    assert_eq!(running.sim.audit().submission_count, before + 4);
}

#[tokio::test]
async fn a_refusal_that_names_the_mark_is_sent_once_more_without_it() {
    for refuses in [ReplyRefs::Alone400, ReplyRefs::Alone422] {
        let accounts = [("a@x", 9), ("b@x", 9)];
        let running = Running::configured(&accounts, &NO_ROUNDS).await;
        running.sim.set_reply_refs(refuses);
        let answer = start_job(&running).await;
        task_id(&answer);
        assert_eq!(answer.header("x-kling-attempts"), "2");
        let sent = running.sim.audit().submissions;
        assert_eq!(sent.len(), 2);
        assert!(sent[0].reply_ref.is_some() && sent[1].reply_ref.is_none());
        assert_eq!(sent[0].email, sent[1].email, "on the same account");
        assert_eq!(accepted(&running.sim).len(), 1);
        let lease = leases(&running).await;
        assert_eq!((lease.len(), &lease[0]["mark"]), (1, &Value::Null));
        // The operation is marked no more, another one is tried.
        assert_eq!(start_job(&running).await.header("x-kling-attempts"), "1");
        running.post("/v1/kling/images/kolors", PROMPT).await;
        let marked: Vec<_> = marks(&running).iter().map(Option::is_some).collect();
        assert_eq!(marked, [true, false, false, true, false]);
    }
}

#[tokio::test]
async fn a_refusal_that_only_quotes_the_mark_says_nothing_about_marks() {
    let running = Running::configured(&[("a@x", 9)], &NO_ROUNDS).await;
    running.sim.set_reply_refs(ReplyRefs::Quoted);
    let answer = start_job(&running).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(!answer.text.contains("klb-"), "{answer:?}");
    let marked: Vec<_> = marks(&running).iter().map(Option::is_some).collect();
    assert_eq!(marked, [true, false]);
    assert_eq!(slots(&running, "a@x").await, Slots::NONE);
    running.sim.set_reply_refs(ReplyRefs::Kept);
    start_job(&running).await;
    assert!(newest(&running).reply_ref.is_some());
}

#[tokio::test]
async fn a_marked_job_start_that_fails_is_not_repeated_and_two_end_the_marks() {
    for fails in [ReplyRefs::Alone500, ReplyRefs::Alone500Started] {
        let running = Running::configured(&[("a@x", 9)], &ROUNDS).await;
        running.sim.set_reply_refs(fails);
        for count in 1..=2 {
            assert_eq!(start_job(&running).await.status, 500);
            assert_eq!(running.sim.audit().submission_count, count, "once each");
            assert!(newest(&running).reply_ref.is_some(), "{count}");
            // One marked submission at a time: it is found, or shown to be absent.
            eventually(async || {
                running.sim.finish_all();
                (slots(&running, "a@x").await == Slots::NONE).then_some(())
            })
            .await;
        }
        task_id(&start_job(&running).await);
        assert_eq!(newest(&running).reply_ref, None);
    }
}

#[tokio::test]
async fn three_jobs_without_their_marks_end_the_marks() {
    for drops in [ReplyRefs::Dropped, ReplyRefs::KeptWithUrl] {
        let running = Running::configured(&[("a@x", 9)], &ROUNDS).await;
        running.sim.set_reply_refs(drops);
        for nth in 1..=3 {
            start_job(&running).await;
            assert!(newest(&running).reply_ref.is_some(), "{nth}");
            two_rounds(&running).await;
        }
        start_job(&running).await;
        assert_eq!(newest(&running).reply_ref, None);
        assert_eq!(running.pick("").await["mark"], Value::Null);
    }
}

#[tokio::test]
async fn a_pick_is_bound_to_the_job_that_its_client_sent_with_its_mark() {
    let running = ready(manual(&[("a@x", 9)]).start().await.unwrap(), &ROUNDS).await;
    prove(&running).await;
    let (first, second) = (running.pick("").await, running.pick("").await);
    let authorization = format!("Bearer {}", running.sim.token());
    let mut ids = Vec::new();
    for pick in [&second, &first] {
        let headers = [JSON, ("authorization", &*authorization)];
        let body = json!({"email": "a@x", "prompt": "p", "replyRef": pick["mark"]});
        let path = format!("/v1/kling{VIDEO}");
        let addr = running.sim.addr();
        let answer = send(addr, Method::POST, &path, &headers, &body.to_string()).await;
        ids.push(task_id(&answer).to_string());
    }
    for (pick, id) in [second, first].iter().zip(&ids) {
        let path = format!("/leases/{}", pick["leaseId"].as_str().unwrap());
        let task = eventually(async || {
            let lease = running.get(&path).await.json();
            lease["taskId"].as_str().map(str::to_owned)
        });
        assert_eq!(task.await, *id);
    }
}
