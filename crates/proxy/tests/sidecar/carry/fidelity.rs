//! The upstream receives exactly what the client sent, except for the e-mail.

use std::str;

use bytes::Bytes;
use harness::Running;
use http::{HeaderMap, Method};
use kling_sim::{Head, JobDuration, Sim};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::client::{JOB, JSON, drawn_seed, exchange, leases, ready, start_job, task_id};

/// An e-mail with every character that a query, a header, JSON or a form must escape.
const ODD: &str = "o'dd+tag%20&=#?\"\\/é@exämple.com";
/// The same in a query: all but unreserved characters percent-encoded.
const ODD_IN_QUERY: &str = "o%27dd%2Btag%2520%26%3D%23%3F%22%5C%2F%C3%A9%40ex%C3%A4mple.com";
/// The same in JSON.
const ODD_IN_JSON: &str = r#"o'dd+tag%20&=#?\"\\/é@exämple.com"#;

/// A sidecar that puts in an e-mail only: marks are in `marks.rs`.
async fn odd() -> Running {
    let sim = Sim::builder().account(ODD, 50);
    let sim = sim.job_duration(JobDuration::Manual).start().await.unwrap();
    ready(sim, &[("FORWARD__MARK", "off")]).await
}

/// The newest submission, as the simulator received it.
#[track_caller]
fn received(running: &Running) -> (Head, Bytes) {
    let submission = running.sim.audit().submissions.pop().unwrap();
    (submission.head, submission.body)
}

/// Starts a job and returns what the upstream received.
async fn passed(running: &Running, path: &str, header: (&str, &str), body: &[u8]) -> (Head, Bytes) {
    let body = Bytes::copy_from_slice(body);
    exchange(running.addr, Method::POST, path, &[header], body).await;
    received(running)
}

#[track_caller]
fn assert_same(received: &[u8], expected: &[u8]) {
    let text =
        |bytes: &[u8]| str::from_utf8(bytes).map_or_else(|_| format!("{bytes:?}"), str::to_owned);
    assert_eq!(text(received), text(expected));
}

/// Bodies that parsing and writing them again would change.
const ODD_JSON: [&str; 16] = [
    r#"{}"#,
    "  {\r\n\t}  \n",
    r#"{"prompt":"\u0061\/\u00e9\ud83d\ude00é😀"}"#,
    r#"{"z":1,"a":2,"prompt":"p","z":3}"#,
    r#"{"prompt":"p","n":123456789012345678901234567890,"f":1.10,"e":1E+2,"m":-0,"t":0.1e-7}"#,
    r#"{ "prompt" : "p" , "a" : [ 1 , 2 ] , "o" : { "email" : "inner@x" , "x" : null } }"#,
    r#"{"list":[{"email":"inner@x"},{"email":"more@x"}],"prompt":"p"}"#,
    r#"{"prompt":"{\"email\":\"a@x\"}","email ":"x","Email":"y","EMAIL":7}"#,
    "{\"prompt\":\"p\",\n\n\n\"x\":true}\n\n",
    r#"{"prompt":"\\\"","x":"\\"}"#,
    r#"{"":0,"prompt":""}"#,
    r#"{"prompt":"\ud800","\udfff":1}"#,
    r#"{"maxJobs":50,"replyRef":"r\t1","replyUrl":"https:\/\/h.example\/cb?a=1&b=2","prompt":"p"}"#,
    r#"{"prompt":"p","image":"data:image/png;base64,iVBORw0KGgo="}"#,
    r#"{"a":[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]],"prompt":"p"}"#,
    "{\"prompt\":\"\u{2028}\u{2029}\u{feff}\u{7f}\"}",
];

#[tokio::test]
async fn json_differs_by_the_email_alone() {
    let running = odd().await;
    for body in ODD_JSON {
        let (head, received) = passed(&running, JOB, JSON, body.as_bytes()).await;
        let brace = body.find('{').unwrap() + 1;
        let is_empty = body[brace..].trim_start().starts_with('}');
        let comma = if is_empty { "" } else { "," };
        let email = format!(r#""email":"{ODD_IN_JSON}"{comma}"#);
        let expected = [&body[..brace], &email, &body[brace..]].concat();
        assert_same(&received, expected.as_bytes());
        assert_eq!(head.query, None);
        assert_eq!(head.headers["content-length"], expected.len().to_string());
        assert_eq!(head.headers["content-type"], "application/json");
    }
}

#[tokio::test]
async fn json_with_the_clients_own_email_is_untouched() {
    let running = odd().await;
    for body in [
        format!(r#"{{"prompt":"p", "email" : "{ODD_IN_JSON}" , "n": 1.0}}"#),
        r#"{"\u0065mail":"o'dd+tag%20&=#?\"\\\/\u00e9@ex\u00e4mple.com","prompt":"p"}"#.to_owned(),
    ] {
        let (head, received) = passed(&running, JOB, JSON, body.as_bytes()).await;
        assert_same(&received, body.as_bytes());
        assert_eq!(head.query, None);
    }
    assert_eq!(
        leases(&running).await.len(),
        2,
        "both took a slot of the account"
    );
}

#[tokio::test]
async fn an_email_in_place_of_an_empty_one_leaves_the_rest() {
    let running = odd().await;
    for empty in [r#""""#, "null"] {
        let before = "{\"prompt\" :\t\"p\",\n \"email\"  :  ";
        let after = " ,\"z\":[1.50, 2]}";
        let body = format!("{before}{empty}{after}");
        let (_, received) = passed(&running, JOB, JSON, body.as_bytes()).await;
        let expected = format!("{before}\"{ODD_IN_JSON}\"{after}");
        assert_same(&received, expected.as_bytes());
    }
}

/// A part with a name, further header lines and a value.
fn part(boundary: &str, name: &str, lines: &str, value: &[u8]) -> Vec<u8> {
    let head =
        format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"{lines}\r\n\r\n");
    [head.as_bytes(), value, b"\r\n"].concat()
}

#[tokio::test]
async fn a_form_differs_by_the_email_alone() {
    let running = odd().await;
    let all_bytes: Vec<u8> = (0..=255).collect();
    for (boundary, content_type) in [
        ("x", "multipart/form-data; boundary=x"),
        (
            "----WebKit7MA4YWxkTrZu0gW",
            "multipart/form-data; boundary=----WebKit7MA4YWxkTrZu0gW",
        ),
        (
            "a b:c?d=e",
            "multipart/form-data; charset=utf-8; boundary=\"a b:c?d=e\"",
        ),
        (
            "'()+_,-./:=?",
            "multipart/form-data;boundary=\"'()+_,-./:=?\"",
        ),
    ] {
        let file = "; filename=\"email\"\r\nContent-Type: image/png\r\nX-More: email";
        let shorter = &boundary[..boundary.len() - 1];
        let like_boundary = format!("\r\n --{boundary}\r\nx--{boundary}\r\n--{shorter}\r\n");
        let body = [
            part(boundary, "prompt", "", b"a boat"),
            part(boundary, "image", file, &all_bytes),
            part(boundary, "text", "", like_boundary.as_bytes()),
            part(boundary, "lines", "", b"\r\n\n\r\r\n--\r\n"),
            part(boundary, "emails", "", b"inner@x"),
            part(boundary, "", "", b""),
            format!("--{boundary}--\r\n").into_bytes(),
        ]
        .concat();
        let header = ("content-type", content_type);
        let (head, received) = passed(&running, JOB, header, &body).await;
        // Without the part of the e-mail, the body equals the one that the client sent.
        let email = part(boundary, "email", "", ODD.as_bytes());
        let at = find(&received, &email).expect("a part of its own");
        let rest = [&received[..at], &received[at + email.len()..]].concat();
        assert!(rest == body, "{boundary}");
        assert_eq!(head.query, None);
        assert_eq!(head.headers["content-type"], content_type, "as it came");
        assert_eq!(head.headers["content-length"], received.len().to_string());
        assert_eq!(
            leases(&running).await.len(),
            running.sim.executing(ODD) as usize
        );
    }
    assert_eq!(
        running.sim.executing(ODD),
        4,
        "the upstream could read them all"
    );
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

#[tokio::test]
async fn random_binary_parts_pass_untouched() {
    let seed = drawn_seed();
    let mut rng = SmallRng::seed_from_u64(seed);
    let running = odd().await;
    for _ in 0..20 {
        let value: Vec<u8> = (0..rng.random_range(0..5000))
            // Mostly bytes that can begin a boundary.
            .map(|_| match rng.random_range(0..4) {
                0 => rng.random(),
                n => b"\r\n-"[n - 1],
            })
            .collect();
        let body = [
            part("Boundary", "prompt", "", b"p"),
            part("Boundary", "image", "", &value),
            b"--Boundary--".to_vec(),
        ];
        let header = ("content-type", "multipart/form-data; boundary=Boundary");
        let (_, received) = passed(&running, JOB, header, &body.concat()).await;
        let email = part("Boundary", "email", "", ODD.as_bytes());
        let at = find(&received, &email).expect("a part of its own");
        let rest = [&received[..at], &received[at + email.len()..]].concat();
        assert!(rest == body.concat());
    }
}

#[tokio::test]
async fn an_urlencoded_body_gets_the_email_as_its_last_field() {
    let running = odd().await;
    let form = ("content-type", "application/x-www-form-urlencoded");
    let body = b"prompt=a+boat&email2=x&e=%C3%A9";
    for query in ["", "?a=1&b=%2F+%20&b=2", "?email=&z", "?Email=x&xemail=y"] {
        let (head, received) = passed(&running, &format!("{JOB}{query}"), form, body).await;
        assert_eq!(head.query.as_deref(), query.strip_prefix('?'));
        let expected = [&body[..], b"&email=", ODD_IN_QUERY.as_bytes()].concat();
        assert_same(&received, &expected);
    }
}

#[tokio::test]
async fn a_json_object_is_one_whatever_its_type_says() {
    let running = odd().await;
    for media in ["text/plain;charset=UTF-8", "text/json", "application/jsonx"] {
        let (head, received) = passed(&running, JOB, ("content-type", media), b"{}").await;
        assert_same(
            &received,
            format!(r#"{{"email":"{ODD_IN_JSON}"}}"#).as_bytes(),
        );
        assert_eq!(head.headers["content-type"], media);
    }
    exchange(running.addr, Method::POST, JOB, &[], "{}").await;
    let (head, received) = received(&running);
    assert_same(
        &received,
        format!(r#"{{"email":"{ODD_IN_JSON}"}}"#).as_bytes(),
    );
    assert!(!head.headers.contains_key("content-type"));
}

#[tokio::test]
async fn an_upload_differs_by_its_query_alone() {
    let running = odd().await;
    let bytes: Vec<u8> = (0..=255).cycle().take(16 * 1024).collect();
    for query in ["", "?fileName=%C3%A9+x.png"] {
        let path = format!("/v1/kling/assets/{query}");
        let png = [("content-type", "image/png")];
        let answer = exchange(running.addr, Method::POST, &path, &png, bytes.clone()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let seen = running.sim.requests().pop().unwrap();
        assert!(
            seen.body == bytes && seen.is_complete,
            "{}",
            seen.byte_count
        );
        assert_eq!(seen.head.headers["content-length"], bytes.len().to_string());
        assert_eq!(seen.head.path, "/v1/kling/assets/");
        let before = query.strip_prefix('?').map(|query| format!("{query}&"));
        let expected = format!("{}email={ODD_IN_QUERY}", before.unwrap_or_default());
        assert_eq!(seen.head.query, Some(expected));
    }
}

#[tokio::test]
async fn a_creating_call_gets_the_email_as_a_job_start_does() {
    let running = odd().await;
    let body = part("B", "name", "", b"me");
    let body = [&body[..], b"--B--\r\n"].concat();
    let form = [("content-type", "multipart/form-data; boundary=B")];
    let path = "/v1/kling/avatars";
    let answer = exchange(running.addr, Method::POST, path, &form, body.clone()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    // Characters that a header cannot hold are percent-encoded, and so is the percent sign.
    assert_eq!(
        answer.header("x-kling-account"),
        r#"o'dd+tag%2520&=#?"\/%C3%A9@ex%C3%A4mple.com"#
    );
    let seen = running.sim.requests().pop().unwrap();
    let email = part("B", "email", "", ODD.as_bytes());
    assert_eq!(seen.body, [email, body].concat());
    assert_eq!(leases(&running).await.len(), 0, "it takes no slot");
}

#[tokio::test]
async fn a_job_start_in_chunks_goes_under_its_length() {
    let running = odd().await;
    let mut client = TcpStream::connect(running.addr).await.unwrap();
    let body = r#"{"prompt":"p"}"#;
    let head = format!(
        "POST {JOB} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTrailer: x-sum\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let (one, two) = body.split_at(5);
    let chunks = format!(
        "5\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\nx-sum: 1\r\n\r\n",
        two.len()
    );
    client.write_all((head + &chunks).as_bytes()).await.unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    let (head, received) = received(&running);
    let expected = format!(r#"{{"email":"{ODD_IN_JSON}","prompt":"p"}}"#);
    assert_same(&received, expected.as_bytes());
    assert_eq!(head.headers["content-length"], expected.len().to_string());
    for name in ["transfer-encoding", "trailer", "connection", "x-sum"] {
        assert!(!head.headers.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn headers_pass_but_for_what_is_between_the_client_and_us() {
    let running = odd().await;
    let sent = [
        JSON,
        ("user-agent", "client/1.0"),
        ("accept", "application/json, text/plain;q=0.5"),
        ("x-custom", "one"),
        ("x-custom", "two"),
        ("x-request-id", "mine"),
        ("idempotence", "x"),
        ("accept-encoding", "gzip, br"),
        ("authorization", "Bearer of-the-client"),
        ("cookie", "a=b"),
        ("x-kling-wait", "1s"),
        ("x-kling-anything", "x"),
        ("proxy-authorization", "Basic x"),
        ("connection", "x-hop"),
        ("x-hop", "x"),
        ("te", "trailers"),
    ];
    let body = r#"{"prompt":"p"}"#;
    exchange(running.addr, Method::POST, JOB, &sent, body).await;
    let (head, received) = received(&running);
    let mut expected = HeaderMap::new();
    for (name, value) in &sent[..7] {
        expected.append(*name, value.parse().unwrap());
    }
    // The answer must be readable, and names its job.
    expected.insert("accept-encoding", "identity".parse().unwrap());
    expected.insert("content-length", received.len().into());
    expected.insert("host", running.upstream.parse().unwrap());
    assert_eq!(head.headers, expected);
    assert_eq!(head.path, JOB);
}

#[tokio::test]
async fn paths_pass_as_they_came() {
    let running = odd().await;
    for path in [
        "/v1/kling/videos/text2video/",
        "/v1/kling/videos/text%32video",
        JOB,
    ] {
        exchange(
            running.addr,
            Method::POST,
            path,
            &[JSON],
            r#"{"prompt":"p"}"#,
        )
        .await;
        let seen = running.sim.requests().into_iter().map(|seen| seen.head);
        let submitted = running.sim.audit().submissions.into_iter();
        let mut heads = seen.chain(submitted.map(|submission| submission.head));
        assert!(heads.any(|head| head.path == path), "{path}");
    }
}

#[tokio::test]
async fn an_answer_passes_as_the_simulator_wrote_it() {
    let running = odd().await;
    let id = task_id(&start_job(&running).await);
    running.sim.finish(id);
    for path in [
        format!("/tasks/{id}"),
        "/tasks?pageSize=3".to_owned(),
        "/accounts".to_owned(),
        "/scheduler".to_owned(),
        "/scheduler/available".to_owned(),
        "/tasks/7".to_owned(),
        "/nowhere".to_owned(),
    ] {
        let path = format!("/v1/kling{path}");
        let ours = exchange(running.addr, Method::GET, &path, &[], "").await;
        let bearer = format!("Bearer {}", running.sim.token());
        let bearer = [("authorization", bearer.as_str())];
        let theirs = exchange(running.sim.addr(), Method::GET, &path, &bearer, "").await;
        assert_eq!(ours.status, theirs.status, "{path}");
        assert_same(&ours.body, &theirs.body);
        let mut headers = ours.headers;
        headers.remove("x-kling-account");
        assert_eq!(headers.remove("x-kling-attempts").unwrap(), "1");
        headers.remove("date");
        let mut expected = theirs.headers;
        expected.remove("date");
        assert_eq!(headers, expected, "{path}");
    }
}
