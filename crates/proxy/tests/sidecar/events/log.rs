//! The log tells what events tell. It names accounts by alias.

use harness::{eventually, manual, send};
use http::Method;
use serde_json::Value;

use crate::program::Process;

const JOB: &str = "/v1/kling/videos/text2video";
const HEADERS: [(&str, &str); 2] = [
    ("content-type", "application/json"),
    ("x-request-id", "the-first"),
];
const ROUNDS: (&str, &str) = ("KLB_RECONCILE__INTERVAL", "100ms");

/// The log of a sidecar under which a job ran to its end, whose account then got another cap, and the id of the job.
async fn log(env: &[(&str, &str)]) -> (String, Vec<Value>) {
    let sim = manual(&[("alice@example.com", 2)]).start().await.unwrap();
    let process = Process::start(&sim, &[&[ROUNDS], env].concat()).await;
    process.until_ready().await;
    let started = send(
        process.addr,
        Method::POST,
        JOB,
        &HEADERS,
        r#"{"prompt":"x"}"#,
    )
    .await;
    assert_eq!(started.status, 200, "{started:?}");
    let task_id = started.json()["task"]["id"].to_string();
    assert_eq!(sim.finish_all(), 1);
    let account = async || {
        let account = "/accounts/alice@example.com";
        send(process.addr, Method::GET, account, &[], "")
            .await
            .json()
    };
    eventually(async || (account().await["inFlight"] == 0).then_some(())).await;
    sim.set_account("alice@example.com", 5);
    eventually(async || (account().await["maxJobs"] == 5).then_some(())).await;
    process.signal("-TERM").await;
    let (_, log) = process.end().await;
    assert!(!log.contains("alice@"), "accounts have aliases: {log}");
    let lines = log.lines().map(|line| serde_json::from_str(line).unwrap());
    (task_id, lines.collect())
}

fn told<'a>(lines: &'a [Value], message: &str) -> Vec<&'a Value> {
    lines
        .iter()
        .filter(|line| line["message"] == message)
        .collect()
}

#[tokio::test]
async fn each_finished_job_has_a_line() {
    let (task_id, lines) = log(&[]).await;
    let ended = told(&lines, "job succeeded");
    assert_eq!(ended.len(), 1, "{lines:#?}");
    let line = ended[0];
    assert_eq!(line["level"], "INFO", "{line}");
    let alias = line["account"].as_str().unwrap();
    assert!(alias.starts_with("a-"), "{line}");
    assert_eq!(line["task_id"], *task_id, "{line}");
    assert_eq!(line["operation"], "/videos/text2video");
    assert_eq!(line["outcome"], "succeeded");
    assert!(line["duration_ms"].is_u64(), "{line}");
    assert_eq!(line["request_id"], "the-first");

    // A changed list is told with names and caps.
    let changed = told(&lines, "account list changed");
    let first = format!("{alias} (2)");
    assert_eq!(changed[0]["added"], first, "{changed:#?}");
    assert_eq!(
        changed[1]["changed"],
        format!("{alias} 2 → 5"),
        "{changed:#?}"
    );
    assert_eq!(changed.len(), 2);
}

#[tokio::test]
async fn a_log_without_jobs_has_no_such_line() {
    let (_, lines) = log(&[("KLB_LOG__JOBS", "false")]).await;
    assert_eq!(told(&lines, "job succeeded"), Vec::<&Value>::new());
    assert_eq!(told(&lines, "account list changed").len(), 2);
}
