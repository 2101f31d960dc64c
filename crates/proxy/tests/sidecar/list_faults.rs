//! Picks continue from the last good account list when a fetch fails.

use std::time::Duration;

use harness::{Running, eventually};
use http::StatusCode;
use kling_sim::{ListAnswer, ListFault};

const SETTINGS: [(&str, &str); 3] = [
    ("ACCOUNTS__TIMEOUT", "300ms"),
    ("ACCOUNTS__BACKOFF_MAX", "100ms"),
    ("UPSTREAM__IDLE_TIMEOUT", "200ms"),
];

fn fetches(result: &str) -> String {
    format!(r#"kling_balancer_fetches_total{{result="{result}"}}"#)
}

#[tokio::test]
async fn picks_keep_working_from_the_last_good_list() {
    let running = Running::configured(&[("a@x", 50)], &SETTINGS).await;
    let faults = [
        (ListFault::Body("{\"a@x\":".into()), "parse"),
        (ListFault::Body("\u{feff}{}".into()), "parse"),
        (ListFault::Body("{} trailing".into()), "parse"),
        (ListFault::Body("[".repeat(10_000)), "parse"),
        (ListFault::Body("null".into()), "schema"),
        (ListFault::Body("[]".into()), "schema"),
        (
            ListFault::Body(r#"{"error":"Unauthorized","code":401}"#.into()),
            "schema",
        ),
        (ListFault::Html, "content_type"),
        (ListFault::Truncated, "transport"),
        (ListFault::Reset, "transport"),
        (ListFault::Stalled, "timeout"),
        (ListFault::Drip(Duration::from_millis(20)), "timeout"),
        (ListFault::Huge(100 << 20), "too_large"),
        (ListFault::GzipBomb, "too_large"),
        (ListFault::redirect("http://127.0.0.1:9/"), "redirect"),
        (ListFault::status(500), "status"),
        (ListFault::status(404), "status"),
        (ListFault::status_retry_after(429, "0"), "status"),
        (ListFault::Unauthorized, "unauthorized"),
        (ListFault::status(403), "unauthorized"),
        (ListFault::Body("{}".into()), "empty_held"),
        (ListFault::NotConfigured, "not_configured"),
    ];
    for (fault, result) in faults {
        let before = running.metric(&fetches(result)).await;
        // A debug build on a busy machine may take longer for large lists than a fetch may.
        let also = if result == "too_large" {
            "timeout"
        } else {
            result
        };
        let also_before = running.metric(&fetches(also)).await;
        running.sim.script_list([ListAnswer::from(fault.clone())]);
        eventually(async || {
            let seen = running.metric(&fetches(result)).await > before
                || running.metric(&fetches(also)).await > also_before;
            seen.then_some(())
        })
        .await;
        assert_eq!(running.pick("").await["email"], "a@x", "{fault:?}");
        assert_eq!(
            running.get("/readyz").await.status,
            StatusCode::OK,
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn a_missing_configuration_and_a_rejected_token_are_told_apart() {
    let running = Running::unlearned(&[("a@x", 1)], &SETTINGS).await;
    running.sim.list_fault(ListFault::NotConfigured);
    let readiness = running
        .until(|answer| answer.text.contains("no-accounts"))
        .await;
    readiness.assert_refused(503, "no-accounts");
    running
        .get("/pick")
        .await
        .assert_refused(503, "no-accounts");
    running
        .until_metric(&fetches("not_configured"), |count| count >= 3.0)
        .await;

    running.sim.clear_list_fault();
    running
        .until(|answer| answer.status == StatusCode::OK)
        .await;
    running.pick("").await;
}

#[tokio::test]
async fn a_rejected_token_is_named_until_it_is_accepted() {
    let sim = kling_sim::Sim::builder()
        .account("a@x", 1)
        .start()
        .await
        .unwrap();
    sim.list_fault(ListFault::Unauthorized);
    let running = Running::beside(sim, &SETTINGS).await;
    running
        .until(|answer| answer.text.contains("token-rejected"))
        .await;
    running
        .get("/readyz")
        .await
        .assert_refused(503, "token-rejected");
    running
        .get("/pick")
        .await
        .assert_refused(503, "token-rejected");
    let verbose = running.get("/readyz?verbose").await;
    assert_eq!(verbose.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        verbose.text.contains("[-] last fetch: unauthorized"),
        "{verbose:?}"
    );
    assert!(running.metric(&fetches("unauthorized")).await >= 1.0);
    assert_eq!(running.get("/livez").await.status, StatusCode::OK);

    running.sim.clear_list_fault();
    running
        .until(|answer| answer.status == StatusCode::OK)
        .await;
}

#[tokio::test]
async fn nothing_is_granted_before_the_first_list() {
    let sim = kling_sim::Sim::builder()
        .account("a@x", 1)
        .start()
        .await
        .unwrap();
    sim.list_fault(ListFault::status(500));
    let running = Running::beside(sim, &SETTINGS).await;
    for query in ["", "?wait=10s", "?email=a@x"] {
        running
            .get(&format!("/pick{query}"))
            .await
            .assert_refused(503, "learning");
    }
    running.get("/readyz").await.assert_refused(503, "learning");
    running
        .get("/pick?dryRun=true&email=a@x")
        .await
        .assert_refused(503, "learning");
    assert_eq!(
        running
            .metric("kling_balancer_accounts_last_success_timestamp_seconds")
            .await,
        0.0
    );
    running.sim.clear_list_fault();
    running
        .until(|answer| answer.status == StatusCode::OK)
        .await;
    assert!(
        running
            .metric("kling_balancer_accounts_last_success_timestamp_seconds")
            .await
            > 1.7e9
    );
}

#[tokio::test]
async fn an_empty_list_is_believed_the_third_time() {
    let running = Running::configured(&[("a@x", 1)], &SETTINGS).await;
    running.sim.remove_account("a@x");
    running
        .until(|answer| answer.status == StatusCode::SERVICE_UNAVAILABLE)
        .await;
    running
        .get("/pick")
        .await
        .assert_refused(503, "no-accounts");
    assert!(running.metric(&fetches("not_configured")).await >= 3.0);
}

#[tokio::test]
async fn odd_entries_are_rejected_alone_and_keep_their_last_good_value() {
    let running = Running::configured(&[("a@x", 2), ("b@x", 3)], &SETTINGS).await;
    let list = r#"{"a@x":{"maxJobs":-1},"b@x":{"maxJobs":4},"c@x":{"maxJobs":"3"},
        "d@x":{"maxJobs":3.5},"e@x":{"maxJobs":1e18},"f@x":{"maxJobs":null},"g@x":{"maxJobs":0},
        "b@X":{"maxJobs":9},"h\r\n@x":{"maxJobs":5},"i@x":7}"#;
    running.sim.list_fault(ListFault::Body(list.into()));
    running
        .until_metric(&fetches("partial"), |count| count >= 1.0)
        .await;
    let accounts = running.get("/accounts").await.json();
    let shown: Vec<_> = accounts["accounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|account| {
            (
                account["email"].as_str().unwrap(),
                account["maxJobs"].as_u64().unwrap(),
            )
        })
        .collect();
    let wanted = [
        ("a@x", 2),
        ("b@x", 4),
        ("e@x", 1000),
        ("f@x", 1),
        ("g@x", 0),
    ];
    assert_eq!(
        shown, wanted,
        "rejected alone, clamped, defaulted, the smallest of duplicates"
    );
    assert!(
        running
            .get("/readyz?verbose")
            .await
            .text
            .contains("5 entries rejected")
    );
}

#[tokio::test]
async fn a_sudden_shrink_is_confirmed_first() {
    let running =
        Running::configured(&[("a@x", 1), ("b@x", 1), ("c@x", 1), ("d@x", 1)], &SETTINGS).await;
    running.sim.script_list([ListAnswer::from(ListFault::Body(
        r#"{"a@x":{"maxJobs":1}}"#.into(),
    ))]);
    running
        .until_metric(&fetches("shrink_held"), |count| count == 1.0)
        .await;
    assert_eq!(
        running.get("/accounts").await.json()["accounts"]
            .as_array()
            .unwrap()
            .len(),
        4
    );
    running
        .sim
        .list_fault(ListFault::Body(r#"{"a@x":{"maxJobs":1}}"#.into()));
    eventually(async || {
        let accounts = running.get("/accounts").await.json();
        (accounts["accounts"].as_array().unwrap().len() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_list_may_come_from_a_file_and_is_read_again_when_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("accounts.json");
    std::fs::write(&path, r#"{"a@x":{"maxJobs":1}}"#).unwrap();
    let settings = [("ACCOUNTS__FILE", path.to_str().unwrap())];
    let running = Running::configured(&[], &settings).await;
    assert_eq!(running.pick("").await["email"], "a@x");
    std::fs::write(&path, r#"{"a@x":{"maxJobs":1},"b@x":{"maxJobs":1}}"#).unwrap();
    assert_eq!(running.pick("?wait=20s").await["email"], "b@x");
    assert_eq!(running.sim.list_requests().seen, 0);
}
