//! What is shown of leases, accounts and jobs is what the simulator's books say.

use std::io::Write;

use harness::{Running, Slots, eventually};
use http::Method;
use kling_sim::{Answer, Effect, Fault};
use serde_json::{Value, json};

use super::client::{JOB, JSON, PROMPT, leases, start_job, task_id, task_path, until_slots};
use crate::tokens::STUDIO;

const ROUNDS: (&str, &str) = ("RECONCILE__INTERVAL", "100ms");
const BY_EMAIL: (&str, &str) = ("METRICS__ACCOUNT_LABEL", "email");

/// The value of a series of the account `email`.
async fn counted(running: &Running, family: &str, email: &str, label: &str) -> f64 {
    let series = format!("kling_balancer_{family}_total{{account=\"{email}\",{label}}}");
    running.metric(&series).await
}

/// Starts a job with this prompt on the account `email`.
async fn start_on(running: &Running, email: &str, prompt: &str) -> i64 {
    let body = json!({"email": email, "prompt": prompt}).to_string();
    task_id(&running.post(JOB, &body).await)
}

/// The accounts, once no slot of theirs is in use.
async fn idle(running: &Running) -> Vec<Value> {
    eventually(async || {
        let accounts = running.get("/accounts").await.json();
        let accounts = accounts["accounts"].as_array().unwrap().clone();
        let is_idle = accounts.iter().all(|account| account["inFlight"] == 0);
        is_idle.then_some(accounts)
    })
    .await
}

#[tokio::test]
async fn each_job_is_counted_as_the_upstream_accepted_it_and_as_it_ended() {
    let accounts = [("a@x", 9), ("b@x", 9)];
    let running = Running::configured(&accounts, &[ROUNDS, BY_EMAIL]).await;
    let refused = Answer::new(429).body(r#"{"error":"a@x is full\nfor now","code":429}"#);
    let refused = Fault::new(Effect::Answer(refused)).on_job_starts();
    running.sim.fault(refused.account("a@x").times(1));
    // Until one has been refused by a@x and gone to b@x.
    let moved = eventually(async || {
        let answer = start_job(&running).await;
        let id = task_id(&answer);
        (answer.header("x-kling-attempts") == "2").then_some(id)
    });
    moved.await;
    running.post("/accounts/a@x/resume", "").await;
    let read = start_on(&running, "a@x", "a boat").await;
    let doomed = start_on(&running, "a@x", "doomed").await;
    let listed = leases(&running).await;
    assert!(
        listed
            .iter()
            .all(|it| it["operation"] == "/videos/text2video")
    );
    let untracked = start_on(&running, "a@x", "a boat").await;
    let audit = running.sim.audit();
    for email in ["a@x", "b@x"] {
        let accepted = audit.account(email).unwrap().accepted;
        let account = running.account(email).await;
        assert_eq!(account["jobs"]["started"], accepted, "{account}");
        let shown = counted(&running, "submissions", email, r#"outcome="accepted""#).await;
        assert_eq!(shown, accepted as f64);
    }
    let full = counted(&running, "submissions", "a@x", r#"outcome="full""#).await;
    assert_eq!(full, 1.0);
    let account = running.account("a@x").await;
    assert_eq!(account["jobs"]["moved"], 1, "{account}");
    let said = &account["lastRefusal"];
    assert_eq!(
        (&said["status"], &said["text"]),
        (&json!(429), &json!("<redacted> is full for now")),
        "{account}"
    );
    assert!(said["at"].is_string() && account["since"].is_string());
    assert_eq!(running.account("b@x").await["lastRefusal"], Value::Null);

    // One is read by its client, one is asked about, one is not tracked any more.
    let path = format!("/v1/kling/scheduler/{untracked}");
    assert!(running.delete(&path).await.status.is_success());
    running.sim.finish_all();
    assert_eq!(
        running.get(&task_path(read)).await.json()["status_final"],
        true
    );
    let sum = |accounts: &[Value], member: &str| -> u64 {
        let jobs = accounts.iter().map(|account| &account["jobs"][member]);
        jobs.map(|count| count.as_u64().unwrap()).sum()
    };
    let ended = idle(&running).await;
    let started = audit.accounts.iter().map(|it| it.accepted).sum::<u64>();
    assert_eq!(
        (sum(&ended, "failed"), sum(&ended, "unknown")),
        (1, 1),
        "{doomed}"
    );
    assert_eq!(sum(&ended, "succeeded"), started - 2);
    for (email, account) in ["a@x", "b@x"].into_iter().zip(&ended) {
        for result in ["succeeded", "failed", "unknown"] {
            let label = format!("result=\"{result}\"");
            let shown = counted(&running, "jobs", email, &label).await;
            assert_eq!(account["jobs"][result].as_f64(), Some(shown), "{account}");
        }
    }
}

#[tokio::test]
async fn the_counts_of_an_account_that_left_stay() {
    let accounts = [("a@x", 2), ("b@x", 2)];
    let running = Running::configured(&accounts, &[ROUNDS, BY_EMAIL]).await;
    start_on(&running, "a@x", "a boat").await;
    let accepted = async || {
        let shown = counted(&running, "submissions", "a@x", r#"outcome="accepted""#);
        shown.await
    };
    running.sim.finish_all();
    until_slots(&running, "a@x", Slots::NONE).await;
    running.sim.remove_account("a@x");
    eventually(async || (running.get("/accounts/a@x").await.status == 404).then_some(())).await;
    assert_eq!(accepted().await, 1.0);
    running.sim.set_account("a@x", 2);
    eventually(async || (running.get("/accounts/a@x").await.status == 200).then_some(())).await;
    start_on(&running, "a@x", "a boat").await;
    assert_eq!(accepted().await, 2.0);
    assert_eq!(running.sim.audit().submission_count, 2);
}

#[tokio::test]
async fn leases_name_the_client_and_its_call() {
    let mut tokens = tempfile::NamedTempFile::new().unwrap();
    writeln!(tokens, "studio {STUDIO}").unwrap();
    let path = tokens.path().to_str().unwrap();
    let running = Running::configured(&[("a@x", 3)], &[("AUTH__TOKENS_FILE", path)]).await;
    let shown = format!("Bearer {STUDIO}");
    let headers = |id| [("authorization", &*shown), ("x-request-id", id), JSON];
    let send = async |method, path, id, body| running.send(method, path, &headers(id), body).await;
    let picked = send(Method::POST, "/pick", "call-1", "").await.lease();
    assert_eq!(
        (
            &picked["operation"],
            &picked["client"],
            &picked["requestId"]
        ),
        (&Value::Null, &json!("studio"), &json!("call-1"))
    );
    task_id(&send(Method::POST, JOB, "call-2", PROMPT).await);
    let listed = send(Method::GET, "/leases", "call-3", "").await;
    assert!(!listed.text.contains(STUDIO), "{listed:?}");
    let started = &listed.json()["leases"][1];
    assert_eq!(
        (
            &started["operation"],
            &started["client"],
            &started["requestId"]
        ),
        (
            &json!("/videos/text2video"),
            &json!("studio"),
            &json!("call-2")
        )
    );
    let metrics = send(Method::GET, "/metrics", "call-4", "").await;
    for word in ["studio", "call-2", STUDIO] {
        assert!(!metrics.text.contains(word), "{word}");
    }
}

#[tokio::test]
async fn an_alias_names_an_account_in_our_surface_and_not_in_calls_that_are_carried() {
    let running = Running::with(&[("a@x", 2), ("b@x", 2)]).await;
    let [a, b] = ["a@x", "b@x"].map(|email| running.account(email));
    let (a, b) = (a.await, b.await);
    let (a, b) = (a["alias"].as_str().unwrap(), b["alias"].as_str().unwrap());
    assert_eq!(running.account(a).await["email"], "a@x");
    assert_eq!(running.pick(&format!("?email={a}")).await["email"], "a@x");
    assert_eq!(running.pick(&format!("?exclude={a}")).await["email"], "b@x");
    let dry = running.get(&format!("/pick?dryRun=true&exclude={b}")).await;
    assert_eq!(dry.json()["eligible"], json!(["a@x"]));
    let drained = running.post(&format!("/accounts/{a}/drain"), "").await;
    assert_eq!(
        (&drained.json()["email"], &drained.json()["state"]),
        (&json!("a@x"), &json!("draining"))
    );
    let resumed = running.post(&format!("/accounts/{a}/resume"), "").await;
    assert_eq!(resumed.json()["state"], "available");
    let unknown = running.get("/pick?email=a-00000000").await;
    unknown.assert_refused(404, "unknown-account");
    // The upstream knows e-mails only, and judges the word as it came.
    let body = json!({"email": a, "prompt": "a boat"}).to_string();
    assert_ne!(running.post(JOB, &body).await.status, 200);
    let asked = running.sim.audit().submissions;
    assert_eq!(asked[0].email.as_deref(), Some(a));
}

#[tokio::test]
async fn a_full_account_tells_since_when_and_until_when() {
    let running = Running::with(&[("a@x", 1)]).await;
    let free = running.account("a@x").await;
    assert_eq!(
        (&free["state"], &free["nextFreeInMs"]),
        (&json!("available"), &Value::Null)
    );
    let id = start_on(&running, "a@x", "a boat").await;
    let full = running.account("a@x").await;
    let since: jiff::Timestamp = full["since"].as_str().unwrap().parse().unwrap();
    assert!(
        since > free["since"].as_str().unwrap().parse().unwrap(),
        "{full} {id}"
    );
    // A video usually takes minutes.
    let next = full["nextFreeInMs"].as_u64().unwrap();
    assert!((10_000..3_600_000).contains(&next), "{full}");
    let listed = running.get("/accounts").await.json();
    assert_eq!(listed["accounts"][0]["since"], full["since"]);
}
