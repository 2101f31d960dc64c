//! Bodies that are too large, encoded, slow or cut short (A6, A11).

use std::io::Write;
use std::time::Duration;

use accounts_fetcher::limits::{DECODED_BYTES_MAX, HEADER_LINES_MAX, WIRE_BYTES_MAX};
use accounts_fetcher::{FetchResult, Source, Timing};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::upstream::{Reply, Upstream};
use crate::watching::{TIMING, Watching, assert_kept, source, source_with_idle_timeout};

const GOOD: &str = r#"{"a@x":{"maxJobs":3}}"#;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Fetches [`GOOD`] and then `bad`, and expects `result` to leave the first list alone.
async fn assert_keeps_the_last_good_list(bad: Reply, result: FetchResult) {
    let upstream = Upstream::start([Reply::json(GOOD), bad]).await;
    let mut watching = Watching::upstream(&upstream);
    let before = watching.first_list().await;
    assert_kept(&watching.counted(result, 1).await, &before, result);
}

#[tokio::test]
async fn a_gzipped_list_is_read() {
    let reply = Reply::json(gzip(GOOD.as_bytes())).header("content-encoding", "gzip");
    let upstream = Upstream::start([reply]).await;
    assert_eq!(
        Watching::upstream(&upstream)
            .first_list()
            .await
            .accounts
            .len(),
        1
    );
}

#[tokio::test]
async fn a_list_with_an_odd_head_is_read() {
    let many = (2..HEADER_LINES_MAX).fold(Reply::json(GOOD), |reply, _| reply.header("x-foo", "1"));
    let odd = Reply::json(GOOD)
        .header("x-foo[bar]", "1")
        .header("x-foo ", "1")
        .header("x-folded", "1\r\n  2")
        .header("", "1")
        .header("content-length ", GOOD.len().to_string());
    for reply in [many.clone(), odd] {
        let upstream = Upstream::start([reply]).await;
        let list = Watching::upstream(&upstream).first_list().await;
        assert_eq!(list.accounts.len(), 1);
    }
    let more = many.header("x-foo", "1");
    assert_keeps_the_last_good_list(more, FetchResult::Transport).await;
    let two_lengths = Reply::json(GOOD).announce(GOOD.len()).announce(1);
    assert_keeps_the_last_good_list(two_lengths, FetchResult::Transport).await;
}

#[tokio::test]
async fn a_gzip_bomb_is_too_large() {
    const MEMBER_BYTES: usize = 1 << 20;
    // Gzip files may follow one another, so the bomb need not be packed as a whole.
    let bomb = gzip(&vec![b' '; MEMBER_BYTES]).repeat(DECODED_BYTES_MAX / MEMBER_BYTES + 1);
    assert!(bomb.len() < 1 << 20, "harmless on the wire");
    let reply = Reply::json(bomb).header("content-encoding", "gzip");
    assert_keeps_the_last_good_list(reply, FetchResult::TooLarge).await;
}

#[tokio::test]
async fn an_encoding_that_was_not_asked_for_is_refused() {
    for encoding in ["br", "gzip, gzip", "zstd"] {
        let reply = Reply::json(GOOD).header("content-encoding", encoding);
        assert_keeps_the_last_good_list(reply, FetchResult::Encoding).await;
    }
    let lie = Reply::json(GOOD).header("content-encoding", "gzip");
    assert_keeps_the_last_good_list(lie, FetchResult::Encoding).await;
}

#[tokio::test]
async fn a_body_that_announces_too_much_is_refused_before_it_comes() {
    let silent = Reply::json("").announce(WIRE_BYTES_MAX + 1).then_stall();
    assert_keeps_the_last_good_list(silent, FetchResult::TooLarge).await;
}

#[tokio::test]
async fn a_body_that_turns_out_too_large_is_refused() {
    let mut body = GOOD.as_bytes().to_vec();
    body.resize(WIRE_BYTES_MAX + 1, b' ');
    assert_keeps_the_last_good_list(Reply::json(body), FetchResult::TooLarge).await;
}

#[tokio::test]
async fn a_million_entries_are_too_large() {
    let entries: Vec<_> = (0..1_000_000).map(|n| format!(r#""{n}@x":0"#)).collect();
    let body = format!("{{{}}}", entries.join(","));
    assert_keeps_the_last_good_list(Reply::json(body), FetchResult::TooLarge).await;
}

#[tokio::test]
async fn a_stall_in_mid_body_ends_by_the_idle_deadline() {
    let stalled = Reply::json(GOOD).announce(1000).then_stall();
    let upstream = Upstream::start([Reply::json(GOOD), stalled]).await;
    let source = source_with_idle_timeout(upstream.addr, Duration::from_secs(1));
    let mut watching = Watching::new(Source::Http(source), TIMING);
    let before = watching.first_list().await;
    let listing = watching.counted(FetchResult::Timeout, 1).await;
    assert_kept(&listing, &before, "a stall");
}

#[tokio::test]
async fn a_drip_ends_by_the_total_deadline() {
    // No pause is as long as the idle deadline, but all of them are longer than the total one.
    let dripping = Reply::json(GOOD.repeat(1000)).dripping(Duration::from_millis(20));
    let upstream = Upstream::start([Reply::json(GOOD), dripping]).await;
    let timing = Timing {
        timeout: Duration::from_secs(2),
        ..TIMING
    };
    let mut watching = Watching::new(Source::Http(source(upstream.addr)), timing);
    let before = watching.first_list().await;
    assert_kept(
        &watching.counted(FetchResult::Timeout, 1).await,
        &before,
        "a drip",
    );
}

#[tokio::test]
async fn an_upstream_that_never_answers_ends_by_the_total_deadline() {
    let upstream = Upstream::start([Reply::status(100).then_stall()]).await;
    let timing = Timing {
        timeout: Duration::from_millis(200),
        ..TIMING
    };
    let mut watching = Watching::new(Source::Http(source(upstream.addr)), timing);
    assert!(
        watching
            .counted(FetchResult::Timeout, 2)
            .await
            .snapshot
            .is_none()
    );
}

#[tokio::test]
async fn a_reset_in_mid_body_keeps_the_last_good_list() {
    // The bytes before the reset would be a complete, smaller list.
    let reset = Reply::json(r#"{"a@x":{"maxJobs":1}}"#)
        .announce(1000)
        .then_reset();
    assert_keeps_the_last_good_list(reset, FetchResult::Transport).await;
}

#[tokio::test]
async fn a_body_cut_short_keeps_the_last_good_list() {
    let cut = Reply::json(r#"{"a@x":{"maxJobs":1}}"#).announce(1000);
    assert_keeps_the_last_good_list(cut, FetchResult::Transport).await;
    let chunk =
        Reply::json("15\r\n{\"a@x\":{\"maxJobs\":1}}\r\n").header("transfer-encoding", "chunked");
    assert_keeps_the_last_good_list(chunk, FetchResult::Transport).await;
}
