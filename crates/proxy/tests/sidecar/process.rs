//! The program itself: exit codes, messages, signals, memory, and no secrets in its logs.

use std::net::SocketAddr;

use harness::{eventually, send, within};
use http::{Method, StatusCode};
use kling_sim::{Answer, Effect, Fault, ListFault, Sim};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::program::{Process, output};

const TOKEN: &str = "user:1-very-secret-token";
const CLIENT_TOKEN: &str = "very-secret-client-token";

async fn sim() -> Sim {
    Sim::builder()
        .account("alice@example.com", 1)
        .token(TOKEN)
        .start()
        .await
        .unwrap()
}

#[tokio::test]
async fn ends_at_once_when_nothing_runs() {
    let sim = sim().await;
    for signal in ["-TERM", "-INT"] {
        let process = Process::start(&sim, &[("KLB_SHUTDOWN__GRACE", "10m")]).await;
        process.until_ready().await;
        process.signal(signal).await;
        let (code, log) = process.end().await;
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("\"drained\""), "{log}");
    }
}

#[tokio::test]
async fn tells_waiting_clients_before_it_ends() {
    let sim = sim().await;
    let process = Process::start(&sim, &[]).await;
    process.until_ready().await;
    let addr = process.addr;
    assert_eq!(
        send(addr, Method::GET, "/pick", &[], "").await.status,
        StatusCode::OK
    );
    let waiter =
        tokio::spawn(async move { send(addr, Method::GET, "/pick?wait=60s", &[], "").await });
    eventually(async || {
        let metrics = send(addr, Method::GET, "/metrics", &[], "").await.text;
        metrics.contains("kling_balancer_waiters 1").then_some(())
    })
    .await;
    process.signal("-TERM").await;
    waiter.await.unwrap().assert_refused(503, "shutting-down");
    assert_eq!(process.end().await.0, Some(0));
}

/// Begins a call without its body, and returns once the sidecar waits for the body.
async fn begin_call(addr: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let head = b"POST /pick HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
        Content-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream
}

#[tokio::test]
async fn finishes_what_runs_and_is_not_ready_meanwhile() {
    let sim = sim().await;
    let process = Process::start(&sim, &[("KLB_METRICS__LISTEN", "127.0.0.1:0")]).await;
    let monitoring = process.metrics_addr.unwrap();
    process.until_ready().await;
    let mut call = begin_call(process.addr).await;
    process.signal("-TERM").await;
    let draining = eventually(async || {
        let answer = send(monitoring, Method::GET, "/readyz", &[], "").await;
        (answer.status != StatusCode::OK).then_some(answer)
    })
    .await;
    draining.assert_refused(503, "shutting-down");
    process.until_closed().await;

    call.write_all(b"{}").await.unwrap();
    let mut answer = String::new();
    call.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("\"shutting-down\"") && answer.contains("connection: close"));
    assert_eq!(process.end().await.0, Some(0));
}

#[tokio::test]
async fn does_not_wait_for_a_request_that_has_not_arrived() {
    let sim = sim().await;
    let process = Process::start(&sim, &[("KLB_SHUTDOWN__GRACE", "10m")]).await;
    process.until_ready().await;
    let mut half = TcpStream::connect(process.addr).await.unwrap();
    half.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\nGET /li")
        .await
        .unwrap();
    let mut answer = [0; 15];
    half.read_exact(&mut answer).await.unwrap();
    let silent = TcpStream::connect(process.addr).await.unwrap();
    process.signal("-TERM").await;
    let (code, log) = process.end().await;
    assert_eq!(code, Some(0));
    assert!(log.contains("\"drained\""), "{log}");
    drop((half, silent));
}

#[tokio::test]
async fn waiting_picks_leave_room_for_releases_where_files_are_few() {
    let sim = sim().await;
    let process = Process::short_of_files(&sim).await;
    let addr = process.addr;
    let lease = send(addr, Method::GET, "/pick", &[], "").await.lease();
    let waiting: Vec<_> = (0..40)
        .map(|_| tokio::spawn(pick_and_release(addr)))
        .collect();
    release(addr, &lease).await;
    let mut statuses = Vec::new();
    for waiter in waiting {
        statuses.push(waiter.await.unwrap());
    }
    assert!(statuses.contains(&StatusCode::OK), "{statuses:?}");
    process.signal("-TERM").await;
    let (_, log) = process.end().await;
    assert!(log.contains("selection.waiters_max is lowered"), "{log}");
}

async fn pick_and_release(addr: SocketAddr) -> StatusCode {
    let answer = send(addr, Method::GET, "/pick?wait=60s", &[], "").await;
    if answer.status == StatusCode::OK {
        release(addr, &answer.lease()).await;
    }
    answer.status
}

async fn release(addr: SocketAddr, lease: &serde_json::Value) {
    let path = format!("/leases/{}", lease["leaseId"].as_str().unwrap());
    let answer = send(addr, Method::DELETE, &path, &[], "").await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn cuts_off_what_outlasts_the_grace_or_a_second_signal() {
    let sim = sim().await;
    // The code is that of a process which the signal ended.
    for (grace, code) in [("100ms", 128 + 15), ("10m", 128 + 2)] {
        let process = Process::start(&sim, &[("KLB_SHUTDOWN__GRACE", grace)]).await;
        process.until_ready().await;
        let call = begin_call(process.addr).await;
        process.signal("-TERM").await;
        if grace == "10m" {
            process.until_closed().await;
            process.signal("-INT").await;
        }
        let (ended, log) = process.end().await;
        assert_eq!(ended, Some(code), "{log}");
        assert!(log.contains("calls were cut off"), "{log}");
        drop(call);
    }
}

/// More lines than the pipe and the queue behind it take.
const LINES: usize = 8_000;

#[tokio::test]
async fn a_log_that_is_not_read_stops_no_call_and_no_shutdown() {
    let sim = sim().await;
    let process = Process::start(&sim, &[("KLB_LOG__FILTER", "trace")]).await;
    process.until_ready().await;
    process.stop_reading();
    let mut client = BufReader::new(TcpStream::connect(process.addr).await.unwrap());
    for _ in 0..LINES {
        let call = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
        client.write_all(call).await.unwrap();
        let mut line = String::new();
        while line != "alive\n" {
            line.clear();
            let read = within(client.read_line(&mut line)).await.unwrap();
            assert!(read > 0, "it hung up");
        }
    }
    let metrics = send(process.addr, Method::GET, "/metrics", &[], "").await;
    let series = "kling_balancer_log_lines_dropped_total ";
    let mut lines = metrics.text.lines();
    let dropped: u64 = lines
        .find_map(|line| line.strip_prefix(series)?.parse().ok())
        .unwrap();
    assert!(dropped > 0, "{metrics:?}");
    process.signal("-TERM").await;
    assert_eq!(process.end().await.0, Some(0));
}

#[tokio::test]
async fn secrets_never_reach_log_metrics_errors_or_accounts() {
    let sim = sim().await;
    let env = [
        ("KLB_AUTH__TOKENS", CLIENT_TOKEN),
        ("KLB_LOG__FILTER", "trace"),
    ];
    let process = Process::start(&sim, &env).await;
    process.until_ready().await;
    let bearer = format!("Bearer {CLIENT_TOKEN}");
    let shown = [
        ("authorization", bearer.as_str()),
        ("cookie", "session=very-secret-cookie"),
    ];
    let mut said = String::new();
    for path in [
        "/pick",
        "/pick?ttl=very-secret-ttl",
        "/accounts",
        "/leases",
        "/metrics",
        "/readyz?verbose",
        "/nowhere",
    ] {
        said += &send(process.addr, Method::GET, path, &shown, "").await.text;
        said += &send(
            process.addr,
            Method::GET,
            path,
            &[("authorization", "Bearer very-secret-guess")],
            "",
        )
        .await
        .text;
    }
    sim.list_fault(ListFault::Unauthorized);
    eventually(async || {
        let metrics = send(process.addr, Method::GET, "/metrics", &shown, "")
            .await
            .text;
        (!metrics.contains(r#"result="unauthorized"} 0"#)).then_some(())
    })
    .await;
    process.signal("-TERM").await;
    let (_, log) = process.end().await;
    assert!(
        log.contains("token"),
        "the rejected token is told of: {log}"
    );
    assert!(log.contains("\"request_id\""), "{log}");
    for text in [&said, &log] {
        assert!(!text.contains("very-secret"), "{text}");
    }
    assert!(
        !log.contains("alice@"),
        "accounts have aliases in logs: {log}"
    );
}

#[tokio::test]
async fn what_the_upstream_says_of_the_token_is_told_without_secrets() {
    let sim = sim().await;
    let process = Process::start(&sim, &[]).await;
    process.until_ready().await;
    let long = "a long story ".repeat(100);
    let text = format!("Subscription of {TOKEN} (alice@example.com)\nrequired. {long}");
    let answer = Effect::Answer(Answer::new(402).body(text));
    sim.fault(Fault::new(answer).on_job_starts());
    let headers = [("content-type", "application/json")];
    let path = "/v1/kling/videos/text2video";
    let refused = send(
        process.addr,
        Method::POST,
        path,
        &headers,
        r#"{"prompt":"x"}"#,
    )
    .await;
    assert_eq!(refused.status, StatusCode::PAYMENT_REQUIRED);
    process.signal("-TERM").await;
    let (_, log) = process.end().await;
    let line = log.lines().find(|line| line.contains("paid subscription"));
    let line = line.unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("402"), "{line}");
    let said = "Subscription of <redacted> <redacted> required. a long story";
    assert!(line.contains(said), "{line}");
    assert!(line.matches("a long story").count() < 20, "{line}");
    assert!(!log.contains(TOKEN) && !log.contains("alice@"), "{log}");
}

#[tokio::test]
async fn a_proxy_that_is_not_used_is_told_of() {
    let sim = sim().await;
    // A request through it would fail.
    let nobody = ("https_proxy", "http://secret@127.0.0.1:1");
    let process = Process::start(&sim, &[nobody, ("HTTP_PROXY", "")]).await;
    process.until_ready().await;
    process.signal("-TERM").await;
    let (_, log) = process.end().await;
    assert!(log.contains(r#""name":"https_proxy""#), "{log}");
    assert!(!log.contains("secret@"), "{log}");
}

#[tokio::test]
async fn an_idle_sidecar_is_small() {
    let sim = sim().await;
    let process = Process::start(&sim, &[]).await;
    process.until_ready().await;
    // Only anonymous memory counts: the size of mapped code depends on the build. A debug build has a mebibyte of
    // addresses that are set when it is loaded.
    let kib = process.memory("RssAnon") / 1024;
    assert!(kib < 5 * 1024, "{kib} KiB resident");
}

#[tokio::test]
async fn what_stands_between_it_and_the_upstream_is_said_with_what_to_do() {
    let sim = sim().await;
    let (base_url, wrong_url) = (sim.base_url(), format!("http://{}/v2", sim.addr()));
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dead_url = format!("http://{}/v1/kling", nobody.local_addr().unwrap());
    drop(nobody);
    for (token, url, last_fetch, advice) in [
        (
            "user:1-wrong",
            &base_url,
            "unauthorized",
            "check upstream.token",
        ),
        (
            sim.token(),
            &wrong_url,
            "status",
            "does upstream.base_url lead to the Kling API?",
        ),
        (
            sim.token(),
            &dead_url,
            "connect",
            "check upstream.base_url and the network",
        ),
    ] {
        let env = [
            ("KLB_UPSTREAM__TOKEN", token),
            ("KLB_UPSTREAM__BASE_URL", url),
        ];
        let process = Process::start(&sim, &env).await;
        let wanted = format!("[-] last fetch: {last_fetch} ({advice})");
        eventually(async || {
            let path = "/readyz?verbose";
            let said = send(process.addr, Method::GET, path, &[], "").await.text;
            let is_asked = !said.contains("has not answered yet");
            let is_told = said.contains(&wanted) && is_asked && said.contains("[-] rounds: the ");
            is_told.then_some(())
        })
        .await;
        process.signal("-TERM").await;
        let (_, log) = process.end().await;
        assert!(log.contains(advice), "{log}");
        let is_about_the_address =
            log.contains("check upstream.base_url") || log.contains("does upstream.base_url");
        assert_eq!(is_about_the_address, last_fetch != "unauthorized", "{log}");
        assert!(
            log.contains("the list of running jobs cannot be read"),
            "{log}"
        );
    }
}

#[tokio::test]
async fn the_log_says_at_the_start_what_runs_and_where_clients_find_it() {
    let sim = sim().await;
    let process = Process::start(&sim, &[]).await;
    process.until_ready().await;
    let base_url = format!("http://{}/v1/kling", process.addr);
    process.signal("-TERM").await;
    let (_, log) = process.end().await;
    let line = |message: &str| {
        let lines = log
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let mut found = lines.filter(|line| line["message"] == message);
        found.next().unwrap_or_else(|| panic!("{message} in {log}"))
    };
    let serving = line("serving");
    assert_eq!(serving["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(serving["base_url_of_clients"], base_url);
    let ready = line("ready: jobs can be started");
    assert_eq!(
        (&ready["accounts"], &ready["slots"]),
        (&1.into(), &1.into())
    );
}

#[tokio::test]
async fn a_used_port_is_named() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let (code, said) = output(&["--listen", &addr], &[("KLB_UPSTREAM__TOKEN", TOKEN)]).await;
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains(&format!("cannot listen on {addr}")), "{said}");
}

#[tokio::test]
async fn a_healthcheck_tells_whether_it_is_ready_and_why_not() {
    let sim = sim().await;
    let process = Process::start(&sim, &[]).await;
    process.until_ready().await;
    // Nothing but the address is needed, and nothing else has to be valid.
    let addr = process.addr.to_string();
    let env = [
        ("KLB_LISTEN", addr.as_str()),
        ("KLB_LEASES__TTL", "soon"),
        ("KLB_AUTH__TOKENS_FILE", "/nowhere"),
    ];
    let open = format!("0.0.0.0:{}", process.addr.port());
    for args in [
        &["healthcheck"] as &[&str],
        &["healthcheck", "--listen", &open],
    ] {
        assert_eq!(output(args, &env).await, (Some(0), String::new()));
    }
    send(
        process.addr,
        Method::POST,
        "/accounts/alice@example.com/drain",
        &[],
        "",
    )
    .await;
    let (code, said) = output(&["healthcheck"], &env).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("[-] picks: no-usable-account"), "{said}");
    let live = ["healthcheck", "--live"];
    assert_eq!(output(&live, &env).await, (Some(0), String::new()));
    process.signal("-TERM").await;
    process.end().await;
    for args in [&["healthcheck"] as &[&str], &live] {
        let (code, said) = output(args, &env).await;
        assert_eq!(code, Some(1));
        assert!(said.contains("nothing answers at"), "{said}");
    }
}
