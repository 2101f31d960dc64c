mod backup;
mod faults;
mod kill;
mod refusals;
mod syncs;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::*;
use crate::journal::Table;

const POOL: &str = "0123456789abcdef0123456789abcdef";

/// A directory with the place of a book in it.
struct Desk {
    directory: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("book.db")
    }

    async fn opened(&self) -> Opened {
        self.try_open().await.unwrap()
    }

    async fn try_open(&self) -> Result<Opened, OpenError> {
        // A child that another test is starting may have the lock for a moment, until it runs its own program.
        Sqlite::open(&self.path(), SyncMode::Process, POOL, || ()).await
    }

    /// The names in the directory, in order.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// What the book holds, read by a connection of its own.
    fn stored(&self) -> Vec<(String, String, String)> {
        let conn = rusqlite::Connection::open(self.path()).unwrap();
        let mut select = conn
            .prepare("SELECT kind, name, value FROM record ORDER BY kind, name")
            .unwrap();
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        rows.unwrap().map(Result::unwrap).collect()
    }

    /// Writes to the closed book as no sidecar would.
    fn tamper(&self, sql: &str) {
        let conn = rusqlite::Connection::open(self.path()).unwrap();
        conn.execute_batch(sql).unwrap();
    }
}

fn put(table: Table, name: &str, value: &str) -> Change {
    let (name, value) = (name.to_owned(), Some(value.to_owned()));
    Change { table, name, value }
}

fn gone(table: Table, name: &str) -> Change {
    let (name, value) = (name.to_owned(), None);
    Change { table, name, value }
}

fn record(table: Table, name: &str, value: &str) -> Record {
    let (name, value) = (name.to_owned(), value.to_owned());
    Record { table, name, value }
}

/// This test binary, to run the one test `name` in a process of its own. What `settings` say comes as variables.
fn child(name: &str, settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .envs(settings.iter().copied())
        .stdin(Stdio::null());
    command
}

/// A variable that [`child`] sets. `None` in an ordinary run of the tests.
fn given(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[test]
fn the_library_loses_no_commits() {
    // Before 3.51.3 a commit was lost where two connections wrote and checkpointed at once.
    assert!(rusqlite::version_number() >= 3_051_003);
}

#[tokio::test]
async fn what_was_committed_is_loaded_after_a_restart() {
    let desk = Desk::new();
    let Opened {
        mut journal,
        is_fresh,
        moved_aside,
    } = desk.opened().await;
    assert!(is_fresh && moved_aside.is_none());
    assert_eq!(journal.load().await.unwrap(), []);
    let batch = vec![
        put(Table::Lease, "b", r#"{"n":1}"#),
        put(Table::Lease, "a", r#"{"n":"é"}"#),
        put(Table::Account, "a", "{}"),
        put(Table::Owner, "gone", "{}"),
    ];
    journal.commit(batch).await.unwrap();
    let batch = vec![
        put(Table::Lease, "b", r#"{"n":2}"#),
        gone(Table::Owner, "gone"),
        gone(Table::Session, "never there"),
    ];
    // The same again has the same effect.
    journal.commit(batch.clone()).await.unwrap();
    journal.commit(batch).await.unwrap();
    journal.commit(Vec::new()).await.unwrap();
    let expected = [
        record(Table::Account, "a", "{}"),
        record(Table::Lease, "a", r#"{"n":"é"}"#),
        record(Table::Lease, "b", r#"{"n":2}"#),
    ];
    assert_eq!(journal.load().await.unwrap(), expected);
    journal.close().await;
    assert_eq!(desk.names(), ["book.db", "book.db.lock"]);

    let mut again = desk.opened().await;
    assert!(!again.is_fresh && again.moved_aside.is_none());
    assert_eq!(again.journal.load().await.unwrap(), expected);
}

#[tokio::test]
async fn records_of_tables_that_a_newer_version_has_are_kept() {
    let desk = Desk::new();
    desk.opened().await.journal.close().await;
    desk.tamper("INSERT INTO record VALUES ('novelty', 'x', '{}')");
    let mut journal = desk.opened().await.journal;
    assert_eq!(journal.load().await.unwrap(), []);
    journal
        .commit(vec![put(Table::Lease, "a", "{}")])
        .await
        .unwrap();
    journal.close().await;
    let kinds: Vec<_> = desk.stored().into_iter().map(|(kind, ..)| kind).collect();
    assert_eq!(kinds, ["lease", "novelty"]);
}

#[tokio::test]
async fn statistics_count_records_by_table_and_bytes() {
    let desk = Desk::new();
    let mut journal = desk.opened().await.journal;
    let counted = |journal: &Sqlite| {
        let now = journal.statistics();
        let mut records = now.records().filter(|(_, count)| *count > 0);
        let text: Vec<_> = records
            .by_ref()
            .map(|(table, count)| format!("{table} {count}"))
            .collect();
        text.join(", ")
    };
    assert_eq!(counted(&journal), "");
    let many: Vec<_> = (0..100)
        .map(|idx| put(Table::Lease, &idx.to_string(), &"x".repeat(1000)))
        .collect();
    journal.commit(many.clone()).await.unwrap();
    journal.commit(many).await.unwrap();
    assert_eq!(counted(&journal), "lease 100");
    let mixed = vec![
        gone(Table::Lease, "1"),
        gone(Table::Lease, "1"),
        put(Table::Book, "clock", "{}"),
    ];
    journal.commit(mixed).await.unwrap();
    assert_eq!(counted(&journal), "book 1, lease 99");
    let statistics = journal.statistics();
    assert!(statistics.bytes > 100_000);
    journal.close().await;
    let again = desk.opened().await.journal;
    assert_eq!(again.statistics().counts, statistics.counts);
}

#[tokio::test]
async fn only_its_user_can_read_the_files() {
    let desk = Desk::new();
    let mode = |name: &str| {
        let found = fs::metadata(desk.directory.path().join(name)).unwrap();
        found.permissions().mode() & 0o7777
    };
    let mut journal = desk.opened().await.journal;
    journal
        .commit(vec![put(Table::Lease, "a", "{}")])
        .await
        .unwrap();
    let all = ["book.db", "book.db-shm", "book.db-wal", "book.db.lock"];
    assert_eq!(desk.names(), all);
    assert_eq!(all.map(mode), [0o600; 4]);
    journal.close().await;
    // As a copy may have left it.
    let open_to_all = fs::Permissions::from_mode(0o644);
    fs::set_permissions(desk.path(), open_to_all).unwrap();
    let _journal = desk.opened().await.journal;
    assert_eq!(all.map(mode), [0o600; 4]);
}

#[tokio::test]
async fn the_log_of_changes_stays_small() {
    let desk = Desk::new();
    let mut journal = desk.opened().await.journal;
    let mut longest = 0;
    // Each batch is a megabyte of the log: ten times what it may have.
    for round in 0..160 {
        let value = format!("{round:04096}");
        let batch = (0..256).map(|idx| put(Table::Lease, &idx.to_string(), &value));
        journal.commit(batch.collect()).await.unwrap();
        let log = fs::metadata(desk.directory.path().join("book.db-wal"));
        longest = longest.max(log.unwrap().len());
    }
    assert!(longest > 15 << 20, "{longest}");
    // One batch more than the limit.
    assert!(longest < 20 << 20, "{longest}");
}
