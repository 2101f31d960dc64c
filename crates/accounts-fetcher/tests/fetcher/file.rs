//! The list in a file.

use std::fs;
use std::path::Path;
use std::time::Duration;

use accounts_fetcher::limits::DECODED_BYTES_MAX;
use accounts_fetcher::{FetchResult, Source, Timing};
use tempfile::{NamedTempFile, TempDir};

use crate::watching::{TIMING, Watching, assert_kept, max_jobs};

const GOOD: &str = r#"{"a@x":{"maxJobs":3},"b@x":{"maxJobs":5}}"#;

fn watch(path: &Path) -> Watching {
    Watching::new(Source::File(path.to_owned()), TIMING)
}

/// Puts a new file in the place of `path` in one step, as careful writers do.
fn replace(path: &Path, text: &str) {
    let file = NamedTempFile::new_in(path.parent().unwrap()).unwrap();
    fs::write(&file, text).unwrap();
    file.persist(path).unwrap();
}

fn directory_with(text: &str) -> (TempDir, std::path::PathBuf) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("accounts.json");
    fs::write(&path, text).unwrap();
    (directory, path)
}

#[tokio::test]
async fn a_file_is_read_again_when_it_is_rewritten_or_replaced() {
    let (_directory, path) = directory_with(GOOD);
    let mut watching = watch(&path);
    assert_eq!(
        max_jobs(&*watching.first_list().await),
        [("a@x", 3), ("b@x", 5)]
    );
    fs::write(&path, r#"{"a@x":{"maxJobs":7},"longer@x":{}}"#).unwrap();
    let listing = watching.counted(FetchResult::Ok, 2).await;
    assert_eq!(
        max_jobs(&listing.snapshot.unwrap()),
        [("a@x", 7), ("longer@x", 1)]
    );
    replace(&path, r#"{"a@x":{"maxJobs":8},"longer@x":{}}"#);
    let listing = watching.counted(FetchResult::Ok, 3).await;
    assert_eq!(
        max_jobs(&listing.snapshot.unwrap()),
        [("a@x", 8), ("longer@x", 1)]
    );
}

#[tokio::test]
async fn a_byte_order_mark_is_ignored() {
    let (_directory, path) = directory_with(&format!("\u{feff}{GOOD}"));
    let mut watching = watch(&path);
    assert_eq!(
        max_jobs(&*watching.first_list().await),
        [("a@x", 3), ("b@x", 5)]
    );
}

#[tokio::test]
async fn an_unchanged_file_is_confirmed_without_being_read() {
    let (_directory, path) = directory_with(GOOD);
    let mut watching = watch(&path);
    let first = watching.counted(FetchResult::Ok, 1).await;
    let later = watching
        .until(|listing| listing.fetched_at > first.fetched_at)
        .await;
    assert_eq!(later.counts, first.counts);
    assert_kept(&later, &first.snapshot.unwrap(), "an unchanged file");
}

#[tokio::test]
async fn a_file_replaced_by_one_of_the_same_size_and_time_is_read() {
    let (_directory, path) = directory_with(GOOD);
    let mut watching = watch(&path);
    watching.first_list().await;
    let twin = NamedTempFile::new_in(path.parent().unwrap()).unwrap();
    fs::write(&twin, GOOD.replace('3', "4")).unwrap();
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    twin.as_file().set_modified(modified).unwrap();
    twin.persist(&path).unwrap();
    let listing = watching.counted(FetchResult::Ok, 2).await;
    assert_eq!(
        max_jobs(&listing.snapshot.unwrap()),
        [("a@x", 4), ("b@x", 5)]
    );
}

#[tokio::test]
async fn a_device_is_not_read_as_a_file() {
    let listing = watch(Path::new("/dev/null"))
        .counted(FetchResult::File, 1)
        .await;
    assert!(listing.snapshot.is_none());
}

#[tokio::test]
async fn a_change_is_noticed_within_a_second_however_long_the_interval() {
    let (_directory, path) = directory_with(GOOD);
    let timing = Timing {
        refresh_interval: Duration::from_secs(3600),
        ..TIMING
    };
    let mut watching = Watching::new(Source::File(path.clone()), timing);
    watching.first_list().await;
    replace(&path, r#"{"a@x":{},"b@x":{}}"#);
    watching.counted(FetchResult::Ok, 2).await;
}

#[tokio::test]
async fn a_broken_file_keeps_the_last_good_list_until_it_is_mended() {
    let (_directory, path) = directory_with(GOOD);
    let mut watching = watch(&path);
    let before = watching.first_list().await;
    replace(&path, r#"{"a@x":"#);
    assert_kept(
        &watching.counted(FetchResult::Parse, 2).await,
        &before,
        "half a file",
    );
    replace(&path, r#"{"a@x":{},"b@x":{}}"#);
    assert_eq!(
        watching
            .counted(FetchResult::Ok, 2)
            .await
            .snapshot
            .unwrap()
            .accounts
            .len(),
        2
    );
}

#[tokio::test]
async fn a_file_that_stays_empty_or_shrunk_is_believed_like_an_upstream() {
    let (_directory, path) = directory_with(GOOD);
    let mut watching = watch(&path);
    watching.first_list().await;
    replace(&path, r#"{"z@x":{}}"#);
    watching.counted(FetchResult::ShrinkHeld, 1).await;
    let listing = watching.counted(FetchResult::Ok, 2).await;
    assert_eq!(max_jobs(&listing.snapshot.unwrap()), [("z@x", 1)]);
    replace(&path, "{}");
    let listing = watching.counted(FetchResult::Empty, 1).await;
    assert_eq!(listing.counts.get(FetchResult::EmptyHeld), 2);
}

#[tokio::test]
async fn what_cannot_be_read_as_a_file_keeps_the_last_good_list() {
    let (_directory, path) = directory_with(GOOD);
    let mut watching = watch(&path);
    let before = watching.first_list().await;
    fs::remove_file(&path).unwrap();
    assert_kept(
        &watching.counted(FetchResult::File, 1).await,
        &before,
        "no file",
    );
    fs::create_dir(&path).unwrap();
    assert_kept(
        &watching.counted(FetchResult::File, 3).await,
        &before,
        "a directory",
    );
    fs::remove_dir(&path).unwrap();
    replace(&path, GOOD);
    assert_kept(
        &watching.counted(FetchResult::Ok, 2).await,
        &before,
        "the same list again",
    );
}

#[tokio::test]
async fn a_file_beyond_the_limit_is_too_large() {
    let (_directory, path) = directory_with(GOOD);
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(DECODED_BYTES_MAX as u64 + 1)
        .unwrap();
    let listing = watch(&path).counted(FetchResult::TooLarge, 1).await;
    assert!(listing.snapshot.is_none());
}
