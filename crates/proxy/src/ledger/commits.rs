//! How far what changed is durable, for those who wait for it.

use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout_at},
};

use super::Unavailable;

/// Counts the changes of a ledger. What was changed before a version was taken is durable once that version is committed.
pub(crate) type Version = u64;

/// The state of the journal.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    committed: Version,
    /// The last commit failed, or takes too long.
    is_failing: bool,
}

/// What the loop that writes the journal tells, and what wakes it.
#[derive(Debug, Default)]
pub(super) struct Commits {
    progress: watch::Sender<Progress>,
    changed: Notify,
}

impl Commits {
    /// Something changed.
    pub(super) fn note_change(&self) {
        self.changed.notify_one();
    }

    /// Waits until something changes. For one caller; cancel-safe.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What was changed before `version` is durable.
    pub(super) fn note_committed(&self, version: Version) {
        self.progress.send_modify(|progress| {
            progress.committed = progress.committed.max(version);
            progress.is_failing = false;
        });
    }

    /// Nothing is written at present.
    pub(super) fn note_failing(&self) {
        self.progress
            .send_if_modified(|progress| !std::mem::replace(&mut progress.is_failing, true));
    }

    pub(super) fn is_failing(&self) -> bool {
        self.progress.borrow().is_failing
    }

    /// Waits until changes can be written, until `deadline` at most. Cancel-safe.
    ///
    /// # Errors
    /// [`Unavailable`] if they cannot then.
    pub(super) async fn writable(&self, deadline: Instant) -> Result<(), Unavailable> {
        if !self.is_failing() {
            return Ok(());
        }
        let mut told = self.progress.subscribe();
        let written = told.wait_for(|progress| !progress.is_failing);
        // Boxed, as what every operation waits with would have room for it.
        match Box::pin(timeout_at(deadline, written)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Unavailable),
        }
    }

    /// Waits until what was changed before `version` is durable. Waits for a journal that fails until `deadline` only.
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`Unavailable`] if it still fails then.
    pub(super) async fn committed(
        &self,
        version: Version,
        deadline: Instant,
    ) -> Result<(), Unavailable> {
        let mut told = self.progress.subscribe();
        loop {
            let progress = *told.borrow_and_update();
            if progress.committed >= version {
                return Ok(());
            }
            let changed = told.changed();
            let changed = if progress.is_failing {
                let changed = timeout_at(deadline, changed).await;
                changed.map_err(|_elapsed| Unavailable)?
            } else {
                // The loop that commits says so if it takes too long.
                changed.await
            };
            // The sender lives as long as the ledger.
            changed.map_err(|_closed| Unavailable)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_is_waited_for_and_a_journal_that_fails_until_the_deadline() {
        let commits = Commits::default();
        let deadline = Instant::now() + Duration::from_secs(9);
        let waiting = commits.committed(2, deadline);
        let committing = async {
            commits.note_committed(1);
            tokio::task::yield_now().await;
            commits.note_failing();
            tokio::task::yield_now().await;
            commits.note_committed(2);
        };
        let (waited, ()) = tokio::join!(waiting, committing);
        assert_eq!(waited, Ok(()));
        assert_eq!(commits.committed(1, deadline).await, Ok(()));
        commits.note_failing();
        assert_eq!(commits.committed(2, deadline).await, Ok(()));
        assert_eq!(commits.committed(3, deadline).await, Err(Unavailable));
        assert_eq!(Instant::now(), deadline);
        assert!(commits.is_failing());
    }
}
