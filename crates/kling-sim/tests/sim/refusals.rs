//! Each refusal has its status, its form and its words.

use kling_sim::{JobDuration, Sim};
use serde_json::json;

use crate::client::{call_raw, get, open, read, submit};

async fn sim(accounts: &[&str]) -> Sim {
    let builder = Sim::builder().job_duration(JobDuration::Manual);
    let builder = accounts
        .iter()
        .fold(builder, |builder, email| builder.account(*email, 1));
    builder.start().await.unwrap()
}

#[tokio::test]
async fn a_wrong_or_missing_token_is_unauthorized() {
    let sim = sim(&["a@x"]).await;
    for head in [
        "",
        "Authorization: Bearer user:2-sim\r\n",
        "Authorization: user:1-sim\r\n",
    ] {
        for path in ["/v1/kling/accounts", "/v1/kling/no-such-thing"] {
            let answer = call_raw(&sim, "GET", path, head).await;
            assert_eq!(answer.status, 401);
            assert_eq!(answer.json(), json!({"error": "Unauthorized", "code": 401}));
        }
    }
    assert_eq!(sim.list_requests().seen, 0);
}

#[tokio::test]
async fn a_token_without_accounts_is_told_so_in_plain_text() {
    let sim = sim(&[]).await;
    let answer = get(&sim, "/accounts").await;
    assert_eq!(answer.status, 404);
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    let expected = "Configuration not found. To create configuration use POST /accounts.";
    assert_eq!(answer.text(), expected);
}

#[tokio::test]
async fn an_unknown_route_or_method_is_a_json_404() {
    let sim = sim(&["a@x"]).await;
    for (method, path) in [
        ("GET", "/nothing"),
        ("POST", "/videos/none"),
        ("PUT", "/accounts"),
    ] {
        let answer = read(open(&sim, method, path, "").await).await;
        assert_eq!(answer.status, 404);
        assert_eq!(
            answer.json(),
            json!({"error": "No such operation", "code": 404})
        );
    }
    assert_eq!(call_raw(&sim, "GET", "/elsewhere", "").await.status, 404);
}

#[tokio::test]
async fn several_accounts_need_an_email_and_one_does_not() {
    let several = sim(&["a@x", "b@x"]).await;
    let refused = submit(&several, &json!({"prompt": "p"})).await;
    assert_eq!(refused.status, 400);
    assert_eq!(refused.json()["code"], 400);
    assert!(refused.json()["error"].as_str().unwrap().contains("email"));
    assert_eq!(get(&several, "/tasks/1").await.status, 400);

    let one = sim(&["a@x"]).await;
    let started = submit(&one, &json!({"prompt": "p"})).await;
    assert_eq!(started.status, 200);
    let task_path = format!("/tasks/{}", started.json()["task"]["id"]);
    assert_eq!(get(&one, &task_path).await.status, 200);
}

#[tokio::test]
async fn an_unknown_account_is_told_so_in_plain_text() {
    let sim = sim(&["a@x"]).await;
    let refused = submit(&sim, &json!({"prompt": "p", "email": "nobody@x"})).await;
    assert_eq!(refused.status, 404);
    assert!(
        refused
            .text()
            .starts_with("Account configuration not found. ")
    );
    assert_eq!(get(&sim, "/accounts/nobody@x").await.status, 404);
}

#[tokio::test]
async fn an_account_in_error_answers_596_until_it_recovers() {
    let sim = sim(&["a@x"]).await;
    assert!(sim.set_account_error("a@x", Some("Failed to refresh session: 500")));
    let refused = submit(&sim, &json!({"prompt": "p"})).await;
    assert_eq!(refused.status, 596);
    let expected = "Account a@x in error state: Failed to refresh session: 500";
    assert_eq!(refused.json(), json!({"error": expected, "code": 596}));
    assert!(sim.set_account_error("a@x", None));
    assert_eq!(submit(&sim, &json!({"prompt": "p"})).await.status, 200);
}

#[tokio::test]
async fn bad_bodies_are_refused_and_recorded_byte_for_byte() {
    let sim = sim(&["a@x"]).await;
    for body in ["prompt=p", "", "[]", r#"{"prompt":""}"#] {
        let answer = read(open(&sim, "POST", "/videos/text2video", body).await).await;
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (400, &json!(400)),
            "{body}"
        );
        assert_eq!(sim.audit().submissions.last().unwrap().body, body);
    }
    assert_eq!(sim.audit().submission_count, 4);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_it_is_sent() {
    let sim = sim(&["a@x"]).await;
    let head = format!(
        "Authorization: Bearer {}\r\nContent-Length: 16777217\r\n",
        sim.token()
    );
    let answer = call_raw(&sim, "POST", "/v1/kling/videos/text2video", &head).await;
    assert_eq!(answer.status, 413);
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(sim.audit().submission_count, 0);
}

#[tokio::test]
async fn a_task_is_unknown_to_every_account_but_its_own() {
    let sim = sim(&["a@x", "b@x"]).await;
    let started = submit(&sim, &json!({"prompt": "p", "email": "a@x"})).await;
    let id = started.json()["task"]["id"].clone();
    let refused = get(&sim, &format!("/tasks/{id}?email=b@x")).await;
    assert_eq!(refused.status, 404);
    assert_eq!(
        refused.json(),
        json!({"error": format!("No works found for task {id}")})
    );
    assert_eq!(
        get(&sim, &format!("/tasks/{id}?email=a@x")).await.status,
        200
    );
    let invalid = get(&sim, "/tasks/12x?email=a@x").await;
    assert_eq!(
        (invalid.status, invalid.json()),
        (400, json!({"error": "Invalid task_id parameter"}))
    );
}
