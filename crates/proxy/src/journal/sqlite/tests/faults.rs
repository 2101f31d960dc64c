//! Disks that are full or read-only, and files that others lock, delete or replace.

use std::os::unix::{fs::MetadataExt, process::CommandExt};

use rlimit::Resource;

use super::*;
use crate::journal::sqlite::error::told;

const DIRECTORY: &str = "KLB_TEST_DIRECTORY";

fn at(directory: &str) -> PathBuf {
    Path::new(directory).join("book.db")
}

async fn try_open(path: &Path) -> Result<Opened, OpenError> {
    Sqlite::open(path, SyncMode::Process, POOL, || ()).await
}

/// Runs the child test `name` with `directory`.
fn run(mut command: Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Lets files be as long as this, and no longer.
fn limit(bytes: u64) {
    let (_, most) = Resource::FSIZE.get().unwrap();
    Resource::FSIZE.set(bytes.min(most), most).unwrap();
}

/// Cannot write what it wants to, and then can. It is no test unless another one runs it.
#[tokio::test]
async fn child_whose_disk_is_full() {
    let Some(directory) = given(DIRECTORY) else {
        return;
    };
    let path = at(&directory);
    limit(0);
    let refused = try_open(&path).await.unwrap_err();
    assert!(!refused.is_fatal(), "{refused}");
    let text = refused.to_string();
    assert!(text.contains("free space"), "{text}");
    limit(u64::MAX);
    let opened = try_open(&path).await.unwrap();
    assert!(opened.is_fresh && opened.moved_aside.is_none());

    let mut journal = opened.journal;
    let first = vec![put(Table::Lease, "a", "{}")];
    journal.commit(first).await.unwrap();
    let log = format!("{}-wal", path.display());
    limit(fs::metadata(&log).unwrap().len() + 8192);
    let many: Vec<_> = (0..64)
        .map(|idx| put(Table::Account, &idx.to_string(), &"x".repeat(4000)))
        .collect();
    for _ in 0..3 {
        let failed = journal.commit(many.clone()).await.unwrap_err();
        assert!(failed.to_string().contains("free space"), "{failed}");
        let records = journal.load().await.unwrap();
        assert_eq!(records, [record(Table::Lease, "a", "{}")]);
    }
    // The log has given its space back.
    assert_eq!(fs::metadata(log).unwrap().len(), 0);
    limit(u64::MAX);
    journal.commit(many).await.unwrap();
    let statistics = journal.statistics();
    assert_eq!(statistics.counts.iter().sum::<u64>(), 65);
    journal.close().await;
    limit(0);
    assert!(!try_open(&path).await.unwrap_err().is_fatal());
}

#[tokio::test]
async fn after_a_full_disk_the_next_commit_succeeds_without_a_restart() {
    let desk = Desk::new();
    let directory = desk.directory.path().to_str().unwrap();
    let name = "journal::sqlite::tests::faults::child_whose_disk_is_full";
    let told = child(name, &[]);
    // A shell, since the signal for a file that is too long ends a process that does not ignore it.
    let mut command = Command::new("sh");
    command
        .args(["-c", r#"trap "" XFSZ; exec "$0" "$@""#])
        .arg(told.get_program())
        .args(told.get_args())
        .env(DIRECTORY, directory);
    run(command);
    assert_eq!(desk.stored().len(), 65);
}

/// May not write, and then may. It is no test unless another one runs it.
#[tokio::test]
async fn child_whose_file_is_read_only() {
    let Some(directory) = given(DIRECTORY) else {
        return;
    };
    let path = at(&directory);
    let mode =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    try_open(&path).await.unwrap().journal.close().await;
    mode(&path, 0o400);
    let refused = try_open(&path).await.unwrap_err();
    assert!(!refused.is_fatal(), "{refused}");
    assert!(refused.to_string().contains("writable"), "{refused}");
    mode(&path, 0o600);
    let opened = try_open(&path).await.unwrap();
    assert!(!opened.is_fresh && opened.moved_aside.is_none());
    opened.journal.close().await;
    // A directory that was never meant for us is a matter of the settings.
    let closed = Path::new(&directory).join("closed");
    fs::create_dir(&closed).unwrap();
    mode(&closed, 0o500);
    let refused = try_open(&closed.join("book.db")).await.unwrap_err();
    assert!(refused.is_fatal(), "{refused}");
    assert!(
        refused
            .to_string()
            .contains("writable for the user of the sidecar"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_file_that_is_read_only_is_opened_once_it_can_be_written() {
    let desk = Desk::new();
    let directory = desk.directory.path();
    let name = "journal::sqlite::tests::faults::child_whose_file_is_read_only";
    let told = child(name, &[]);
    // Root may write everywhere. It runs this by its own descriptor: another user may not find its path.
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let mut command = Command::new("/proc/self/exe");
    command.args(told.get_args()).env(DIRECTORY, directory);
    if is_root {
        let nobody = 65_534;
        std::os::unix::fs::chown(directory, Some(nobody), Some(nobody)).unwrap();
        command.uid(nobody).current_dir("/");
    }
    run(command);
}

#[tokio::test]
async fn a_file_that_is_deleted_while_it_is_open_is_written_again() {
    let all = ["book.db", "book.db-shm", "book.db-wal"];
    for deleted in [&all[..], &all[..1], &all[1..2], &all[2..]] {
        let desk = Desk::new();
        let mut journal = desk.opened().await.journal;
        journal
            .commit(vec![put(Table::Lease, "a", "{}")])
            .await
            .unwrap();
        for name in deleted {
            fs::remove_file(desk.directory.path().join(name)).unwrap();
        }
        journal
            .commit(vec![put(Table::Lease, "b", "{}")])
            .await
            .unwrap();
        journal
            .commit(vec![put(Table::Lease, "c", "{}")])
            .await
            .unwrap();
        let expected = ["a", "b", "c"].map(|name| record(Table::Lease, name, "{}"));
        assert_eq!(journal.load().await.unwrap(), expected);
        assert_eq!(desk.stored().len(), 3, "{deleted:?}");
        let mode = fs::metadata(desk.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        journal.close().await;
        assert_eq!(desk.names(), ["book.db", "book.db.lock"]);
        let mut again = desk.opened().await;
        assert_eq!(again.journal.load().await.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_directory_that_vanishes_stops_commits_until_it_is_back() {
    let desk = Desk::new();
    let inner = desk.directory.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let mut journal = try_open(&inner.join("book.db")).await.unwrap().journal;
    journal
        .commit(vec![put(Table::Lease, "a", "{}")])
        .await
        .unwrap();
    fs::remove_dir_all(&inner).unwrap();
    for _ in 0..2 {
        let failed = journal.commit(vec![put(Table::Lease, "b", "{}")]).await;
        let text = failed.unwrap_err().to_string();
        assert!(text.contains("book.db cannot be"), "{text}");
    }
    fs::create_dir(&inner).unwrap();
    journal
        .commit(vec![put(Table::Lease, "c", "{}")])
        .await
        .unwrap();
    journal.close().await;
    let mut again = try_open(&inner.join("book.db")).await.unwrap();
    let expected = ["a", "c"].map(|name| record(Table::Lease, name, "{}"));
    assert_eq!(again.journal.load().await.unwrap(), expected);
}

#[tokio::test]
async fn a_file_that_somebody_put_in_place_of_ours_is_not_touched() {
    let desk = Desk::new();
    let mut journal = desk.opened().await.journal;
    journal
        .commit(vec![put(Table::Lease, "a", "{}")])
        .await
        .unwrap();
    let restored = desk.directory.path().join("restored");
    fs::write(&restored, "a backup").unwrap();
    fs::rename(&restored, desk.path()).unwrap();
    let failed = journal.commit(vec![put(Table::Lease, "b", "{}")]).await;
    let text = failed.unwrap_err().to_string();
    assert!(
        text.contains("was replaced while it was in use; restart the sidecar"),
        "{text}"
    );
    assert_eq!(fs::read(desk.path()).unwrap(), b"a backup");
    fs::rename(desk.path(), restored).unwrap();
    journal
        .commit(vec![put(Table::Lease, "b", "{}")])
        .await
        .unwrap();
    assert_eq!(desk.stored().len(), 2);
}

#[tokio::test]
async fn a_file_that_another_program_has_locked_is_written_when_it_is_free() {
    let desk = Desk::new();
    let mut journal = desk.opened().await.journal;
    let other = rusqlite::Connection::open(desk.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let failed = journal.commit(vec![put(Table::Lease, "a", "{}")]).await;
    let text = failed.unwrap_err().to_string();
    assert!(
        text.contains("another program writes to it: close that one"),
        "{text}"
    );
    drop(other);
    journal
        .commit(vec![put(Table::Lease, "a", "{}")])
        .await
        .unwrap();
    assert_eq!(journal.load().await.unwrap().len(), 1);
}

#[test]
fn an_error_says_what_to_do_and_not_what_was_to_be_written() {
    let place = Place::new(Path::new("/b/book.db"), SyncMode::Process, POOL);
    for (code, advice) in [
        (rusqlite::ffi::SQLITE_FULL, "free space on its disk"),
        (rusqlite::ffi::SQLITE_IOERR_WRITE, "look for free space"),
        (rusqlite::ffi::SQLITE_READONLY, "writable for the user"),
        (rusqlite::ffi::SQLITE_CANTOPEN, "accessible for the user"),
        (rusqlite::ffi::SQLITE_BUSY, "close that one"),
        (rusqlite::ffi::SQLITE_CORRUPT, "restart the sidecar"),
    ] {
        let error = rusqlite::ffi::Error::new(code);
        let error = rusqlite::Error::SqliteFailure(error, Some("a@x".to_owned()));
        let text = told(&place, &error).to_string();
        assert!(
            text.starts_with("/b/book.db cannot be used (") && text.contains(advice),
            "{text}"
        );
        assert!(!text.contains("a@x"), "{text}");
    }
}
