//! `Idempotency-Key` on `/pick`.

use std::sync::Arc;

use harness::{Answer, Running};
use http::Method;

async fn pick(running: &Running, method: Method, path: &str, key: &str) -> Answer {
    running
        .send(method, path, &[("idempotency-key", key)], "")
        .await
}

#[tokio::test]
async fn a_key_returns_its_lease_while_it_is_held() {
    let running = Running::with(&[("a@x", 5)]).await;
    let first = pick(&running, Method::POST, "/pick", "k1").await.lease();
    for key in ["k1", "\"k1\""] {
        let again = pick(&running, Method::POST, "/pick", key).await.lease();
        assert_eq!(again["leaseId"], first["leaseId"], "bare or quoted");
    }
    assert_eq!(running.held().await, 1);
    running.release(&first).await;
    let fresh = pick(&running, Method::POST, "/pick", "k1").await.lease();
    assert_ne!(fresh["leaseId"], first["leaseId"]);
}

#[tokio::test]
async fn another_request_with_the_key_is_told_so() {
    let running = Running::with(&[("a@x", 5)]).await;
    pick(&running, Method::POST, "/pick", "k").await.lease();
    pick(&running, Method::POST, "/pick?ttl=5s", "k")
        .await
        .assert_refused(422, "key-reused");
    pick(&running, Method::GET, "/pick", "k").await.lease();
    assert_eq!(running.held().await, 2, "another method is another scope");
}

#[tokio::test]
async fn keys_of_different_clients_are_apart() {
    let settings = [(
        "AUTH__TOKENS",
        r#"["first-client-token", "second-client-token"]"#,
    )];
    let running = Running::configured(&[("a@x", 5)], &settings).await;
    let mut leases = Vec::new();
    for token in ["Bearer first-client-token", "Bearer second-client-token"] {
        let headers = [("idempotency-key", "k"), ("authorization", token)];
        leases.push(
            running
                .send(Method::POST, "/pick", &headers, "")
                .await
                .lease()["leaseId"]
                .clone(),
        );
    }
    assert_ne!(leases[0], leases[1]);
}

#[tokio::test]
async fn a_call_under_way_holds_its_key_and_a_refusal_frees_it() {
    let running = Arc::new(Running::with(&[("a@x", 1)]).await);
    let lease = running.pick("").await;
    pick(&running, Method::POST, "/pick", "k")
        .await
        .assert_refused(429, "saturated");
    let waiter = {
        let running = Arc::clone(&running);
        tokio::spawn(async move { pick(&running, Method::POST, "/pick?wait=60s", "k").await })
    };
    running
        .until_metric("kling_balancer_waiters", |count| count == 1.0)
        .await;
    pick(&running, Method::POST, "/pick?wait=60s", "k")
        .await
        .assert_refused(409, "key-in-use");
    pick(&running, Method::POST, "/pick?wait=61s", "k")
        .await
        .assert_refused(422, "key-reused");
    running.release(&lease).await;
    let granted = waiter.await.unwrap().lease();
    let again = pick(&running, Method::POST, "/pick?wait=60s", "k")
        .await
        .lease();
    assert_eq!(again["leaseId"], granted["leaseId"]);
}

#[tokio::test]
async fn a_hundred_calls_at_once_with_one_key_take_one_slot() {
    let running = Arc::new(Running::with(&[("a@x", 50)]).await);
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let running = Arc::clone(&running);
            tokio::spawn(async move { pick(&running, Method::POST, "/pick", "k").await })
        })
        .collect();
    let mut ids = std::collections::BTreeSet::new();
    for call in calls {
        let answer = call.await.unwrap();
        if answer.status.as_u16() == 409 {
            answer.assert_refused(409, "key-in-use");
        } else {
            ids.insert(answer.lease()["leaseId"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(ids.len(), 1);
    assert_eq!(running.held().await, 1);
}

#[tokio::test]
async fn odd_keys_are_refused() {
    let running = Running::with(&[("a@x", 1)]).await;
    let long = "k".repeat(256);
    for key in ["", "\"\"", "two words", &long] {
        let answer = pick(&running, Method::POST, "/pick", key).await;
        answer.assert_refused(400, "bad-request");
        assert!(answer.text.contains("Idempotency-Key"), "{answer:?}");
    }
    let twice = [("idempotency-key", "a"), ("idempotency-key", "b")];
    running
        .send(Method::POST, "/pick", &twice, "")
        .await
        .assert_refused(400, "bad-request");
    assert_eq!(running.held().await, 0);
}
