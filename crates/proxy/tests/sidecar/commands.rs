//! `kling-balancer status`, `leases`, `jobs`, `events`, `drain`, `resume`, and what all commands owe a script and a
//! terminal.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use harness::{Running, within};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::program::{output, program};

async fn ask(addr: SocketAddr, args: &[&str]) -> (Option<i32>, String) {
    output(args, &[("KLB_LISTEN", &addr.to_string())]).await
}

/// A table as words, without its head.
fn rows(table: &str) -> Vec<Vec<&str>> {
    let lines = table.lines().skip(1);
    lines
        .map(|line| line.split_whitespace().collect())
        .collect()
}

#[tokio::test]
async fn an_account_is_drained_and_resumed_by_its_email_or_its_alias() {
    let running = Running::with(&[("a+1@x", 2)]).await;
    let alias = running.account("a+1@x").await["alias"]
        .as_str()
        .unwrap()
        .to_owned();
    for name in ["a+1@x", &alias] {
        let (code, said) = ask(running.addr, &["drain", name]).await;
        let expected = format!("a+1@x ({alias}) is draining, 0 of 2 slots in use\n");
        assert_eq!((code, said), (Some(0), expected));
        assert_eq!(running.account("a+1@x").await["state"], "draining");
        let (code, said) = ask(running.addr, &["resume", name, "--json"]).await;
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!((code, &said), (Some(0), &running.account("a+1@x").await));
        assert_eq!(said["state"], "available");
    }
    let (code, said) = ask(running.addr, &["drain", "b@x"]).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("unknown-account"), "{said}");
}

#[tokio::test]
async fn slots_and_calls_are_found_by_their_request_id() {
    let running = Running::with(&[("a@x", 3)]).await;
    let start = "/v1/kling/videos/text2video";
    for id in ["first", "second"] {
        let headers = [("x-request-id", id), ("content-type", "application/json")];
        let body = r#"{"prompt":"a boat"}"#;
        let started = running
            .send(http::Method::POST, start, &headers, body)
            .await;
        assert_eq!(started.status, StatusCode::OK, "{started:?}");
    }
    let (code, table) = ask(running.addr, &["leases"]).await;
    assert_eq!(code, Some(0), "{table}");
    let leases = rows(&table);
    assert_eq!(leases.len(), 2, "{table}");
    assert!(
        leases
            .iter()
            .all(|row| row[..3] == ["a@x", "bound", "forward"]),
        "{table}"
    );
    let (_, json) = ask(running.addr, &["leases", "--json"]).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    let whole = running.get("/leases").await.json();
    assert_eq!(json["leases"], whole["leases"]);

    let (code, table) = ask(running.addr, &["jobs"]).await;
    assert_eq!((code, rows(&table).len()), (Some(0), 2), "{table}");
    let (code, table) = ask(running.addr, &["jobs", "--request-id", "second"]).await;
    let jobs = rows(&table);
    assert_eq!((code, jobs.len()), (Some(0), 1), "{table}");
    let task = jobs[0][3];
    assert_eq!(jobs[0][1..3], ["/videos/text2video", "a@x"], "{table}");
    for (args, count) in [
        (["--task", task], 1),
        (["--task", "1"], 0),
        (["--key", "none"], 0),
        (["--client", "none"], 0),
        (["--since", "1h"], 2),
        (["--since", "2026-01-31T12:00:00Z"], 2),
        (["--since", "2999-01-31T12:00:00Z"], 0),
    ] {
        let (code, table) = ask(running.addr, &["jobs", args[0], args[1]]).await;
        assert_eq!(
            (code, rows(&table).len()),
            (Some(0), count),
            "{args:?}: {table}"
        );
    }
    let (code, said) = ask(running.addr, &["jobs", "--since", "yesterday"]).await;
    assert!(
        code == Some(78) && said.contains("--since: expected a time"),
        "{said}"
    );
}

#[tokio::test]
async fn the_status_fits_a_screen_and_begins_with_what_is_wrong() {
    let names: Vec<_> = (0..60).map(|n| format!("{n:02}@x")).collect();
    let accounts: Vec<_> = names.iter().map(|name| (&**name, 1)).collect();
    let running = Running::with(&accounts).await;
    for name in &names[20..50] {
        running.post(&format!("/accounts/{name}/drain"), "").await;
    }
    running.pick("?email=01@x").await;
    let (code, text) = ask(running.addr, &["status"]).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.lines().count() <= 40, "{text}");
    for said in [
        "  ready  up for ",
        "slots 1/60 in use  nothing waits",
        "safe to restart: no: ",
        "accounts: 30 draining, 1 full, 29 available",
        "20 more: see accounts",
    ] {
        assert!(text.contains(said), "no {said} in\n{text}");
    }
    assert!(!text.contains("01@x"), "it is well:\n{text}");
    let (code, json) = ask(running.addr, &["status", "--json"]).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (code, json["accounts"].as_array().unwrap().len()),
        (Some(0), 60)
    );
}

#[tokio::test]
async fn events_are_told_as_they_happen_and_once() {
    let running = Running::with(&[("a@x", 1)]).await;
    let listen = running.addr.to_string();
    let mut following = program(&["events", "--json"], &[("KLB_LISTEN", &listen)]);
    let mut following = following.spawn().unwrap();
    let mut told = BufReader::new(following.stdout.take().unwrap()).lines();
    let mut next = async |state: &str| {
        within(async {
            loop {
                let line = told.next_line().await.unwrap().expect("it goes on");
                let event: Value = serde_json::from_str(&line).unwrap();
                if event["type"] == "account-state" && event["to"] == state {
                    return event;
                }
            }
        })
        .await
    };
    running.post("/accounts/a@x/drain", "").await;
    let drained = next("draining").await;
    assert_eq!(drained["email"], "a@x");
    running.post("/accounts/a@x/resume", "").await;
    let resumed = next("available").await;
    assert!(resumed["id"].as_u64() > drained["id"].as_u64());

    let (code, text) = ask(running.addr, &["events", "--once"]).await;
    assert_eq!(code, Some(0), "{text}");
    let of_account = text.lines().filter(|line| line.contains("  account-state"));
    assert_eq!(of_account.count(), 2, "{text}");
    assert!(
        text.contains(drained["message"].as_str().unwrap()),
        "{text}"
    );
}

/// A server that gives each request, by its head, an answer of ours, and then closes the connection. `None`: it has no
/// more, and the request stays open.
async fn server(answer: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = head(&mut stream).await;
            let Some(answer) = answer(&head) else {
                open.push(stream);
                continue;
            };
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    addr
}

async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

fn answer(status: &str, kind: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n{body}")
}

#[tokio::test]
async fn a_stream_that_breaks_goes_on_where_it_ended() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heads = Arc::clone(&asked);
    let event = |id: u32| format!("id: {id}\nevent: ready\ndata: {{\"id\":{id}}}\n\n");
    let addr = server(move |head| {
        let mut heads = heads.lock().unwrap();
        heads.push(head.to_lowercase());
        let events = match heads.len() {
            1 => event(5) + &event(6) + "id: 7\nda",
            // While it starts.
            2 => {
                let body = r#"{"error":"starting","reason":"learning","retryAfterMs":1}"#;
                return Some(answer("503 Service Unavailable", "application/json", body));
            }
            3 => event(7),
            _ => return None,
        };
        Some(answer("200 OK", "text/event-stream", &events))
    })
    .await;
    let mut following = program(&["events", "--json"], &[("KLB_LISTEN", &addr.to_string())]);
    let mut following = following.spawn().unwrap();
    let mut told = BufReader::new(following.stdout.take().unwrap()).lines();
    for id in [5, 6, 7] {
        let line = within(told.next_line()).await.unwrap().unwrap();
        assert_eq!(line, format!("{{\"id\":{id}}}"));
    }
    let mut said = BufReader::new(following.stderr.take().unwrap()).lines();
    for expected in ["was lost: ", "connected to http://127.0.0.1:"] {
        let line = within(said.next_line()).await.unwrap().unwrap();
        assert!(line.contains(expected), "{line}");
    }
    let asked = asked.lock().unwrap().clone();
    for (head, after) in asked.iter().zip([0, 6, 6]) {
        assert!(
            head.contains(&format!("\r\nlast-event-id: {after}\r\n")),
            "{head}"
        );
    }
}

/// Texts that a terminal would obey: an escape, a bell, an 8-bit sequence, a line break, another order of letters.
const NASTY: &str = "x\u{1b}[2J\u{7}\u{9b}31m\n\u{202e}\u{7f}";

#[tokio::test]
async fn no_command_writes_what_a_terminal_would_obey() {
    let account = json!({
        "email": NASTY, "alias": NASTY, "state": NASTY, "reason": NASTY, "maxJobs": 2, "inFlight": 1,
        "lastRefusal": {"status": 400, "text": NASTY},
    });
    let event = json!({
        "id": 1, "type": NASTY, "message": NASTY, "at": NASTY, "operation": NASTY, "client": NASTY, "requestId": NASTY,
        "taskId": NASTY, "added": [{"email": NASTY}],
    });
    let body = json!({
        "version": NASTY, "ready": false, "reasons": [NASTY], "role": NASTY,
        "list": {"error": NASTY}, "restart": {"because": [NASTY]}, "waiting": {"count": 1},
        "accounts": [&account],
        "leases": [{"leaseId": NASTY, "email": NASTY, "state": NASTY, "operation": NASTY, "client": NASTY}],
        "jobs": [{"requestId": NASTY, "operation": NASTY, "email": NASTY, "outcome": NASTY}],
        "waiters": [{"position": 1, "operation": NASTY, "client": NASTY}],
        "events": [event],
        "email": NASTY, "leaseId": NASTY, "expiresAt": NASTY,
    });
    let stream = format!("data: {event}\n\n");
    let addr = server(move |head| {
        Some(if head.starts_with("GET /events") {
            answer("200 OK", "text/event-stream", &stream)
        } else {
            let is_switch = head.starts_with("POST /accounts/");
            let body = if is_switch { &account } else { &body };
            answer("200 OK", "application/json", &body.to_string())
        })
    })
    .await;
    let refusal = json!({"error": NASTY, "reason": NASTY}).to_string();
    let refusing =
        server(move |_| Some(answer("400 Bad Request", "application/json", &refusal))).await;
    let commands: [&[&str]; 9] = [
        &["status"],
        &["top", "--once"],
        &["accounts"],
        &["leases"],
        &["jobs"],
        &["events", "--once"],
        &["pick"],
        &["drain", "x"],
        &["resume", "x"],
    ];
    let is_obeyed = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    for command in commands {
        for flags in [&[][..], &["--json"]] {
            let args = [command, flags].concat();
            let (code, text) = ask(addr, &args).await;
            assert_eq!(code, Some(0), "{args:?}: {text:?}");
            assert!(text.contains("[2J"), "it shows them: {args:?}: {text:?}");
            assert!(!text.contains(is_obeyed), "{args:?}: {text:?}");
            let (code, text) = ask(refusing, &args).await;
            assert_eq!(code, Some(1), "{args:?}: {text:?}");
            assert!(!text.contains(is_obeyed), "{args:?}: {text:?}");
        }
    }
}
