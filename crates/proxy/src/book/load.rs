//! Reading the book at the start.

use std::{str::FromStr, sync::Arc, time::Duration};

use jiff::Timestamp;
use rand::RngExt;
use serde::de::DeserializeOwned;

use super::rows::{self, CLOCK, ClockRow, HASH_KEY, HashKeyRow, ListRow, SessionRow};
use crate::{
    journal::{Change, Journal, JournalError, Record, Table},
    keyed_hash::HashKey,
    ledger::Clock,
    pool::Saved,
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
    pub(crate) job_starts: Vec<Record>,
    pub(crate) owners: Vec<Record>,
    /// How many sidecars have written the book, this one included, as far as that is remembered.
    pub(crate) sessions_count: usize,
    /// What the start has to write.
    pub(crate) first: Vec<Change>,
}

/// Loads everything.
///
/// # Errors
/// [`JournalError`] if it cannot be read.
pub(crate) async fn load<J: Journal>(journal: &mut J) -> Result<Loaded, JournalError> {
    Ok(read(journal.load().await?, Timestamp::now()))
}

fn read(records: Vec<Record>, now: Timestamp) -> Loaded {
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
                hash_key = row.and_then(|row| HashKey::from_hex(&row.key));
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
            Table::JobStart => job_starts.push(record),
            Table::Owner => owners.push(record),
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
    let (session, mut first) = begin_session(&mut sessions, lived, now);
    saved.session = Some(session);
    let hash_key = hash_key.unwrap_or_else(|| {
        let key = HashKey::random(&mut rand::rng());
        first.push(rows::hash_key(&key));
        key
    });
    reader.report();
    Loaded {
        saved,
        clock: Clock::go_on(lived, runs),
        hash_key,
        job_starts,
        owners,
        sessions_count: sessions.len(),
        first,
    }
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

/// Reads records, and counts those that cannot be read.
#[derive(Debug, Default)]
struct Reader {
    unreadable_count: usize,
    first_problem: Option<String>,
}

impl Reader {
    fn row<T: DeserializeOwned>(&mut self, record: &Record) -> Option<T> {
        let read = serde_json::from_str(&record.value);
        read.map_err(|error| self.note(record, &error.to_string()))
            .ok()
    }

    fn named<N: FromStr, T: DeserializeOwned>(&mut self, record: &Record) -> Option<(N, T)> {
        let Ok(name) = record.name.parse() else {
            self.note(record, "the name of a record cannot be read");
            return None;
        };
        Some((name, self.row(record)?))
    }

    /// A record that is named by a text.
    fn text<T: DeserializeOwned>(&mut self, record: &Record) -> Option<(Arc<str>, T)> {
        Some((record.name.as_str().into(), self.row(record)?))
    }

    fn note(&mut self, record: &Record, problem: &str) {
        self.unreadable_count += 1;
        // Not the name: the id of a lease is a capability.
        let table = record.table;
        self.first_problem
            .get_or_insert_with(|| format!("{table}: {problem}"));
    }

    fn report(&self) {
        if let Some(problem) = &self.first_problem {
            tracing::error!(
                count = self.unreadable_count,
                problem,
                "some records of the state cannot be read, and are left out: a slot that they held counts only once \
                 the upstream lists its job"
            );
        }
    }
}
