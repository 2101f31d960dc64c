//! What a client says counts, however it is spelled.

use harness::{Running, manual};
use http::Method;

use super::client::{JOB, JSON, PROMPT, exchange, ready, task_path};

async fn sidecar(accounts: &[(&str, u32)]) -> Running {
    ready(manual(accounts).start().await.unwrap(), &[]).await
}

#[tokio::test]
async fn a_cap_of_the_call_is_a_whole_number_however_it_is_spelled() {
    for cap in ["2", "\"2\"", "2.0", "2e0", "\" 2 \"", "\"2.0\""] {
        let running = sidecar(&[("a@x", 5), ("b@x", 5)]).await;
        let body = format!(r#"{{"prompt":"a boat","maxJobs":{cap}}}"#);
        let mut statuses = Vec::new();
        for _ in 0..5 {
            let answer = exchange(running.addr, Method::POST, JOB, &[JSON], body.clone()).await;
            statuses.push(answer.status.as_u16());
        }
        assert_eq!(statuses, [200, 200, 200, 200, 429], "{cap}");
        let audit = running.sim.audit();
        assert_eq!((audit.over_limit_ours(), audit.submission_count), (0, 4));
    }
}

#[tokio::test]
async fn a_plus_sign_in_an_email_reaches_the_upstream_as_one() {
    let running = sidecar(&[("al+ice@x", 2), ("b@x", 2)]).await;
    let id = running.sim.submit_directly("al+ice@x", 1)[0].get();
    for email in ["al+ice@x", "al%2Bice@x", "AL+ice%40x"] {
        let path = format!("{}?email={email}", task_path(id));
        let answer = exchange(running.addr, Method::GET, &path, &[], "").await;
        assert_eq!(answer.status, 200, "{email}: {answer:?}");
        let requests = running.sim.requests();
        let query = requests.last().unwrap().head.query.clone().unwrap();
        assert!(
            query.to_lowercase().contains("al%2bice"),
            "{email}: {query}"
        );
    }
}

#[tokio::test]
async fn a_byte_order_mark_in_front_of_json_is_ignored() {
    let running = sidecar(&[("a@x", 2), ("b@x", 2)]).await;
    for body in [PROMPT, r#"{"prompt":"a boat","email":"a@x"}"#] {
        let body = format!("\u{feff}{body}");
        let answer = exchange(running.addr, Method::POST, JOB, &[JSON], body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let submissions = running.sim.audit().submissions;
    assert!(submissions.iter().all(|it| it.body.starts_with(b"{")));
}

#[tokio::test]
async fn a_form_may_have_a_boundary_that_no_rfc_allows() {
    let running = sidecar(&[("a@x", 5), ("b@x", 5)]).await;
    let long = "b".repeat(80);
    for boundary in ["*****", "{6F9619FF-8B86}", "----Form#Boundary$12", &long] {
        let content_type = format!("multipart/form-data; boundary={boundary}");
        let head = "Content-Disposition: form-data; name=\"prompt\"";
        let body = format!("--{boundary}\r\n{head}\r\n\r\na boat\r\n--{boundary}--\r\n");
        let headers = [("content-type", content_type.as_str())];
        let answer = exchange(running.addr, Method::POST, JOB, &headers, body).await;
        assert_eq!(answer.status, 200, "{boundary}: {answer:?}");
        let submissions = running.sim.audit().submissions;
        let email = submissions.last().unwrap().email.as_deref();
        assert_eq!(email, Some(answer.header("x-kling-account")), "{boundary}");
    }
}

#[tokio::test]
async fn a_key_belongs_to_the_operation_however_its_path_is_spelled() {
    let running = sidecar(&[("a@x", 5)]).await;
    let headers = [JSON, ("idempotency-key", "k")];
    let slashed = format!("{JOB}/");
    let encoded = JOB.replace("text2video", "%74ext2video");
    let doubled = JOB.replace("/videos", "//videos");
    for path in [JOB, &slashed, &encoded, &doubled] {
        let answer = exchange(running.addr, Method::POST, path, &headers, PROMPT).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
    }
    assert_eq!(running.sim.audit().submission_count, 1);
}

#[tokio::test]
async fn slashes_in_a_row_count_as_one() {
    let running = sidecar(&[("a@x", 5), ("b@x", 5)]).await;
    let spelled = [
        "/v1/kling//videos/text2video",
        "/v1/kling/videos//text2video",
        "//v1//kling///videos/text2video//",
    ];
    let headers = [JSON, ("x-kling-email", "ignore")];
    let body = r#"{"prompt":"a boat","email":"a@x"}"#;
    for (submitted, path) in (1..).zip(spelled) {
        let answer = exchange(running.addr, Method::POST, path, &headers, body).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert_eq!(running.sim.audit().submission_count, submitted);
        assert_eq!(running.held().await, submitted, "a job start takes a slot");
    }
    let submissions = running.sim.audit().submissions;
    let seen: Vec<_> = submissions.iter().map(|it| it.head.path.as_str()).collect();
    assert_eq!(
        seen,
        [
            "/v1/kling//videos/text2video",
            "/v1/kling/videos//text2video",
            "/v1/kling///videos/text2video//",
        ],
        "what follows our prefix is passed on as it came"
    );

    let id = running.sim.submit_directly("b@x", 1)[0].get();
    let path = task_path(id).replace("/tasks", "//tasks");
    let answer = exchange(running.addr, Method::GET, &path, &[], "").await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("x-kling-account")),
        (200, "b@x")
    );
    let other = running.get("/v1/klingtasks/1").await;
    other.assert_refused(404, "no-route");
}
