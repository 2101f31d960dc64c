//! `/metrics`: its series, and the labels of accounts.

use std::collections::BTreeSet;

use harness::Running;

fn families(text: &str) -> BTreeSet<&str> {
    text.lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect()
}

#[tokio::test]
async fn every_family_is_there_from_the_start() {
    let running = Running::with(&[("a@x", 1)]).await;
    let answer = running.get("/metrics").await;
    assert_eq!(
        answer.header("content-type"),
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let wanted = [
        "build_info",
        "slots",
        "slots_in_use",
        "account_state",
        "picks_total",
        "pick_wait_seconds",
        "waiters",
        "oldest_waiter_seconds",
        "submissions_total",
        "jobs_total",
        "http_requests_total",
        "http_request_duration_seconds",
        "fetches_total",
        "accounts_last_success_timestamp_seconds",
        "leases_ended_total",
        "overcommitted_slots",
        "rounds_total",
        "rounds_last_success_timestamp_seconds",
        "rounds_lag_seconds",
        "stale_grants_total",
        "drift_slots",
        "undelivered_answers_total",
        "event_readers",
        "event_readers_cut_total",
        "job_duration_seconds",
        "owner_searches_total",
        "retries_total",
        "commits_total",
        "commit_duration_seconds",
        "commit_records",
        "state_info",
        "state_bytes",
        "state_records",
        "state_sessions",
        "state_last_commit_timestamp_seconds",
        "log_lines_dropped_total",
        "upstream_request_duration_seconds",
    ];
    let wanted: BTreeSet<_> = wanted
        .iter()
        .map(|name| format!("kling_balancer_{name}"))
        .collect();
    assert_eq!(
        families(&answer.text),
        wanted.iter().map(String::as_str).collect()
    );
    for line in answer
        .text
        .lines()
        .filter(|line| line.starts_with("# HELP"))
    {
        assert!(line.split(' ').count() > 4, "{line}");
    }
}

#[tokio::test]
async fn accounts_are_named_by_alias_email_or_not_at_all() {
    let alias = accounts_fetcher::Account::new("a@x", 1).alias.text();
    for (setting, label) in [("alias", &*alias), ("email", "a@x"), ("none", "")] {
        let settings = [("METRICS__ACCOUNT_LABEL", setting)];
        let running = Running::configured(&[("a@x", 3)], &settings).await;
        running.pick("").await;
        let of = |name, rest| format!(r#"kling_balancer_{name}{{account="{label}"{rest}}}"#);
        assert_eq!(running.metric(&of("slots", "")).await, 3.0);
        assert_eq!(
            running.metric(&of("slots_in_use", r#",kind="held""#)).await,
            1.0
        );
        assert_eq!(
            running
                .metric(&of("slots_in_use", r#",kind="foreign""#))
                .await,
            0.0
        );
        assert_eq!(
            running
                .metric(&of("account_state", r#",state="available""#))
                .await,
            1.0
        );
        let text = running.get("/metrics").await.text;
        assert_eq!(text.contains("a@x"), setting == "email");
    }
}

#[tokio::test]
async fn at_most_two_hundred_accounts_have_series_of_their_own() {
    let names: Vec<_> = (0..210).map(|n| format!("{n}@x")).collect();
    let accounts: Vec<_> = names.iter().map(|name| (name.as_str(), 2)).collect();
    let running = Running::with(&accounts).await;
    let text = running.get("/metrics").await.text;
    let series = text
        .lines()
        .filter(|line| line.starts_with("kling_balancer_slots{"))
        .count();
    assert_eq!(series, 201);
    assert_eq!(
        running
            .metric(r#"kling_balancer_slots{account="other"}"#)
            .await,
        20.0
    );
}

#[tokio::test]
async fn calls_are_counted_by_route_template() {
    let running = Running::with(&[("a@x", 1)]).await;
    let lease = running.pick("").await;
    running.release(&lease).await;
    running.get("/nowhere/at/all").await;
    for series in [
        r#"route="/pick",method="GET",code="200""#,
        r#"route="/leases/{id}",method="DELETE",code="204""#,
        r#"route="none",method="GET",code="404""#,
    ] {
        let labels: BTreeSet<_> = series.split(',').collect();
        let text = running.get("/metrics").await.text;
        let found = text.lines().find(|line| {
            line.starts_with("kling_balancer_http_requests_total{")
                && labels.iter().all(|label| line.contains(label))
        });
        assert!(
            found.is_some_and(|line| line.ends_with(" 1")),
            "{series}: {found:?}"
        );
    }
}
