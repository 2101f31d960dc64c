//! All faults of job starts at once, beside a second tool.

use std::{collections::HashMap, sync::Arc, time::Duration};

use harness::{PATIENCE, REACTION_ROUNDS, Running, eventually, send, with_accounts};
use http::{Method, StatusCode};
use kling_sim::{Answer, ChaosPlan, Effect, JobDuration, Outcome};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use serde_json::Value;
use tokio::{task::JoinSet, time::timeout};

use super::client::{JOB, JSON, drawn_seed, ended, ready, task_path};

const ACCOUNTS: [(&str, u32); 3] = [("a@x", 5), ("b@x", 3), ("c@x", 2)];
const CLIENTS: usize = 16;
const JOBS: usize = 12;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn plan(seed: u64) -> ChaosPlan {
    ChaosPlan::new(seed)
        .with(0.10, Effect::Delay(ms(40)))
        .with(0.05, Effect::Answer(Answer::new(429)))
        .with(0.05, Effect::Answer(Answer::new(503)))
        .with(0.02, Effect::Answer(Answer::new(200).body("{}")))
        .with(0.02, Effect::Answer(Answer::new(413)))
        .with(0.05, Effect::ResetBefore)
        .with(0.08, Effect::ResetAfter)
        .with(0.05, Effect::TruncateAfter)
        .with(0.03, Effect::StallBefore)
        .with(0.05, Effect::StallAfter)
        .with(0.05, Effect::Drip(ms(1)))
}

/// Submits jobs one after the other, and polls those that were accepted to their ends.
async fn work(running: Arc<Running>, client: usize, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed.wrapping_add(client as u64));
    for job in 0..JOBS {
        if rng.random_ratio(1, 8) {
            // A second tool on the same accounts.
            let (email, _) = ACCOUNTS[rng.random_range(0..ACCOUNTS.len())];
            running.sim.submit_directly(email, 1);
        }
        let body = format!(r#"{{"prompt":"p","replyRef":"r{client}-{job}"}}"#);
        let headers = [JSON, ("x-kling-wait", "60s")];
        let answer = send(running.addr, Method::POST, JOB, &headers, &body).await;
        let id = answer.json()["task"]["id"].as_i64();
        match (answer.status, id) {
            (StatusCode::OK, Some(id)) => {
                while running.get(&task_path(id)).await.json()["status_final"] != true {}
            }
            (StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT, None) => {
                assert_eq!(answer.json()["reason"], "outcome-unknown", "{answer:?}");
            }
            (_, id) => assert_eq!(id, None, "{answer:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_goes_wrong_no_account_is_overrun_and_every_slot_returns() {
    let seed = drawn_seed();
    let sim = with_accounts(&ACCOUNTS)
        .seed(seed)
        .job_duration(JobDuration::between(ms(20), ms(80)))
        .reaction_rounds(REACTION_ROUNDS)
        .release_lag(ms(0)..=ms(200));
    let settings = [
        ("RECONCILE__INTERVAL", "100ms"),
        ("RECONCILE__SETTLE", "1s"),
        ("UPSTREAM__REQUEST_TIMEOUT", "200ms"),
    ];
    let running = Arc::new(ready(sim.start().await.unwrap(), &settings).await);
    running.sim.chaos(plan(seed));
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(work(Arc::clone(&running), client, seed));
    }
    timeout(6 * PATIENCE, clients.join_all()).await.unwrap();
    running.sim.clear_faults();

    let audit = running.sim.audit();
    assert_eq!(audit.over_limit_ours(), 0, "{audit}");
    assert_eq!(audit.duplicates, 0, "{audit}");
    let mut sent: HashMap<String, Vec<Outcome>> = HashMap::new();
    for submission in audit.submissions {
        let job: Value = serde_json::from_slice(&submission.body).unwrap();
        let reference = job["replyRef"].as_str().unwrap().to_owned();
        sent.entry(reference).or_default().push(submission.outcome);
    }
    assert_eq!(sent.len(), CLIENTS * JOBS, "each was sent");
    for (reference, outcomes) in sent {
        let before_the_last = &outcomes[..outcomes.len() - 1];
        let is_refused = |outcome: &Outcome| *outcome == Outcome::Refused(429);
        // A job is sent again only after an account was provably full, be it after a further wait.
        assert!(
            before_the_last.iter().all(is_refused),
            "{reference}: {outcomes:?}"
        );
    }
    eventually(async || {
        let accounts = running.get("/accounts").await.json();
        let is_idle = |account: &Value| account["inFlight"] == 0;
        let accounts = accounts["accounts"].as_array().unwrap();
        accounts.iter().all(is_idle).then_some(())
    })
    .await;
    assert_eq!(ended(&running, "unverified").await, 0.0);
    assert!(ended(&running, "absent").await > 0.0, "some were lost");
    assert!(ended(&running, "finished").await > 0.0);
}
