//! The open file: what is read from it and written to it.

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::{
    super::{self as journal, Counts, JournalError, Record, Statistics, Table},
    MovedAside, Started,
    connection::{self, Trouble},
    error::{OpenError, told, told_of_io},
    files::{self, Files},
    place::Place,
};

/// The file, open.
pub(super) struct Book {
    conn: Connection,
    place: Place,
    files: Files,
    statistics: Statistics,
    /// What was opened may be of no use any more: it is opened again before the next commit.
    is_broken: bool,
}

impl Book {
    /// Opens the file, or begins one. It blocks. The place must be locked.
    pub(super) fn open(place: Place) -> Result<(Self, Started), OpenError> {
        let of_io = |error| OpenError::unavailable(&place.path, &error);
        let mut moved_aside = None;
        loop {
            files::create(&place.path).map_err(of_io)?;
            files::close_to_others(&place).map_err(of_io)?;
            let mut conn = connection::open(&place).map_err(|error| told(&place, &error))?;
            let why = match connection::begin(&mut conn, &place) {
                Ok((counts, is_fresh)) => {
                    let files = Files::of(&place).map_err(of_io)?;
                    let (_, bytes) = files.now(&place);
                    let book = Self {
                        conn,
                        place,
                        files,
                        statistics: Statistics { bytes, counts },
                        is_broken: false,
                    };
                    let started = Started {
                        is_fresh,
                        moved_aside,
                    };
                    return Ok((book, started));
                }
                Err(Trouble::Refused(error)) => return Err(error),
                Err(Trouble::Failed(error)) => return Err(told(&place, &error).into()),
                // A new file that is damaged, too: it is not the file.
                Err(Trouble::Damaged(why)) if moved_aside.is_some() => {
                    let path = place.path.display();
                    let text =
                        format!("{path} cannot be begun anew ({why}); look for faults of its disk");
                    return Err(JournalError(text).into());
                }
                Err(Trouble::Damaged(why)) => why,
            };
            let to = files::move_aside(&place).map_err(of_io)?;
            // Closed before that, it would copy its log into the file and remove it.
            drop(conn);
            moved_aside = Some(MovedAside { to, why });
        }
    }

    /// The newest statistics.
    pub(super) fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// Every record of a table that is known.
    pub(super) fn load(&mut self) -> Result<Vec<Record>, JournalError> {
        self.records().map_err(|error| told(&self.place, &error))
    }

    fn records(&self) -> rusqlite::Result<Vec<Record>> {
        let count = self.statistics.counts.iter().sum::<u64>();
        let mut records = Vec::with_capacity(usize::try_from(count).unwrap_or_default());
        let mut select = self
            .conn
            .prepare_cached("SELECT name, value FROM record WHERE kind = ?1")?;
        for table in Table::ALL {
            let mut rows = select.query([table.as_str()])?;
            while let Some(row) = rows.next()? {
                records.push(Record {
                    table,
                    name: row.get(0)?,
                    value: row.get(1)?,
                });
            }
        }
        Ok(records)
    }

    /// Writes all changes, or none.
    pub(super) fn commit(&mut self, changes: &[journal::Change]) -> Result<(), JournalError> {
        self.stay_in_place()?;
        let counts = match self.write(changes) {
            Ok(counts) => counts,
            Err(error) => {
                // After these it is as it was before. Others may have closed or lost something.
                let is_passing = matches!(
                    error.sqlite_error_code(),
                    Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
                );
                self.is_broken = !is_passing || !self.conn.is_autocommit();
                // The log may be what fills the disk, and only a commit that succeeds would copy it. An error says
                // nothing new.
                _ = connection::empty_log(&self.conn);
                return Err(told(&self.place, &error));
            }
        };
        self.statistics.counts = counts;
        Ok(())
    }

    fn write(&mut self, changes: &[journal::Change]) -> rusqlite::Result<Counts> {
        const UPDATE: &str = "UPDATE record SET value = ?3 WHERE kind = ?1 AND name = ?2";
        const INSERT: &str = "INSERT INTO record (kind, name, value) VALUES (?1, ?2, ?3)";
        const DELETE: &str = "DELETE FROM record WHERE kind = ?1 AND name = ?2";
        let mut counts = self.statistics.counts;
        let behavior = TransactionBehavior::Immediate;
        let writing = self.conn.transaction_with_behavior(behavior)?;
        for change in changes {
            let idx = Table::ALL.iter().position(|table| *table == change.table);
            let count = idx.and_then(|idx| counts.get_mut(idx));
            let (kind, name) = (change.table.as_str(), &*change.name);
            // Told apart, so that records are counted without reading them.
            let added = match &change.value {
                Some(value) => {
                    let record = [kind, name, value];
                    let known = writing.prepare_cached(UPDATE)?.execute(record)?;
                    if known == 0 {
                        writing.prepare_cached(INSERT)?.execute(record)?;
                    }
                    1 - known as i64
                }
                None => -(writing.prepare_cached(DELETE)?.execute([kind, name])? as i64),
            };
            if let Some(count) = count {
                *count = count.saturating_add_signed(added);
            }
        }
        writing.commit()?;
        Ok(counts)
    }

    /// Sees to it that what is written next is found again at the next start.
    fn stay_in_place(&mut self) -> Result<(), JournalError> {
        let (change, bytes) = self.files.now(&self.place);
        self.statistics.bytes = bytes;
        match change {
            files::Change::None if self.is_broken => self.open_again(),
            files::Change::None => Ok(()),
            files::Change::Deleted => self.write_anew(),
            files::Change::Replaced => {
                let path = self.place.path.display();
                Err(JournalError(format!(
                    "{path} was replaced while it was in use; restart the sidecar to use the new file, or move \
                     that away to go on with the old one"
                )))
            }
        }
    }

    fn open_again(&mut self) -> Result<(), JournalError> {
        let place = &self.place;
        // The old connection is closed after the new one is open, so that the log is left alone.
        self.conn = connected(place).map_err(|error| told(place, &error))?;
        self.is_broken = false;
        Ok(())
    }

    /// Writes the file again from what is still open of it.
    fn write_anew(&mut self) -> Result<(), JournalError> {
        let place = &self.place;
        let of_io = |error| told_of_io(&place.path, &error);
        let of_sqlite = |error| told(place, &error);
        let new = place.beside(".new");
        files::remove(&new).map_err(of_io)?;
        files::create(&new).map_err(of_io)?;
        let copied = self.conn.execute("VACUUM INTO ?1", [new.to_string_lossy()]);
        copied.map_err(of_sqlite)?;
        files::put_in_place(place, &new).map_err(of_io)?;
        // If it ends here, the next commit finds no log beside the file, and begins again.
        self.files = Files::of(place).map_err(of_io)?;
        // The old connection is closed last: until then what it holds is not lost.
        self.conn = connected(place).map_err(of_sqlite)?;
        self.files = Files::of(place).map_err(of_io)?;
        self.is_broken = false;
        let path = place.path.display();
        tracing::warn!(%path, "the file of the book was deleted while it was in use, and is written again");
        Ok(())
    }
}

/// A connection to a file that was in use a moment ago.
fn connected(place: &Place) -> rusqlite::Result<Connection> {
    let conn = connection::open(place)?;
    connection::set_up(&conn, place)?;
    // Makes the files beside it, too.
    connection::sign(&conn)?;
    Ok(conn)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::SyncMode;

    #[test]
    fn a_connection_that_is_of_no_use_any_more_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("book.db");
        let place = |path: &Path| Place::new(path, SyncMode::Process, "pool");
        let (mut book, _) = Book::open(place(&path)).unwrap();
        let change = journal::Change {
            table: Table::Lease,
            name: "a".to_owned(),
            value: Some("{}".to_owned()),
        };
        book.conn.pragma_update(None, "query_only", true).unwrap();
        let failed = book.commit(std::slice::from_ref(&change)).unwrap_err();
        assert!(failed.to_string().contains("readonly"), "{failed}");
        book.commit(&[change]).unwrap();
        assert_eq!(book.load().unwrap().len(), 1);
    }
}
