//! Which callers are let in: web pages, rebound host names, client tokens; and odd paths.

use harness::{Answer, Running, send};
use http::{Method, StatusCode};

#[tokio::test]
async fn a_web_page_of_another_site_is_refused() {
    let running = Running::configured(
        &[("a@x", 1)],
        &[("AUTH__ALLOWED_ORIGINS", "http://dash.localhost:3000")],
    )
    .await;
    for headers in [
        &[("origin", "https://evil.example")][..],
        &[("origin", "null")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[
            ("origin", "https://evil.example"),
            ("sec-fetch-site", "same-origin"),
        ],
        &[
            ("origin", "http://dash.localhost:3000"),
            ("origin", "https://evil.example"),
        ],
    ] {
        let answer = running.send(Method::POST, "/pick", headers, "").await;
        answer.assert_refused(403, "forbidden-origin");
    }
    assert_eq!(running.held().await, 0);
    assert!(
        !preflight(&running, "https://evil.example")
            .await
            .headers
            .contains_key(ALLOWED)
    );
}

const STUDIO: &str = "http://dash.localhost:3000";
const ALLOWED: &str = "access-control-allow-origin";

async fn preflight(running: &Running, origin: &str) -> Answer {
    let asks = [
        ("origin", origin),
        ("sec-fetch-site", "cross-site"),
        ("access-control-request-method", "POST"),
        (
            "access-control-request-headers",
            "content-type,authorization",
        ),
    ];
    running
        .send(Method::OPTIONS, "/v1/kling/videos/text2video", &asks, "")
        .await
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_may_call_and_read() {
    let settings = [
        ("AUTH__ALLOWED_ORIGINS", STUDIO),
        ("AUTH__TOKENS", "a-client-token"),
    ];
    let running = Running::beside(
        harness::manual(&[("a@x", 3)]).start().await.unwrap(),
        &settings,
    )
    .await;
    running
        .until(|readiness| readiness.status == StatusCode::OK)
        .await;
    // A browser shows no token before it may.
    let told = preflight(&running, STUDIO).await;
    assert_eq!(told.status, StatusCode::NO_CONTENT, "{told:?}");
    assert_eq!(told.header(ALLOWED), STUDIO);
    assert_eq!(told.header("vary"), "Origin");
    assert!(told.header("access-control-allow-methods").contains("POST"));
    assert_eq!(
        told.header("access-control-allow-headers"),
        "content-type,authorization"
    );
    assert!(
        running
            .sim
            .requests()
            .iter()
            .all(|seen| seen.head.method != Method::OPTIONS)
    );
    for site in ["cross-site", "same-site"] {
        let shown = [
            ("origin", STUDIO),
            ("sec-fetch-site", site),
            ("authorization", "Bearer a-client-token"),
        ];
        for (path, exposed) in [
            ("/pick?wait=20s", "retry-after"),
            ("/v1/kling/accounts", "x-kling-account"),
        ] {
            let answer = running.send(Method::GET, path, &shown, "").await;
            assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
            assert_eq!(
                (answer.header(ALLOWED), answer.header("vary")),
                (STUDIO, "Origin")
            );
            assert!(
                answer
                    .header("access-control-expose-headers")
                    .contains(exposed)
            );
        }
    }
    // An error can be read, too.
    let refused = running
        .send(Method::GET, "/pick", &[("origin", STUDIO)], "")
        .await;
    refused.assert_refused(401, "unauthorized");
    assert_eq!(refused.header(ALLOWED), STUDIO);
}

#[tokio::test]
async fn a_page_that_came_from_here_may_call() {
    let running = Running::with(&[("a@x", 3)]).await;
    let (host, origin) = (running.addr.to_string(), format!("http://{}", running.addr));
    for site in ["same-origin", "none"] {
        let own = [
            ("origin", &*origin),
            ("sec-fetch-site", site),
            ("host", &*host),
        ];
        running.send(Method::POST, "/pick", &own, "").await.lease();
    }
    let unsaid = [("origin", &*origin), ("host", &*host)];
    let refused = running.send(Method::POST, "/pick", &unsaid, "").await;
    refused.assert_refused(403, "forbidden-origin");
}

#[tokio::test]
async fn a_rebound_host_is_refused() {
    let running = Running::configured(
        &[("a@x", 9)],
        &[("AUTH__ALLOWED_HOSTS", "[\"Sidecar.internal\"]")],
    )
    .await;
    for host in [
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "",
    ] {
        for path in ["/pick", "/metrics", "/accounts"] {
            let answer = running.send(Method::GET, path, &[("host", host)], "").await;
            answer.assert_refused(421, "wrong-host");
        }
        // A probe calls by an address that it was told, and shows what anyone may know.
        for path in ["/livez", "/readyz", "/healthz"] {
            let answer = running.send(Method::GET, path, &[("host", host)], "").await;
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
        }
    }
    for target in [
        "http://evil.example/pick",
        "http://localhost@evil.example/pick",
    ] {
        let answer = running
            .send(Method::GET, target, &[("host", "localhost")], "")
            .await;
        answer.assert_refused(421, "wrong-host");
    }
    let two = [("host", "localhost"), ("host", "evil.example")];
    running
        .send(Method::GET, "/pick", &two, "")
        .await
        .assert_refused(400, "bad-request");
    assert_eq!(running.held().await, 0);
    for host in [
        "localhost",
        "LOCALHOST:1",
        "127.0.0.1",
        "127.1.2.3:8080",
        "[::1]:8080",
        "[::1]",
        "sidecar.internal:80",
        "klb.localhost",
    ] {
        running
            .send(Method::GET, "/pick", &[("host", host)], "")
            .await
            .lease();
    }
}

#[tokio::test]
async fn a_client_token_is_asked_for_everywhere_but_by_probes() {
    let running = Running::configured(
        &[("a@x", 1)],
        &[
            ("AUTH__TOKENS", "[\"s3cret-one\", \"s3cret-two\"]"),
            ("METRICS__LISTEN", "127.0.0.1:0"),
        ],
    )
    .await;
    let shown = [
        None,
        Some("Bearer wrong"),
        Some("Bearer s3cret-on"),
        Some("Bearer s3cret-one1"),
        Some("Basic s3cret-one"),
        Some("s3cret-one"),
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
        ("authorization", "bearer s3cret-two"),
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

#[tokio::test]
async fn the_metrics_listener_serves_monitoring_and_nothing_else() {
    let running = Running::configured(&[("a@x", 1)], &[("METRICS__LISTEN", "127.0.0.1:0")]).await;
    let addr = running.metrics_addr.unwrap();
    for path in ["/metrics", "/livez", "/readyz", "/readyz?verbose"] {
        let answer = send(
            addr,
            Method::GET,
            path,
            &[("host", "prometheus.example")],
            "",
        )
        .await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
    }
    for path in ["/pick", "/accounts", "/leases", "/healthz", "/"] {
        send(addr, Method::GET, path, &[], "")
            .await
            .assert_refused(404, "no-route");
    }
    send(addr, Method::POST, "/metrics", &[], "")
        .await
        .assert_refused(405, "method-not-allowed");
    assert_eq!(running.held().await, 0);
}

#[tokio::test]
async fn odd_paths_are_refused_and_nothing_is_redirected() {
    let running = Running::with(&[("a@x", 1)]).await;
    for path in [
        "/accounts/../pick",
        "/./pick",
        "/%2e%2e/pick",
        "/accounts/%2E/x",
        "/a\\pick",
        "/a%5cpick",
        "/pick%00",
    ] {
        let answer = running.get(path).await;
        answer.assert_refused(400, "bad-request");
        assert!(answer.text.contains("path: "), "{answer:?}");
    }
    for path in [
        "/",
        "/pick/",
        "//pick",
        "/accounts/a@x/",
        "/leases/a/b",
        "/v2",
    ] {
        running.get(path).await.assert_refused(404, "no-route");
    }
    assert_eq!(running.held().await, 0);
}
