//! Where records become durable: the newest state of each lease, account, key…, never the commands that led there.
//!
//! A record is a name in a table, with a JSON object as its value. Versions of the sidecar may differ: members
//! that are not known are kept.

pub(crate) mod sqlite;

use std::{fmt, future::Future};

use thiserror::Error;

/// What kind of thing a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Table {
    /// The book itself: its clock, its pool, the key of its hashes.
    Book,
    /// Runs of sidecars.
    Session,
    /// The last good account list.
    List,
    /// What is known of an account beyond the list.
    Account,
    /// Leases that live.
    Lease,
    /// Jobs without a lease.
    ForeignJob,
    /// Submissions that idempotency keys stand for, or whose outcome is not known.
    Submission,
    /// Job starts and their answers.
    JobStart,
    /// What was learnt of operations.
    Operation,
    /// Who owns what.
    Owner,
}

impl Table {
    /// Every table, in the order in which they are loaded: what others refer to comes first.
    pub(crate) const ALL: [Self; 10] = [
        Self::Book,
        Self::Session,
        Self::List,
        Self::Account,
        Self::Operation,
        Self::Submission,
        Self::Lease,
        Self::ForeignJob,
        Self::JobStart,
        Self::Owner,
    ];

    /// Its name where it is stored. It never changes.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Book => "book",
            Self::Session => "session",
            Self::List => "list",
            Self::Account => "account",
            Self::Lease => "lease",
            Self::ForeignJob => "foreign-job",
            Self::Submission => "submission",
            Self::JobStart => "job-start",
            Self::Operation => "operation",
            Self::Owner => "owner",
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A record as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) table: Table,
    pub(crate) name: String,
    /// A JSON object.
    pub(crate) value: String,
}

/// The newest state of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) table: Table,
    pub(crate) name: String,
    /// A JSON object. `None`: it is gone.
    pub(crate) value: Option<String>,
}

/// How many records each table has, in the order of [`Table::ALL`].
pub(crate) type Counts = [u64; Table::ALL.len()];

/// What an operator may want to know of a journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Statistics {
    /// What it takes, in bytes.
    pub(crate) bytes: u64,
    pub(crate) counts: Counts,
}

impl Statistics {
    /// How many records each table has.
    pub(crate) fn records(&self) -> impl Iterator<Item = (Table, u64)> {
        Table::ALL.into_iter().zip(self.counts)
    }
}

/// Why records could not be read or written now. What to do about it stands in the text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub(crate) struct JournalError(pub(crate) String);

/// Where records become durable.
pub(crate) trait Journal: fmt::Debug + Send {
    /// Every record.
    ///
    /// # Errors
    /// [`JournalError`] if they cannot be read.
    fn load(&mut self) -> impl Future<Output = Result<Vec<Record>, JournalError>> + Send;

    /// Makes changes durable, all or none. The same changes may be committed again.
    ///
    /// Not cancel-safe: a dropped commit may have taken effect or not.
    ///
    /// # Errors
    /// [`JournalError`] if nothing was written. A later commit may succeed.
    fn commit(
        &mut self,
        changes: Vec<Change>,
    ) -> impl Future<Output = Result<(), JournalError>> + Send;

    /// As of the last commit.
    fn statistics(&self) -> Statistics;
}
