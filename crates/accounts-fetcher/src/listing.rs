//! The values that receivers of a [`Fetcher`](crate::Fetcher) see.

use std::sync::Arc;

use jiff::Timestamp;

use crate::{FetchCounts, FetchResult, Snapshot};

/// The last list that was believed, and how the fetches have been going.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// The last list that was believed, possibly an empty one; `None` before the first.
    /// The same `Arc` for as long as its content is unchanged.
    pub snapshot: Option<Arc<Snapshot>>,
    /// When a list was last believed or confirmed unchanged.
    pub fetched_at: Option<Timestamp>,
    /// How the newest fetch ended.
    pub last_result: Option<FetchResult>,
    /// What stands in the way, and what to do, in one line; `None` after a fetch that was answered.
    pub last_problem: Option<Arc<str>>,
    /// How all fetches ended. Cumulative: a receiver that skips a version misses nothing.
    pub counts: FetchCounts,
    /// Entries rejected in the newest list that could be parsed.
    pub entries_rejected: usize,
}
