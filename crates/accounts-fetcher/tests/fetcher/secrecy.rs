//! The token goes to its host only, and secrets never reach a log or a `Debug` output (A4, A13).

use std::io;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use accounts_fetcher::{Credentials, FetchResult, Fetcher, Source, Timing};
use tracing::subscriber::{DefaultGuard, NoSubscriber};
use tracing::{Dispatch, Level};

use crate::upstream::{Reply, Upstream};
use crate::watching::{TIMING, TOKEN, Watching, source};

const GOOD: &str = r#"{"ann@x":{"maxJobs":3},"bob@x":{"maxJobs":2}}"#;

/// With a single subscriber alive, `tracing` asks the first thread that meets a log line whether it
/// is wanted, and remembers a no for all threads. With more than one it asks each time.
static COMPANIONS: LazyLock<[Dispatch; 2]> =
    LazyLock::new(|| [(); 2].map(|()| Dispatch::new(NoSubscriber::new())));

/// What is logged on this thread while the guard lives, on all levels.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn capture() -> (Log, DefaultGuard) {
        LazyLock::force(&COMPANIONS);
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// How many lines of this level contain `message`.
    fn count(&self, level: &str, message: &str) -> usize {
        let text = self.text();
        text.lines()
            .filter(|line| line.contains(level) && line.contains(message))
            .count()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_request_carries_the_token_and_asks_for_gzipped_json() {
    let upstream = Upstream::start([Reply::json(GOOD)]).await;
    Watching::upstream(&upstream).first_list().await;
    let head = upstream.requests()[0].head.clone();
    assert!(
        head.starts_with("GET /v1/kling/accounts HTTP/1.1\r\n"),
        "{head}"
    );
    for line in [
        &format!("authorization: Bearer {TOKEN}"),
        "accept: application/json",
        "accept-encoding: gzip",
        &format!("host: {}", upstream.addr),
    ] {
        assert!(
            head.contains(&format!("\r\n{line}\r\n")),
            "{line} in {head}"
        );
    }
}

#[tokio::test]
async fn debug_output_holds_no_token() {
    let source = Source::Http(source(format!("user:{TOKEN}@127.0.0.1:1")));
    assert!(!format!("{source:?}").contains(TOKEN));
    let (fetcher, rx) = Fetcher::new(source, TIMING);
    let text = format!("{fetcher:?} {rx:?}");
    assert!(
        text.contains("<redacted>") && !text.contains(TOKEN),
        "{text}"
    );
}

#[tokio::test]
async fn logs_hold_no_token_no_email_and_nothing_of_a_body() {
    let (log, _guard) = Log::capture();
    let replies = [
        Reply::json(GOOD),
        Reply::json(r#"{"ann@x":{"maxJobs":-3},"bob@x":{"maxJobs":2},"bob@X":{}}"#),
        Reply::json("ann@x b0dy"),
        Reply::status(200)
            .header("content-type", "text/html")
            .body("b0dy"),
        Reply::status(401).body("b0dy"),
        Reply::json(r#"{"zoe@x":{"error":"b0dy"}}"#),
        Reply::json("b0dy").announce(1000).then_reset(),
    ];
    let upstream = Upstream::start(replies).await;
    Watching::upstream(&upstream)
        .counted(FetchResult::Transport, 1)
        .await;
    let text = log.text();
    for expected in [
        "account list changed",
        "odd entries",
        "line 1 column 1",
        "rejects the token",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    for secret in [TOKEN, "s3cr3t", "b0dy", "ann@x", "bob@x", "zoe@x"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[tokio::test]
async fn logs_tell_transitions_once() {
    let (log, _guard) = Log::capture();
    let busy = || Reply::status(503);
    let rejected = || Reply::status(401);
    let replies = [
        busy(),
        busy(),
        rejected(),
        rejected(),
        busy(),
        rejected(),
        Reply::json(GOOD),
        busy(),
    ];
    let upstream = Upstream::start(replies).await;
    Watching::upstream(&upstream)
        .counted(FetchResult::Status, 5)
        .await;
    assert_eq!(
        log.count("WARN", "the account list cannot be fetched"),
        2,
        "{}",
        log.text()
    );
    assert_eq!(log.count("ERROR", "the upstream rejects the token"), 1);
    assert_eq!(
        log.count(
            "INFO",
            "the account list can be fetched again failed_count=6"
        ),
        1
    );
    assert_eq!(
        log.count("DEBUG", "account list changed added=2 removed=0 changed=0"),
        1
    );
}

#[tokio::test]
async fn odd_entries_are_told_once_for_as_long_as_they_stay() {
    let (log, _guard) = Log::capture();
    let odd = r#"{"ann@x":{"maxJobs":5000},"bob@x":{},"bob@X":{},"zoe@x":{"maxJobs":-1}}"#;
    let replies = [odd, odd, odd, GOOD, GOOD].map(Reply::json);
    let upstream = Upstream::start(replies).await;
    Watching::upstream(&upstream)
        .counted(FetchResult::Ok, 2)
        .await;
    assert_eq!(
        log.count(
            "WARN",
            "account list has odd entries rejected=1 merged=1 clamped=1"
        ),
        1
    );
    assert_eq!(
        log.count("INFO", "account list has no odd entries any more"),
        1
    );
}

#[test]
fn a_token_that_no_header_can_carry_is_refused() {
    let error = Credentials::new(&"two\r\nlines".into()).unwrap_err();
    assert!(!error.to_string().contains("lines"));
    let credentials = Credentials::new(&TOKEN.into()).unwrap();
    assert_eq!(credentials.replace(&"two\nlines".into()), Err(error));
    assert_eq!(credentials.replace(&TOKEN.into()), Ok(false));
    assert!(!format!("{credentials:?}").contains(TOKEN));
}

#[tokio::test]
async fn a_new_token_is_shown_at_once_where_the_old_one_was_refused() {
    let upstream = Upstream::start([Reply::status(401), Reply::json(GOOD)]).await;
    let credentials = Credentials::new(&"old".into()).unwrap();
    let base_url = format!("http://{}", upstream.addr).parse().unwrap();
    let tls = accounts_fetcher::tls_client_config(&base_url, &[]).unwrap();
    let source = accounts_fetcher::HttpSource::new(
        base_url,
        credentials.clone(),
        TIMING.timeout,
        TIMING.timeout,
        tls,
    );
    let patient = Timing {
        // Longer than the test: only the new token can bring the next fetch.
        backoff_max: Duration::from_secs(3600),
        ..TIMING
    };
    let mut watching = Watching::new(Source::Http(source), patient);
    watching.counted(FetchResult::Unauthorized, 1).await;
    assert_eq!(credentials.replace(&TOKEN.into()), Ok(true));
    watching.counted(FetchResult::Ok, 1).await;
    let shown = upstream
        .requests()
        .iter()
        .map(|it| it.head.contains(TOKEN))
        .collect::<Vec<_>>();
    assert_eq!(shown, [false, true]);
}
