//! What it costs to make a batch of records durable, and to grant a slot that is written before it is told, beside a
//! bare transaction of the same bytes; and a start.
//!
//! Batches change some of the records that are there, as most batches of a sidecar do. Files are in the temporary
//! directory: set TMPDIR to a directory on the disk that is meant.

mod grants;

use std::{path::Path, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use proxy::{benching::Book, config::SyncMode};
use rusqlite::Connection;
use tokio::runtime::{Builder, Runtime};

/// Records of the file: leases of a small pool, where a batch meets few pages, and of a large one, where each record
/// has a page of its own.
const FEW: u64 = 100;
const MANY: u64 = 10_000;
/// Records of a file that takes long to load.
const MOST: u64 = 100_000;
/// Records of a batch.
const BATCHES: [u64; 3] = [1, 16, 64];
/// Bytes of a value: a lease with its names.
const BYTES: usize = 300;

/// The `idx`-th record, as it is in a certain turn: no two turns write the same bytes, which SQLite would not write.
fn record(idx: u64, turn: u64) -> (String, String) {
    (name(idx), format!("{turn:0BYTES$}"))
}

/// The name of the `idx`-th record. Neighbours in a batch are strangers in the file.
fn name(idx: u64) -> String {
    format!("{:032x}", idx.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// A file with `count` records, open.
fn book(runtime: &Runtime, path: &Path, sync: SyncMode, count: u64) -> Book {
    runtime.block_on(async {
        let mut book = Book::open(path, sync).await.expect("a new file");
        let all = (0..count).map(|idx| record(idx, 0));
        book.commit(all).await.expect("space");
        book
    })
}

/// The least that writes the same bytes as safely: one statement a record, no thread, no checks.
fn bare(path: &Path, sync: SyncMode, count: u64) -> Connection {
    let conn = Connection::open(path).expect("a new file");
    let synchronous = match sync {
        SyncMode::Process => "normal",
        SyncMode::Power => "full",
    };
    for (name, value) in [
        ("journal_mode", "wal"),
        ("synchronous", synchronous),
        ("wal_autocheckpoint", "4096"),
    ] {
        conn.pragma_update(None, name, value).expect("a pragma");
    }
    let table = "CREATE TABLE record (kind TEXT, name TEXT, value TEXT, PRIMARY KEY (kind, name)) WITHOUT ROWID";
    conn.execute(table, []).expect("a table");
    write(&conn, (0..count).map(|idx| record(idx, 0)));
    conn
}

fn write(conn: &Connection, records: impl Iterator<Item = (String, String)>) {
    const UPSERT: &str =
        "INSERT INTO record VALUES ('lease', ?1, ?2) ON CONFLICT DO UPDATE SET value = ?2";
    let writing = conn.unchecked_transaction().expect("no other one");
    for (name, value) in records {
        let mut upsert = writing.prepare_cached(UPSERT).expect("the table");
        upsert.execute([name, value]).expect("space");
    }
    writing.commit().expect("space");
}

fn commit(criterion: &mut Criterion) {
    for (name, sync, count) in [
        ("commit/process/few", SyncMode::Process, FEW),
        ("commit/process/many", SyncMode::Process, MANY),
        ("commit/power/many", SyncMode::Power, MANY),
    ] {
        let mut group = criterion.benchmark_group(name);
        for size in BATCHES {
            group.throughput(Throughput::Elements(size));
            let batch = |turn| (0..size).map(move |nth| record((turn * size + nth) % count, turn));
            let directory = tempfile::tempdir().expect("a directory");
            let floor = bare(&directory.path().join("floor.db"), sync, count);
            let mut turn = 0;
            group.bench_function(BenchmarkId::new("floor", size), |bencher| {
                bencher.iter(|| {
                    turn += 1;
                    write(&floor, batch(turn));
                });
            });
            let runtime = runtime();
            let mut book = book(&runtime, &directory.path().join("book.db"), sync, count);
            let mut turn = 0;
            group.bench_function(BenchmarkId::new("journal", size), |bencher| {
                bencher.iter(|| {
                    turn += 1;
                    let committed = book.commit(batch(turn));
                    runtime.block_on(committed).expect("space");
                });
            });
        }
        group.finish();
    }
}

/// From a file that was closed, or left by a kill, to its records.
fn start(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("book.db");
    let runtime = runtime();
    let book = book(&runtime, &path, SyncMode::Process, MOST);
    runtime.block_on(book.close());
    let mut group = criterion.benchmark_group("start");
    group.bench_function(BenchmarkId::new("journal", MOST), |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                let mut book = Book::open(&path, SyncMode::Process)
                    .await
                    .expect("the file");
                assert_eq!(book.load().await.expect("its records") as u64, MOST);
                book.close().await;
            });
        });
    });
    group.finish();
}

fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
}

criterion_group! {
    name = journal;
    config = criterion();
    targets = commit, start, grants::pick
}
criterion_main!(journal);
