//! `/accounts`, and lists that change while slots are in use.

use harness::Running;
use http::StatusCode;
use serde_json::json;

use crate::{leases::page, pick::state_of};

#[tokio::test]
async fn shows_every_account_in_list_order_and_no_password() {
    let running = Running::with(&[("z@x", 2), ("a@x", 0)]).await;
    running.pick("").await;
    let answer = running.get("/accounts").await;
    assert!(!answer.text.contains("secured") && !answer.text.contains("password"));
    let body = answer.json();
    assert!(
        body["fetchedAt"]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .is_ok()
    );
    let mut busy = body["accounts"][0].clone();
    for member in ["sessionExpiresAt", "since"] {
        let value = busy.as_object_mut().unwrap().remove(member);
        assert!(value.unwrap().is_string(), "{member}");
    }
    let alias = |email| accounts_fetcher::Account::new(email, 1).alias.to_string();
    let wanted = json!({
        "email": "z@x", "alias": alias("z@x"), "maxJobs": 2, "inFlight": 1, "held": 1,
        "uncertain": 0, "foreignJobs": 0, "available": 1, "state": "available", "reason": null,
        "until": null, "lastRefusal": null, "nextFreeInMs": null,
        "jobs": {"started": 0, "succeeded": 0, "failed": 0, "unknown": 0, "moved": 0},
    });
    assert_eq!(busy, wanted);
    let empty = &body["accounts"][1];
    assert_eq!(
        (&empty["email"], &empty["state"], &empty["available"]),
        (&json!("a@x"), &json!("full"), &json!(0))
    );
    assert_eq!(running.account("A@x").await["email"], "a@x");
    running
        .get("/accounts/b@x")
        .await
        .assert_refused(404, "unknown-account");
}

#[tokio::test]
async fn a_drained_account_finishes_and_a_resumed_one_is_picked_again() {
    let running = Running::with(&[("a@x", 2), ("b@x", 2)]).await;
    let lease = running.pick("?email=a@x").await;
    let drained = running.post("/accounts/a%40x/drain", "").await;
    assert_eq!(drained.json()["state"], "draining");
    for _ in 0..2 {
        assert_eq!(running.pick("").await["email"], "b@x");
    }
    running.get("/pick").await.assert_refused(429, "saturated");
    running
        .get("/pick?email=a@x")
        .await
        .assert_refused(503, "no-usable-account");
    assert_eq!(
        running
            .get(&format!("/leases/{}", lease["leaseId"].as_str().unwrap()))
            .await
            .status,
        StatusCode::OK
    );
    assert_eq!(
        running.post("/accounts/a@x/resume", "").await.json()["state"],
        "available"
    );
    assert_eq!(running.pick("").await["email"], "a@x");
    running
        .post("/accounts/b@y/drain", "")
        .await
        .assert_refused(404, "unknown-account");
    running
        .get("/accounts/a@x/drain")
        .await
        .assert_refused(405, "method-not-allowed");
}

#[tokio::test]
async fn a_removed_account_drains_and_keeps_its_count_if_it_returns() {
    let running = Running::with(&[("a@x", 2), ("b@x", 1), ("c@x", 0)]).await;
    let lease = running.pick("?email=a@x").await;
    running.sim.remove_account("a@x");
    running
        .until_metric(&state_of("a@x", "removed"), |value| value == 1.0)
        .await;
    assert_eq!(running.pick("").await["email"], "b@x");
    running.get("/pick").await.assert_refused(429, "saturated");
    running
        .get("/pick?email=a@x")
        .await
        .assert_refused(404, "unknown-account");
    let path = format!("/leases/{}", lease["leaseId"].as_str().unwrap());
    running.put(&path, r#"{"ttl":"5m"}"#).await.lease();

    running.sim.set_account("a@x", 2);
    running
        .until_metric(&state_of("a@x", "available"), |value| value == 1.0)
        .await;
    assert_eq!(running.account("a@x").await["held"], 1);
    running.sim.remove_account("a@x");
    running
        .until_metric(&state_of("a@x", "removed"), |value| value == 1.0)
        .await;
    running.release(&lease).await;
    running
        .get("/accounts/a@x")
        .await
        .assert_refused(404, "unknown-account");
    assert!(
        !running
            .get("/metrics")
            .await
            .text
            .contains(&state_of("a@x", "removed")),
        "its series go with it"
    );
}

#[tokio::test]
async fn a_lowered_cap_preempts_nobody_and_a_raised_one_is_used_at_once() {
    let running = Running::with(&[("a@x", 3)]).await;
    let mut leases = Vec::new();
    for _ in 0..3 {
        leases.push(running.pick("").await);
    }
    running.sim.set_account("a@x", 1);
    running
        .until_metric("kling_balancer_overcommitted_slots", |excess| excess == 2.0)
        .await;
    assert_eq!(running.account("a@x").await["available"], 0);
    for lease in &leases[..2] {
        running.release(lease).await;
        running.get("/pick").await.assert_refused(429, "saturated");
    }
    running.release(&leases[2]).await;
    running.pick("").await;
    running.sim.set_account("a@x", 2);
    running.pick("?wait=20s").await;
}

#[tokio::test]
async fn pages_show_each_account_once_though_one_leaves_between_them() {
    let emails = ["e@x", "d@x", "c@x", "b@x", "a@x"];
    let running = Running::with(&emails.map(|email| (email, 1))).await;
    let lease = running.pick("?email=d@x").await;
    let (first, next) = page(&running, "/accounts?limit=2").await;
    assert_eq!(first, emails[..2]);
    // The page ended at an account that stands behind all others now, since its job still runs.
    running.sim.remove_account("d@x");
    running
        .until_metric(&state_of("d@x", "removed"), |value| value == 1.0)
        .await;
    let path = format!("/accounts?limit=2&after={}", next.unwrap());
    let (second, next) = page(&running, &path).await;
    assert_eq!(second, emails[2..4]);
    let path = format!("/accounts?limit=9&after={}", next.unwrap());
    assert_eq!(
        page(&running, &path).await,
        (vec!["a@x".into(), "d@x".into()], None)
    );
    running.release(&lease).await;
}

#[tokio::test]
async fn a_dry_run_of_many_accounts_names_each_once() {
    let names: Vec<_> = (0..300).map(|n| format!("{n:03}@x")).collect();
    let accounts: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let running = Running::with(&accounts).await;
    let found = running.get("/pick?dryRun=true&exclude=007@x").await.json();
    let shown: Vec<_> = found["accounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["email"])
        .collect();
    assert_eq!(shown, names.iter().collect::<Vec<_>>());
    let eligible = found["eligible"].as_array().unwrap();
    let wanted: Vec<_> = names.iter().filter(|name| *name != "007@x").collect();
    assert_eq!(eligible.iter().collect::<Vec<_>>(), wanted);
    assert_eq!(running.held().await, 0);
}
