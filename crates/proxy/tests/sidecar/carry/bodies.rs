//! Which bodies of job starts are accepted, and which account they name.

use bytes::Bytes;
use harness::{Running, Slots, eventually};
use http::Method;
use kling_sim::{Answer, Effect, Fault, Outcome};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::client::{
    JOB, JSON, PROMPT, Raw, exchange, leases, slots, start_job, task_id, until_slots,
};

const FORM: (&str, &str) = ("content-type", "multipart/form-data; boundary=x");

fn form(parts: &[(&str, &str)]) -> String {
    let part = |(name, value): &(&str, &str)| {
        format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    parts.iter().map(part).collect::<String>() + "--x--\r\n"
}

async fn post(running: &Running, query: &str, header: (&str, &str), body: &str) -> Raw {
    let path = format!("{JOB}{query}");
    let body = Bytes::copy_from_slice(body.as_bytes());
    exchange(running.addr, Method::POST, &path, &[header], body).await
}

/// Checks that no job start was sent and no slot is held.
async fn assert_untouched(running: &Running) {
    assert_eq!(running.sim.audit().submission_count, 0);
    let is_job_start = |path: &str| path.contains("/videos/");
    let requests = running.sim.requests();
    assert!(
        !requests
            .iter()
            .any(|request| is_job_start(&request.head.path))
    );
    assert_eq!(leases(running).await.len(), 0);
}

#[tokio::test]
async fn two_emails_are_refused_wherever_they_stand() {
    let running = Running::with(&[("a@x", 9), ("b@x", 9)]).await;
    let two_parts = form(&[("prompt", "p"), ("email", "a@x"), ("email", "a@x")]);
    let one_part = form(&[("prompt", "p"), ("email", "a@x")]);
    for (query, header, body) in [
        ("", JSON, r#"{"email":"a@x","prompt":"p","email":"a@x"}"#),
        (
            "",
            JSON,
            r#"{"email":"a@x","prompt":"p","e\u006dail":"b@x"}"#,
        ),
        ("", JSON, r#"{"email":null,"email":"b@x"}"#),
        ("", FORM, two_parts.as_str()),
        ("?email=a@x", JSON, r#"{"email":"b@x"}"#),
        ("?email=a@x", FORM, one_part.as_str()),
        ("?email=a@x&email=a@x", JSON, PROMPT),
        ("?email=a@x&%65mail=b@x", JSON, PROMPT),
        ("", JSON, r#"{"email":7}"#),
        ("", JSON, r#"{"email":["a@x"]}"#),
        ("?email=%ff", JSON, PROMPT),
    ] {
        let answer = post(&running, query, header, body).await.text();
        answer.assert_refused(400, "bad-request");
        let message = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(message.starts_with("email: "), "{query} {body}: {message}");
    }
    assert_untouched(&running).await;
}

#[tokio::test]
async fn an_empty_email_counts_as_absent() {
    let settings = [("FORWARD__MARK", "off")];
    let running = Running::configured(&[("a@x", 9)], &settings).await;
    let empty_part = form(&[("prompt", "p"), ("email", "")]);
    for (query, header, body, sent) in [
        (
            "",
            JSON,
            r#"{"email":null,"prompt":"p"}"#,
            r#"{"email":"a@x","prompt":"p"}"#,
        ),
        (
            "",
            JSON,
            r#"{"prompt":"p", "email" : ""}"#,
            r#"{"prompt":"p", "email" : "a@x"}"#,
        ),
        (
            "",
            FORM,
            &empty_part,
            &form(&[("prompt", "p"), ("email", "a@x")]),
        ),
        (
            "?email=",
            JSON,
            PROMPT,
            r#"{"email":"a@x","prompt":"a boat"}"#,
        ),
    ] {
        let before = running.sim.audit().submissions.len();
        task_id(&post(&running, query, header, body).await.text());
        let submission = &running.sim.audit().submissions[before];
        assert_eq!(submission.body, sent, "{query} {body}");
        assert_eq!(submission.email.as_deref(), Some("a@x"));
    }
    assert_eq!(slots(&running, "a@x").await, Slots::held(4));
}

#[tokio::test]
async fn json_that_is_no_object_is_not_sent() {
    let running = Running::with(&[("a@x", 9)]).await;
    for body in [
        "", " ", "[]", "null", "7", "\"p\"", "{", "{}{}", "{\"a\":}", "{'a':1}", "prompt=p",
    ] {
        let answer = post(&running, "", JSON, body).await.text();
        answer.assert_refused(400, "bad-request");
        let message = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(message.starts_with("body: "), "{body}: {message}");
    }
    for body in ["", "--x", "--y\r\n\r\n--y--\r\n", "--x\r\nno end"] {
        let answer = post(&running, "", FORM, body).await.text();
        answer.assert_refused(400, "bad-request");
    }
    assert_untouched(&running).await;
}

#[tokio::test]
async fn the_account_in_a_body_counts_whatever_its_type_says() {
    let object = r#"{"prompt":"p","email":"b@x"}"#;
    for (media, body) in [
        ("text/plain;charset=UTF-8", object),
        ("text/json", object),
        ("application/octet-stream", object),
        ("", object),
        ("application/x-www-form-urlencoded", object),
        ("application/x-www-form-urlencoded", "prompt=p&email=b%40x"),
        (
            "Application/X-WWW-Form-Urlencoded; charset=utf-8",
            "prompt=p&email=b@x",
        ),
    ] {
        let running = Running::with(&[("a@x", 9), ("b@x", 2), ("c@x", 9)]).await;
        let mut statuses = Vec::new();
        for _ in 0..3 {
            let answer = post(&running, "", ("content-type", media), body).await;
            statuses.push(answer.status.as_u16());
        }
        assert_eq!(statuses, [200, 200, 429], "{media}");
        assert_eq!(running.held().await, 2);
        let audit = running.sim.audit();
        assert_eq!((audit.over_limit_ours(), audit.submission_count), (0, 2));
        for submission in audit.submissions {
            assert_eq!(submission.email.as_deref(), Some("b@x"), "{media}");
            assert_eq!(submission.head.query, None, "{media}");
        }
    }
}

#[tokio::test]
async fn a_body_that_no_reader_agrees_on_is_not_sent() {
    let running = Running::with(&[("a@x", 9)]).await;
    for (media, body) in [
        ("text/plain", ""),
        ("text/plain", "prompt=p"),
        ("", "\u{0}\u{1}{"),
        ("application/octet-stream", "[]"),
        ("multipart/mixed; boundary=x", "--x\r\n\r\np\r\n--x--\r\n"),
        ("application/json; charset=utf-7", r#"{"+AGU-mail":"a@x"}"#),
        ("text/plain; charset=\"UTF-16\"", "{}"),
        ("application/x-www-form-urlencoded", " {prompt=p"),
    ] {
        let answer = post(&running, "", ("content-type", media), body)
            .await
            .text();
        answer.assert_refused(415, "unsupported-media");
    }
    let two = [JSON, FORM];
    let answer = exchange(running.addr, Method::POST, JOB, &two, PROMPT)
        .await
        .text();
    answer.assert_refused(400, "bad-request");
    assert!(
        answer.text.contains("content-type: given twice"),
        "{answer:?}"
    );
    let twice = r#"{"email":"a@x","email":"a@x"}"#;
    for (media, body) in [
        ("text/plain", twice),
        ("application/x-www-form-urlencoded", "email=a@x&email=a@x"),
    ] {
        let answer = post(&running, "", ("content-type", media), body)
            .await
            .text();
        answer.assert_refused(400, "bad-request");
        assert!(answer.text.contains("email: given twice"), "{answer:?}");
    }
    assert_untouched(&running).await;
}

#[tokio::test]
async fn an_encoded_body_is_refused_before_it_is_read() {
    let running = Running::with(&[("a@x", 9)]).await;
    for encoding in ["gzip", "br", "identity, gzip", "x"] {
        let headers = [JSON, ("content-encoding", encoding)];
        let answer = exchange(running.addr, Method::POST, JOB, &headers, PROMPT).await;
        answer.text().assert_refused(415, "unsupported-media");
    }
    assert_untouched(&running).await;
    let headers = [JSON, ("content-encoding", "identity")];
    let answer = exchange(running.addr, Method::POST, JOB, &headers, PROMPT).await;
    task_id(&answer.text());
}

#[tokio::test]
async fn a_wait_that_is_no_duration_is_named() {
    let running = Running::with(&[("a@x", 9)]).await;
    for wait in ["", "soon", "5", "-1s", "1e9s", "99999999999h"] {
        let headers = [JSON, ("x-kling-wait", wait)];
        let answer = exchange(running.addr, Method::POST, JOB, &headers, PROMPT).await;
        let answer = answer.text();
        answer.assert_refused(400, "bad-request");
        let message = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(message.starts_with("x-kling-wait: "), "{wait}: {message}");
    }
    let headers = [JSON, ("x-kling-wait", "1s"), ("x-kling-wait", "1s")];
    let answer = exchange(running.addr, Method::POST, JOB, &headers, PROMPT).await;
    answer.text().assert_refused(400, "bad-request");
    assert_untouched(&running).await;
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_with_and_without_a_length() {
    let running = Running::configured(&[("a@x", 9)], &[("FORWARD__BODY_MAX", "1KiB")]).await;
    let of = |length: usize| {
        let rest = length - r#"{"prompt":""}"#.len();
        format!(r#"{{"prompt":"{}"}}"#, "x".repeat(rest))
    };
    let too_long = of(1025);
    let answer = post(&running, "", JSON, &too_long).await.text();
    answer.assert_refused(413, "body-too-large");
    assert!(answer.text.contains("1024 bytes"), "{answer:?}");

    let mut stream = TcpStream::connect(running.addr).await.unwrap();
    let head = format!(
        "POST {JOB} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    for piece in too_long.as_bytes().chunks(100) {
        let size = format!("{:x}\r\n", piece.len());
        let chunk = [size.as_bytes(), piece, b"\r\n"].concat();
        stream.write_all(&chunk).await.unwrap();
    }
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 413 "), "{text}");
    assert!(text.contains("body-too-large"), "{text}");
    assert_untouched(&running).await;

    task_id(&post(&running, "", JSON, &of(1024)).await.text());
}

#[tokio::test]
async fn a_path_of_the_settings_starts_jobs_too() {
    let settings = [("FORWARD__EXTRA_JOBS", r#"["/videos/new-thing"]"#)];
    let running = Running::configured(&[("a@x", 1)], &settings).await;
    let answer = Answer::new(200).body(r#"{"task":{"id":77}}"#);
    let fault = Fault::new(Effect::Answer(answer)).on("POST", "/videos/new-thing");
    running.sim.fault(fault);
    let path = "/v1/kling/videos/new-thing";
    let answer = running.post(path, r#"{"x":1}"#).await;
    assert_eq!(answer.status, 200);
    let held = leases(&running).await;
    assert_eq!(
        (&held[0]["state"], &held[0]["taskId"]),
        (&json!("bound"), &json!("77"))
    );
    running
        .post(path, "{}")
        .await
        .assert_refused(429, "saturated");
    let requests = running.sim.requests();
    let sent: Vec<_> = requests.iter().filter(|it| it.head.path == path).collect();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].body, r#"{"email":"a@x","x":1}"#);
    // The path starts jobs only if the settings say so.
    running.post("/v1/kling/videos/other-thing", "{}").await;
    let requests = running.sim.requests();
    assert_eq!(requests.last().unwrap().body, "{}");
}

#[tokio::test]
async fn an_unknown_account_is_the_upstreams_to_judge_and_the_list_is_fetched_again() {
    let settings = [("ACCOUNTS__REFRESH_INTERVAL", "1h")];
    let running = Running::configured(&[("a@x", 1)], &settings).await;
    let body = r#"{ "email":"nobody@x", "prompt":"p" }"#;
    let answer = post(&running, "", JSON, body).await;
    assert_eq!(answer.status, 404);
    assert_eq!(
        answer.body,
        "Account configuration not found. To create configuration use POST /accounts."
    );
    assert_eq!(answer.header("x-kling-account"), "nobody@x");
    assert_eq!(running.sim.audit().submissions[0].body, body);
    assert_eq!(leases(&running).await.len(), 0);

    running.sim.set_account("new@x", 1);
    let body = r#"{"email":"new@x","prompt":"p"}"#;
    task_id(&post(&running, "", JSON, body).await.text());
    assert_eq!(running.sim.audit().submissions[1].body, body);
    assert_eq!(
        leases(&running).await.len(),
        0,
        "an unknown account has no slot"
    );
    let account = eventually(async || {
        let answer = running.get("/accounts/new@x").await;
        (answer.status == 200).then(|| answer.json())
    })
    .await;
    assert_eq!(account["maxJobs"], 1);
    until_slots(&running, "new@x", Slots::foreign(1)).await;
    let second = post(&running, "", JSON, body).await.text();
    second.assert_refused(429, "saturated");
    assert_eq!(running.sim.audit().over_limit(), 0);
    task_id(&start_job(&running).await);
    assert_eq!(leases(&running).await[0]["email"], "a@x");
}

#[tokio::test]
async fn a_client_that_names_an_account_gets_that_one_in_the_lists_spelling() {
    let running = Running::with(&[("Bob@Example.com", 3), ("a@x", 9)]).await;
    for (query, header, body) in [
        (
            "",
            JSON,
            r#"{"email":"Bob@Example.com","prompt":"p"}"#.to_owned(),
        ),
        (
            "",
            JSON,
            r#"{"email":"bob@example.COM","prompt":"p"}"#.to_owned(),
        ),
        (
            "",
            FORM,
            form(&[("email", "BOB@example.com"), ("prompt", "p")]),
        ),
    ] {
        task_id(&post(&running, query, header, &body).await.text());
    }
    for submission in running.sim.audit().submissions {
        assert!(matches!(submission.outcome, Outcome::Accepted(_)));
        assert_eq!(submission.email.as_deref(), Some("Bob@Example.com"));
    }
    assert_eq!(slots(&running, "Bob@Example.com").await, Slots::held(3));
    let fourth = post(
        &running,
        "",
        JSON,
        r#"{"email":"bob@example.com","prompt":"p"}"#,
    )
    .await;
    fourth.text().assert_refused(429, "saturated");
}
