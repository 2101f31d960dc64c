//! What benchmarks drive and the library does not show: the journal on disk.

use std::path::Path;

use crate::{
    config::SyncMode,
    journal::{Change, Journal, Table, sqlite},
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
