//! What an operator may want to know of the state that is kept.

use jiff::Timestamp;
use tokio::sync::watch;

use crate::journal::Statistics;

/// What is kept, and how it was written last.
#[derive(Clone, Debug)]
pub(crate) struct BookStatus {
    /// Where: the setting `state.kind`.
    pub(crate) kind: &'static str,
    pub(crate) statistics: Statistics,
    pub(crate) committed_at: Option<Timestamp>,
    /// How many processes have written it, this one included, as far as that is remembered.
    pub(crate) sessions_count: usize,
}

/// The kind of a state that ends with the process.
const MEMORY: &str = "memory";

/// The newest status.
pub(crate) type BookWatch = watch::Receiver<BookStatus>;

impl BookStatus {
    /// Nothing is kept.
    pub(crate) fn memory() -> Self {
        Self::new(MEMORY, 0)
    }

    /// Whether the state outlives the process.
    pub(crate) fn is_kept(&self) -> bool {
        self.kind != MEMORY
    }

    /// Nothing was written yet.
    pub(crate) fn new(kind: &'static str, sessions_count: usize) -> Self {
        Self {
            kind,
            statistics: Statistics::default(),
            committed_at: None,
            sessions_count,
        }
    }
}
