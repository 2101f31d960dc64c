//! When the fetcher asks: at once, at intervals, one fetch at a time, and only as long as there is
//! a receiver.

use std::time::Duration;

use accounts_fetcher::{FetchResult, Fetcher, Source, Timing};
use tokio::time::timeout;

use crate::upstream::{Reply, Upstream};
use crate::watching::{TIMING, Watching, source};

const GOOD: &str = r#"{"a@x":{"maxJobs":3}}"#;

#[tokio::test]
async fn the_interval_lies_between_an_answer_and_the_next_fetch() {
    let upstream = Upstream::start([Reply::json(GOOD)]).await;
    Watching::upstream(&upstream)
        .counted(FetchResult::Ok, 4)
        .await;
    for pair in upstream.requests().windows(2) {
        assert!(pair[1].at - pair[0].at >= TIMING.refresh_interval.mul_f64(0.8));
    }
}

#[tokio::test]
async fn a_fetch_that_outlasts_the_interval_is_not_overlapped_by_the_next() {
    let slow = Reply::json(GOOD).dripping(Duration::from_millis(20));
    let upstream = Upstream::start([slow]).await;
    Watching::upstream(&upstream)
        .counted(FetchResult::Ok, 3)
        .await;
    assert_eq!(upstream.open_peak(), 1);
}

#[tokio::test]
async fn the_fetcher_ends_with_its_last_receiver_even_in_mid_fetch() {
    let upstream = Upstream::start([Reply::json(GOOD).announce(1000).then_stall()]).await;
    let (fetcher, rx) = Fetcher::new(Source::Http(source(upstream.addr)), TIMING);
    let running = tokio::spawn(fetcher.run());
    drop(rx);
    timeout(Duration::from_secs(20), running)
        .await
        .expect("it ends")
        .unwrap();
}

#[tokio::test]
async fn a_dropped_fetcher_leaves_what_it_published() {
    let upstream = Upstream::start([Reply::json(GOOD)]).await;
    let timing = Timing {
        refresh_interval: Duration::from_secs(3600),
        ..TIMING
    };
    let (fetcher, mut rx) = Fetcher::new(Source::Http(source(upstream.addr)), timing);
    let running = tokio::spawn(fetcher.run());
    timeout(Duration::from_secs(20), rx.changed())
        .await
        .unwrap()
        .unwrap();
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    assert!(rx.changed().await.is_err(), "the sender is gone");
    assert_eq!(rx.borrow().snapshot.as_ref().unwrap().accounts.len(), 1);
}

#[tokio::test]
async fn a_requested_fetch_is_one_that_begins_afterwards_and_many_share_it() {
    let upstream = Upstream::start([
        Reply::json(GOOD).dripping(Duration::from_millis(20)),
        Reply::json(r#"{"a@x":{"maxJobs":3},"b@x":{"maxJobs":3}}"#),
    ])
    .await;
    let timing = Timing {
        refresh_interval: Duration::from_secs(3600),
        ..TIMING
    };
    let (fetcher, rx) = Fetcher::new(Source::Http(source(upstream.addr)), timing);
    let waker = fetcher.waker();
    let running = tokio::spawn(fetcher.run());
    while upstream.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    // The first fetch is under way, so it does not count.
    let fetched = async { tokio::join!(waker.fetched(), waker.fetched(), waker.fetched()) };
    timeout(Duration::from_secs(20), fetched).await.unwrap();
    running.abort();
    assert_eq!(rx.borrow().snapshot.as_ref().unwrap().accounts.len(), 2);
    assert_eq!(upstream.requests().len(), 2);
}
