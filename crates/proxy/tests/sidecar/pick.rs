//! `/pick`: grants, refusals, and their messages.

use std::collections::BTreeMap;

use harness::Running;
use http::Method;
use serde_json::json;

#[tokio::test]
async fn leases_exactly_the_slots_there_are_and_a_released_one_is_pickable() {
    let running = Running::with(&[("a@x", 2), ("b@x", 3), ("c@x", 5)]).await;
    let mut leases = Vec::new();
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..10 {
        let lease = running.pick("").await;
        *counts
            .entry(lease["email"].as_str().unwrap().to_owned())
            .or_default() += 1;
        leases.push(lease);
    }
    let wanted = [("a@x", 2), ("b@x", 3), ("c@x", 5)];
    assert_eq!(
        counts,
        wanted.map(|(email, max)| (email.to_owned(), max)).into()
    );
    running.get("/pick").await.assert_refused(429, "saturated");

    for lease in leases {
        running.release(&lease).await;
        let again = running.pick("").await;
        assert_eq!(
            again["email"], lease["email"],
            "only its account has a slot"
        );
        running.get("/pick").await.assert_refused(429, "saturated");
    }
}

#[tokio::test]
async fn answers_with_the_whole_lease() {
    let running = Running::with(&[("a+b@x", 3)]).await;
    let answer = running.send(Method::POST, "/pick?ttl=100s", &[], "").await;
    assert_eq!(answer.header("cache-control"), "no-store");
    let lease = answer.lease();
    let request_id = answer.header("x-request-id");
    let id = lease["leaseId"].as_str().unwrap();
    assert!(
        id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{id}"
    );
    let time = |field: &str| {
        lease[field]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .unwrap()
    };
    let told = time("expiresAt").duration_since(time("createdAt"));
    assert_eq!(
        told.as_millis(),
        95_000,
        "five seconds before the ttl that is held"
    );
    let mut rest = lease.clone();
    for field in ["leaseId", "createdAt", "expiresAt"] {
        rest.as_object_mut().unwrap().remove(field);
    }
    let wanted = json!({
        "email": "a+b@x", "alias": accounts_fetcher::Account::new("a+b@x", 1).alias,
        "state": "reserved", "kind": "pick", "maxJobs": 3, "inFlight": 1, "taskId": null,
        "mark": null, "operation": null, "client": null, "requestId": request_id,
    });
    assert_eq!(rest, wanted);
}

#[tokio::test]
async fn takes_its_parameters_from_the_query_or_the_body() {
    let running = Running::with(&[("a+1@x", 9), ("b@x", 9)]).await;
    for query in [
        "?email=a+1@x",
        "?email=a%2B1%40x",
        "?email=A%2b1@X",
        "?exclude=b@x",
    ] {
        assert_eq!(running.pick(query).await["email"], "a+1@x", "{query}");
    }
    for body in [
        r#"{"email":"b@x"}"#,
        r#"{"exclude":["a+1@x"],"wait":"1s","ttl":"5s","dryRun":false}"#,
    ] {
        assert_eq!(
            running.post("/pick", body).await.lease()["email"],
            "b@x",
            "{body}"
        );
    }
    running
        .get("/pick?exclude=a%2B1@x&exclude=b@x")
        .await
        .assert_refused(503, "no-usable-account");
    running
        .get("/pick?email=c@x")
        .await
        .assert_refused(404, "unknown-account");
}

#[tokio::test]
async fn a_dry_run_tells_and_takes_nothing() {
    let running = Running::with(&[("a@x", 1), ("b@x", 1), ("c@x", 1)]).await;
    running
        .sim
        .set_account_error("c@x", Some("Failed to refresh session: 500"));
    running
        .until_metric(&state_of("c@x", "error"), |value| value == 1.0)
        .await;
    running.pick("?email=a@x").await;
    let answer = running.get("/pick?dryRun=true").await.json();
    let wanted = json!({
        "eligible": ["b@x"],
        "accounts": [
            {"email": "a@x", "state": "full", "reason": "every slot is in use"},
            {"email": "b@x", "state": "available", "reason": null},
            {"email": "c@x", "state": "error", "reason": "Failed to refresh session: 500"},
        ],
    });
    assert_eq!(answer, wanted);
    assert_eq!(running.held().await, 1);
    for query in ["exclude=b@x", "email=a@x"] {
        let answer = running.get(&format!("/pick?dryRun=true&{query}")).await;
        assert_eq!(answer.json()["eligible"], json!([]));
        let reason = answer.json()["accounts"][1]["reason"].clone();
        assert_eq!(reason, "this call asks for another one, or excludes it");
    }
}

#[tokio::test]
async fn says_when_no_account_is_usable() {
    let running = Running::with(&[("a@x", 1)]).await;
    running.post("/accounts/a@x/drain", "").await;
    running
        .get("/pick")
        .await
        .assert_refused(503, "no-usable-account");
    running
        .get("/pick?email=a@x&wait=10s")
        .await
        .assert_refused(503, "no-usable-account");
    running
        .get("/readyz")
        .await
        .assert_refused(503, "no-usable-account");
}

#[tokio::test]
async fn counts_every_end_of_a_pick() {
    let running = Running::with(&[("a@x", 1)]).await;
    running.pick("").await;
    running.get("/pick").await;
    running.get("/pick?email=b@x").await;
    let picks = async |result: &str| {
        running
            .metric(&format!(
                r#"kling_balancer_picks_total{{result="{result}"}}"#
            ))
            .await
    };
    assert_eq!(picks("granted").await, 1.0);
    assert_eq!(picks("saturated").await, 1.0);
    assert_eq!(picks("unknown-account").await, 1.0);
    assert_eq!(picks("queue-full").await, 0.0, "there from the start");
    assert_eq!(
        running
            .metric("kling_balancer_pick_wait_seconds_count")
            .await,
        1.0
    );
}

pub(crate) fn state_of(email: &str, state: &str) -> String {
    let alias = accounts_fetcher::Account::new(email, 1).alias;
    format!(r#"kling_balancer_account_state{{account="{alias}",state="{state}"}}"#)
}
