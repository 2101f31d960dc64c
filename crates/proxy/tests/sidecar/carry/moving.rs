//! Job starts that an account refuses move to another account if that is safe. The sidecar leaves
//! accounts alone that refused.

use harness::{Running, Slots, eventually, manual, send};
use kling_sim::{Answer, Effect, Fault, ListFault, Outcome, Sim};
use serde_json::Value;

use super::client::{JOB, PROMPT, drawn_seed, ready, slots, start_job, task_id};

/// Fetches of the list that were answered.
const FETCHED: &str = r#"kling_balancer_fetches_total{result="ok"}"#;
const ACCOUNTS: [(&str, u32); 4] = [("a@x", 9), ("b@x", 9), ("c@x", 9), ("d@x", 9)];

/// Every job start on these accounts is answered with `status`.
fn refuse(running: &Running, emails: &[&str], status: u16) {
    for email in emails {
        let fault = Fault::status(status).on_job_starts().account(*email);
        running.sim.fault(fault);
    }
}

/// The accounts that job starts were sent to, in order.
fn asked(sim: &Sim) -> Vec<String> {
    let submissions = sim.audit().submissions.into_iter();
    submissions
        .filter_map(|submission| submission.email)
        .collect()
}

async fn state(running: &Running, email: &str) -> Value {
    running.account(email).await["state"].clone()
}

#[tokio::test]
async fn a_refused_job_start_moves_and_its_account_is_left_alone() {
    for (status, wanted) in [(429, "cooling"), (596, "quarantined"), (412, "parked")] {
        let running = Running::with(&[("a@x", 9), ("b@x", 9)]).await;
        refuse(&running, &["a@x"], status);
        let mut attempts = 0;
        // After a@x was drawn and refused, it is not drawn again. The chance that it is never drawn
        // is 1 in 512.
        for _ in 0..9 {
            let answer = start_job(&running).await;
            task_id(&answer);
            assert_eq!(answer.header("x-kling-account"), "b@x");
            attempts += answer.header("x-kling-attempts").parse::<u64>().unwrap();
        }
        let sent = asked(&running.sim);
        assert_eq!(sent.len() as u64, attempts);
        assert!(
            sent.iter().filter(|email| *email == "a@x").count() <= 1,
            "{sent:?}"
        );
        if sent.contains(&"a@x".to_owned()) {
            let account = running.account("a@x").await;
            assert_eq!(account["state"], wanted, "{account}");
            assert!(
                account["until"].is_string() && account["reason"].is_string(),
                "{account}"
            );
            assert_eq!(account["available"], 0);
            assert_eq!(slots(&running, "a@x").await, Slots::NONE);
            running.post("/accounts/a@x/resume", "").await;
            assert_eq!(state(&running, "a@x").await, "available");
        }
        assert_eq!(running.sim.audit().duplicates, 0);
    }
}

#[tokio::test]
async fn three_accounts_are_tried_and_then_the_last_answer_passes_untouched() {
    let running = Running::with(&ACCOUNTS).await;
    let busy = Answer::new(429).header("x-mark", "m").body("exactly this");
    running
        .sim
        .fault(Fault::new(Effect::Answer(busy)).on_job_starts());
    let answer = start_job(&running).await;
    assert_eq!(
        (answer.status.as_u16(), &*answer.text),
        (429, "exactly this")
    );
    assert_eq!(answer.header("x-mark"), "m");
    assert_eq!(answer.header("x-kling-attempts"), "3");
    let mut sent = asked(&running.sim);
    assert_eq!(answer.header("x-kling-account"), sent[2]);
    sent.sort_unstable();
    sent.dedup();
    assert_eq!(sent.len(), 3, "three different ones: {sent:?}");
    // The fourth account is still free. It gets the next job and refuses it.
    let answer = start_job(&running).await;
    assert_eq!(answer.header("x-kling-attempts"), "1");
    start_job(&running)
        .await
        .assert_refused(429, "cooling-down");
    assert_eq!(running.sim.audit().submission_count, 4);
}

#[tokio::test]
async fn a_named_account_is_never_left() {
    let running = Running::with(&ACCOUNTS).await;
    refuse(&running, &["a@x"], 429);
    let body = r#"{"email":"a@x","prompt":"a boat"}"#;
    let answer = running.post(JOB, body).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("x-kling-attempts")),
        (429, "1")
    );
    assert_eq!(asked(&running.sim), ["a@x"]);
    running
        .post(JOB, body)
        .await
        .assert_refused(429, "cooling-down");
}

#[tokio::test]
async fn what_may_have_been_accepted_never_moves() {
    let effects = [
        Effect::Answer(Answer::new(502)),
        Effect::Answer(Answer::new(500)),
        Effect::Answer(Answer::new(408)),
        Effect::Answer(Answer::new(201)),
        Effect::ResetBefore,
        Effect::ResetAfter,
        Effect::TruncateAfter,
        // No other account would take the job either.
        Effect::Answer(Answer::new(400)),
        Effect::Answer(Answer::new(422)),
        Effect::Answer(Answer::new(404)),
        Effect::Answer(Answer::new(401)),
    ];
    for effect in effects {
        let running = Running::with(&ACCOUNTS).await;
        running
            .sim
            .fault(Fault::new(effect.clone()).on_job_starts());
        start_job(&running).await;
        assert_eq!(running.sim.audit().submission_count, 1, "{effect:?}");
    }
}

#[tokio::test]
async fn statuses_that_are_not_set_do_not_move() {
    let settings = [("FORWARD__RETRY_STATUSES", "[412]")];
    let running = Running::configured(&ACCOUNTS, &settings).await;
    running.sim.fault(Fault::status(429).on_job_starts());
    let answer = start_job(&running).await;
    assert_eq!(answer.header("x-kling-attempts"), "1");
}

#[tokio::test]
async fn an_account_without_configuration_upstream_is_quarantined_and_left() {
    let running = Running::with(&[("a@x", 9), ("b@x", 9)]).await;
    let gone = Answer::new(404).body("Account configuration not found. To create…");
    running
        .sim
        .fault(Fault::new(Effect::Answer(gone)).on_job_starts().times(1));
    let answer = start_job(&running).await;
    task_id(&answer);
    assert_eq!(answer.header("x-kling-attempts"), "2");
    let states = [state(&running, "a@x").await, state(&running, "b@x").await];
    assert!(states.contains(&"quarantined".into()), "{states:?}");
}

#[tokio::test]
async fn a_changed_entry_ends_a_quarantine() {
    let running = Running::with(&[("a@x", 1)]).await;
    refuse(&running, &["a@x"], 596);
    assert_eq!(start_job(&running).await.status.as_u16(), 596);
    start_job(&running)
        .await
        .assert_refused(503, "no-usable-account");
    running.sim.clear_faults();
    running.sim.set_account("a@x", 2);
    eventually(async || (state(&running, "a@x").await == "available").then_some(())).await;
    task_id(&start_job(&running).await);
}

#[tokio::test]
async fn a_rejected_token_stops_picking_until_a_fetch_is_answered() {
    let settings = [("ACCOUNTS__BACKOFF_MAX", "100ms")];
    let running = Running::configured(&[("a@x", 9)], &settings).await;
    running.sim.list_fault(ListFault::status(401));
    running.sim.fault(Fault::status(401).on_job_starts());
    assert_eq!(start_job(&running).await.status.as_u16(), 401);
    start_job(&running)
        .await
        .assert_refused(503, "token-rejected");
    running
        .get("/pick")
        .await
        .assert_refused(503, "token-rejected");
    running
        .get("/pick?wait=10s")
        .await
        .assert_refused(503, "token-rejected");
    running
        .get("/readyz")
        .await
        .assert_refused(503, "token-rejected");
    assert_eq!(running.sim.audit().submission_count, 1);
    running.sim.clear_faults();
    running.sim.clear_list_fault();
    running
        .until(|readiness| readiness.status.as_u16() == 200)
        .await;
    task_id(&start_job(&running).await);
}

#[tokio::test]
async fn a_rejected_job_start_does_not_fetch_the_list_that_would_let_the_next_one_go() {
    let settings = [("ACCOUNTS__REFRESH_INTERVAL", "1h")];
    let running = Running::configured(&[("a@x", 9)], &settings).await;
    running.sim.fault(Fault::status(401).on_job_starts());
    assert_eq!(start_job(&running).await.status.as_u16(), 401);
    for _ in 0..10 {
        let refused = start_job(&running).await;
        refused.assert_refused(503, "token-rejected");
    }
    assert_eq!(running.sim.audit().submission_count, 1);
}

#[tokio::test]
async fn a_missing_subscription_stops_picking_whatever_fetches_say_and_is_called_by_its_name() {
    let running = Running::with(&[("a@x", 9)]).await;
    running.sim.fault(Fault::status(402).on_job_starts());
    assert_eq!(start_job(&running).await.status.as_u16(), 402);
    running.sim.clear_faults();
    let fetched = running.metric(FETCHED).await;
    running
        .until_metric(FETCHED, |count| count > fetched + 3.0)
        .await;
    for refused in [start_job(&running).await, running.get("/pick").await] {
        refused.assert_refused(503, "token-rejected");
        assert!(refused.text.contains("subscription"), "{refused:?}");
    }
    let verbose = running.get("/readyz?verbose").await.text;
    let line = verbose.lines().find(|line| line.starts_with("[-] picks: "));
    assert!(line.unwrap().contains("subscription"), "{verbose}");
    assert_eq!(running.sim.audit().submission_count, 1);
}

#[tokio::test]
async fn a_token_that_is_rejected_on_an_unlisted_account_is_rejected_all_the_same() {
    let running = Running::with(&[("a@x", 9)]).await;
    running.sim.list_fault(ListFault::status(401));
    running.sim.fault(Fault::status(401).on_job_starts());
    let path = format!("{JOB}?email=unlisted@x");
    assert_eq!(running.post(&path, PROMPT).await.status.as_u16(), 401);
    let refused = start_job(&running).await;
    refused.assert_refused(503, "token-rejected");
}

#[tokio::test]
async fn a_fetch_that_rejects_the_token_stops_nothing_by_itself() {
    let settings = [("ACCOUNTS__BACKOFF_MAX", "100ms")];
    let running = Running::configured(&[("a@x", 9)], &settings).await;
    running.sim.list_fault(ListFault::status(401));
    let series = r#"kling_balancer_fetches_total{result="unauthorized"}"#;
    running.until_metric(series, |count| count >= 1.0).await;
    task_id(&start_job(&running).await);
}

#[tokio::test]
async fn a_calls_own_cap_holds_and_blames_no_account() {
    let running = Running::with(&[("a@x", 3), ("b@x", 3)]).await;
    let capped = r#"{"prompt":"a boat","maxJobs":1}"#;
    for _ in 0..2 {
        task_id(&running.post(JOB, capped).await);
    }
    running
        .post(JOB, capped)
        .await
        .assert_refused(429, "saturated");
    for email in ["a@x", "b@x"] {
        assert_eq!(slots(&running, email).await, Slots::held(1));
        assert_eq!(state(&running, email).await, "available");
    }
    task_id(&running.post(JOB, PROMPT).await);
    let audit = running.sim.audit();
    assert_eq!((audit.over_limit(), audit.submission_count), (0, 3));
}

/// With a second tool, refusals of every kind and a random cap, no job is sent twice or lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moving_never_starts_a_job_twice() {
    let seed = drawn_seed();
    let sim = manual(&ACCOUNTS).seed(seed).start().await.unwrap();
    let plan = kling_sim::ChaosPlan::new(seed)
        .with(
            0.1,
            Effect::Answer(Answer::new(429).header("retry-after", "0")),
        )
        .with(0.05, Effect::Answer(Answer::new(596)))
        .with(0.05, Effect::Answer(Answer::new(412)));
    sim.chaos(plan);
    let settings = [("RECONCILE__INTERVAL", "100ms")];
    let running = ready(sim, &settings).await;
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..8 {
        let addr = running.addr;
        clients.spawn(async move {
            let mut started = Vec::new();
            for job in 0..25 {
                let body = format!(r#"{{"prompt":"p","replyRef":"{client}-{job}"}}"#);
                let headers = [("content-type", "application/json")];
                let answer = send(addr, http::Method::POST, JOB, &headers, &body);
                let answer = answer.await;
                if answer.status.as_u16() == 200 {
                    started.push(task_id(&answer));
                }
            }
            started
        });
    }
    while !clients.is_empty() {
        running.sim.finish_all();
        for (email, _) in ACCOUNTS {
            running.post(&format!("/accounts/{email}/resume"), "").await;
        }
        if let Some(ended) = clients.try_join_next() {
            assert!(!ended.unwrap().is_empty());
        }
    }
    let audit = running.sim.audit();
    assert_eq!(
        (audit.over_limit_ours(), audit.duplicates),
        (0, 0),
        "{audit}"
    );
    let refused = audit.submissions.iter();
    let refused = refused
        .filter(|it| matches!(it.outcome, Outcome::Refused(_)))
        .count();
    assert!(refused > 0, "chaos came to nothing");
    running.sim.clear_faults();
    running.sim.finish_all();
    for (email, _) in ACCOUNTS {
        eventually(async || (slots(&running, email).await == Slots::NONE).then_some(())).await;
        assert_eq!(running.sim.executing(email), 0);
    }
}
