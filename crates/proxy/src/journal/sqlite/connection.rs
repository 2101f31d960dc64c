//! A connection to the file: how it is set up, and whether the file is one of ours.

use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior};

use super::{
    super::{Counts, Table},
    error::{OpenError, is_damage},
    place::Place,
};
use crate::config::SyncMode;

/// The format of the file. A version of ours that knows another one migrates it, or refuses a newer one.
const SCHEMA: i64 = 1;
/// By which a file of ours is known: `klbk`.
const APPLICATION_ID: i32 = i32::from_be_bytes(*b"klbk");
/// After how many pages of 4 KiB the log of changes is copied into the file, and written from its beginning again. It
/// costs two syncs in the middle of a commit: at 16 MiB they come once in some thousand batches, and reading so much
/// at the next start takes milliseconds.
const LOG_PAGES_MAX: i64 = 4096;
/// What is left of the log after it was longer, in bytes: a reader of another program can keep it from being copied.
const LOG_BYTES_KEPT: i64 = LOG_PAGES_MAX * 4096;
/// How long another program may hold the file locked before a commit fails. Every grant waits meanwhile.
const BUSY_MAX: Duration = Duration::from_secs(1);

/// Why a file is not taken.
pub(super) enum Trouble {
    /// It is not ours to touch.
    Refused(OpenError),
    /// It cannot be read.
    Damaged(String),
    /// It cannot be opened now.
    Failed(rusqlite::Error),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        if is_damage(&error) {
            Self::Damaged(error.to_string())
        } else {
            Self::Failed(error)
        }
    }
}

/// Prepares the file that was opened: counts the records of each table, and tells whether it was new.
pub(super) fn begin(conn: &mut Connection, place: &Place) -> Result<(Counts, bool), Trouble> {
    let is_fresh = is_new(conn, place)?;
    set_up(conn, place)?;
    if is_fresh {
        create(conn, place)?;
    }
    let counts = check(conn)?;
    sign(conn)?;
    Ok((counts, is_fresh))
}

/// Opens the file, which must be there, and changes nothing.
pub(super) fn open(place: &Place) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(&place.path, flags)?;
    conn.busy_timeout(BUSY_MAX)?;
    // There may be no other place to write to.
    conn.pragma_update(None, "temp_store", "memory")?;
    Ok(conn)
}

/// Sets up how changes are written.
pub(super) fn set_up(conn: &Connection, place: &Place) -> rusqlite::Result<()> {
    let synchronous = match place.sync {
        SyncMode::Process => "normal",
        SyncMode::Power => "full",
    };
    conn.pragma_update(None, "synchronous", synchronous)?;
    conn.pragma_update(None, "journal_mode", "wal")?;
    conn.pragma_update(None, "wal_autocheckpoint", LOG_PAGES_MAX)?;
    conn.pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT)
}

/// Copies the log of changes into the file, and gives its space back.
pub(super) fn empty_log(conn: &Connection) -> rusqlite::Result<()> {
    conn.pragma_update(None, "wal_checkpoint", "truncate")
}

/// Whether the file is new. Changes nothing.
///
/// # Errors
/// [`Trouble`] if it is not ours, of another pool, or newer.
fn is_new(conn: &Connection, place: &Place) -> Result<bool, Trouble> {
    let path = || place.path.clone();
    let application: i32 = number(conn, "application_id")?;
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (application, tables) {
        (APPLICATION_ID, _) => {}
        (0, 0) => return Ok(true),
        _ => return Err(Trouble::Refused(OpenError::NotOurs { path: path() })),
    }
    let found: i64 = number(conn, "user_version")?;
    if found > SCHEMA {
        // Of a format that is not known nothing has to be where we look for it.
        let version = meta(conn, VERSION).ok().flatten();
        let known = SCHEMA;
        let newer = OpenError::NewerSchema {
            path: path(),
            found,
            known,
            version: version.map(|version| format!("kling-balancer {version}")),
        };
        return Err(Trouble::Refused(newer));
    }
    let found = match meta(conn, POOL)? {
        Some(pool) if found == SCHEMA => pool,
        Some(_) | None => return Err(Trouble::Damaged("it has no format".to_owned())),
    };
    if found != place.pool_id {
        return Err(Trouble::Refused(OpenError::OtherPool {
            path: path(),
            found,
            expected: place.pool_id.clone(),
        }));
    }
    Ok(false)
}

/// The name under which the version stands that opened the file last, and the pool that it is about.
const VERSION: &str = "version";
const POOL: &str = "pool";

fn number<T: rusqlite::types::FromSql>(conn: &Connection, pragma: &str) -> rusqlite::Result<T> {
    conn.pragma_query_value(None, pragma, |row| row.get(0))
}

fn meta(conn: &Connection, name: &str) -> rusqlite::Result<Option<String>> {
    let mut select = conn.prepare("SELECT value FROM meta WHERE name = ?1")?;
    select.query_row([name], |row| row.get(0)).optional()
}

/// Makes the tables of a new file.
fn create(conn: &mut Connection, place: &Place) -> rusqlite::Result<()> {
    let creating = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    creating.execute_batch(
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
         CREATE TABLE record (
             kind TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, name)
         ) STRICT, WITHOUT ROWID;",
    )?;
    let mut insert = creating.prepare("INSERT INTO meta (name, value) VALUES (?1, ?2)")?;
    insert.execute([POOL, &place.pool_id])?;
    drop(insert);
    creating.pragma_update(None, "application_id", APPLICATION_ID)?;
    creating.pragma_update(None, "user_version", SCHEMA)?;
    creating.commit()
}

/// Reads all of the file, and counts the records of each table.
fn check(conn: &Connection) -> Result<Counts, Trouble> {
    let found: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found != "ok" {
        return Err(Trouble::Damaged(found));
    }
    let mut counts = [0; Table::ALL.len()];
    let mut select = conn.prepare("SELECT kind, name, value FROM record")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let kind = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
        for idx in [1, 2] {
            row.get_ref(idx)?.as_str().map_err(rusqlite::Error::from)?;
        }
        if let Some(count) = idx_of(kind).and_then(|idx| counts.get_mut(idx)) {
            *count += 1;
        }
    }
    Ok(counts)
}

/// The place of a table in [`Table::ALL`]. `None`: a newer version has it.
fn idx_of(kind: &str) -> Option<usize> {
    Table::ALL.iter().position(|table| table.as_str() == kind)
}

/// Says in the file which version uses it, and counts how often it was opened: a change, which shows that it can be
/// written to.
pub(super) fn sign(conn: &Connection) -> rusqlite::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let mut insert = conn.prepare("INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)")?;
    insert.execute([VERSION, version])?;
    let count = "INSERT INTO meta (name, value) VALUES ('opened', '1')
                 ON CONFLICT DO UPDATE SET value = CAST(value + 1 AS TEXT)";
    conn.execute(count, []).map(drop)
}
