//! Which client tokens are let in, and to what.

use std::{
    fs::{self, Permissions},
    io::Write,
    os::unix::fs::PermissionsExt,
};

use harness::{Answer, Running, eventually, manual, send};
use http::{Method, StatusCode};

use crate::program::Process;

#[tokio::test]
async fn a_client_token_is_asked_for_everywhere_but_by_probes() {
    let running = Running::configured(
        &[("a@x", 1)],
        &[
            (
                "AUTH__TOKENS",
                "[\"s3cret-token-one\", \"s3cret-token-two\"]",
            ),
            ("METRICS__LISTEN", "127.0.0.1:0"),
        ],
    )
    .await;
    let shown = [
        None,
        Some("Bearer wrong"),
        Some("Bearer s3cret-token-on"),
        Some("Bearer s3cret-token-one1"),
        Some("Basic s3cret-token-one"),
        Some("s3cret-token-one"),
        Some("Bearer "),
        Some(""),
    ];
    for shown in shown {
        let headers: Vec<_> = shown
            .map(|shown| ("authorization", shown))
            .into_iter()
            .collect();
        for path in ["/pick", "/leases", "/accounts", "/metrics", "/nowhere"] {
            let answer = running.send(Method::GET, path, &headers, "").await;
            answer.assert_refused(401, "unauthorized");
            assert_eq!(answer.header("www-authenticate"), "Bearer");
            assert!(!answer.text.contains("s3cret"));
        }
    }
    for path in ["/livez", "/readyz", "/healthz"] {
        assert_eq!(running.get(path).await.status, StatusCode::OK, "{path}");
    }
    let anywhere = [
        ("authorization", "bearer s3cret-token-two"),
        ("host", "sidecar.example"),
    ];
    running
        .send(Method::GET, "/pick", &anywhere, "")
        .await
        .lease();
    let metrics = send(
        running.metrics_addr.unwrap(),
        Method::GET,
        "/metrics",
        &[],
        "",
    )
    .await;
    assert_eq!(metrics.status, StatusCode::OK);
    assert!(!metrics.text.contains("s3cret"));
}

/// A file of tokens that a test rewrites.
struct TokenFile(tempfile::NamedTempFile);

impl TokenFile {
    fn new(text: &str) -> Self {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Self(file)
    }

    fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    fn rewrite(&self, text: &str) {
        fs::write(self.0.path(), text).unwrap();
    }
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

async fn ask(running: &Running, method: Method, path: &str, token: &str) -> Answer {
    let shown = bearer(token);
    let headers = [
        ("authorization", &*shown),
        ("content-type", "application/json"),
    ];
    running.send(method, path, &headers, "{}").await
}

const UPSTREAM: &str = "user:1-very-secret-token";
const ROUNDS: (&str, &str) = ("KLB_RECONCILE__INTERVAL", "100ms");
const WATCHER: &str = "the-token-of-a-watcher";
pub(crate) const STUDIO: &str = "the-token-of-the-studio";
const JOB: &str = "/v1/kling/videos/text2video";
const PROMPT: &str = r#"{"prompt":"a boat"}"#;

#[tokio::test]
async fn a_read_token_looks_and_does_nothing_else() {
    let (clients, watchers) = (
        TokenFile::new(STUDIO),
        TokenFile::new(&format!("watcher {WATCHER}\n")),
    );
    let settings = [
        ("AUTH__TOKENS_FILE", clients.path()),
        ("AUTH__READ_TOKENS_FILE", watchers.path()),
    ];
    let running = Running::configured(&[("a@x", 2)], &settings).await;
    let lease = ask(&running, Method::POST, "/pick", STUDIO).await.lease();
    let lease = format!("/leases/{}", lease["leaseId"].as_str().unwrap());
    for path in [
        "/accounts",
        "/accounts/a@x",
        "/leases",
        &lease,
        "/jobs",
        "/metrics",
    ] {
        for method in [Method::GET, Method::HEAD] {
            let shown = bearer(WATCHER);
            let shown = [("authorization", &*shown)];
            let answer = running.send(method, path, &shown, "").await;
            assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
        }
    }
    ask(&running, Method::GET, "/nowhere", WATCHER)
        .await
        .assert_refused(404, "no-route");
    let asked = running.sim.requests().len();
    for (method, path) in [
        (Method::GET, "/pick"),
        (Method::GET, "/pick?dryRun=true"),
        (Method::POST, "/pick"),
        (Method::PUT, &lease),
        (Method::DELETE, &lease),
        (Method::POST, "/accounts/a@x/drain"),
        (Method::POST, "/accounts/a@x/resume"),
        (Method::POST, "/accounts"),
        (Method::OPTIONS, "/accounts"),
        (Method::POST, "/nowhere"),
        (Method::GET, "/v1/kling/accounts"),
        (Method::GET, "/v1/kling/tasks/1"),
        (Method::POST, JOB),
        (Method::DELETE, "/v1/kling/tasks/1"),
    ] {
        let answer = ask(&running, method.clone(), path, WATCHER).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{method} {path}");
        answer.assert_refused(403, "read-only");
    }
    assert_eq!(
        ask(&running, Method::GET, &lease, STUDIO).await.json()["state"],
        "reserved"
    );
    let carried = running.sim.requests().split_off(asked);
    let calls = |path: &str| {
        carried
            .iter()
            .filter(|it| it.head.path.contains(path))
            .count()
    };
    assert_eq!((calls("/tasks/"), calls("/videos/")), (0, 0));
}

#[tokio::test]
async fn read_tokens_alone_close_the_sidecar_to_all_others() {
    let watchers = TokenFile::new(WATCHER);
    let settings = [("AUTH__READ_TOKENS_FILE", watchers.path())];
    let running = Running::beside(manual(&[("a@x", 2)]).start().await.unwrap(), &settings).await;
    let unshown = running.send(Method::POST, "/pick", &[], "").await;
    unshown.assert_refused(401, "unauthorized");
    ask(&running, Method::POST, "/pick", WATCHER)
        .await
        .assert_refused(403, "read-only");
    let seen = ask(&running, Method::GET, "/leases", WATCHER).await;
    assert_eq!(seen.status, StatusCode::OK);
}

#[tokio::test]
async fn token_files_are_read_again_on_a_hang_up() {
    let sim = manual(&[("a@x", 2)]).token(UPSTREAM).start().await.unwrap();
    let upstream = TokenFile::new("user:1-another-token");
    let clients = TokenFile::new("studio first-client-token\nother-client-token");
    let watchers = TokenFile::new("first-watcher-client-token");
    let env = [
        ("KLB_UPSTREAM__TOKEN", ""),
        ("KLB_UPSTREAM__TOKEN_FILE", upstream.path()),
        ("KLB_AUTH__TOKENS_FILE", clients.path()),
        ("KLB_AUTH__READ_TOKENS_FILE", watchers.path()),
        ROUNDS,
    ];
    let process = Process::start(&sim, &env).await;
    let status = async |token: &str| {
        let shown = format!("Bearer {token}");
        let headers = [("authorization", &*shown)];
        send(process.addr, Method::GET, "/accounts", &headers, "")
            .await
            .status
    };
    assert_eq!(status("first-client-token").await, StatusCode::OK);

    upstream.rewrite(UPSTREAM);
    clients.rewrite("studio second-client-token\nother-client-token");
    process.signal("-HUP").await;
    process.until_ready().await;
    eventually(async || (status("second-client-token").await == StatusCode::OK).then_some(()))
        .await;
    assert_eq!(status("first-client-token").await, StatusCode::UNAUTHORIZED);
    assert_eq!(status("other-client-token").await, StatusCode::OK);

    watchers.rewrite("second-watcher-client-token");
    assert_eq!(status("first-watcher-client-token").await, StatusCode::OK);
    process.signal("-HUP").await;
    let now = "second-watcher-client-token";
    eventually(async || (status(now).await == StatusCode::OK).then_some(())).await;

    // A file that cannot be used changes nothing. The files of clients are looked at first, so a token of the
    // upstream that is in force shows that they were.
    let until_in_force = async |token: &str| {
        process.signal("-HUP").await;
        eventually(async || (status(token).await == StatusCode::OK).then_some(())).await;
    };
    clients.rewrite("\n");
    watchers.rewrite("");
    upstream.rewrite("user:1-third-client-token");
    until_in_force("user:1-third-client-token").await;
    assert_eq!(status("second-client-token").await, StatusCode::OK);
    // Nor does a token that would be in both.
    clients.rewrite("studio second-client-token\nother-client-token");
    watchers.rewrite("second-client-token");
    upstream.rewrite("user:1-fourth-client-token");
    until_in_force("user:1-fourth-client-token").await;
    assert_eq!(status(now).await, StatusCode::OK);
    // Nor does one that is no token. The second look begins after the first one.
    watchers.rewrite("another-watcher-client-token");
    upstream.rewrite("two words");
    until_in_force("another-watcher-client-token").await;
    watchers.rewrite("the-last-watcher-client-token");
    until_in_force("the-last-watcher-client-token").await;
    assert_eq!(status("user:1-fourth-client-token").await, StatusCode::OK);
    assert_eq!(status(now).await, StatusCode::UNAUTHORIZED);
    process.signal("-TERM").await;
    let (_, log) = process.end().await;
    for said in [
        "the token of the upstream has changed and is in force",
        "the client tokens have changed and are in force",
        "auth.tokens_file: the file",
        "auth.read_tokens_file: the file",
        "auth.read_tokens_file: expected tokens that are not in auth.tokens",
        "upstream.token_file: the file holds no token",
    ] {
        assert!(log.contains(said), "{said}: {log}");
    }
    for secret in ["very-secret", "client-token", "another-token"] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[tokio::test]
async fn the_token_of_the_upstream_opens_the_sidecar_too() {
    let sim = manual(&[("a@x", 3)]).token(UPSTREAM).start().await.unwrap();
    let upstream = TokenFile::new(UPSTREAM);
    let env = [
        ("KLB_UPSTREAM__TOKEN", ""),
        ("KLB_UPSTREAM__TOKEN_FILE", upstream.path()),
        ("KLB_AUTH__TOKENS", STUDIO),
        ROUNDS,
    ];
    let process = Process::start(&sim, &env).await;
    process.until_ready().await;
    let ask = async |method, path: &str, token: &str| {
        let shown = bearer(token);
        let headers = [
            ("authorization", &*shown),
            ("content-type", "application/json"),
            ("idempotency-key", "k"),
        ];
        let body = if path == JOB { PROMPT } else { "{}" };
        send(process.addr, method, path, &headers, body).await
    };
    let lease = ask(Method::POST, "/pick", UPSTREAM).await.lease();
    let start = ask(Method::POST, JOB, UPSTREAM).await;
    assert_eq!(start.status, StatusCode::OK, "{start:?}");
    let jobs = ask(Method::GET, "/jobs?client=upstream-token", STUDIO).await;
    assert_eq!(jobs.json()["jobs"].as_array().unwrap().len(), 1);
    for wrong in ["user:1-very-secret-toke", "user:1-very-secret-token1", ""] {
        ask(Method::GET, "/leases", wrong)
            .await
            .assert_refused(401, "unauthorized");
    }

    let another = "user:1-another-secret-token";
    upstream.rewrite(another);
    process.signal("-HUP").await;
    let is_let_in = async || {
        let seen = ask(Method::GET, "/leases", another).await;
        (seen.status == StatusCode::OK).then_some(())
    };
    eventually(is_let_in).await;
    ask(Method::GET, "/leases", UPSTREAM)
        .await
        .assert_refused(401, "unauthorized");
    // Its keys are the same client's.
    let again = ask(Method::POST, "/pick", another).await.lease();
    assert_eq!(again["leaseId"], lease["leaseId"]);
    let others = ask(Method::POST, "/pick", STUDIO).await.lease();
    assert_ne!(others["leaseId"], lease["leaseId"]);
}

#[tokio::test]
async fn a_token_file_that_all_can_read_is_warned_of_once() {
    let sim = manual(&[("a@x", 1)]).token(UPSTREAM).start().await.unwrap();
    let readable = TokenFile::new(STUDIO);
    let own = TokenFile::new(WATCHER);
    fs::set_permissions(readable.path(), Permissions::from_mode(0o644)).unwrap();
    let env = [
        ("KLB_AUTH__TOKENS_FILE", readable.path()),
        ("KLB_AUTH__READ_TOKENS_FILE", own.path()),
    ];
    let process = Process::start(&sim, &env).await;
    process.until_ready().await;
    process.signal("-HUP").await;
    process.signal("-TERM").await;
    let (code, log) = process.end().await;
    assert_eq!(code, Some(0));
    let warned = log.lines().filter(|line| line.contains("chmod 600"));
    let warned: Vec<_> = warned.collect();
    assert!(
        warned.len() == 1 && warned[0].contains("auth.tokens_file: every user of this machine"),
        "{log}"
    );
}
