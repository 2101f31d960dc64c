//! A pick and its release through the ledger, in memory and on disk, beside a bare transaction of the same bytes.

use std::{path::Path, sync::Arc, time::Duration};

use accounts_fetcher::{Account, Snapshot};
use criterion::{BenchmarkId, Criterion, Throughput};
use proxy::{
    benching::DiskLedger,
    config::SyncMode,
    ledger::{FollowList, FollowListOn, Ledger, ListProgress, NewestList, PickRequest, Release},
    pool::{LeaseId, Limits, ListChange},
};
use rusqlite::Connection;
use tokio::{task::JoinSet, time::Instant};

use super::{BATCHES, bare, name, runtime};

const ACCOUNTS: u32 = 10;
const MAX_JOBS: u32 = 1_000;
/// No lease ends by itself while we measure.
const TTL: Duration = Duration::from_secs(3600);
/// What the book keeps of a pick, and of the time.
const LEASE: &str = r#"{"account":"account-000000@example.com","createdAt":12345,"ttl":{"length":3600000,"endsAt":3612345},"isToldMark":false,"state":"reserved"}"#;
const CLOCK: &str = r#"{"livedMs":12345,"at":"2026-11-27T10:00:00.123456789Z"}"#;

fn limits() -> Limits {
    Limits {
        waiters_max: 0,
        job_ttl: TTL,
        reconciles: false,
        settle: TTL,
        ties_picks: false,
    }
}

async fn follow_list(ledger: &Ledger) {
    let account = |idx| Account::new(&format!("account-{idx:06}@example.com"), MAX_JOBS);
    let list: Snapshot = (0..ACCOUNTS).map(account).collect();
    let known = ledger.call(NewestList).await.expect("in this process");
    let change = ListChange::between(known, &list);
    let mut progress = ledger.call(FollowList { change }).await;
    while progress == Ok(Some(ListProgress::Partial)) {
        progress = ledger.call(FollowListOn).await.map(Some);
    }
}

/// As many clients at once, each of which picks and releases.
async fn pick_and_release(ledger: &Arc<Ledger>, clients_count: u64) {
    let mut clients = JoinSet::new();
    for _ in 0..clients_count {
        let ledger = Arc::clone(ledger);
        clients.spawn(async move {
            let request = PickRequest {
                ttl: Some(TTL),
                ..PickRequest::default()
            };
            let id = LeaseId::random(&mut rand::rng());
            let slot = ledger
                .pick(id, &request, Instant::now())
                .await
                .expect("slots are left");
            slot.keep();
            let released = ledger.call(Release { id }).await;
            assert_eq!(released, Ok(true));
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended.expect("a client ends well");
    }
}

/// One transaction that adds records of `count` leases, removes those that the last one added, and writes the time.
fn write(conn: &Connection, turn: u64, count: u64) {
    const INSERT: &str = "INSERT INTO record VALUES ('lease', ?1, ?2)";
    const DELETE: &str = "DELETE FROM record WHERE kind = 'lease' AND name = ?1";
    const UPSERT: &str =
        "INSERT INTO record VALUES ('book', 'clock', ?1) ON CONFLICT DO UPDATE SET value = ?1";
    let writing = conn.unchecked_transaction().expect("no other one");
    let name = |turn, nth| name(turn * count + nth);
    for nth in 0..count {
        let mut insert = writing.prepare_cached(INSERT).expect("the table");
        insert.execute([&*name(turn, nth), LEASE]).expect("space");
        let mut delete = writing.prepare_cached(DELETE).expect("the table");
        delete.execute([name(turn - 1, nth)]).expect("space");
    }
    let mut upsert = writing.prepare_cached(UPSERT).expect("the table");
    upsert.execute([CLOCK]).expect("space");
    drop(upsert);
    writing.commit().expect("space");
}

/// `pick/<what>/<clients at once>`: each of them picks and releases once.
pub(super) fn pick(criterion: &mut Criterion) {
    let sync = SyncMode::Process;
    let mut group = criterion.benchmark_group("pick");
    for count in BATCHES {
        group.throughput(Throughput::Elements(count));
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        let floor = bare(&path("floor.db"), sync, 0);
        let mut turn = 0;
        group.bench_function(BenchmarkId::new("floor", count), |bencher| {
            bencher.iter(|| {
                turn += 1;
                write(&floor, turn, count);
            });
        });
        let runtime = runtime();
        let memory = Ledger::local(limits());
        runtime.block_on(follow_list(&memory));
        group.bench_function(BenchmarkId::new("memory", count), |bencher| {
            bencher.iter(|| runtime.block_on(pick_and_release(&memory, count)));
        });
        let disk = runtime.block_on(opened(&path("book.db"), sync));
        group.bench_function(BenchmarkId::new("disk", count), |bencher| {
            bencher.iter(|| runtime.block_on(pick_and_release(&disk.ledger, count)));
        });
        runtime.block_on(disk.close()).expect("it is written");
    }
    group.finish();
}

async fn opened(path: &Path, sync: SyncMode) -> DiskLedger {
    let disk = DiskLedger::open(path, sync, limits()).await;
    let disk = disk.expect("a new file");
    follow_list(&disk.ledger).await;
    disk
}
