//! Records as they are stored: their tables, names and JSON.

use std::{sync::Arc, time::Duration};

use accounts_fetcher::{Account, Snapshot};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    journal::{Change, Table},
    keyed_hash::HashKey,
    pool::{List, PoolRecord, RecordName},
};

/// The records of the table [`Table::Book`].
pub(super) const CLOCK: &str = "clock";
pub(super) const HASH_KEY: &str = "hash-key";
/// The record of the table [`Table::List`].
const NEWEST: &str = "newest";

/// The clock of the book, and the calendar time at which it stood there.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClockRow {
    pub(super) lived_ms: u64,
    pub(super) at: String,
}

/// The key of the hashes that must stay what they are.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HashKeyRow {
    pub(super) key: String,
}

/// One run of a sidecar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SessionRow {
    pub(super) started_at: String,
    /// What the clock of the book showed at the start.
    pub(super) lived_ms: u64,
    pub(super) version: String,
}

impl SessionRow {
    /// What the clock of the book showed at its start, and the calendar time.
    pub(super) fn begun(&self) -> Option<(Duration, Timestamp)> {
        let at = self.started_at.parse().ok()?;
        Some((Duration::from_millis(self.lived_ms), at))
    }
}

/// An account list.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListRow {
    accounts: Vec<AccountRow>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AccountRow {
    email: String,
    max_jobs: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session_expires_at: Option<Arc<str>>,
}

impl ListRow {
    pub(super) fn snapshot(self) -> Snapshot {
        let accounts = self.accounts.into_iter().map(|row| {
            let account = Account::new(&row.email, row.max_jobs);
            account.with_details(row.error, row.session_expires_at)
        });
        accounts.collect()
    }
}

pub(super) fn list(list: &List) -> Change {
    let accounts = list.accounts().map(|account| AccountRow {
        email: account.email.to_string(),
        max_jobs: account.max_jobs,
        error: account.error().cloned(),
        session_expires_at: account.session_expires_at().cloned(),
    });
    let accounts = accounts.collect();
    change(Table::List, NEWEST, Some(&ListRow { accounts }))
}

pub(super) fn clock(lived: Duration, at: Timestamp) -> Change {
    let row = ClockRow {
        lived_ms: millis(lived),
        at: at.to_string(),
    };
    change(Table::Book, CLOCK, Some(&row))
}

pub(super) fn hash_key(key: &HashKey) -> Change {
    let row = HashKeyRow { key: key.to_hex() };
    change(Table::Book, HASH_KEY, Some(&row))
}

pub(super) fn session(name: &str, row: Option<&SessionRow>) -> Change {
    change(Table::Session, name, row)
}

pub(super) fn of_pool(name: &RecordName, record: Option<&PoolRecord>) -> Change {
    match name {
        RecordName::Account(email) => change(Table::Account, email, record),
        RecordName::Submission(id) => change(Table::Submission, &id.to_string(), record),
        RecordName::Lease(id) => change(Table::Lease, &id.to_string(), record),
        RecordName::ForeignJob(task_id) => change(Table::ForeignJob, task_id.as_str(), record),
        RecordName::Operation(operation) => change(Table::Operation, operation, record),
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn change(table: Table, name: &str, row: Option<&impl Serialize>) -> Change {
    let value = row.map(|row| {
        #[expect(
            clippy::expect_used,
            reason = "rows are plain values with text as keys"
        )]
        serde_json::to_string(row).expect("a row is written as JSON")
    });
    Change {
        table,
        name: name.to_owned(),
        value,
    }
}
