//! The book: what is kept of the sidecar over a restart, and the loop that writes it.
//!
//! Invariants: what was changed before a version was taken is durable once the version is committed; changes are committed
//! in their order, and a batch that may have failed is repeated before the next one. While one batch is committed,
//! the next one gathers.

mod extras;
mod load;
mod rows;
mod status;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{
    pin, select,
    sync::{Notify, watch},
    task::yield_now,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::doubled,
    events::Fact,
    journal::{Change, Journal, JournalError},
    ledger::{IsBusy, Ledger, Version},
    metrics::Metrics,
    owners::Owners,
    pool::RecordName,
    records::JobRecords,
};
pub(crate) use extras::Extras;
pub(crate) use load::{LoadError, Loaded, NotUnderstood, load};
pub(crate) use status::{BookStatus, BookWatch};

/// The most records that are read in one hold of a lock: a fraction of a millisecond.
const RECORDS_AT_ONCE: usize = 256;
/// How long a commit may take until grants no longer wait for it.
const COMMIT_MAX: Duration = Duration::from_secs(5);
/// The pauses before a failed commit is repeated.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How often the clock is written while slots are in use and nothing else changes, and how many times rarer while none
/// is: after a crash it stands at the last commit.
const CLOCK_INTERVAL: Duration = Duration::from_secs(10);
const CLOCK_IDLE_FACTOR: u32 = 6;

/// Writes what changes.
#[derive(Debug)]
pub(crate) struct Writer<J> {
    pub(crate) journal: J,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) records: Arc<JobRecords>,
    pub(crate) owners: Arc<Owners>,
    /// Something changed that the ledger does not know of.
    pub(crate) woken: Arc<Notify>,
    pub(crate) metrics: Arc<Metrics>,
    /// What is written of the start with the first batch.
    pub(crate) first: Vec<Change>,
    /// What newer versions keep in records.
    pub(crate) extras: Extras,
    pub(crate) status: watch::Sender<BookStatus>,
}

impl<J: Journal> Writer<J> {
    /// Runs until `end`, and writes what has changed by then. Returns the journal. Not cancel-safe: dropped in a
    /// commit, that may have taken effect or not.
    pub(crate) async fn run(mut self, end: CancellationToken) -> J {
        let mut is_clock_due = false;
        loop {
            let is_last = end.is_cancelled();
            if is_last {
                self.records.trust_written();
            }
            let (mut batch, version) = self.gather().await;
            if is_last || is_clock_due || !batch.is_empty() {
                batch.push(rows::clock(self.ledger.lived(), Timestamp::now()));
                self.extras.add_to(&mut batch);
                let is_written = self.commit(batch, &end).await;
                if !is_written {
                    return self.journal;
                }
            }
            let was_failing = self.ledger.is_failing();
            self.ledger.note_committed(version);
            if was_failing {
                self.ledger.events().publish(&Fact::StateWritten);
            }
            if is_last {
                return self.journal;
            }
            is_clock_due = select! {
                () = end.cancelled() => false,
                () = self.ledger.changed() => false,
                () = self.woken.notified() => false,
                () = self.clock_due() => true,
            };
        }
    }

    /// What changed since the last batch, and the version that it reaches up to.
    async fn gather(&mut self) -> (Vec<Change>, Version) {
        let mut batch = std::mem::take(&mut self.first);
        let (changed, list, version) = self.ledger.take_changed();
        if let Some(list) = list {
            batch.push(rows::list(&list));
        }
        let names: Vec<_> = changed.names().collect();
        let mut left = &names[..];
        while !left.is_empty() {
            let (names, behind) = left.split_at(at_once(left));
            let records = self.ledger.records(names);
            let changes = names.iter().zip(records);
            batch.extend(changes.map(|(name, record)| rows::of_pool(name, record.as_ref())));
            left = behind;
            if !left.is_empty() {
                yield_now().await;
            }
        }
        // After those of the ledger: what was noted before a grant is written with it.
        batch.append(&mut self.records.take_changes(self.ledger.lived()));
        batch.append(&mut self.owners.take_changes());
        (batch, version)
    }

    /// Commits a batch, however often it fails before. False if it fails once `end` has come.
    async fn commit(&mut self, batch: Vec<Change>, end: &CancellationToken) -> bool {
        let mut failed_count = 0;
        loop {
            let begun_at = Instant::now();
            let committed = self.try_commit(batch.clone()).await;
            self.metrics
                .count_commit(committed.is_ok(), begun_at.elapsed(), batch.len());
            match committed {
                Ok(()) => {
                    self.status.send_modify(|status| {
                        status.statistics = self.journal.statistics();
                        status.committed_at = Some(Timestamp::now());
                    });
                    return true;
                }
                Err(error) => {
                    self.ledger.note_failing();
                    if failed_count == 0 {
                        let error = Some(error.to_string());
                        let events = self.ledger.events();
                        events.publish(&Fact::StateFailing { error });
                    }
                    if end.is_cancelled() {
                        return false;
                    }
                    select! {
                        () = end.cancelled() => {}
                        () = sleep(doubled(PAUSE_MIN, failed_count, PAUSE_MAX)) => {}
                    }
                    failed_count = failed_count.saturating_add(1);
                }
            }
        }
    }

    /// Commits a batch. If that takes long, grants learn that they need not wait.
    async fn try_commit(&mut self, batch: Vec<Change>) -> Result<(), JournalError> {
        let commit = self.journal.commit(batch);
        pin!(commit);
        select! {
            biased;
            committed = &mut commit => return committed,
            () = sleep(COMMIT_MAX) => {}
        }
        self.ledger.note_failing();
        let failing = Fact::StateFailing { error: None };
        self.ledger.events().publish(&failing);
        commit.await
    }

    /// Waits until the clock is to be written.
    async fn clock_due(&self) {
        for _ in 0..CLOCK_IDLE_FACTOR {
            sleep(CLOCK_INTERVAL).await;
            if self.ledger.call(IsBusy).await == Ok(true) {
                return;
            }
        }
    }
}

/// How many of these records are read in one hold of the lock. A lease and its submission are read in one.
fn at_once(names: &[RecordName]) -> usize {
    let is_pair = |pair: &[RecordName]| match pair {
        [RecordName::Lease(lease), RecordName::Submission(id)] => lease == id,
        _ => false,
    };
    let count = names.len().min(RECORDS_AT_ONCE);
    let splits = names.get(count - 1..=count).is_some_and(is_pair);
    count + usize::from(splits)
}

#[cfg(test)]
mod tests;
