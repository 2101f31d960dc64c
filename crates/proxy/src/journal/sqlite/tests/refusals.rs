//! Files that are not opened, and those that are moved aside.

use std::{cell::Cell, io::Write};

use tokio::time::{self, Instant};

use super::*;
use crate::journal::sqlite::place::remote_kind;

fn said(refused: Result<Opened, OpenError>) -> (String, bool) {
    let error = refused.unwrap_err();
    (error.to_string(), error.is_fatal())
}

#[tokio::test]
async fn a_second_one_waits_until_the_first_gives_the_file_back() {
    let desk = Desk::new();
    let mut first = desk.opened().await.journal;
    first
        .commit(vec![put(Table::Lease, "a", "{}")])
        .await
        .unwrap();
    let first = Cell::new(Some(first));
    // It is dropped when the second one says that it waits.
    let waits = || drop(first.take().unwrap());
    let second = Sqlite::open(&desk.path(), SyncMode::Process, POOL, waits).await;
    assert!(first.take().is_none());
    let records = second.unwrap().journal.load().await.unwrap();
    assert_eq!(records, [record(Table::Lease, "a", "{}")]);
}

#[tokio::test(start_paused = true)]
async fn one_that_waits_in_vain_names_the_process_that_has_the_file() {
    let desk = Desk::new();
    let _first = desk.opened().await;
    let link = desk.directory.path().join("link.db");
    std::os::unix::fs::symlink(desk.path(), &link).unwrap();
    // By whatever name.
    for path in [desk.path(), link] {
        let waits = Cell::new(0);
        let on_wait = || waits.set(waits.get() + 1);
        let began = Instant::now();
        let second = Sqlite::open(&path, SyncMode::Process, POOL, on_wait).await;
        let path = fs::canonicalize(desk.path()).unwrap();
        let expected = format!(
            "{} is in use by process {}; each sidecar needs a file of its own: stop that one, or set another \
             state.path",
            path.display(),
            std::process::id()
        );
        assert_eq!(said(second), (expected, true));
        assert_eq!(waits.get(), 1);
        assert!(began.elapsed() >= time::Duration::from_secs(30));
    }
}

#[tokio::test]
async fn a_book_of_other_accounts_is_refused_and_left_alone() {
    let desk = Desk::new();
    desk.opened().await.journal.close().await;
    let before = fs::read(desk.path()).unwrap();
    let other = Sqlite::open(&desk.path(), SyncMode::Process, "another", || ()).await;
    let (text, is_fatal) = said(other);
    assert!(
        text.contains(&format!(
            "(pool {POOL}, not another); set another state.path"
        )) && is_fatal,
        "{text}"
    );
    assert_eq!(fs::read(desk.path()).unwrap(), before);
    assert!(!desk.opened().await.is_fresh);
}

#[tokio::test]
async fn a_newer_format_is_refused_and_names_its_version() {
    let desk = Desk::new();
    desk.opened().await.journal.close().await;
    desk.tamper("PRAGMA user_version = 2; UPDATE meta SET value = '7.8.9' WHERE name = 'version'");
    let (text, is_fatal) = said(desk.try_open().await);
    assert!(
        text.contains("(format 2, this one knows 1); start kling-balancer 7.8.9 or newer")
            && is_fatal,
        "{text}"
    );
    desk.tamper("DROP TABLE meta");
    let (text, _) = said(desk.try_open().await);
    assert!(text.contains("start that version or newer"), "{text}");
    assert_eq!(desk.names(), ["book.db", "book.db.lock"]);
}

#[tokio::test]
async fn the_database_of_another_program_is_refused_and_left_alone() {
    let desk = Desk::new();
    desk.tamper("CREATE TABLE bookmarks (url TEXT)");
    let before = fs::read(desk.path()).unwrap();
    let (text, is_fatal) = said(desk.try_open().await);
    assert!(
        text.ends_with("is a database of another program; set another state.path"),
        "{text}"
    );
    assert!(is_fatal);
    assert_eq!(fs::read(desk.path()).unwrap(), before);
}

#[tokio::test]
async fn a_place_that_can_hold_no_file_is_told() {
    let desk = Desk::new();
    let directory = desk.directory.path();
    std::os::unix::fs::symlink("/nowhere/at/all", directory.join("link.db")).unwrap();
    for (path, told) in [
        (
            "there/book.db",
            "is the directory of state.path and does not exist; create it",
        ),
        ("link.db", "is a link that leads nowhere"),
        (".", "is a directory; set state.path to a file in it"),
    ] {
        let path = directory.join(path);
        let (text, is_fatal) = said(Sqlite::open(&path, SyncMode::Process, POOL, || ()).await);
        assert!(text.contains(told) && is_fatal, "{text}");
    }
    assert_eq!(desk.names(), ["link.db"]);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_moved_aside_with_its_log() {
    type Harm = fn(&Desk);
    let harms: [(&str, Harm); 5] = [
        ("file is not a database", |desk| {
            fs::write(desk.path(), "this is no database, and longer than a header of one is, by far: a hundred bytes!!")
                .unwrap();
        }),
        ("no such table: record", |desk| {
            desk.tamper("ALTER TABLE record RENAME TO elsewhere");
        }),
        ("no such table: meta", |desk| desk.tamper("DROP TABLE meta")),
        ("invalid utf-8", |desk| {
            desk.tamper("INSERT INTO record VALUES ('lease', 'x', CAST(x'ff' AS TEXT))");
        }),
        ("", |desk| {
            // Pages of records, in the middle of the file.
            let mut file = fs::OpenOptions::new()
                .write(true)
                .open(desk.path())
                .unwrap();
            io::Seek::seek(&mut file, io::SeekFrom::Start(16 * 4096)).unwrap();
            file.write_all(&[0xa5; 8 * 4096]).unwrap();
        }),
    ];
    for (why, harm) in harms {
        let desk = Desk::new();
        let mut journal = desk.opened().await.journal;
        let many = (0..1000).map(|idx| put(Table::Lease, &idx.to_string(), &"x".repeat(300)));
        journal.commit(many.collect()).await.unwrap();
        journal.close().await;
        harm(&desk);
        let harmed = fs::read(desk.path()).unwrap();
        fs::write(desk.directory.path().join("book.db-wal"), "").unwrap();

        let mut opened = desk.opened().await;
        assert!(opened.is_fresh);
        let aside = opened.moved_aside.unwrap();
        assert!(aside.why.contains(why), "{why}: {aside:?}");
        let name = aside.to.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(name.starts_with("book.db.corrupt-2"), "{name}");
        assert_eq!(fs::read(&aside.to).unwrap(), harmed, "{why}");
        assert!(
            desk.names().contains(&format!("{name}-wal")),
            "{:?}",
            desk.names()
        );
        // The new one works.
        assert_eq!(opened.journal.load().await.unwrap(), []);
        opened
            .journal
            .commit(vec![put(Table::Lease, "a", "{}")])
            .await
            .unwrap();
        opened.journal.close().await;
        assert!(!desk.opened().await.is_fresh);
    }
}

#[tokio::test]
async fn two_damaged_files_of_one_second_are_both_kept() {
    let desk = Desk::new();
    for _ in 0..2 {
        fs::write(desk.path(), "x".repeat(4096)).unwrap();
        desk.opened().await.journal.close().await;
    }
    let kept = desk
        .names()
        .into_iter()
        .filter(|name| name.contains(".corrupt-"));
    assert_eq!(kept.count(), 2, "{:?}", desk.names());
}

#[tokio::test]
async fn a_file_that_was_never_written_to_is_begun() {
    let desk = Desk::new();
    fs::write(desk.path(), "").unwrap();
    let opened = desk.opened().await;
    assert!(opened.is_fresh && opened.moved_aside.is_none());
}

#[test]
fn file_systems_that_other_machines_may_write_to_are_refused() {
    for (magic, kind) in [
        (0x6969, "NFS"),
        (0xff53_4d42, "SMB"),
        (0xfe53_4d42, "SMB"),
        (0x6573_5546, "FUSE"),
        (0x0102_1997, "9p"),
        (0x00c3_6400, "CephFS"),
    ] {
        assert_eq!(remote_kind(magic), Some(kind));
    }
    // ext4, XFS, Btrfs, overlay, tmpfs, ZFS, f2fs, none known.
    for local in [
        0xef53,
        0x5846_5342,
        0x9123_683e,
        0x794c_7630,
        0x0102_1994,
        0x2fc1_2fc1,
        0xf2f5_2010,
        0,
    ] {
        assert_eq!(remote_kind(local), None, "{local:x}");
    }
}
