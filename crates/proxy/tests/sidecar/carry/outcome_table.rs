//! Every row of the table of outcomes: what an answer to a job start means for its account, its
//! slot, further attempts, its idempotency key and its client.

use harness::{Answer, Running, send};
use http::Method;
use kling_sim::{Answer as Scripted, Effect, Fault, Outcome};
use serde_json::Value;

use super::client::{JOB, JSON, PROMPT, leases};

const ACCOUNTS: [(&str, u32); 2] = [("a@x", 2), ("b@x", 2)];

/// The state of the slot afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Bound,
    Released,
    Uncertain,
}

/// What the client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// The upstream's answer, as it came.
    Answer(u16),
    /// The outcome is unknown: the answer was lost or late.
    Unknown(u16),
}

#[derive(Clone, Debug)]
struct Row {
    effect: Option<Effect>,
    state: &'static str,
    slot: Slot,
    is_moved: bool,
    stops_picks: bool,
    told: Told,
}

fn row(effect: Effect, slot: Slot, told: Told) -> Row {
    Row {
        effect: Some(effect),
        state: "available",
        slot,
        is_moved: false,
        stops_picks: false,
        told,
    }
}

fn refused(status: u16, body: &'static str) -> Row {
    let answer = Effect::Answer(Scripted::new(status).body(body));
    row(answer, Slot::Released, Told::Answer(status))
}

fn doubtful(status: u16, body: &'static str) -> Row {
    let answer = Effect::Answer(Scripted::new(status).body(body));
    row(answer, Slot::Uncertain, Told::Answer(status))
}

fn table() -> Vec<Row> {
    let left_alone = |row: Row, state| Row {
        state,
        is_moved: true,
        ..row
    };
    let token = |row: Row| Row {
        stops_picks: true,
        ..row
    };
    let no_account = "Account configuration not found. To create configuration use POST /accounts.";
    let mut rows = vec![
        Row {
            effect: None,
            ..row(Effect::ResetAfter, Slot::Bound, Told::Answer(200))
        },
        left_alone(refused(429, "full"), "cooling"),
        left_alone(refused(596, "broken"), "quarantined"),
        left_alone(refused(404, no_account), "quarantined"),
        left_alone(refused(412, "no credit"), "parked"),
        token(refused(401, "who?")),
        token(refused(402, "pay")),
        refused(500, r#"{"error":"against the Community Guidelines"}"#),
        refused(500, r#"{"message":"Service busy (CM_EXT.POther)"}"#),
        doubtful(500, r#"{"error":"Service busy"}"#),
        doubtful(200, "{}"),
        doubtful(200, r#"{"task":{"id":1.5}}"#),
        row(Effect::ResetBefore, Slot::Uncertain, Told::Unknown(502)),
        row(Effect::ResetAfter, Slot::Uncertain, Told::Unknown(502)),
        row(Effect::StallBefore, Slot::Uncertain, Told::Unknown(504)),
        row(Effect::StallAfter, Slot::Uncertain, Told::Unknown(504)),
    ];
    rows.extend([400, 403, 404, 409, 413, 422].map(|status| refused(status, "no")));
    rows.extend([301, 302, 307].map(|status| refused(status, "")));
    rows.extend([201, 202, 204].map(|status| doubtful(status, "")));
    rows.extend(
        [408, 501, 502, 503, 504, 520, 522, 524, 599, 700].map(|status| doubtful(status, "?")),
    );
    rows
}

/// A sidecar whose rounds and fetches decide nothing during the test.
async fn running(row: &Row) -> Running {
    let settings = [
        ("RECONCILE__INTERVAL", "1h"),
        ("ACCOUNTS__REFRESH_INTERVAL", "1h"),
        ("UPSTREAM__REQUEST_TIMEOUT", "150ms"),
    ];
    let running = Running::configured(&ACCOUNTS, &settings).await;
    silence_rounds(&running);
    if let Some(effect) = &row.effect {
        running
            .sim
            .fault(Fault::new(effect.clone()).on_job_starts());
    }
    running
}

/// Fails rounds: a doubt asks for one at once, and it would find the outcome.
fn silence_rounds(running: &Running) {
    let silence = Fault::status(503).on("GET", "/scheduler/available");
    running.sim.fault(silence);
}

/// A job start that names its account.
fn naming(email: &str) -> String {
    format!(r#"{{"prompt":"a boat","email":"{email}"}}"#)
}

#[track_caller]
fn assert_told(row: &Row, answer: &Answer, attempts: usize) {
    match row.told {
        Told::Answer(status) => {
            assert_eq!(answer.status.as_u16(), status, "{row:?} {answer:?}");
            assert_eq!(
                answer.header("x-kling-attempts"),
                attempts.to_string(),
                "{row:?}"
            );
            assert!(!answer.headers.contains_key("x-kling-outcome"), "{row:?}");
            if let Some(Effect::Answer(scripted)) = &row.effect {
                let body = Effect::Answer(Scripted::new(status).body(answer.text.clone()));
                assert_eq!(Effect::Answer(scripted.clone()), body, "untouched: {row:?}");
            }
        }
        Told::Unknown(status) => {
            answer.assert_refused(status, "outcome-unknown");
            assert_eq!(answer.header("x-kling-outcome"), "unknown");
        }
    }
}

/// Checks the accounts after those of `tried` were tried.
async fn assert_accounts(row: &Row, running: &Running, tried: &[String]) {
    let listed = running.get("/accounts").await.json();
    for account in listed["accounts"].as_array().unwrap() {
        let was_tried = tried.iter().any(|email| account["email"] == **email);
        let state = if was_tried { row.state } else { "available" };
        assert_eq!(account["state"], state, "{row:?} {account}");
        assert_eq!(
            account["until"].is_string(),
            state != "available",
            "{row:?} {account}"
        );
        assert_eq!(
            account["reason"].is_string(),
            state != "available",
            "{row:?} {account}"
        );
        let slots = match row.slot {
            Slot::Bound if was_tried => (1, 0),
            Slot::Uncertain if was_tried => (0, 1),
            Slot::Bound | Slot::Uncertain | Slot::Released => (0, 0),
        };
        let count = |field: &str| account[field].as_u64().unwrap();
        assert_eq!(
            (count("held"), count("uncertain")),
            slots,
            "{row:?} {account}"
        );
    }
    let states: Vec<Value> = leases(running)
        .await
        .iter()
        .map(|it| it["state"].clone())
        .collect();
    let wanted: &[&str] = match row.slot {
        Slot::Bound => &["bound"],
        Slot::Uncertain => &["uncertain"],
        Slot::Released => &[],
    };
    assert_eq!(states, wanted, "{row:?}");
}

/// The accounts that job starts were sent to, in order.
fn tried(running: &Running) -> Vec<String> {
    let submissions = running.sim.audit().submissions;
    submissions
        .into_iter()
        .map(|it| it.email.unwrap())
        .collect()
}

#[tokio::test]
async fn a_job_start_without_an_email() {
    for row in table() {
        let running = running(&row).await;
        let answer = running.post(JOB, PROMPT).await;
        let tried = tried(&running);
        let attempts = if row.is_moved { 2 } else { 1 };
        assert_eq!(tried.len(), attempts, "{row:?}");
        assert!(
            tried
                .iter()
                .all(|email| tried.iter().filter(|it| *it == email).count() == 1)
        );
        assert_told(&row, &answer, attempts);
        if let Told::Answer(_) = row.told {
            assert_eq!(answer.header("x-kling-account"), *tried.last().unwrap());
        }
        assert_accounts(&row, &running, &tried).await;
        let pick = running.get("/pick?dryRun=true").await;
        let is_any_left = row.stops_picks || !row.is_moved;
        assert_eq!(
            pick.json()["eligible"]
                .as_array()
                .is_some_and(|it| !it.is_empty()),
            is_any_left
        );
        let next = running.get("/pick").await;
        if row.stops_picks {
            next.assert_refused(503, "token-rejected");
        } else {
            assert_eq!(next.status == 200, !row.is_moved, "{row:?} {next:?}");
        }
    }
}

#[tokio::test]
async fn a_job_start_with_an_email_is_never_moved() {
    for row in table() {
        let running = running(&row).await;
        let answer = running.post(JOB, &naming("b@x")).await;
        let tried = tried(&running);
        assert_eq!(running.sim.audit().submission_count, 1, "{row:?}");
        assert_told(&row, &answer, 1);
        assert!(tried.iter().all(|email| email == "b@x"));
        assert_accounts(&row, &running, &["b@x".to_owned()]).await;
    }
}

#[tokio::test]
async fn a_retry_with_the_same_key() {
    for row in table() {
        let running = running(&row).await;
        let headers = [JSON, ("idempotency-key", "k")];
        let job = naming("a@x");
        let submit = async || send(running.addr, Method::POST, JOB, &headers, &job).await;
        let first = submit().await;
        assert_told(&row, &first, 1);
        running.sim.clear_faults();
        silence_rounds(&running);
        running.post("/accounts/a@x/resume", "").await;
        let again = submit().await;
        let outcomes: Vec<_> = running
            .sim
            .audit()
            .submissions
            .iter()
            .map(|it| it.outcome)
            .collect();
        match row.slot {
            Slot::Bound => {
                assert_eq!(again.text, first.text);
                assert_eq!(outcomes.len(), 1, "{row:?}");
            }
            Slot::Uncertain => {
                again.assert_refused(409, "key-in-use");
                assert_eq!(outcomes.len(), 1, "{row:?}");
            }
            Slot::Released if row.stops_picks => {
                again.assert_refused(503, "token-rejected");
                assert_eq!(outcomes.len(), 1, "{row:?}");
            }
            Slot::Released => {
                assert_eq!(
                    again.status, 200,
                    "a refusal is not remembered: {row:?} {again:?}"
                );
                assert!(matches!(
                    outcomes[..],
                    [Outcome::Refused(_), Outcome::Accepted(_)]
                ));
            }
        }
    }
}
