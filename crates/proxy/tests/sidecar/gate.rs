//! Which callers are let in: web pages and rebound host names; and odd paths.

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
        ("AUTH__TOKENS", "a-token-of-a-client"),
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
            ("authorization", "Bearer a-token-of-a-client"),
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
    // Browsers do not say it to an address of the network.
    let unsaid = [("origin", &*origin), ("host", &*host)];
    running
        .send(Method::POST, "/pick", &unsaid, "")
        .await
        .lease();
    for said in [
        &[("sec-fetch-site", "same-site")][..],
        &[("sec-fetch-site", "cross-site")],
        &[
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-site", "cross-site"),
        ],
    ] {
        let said = [&unsaid, said].concat();
        let refused = running.send(Method::POST, "/pick", &said, "").await;
        refused.assert_refused(403, "forbidden-origin");
    }
    for other in ["http://localhost:1", "null", "localhost"] {
        let other = [("origin", other), ("host", &host)];
        let refused = running.send(Method::POST, "/pick", &other, "").await;
        refused.assert_refused(403, "forbidden-origin");
    }
    assert_eq!(running.held().await, 3);
}

#[tokio::test]
async fn a_page_element_takes_no_slot() {
    let running = Running::configured(&[("a@x", 9)], &[("AUTH__ALLOWED_ORIGINS", STUDIO)]).await;
    for dest in [
        "image", "iframe", "script", "style", "audio", "object", "worker", "empty2", "",
    ] {
        for more in [
            ("sec-fetch-site", "none"),
            ("sec-fetch-site", "same-origin"),
            ("origin", STUDIO),
        ] {
            let said = [("sec-fetch-dest", dest), more];
            let refused = running.send(Method::GET, "/pick", &said, "").await;
            refused.assert_refused(403, "forbidden-origin");
        }
    }
    let two = [("sec-fetch-dest", "empty"), ("sec-fetch-dest", "image")];
    let refused = running.send(Method::GET, "/pick", &two, "").await;
    refused.assert_refused(403, "forbidden-origin");
    // An element of another local port, and a link on it.
    for said in [
        &[("sec-fetch-site", "same-site")][..],
        &[
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-dest", "document"),
        ],
        &[
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-dest", "empty"),
        ],
    ] {
        let refused = running.send(Method::GET, "/pick", said, "").await;
        refused.assert_refused(403, "forbidden-origin");
    }
    assert_eq!(running.held().await, 0);
    // A script of our own page, and someone who types the address.
    for said in [
        [
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-dest", "empty"),
        ],
        [("sec-fetch-site", "none"), ("sec-fetch-dest", "document")],
    ] {
        running.send(Method::GET, "/pick", &said, "").await.lease();
    }
}

#[tokio::test]
async fn a_link_of_any_site_may_lead_to_our_pages() {
    let running = Running::with(&[("a@x", 1)]).await;
    let visit = |site, mode, dest| {
        [
            ("sec-fetch-site", site),
            ("sec-fetch-mode", mode),
            ("sec-fetch-dest", dest),
        ]
    };
    for site in ["cross-site", "same-site", "none"] {
        for (path, status) in [("/", StatusCode::FOUND), ("/dashboard", StatusCode::OK)] {
            let shown = visit(site, "navigate", "document");
            let answer = running.send(Method::GET, path, &shown, "").await;
            assert_eq!(answer.status, status, "{path}: {answer:?}");
        }
    }
    for (method, path, mode, dest) in [
        (Method::POST, "/", "navigate", "document"),
        (Method::GET, "/accounts", "navigate", "document"),
        (Method::GET, "/pick", "navigate", "document"),
        (Method::GET, "/dashboard", "navigate", "iframe"),
        (Method::GET, "/dashboard", "no-cors", "document"),
    ] {
        let shown = visit("cross-site", mode, dest);
        let answer = running.send(method, path, &shown, "").await;
        answer.assert_refused(403, "forbidden-origin");
    }
    let framed = [
        &visit("cross-site", "navigate", "document")[..],
        &[("origin", "null")],
    ]
    .concat();
    let answer = running.send(Method::GET, "/dashboard", &framed, "").await;
    answer.assert_refused(403, "forbidden-origin");
    // A name that was rebound to this machine is no link.
    let rebound = [
        &visit("none", "navigate", "document")[..],
        &[("host", "evil.example")],
    ]
    .concat();
    let answer = running.send(Method::GET, "/dashboard", &rebound, "").await;
    answer.assert_refused(421, "wrong-host");
}

const PAGE: [&str; 3] = ["/dashboard", "/dashboard/app.js", "/dashboard/app.css"];

#[tokio::test]
async fn the_page_needs_no_token_and_what_it_shows_does() {
    let settings = [("AUTH__TOKENS", "a-token-of-a-client")];
    let running = Running::configured(&[("a@x", 1)], &settings).await;
    // Beside tokens the host may be any.
    for host in ["sidecar.internal:8080", "localhost"] {
        for path in PAGE {
            for method in [Method::GET, Method::HEAD] {
                let answer = running.send(method, path, &[("host", host)], "").await;
                assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
            }
        }
        let answer = running.send(Method::GET, "/", &[("host", host)], "").await;
        assert_eq!(answer.status, StatusCode::FOUND);
        assert_eq!(answer.header("location"), "/dashboard");
    }
    for path in ["/accounts", "/jobs"] {
        let answer = running.send(Method::GET, path, &[], "").await;
        answer.assert_refused(401, "unauthorized");
    }
    for path in PAGE.into_iter().chain(["/"]) {
        let answer = running.send(Method::POST, path, &[], "").await;
        answer.assert_refused(405, "method-not-allowed");
        let framed = [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-dest", "iframe"),
        ];
        let answer = running.send(Method::GET, path, &framed, "").await;
        answer.assert_refused(403, "forbidden-origin");
    }
}

#[tokio::test]
async fn the_page_may_load_nothing_but_its_own_files() {
    let running = Running::with(&[("a@x", 1)]).await;
    for (path, content_type) in PAGE
        .into_iter()
        .zip(["text/html", "text/javascript", "text/css"])
    {
        let answer = running.get(path).await;
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; "), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(answer.header("content-type").starts_with(content_type));
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
        assert_eq!(answer.header("cache-control"), "no-cache");
        assert!(!answer.text.is_empty());
    }
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
        for path in ["/pick", "/metrics", "/accounts", "/dashboard", "/"] {
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
async fn the_metrics_listener_serves_monitoring_and_nothing_else() {
    let settings = [
        ("METRICS__LISTEN", "127.0.0.1:0"),
        ("AUTH__TOKENS", "a-token-of-a-client"),
    ];
    let running = Running::configured(&[("a@x", 1)], &settings).await;
    let addr = running.metrics_addr.unwrap();
    for path in ["/metrics", "/livez", "/readyz", "/readyz?verbose"] {
        let answer = send(addr, Method::GET, path, &[], "").await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
    }
    for path in [
        "/pick",
        "/accounts",
        "/leases",
        "/healthz",
        "/",
        "/dashboard",
    ] {
        send(addr, Method::GET, path, &[], "")
            .await
            .assert_refused(404, "no-route");
    }
    send(addr, Method::POST, "/metrics", &[], "")
        .await
        .assert_refused(405, "method-not-allowed");
    let shown = [("authorization", "Bearer a-token-of-a-client")];
    let accounts = running.send(Method::GET, "/accounts", &shown, "").await;
    assert_eq!(accounts.json()["accounts"][0]["held"], 0);
}

#[tokio::test]
async fn the_metrics_listener_shows_nothing_to_a_web_page() {
    let settings = [
        ("METRICS__LISTEN", "127.0.0.1:0"),
        ("AUTH__ALLOWED_HOSTS", "Sidecar.internal"),
        ("AUTH__ALLOWED_ORIGINS", STUDIO),
        // They do not matter there.
        ("AUTH__TOKENS", "a-token-of-a-client"),
    ];
    let running = Running::configured(&[("a@x", 1)], &settings).await;
    let addr = running.metrics_addr.unwrap();
    let get = async |path, headers: &[_]| send(addr, Method::GET, path, headers, "").await;
    for host in [
        "evil.example",
        "evil.example:9090",
        "10.0.0.1.evil.example",
        "10.0.0.1:evil",
        "10.0.0.1:80@evil.example",
        "127.1",
        "",
    ] {
        let refused = get("/metrics", &[("host", host)]).await;
        refused.assert_refused(421, "wrong-host");
        for path in ["/livez", "/readyz", "/readyz?verbose"] {
            let answer = get(path, &[("host", host)]).await;
            assert_eq!(answer.status, StatusCode::OK, "{path} {host}");
        }
    }
    for host in [
        "10.0.0.1",
        "10.0.0.1:9090",
        "[fd00::1]:9090",
        "localhost:9090",
        "metrics.localhost",
        "sidecar.internal:9090",
    ] {
        let answer = get("/metrics", &[("host", host)]).await;
        assert_eq!(answer.status, StatusCode::OK, "{host}");
    }
    let two = [("host", "10.0.0.1"), ("host", "evil.example")];
    get("/metrics", &two)
        .await
        .assert_refused(400, "bad-request");
    for said in [
        ("origin", "https://evil.example"),
        ("sec-fetch-site", "same-site"),
        ("sec-fetch-site", "cross-site"),
    ] {
        for path in ["/metrics", "/livez", "/readyz?verbose"] {
            get(path, &[said])
                .await
                .assert_refused(403, "forbidden-origin");
        }
    }
    let allowed = get("/metrics", &[("origin", STUDIO)]).await;
    assert_eq!(allowed.header(ALLOWED), STUDIO);
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
        "/dashboard/",
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
