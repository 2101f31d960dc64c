//! The end of the process and its next start: submissions under way are answered, all else is served
//! meanwhile, and with a passed socket no client is refused.

use std::time::Duration;

use harness::{eventually, listening, manual, send};
use http::{Method, StatusCode};
use kling_sim::{Effect, Fault, Sim};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};

use tokio_util::sync::CancellationToken;

use crate::program::{PassedSocket, Process};

const TOKEN: &str = "user:1-very-secret-token";
const JOB: &str = "/v1/kling/videos/text2video";
const JSON: (&str, &str) = ("content-type", "application/json");
const PROMPT: &str = r#"{"prompt":"a boat"}"#;
/// Longer than what a test does meanwhile.
const SLOW: Duration = Duration::from_secs(5);
const ROUNDS: (&str, &str) = ("KLB_RECONCILE__INTERVAL", "100ms");

async fn sim() -> Sim {
    manual(&[("a@x", 2)]).token(TOKEN).start().await.unwrap()
}

/// A client of one connection that sends requests without a body.
struct KeptAlive(TcpStream);

impl KeptAlive {
    async fn new(process: &Process) -> Self {
        Self(TcpStream::connect(process.addr).await.unwrap())
    }

    /// The head of the answer, whose body is short.
    async fn get(&mut self, path: &str) -> String {
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.0.write_all(head.as_bytes()).await.unwrap();
        let mut bytes = vec![0; 4096];
        let length = self.0.read(&mut bytes).await.unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }
}

/// Starts a job whose answer takes a while, and returns once the upstream has it.
async fn begin_slow_job(process: &Process, sim: &Sim) -> JoinHandle<harness::Answer> {
    sim.fault(Fault::new(Effect::Delay(SLOW)).on_job_starts().times(1));
    let addr = process.addr;
    let job = tokio::spawn(async move { send(addr, Method::POST, JOB, &[JSON], PROMPT).await });
    eventually(async || {
        let leases = send(addr, Method::GET, "/leases", &[], "").await.json();
        let mut leases = leases["leases"].as_array().unwrap().iter();
        leases
            .any(|lease| lease["state"] == "reserved")
            .then_some(())
    })
    .await;
    job
}

/// Waits until the drain has begun.
async fn until_draining(process: &Process) {
    eventually(async || {
        let answer = send(process.addr, Method::GET, "/readyz", &[], "").await;
        (answer.status != StatusCode::OK).then_some(())
    })
    .await;
}

#[tokio::test]
async fn everything_that_needs_no_slot_is_served_while_a_submission_is_under_way() {
    let sim = sim().await;
    let process = Process::start(&sim, &[ROUNDS, ("KLB_FORWARD__WAIT", "1m")]).await;
    process.until_ready().await;
    let addr = process.addr;
    let mut old = KeptAlive::new(&process).await;
    assert!(!old.get("/livez").await.contains("connection: close"));
    let known = send(addr, Method::POST, JOB, &[JSON], PROMPT).await;
    let known = format!("/v1/kling/tasks/{}", known.json()["task"]["id"]);
    let job = begin_slow_job(&process, &sim).await;
    let waiting = tokio::spawn(async move { send(addr, Method::POST, JOB, &[JSON], PROMPT).await });
    let picking =
        tokio::spawn(async move { send(addr, Method::GET, "/pick?wait=1m", &[], "").await });
    eventually(async || {
        let metrics = send(addr, Method::GET, "/metrics", &[], "").await.text;
        metrics.contains("kling_balancer_waiters 2").then_some(())
    })
    .await;
    process.signal("-TERM").await;
    until_draining(&process).await;

    for path in [
        &*known,
        "/v1/kling/accounts",
        "/accounts",
        "/leases",
        "/metrics",
        "/livez",
    ] {
        let answer = send(addr, Method::GET, path, &[], "").await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
        assert_eq!(answer.header("connection"), "close", "{path}");
    }
    assert!(old.get("/livez").await.contains("connection: close"));
    let refused = send(addr, Method::POST, JOB, &[JSON], PROMPT).await;
    assert_eq!(refused.header("connection"), "close");
    for job in [refused, waiting.await.unwrap()] {
        job.assert_refused(429, "shutting-down");
    }
    let picked = send(addr, Method::GET, "/pick", &[], "").await;
    for pick in [picked, picking.await.unwrap()] {
        pick.assert_refused(503, "shutting-down");
    }

    let answer = job.await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.header("connection"), "close");
    process.until_closed().await;
    let (code, log) = process.end().await;
    assert_eq!(code, Some(0), "{log}");
    let begin = log.lines().find(|line| line.contains("draining")).unwrap();
    for count in [
        r#""submissions":1"#,
        r#""waiting":2"#,
        r#""jobs":1"#,
        r#""picks":0"#,
    ] {
        assert!(begin.contains(count), "{count}: {begin}");
    }
    let end = log
        .lines()
        .find(|line| line.contains("\"drained\""))
        .unwrap();
    assert!(
        end.contains(r#""submissions":0"#) && end.contains(r#""jobs":2"#),
        "{end}"
    );
    assert_eq!(sim.audit().submission_count, 2);
}

#[tokio::test]
async fn a_connection_that_was_accepted_before_the_end_has_its_first_request_answered() {
    let sim = sim().await;
    let process = Process::start(&sim, &[]).await;
    process.until_ready().await;
    let mut late = KeptAlive::new(&process).await;
    process.signal("-TERM").await;
    process.until_closed().await;
    let answer = late.get("/v1/kling/accounts").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    assert_eq!(process.end().await.0, Some(0));
}

#[tokio::test]
async fn a_connection_that_is_kept_has_the_request_answered_that_was_on_its_way() {
    let sim = sim().await;
    let process = Process::start(&sim, &[]).await;
    process.until_ready().await;
    let mut kept = KeptAlive::new(&process).await;
    assert!(!kept.get("/livez").await.contains("connection: close"));
    process.signal("-TERM").await;
    process.until_closed().await;
    let answer = kept.get("/v1/kling/accounts").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    assert_eq!(process.end().await.0, Some(0));
}

#[tokio::test]
async fn a_connection_that_only_the_system_has_accepted_is_served_too() {
    let sim = sim().await;
    let end = CancellationToken::new();
    let sidecar = listening(&sim, &[], end.clone()).await;
    let addr = sidecar.addr().unwrap();
    let mut late = KeptAlive(TcpStream::connect(addr).await.unwrap());
    end.cancel();
    let running = tokio::spawn(sidecar.run());
    let answer = late.get("/livez").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    running.await.unwrap().unwrap();
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn no_client_is_refused_while_one_process_follows_another_on_a_passed_socket() {
    let sim = sim().await;
    let socket = PassedSocket::new("127.0.0.1:0");
    let addr = socket.addr();
    let first = Process::launch(socket.command(), &sim, &[ROUNDS]).await;
    assert_eq!(first.addr, addr, "listen is another one");
    first.until_ready().await;
    let started = send(addr, Method::POST, JOB, &[JSON], PROMPT).await;
    let path = format!("/v1/kling/tasks/{}", started.json()["task"]["id"]);
    first.signal("-TERM").await;
    assert_eq!(first.end().await.0, Some(0));

    let poll = tokio::spawn(async move { send(addr, Method::GET, &path, &[], "").await });
    let start = tokio::spawn(async move { send(addr, Method::POST, JOB, &[JSON], PROMPT).await });
    let waits = ("KLB_FORWARD__WAIT", "1m");
    let next = Process::launch(socket.command(), &sim, &[ROUNDS, waits]).await;
    for answer in [poll.await.unwrap(), start.await.unwrap()] {
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
    next.signal("-TERM").await;
    let (code, log) = next.end().await;
    assert_eq!(code, Some(0));
    // The job of the first process is found again.
    let ready = log.lines().find(|line| line.contains("\"ready: ")).unwrap();
    for count in [r#""accounts":1"#, r#""slots":2"#, r#""jobs_found":1"#] {
        assert!(ready.contains(count), "{count}: {ready}");
    }
    assert_eq!(sim.audit().submission_count, 2);
}

#[tokio::test]
async fn a_passed_socket_that_others_reach_needs_tokens() {
    let sim = sim().await;
    let socket = PassedSocket::new("0.0.0.0:0");
    let base_url = sim.base_url();
    let env = [
        ("KLB_UPSTREAM__BASE_URL", &*base_url),
        ("KLB_UPSTREAM__TOKEN", TOKEN),
    ];
    let said = socket
        .command()
        .env_clear()
        .envs(env)
        .output()
        .await
        .unwrap();
    assert_eq!(said.status.code(), Some(69));
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(said.contains("KLB_AUTH__TOKENS_FILE"), "{said}");
}

#[tokio::test]
async fn only_signals_that_mean_the_end_end_it() {
    let sim = sim().await;
    let process = Process::start(&sim, &[]).await;
    process.until_ready().await;
    for signal in [
        "HUP", "USR1", "USR2", "ALRM", "VTALRM", "PROF", "IO", "XFSZ", "PIPE", "WINCH",
    ] {
        process.signal(&format!("-{signal}")).await;
        let answer = send(process.addr, Method::GET, "/livez", &[], "").await;
        assert_eq!(answer.status, StatusCode::OK, "{signal}");
    }
    process.signal("-QUIT").await;
    let (code, log) = process.end().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains(r#""signal":"SIGUSR1""#), "{log}");
}
