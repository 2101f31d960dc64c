//! Rounds that fail change nothing.

use std::time::Duration;

use harness::{
    NEVER, Slots, manual,
    rounds::{Bench, ours},
    stored_gzip,
};
use kling_sim::{Answer, Effect, Fault};
use proxy::{ledger::PickError, pool::Refusal};

const INTERVAL: Duration = Duration::from_millis(20);
const SCHEDULER: &str = "/scheduler/available";

fn answer(status: u16, body: &'static str) -> Effect {
    Effect::Answer(Answer::new(status).body(body))
}

/// Answers that are not a list of jobs, though some look like one.
fn failures() -> Vec<Effect> {
    vec![
        answer(503, r#"{"executing":[]}"#),
        answer(401, r#"{"error":"Unauthorized"}"#),
        answer(404, r#"{"error":"No such operation"}"#),
        answer(404, "<html>configuration not found</html>"),
        answer(200, "[]"),
        answer(200, "{}"),
        answer(200, ""),
        answer(200, "<html>maintenance</html>"),
        Effect::Answer(
            Answer::new(200)
                .header("content-encoding", "gzip")
                .body(r#"{"executing":[]}"#),
        ),
        Effect::ResetBefore,
        Effect::ResetAfter,
        Effect::TruncateAfter,
    ]
}

#[tokio::test]
async fn a_failed_round_frees_nothing_and_the_next_good_one_does() {
    let accounts = [("a@x", 3)];
    for effect in failures() {
        let bench = Bench::learned(manual(&accounts), &accounts, INTERVAL).await;
        bench.sim.submit_directly("a@x", 1);
        let lease = bench.pick("a@x").await.unwrap();
        let job = bench.submit("a@x").await;
        bench.bind(lease, ours(job)).await;
        bench
            .until_in_use("a@x", Slots::held(1) + Slots::foreign(1))
            .await;

        bench
            .sim
            .fault(Fault::new(effect.clone()).on("GET", SCHEDULER));
        let failed = bench.counts().failed();
        bench.until_failed(failed + 1).await;
        let ok = bench.counts().ok();
        assert_eq!(bench.sim.finish_all(), 2);
        bench.until_failed(failed + 3).await;
        assert_eq!(bench.counts().ok(), ok, "{effect:?}");
        assert_eq!(
            bench.in_use("a@x").await,
            Slots::held(1) + Slots::foreign(1),
            "{effect:?}"
        );

        bench.sim.clear_faults();
        bench.until_in_use("a@x", Slots::NONE).await;
    }
}

#[tokio::test]
async fn nothing_is_granted_while_the_first_round_fails() {
    let accounts = [("a@x", 1)];
    let mut bench = Bench::quiet(manual(&accounts), &accounts, INTERVAL).await;
    bench.sim.fault(Fault::status(500).on("GET", SCHEDULER));
    bench.run();
    bench.until_failed(2).await;
    let learning = PickError::Refused(Refusal::Learning);
    assert_eq!(bench.pick("a@x").await, Err(learning));
    assert_eq!(bench.counts().last_success(), None);
    bench.sim.clear_faults();
    bench.until_ok(1).await;
    bench.pick("a@x").await.unwrap();
}

#[tokio::test]
async fn a_token_without_accounts_runs_no_jobs() {
    let bench = Bench::learned(manual(&[]), &[("a@x", 1)], NEVER).await;
    assert_eq!(bench.counts().failed(), 0);
    bench.pick("a@x").await.unwrap();
}

#[tokio::test]
async fn a_task_that_cannot_be_asked_for_keeps_its_slot() {
    let accounts = [("a@x", 1)];
    for effect in [
        answer(500, r#"{"status_final":true}"#),
        answer(429, ""),
        answer(200, "{}"),
        answer(200, r#"{"task":{"id":1},"status_final":true}"#),
        answer(404, "Account configuration not found."),
        Effect::Answer(
            Answer::new(200)
                .header("content-encoding", "gzip")
                .body(r#"{"status_final":true}"#),
        ),
        Effect::ResetBefore,
        Effect::TruncateAfter,
    ] {
        let bench = Bench::learned(manual(&accounts), &accounts, INTERVAL).await;
        let lease = bench.pick("a@x").await.unwrap();
        let job = bench.submit("a@x").await;
        bench.bind(lease, ours(job)).await;
        let fault = Fault::new(effect.clone()).on("GET", "/tasks/{task_id}");
        bench.sim.fault(fault);
        assert!(bench.sim.finish(job));
        let ok = bench.counts().ok();
        bench.until_ok(ok + 3).await;
        assert_eq!(bench.in_use("a@x").await, Slots::held(1), "{effect:?}");
        bench.sim.clear_faults();
        bench.until_in_use("a@x", Slots::NONE).await;
    }
}

#[tokio::test]
async fn an_encoded_list_is_decoded() {
    let accounts = [("a@x", 3)];
    for encoding in ["gzip", "x-gzip", "utf-8", "identity", ""] {
        let bench = Bench::learned(manual(&accounts), &accounts, NEVER).await;
        let list = br#"{"executing":[{"id":7,"email":"a@x"}]}"#;
        let body = if encoding.ends_with("gzip") {
            stored_gzip(list)
        } else {
            list.to_vec().into()
        };
        let encoded = Answer::new(200)
            .header("content-encoding", encoding)
            .body(body);
        let fault = Fault::new(Effect::Answer(encoded)).on("GET", SCHEDULER);
        bench.sim.fault(fault.times(1));
        bench.round().await;
        assert_eq!(bench.in_use("a@x").await, Slots::foreign(1), "{encoding:?}");
    }
}
