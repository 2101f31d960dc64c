//! Statuses other than 200, redirects, `Retry-After`, no connection at all (A4, A5).

use std::time::{Duration, SystemTime};

use accounts_fetcher::{FetchResult, Source, Timing};
use tokio::net::TcpSocket;

use crate::upstream::{Reply, Upstream};
use crate::watching::{TIMING, Watching, assert_kept, source};

const GOOD: &str = r#"{"a@x":{"maxJobs":3}}"#;
const NOT_CONFIGURED: &str = "Configuration not found. To create configuration use POST /accounts.";

async fn assert_keeps_the_last_good_list(bad: Reply, result: FetchResult) {
    let upstream = Upstream::start([Reply::json(GOOD), bad.clone()]).await;
    let mut watching = Watching::upstream(&upstream);
    let before = watching.first_list().await;
    assert_kept(&watching.counted(result, 1).await, &before, bad);
}

/// How long the fetcher waited before its second request, after `first`.
async fn pause_after(first: Reply) -> Duration {
    let upstream = Upstream::start([first, Reply::json(GOOD)]).await;
    Watching::upstream(&upstream)
        .counted(FetchResult::Ok, 1)
        .await;
    let requests = upstream.requests();
    requests[1].at - requests[0].at
}

#[tokio::test]
async fn a_rejected_token_keeps_the_last_good_list() {
    let envelope = r#"{"error":"Unauthorized","code":401}"#;
    for status in [401, 403] {
        let reply = Reply::status(status).body(envelope);
        assert_keeps_the_last_good_list(reply, FetchResult::Unauthorized).await;
    }
}

#[tokio::test]
async fn a_gateways_page_is_no_word_about_the_token() {
    let page = Reply::status(403)
        .header("content-type", "text/html")
        .header("server", "cloudflare")
        .body("error code: 1010");
    assert_keeps_the_last_good_list(page, FetchResult::Status).await;
}

#[tokio::test]
async fn a_rejected_token_is_tried_again_slowly() {
    let upstream = Upstream::start([Reply::status(401), Reply::json(GOOD)]).await;
    let timing = Timing {
        backoff_max: Duration::from_secs(1),
        ..TIMING
    };
    let mut watching = Watching::new(Source::Http(source(upstream.addr)), timing);
    watching.first_list().await;
    let requests = upstream.requests();
    assert!(requests[1].at - requests[0].at >= Duration::from_millis(800));
}

#[tokio::test]
async fn no_configuration_counts_like_an_empty_list() {
    let answers = [
        Reply::json(GOOD),
        Reply::status(404)
            .header("content-type", "text/plain")
            .body(NOT_CONFIGURED),
        Reply::json("{}"),
        Reply::status(404).body(format!(
            r#"{{"error":"{}"}}"#,
            NOT_CONFIGURED.to_uppercase()
        )),
    ];
    let upstream = Upstream::start(answers).await;
    let mut watching = Watching::upstream(&upstream);
    let before = watching.first_list().await;
    let listing = watching.counted(FetchResult::NotConfigured, 1).await;
    assert_kept(&listing, &before, "the first of three");
    let listing = watching.counted(FetchResult::NotConfigured, 2).await;
    assert_eq!(listing.counts.get(FetchResult::EmptyHeld), 1);
    assert!(listing.snapshot.unwrap().accounts.is_empty());
}

#[tokio::test]
async fn any_other_404_is_a_wrong_url_and_keeps_the_last_good_list() {
    let huge = NOT_CONFIGURED.repeat(10_000);
    let endless = Reply::status(404).body(huge);
    for reply in [
        Reply::status(404),
        Reply::status(404).body("<h1>Not Found</h1>"),
        endless,
    ] {
        assert_keeps_the_last_good_list(reply, FetchResult::Status).await;
    }
}

#[tokio::test]
async fn a_busy_or_broken_upstream_keeps_the_last_good_list() {
    for status in [204, 206, 400, 402, 408, 429, 500, 502, 503, 522, 596] {
        assert_keeps_the_last_good_list(Reply::status(status), FetchResult::Status).await;
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_anywhere() {
    let elsewhere = Upstream::start([Reply::json(r#"{"evil@x":{}}"#)]).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("http://{}/v1/kling/accounts", elsewhere.addr);
        let reply = Reply::status(status).header("location", location);
        assert_keeps_the_last_good_list(reply, FetchResult::Redirect).await;
    }
    assert_eq!(elsewhere.connection_count(), 0);
}

#[tokio::test]
async fn retry_after_in_seconds_is_waited_for() {
    let pause = pause_after(Reply::status(429).header("retry-after", "1")).await;
    assert!(pause >= Duration::from_secs(1), "{pause:?}");
}

#[tokio::test]
async fn retry_after_as_a_date_is_waited_for() {
    // Dates have whole seconds: this one is between one and two seconds away.
    let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(2));
    let pause = pause_after(Reply::status(503).header("retry-after", date)).await;
    assert!(pause >= Duration::from_millis(800), "{pause:?}");
}

#[tokio::test]
async fn failures_are_tried_again_with_growing_pauses() {
    let upstream = Upstream::start([Reply::status(500)]).await;
    let timing = Timing {
        refresh_interval: Duration::from_millis(100),
        backoff_max: Duration::from_millis(400),
        ..TIMING
    };
    let mut watching = Watching::new(Source::Http(source(upstream.addr)), timing);
    watching.counted(FetchResult::Status, 5).await;
    let requests = upstream.requests();
    let pause = |idx: usize| requests[idx + 1].at - requests[idx].at;
    for (idx, expected_ms) in [80, 160, 320, 320].into_iter().enumerate() {
        assert!(
            pause(idx) >= Duration::from_millis(expected_ms),
            "pause {idx}: {:?}",
            pause(idx)
        );
    }
}

#[tokio::test]
async fn a_refused_connection_is_told_from_a_broken_one() {
    // Bound but not listening: no other process can get the port meanwhile.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = socket.local_addr().unwrap();
    let mut watching = Watching::new(Source::Http(source(addr)), TIMING);
    assert!(
        watching
            .counted(FetchResult::Connect, 2)
            .await
            .snapshot
            .is_none()
    );
}
