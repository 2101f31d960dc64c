//! Asking the accounts for the owner of a task.

use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::{Owners, TaskQueries};
use crate::{
    kling::task::TaskStatus,
    pool::{RunningJob, TaskId},
    upstream::Upstream,
};

/// The most accounts asked in one search.
pub const SEARCH_ACCOUNTS_MAX: usize = 64;
/// The most searches at once: with [`QUERIES_AT_ONCE`](super::QUERIES_AT_ONCE) they bound what one burst of
/// polls after a restart asks of the upstream.
pub const SEARCHES_MAX: usize = 16;

/// Who owns a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundOwner {
    /// This account.
    Account(Arc<str>),
    /// No account: there is at least one, and every one said so.
    Nobody,
    /// Unknown: not every account could be asked.
    Unknown,
}

/// Searches for owners.
#[derive(Debug)]
pub struct OwnerSearch {
    upstream: Arc<Upstream>,
    owners: Arc<Owners>,
    permits: Semaphore,
}

impl OwnerSearch {
    /// Searches by asking `upstream`, and teaches `owners` the results.
    pub fn new(upstream: Arc<Upstream>, owners: Arc<Owners>) -> Self {
        Self {
            upstream,
            owners,
            permits: Semaphore::new(SEARCHES_MAX),
        }
    }

    /// Asks `accounts` for a task whose owner is not known.
    ///
    /// It asks at most [`SEARCH_ACCOUNTS_MAX`] accounts, [`QUERIES_AT_ONCE`](super::QUERIES_AT_ONCE) at a
    /// time, and waits for a [permit](Self::permit). Cancel-safe.
    pub async fn find_task(&self, task_id: &TaskId, accounts: &[Arc<str>]) -> FoundOwner {
        let _permit = self.permit().await;
        // Many clients may poll for the same task, and another search may have found its owner.
        if let Some(owner) = self.owners.of_task(task_id) {
            return FoundOwner::Account(owner);
        }
        let asked = accounts.iter().take(SEARCH_ACCOUNTS_MAX);
        let asked = asked.map(|email| RunningJob {
            task_id: task_id.clone(),
            email: email.to_string(),
        });
        let mut queries = TaskQueries::new(&self.upstream, asked.collect());
        let mut missing_count = 0;
        while let Some((job, status)) = queries.next().await {
            match status {
                TaskStatus::Final(_) | TaskStatus::Unfinished => {
                    let owner = Arc::from(job.email);
                    self.owners.learn_task(task_id, &owner);
                    return FoundOwner::Account(owner);
                }
                TaskStatus::Missing => missing_count += 1,
                TaskStatus::Unknown => {}
            }
        }
        if missing_count > 0 && missing_count == accounts.len() {
            FoundOwner::Nobody
        } else {
            FoundOwner::Unknown
        }
    }

    /// Waits for a place among the searches: at most [`SEARCHES_MAX`] run at once. Dropping it ends the
    /// search.
    pub async fn permit(&self) -> SemaphorePermit<'_> {
        let permit = self.permits.acquire().await;
        permit.expect("the semaphore is never closed")
    }
}
