//! Every type of event, each told of something that happened. Those of the state are told in the tests of the book.

use std::collections::BTreeSet;

use harness::{Running, eventually};
use kling_sim::{Effect, Fault, ListFault};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{reader::Reader, until};
use crate::carry::unsent::unreachable;

const JOB: &str = "/v1/kling/videos/text2video";
const PROMPT: &str = r#"{"prompt":"a boat"}"#;
const SCHEDULER: &str = "/scheduler/available";

const SETTINGS: [(&str, &str); 4] = [
    ("RECONCILE__INTERVAL", "100ms"),
    ("RECONCILE__SETTLE", "100ms"),
    ("ACCOUNTS__BACKOFF_MAX", "100ms"),
    ("FORWARD__MARK", "off"),
];

/// One job after the other on one account of one slot.
struct Stage {
    running: Running,
    reader: Reader,
    seen: BTreeSet<String>,
}

impl Stage {
    async fn new() -> Self {
        let running = Running::configured(&[("a@x", 1)], &SETTINGS).await;
        let reader = Reader::after(&running, 0).await;
        let mut stage = Self {
            running,
            reader,
            seen: BTreeSet::new(),
        };
        stage.told("ready").await;
        stage
    }

    /// The next event of this type.
    async fn told(&mut self, kind: &str) -> serde_json::Value {
        let seen = until(&mut self.reader, kind).await;
        let last = seen.last().unwrap().data.clone();
        self.seen.extend(seen.into_iter().map(|told| told.kind));
        last
    }

    /// The next state of the account, which must be this one.
    async fn is_in_state(&mut self, state: &str) -> serde_json::Value {
        let told = self.told("account-state").await;
        assert_eq!(told["to"], state, "{told}");
        assert_eq!(told["email"], "a@x");
        told
    }

    async fn start(&self) -> harness::Answer {
        self.running.post(JOB, PROMPT).await
    }

    /// Ends the job that runs.
    async fn job_ends(&mut self) {
        assert_eq!(self.running.sim.finish_all(), 1);
        let ended = self.told("job-ended").await;
        assert_eq!(ended["result"], "succeeded", "{ended}");
    }

    /// All types that were told.
    #[track_caller]
    fn assert_seen(&self, kinds: &[&str]) {
        let seen: Vec<_> = self.seen.iter().map(String::as_str).collect();
        assert_eq!(seen, kinds);
    }

    fn fault(&self, fault: Fault) {
        self.running.sim.fault(fault);
    }
}

#[tokio::test]
async fn what_becomes_of_lost_submissions_and_answers_is_told() {
    let mut stage = Stage::new().await;

    // Its answer is lost, and a round finds the job.
    stage.fault(Fault::new(Effect::ResetAfter).on_job_starts().times(1));
    assert_eq!(stage.start().await.status, 502);
    let lost = stage.told("submission-lost").await;
    assert_eq!(lost["email"], "a@x", "{lost}");
    let decided = stage.told("submission-decided").await;
    assert_eq!(decided["outcome"], "found", "{decided}");
    assert_eq!(decided["requestId"], lost["requestId"]);
    assert!(decided["taskId"].is_string(), "{decided}");
    stage.job_ends().await;

    // It never became a job.
    stage.fault(Fault::new(Effect::ResetBefore).on_job_starts().times(1));
    assert_eq!(stage.start().await.status, 502);
    let lost = stage.told("submission-lost").await;
    let decided = stage.told("submission-decided").await;
    assert_eq!(decided["outcome"], "absent", "{decided}");
    assert_eq!(decided["requestId"], lost["requestId"]);
    assert_eq!(decided["taskId"], serde_json::Value::Null);

    // Its client leaves before the answer.
    let slow = Effect::Delay(std::time::Duration::from_millis(300));
    stage.fault(Fault::new(slow).on_job_starts().times(1));
    let submitted = stage.running.sim.audit().submission_count;
    let mut client = TcpStream::connect(stage.running.addr).await.unwrap();
    let request = format!(
        "POST {JOB} HTTP/1.1\r\nHost: localhost\r\nx-request-id: missed\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{PROMPT}",
        PROMPT.len()
    );
    client.write_all(request.as_bytes()).await.unwrap();
    eventually(async || {
        let count = stage.running.sim.audit().submission_count;
        (count > submitted).then_some(())
    })
    .await;
    drop(client);
    let undelivered = stage.told("answer-undelivered").await;
    assert_eq!(undelivered["requestId"], "missed", "{undelivered}");
    assert_eq!(undelivered["email"], "a@x");
    stage.job_ends().await;
    stage.assert_seen(&[
        "answer-undelivered",
        "job-ended",
        "job-started",
        "list-changed",
        "ready",
        "sidecar-started",
        "submission-decided",
        "submission-lost",
    ]);
}

#[tokio::test]
async fn what_happens_to_an_account_is_told() {
    let mut stage = Stage::new().await;
    assert_eq!(stage.start().await.status, 200);
    let started = stage.told("job-started").await;
    assert_eq!(started["operation"], "/videos/text2video", "{started}");
    stage.job_ends().await;

    // The session of the account breaks.
    stage.fault(Fault::status(596).on_job_starts().times(1));
    assert_eq!(stage.start().await.status, 596);
    let broken = stage.is_in_state("quarantined").await;
    assert!(broken["until"].is_string(), "{broken}");
    let message = broken["message"].as_str().unwrap();
    assert!(message.starts_with("a@x is quarantined: "), "{message}");
    let not_ready = stage.told("not-ready").await;
    assert_eq!(not_ready["reasons"][0], "no-usable-account", "{not_ready}");
    stage.running.post("/accounts/a@x/resume", "").await;
    stage.is_in_state("available").await;
    stage.told("ready").await;

    // It is drained: when its last job is over, it may be removed.
    assert_eq!(stage.start().await.status, 200);
    stage.running.post("/accounts/a@x/drain", "").await;
    stage.is_in_state("draining").await;
    stage.job_ends().await;
    let drained = stage.told("account-drained").await;
    assert_eq!(drained["email"], "a@x", "{drained}");
    stage.running.post("/accounts/a@x/resume", "").await;
    stage.is_in_state("available").await;
    stage.assert_seen(&[
        "account-drained",
        "account-state",
        "job-ended",
        "job-started",
        "list-changed",
        "not-ready",
        "ready",
        "sidecar-started",
    ]);
}

#[tokio::test]
async fn what_happens_to_the_whole_is_told() {
    let mut stage = Stage::new().await;
    stage.running.sim.set_account("a@x", 5);
    stage.running.sim.set_account("b@x", 2);
    let mut changes = Vec::new();
    // Two fetches may see it.
    while changes.len() < 2 {
        let changed = stage.told("list-changed").await;
        for change in changed["changed"].as_array().unwrap() {
            assert_eq!((&change["from"], &change["to"]), (&1.into(), &5.into()));
            changes.push(change["email"].clone());
        }
        for added in changed["added"].as_array().unwrap() {
            assert_eq!(added["maxJobs"], 2);
            changes.push(added["email"].clone());
        }
        assert_eq!(changed["removedCount"], 0);
    }
    stage.running.sim.remove_account("b@x");
    let changed = stage.told("list-changed").await;
    assert_eq!(changed["removed"][0]["email"], "b@x", "{changed}");

    stage.running.sim.list_fault(ListFault::status(500));
    stage.told("list-failed").await;
    stage.running.sim.clear_list_fault();
    stage.told("list-fetched").await;

    stage.fault(Fault::status(500).on("GET", SCHEDULER));
    let failed = stage.told("rounds-failed").await;
    assert!(
        failed["error"].as_str().unwrap().contains("500"),
        "{failed}"
    );
    stage.running.sim.clear_faults();
    stage.told("rounds-answered").await;

    stage.fault(Fault::status(401).on_job_starts().times(1));
    assert_eq!(stage.start().await.status, 401);
    let rejected = stage.told("token-rejected").await;
    assert_eq!(rejected["status"], 401, "{rejected}");
    stage.told("token-accepted").await;
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_is_told_and_when_it_can() {
    let (running, socket, _list) = unreachable().await;
    let mut reader = Reader::after(&running, 0).await;
    let headers = [
        ("content-type", "application/json"),
        ("x-kling-wait", "700ms"),
    ];
    let refused = running
        .send(http::Method::POST, JOB, &headers, PROMPT)
        .await;
    refused.assert_refused(429, "upstream-unreachable");
    let seen = until(&mut reader, "upstream-unreachable").await;
    let unreachable = &seen.last().unwrap().data;
    assert!(unreachable["error"].is_string(), "{unreachable}");
    let _listener = socket.listen(8).unwrap();
    until(&mut reader, "upstream-reachable").await;
    let retries = r#"kling_balancer_retries_total{reason="unsent"}"#;
    assert!(running.metric(retries).await > 0.0);
}
