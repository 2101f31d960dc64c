//! Bad requests get a clear answer that names the wrong part, and take no slot.

use harness::{Answer, Running};
use http::Method;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[track_caller]
fn assert_names(answer: &Answer, field: &str) {
    answer.assert_refused(400, "bad-request");
    let message = answer.json()["error"].as_str().unwrap().to_owned();
    assert!(
        message.starts_with(field),
        "{message} should begin with {field}"
    );
}

#[tokio::test]
async fn bad_queries_name_the_field() {
    let running = Running::with(&[("a@x", 9)]).await;
    for (query, field) in [
        ("ttl=0", "ttl"),
        ("ttl=-1", "ttl"),
        ("ttl=1e12", "ttl"),
        ("ttl=-5s", "ttl"),
        ("ttl=", "ttl"),
        ("ttl=999ms", "ttl"),
        ("ttl=2h", "ttl"),
        ("ttl=99999999999h", "ttl"),
        ("ttl=30", "ttl"),
        ("wait=-1s", "wait"),
        ("wait=soon", "wait"),
        ("wait=5", "wait"),
        ("wait", "wait"),
        ("dryRun=maybe", "dryRun"),
        ("dryRun", "dryRun"),
        ("email=", "email"),
        ("exclude=", "exclude"),
        ("email=a@x&exclude=A@x", "exclude"),
        ("email=a@x&email=a@x", "email"),
        ("ttl=5s&ttl=5s", "ttl"),
        ("email=%ff", "email"),
        ("emial=a@x", "emial"),
        ("Email=a@x", "Email"),
        ("x", "x"),
    ] {
        assert_names(&running.get(&format!("/pick?{query}")).await, field);
    }
    let many = (0..257)
        .map(|n| format!("exclude={n}@x"))
        .collect::<Vec<_>>()
        .join("&");
    assert_names(&running.get(&format!("/pick?{many}")).await, "exclude");
    assert_eq!(running.held().await, 0);
}

#[tokio::test]
async fn bad_bodies_name_the_field() {
    let running = Running::with(&[("a@x", 9)]).await;
    for (body, field) in [
        (r#"{"ttl":0}"#, "ttl"),
        (r#"{"ttl":-1}"#, "ttl"),
        (r#"{"ttl":1e12}"#, "ttl"),
        (r#"{"ttl":"0s"}"#, "ttl"),
        (r#"{"wait":[]}"#, "wait"),
        (r#"{"email":7}"#, "email"),
        (r#"{"exclude":"a@x"}"#, "exclude"),
        (r#"{"exclude":["a@x",7]}"#, "exclude[1]"),
        (r#"{"dryRun":"true"}"#, "dryRun"),
        (r#"{"nope":1}"#, "nope"),
        (
            r#"{"email":"a@x","email":"a@x"}"#,
            "body: duplicate field `email`",
        ),
        ("[]", "body"),
        ("null", "body"),
        ("\"a@x\"", "body"),
        ("{", "body"),
        ("{} {}", "body"),
        ("{\"ttl\":NaN}", "ttl"),
    ] {
        assert_names(&running.post("/pick", body).await, field);
    }
    for (query, body, field) in [
        ("email=a@x", r#"{"email":"a@x"}"#, "email"),
        ("ttl=5s", r#"{"ttl":"5s"}"#, "ttl"),
        ("wait=5s", r#"{"wait":"5s"}"#, "wait"),
        ("exclude=b@x", r#"{"exclude":[]}"#, "exclude"),
        ("dryRun=false", r#"{"dryRun":false}"#, "dryRun"),
    ] {
        assert_names(&running.post(&format!("/pick?{query}"), body).await, field);
    }
    assert_eq!(running.held().await, 0);
}

#[tokio::test]
async fn bad_lease_updates_name_the_field_and_change_nothing() {
    let running = Running::with(&[("a@x", 1)]).await;
    let lease = running.pick("").await;
    let path = format!("/leases/{}", lease["leaseId"].as_str().unwrap());
    for (body, field) in [
        ("{}", "body"),
        ("", "body"),
        (r#"{"ttl":"0s"}"#, "ttl"),
        (r#"{"ttl":60}"#, "ttl"),
        (r#"{"taskId":""}"#, "taskId"),
        (r#"{"taskId":1.5}"#, "taskId"),
        (r#"{"taskId":1e5}"#, "taskId"),
        (r#"{"taskId":true}"#, "taskId"),
        (r#"{"taskId":"12a"}"#, "taskId"),
        (r#"{"taskId":[1]}"#, "taskId"),
        (r#"{"task_id":1}"#, "task_id"),
    ] {
        assert_names(&running.put(&path, body).await, field);
    }
    assert_eq!(running.get(&path).await.json(), lease);
}

#[tokio::test]
async fn wrong_methods_types_and_sizes_are_told() {
    let running = Running::with(&[("a@x", 9)]).await;
    for method in [
        Method::HEAD,
        Method::PUT,
        Method::DELETE,
        Method::PATCH,
        Method::OPTIONS,
    ] {
        let answer = running.send(method.clone(), "/pick", &[], "").await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("allow")),
            (405, "GET, POST"),
            "{method}"
        );
    }
    for content_type in [
        "application/x-www-form-urlencoded",
        "text/plain",
        "multipart/form-data",
        "",
    ] {
        let headers = [("content-type", content_type)];
        let answer = running.send(Method::POST, "/pick", &headers, "{}").await;
        answer.assert_refused(415, "unsupported-media");
    }
    let huge = format!(r#"{{"email":"{}"}}"#, "a".repeat(10_000_000));
    assert_refuses_a_large_body(&running, &huge).await;
    assert_eq!(running.held().await, 0);
}

/// Reads before the client has sent all, because the refusal may come that early.
async fn assert_refuses_a_large_body(running: &Running, body: &str) {
    let mut stream = TcpStream::connect(running.addr).await.unwrap();
    let head = format!(
        "POST /pick HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let mut answer = [0; 13];
    let (read, _) = tokio::join!(
        reader.read_exact(&mut answer),
        writer.write_all(body.as_bytes())
    );
    read.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413 ");
}

#[tokio::test]
async fn a_large_head_is_refused_in_our_words() {
    let running = Running::with(&[("a@x", 1)]).await;
    let names: Vec<_> = (0..150).map(|n| format!("x-{n}")).collect();
    let lines: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
    let answer = running.send(Method::GET, "/pick", &lines, "").await;
    answer.assert_refused(431, "headers-too-large");
    let long = "a".repeat(70_000);
    let answer = running
        .send(Method::GET, "/pick", &[("x-long", &long)], "")
        .await;
    answer.assert_refused(431, "headers-too-large");
    assert_eq!(running.held().await, 0);
}

#[tokio::test]
async fn a_query_nobody_reads_is_told() {
    let running = Running::with(&[("a@x", 1)]).await;
    for path in [
        "/accounts/a@x?limit=5",
        "/leases/b74021584c6bde9e7ae21fc14f3babf5?ttl=5s",
    ] {
        let answer = running.get(path).await;
        answer.assert_refused(400, "bad-request");
        assert!(answer.text.contains("takes no query"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_page_that_cannot_be_is_refused_by_the_name_of_its_field() {
    let running = Running::with(&[("a@x", 1)]).await;
    let lease = running.pick("").await["leaseId"].clone();
    let lease = lease.as_str().unwrap();
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=%2B1", "limit"),
        ("limit=", "limit"),
        ("limit=ten", "limit"),
        ("limit=99999999999999999999999", "limit"),
        ("limit=1&limit=1", "limit"),
        ("after=", "after"),
        ("after=1", "after"),
        (&format!("after={lease}"), "after"),
        (&format!("after=+1-{lease}"), "after"),
        ("after=a@x", "after"),
        ("after=l:a@x", "after"),
        ("after=l-1:a@x", "after"),
        ("email=a@x", "email"),
    ] {
        for path in ["/leases", "/accounts"] {
            let answer = running.get(&format!("{path}?{query}")).await;
            answer.assert_refused(400, "bad-request");
            let said = answer.json()["error"].as_str().unwrap().to_owned();
            assert!(said.contains(field), "{path}?{query}: {said}");
        }
    }
}

#[tokio::test]
async fn a_head_beyond_all_bounds_is_refused() {
    let running = Running::with(&[("a@x", 1)]).await;
    let mut stream = TcpStream::connect(running.addr).await.unwrap();
    let head = format!(
        "GET /pick HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
        "a".repeat(1_000_000)
    );
    let (mut reader, mut writer) = stream.split();
    let mut answer = [0; 13];
    let (read, _) = tokio::join!(
        reader.read_exact(&mut answer),
        writer.write_all(head.as_bytes())
    );
    read.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 431 ");
    assert_eq!(running.held().await, 0);
}
