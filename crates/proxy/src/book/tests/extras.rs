//! What newer versions keep in records, and records that this version does not understand.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::*;
use crate::{
    config::SyncMode,
    journal::sqlite::Sqlite,
    kling::{scheduler::RunningJob, task::JobResult},
    ledger::{JobUntracked, RoundBase, UpdateLease, tests::follow_round},
    pool::{Round, RoundChange, Update},
};

const RESERVED: &str = "11111111111111111111111111111111";
const BOUND: &str = "22222222222222222222222222222222";
const PICKED: &str = "33333333333333333333333333333333";
const GONE: &str = "44444444444444444444444444444444";
const VIDEO: &str = "/videos/text2video";
/// Words that this version does not know, where records have words.
const MOON: &str =
    r#"{"state":"moon","kind":"moon","outcome":7,"health":{"ejected":"moon"},"marks":"moon"}"#;
const HOUR_MS: u64 = 3_600_000;

/// Records of every table, as this version writes them. The clock shows ten seconds.
const RECORDS: [(Table, &str, &str); 14] = [
    (Table::Book, "clock", r#"{"livedMs":10000,"at":"$AT"}"#),
    (Table::Book, "hash-key", r#"{"key":"$HASH"}"#),
    (
        Table::Session,
        "s",
        r#"{"startedAt":"$AT","livedMs":0,"version":"99.0.0"}"#,
    ),
    (
        Table::List,
        "newest",
        r#"{"accounts":[{"email":"a@x","maxJobs":9},{"email":"b@x","maxJobs":9,"error":"e","sessionExpiresAt":"s"}]}"#,
    ),
    (
        Table::Account,
        "a@x",
        r#"{"isDraining":false,"health":{"cooledCount":1,"ejected":{"why":"parked","until":999999999999},"ejectedCount":1},"seen":[{"taskId":"300","since":10}]}"#,
    ),
    (
        Table::Operation,
        VIDEO,
        r#"{"history":{"types":["t"],"isShown":true,"isUnchanged":true,"isChanged":false},"marks":"proven","typicalSeconds":12.5}"#,
    ),
    (
        Table::Submission,
        RESERVED,
        r#"{"claim":{"key":"held","fingerprint":"$HASH"},"kind":"forward","state":"open"}"#,
    ),
    (
        Table::Submission,
        GONE,
        r#"{"claim":$LOST,"kind":"forward","account":"a@x","expiresAt":3600000,"state":"lost","lost":{"body":$BODY,"on":{"account":"a@x","since":5},"lostAt":6,"endedAt":7,"isFound":false}}"#,
    ),
    (
        Table::Lease,
        RESERVED,
        r#"{"account":"a@x","createdAt":1000,"operation":"/videos/text2video","isToldMark":false,"state":"reserved","body":$BODY}"#,
    ),
    (
        Table::Lease,
        BOUND,
        r#"{"account":"b@x","createdAt":1000,"operation":"/videos/text2video","isToldMark":false,"state":"bound","taskId":"100","since":2000,"tiedFrom":{"state":"uncertain","sentAt":1500},"body":$BODY}"#,
    ),
    (
        Table::Lease,
        PICKED,
        r#"{"account":"b@x","createdAt":1000,"ttl":{"length":3600000,"endsAt":3600000},"isToldMark":true,"state":"reserved"}"#,
    ),
    (Table::ForeignJob, "400", r#"{"account":"a@x","since":10}"#),
    (
        Table::JobStart,
        "1",
        r#"{"requestId":"r","body":$BODY,"email":"a@x","outcome":"accepted","taskId":"200","isUnlisted":false,"at":"$AT","arrivedMs":1000,"settledMs":2000,"lease":"44444444444444444444444444444444","claim":$LOST,"twin":{"scope":"token:1","ip":"192.0.2.7"},"isUsedUp":false,"isCounted":true}"#,
    ),
    (
        Table::Owner,
        "task-0",
        r#"{"id":"200","owner":"a@x","seq":0}"#,
    ),
];

fn records() -> Vec<Record> {
    let record = |(table, name, value): (Table, &str, &str)| Record {
        table,
        name: name.to_owned(),
        value: value
            .replace(
                "$BODY",
                r#"{"operation":"/videos/text2video","fingerprint":"$HASH","prompt":null}"#,
            )
            .replace("$LOST", r#"{"key":"lost","fingerprint":"$HASH"}"#)
            .replace("$HASH", &"0123456789abcdef".repeat(4))
            .replace("$AT", "2026-01-02T03:04:05Z"),
    };
    RECORDS.into_iter().map(record).collect()
}

/// Adds a member to the `nth` object of a value, outermost first, or to all of them. Returns how many objects it has.
fn add_member(value: &mut Value, nth: Option<usize>) -> usize {
    fn walk(value: &mut Value, nth: Option<usize>, count: &mut usize) {
        match value {
            Value::Object(members) => {
                let is_meant = nth.is_none_or(|nth| nth == *count);
                *count += 1;
                members.values_mut().for_each(|it| walk(it, nth, count));
                if is_meant {
                    members.insert("novelty".to_owned(), novelty());
                }
            }
            Value::Array(elements) => elements.iter_mut().for_each(|it| walk(it, nth, count)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut count = 0;
    walk(value, nth, &mut count);
    count
}

/// A value that no type of ours could hold unchanged.
fn novelty() -> Value {
    json!({"of": [1, null, {"deep": "é\n"}], "large": u64::MAX, "state": "moon"})
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

async fn read(records: Vec<Record>) -> Result<Loaded, LoadError> {
    let mut disk = Disk::new();
    for Record { table, name, value } in records {
        disk.records.lock().insert((table, name), value);
    }
    load(&mut disk).await
}

#[tokio::test]
async fn a_book_of_this_version_is_read_without_comparing_members() {
    let records = records();
    for table in Table::ALL {
        assert!(records.iter().any(|it| it.table == table), "{table}");
    }
    let loaded = read(records).await.unwrap();
    assert_eq!(loaded.extras.compared_count, 0);
    assert_eq!(loaded.extras.records_count(), 0);
}

#[tokio::test]
async fn a_member_that_is_not_known_is_kept_in_every_object_of_every_table() {
    for record in records() {
        let mut places = 1 + add_member(&mut parsed(&record.value), None);
        while places > 0 {
            places -= 1;
            let nth = places.checked_sub(1);
            let mut newer = parsed(&record.value);
            add_member(&mut newer, nth);
            let text = newer.to_string();
            let newer_record = Record {
                value: text.clone(),
                ..record.clone()
            };
            let mut loaded = read(vec![newer_record])
                .await
                .unwrap_or_else(|error| panic!("{text}: {error}"));
            // It is written again and again as this version knows it.
            for _ in 0..3 {
                let mut batch = [Change {
                    table: record.table,
                    name: record.name.clone(),
                    value: Some(record.value.clone()),
                }];
                loaded.extras.add_to(&mut batch);
                let written = parsed(batch[0].value.as_ref().unwrap());
                assert_eq!(written, newer, "{} {}", record.table, record.name);
            }
        }
    }
}

#[tokio::test]
async fn a_member_that_is_not_known_goes_with_its_record_or_its_object() {
    let newer = r#"{"account":"a@x","createdAt":1,"ttl":{"length":1,"endsAt":1,"a":1},"isToldMark":false,"state":"reserved","b":2}"#;
    let record = |value: Option<&str>| Change {
        table: Table::Lease,
        name: PICKED.to_owned(),
        value: value.map(str::to_owned),
    };
    let lease = Record {
        table: Table::Lease,
        name: PICKED.to_owned(),
        value: newer.to_owned(),
    };
    let mut extras = read(vec![lease]).await.unwrap().extras;
    let mut written = |value| {
        let mut batch = [record(value)];
        extras.add_to(&mut batch);
        let [change] = batch;
        change.value.map(|value| parsed(&value))
    };
    // What this version writes itself wins.
    let known = written(Some(r#"{"b":3,"ttl":{"length":2}}"#));
    assert_eq!(known, Some(json!({"b": 3, "ttl": {"length": 2, "a": 1}})));
    assert_eq!(written(Some("{}")), Some(json!({"b": 2})));
    let again = written(Some(r#"{"ttl":{"length":2}}"#));
    assert_eq!(again, Some(json!({"b": 2, "ttl": {"length": 2}})));
    assert_eq!(written(None), None);
    assert_eq!(written(Some("{}")), Some(json!({})));
    assert_eq!(extras.records_count(), 0);
}

#[tokio::test]
async fn records_that_hold_slots_or_keys_and_are_not_understood_are_refused() {
    for (idx, record) in records().into_iter().enumerate() {
        for broken in ["[", MOON] {
            let mut records = records();
            broken.clone_into(&mut records[idx].value);
            let table = record.table;
            let refused = match read(records).await {
                Ok(_) => None,
                Err(error) => Some(error.to_string()),
            };
            if matches!(table, Table::Session | Table::List | Table::Owner) {
                assert_eq!(refused, None, "{table}");
                continue;
            }
            let refused = refused.unwrap_or_else(|| panic!("{table}: {broken}"));
            let begun = format!("it holds 1 records that this version cannot read ({table}: ");
            assert!(refused.starts_with(&begun), "{refused}");
            let advice = "start kling-balancer 99.0.0, which wrote it, or move the file away";
            assert!(refused.contains(advice), "{refused}");
        }
    }
    // A phase of a lease that only a newer version knows.
    for idx in 0..records().len() {
        let mut records = records();
        let record = &mut records[idx];
        if record.table == Table::Lease {
            for state in ["reserved", "bound"] {
                record.value = record.value.replace(state, "moon");
            }
            assert!(matches!(
                read(records).await,
                Err(LoadError::NotUnderstood(_))
            ));
        }
    }
}

async fn opened(path: &Path) -> Sqlite {
    let opened = Sqlite::open(path, SyncMode::Process, "pool", || ()).await;
    opened.unwrap().journal
}

/// Goes on from the book at `path`, changes a record of each kind, and ends in good order.
async fn change_each(path: &Path) {
    let mut journal = opened(path).await;
    let loaded = load(&mut journal).await.unwrap();
    let hour = Duration::from_secs(3600);
    let limits = Limits {
        waiters_max: 9,
        job_ttl: hour,
        reconciles: true,
        settle: hour,
        ties_picks: false,
    };
    let lived = loaded.clock.now();
    let pool = Pool::restored(limits, loaded.saved, None, lived);
    let metrics = Arc::new(Metrics::new().unwrap());
    let (records, owners) = (
        JobRecords::new(hour, Arc::clone(&metrics), Events::default()),
        Arc::new(Owners::default()),
    );
    let woken = Arc::<Notify>::default();
    records.track(Arc::clone(&woken));
    records.restore(loaded.job_starts, lived, |lease| pool.known_of(lease));
    owners.restore(&loaded.owners);
    let ledger = Ledger::journaled(pool, loaded.clock, Events::default());
    let writer = Writer {
        journal,
        ledger: Arc::clone(&ledger),
        records: Arc::clone(&records),
        owners: Arc::clone(&owners),
        woken,
        metrics,
        first: loaded.first,
        extras: loaded.extras,
        status: watch::Sender::new(BookStatus::memory()),
    };
    let end = CancellationToken::new();
    let writing = tokio::spawn(writer.run(end.clone()));
    change_ledger(&ledger).await;
    let task_id = "200".parse().unwrap();
    records.note_result(&task_id, JobResult::Succeeded);
    owners.learn_task(&task_id, &"b@x".into());
    end.cancel();
    writing.await.unwrap().close().await;
}

async fn change_ledger(ledger: &Ledger) {
    let base = ledger.call(crate::ledger::NewestList).await.unwrap();
    let list = Snapshot::from_iter([Account::new("a@x", 8), Account::new("b@x", 8)]);
    let change = ListChange::between(base, &list);
    ledger.call(FollowList { change }).await.unwrap();
    let ticket = ledger.call(RoundBase).await.unwrap();
    let round = Round {
        sent_at: ticket.sent_at,
        executing: vec![RunningJob {
            task_id: "400".parse().unwrap(),
            email: "b@x".to_owned(),
            mark: None,
        }],
        ..Round::default()
    };
    let change = RoundChange::between(ticket.running, round);
    follow_round(ledger, change).await;
    let drain = SetDraining {
        name: Name::new("a@x"),
        is_draining: true,
    };
    ledger.call(drain).await.unwrap().unwrap();
    let update = Update {
        ttl: Some(Duration::from_millis(2 * HOUR_MS)),
        ..Update::default()
    };
    let id = PICKED.parse().unwrap();
    ledger
        .call(UpdateLease { id, update })
        .await
        .unwrap()
        .unwrap();
    let task_id = "100".parse().unwrap();
    ledger.call(JobUntracked { task_id }).await.unwrap();
}

#[tokio::test]
async fn what_this_version_does_not_know_survives_its_changes_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("book.db");
    let mut journal = opened(&path).await;
    let newer = records().into_iter().map(|record| {
        let mut value = parsed(&record.value);
        add_member(&mut value, None);
        Change {
            table: record.table,
            name: record.name,
            value: Some(value.to_string()),
        }
    });
    journal.commit(newer.collect()).await.unwrap();
    let before = journal.load().await.unwrap();
    journal.close().await;
    change_each(&path).await;
    // And once more: what was written back is read again.
    change_each(&path).await;
    let mut journal = opened(&path).await;
    let after = journal.load().await.unwrap();
    journal.close().await;
    let has_novelty = |object: &Map<String, Value>| object.get("novelty") == Some(&novelty());
    let mut changed = Vec::new();
    for record in &after {
        let old = before
            .iter()
            .find(|old| (old.table, &old.name) == (record.table, &record.name));
        if old.is_none() && record.table != Table::Owner {
            continue;
        }
        let value = parsed(&record.value);
        assert!(has_novelty(value.as_object().unwrap()), "{record:?}");
        let without = |text: &str| text.replace(&format!(r#""novelty":{}"#, novelty()), "");
        if old.is_none_or(|old| parsed(&old.value) != value) {
            changed.push((record.table, without(&record.value)));
        }
    }
    let of = |table| {
        let of_table = changed.iter().filter(move |(its, _)| *its == table);
        of_table.map(|(_, value)| &**value).collect::<Vec<_>>()
    };
    for table in Table::ALL {
        assert_eq!(
            of(table).is_empty(),
            table == Table::Session,
            "{table}: {changed:?}"
        );
    }
    // Within objects, too.
    let list = after.iter().find(|it| it.table == Table::List).unwrap();
    for account in parsed(&list.value)["accounts"].as_array().unwrap() {
        assert!(has_novelty(account.as_object().unwrap()), "{list:?}");
        assert_eq!(account["maxJobs"], 8);
    }
    let picked = after.iter().find(|it| it.name == PICKED).unwrap();
    let ttl = parsed(&picked.value)["ttl"].clone();
    assert!(has_novelty(ttl.as_object().unwrap()), "{picked:?}");
    assert_eq!(ttl["length"], 2 * HOUR_MS);
}
