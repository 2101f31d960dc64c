//! What benchmarks drive and the library does not show: the journal on disk, and a ledger over it.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    book::{self, BookStatus, Writer},
    config::SyncMode,
    events::Events,
    journal::{Change, Journal, Table, sqlite},
    ledger::Ledger,
    metrics::Metrics,
    pool::{Limits, Pool},
    records::JobRecords,
};

/// A book on disk.
#[derive(Debug)]
pub struct Book(sqlite::Sqlite);

impl Book {
    /// Opens or begins the book at `path`.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub async fn open(path: &Path, sync: SyncMode) -> Result<Self, String> {
        let opened = sqlite::Sqlite::open(path, sync, "pool", || ()).await;
        let opened = opened.map_err(|error| error.to_string())?;
        Ok(Self(opened.journal))
    }

    /// Commits a batch of leases: their names and values.
    ///
    /// # Errors
    /// Why it cannot be written.
    pub async fn commit(
        &mut self,
        leases: impl Iterator<Item = (String, String)>,
    ) -> Result<(), String> {
        let change = |(name, value)| Change {
            table: Table::Lease,
            name,
            value: Some(value),
        };
        let committed = self.0.commit(leases.map(change).collect()).await;
        committed.map_err(|error| error.to_string())
    }

    /// How many records it has. They are read.
    ///
    /// # Errors
    /// Why they cannot be read.
    pub async fn load(&mut self) -> Result<usize, String> {
        let loaded = self.0.load().await;
        loaded
            .map(|all| all.len())
            .map_err(|error| error.to_string())
    }

    /// Closes it.
    pub async fn close(self) {
        self.0.close().await;
    }
}

/// A ledger that is kept on disk, and the loop that writes it on the runtime where it was opened.
#[derive(Debug)]
pub struct DiskLedger {
    /// The ledger.
    pub ledger: Arc<Ledger>,
    end: CancellationToken,
    writing: JoinHandle<sqlite::Sqlite>,
}

impl DiskLedger {
    /// Opens or begins the book at `path`, and goes on from there.
    ///
    /// # Errors
    /// Why it cannot be opened or read.
    pub async fn open(path: &Path, sync: SyncMode, limits: Limits) -> Result<Self, String> {
        let Book(mut journal) = Book::open(path, sync).await?;
        let kept = book::load(&mut journal).await;
        let kept = kept.map_err(|error| error.to_string())?;
        let metrics = Metrics::new().map_err(|error| error.to_string())?;
        let metrics = Arc::new(metrics);
        let pool = Pool::restored(limits, kept.saved, None, kept.clock.now());
        let ledger = Ledger::journaled(pool, kept.clock, Events::default());
        let writer = Writer {
            journal,
            ledger: Arc::clone(&ledger),
            records: JobRecords::new(Duration::ZERO, Arc::clone(&metrics), Events::default()),
            owners: Arc::default(),
            woken: Arc::default(),
            metrics,
            first: kept.first,
            extras: kept.extras,
            status: watch::Sender::new(BookStatus::memory()),
        };
        let end = CancellationToken::new();
        let writing = tokio::spawn(writer.run(end.clone()));
        Ok(Self {
            ledger,
            end,
            writing,
        })
    }

    /// Writes what has changed, and closes the book.
    ///
    /// # Errors
    /// What made the loop panic.
    pub async fn close(self) -> Result<(), String> {
        self.end.cancel();
        let journal = self.writing.await.map_err(|error| error.to_string())?;
        journal.close().await;
        Ok(())
    }
}
