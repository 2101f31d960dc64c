//! The process ends without a word.

use std::io::{BufRead, BufReader, Write};

use super::*;

const BOOK: &str = "KLB_TEST_BOOK";
const FROM: &str = "KLB_TEST_FROM";
/// As many leases change with each batch, in several writes.
const LEASES: usize = 300;

fn batch(number: u64) -> Vec<Change> {
    let leases = (0..LEASES).map(|idx| {
        let value = format!(r#"{{"batch":{number},"pad":"{}"}}"#, "x".repeat(280));
        put(Table::Lease, &idx.to_string(), &value)
    });
    leases
        .chain([put(Table::Owner, &number.to_string(), "{}")])
        .collect()
}

/// Commits one batch after the other and says so, until it is killed. It is no test unless another one runs it.
#[tokio::test]
async fn child_that_commits() {
    let (Some(path), Some(from)) = (given(BOOK), given(FROM)) else {
        return;
    };
    let opened = Sqlite::open(Path::new(&path), SyncMode::Process, POOL, || ()).await;
    let mut journal = opened.unwrap().journal;
    let mut said = io::stdout();
    writeln!(said).unwrap();
    for number in from.parse().unwrap().. {
        match journal.commit(batch(number)).await {
            Ok(()) => writeln!(said, "ack {number}"),
            Err(error) => writeln!(said, "failed {error}"),
        }
        .unwrap();
    }
}

#[tokio::test]
async fn every_batch_that_was_acknowledged_survives_a_kill_and_none_in_part() {
    let desk = Desk::new();
    let path = desk.path();
    let mut next = 0;
    for acks in [1, 3, 2, 9, 1, 40, 5, 150] {
        let name = "journal::sqlite::tests::kill::child_that_commits";
        let settings = [(BOOK, path.to_str().unwrap()), (FROM, &next.to_string())];
        let mut running = child(name, &settings)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(running.stdout.take().unwrap()).lines();
        let mut ack = || {
            let said = lines.by_ref().map(Result::unwrap);
            let mut acks = said.filter_map(|line| line.strip_prefix("ack ")?.parse::<u64>().ok());
            acks.next()
        };
        for _ in 1..acks {
            ack().unwrap();
        }
        let mut last = ack().unwrap();
        // It commits meanwhile, and what it said before its end counts. A kill at once would come before it goes on.
        let log = desk.directory.path().join("book.db-wal");
        let written = || {
            let found = fs::metadata(&log).unwrap();
            (found.len(), found.modified().unwrap())
        };
        let before = written();
        while written() == before {
            thread::yield_now();
        }
        running.kill().unwrap();
        running.wait().unwrap();
        while let Some(later) = ack() {
            last = later;
        }

        let mut opened = desk.opened().await;
        assert!(!opened.is_fresh && opened.moved_aside.is_none());
        let records = opened.journal.load().await.unwrap();
        opened.journal.close().await;
        let batch_of = |record: &&Record| {
            let value: serde_json::Value = serde_json::from_str(&record.value).unwrap();
            value["batch"].as_u64().unwrap()
        };
        let leases: Vec<_> = records
            .iter()
            .filter(|it| it.table == Table::Lease)
            .collect();
        assert_eq!(leases.len(), LEASES);
        let newest = batch_of(&leases[0]);
        assert!(leases.iter().all(|it| batch_of(it) == newest));
        assert!(newest >= last, "{newest} {last}");
        let mut owners: Vec<u64> = records
            .iter()
            .filter(|it| it.table == Table::Owner)
            .map(|it| it.name.parse().unwrap())
            .collect();
        owners.sort_unstable();
        assert!(owners.iter().copied().eq(0..=newest));
        next = newest + 1;
    }
}
