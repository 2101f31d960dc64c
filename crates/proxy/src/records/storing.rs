//! Records on their way to the journal and back.

use std::{ops::Bound, sync::Arc, time::Duration};

use tokio::sync::Notify;

use super::{
    JobRecords, LOOKED_AT_ONCE, Record, RecordId, State,
    stored::{BookTime, Changes, Stored},
    table::{RECORDS_MAX, Records},
};
use crate::{
    journal::{Change, Table},
    kling::task::JobResult,
    pool::{Known, LeaseId},
};

impl JobRecords {
    /// From now on it is noted which records change, for [`take_changes`](Self::take_changes). `writer` is notified
    /// of changes that come with no operation of the ledger. Called before [`restore`](Self::restore), which may
    /// find records that are to be removed.
    pub(crate) fn track(&self, writer: Arc<Notify>) {
        self.lock().changes = Some(Changes::new(writer));
    }

    /// The records that have changed since the last call, each once. `lived`: the time of the book's clock.
    ///
    /// Called after the ledger's changes were taken: then no grant is stored without the record of its call. An outcome
    /// may be stored before what it did to the ledger: after a crash in between, the ledger says less than the record.
    pub(crate) fn take_changes(&self, lived: Duration) -> Vec<Change> {
        let time = BookTime::new(lived);
        let mut taken = Vec::new();
        let mut after = Bound::Unbounded;
        // Those that are new by then, or changed once more, are left for the next time.
        while taken.len() < 2 * RECORDS_MAX {
            let copied = self.copy_changes(after, time);
            let Some((last, _)) = copied.last() else {
                break;
            };
            after = Bound::Excluded(*last);
            taken.extend(
                copied
                    .iter()
                    .map(|(id, stored)| change(*id, stored.as_ref())),
            );
        }
        taken
    }

    /// The next changes after an id. `None`: the record is gone.
    fn copy_changes(
        &self,
        after: Bound<RecordId>,
        time: BookTime,
    ) -> Vec<(RecordId, Option<Stored>)> {
        let mut records = self.lock();
        let Some(changes) = &mut records.changes else {
            return Vec::new();
        };
        let ids = changes.ids.range((after, Bound::Unbounded));
        let ids: Vec<_> = ids.take(LOOKED_AT_ONCE).copied().collect();
        for id in &ids {
            changes.ids.remove(id);
        }
        let copy = |id| {
            let record = records.by_id.get_mut(id);
            let stored = record.map(|record| {
                record.is_stored = true;
                Stored::of(record, time)
            });
            (id, stored)
        };
        ids.into_iter().map(copy).collect()
    }

    /// The sidecar ends in good order: an answer that was written a moment ago counts as delivered, unless there are
    /// signs that its client is gone. The system sends what was written.
    pub(crate) fn trust_written(&self) {
        let mut records = self.lock();
        let has_it = |record: &Record| {
            matches!(&record.delivery, State::Written(_))
                && !record.is_lost()
                && !record.is_in_doubt()
        };
        let of_those = records.by_id.iter().filter(|(_, record)| has_it(record));
        let ids: Vec<_> = of_those.map(|(id, _)| *id).collect();
        for id in ids {
            if let Some(record) = records.by_id.get_mut(id) {
                record.delivery = State::UsedUp;
            }
            records.note_change(id);
            self.forget_twin(&mut records, id);
        }
    }

    /// Puts back what was stored when the book's clock showed `lived`, before the first call is answered. `known`: what
    /// the ledger says of a lease or of the submission that had it: its job, else that its outcome is not known; `None`
    /// if it knows of none, since it was refused, or never granted.
    /// One that was under way without a key is asked for by the claim of its lease.
    pub(crate) fn restore(
        &self,
        mut stored: Vec<(RecordId, Stored)>,
        lived: Duration,
        known: impl Fn(LeaseId) -> Option<Known>,
    ) {
        let time = BookTime::new(lived);
        // The oldest come first.
        stored.sort_unstable_by_key(|(id, _)| *id);
        let newest = stored.last().map(|(id, _)| *id);
        let mut records = self.lock();
        // An id names one record for ever.
        records.begun_count = newest.map_or(0, |id| id.saturating_add(1));
        for (id, stored) in stored {
            let Some(record) = stored.restored(time, &known) else {
                records.note_change(id);
                continue;
            };
            records.put_back(id, record);
            self.note_if_lost(&mut records, id);
        }
        records.forget_beyond(RECORDS_MAX, time.now());
    }
}

impl Records {
    /// Puts a record back that was stored under this id.
    fn put_back(&mut self, id: RecordId, record: Record) {
        if let Some(twin) = &record.twin
            && may_be_delivered(&record)
        {
            self.by_twin.entry(twin.clone()).or_default().push_back(id);
        }
        if let Some(task_id) = record.task_id() {
            self.by_task.insert(task_id.clone(), id);
        }
        self.by_id.insert(id, Box::new(record));
    }
}

/// Whether its answer may have to be delivered to a twin.
fn may_be_delivered(record: &Record) -> bool {
    let has_failed = record.result == Some(JobResult::Failed);
    record.may_be_a_job() && !has_failed && !matches!(record.delivery, State::UsedUp)
}

fn change(id: RecordId, stored: Option<&Stored>) -> Change {
    // What consists of texts, numbers and flags can be written.
    let value = stored.and_then(|stored| serde_json::to_string(stored).ok());
    Change {
        table: Table::JobStart,
        name: id.to_string(),
        value,
    }
}
