//! Which callers are let in: web pages, rebound host names, client tokens; and odd paths.

use harness::{Running, send};
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
        &[
            ("origin", "http://dash.localhost:3000"),
            ("sec-fetch-site", "cross-site"),
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
    let allowed = [
        ("origin", "http://dash.localhost:3000"),
        ("sec-fetch-site", "same-site"),
    ];
    running
        .send(Method::POST, "/pick", &allowed, "")
        .await
        .lease();
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
