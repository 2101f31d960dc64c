//! What becomes of each kind of list (A1–A3, A7–A10, A12, A13).

use std::sync::Arc;

use accounts_fetcher::{Account, FetchResult};

use crate::upstream::{Reply, Upstream};
use crate::watching::{Watching, assert_kept, max_jobs};

const GOOD: &str = r#"{"a@x":{"maxJobs":3},"b@x":{"maxJobs":5}}"#;

/// Fetches [`GOOD`] and then `bad` for ever, and expects `result` to leave the first list alone.
async fn assert_keeps_the_last_good_list(bad: Reply, result: FetchResult) {
    let upstream = Upstream::start([Reply::json(GOOD), bad.clone()]).await;
    let mut watching = Watching::upstream(&upstream);
    let before = watching.first_list().await;
    let listing = watching.counted(result, 2).await;
    assert_kept(&listing, &before, bad);
    assert_eq!(listing.last_result, Some(result));
    assert_eq!(max_jobs(&before), [("a@x", 3), ("b@x", 5)]);
}

#[tokio::test]
async fn the_first_list_is_published_at_once_and_an_unchanged_one_is_the_same_snapshot() {
    let upstream = Upstream::start([Reply::json(GOOD)]).await;
    let mut watching = Watching::upstream(&upstream);
    let first = watching.counted(FetchResult::Ok, 1).await;
    let before = first.snapshot.unwrap();
    assert_eq!(
        *before.accounts,
        [Account::new("a@x", 3), Account::new("b@x", 5)].map(Arc::new)
    );
    let third = watching.counted(FetchResult::Ok, 3).await;
    assert_kept(&third, &before, "an unchanged list");
    assert!(third.fetched_at > first.fetched_at, "but it was confirmed");
}

#[tokio::test]
async fn malformed_json_keeps_the_last_good_list() {
    let deep = "[".repeat(10_000);
    let malformed = [
        br#"{"a@x":{"maxJobs":3}"#.as_slice(),
        br#"{"a@x":{}} trailing"#,
        b"\xef\xbb\xbf{\"a@x\":{}}",
        br#"{"a@x":{"maxJobs":NaN}}"#,
        b"\xff\xfe",
        b"",
        deep.as_bytes(),
    ];
    for body in malformed {
        assert_keeps_the_last_good_list(Reply::json(body), FetchResult::Parse).await;
    }
}

#[tokio::test]
async fn without_a_last_good_list_there_is_none_until_a_good_one_comes() {
    let upstream =
        Upstream::start([Reply::json("oops"), Reply::status(500), Reply::json(GOOD)]).await;
    let mut watching = Watching::upstream(&upstream);
    let listing = watching.counted(FetchResult::Parse, 1).await;
    assert_eq!((listing.snapshot, listing.fetched_at), (None, None));
    assert_eq!(watching.first_list().await.accounts.len(), 2);
    let counts = watching.counted(FetchResult::Ok, 1).await.counts;
    assert_eq!(
        counts.get(FetchResult::Status),
        1,
        "counted even if its version was skipped"
    );
}

#[tokio::test]
async fn an_html_page_with_status_200_keeps_the_last_good_list() {
    let page = Reply::status(200)
        .header("content-type", "text/html")
        .body("<h1>Maintenance</h1>");
    assert_keeps_the_last_good_list(page, FetchResult::ContentType).await;
    let disguised = Reply::status(200)
        .header("content-type", "text/plain")
        .body("{}");
    assert_keeps_the_last_good_list(disguised, FetchResult::ContentType).await;
}

#[tokio::test]
async fn a_list_that_does_not_say_its_type_is_a_list() {
    let upstream = Upstream::start([Reply::status(200).body(GOOD)]).await;
    assert_eq!(
        Watching::upstream(&upstream)
            .first_list()
            .await
            .accounts
            .len(),
        2
    );
}

#[tokio::test]
async fn json_that_is_no_list_keeps_the_last_good_list() {
    for body in ["null", "[]", r#"{"error":"Unauthorized","code":401}"#] {
        assert_keeps_the_last_good_list(Reply::json(body), FetchResult::Schema).await;
    }
}

#[tokio::test]
async fn an_empty_list_is_believed_the_third_time() {
    let upstream = Upstream::start([Reply::json(GOOD), Reply::json("{}")]).await;
    let mut watching = Watching::upstream(&upstream);
    let before = watching.first_list().await;
    assert_kept(
        &watching.counted(FetchResult::EmptyHeld, 1).await,
        &before,
        "one empty list",
    );
    let listing = watching.counted(FetchResult::Empty, 1).await;
    assert_eq!(listing.counts.get(FetchResult::EmptyHeld), 2);
    assert!(listing.snapshot.unwrap().accounts.is_empty());
}

#[tokio::test]
async fn a_failure_starts_the_row_of_empty_lists_again() {
    let empty = || Reply::json("{}");
    let broken = Reply::status(500);
    let replies = [Reply::json(GOOD), empty(), empty(), broken, empty()];
    let upstream = Upstream::start(replies).await;
    let mut watching = Watching::upstream(&upstream);
    let listing = watching.counted(FetchResult::Empty, 1).await;
    assert_eq!(listing.counts.get(FetchResult::EmptyHeld), 4);
}

#[tokio::test]
async fn a_first_list_that_is_empty_needs_three_times_too() {
    let upstream = Upstream::start([Reply::json("{}")]).await;
    let mut watching = Watching::upstream(&upstream);
    assert!(watching.first_list().await.accounts.is_empty());
    let counts = watching.counted(FetchResult::Empty, 1).await.counts;
    assert_eq!(counts.get(FetchResult::EmptyHeld), 2);
}

#[tokio::test]
async fn duplicates_are_one_account_with_the_smallest_limit() {
    let body = r#"{"a@X.com":{"maxJobs":5},"b@x":{"maxJobs":1}," a@x.COM ":{"maxJobs":2}}"#;
    let upstream = Upstream::start([Reply::json(body)]).await;
    let snapshot = Watching::upstream(&upstream).first_list().await;
    assert_eq!(max_jobs(&snapshot), [("a@X.com", 2), ("b@x", 1)]);
}

#[tokio::test]
async fn a_bad_limit_keeps_the_previous_one_and_the_other_entries_apply() {
    for bad in ["-1", "3.5", r#""3""#, "true", "[]"] {
        let next = format!(r#"{{"b@x":{{"maxJobs":6}},"a@x":{{"maxJobs":{bad}}}}}"#);
        let upstream = Upstream::start([Reply::json(GOOD), Reply::json(next)]).await;
        let mut watching = Watching::upstream(&upstream);
        let listing = watching.counted(FetchResult::Partial, 1).await;
        assert_eq!(
            max_jobs(&listing.snapshot.unwrap()),
            [("b@x", 6), ("a@x", 3)],
            "{bad}"
        );
        assert_eq!(listing.entries_rejected, 1);
    }
}

#[tokio::test]
async fn odd_but_usable_limits_are_brought_into_range() {
    let body = r#"{"zero@x":{"maxJobs":0},"huge@x":{"maxJobs":1e18},"null@x":{"maxJobs":null},
        "absent@x":{},"wrap@x":{"maxJobs":4294967297},"float@x":{"maxJobs":3.0}}"#;
    let upstream = Upstream::start([Reply::json(body)]).await;
    let snapshot = Watching::upstream(&upstream).first_list().await;
    let limits: Vec<_> = snapshot
        .accounts
        .iter()
        .map(|account| account.max_jobs)
        .collect();
    assert_eq!(limits, [0, 1000, 1, 1, 1000, 3]);
}

#[tokio::test]
async fn a_removed_account_leaves_the_next_snapshot_and_may_return() {
    let less = r#"{"b@x":{"maxJobs":5}}"#;
    let upstream = Upstream::start([Reply::json(GOOD), Reply::json(less), Reply::json(GOOD)]).await;
    let mut watching = Watching::upstream(&upstream);
    let first = watching.first_list().await;
    let second = watching.counted(FetchResult::Ok, 2).await.snapshot.unwrap();
    assert_eq!(
        max_jobs(&second),
        [("b@x", 5)],
        "one of two is no sharp loss"
    );
    let third = watching.counted(FetchResult::Ok, 3).await.snapshot.unwrap();
    assert_eq!(third, first);
    assert!(
        !Arc::ptr_eq(&third, &first),
        "it was another list in between"
    );
}

#[tokio::test]
async fn a_lowered_and_a_raised_limit_are_published() {
    let lower = r#"{"a@x":{"maxJobs":1},"b@x":{"maxJobs":9}}"#;
    let upstream = Upstream::start([Reply::json(GOOD), Reply::json(lower)]).await;
    let listing = Watching::upstream(&upstream)
        .counted(FetchResult::Ok, 2)
        .await;
    assert_eq!(
        max_jobs(&listing.snapshot.unwrap()),
        [("a@x", 1), ("b@x", 9)]
    );
}

#[tokio::test]
async fn a_mass_shrink_is_held_until_a_second_fetch_confirms_it() {
    let shrunk = r#"{"z@x":{"maxJobs":1}}"#;
    let upstream = Upstream::start([Reply::json(GOOD), Reply::json(shrunk)]).await;
    let mut watching = Watching::upstream(&upstream);
    let before = watching.first_list().await;
    assert_kept(
        &watching.counted(FetchResult::ShrinkHeld, 1).await,
        &before,
        "one shrunk list",
    );
    let listing = watching.counted(FetchResult::Ok, 2).await;
    assert_eq!(listing.counts.get(FetchResult::ShrinkHeld), 1);
    assert_eq!(max_jobs(&listing.snapshot.unwrap()), [("z@x", 1)]);
}

#[tokio::test]
async fn a_flapping_list_never_shrinks() {
    let flapping = [GOOD, r#"{"z@x":{}}"#, GOOD, r#"{"z@x":{}}"#, GOOD].map(Reply::json);
    let upstream = Upstream::start(flapping).await;
    let mut watching = Watching::upstream(&upstream);
    let before = watching.first_list().await;
    let listing = watching.counted(FetchResult::Ok, 3).await;
    assert_eq!(listing.counts.get(FetchResult::ShrinkHeld), 2);
    assert_kept(&listing, &before, "flapping");
}

#[tokio::test]
async fn hostile_keys_are_rejected_and_the_rest_is_used() {
    let long = "a".repeat(10_240);
    let body = format!(
        r#"{{"{{}}":{{}},"a@x\r\nHost: evil":{{}},"a\u0000@x":{{}},"a\u202e@x":{{}},"{long}@x":{{}},
            "":{{}},"good@x":{{"maxJobs":4}}}}"#
    );
    let upstream = Upstream::start([Reply::json(body)]).await;
    let mut watching = Watching::upstream(&upstream);
    let listing = watching.counted(FetchResult::Partial, 1).await;
    assert_eq!(max_jobs(&listing.snapshot.unwrap()), [("good@x", 4)]);
    assert_eq!(listing.entries_rejected, 6);
}

#[tokio::test]
async fn an_account_in_error_is_listed_with_its_reason() {
    let body =
        r#"{"a@x":{"maxJobs":3,"error":"session broken","password":"p4ss"},"b@x":{"error":null}}"#;
    let upstream = Upstream::start([Reply::json(body)]).await;
    let snapshot = Watching::upstream(&upstream).first_list().await;
    let errors: Vec<_> = snapshot
        .accounts
        .iter()
        .map(|a| a.error().map(|it| &**it))
        .collect();
    assert_eq!(errors, [Some("session broken"), None]);
    assert!(!format!("{snapshot:?}").contains("p4ss"));
}
