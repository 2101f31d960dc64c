//! `/leases`: listing, renewing, binding, giving back.

use harness::Running;
use http::{Method, StatusCode};
use serde_json::{Value, json};

fn path_of(lease: &Value) -> String {
    format!("/leases/{}", lease["leaseId"].as_str().unwrap())
}

#[tokio::test]
async fn lists_who_holds_what() {
    let running = Running::with(&[("a@x", 2)]).await;
    assert_eq!(running.get("/leases").await.json(), json!({"leases": []}));
    let first = running.pick("").await;
    let second = running.pick("").await;
    let listed = running.get("/leases").await.json();
    let ids: Vec<_> = listed["leases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|lease| &lease["leaseId"])
        .collect();
    assert_eq!(ids, [&first["leaseId"], &second["leaseId"]], "oldest first");
    let one = running.get(&path_of(&first)).await.json();
    assert_eq!(
        (&one["email"], &one["inFlight"]),
        (&json!("a@x"), &json!(2))
    );
}

#[tokio::test]
async fn a_release_returns_the_slot_once() {
    let running = Running::with(&[("a@x", 2)]).await;
    let lease = running.pick("").await;
    running.pick("").await;
    assert_eq!(
        running.delete(&path_of(&lease)).await.status,
        StatusCode::NO_CONTENT
    );
    running
        .delete(&path_of(&lease))
        .await
        .assert_refused(404, "unknown-lease");
    assert_eq!(running.held().await, 1, "the other one is untouched");
    running
        .get(&path_of(&lease))
        .await
        .assert_refused(404, "unknown-lease");
    running
        .put(&path_of(&lease), r#"{"ttl":"5s"}"#)
        .await
        .assert_refused(404, "unknown-lease");
    running
        .delete("/leases/nonsense")
        .await
        .assert_refused(404, "unknown-lease");
}

#[tokio::test]
async fn a_renewal_moves_the_end() {
    let running = Running::with(&[("a@x", 1)]).await;
    let lease = running.pick("?ttl=10s").await;
    let renewed = running
        .put(&path_of(&lease), r#"{"ttl":"20m"}"#)
        .await
        .lease();
    let time = |lease: &Value, field: &str| {
        lease[field]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .unwrap()
    };
    assert_eq!(time(&renewed, "createdAt"), time(&lease, "createdAt"));
    let told = time(&renewed, "expiresAt").duration_since(time(&lease, "createdAt"));
    assert!(told.as_secs() >= 20 * 60 - 5, "{told:?}");
}

#[tokio::test]
async fn a_bound_lease_keeps_its_digits_and_lasts_as_long_as_a_job_may() {
    let running = Running::with(&[("a@x", 9)]).await;
    for (sent, told) in [
        (r#"{"taskId":123}"#, "123"),
        (r#"{"taskId":"124"}"#, "124"),
        (
            r#"{"taskId":900719925474099312345}"#,
            "900719925474099312345",
        ),
        (r#"{"taskId":-7,"ttl":"5s"}"#, "-7"),
    ] {
        let lease = running.pick("?ttl=1s").await;
        let bound = running.put(&path_of(&lease), sent).await.lease();
        assert_eq!(
            (&bound["state"], &bound["taskId"]),
            (&json!("bound"), &json!(told)),
            "{sent}"
        );
        assert!(bound["expiresAt"].as_str() > lease["expiresAt"].as_str());
    }
    let lease = running.pick("").await;
    running
        .put(&path_of(&lease), r#"{"taskId":123}"#)
        .await
        .assert_refused(400, "bad-request");
    for taken in running.get("/leases").await.json()["leases"]
        .as_array()
        .unwrap()
    {
        running.release(taken).await;
    }
    assert_eq!(running.held().await, 0);
}

#[tokio::test]
async fn a_lease_may_be_read_but_not_patched() {
    let running = Running::with(&[("a@x", 1)]).await;
    let lease = running.pick("").await;
    let answer = running.send(Method::PATCH, &path_of(&lease), &[], "").await;
    answer.assert_refused(405, "method-not-allowed");
    assert_eq!(answer.header("allow"), "GET, HEAD, PUT, DELETE");
}

/// The e-mails or ids of a page, and where the next one begins.
pub(crate) async fn page(running: &Running, path: &str) -> (Vec<String>, Option<String>) {
    let answer = running.get(path).await.json();
    let (list, name) = match answer["accounts"].as_array() {
        Some(accounts) => (accounts, "email"),
        None => (answer["leases"].as_array().unwrap(), "leaseId"),
    };
    let names = list
        .iter()
        .map(|row| row[name].as_str().unwrap().to_owned());
    (names.collect(), answer["next"].as_str().map(str::to_owned))
}

#[tokio::test]
async fn pages_show_each_lease_once_whatever_ends_between_them() {
    let running = Running::with(&[("a@x", 9)]).await;
    let mut leases = Vec::new();
    for _ in 0..5 {
        leases.push(running.pick("").await);
    }
    let ids: Vec<_> = leases
        .iter()
        .map(|it| it["leaseId"].as_str().unwrap())
        .collect();
    let (first, next) = page(&running, "/leases?limit=2").await;
    assert_eq!(first, ids[..2]);
    // The next page begins behind a lease that has ended.
    for ended in [1, 2] {
        running.release(&leases[ended]).await;
    }
    let path = format!("/leases?limit=2&after={}", next.unwrap());
    let (second, next) = page(&running, &path).await;
    assert_eq!(
        (&second[..], next),
        (&[ids[3].to_owned(), ids[4].to_owned()][..], None)
    );
    let answer = running.get("/leases?limit=3").await.json();
    assert_eq!(answer["next"], Value::Null, "three are left");
    let rest = format!("/leases?after={}", path.rsplit('=').next().unwrap());
    assert_eq!(
        page(&running, &rest).await.0,
        second,
        "without a limit: all behind"
    );
}

#[tokio::test]
async fn a_long_list_comes_whole_and_a_short_one_with_its_length() {
    let running = Running::with(&[("a@x", 500)]).await;
    let mut ids = Vec::new();
    for count in 1..=500 {
        let lease = running.pick("").await;
        ids.push(lease["leaseId"].as_str().unwrap().to_owned());
        if count == 10 {
            let short = running.get("/leases").await;
            assert_eq!(short.header("content-length"), short.text.len().to_string());
        }
    }
    let (listed, next) = page(&running, "/leases").await;
    assert_eq!((listed, next), (ids, None));
    let head = running.send(Method::HEAD, "/leases", &[], "").await;
    assert_eq!((head.status, &*head.text), (StatusCode::OK, ""));
}
