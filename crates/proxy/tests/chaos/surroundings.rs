//! What happens around the clients: faults, accounts that come and go, a second tool, an operator
//! who heals, and jobs that end.

use std::{sync::Arc, time::Duration};

use harness::{Running, eventually, send};
use http::Method;
use kling_sim::{Answer, ChaosPlan, Effect, Encoding, Fault};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use serde_json::Value;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

pub(crate) const ACCOUNTS: [(&str, u32); 8] = [
    ("a@x", 8),
    ("b@x", 5),
    ("c@x", 3),
    ("d@x", 8),
    ("e@x", 2),
    ("f@x", 6),
    ("g@x", 1),
    ("h@x", 7),
];

/// The accounts that clients name.
pub(crate) const NAMED: [&str; 4] = ["a@x", "b@x", "c@x", "d@x"];

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Every class of answer to a submission, and every way to get none.
pub(crate) fn plan(seed: u64) -> ChaosPlan {
    let answer = |status: u16, body: &'static str| Effect::Answer(Answer::new(status).body(body));
    let no_account = "Account configuration not found. To create configuration use POST /accounts.";
    let moderated = r#"{"error":"violates the community guidelines (CM_EXT.POther)"}"#;
    let mut plan = ChaosPlan::new(seed)
        .with(0.08, Effect::Delay(ms(30)))
        .with(0.05, Effect::Delay(ms(120)))
        .with(0.02, Effect::Encode(Encoding::Gzip))
        .with(0.01, Effect::Encode(Encoding::Utf8))
        .with(0.02, Effect::Drip(ms(1)))
        .with(0.02, Effect::Answer(Answer::new(429)))
        .with(
            0.01,
            Effect::Answer(Answer::new(429).header("retry-after", "1")),
        )
        .with(
            0.005,
            answer(596, r#"{"error":"Failed to refresh session: 500"}"#),
        )
        .with(0.005, answer(404, no_account))
        .with(0.005, answer(412, r#"{"error":"Not enough credits"}"#))
        .with(0.01, answer(500, moderated))
        .with(0.005, Effect::EarlyAnswer(Answer::new(413)))
        // No 402: after one, picking stops for ten minutes.
        .with(0.003, answer(401, r#"{"error":"Unauthorized","code":401}"#))
        .with(0.02, Effect::ResetBefore)
        .with(0.03, Effect::ResetAfter)
        .with(0.03, Effect::TruncateAfter)
        .with(0.01, Effect::StallBefore)
        .with(0.02, Effect::StallAfter);
    for status in [
        302, 400, 403, 404, 422, 201, 204, 408, 500, 502, 503, 504, 520, 524, 599,
    ] {
        plan = plan.with(0.003, Effect::Answer(Answer::new(status)));
    }
    // The answer has no id.
    plan.with(0.005, answer(200, "{}"))
}

/// Ends running jobs, some at a time, including jobs that no client knows of.
pub(crate) async fn end_jobs(running: Arc<Running>, stop: CancellationToken, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed ^ 1);
    let token = format!("Bearer {}", running.sim.token());
    let base_url = running.sim.base_url();
    let path = format!("{}/scheduler", &base_url[base_url.rfind("/v1").unwrap()..]);
    let headers = [("authorization", &*token), ("x-sim-tool", "reaper")];
    while !stop.is_cancelled() {
        let listed = send(running.sim.addr(), Method::GET, &path, &headers, "").await;
        for job in listed.json().as_array().unwrap() {
            if rng.random_ratio(1, 3) {
                running.sim.finish(job["id"].as_i64().unwrap());
            }
        }
        sleep(ms(20)).await;
    }
}

/// Adds, removes and resizes accounts, hangs them, breaks their sessions and takes their credit.
pub(crate) async fn operate(running: Arc<Running>, stop: CancellationToken, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed ^ 2);
    let mut hung = ACCOUNTS[0].0;
    while !stop.is_cancelled() {
        let (email, _) = ACCOUNTS[rng.random_range(0..ACCOUNTS.len())];
        match rng.random_range(0..20) {
            // One at a time.
            10 => {
                running.sim.set_account_hung(hung, false);
                hung = email;
                running.sim.set_account_hung(hung, true);
            }
            11..14 => drop(running.sim.set_account_hung(hung, false)),
            // A call that names an account while it is away takes no slot.
            0 if !NAMED.contains(&email) => drop(running.sim.remove_account(email)),
            1 => drop(running.sim.set_account_error(email, Some("broken"))),
            2 => drop(running.sim.set_account_credit(email, false)),
            3..5 => {
                running.sim.set_account_error(email, None);
                running.sim.set_account_credit(email, true);
            }
            _ => running.sim.set_account(email, rng.random_range(1..=8)),
        }
        sleep(ms(rng.random_range(5..60))).await;
    }
}

/// Starts jobs on the same accounts, without asking us.
pub(crate) async fn second_tool(running: Arc<Running>, stop: CancellationToken, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed ^ 3);
    while !stop.is_cancelled() {
        let (email, _) = ACCOUNTS[rng.random_range(0..ACCOUNTS.len())];
        running.sim.submit_directly(email, 1);
        sleep(ms(rng.random_range(5..60))).await;
    }
}

/// Lets rounds fail, often for longer than jobs live, and questions about tasks with them.
pub(crate) async fn fail_rounds(running: Arc<Running>, stop: CancellationToken, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed ^ 4);
    let unavailable = || Effect::Answer(Answer::new(503));
    while !stop.is_cancelled() {
        let effect = match rng.random_range(0..6) {
            0 => Effect::ResetAfter,
            1 => Effect::TruncateAfter,
            2 => Effect::StallBefore,
            // Not a failure.
            3 => Effect::Encode(Encoding::Gzip),
            _ => unavailable(),
        };
        let rounds = Fault::new(effect).on("GET", "/scheduler/available");
        running.sim.fault(rounds.times(rng.random_range(1..10)));
        let effect = match rng.random_range(0..3) {
            0 => Effect::ResetBefore,
            1 => Effect::StallBefore,
            _ => unavailable(),
        };
        let questions = Fault::new(effect).times(rng.random_range(1..5));
        let histories = questions.clone().on("GET", "/tasks");
        running.sim.fault(histories);
        running.sim.fault(questions.on("GET", "/tasks/{task_id}"));
        // The faults end by their number; a few rounds that are answered pass before the next ones.
        let answered = r#"kling_balancer_rounds_total{result="ok"}"#;
        let enough = running.metric(answered).await + f64::from(rng.random_range(3..15));
        while running.metric(answered).await < enough && !stop.is_cancelled() {
            sleep(ms(50)).await;
        }
    }
}

/// Acts as an operator who answers alarms: puts accounts that are left alone back in use.
pub(crate) async fn heal(running: Arc<Running>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        resume(&running).await;
        sleep(ms(50)).await;
    }
}

/// Restores every account and waits until it is in use again.
pub(crate) async fn restore(running: &Running) {
    for (email, max_jobs) in ACCOUNTS {
        running.sim.set_account(email, max_jobs);
        running.sim.set_account_error(email, None);
        running.sim.set_account_credit(email, true);
        running.sim.set_account_hung(email, false);
    }
    eventually(async || {
        resume(running).await;
        let listed = running.get("/accounts").await.json();
        let is_in_use =
            |account: &Value| matches!(account["state"].as_str(), Some("available" | "full"));
        let accounts = listed["accounts"].as_array().unwrap();
        let is_restored = accounts.len() == ACCOUNTS.len() && accounts.iter().all(is_in_use);
        is_restored.then_some(())
    })
    .await;
}

async fn resume(running: &Running) {
    let listed = running.get("/accounts").await.json();
    for account in listed["accounts"].as_array().unwrap() {
        if matches!(
            account["state"].as_str(),
            Some("cooling" | "quarantined" | "parked")
        ) {
            let email = account["email"].as_str().unwrap();
            running.post(&format!("/accounts/{email}/resume"), "").await;
        }
    }
}
