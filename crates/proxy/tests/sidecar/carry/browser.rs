//! Web pages in a real browser: those of an allowed origin use the sidecar, all others get nothing of it.
//!
//! The pages are in `tests/browser`. Each reports to its own server what its scripts could see; what was really
//! granted is in the books of the sidecar and the simulator. Without Chromium the test is left out, unless
//! `CLIENTS=all` says that all programs must be there.

use std::{env, net::Ipv4Addr, process::Stdio, time::Duration};

use harness::{Running, eventually};
use serde_json::{Value, json};
use tokio::{net::TcpListener, process::Command, sync::mpsc, task::JoinHandle, time::timeout};

use super::{framing::answer, sockets::Wire};

const BROWSER: &str = "chromium";
/// How long a browser may take to start and to show a page, on a busy machine.
const BROWSER_TIME_MAX: Duration = Duration::from_secs(60);
const TOKEN: &str = "a-token-of-a-client";

/// A web server with one page, which takes the page's report.
struct Site {
    listener: TcpListener,
    page: &'static str,
}

impl Site {
    async fn new(page: &'static str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self { listener, page }
    }

    fn origin(&self) -> String {
        format!("http://{}", self.listener.local_addr().unwrap())
    }

    /// Serves the page, which finds all it needs in `places`.
    fn serve(self, places: &Value, reports: mpsc::Sender<Value>) -> JoinHandle<()> {
        let page = self.page.replace("PLACES", &places.to_string());
        let site = async move {
            loop {
                let (stream, _) = self.listener.accept().await.unwrap();
                // A browser opens connections that it may not need.
                tokio::spawn(serve(Wire::new(stream), page.clone(), reports.clone()));
            }
        };
        tokio::spawn(site)
    }
}

async fn serve(mut wire: Wire, page: String, reports: mpsc::Sender<Value>) {
    if !wire.has_more().await {
        return;
    }
    let asked = wire.message().await;
    let (status, kind, body) = match asked.asks() {
        ("GET", "/") => ("200 OK", "text/html", page.as_str()),
        ("GET", "/page.js") => (
            "200 OK",
            "text/javascript",
            include_str!("../../browser/page.js"),
        ),
        ("POST", "/report") => {
            let report = serde_json::from_slice(&asked.content).unwrap();
            reports.send(report).await.unwrap();
            ("200 OK", "text/plain", "")
        }
        _ => ("404 Not Found", "text/plain", ""),
    };
    let (kind, length) = (
        format!("content-type: {kind}"),
        format!("content-length: {}", body.len()),
    );
    wire.send(answer(status, &[&kind, &length, "connection: close"], body))
        .await;
}

/// The browser, which shows the page at `url` until this is dropped. `None` if it is not installed.
async fn browse(url: &str, profile: &tempfile::TempDir) -> Option<tokio::process::Child> {
    let probed = Command::new(BROWSER).arg("--version").output().await;
    if !probed.is_ok_and(|output| output.status.success()) {
        let must_be = env::var_os("CLIENTS").is_some_and(|which| which == "all");
        assert!(!must_be, "{BROWSER} is not installed");
        return None;
    }
    let mut browser = Command::new(BROWSER);
    browser.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]);
    browser
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(url);
    browser
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    Some(browser.spawn().unwrap())
}

async fn next(reports: &mut mpsc::Receiver<Value>) -> Value {
    let report = timeout(BROWSER_TIME_MAX, reports.recv()).await;
    report.expect("the browser shows no page").unwrap()
}

#[tokio::test]
async fn pages_of_an_allowed_origin_use_the_sidecar_and_all_others_get_nothing() {
    let allowed = Site::new(include_str!("../../browser/allowed.html")).await;
    let stranger = Site::new(include_str!("../../browser/stranger.html")).await;
    let (start, then) = (allowed.origin(), stranger.origin());
    let settings = [
        ("AUTH__ALLOWED_ORIGINS", start.as_str()),
        ("AUTH__TOKENS", TOKEN),
        ("METRICS__LISTEN", "127.0.0.1:0"),
    ];
    let closed = Running::configured(&[("a@x", 2)], &settings).await;
    // Without tokens a page would only have to ask.
    let open = Running::configured(&[("a@x", 9)], &[settings[0], settings[2]]).await;
    let places = json!({
        "sidecar": format!("http://{}", closed.addr),
        "open": format!("http://{}", open.addr),
        "metrics": format!("http://{}", open.metrics_addr.unwrap()),
        "token": TOKEN,
        "next": &then,
    });
    let (sender, mut reports) = mpsc::channel(1);
    let sites = [allowed, stranger].map(|site| site.serve(&places, sender.clone()));
    let profile = tempfile::tempdir().unwrap();
    let Some(_browser) = browse(&start, &profile).await else {
        return;
    };

    assert_used(&next(&mut reports).await, &closed).await;
    assert_eq!(open.held().await, 0, "by an image");
    assert_got_nothing(&next(&mut reports).await, &open).await;
    // The link has led to our page, which asks for itself alone.
    let series =
        r#"kling_balancer_http_requests_total{code="200",method="GET",route="/dashboard"} 1"#;
    eventually(async || {
        open.get("/metrics")
            .await
            .text
            .contains(series)
            .then_some(())
    })
    .await;
    for site in sites {
        site.abort();
    }
}

/// Checks what a page of an allowed origin could do and see.
async fn assert_used(seen: &Value, running: &Running) {
    let status = |name: &str| seen[name]["status"].as_u64();
    let of = |name: &str, header: &str| seen[name]["headers"][header].as_str();
    for (name, expected) in [
        ("pick", 200),
        ("start", 200),
        ("full", 429),
        ("renew", 200),
        ("release", 204),
        ("unshown", 401),
        ("metrics", 200),
    ] {
        assert_eq!(status(name), Some(expected), "{name}: {seen:#}");
        assert!(
            name == "metrics" || of(name, "x-request-id").is_some() || name == "start",
            "{seen:#}"
        );
    }
    assert_eq!(of("start", "x-kling-account"), Some("a@x"), "{seen:#}");
    assert_eq!(of("start", "x-kling-attempts"), Some("1"), "{seen:#}");
    assert!(of("full", "retry-after").is_some(), "{seen:#}");
    assert!(of("full", "proxy-status").is_some(), "{seen:#}");
    assert_eq!(of("full", "x-request-id"), Some("the-third"), "{seen:#}");
    let refused: Value = serde_json::from_str(seen["full"]["body"].as_str().unwrap()).unwrap();
    assert_eq!(refused["reason"], "saturated");
    // The job, and nothing of the released pick.
    assert_eq!(running.sim.audit().submission_count, 1);
    let shown = format!("Bearer {TOKEN}");
    let leases = running
        .send(
            http::Method::GET,
            "/leases",
            &[("authorization", &shown)],
            "",
        )
        .await;
    assert_eq!(leases.json()["leases"].as_array().unwrap().len(), 1);
}

/// Checks that a page of another origin could do and see nothing.
async fn assert_got_nothing(seen: &Value, running: &Running) {
    for name in ["pick", "start", "accounts", "metrics", "ready"] {
        assert_eq!(seen[name]["type"], "refused", "{name}: {seen:#}");
    }
    for name in ["simple pick", "simple post", "simple start", "kept"] {
        assert_eq!(seen[name]["type"], "opaque", "{name}: {seen:#}");
    }
    for name in ["image", "script", "style", "audio"] {
        assert_eq!(seen[name]["type"], "error", "{name}: {seen:#}");
    }
    assert_eq!(running.held().await, 0);
    assert_eq!(running.sim.audit().submission_count, 0);
    // Each of them came here: those of both pages' elements and scripts.
    let text = running.get("/metrics").await.text;
    for (method, route, count) in [
        ("GET", "/pick", 9),
        ("POST", "/pick", 2),
        ("POST", "/v1/kling/*", 3),
    ] {
        let labels = format!(r#"{{code="403",method="{method}",route="{route}"}}"#);
        let series = format!("kling_balancer_http_requests_total{labels} {count}");
        assert!(text.lines().any(|line| line == series), "{series}: {text}");
    }
}
