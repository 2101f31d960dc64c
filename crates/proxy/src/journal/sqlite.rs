//! A journal in a file of this machine, for one sidecar.
//!
//! SQLite in WAL mode. One thread has the only connection and an exclusive lock of its own; a batch is one
//! transaction. Nothing about SQLite is known outside.

mod book;
mod connection;
mod error;
mod files;
mod lock;
mod place;

#[cfg(test)]
mod tests;

use std::{
    io,
    path::{Path, PathBuf},
    thread,
};

use tokio::sync::{mpsc, oneshot, watch};

use super::{Change, Journal, JournalError, Record, Statistics};
use crate::config::SyncMode;

use book::Book;
use lock::Lock;
use place::Place;

pub(crate) use error::OpenError;

/// How many commands wait for the writer. Its user sends one at a time; a second one waits if the first was given
/// up.
const COMMANDS_MAX: usize = 1;

/// A journal in a file.
#[derive(Debug)]
pub(crate) struct Sqlite {
    path: PathBuf,
    commands: mpsc::Sender<Command>,
    statistics: watch::Receiver<Statistics>,
    /// Ends when the file is closed and its lock given back.
    end: oneshot::Receiver<()>,
}

/// A journal that was opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) journal: Sqlite,
    /// There was no file, or none that could be read: there are no records.
    pub(crate) is_fresh: bool,
    /// There was a file that could not be read.
    pub(crate) moved_aside: Option<MovedAside>,
}

/// A file that could not be read and was kept under another name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MovedAside {
    /// Where it is now.
    pub(crate) to: PathBuf,
    /// What was wrong with it.
    pub(crate) why: String,
}

enum Command {
    Load(oneshot::Sender<Result<Vec<Record>, JournalError>>),
    Commit(Vec<Change>, oneshot::Sender<Result<(), JournalError>>),
}

impl Sqlite {
    /// Opens the file at `path`, or begins one. It belongs to the pool `pool_id` and to this journal alone.
    ///
    /// A file that another process has is waited for, at most [`lock::PATIENCE`]; `on_wait` is called once before
    /// that. A file that cannot be read is moved aside and a new one begun.
    ///
    /// Cancel-safe: the file is closed again.
    ///
    /// # Errors
    /// [`OpenError`]. Unless it [is fatal](OpenError::is_fatal), opening it later may succeed.
    pub(crate) async fn open(
        path: &Path,
        sync: SyncMode,
        pool_id: &str,
        on_wait: impl FnOnce(),
    ) -> Result<Opened, OpenError> {
        let (lock, place) = Lock::acquire(Place::new(path, sync, pool_id), on_wait).await?;
        let path = place.path.clone();
        let (commands, received) = mpsc::channel(COMMANDS_MAX);
        let (opened_tx, opened) = oneshot::channel();
        let (end_tx, end) = oneshot::channel();
        let writer = move || {
            run(place, lock, opened_tx, received);
            drop(end_tx);
        };
        let thread = thread::Builder::new().name("journal".to_owned());
        thread
            .spawn(writer)
            .map_err(|error| OpenError::unavailable(&path, &error))?;
        let opened = opened.await.map_err(|_ended| {
            OpenError::unavailable(&path, &io::Error::other("the writer ended"))
        })?;
        let (started, statistics) = opened?;
        Ok(Opened {
            journal: Self {
                path,
                commands,
                statistics,
                end,
            },
            is_fresh: started.is_fresh,
            moved_aside: started.moved_aside,
        })
    }

    /// Closes the file: all of it is in one file then, and another sidecar can open it.
    ///
    /// Without it the same happens a moment after the journal is dropped, unless the process ends before.
    pub(crate) async fn close(self) {
        drop(self.commands);
        // It is never sent: it ends with the thread.
        _ = self.end.await;
    }

    /// Has the writer do something, and waits for what it says.
    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, JournalError>>) -> Command,
    ) -> Result<T, JournalError> {
        let (reply, answer) = oneshot::channel();
        let is_sent = self.commands.send(command(reply)).await.is_ok();
        let answer = if is_sent { answer.await.ok() } else { None };
        answer.unwrap_or_else(|| {
            let path = self.path.display();
            Err(JournalError(format!(
                "{path} is not written any more, since its writer ended; restart the sidecar"
            )))
        })
    }
}

impl Journal for Sqlite {
    async fn load(&mut self) -> Result<Vec<Record>, JournalError> {
        self.ask(Command::Load).await
    }

    async fn commit(&mut self, changes: Vec<Change>) -> Result<(), JournalError> {
        self.ask(|reply| Command::Commit(changes, reply)).await
    }

    fn statistics(&self) -> Statistics {
        *self.statistics.borrow()
    }
}

/// How a book began.
struct Started {
    is_fresh: bool,
    moved_aside: Option<MovedAside>,
}

type Start = Result<(Started, watch::Receiver<Statistics>), OpenError>;

/// The thread that has the file: opens it, and serves commands until there can be none.
///
/// The lock is given back when the file is closed, and before an error is told.
fn run(
    place: Place,
    lock: Lock,
    opened: oneshot::Sender<Start>,
    mut commands: mpsc::Receiver<Command>,
) {
    let (mut book, started) = match Book::open(place) {
        Ok(it) => it,
        Err(error) => {
            drop(lock);
            // The one who asked may have gone.
            _ = opened.send(Err(error));
            return;
        }
    };
    let (statistics_tx, statistics) = watch::channel(book.statistics());
    if opened.send(Ok((started, statistics))).is_err() {
        return;
    }
    // One who gave a command up does not want its answer.
    while let Some(command) = commands.blocking_recv() {
        match command {
            Command::Load(reply) => _ = reply.send(book.load()),
            Command::Commit(changes, reply) => {
                let committed = book.commit(&changes);
                statistics_tx.send_replace(book.statistics());
                _ = reply.send(committed);
            }
        }
    }
}
