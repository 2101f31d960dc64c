//! Who exceeded a cap, over real requests. The rule itself is tested inside the crate.

use std::time::Duration;

use kling_sim::{Effect, Fault, JobDuration, ListFault, Origin, Sim};
use serde_json::json;

use crate::client::{get, open_with, read, submit};

const TOOL: &str = "X-Sim-Tool: other\r\n";

async fn sim(max_jobs: u32) -> Sim {
    let sim = Sim::builder().account("a@x", max_jobs);
    sim.job_duration(JobDuration::Manual).start().await.unwrap()
}

async fn ours(sim: &Sim) -> u16 {
    submit(sim, &json!({"prompt": "p"})).await.status
}

async fn theirs(sim: &Sim, method: &str, path: &str) -> u16 {
    let body = br#"{"prompt":"p"}"#;
    read(open_with(sim, method, path, TOOL, body).await)
        .await
        .status
}

async fn round(sim: &Sim) {
    assert_eq!(get(sim, "/scheduler/available").await.status, 200);
}

fn over_limit(sim: &Sim) -> (u64, u64) {
    let audit = sim.audit();
    let account = audit.account("a@x").unwrap();
    assert_eq!(audit.over_limit(), account.over_limit());
    (account.over_limit_ours, account.over_limit_foreign)
}

#[tokio::test]
async fn the_header_tells_a_second_tool_from_us() {
    let sim = sim(2).await;
    assert_eq!(theirs(&sim, "POST", "/videos/text2video").await, 200);
    assert_eq!(ours(&sim).await, 200);
    assert_eq!(theirs(&sim, "POST", "/videos/text2video").await, 429);
    assert_eq!(over_limit(&sim), (0, 1));
    let origins: Vec<Origin> = sim
        .audit()
        .submissions
        .iter()
        .map(|one| one.origin)
        .collect();
    assert_eq!(origins, [Origin::Foreign, Origin::Ours, Origin::Foreign]);
}

#[tokio::test]
async fn two_rounds_of_ours_make_a_foreign_job_known() {
    let sim = sim(1).await;
    assert_eq!(sim.submit_directly("a@x", 3).len(), 1);
    assert_eq!(over_limit(&sim), (0, 2));
    round(&sim).await;
    assert_eq!(ours(&sim).await, 429);
    assert_eq!(over_limit(&sim), (0, 3));
    assert_eq!(theirs(&sim, "GET", "/scheduler/available").await, 200);
    assert_eq!(ours(&sim).await, 429);
    assert_eq!(over_limit(&sim), (0, 4), "their round tells us nothing");
    assert_eq!(get(&sim, "/scheduler").await.status, 200);
    assert_eq!(ours(&sim).await, 429);
    assert_eq!(over_limit(&sim), (1, 4));
}

#[tokio::test]
async fn an_answer_under_a_fault_told_nothing() {
    let sim = sim(1).await;
    sim.submit_directly("a@x", 1);
    let delay = Effect::Delay(Duration::ZERO);
    for effect in [Effect::TruncateAfter, Effect::ResetAfter, delay] {
        sim.fault(
            Fault::new(effect)
                .on("GET", "/scheduler/available")
                .times(1),
        );
        let stream = open_with(&sim, "GET", "/scheduler/available", "", b"").await;
        drop(tokio::io::copy(&mut { stream }, &mut tokio::io::sink()).await);
    }
    assert_eq!(ours(&sim).await, 429);
    assert_eq!(over_limit(&sim), (0, 1));
}

#[tokio::test]
async fn a_lowered_cap_of_the_list_is_known_after_another_round() {
    let sim = sim(2).await;
    assert_eq!(get(&sim, "/accounts").await.status, 200);
    round(&sim).await;
    assert_eq!(ours(&sim).await, 200);
    sim.set_account("a@x", 1);
    sim.list_fault(ListFault::Truncated);
    get(&sim, "/accounts").await;
    round(&sim).await;
    assert_eq!(ours(&sim).await, 429);
    assert_eq!(over_limit(&sim), (0, 1));
    round(&sim).await;
    assert_eq!(ours(&sim).await, 429);
    assert_eq!(over_limit(&sim), (1, 1));
}
