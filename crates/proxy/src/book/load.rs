//! Reading the book at the start.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use jiff::Timestamp;
use rand::RngExt;
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

use super::{
    Extras,
    rows::{self, CLOCK, ClockRow, HASH_KEY, HashKeyRow, ListRow, SessionRow},
};
use crate::{
    journal::{Change, Journal, JournalError, Record, Table},
    keyed_hash::HashKey,
    ledger::Clock,
    owners::StoredOwner,
    pool::Saved,
    records::{RecordId, StoredStart},
};

/// The most sessions that are remembered: for an operator who asks how often the sidecar was started.
const SESSIONS_MAX: usize = 16;

/// What was kept.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The records of the pool.
    pub(crate) saved: Saved,
    /// The clock of the book.
    pub(crate) clock: Clock,
    pub(crate) hash_key: HashKey,
    pub(crate) job_starts: Vec<(RecordId, StoredStart)>,
    /// By their places.
    pub(crate) owners: Vec<(String, StoredOwner)>,
    /// How many sidecars have written the book, this one included, as far as that is remembered.
    pub(crate) sessions_count: usize,
    /// What the start has to write.
    pub(crate) first: Vec<Change>,
    /// What newer versions keep in records.
    pub(crate) extras: Extras,
}

/// Why the book cannot be used.
#[derive(Debug, Error)]
pub(crate) enum LoadError {
    /// It cannot be read now. Later that may succeed.
    #[error(transparent)]
    Unavailable(#[from] JournalError),
    /// This version cannot read records that hold slots, keys or what an operator said. Without them a job might be
    /// started twice, or an account be overrun, and they might be written over.
    #[error("{0}")]
    NotUnderstood(NotUnderstood),
}

/// Which records cannot be read.
#[derive(Debug)]
pub(crate) struct NotUnderstood {
    count: usize,
    /// What is wrong with the first one.
    problem: String,
    /// Which version ran last, if it was another one.
    version: Option<String>,
}

impl fmt::Display for NotUnderstood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, problem, .. } = self;
        write!(
            f,
            "it holds {count} records that this version cannot read ({problem}); "
        )?;
        if let Some(version) = &self.version {
            write!(f, "start kling-balancer {version}, which wrote it, or ")?;
        }
        f.write_str("move the file away to begin a new one without its leases, keys and drains")
    }
}

/// Loads everything.
///
/// # Errors
/// [`LoadError`] if it cannot be read or understood. Nothing has changed then.
pub(crate) async fn load<J: Journal>(journal: &mut J) -> Result<Loaded, LoadError> {
    let loaded = read(journal.load().await?, Timestamp::now());
    loaded.map_err(LoadError::NotUnderstood)
}

fn read(records: Vec<Record>, now: Timestamp) -> Result<Loaded, NotUnderstood> {
    let mut reader = Reader::default();
    let mut saved = Saved::default();
    let mut clock = None;
    let mut hash_key = None;
    let mut sessions = Vec::new();
    let (mut job_starts, mut owners) = (Vec::new(), Vec::new());
    for record in records {
        match record.table {
            Table::Book if record.name == CLOCK => clock = reader.row::<ClockRow>(&record),
            Table::Book if record.name == HASH_KEY => {
                let row = reader.row::<HashKeyRow>(&record);
                hash_key = row.and_then(|row| {
                    let key = HashKey::from_hex(&row.key);
                    if key.is_none() {
                        reader.note(&record, "it is no key");
                    }
                    key
                });
            }
            // A later version may keep more.
            Table::Book => {}
            Table::Session => sessions.extend(reader.named::<String, SessionRow>(&record)),
            Table::List => saved.list = reader.row::<ListRow>(&record).map(ListRow::snapshot),
            Table::Account => saved.accounts.extend(reader.text(&record)),
            Table::Lease => saved.leases.extend(reader.named(&record)),
            Table::ForeignJob => saved.foreign_jobs.extend(reader.named(&record)),
            Table::Submission => saved.submissions.extend(reader.named(&record)),
            Table::Operation => saved.operations.extend(reader.text(&record)),
            Table::JobStart => job_starts.extend(reader.named(&record)),
            Table::Owner => owners.extend(reader.named(&record)),
        }
    }
    let written_at = clock.as_ref().and_then(|clock| clock.at.parse().ok());
    let away = written_at.map_or(Duration::ZERO, |at: Timestamp| {
        Duration::try_from(now.duration_since(at)).unwrap_or_default()
    });
    saved.away = away;
    let lived = clock.map_or(Duration::ZERO, |clock| {
        Duration::from_millis(clock.lived_ms)
    });
    let runs = sessions.iter().filter_map(|(_, row)| row.begun());
    let mut runs: Vec<_> = runs.collect();
    runs.sort_unstable();
    let extras = reader.end(&sessions)?;
    let (session, mut first) = begin_session(&mut sessions, lived, now);
    saved.session = Some(session);
    let hash_key = hash_key.unwrap_or_else(|| {
        let key = HashKey::random(&mut rand::rng());
        first.push(rows::hash_key(&key));
        key
    });
    Ok(Loaded {
        saved,
        clock: Clock::go_on(lived, runs),
        hash_key,
        job_starts,
        owners,
        sessions_count: sessions.len(),
        first,
        extras,
    })
}

/// Adds a session, and returns its name. The oldest ones are forgotten.
fn begin_session(
    sessions: &mut Vec<(String, SessionRow)>,
    lived: Duration,
    now: Timestamp,
) -> (Arc<str>, Vec<Change>) {
    sessions.sort_unstable_by_key(|(_, session)| session.lived_ms);
    let name = format!("{:032x}", rand::rng().random::<u128>());
    let session = SessionRow {
        started_at: now.to_string(),
        lived_ms: rows::millis(lived),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let mut changes = vec![rows::session(&name, Some(&session))];
    let begun = Arc::from(name.as_str());
    sessions.push((name, session));
    let forgotten = sessions.len().saturating_sub(SESSIONS_MAX);
    let forgotten = sessions.drain(..forgotten);
    changes.extend(forgotten.map(|(name, _)| rows::session(&name, None)));
    (begun, changes)
}

/// Whether a start without a record that cannot be read costs little: it is found again, or fetched anew.
fn is_dispensable(table: Table) -> bool {
    match table {
        Table::Session | Table::List | Table::Owner => true,
        Table::Book
        | Table::Account
        | Table::Operation
        | Table::Submission
        | Table::Lease
        | Table::ForeignJob
        | Table::JobStart => false,
    }
}

/// Records that cannot be read.
#[derive(Debug, Default)]
struct Unreadable {
    count: usize,
    /// What is wrong with the first one.
    problem: Option<String>,
}

/// Reads records.
#[derive(Debug, Default)]
struct Reader {
    extras: Extras,
    needed: Unreadable,
    dispensable: Unreadable,
}

impl Reader {
    fn row<T: Serialize + DeserializeOwned>(&mut self, record: &Record) -> Option<T> {
        match serde_json::from_str(&record.value) {
            Ok(row) => {
                self.extras.note(record, &row);
                Some(row)
            }
            Err(error) => {
                self.note(record, &error.to_string());
                None
            }
        }
    }

    fn named<N: FromStr, T: Serialize + DeserializeOwned>(
        &mut self,
        record: &Record,
    ) -> Option<(N, T)> {
        let Ok(name) = record.name.parse() else {
            self.note(record, "its name cannot be read");
            return None;
        };
        Some((name, self.row(record)?))
    }

    /// A record that is named by a text.
    fn text<T: Serialize + DeserializeOwned>(&mut self, record: &Record) -> Option<(Arc<str>, T)> {
        Some((record.name.as_str().into(), self.row(record)?))
    }

    fn note(&mut self, record: &Record, problem: &str) {
        let table = record.table;
        let unreadable = if is_dispensable(table) {
            &mut self.dispensable
        } else {
            &mut self.needed
        };
        unreadable.count += 1;
        // Not the name: the id of a lease is a capability.
        unreadable
            .problem
            .get_or_insert_with(|| format!("{table}: {problem}"));
    }

    /// What newer versions keep in the records. `sessions`: those before this one.
    ///
    /// # Errors
    /// [`NotUnderstood`] if records cannot be read that are needed.
    fn end(self, sessions: &[(String, SessionRow)]) -> Result<Extras, NotUnderstood> {
        let Self {
            extras,
            needed,
            dispensable,
        } = self;
        if let Some(problem) = needed.problem {
            let newest = sessions.iter().map(|(_, it)| it);
            let newest = newest.max_by_key(|it| (it.lived_ms, &it.started_at));
            let version = newest.map(|it| it.version.clone());
            return Err(NotUnderstood {
                count: needed.count,
                problem,
                version: version.filter(|it| it != env!("CARGO_PKG_VERSION")),
            });
        }
        if let Some(problem) = dispensable.problem {
            tracing::warn!(
                count = dispensable.count,
                problem,
                "some records of the state cannot be read, and are left as they are: what they say is found again"
            );
        }
        let count = extras.records_count();
        if count > 0 {
            tracing::info!(
                count,
                "a newer version has written records of the state: what this one does not know of them is kept"
            );
        }
        Ok(extras)
    }
}
