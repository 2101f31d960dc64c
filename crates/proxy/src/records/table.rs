//! The table of records: which there are, which of them are twins, and which make room for others.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use foldhash::fast::RandomState;
use tokio::time::Instant;

use super::{
    answered::Answered,
    record::{Arrival, Record, Twin},
    rising::Rising,
    stored::Changes,
};
use crate::{
    kling::task::JobResult,
    peer::Client,
    pool::{LeaseId, TaskId},
};

/// The most records: about a job each nine seconds for a day.
pub(super) const RECORDS_MAX: usize = 10_000;
/// The most twins whose clients are looked at when a start arrives, the oldest ones: each look asks the system,
/// and no other start can arrive meanwhile.
const LOOKS_MAX: usize = 256;
/// How long a record is kept.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

/// Names a record. A larger one is newer.
pub(crate) type RecordId = u64;

#[derive(Debug, Default)]
pub(super) struct Records {
    /// Boxed, since large values take long to move.
    pub(super) by_id: Rising<Box<Record>>,
    /// Those that may be delivered to a twin, oldest first.
    pub(super) by_twin: HashMap<Twin, VecDeque<RecordId>, RandomState>,
    pub(super) by_task: HashMap<TaskId, RecordId, RandomState>,
    pub(super) answered: Answered,
    /// Those whose clients missed the answer, and that may still be delivered to them, by when they were settled.
    missed: BTreeSet<(Instant, RecordId)>,
    pub(super) begun_count: u64,
    /// `None`: nothing is stored.
    pub(super) changes: Option<Changes>,
}

impl Records {
    /// Adds the record of a call that has arrived.
    pub(super) fn add(&mut self, arrival: &Arrival, now: Instant) -> RecordId {
        self.forget_beyond(RECORDS_MAX - 1, now);
        let id = self.begun_count;
        self.begun_count += 1;
        if let Some(twin) = &arrival.twin {
            self.by_twin.entry(twin.clone()).or_default().push_back(id);
        }
        self.by_id.insert(id, Box::new(Record::new(arrival, now)));
        id
    }

    /// More has become known of a record.
    pub(super) fn note_change(&mut self, id: RecordId) {
        if let Some(changes) = &mut self.changes {
            changes.note(id, true);
        }
    }

    /// A call asks for this lease, or is sent without one under this id. The writer is not woken: with the grant, or
    /// the claim, it writes this, too.
    pub(super) fn note_lease(&mut self, id: RecordId, lease: LeaseId, is_unlisted: bool) {
        let Some(record) = self.by_id.get_mut(id) else {
            return;
        };
        record.lease = Some(lease);
        record.is_unlisted = is_unlisted;
        if let Some(changes) = &mut self.changes {
            changes.note(id, false);
        }
    }

    pub(super) fn set_result(&mut self, id: RecordId, result: JobResult) {
        if let Some(record) = self.by_id.get_mut(id)
            && record.result != Some(result)
        {
            record.result = Some(result);
            self.note_change(id);
        }
    }

    /// The oldest twin whose client is gone, and whose answer is not older than `redeliver`.
    pub(super) fn lost_twin(
        &mut self,
        twin: &Twin,
        redeliver: Duration,
        now: Instant,
    ) -> Option<(RecordId, &mut Record)> {
        let twins = self.by_twin.get_mut(twin)?;
        let is_in_time = |at| now.duration_since(at) < redeliver;
        let mut idx = 0;
        while idx < LOOKS_MAX {
            let id = *twins.get(idx)?;
            let record = self
                .by_id
                .get(id)
                .filter(|record| record.may_be_a_job() && record.settled_at.is_none_or(is_in_time));
            match record {
                Some(record) if record.is_lost() => {
                    return Some((id, &mut **self.by_id.get_mut(id)?));
                }
                Some(_) => idx += 1,
                None => drop(twins.remove(idx)),
            }
        }
        None
    }

    /// The client of an accepted start has missed the answer.
    pub(super) fn note_missed(&mut self, id: RecordId) {
        let record = self.by_id.get(id);
        let settled_at = record.and_then(|record| record.settled_at);
        self.missed.extend(settled_at.map(|at| (at, id)));
    }

    /// How many answers their clients missed that are not older than `redeliver`. Those that are, are forgotten here:
    /// each is looked at once.
    pub(super) fn missed_count(&mut self, redeliver: Duration, now: Instant) -> usize {
        while let Some((settled_at, _)) = self.missed.first()
            && now.duration_since(*settled_at) >= redeliver
        {
            self.missed.pop_first();
        }
        self.missed.len()
    }

    /// Whether there is a twin whose answer is not used up.
    pub(super) fn has(&self, twin: &Twin) -> bool {
        self.by_twin
            .get(twin)
            .is_some_and(|twins| !twins.is_empty())
    }

    /// Whether there is such a twin on another connection than that of `client`.
    pub(super) fn has_beside(&self, twin: &Twin, client: &Client) -> bool {
        let mut twins = self.by_twin.get(twin).into_iter().flatten();
        twins.any(|id| {
            let record = self.by_id.get(*id);
            record.is_some_and(|record| record.is_beside(client))
        })
    }

    /// Whether a twin may turn out to be lost.
    pub(super) fn is_in_doubt(&self, twin: &Twin) -> bool {
        let mut twins = self.by_twin.get(twin).into_iter().flatten();
        twins.any(|id| {
            self.by_id
                .get(*id)
                .is_some_and(|record| record.is_in_doubt())
        })
    }

    /// Forgets what is too old, and the oldest if there are more than `kept_max`.
    pub(super) fn forget_beyond(&mut self, kept_max: usize, now: Instant) {
        while let Some((id, oldest)) = self.by_id.first() {
            let is_old = now.duration_since(oldest.arrived_at) >= KEPT_FOR;
            if !is_old && self.by_id.len() <= kept_max {
                return;
            }
            self.remove(*id);
        }
    }

    pub(super) fn remove(&mut self, id: RecordId) {
        self.forget_twin(id);
        let Some(record) = self.by_id.remove(id) else {
            return;
        };
        if let Some(changes) = &mut self.changes {
            if record.is_stored {
                changes.note(id, true);
            } else {
                changes.ids.remove(&id);
            }
        }
        // Nothing more becomes known of it: its twins go on.
        record.settled.cancel();
        if let Some(task_id) = record.task_id()
            && self.by_task.get(task_id) == Some(&id)
        {
            self.by_task.remove(task_id);
        }
    }

    /// A record is delivered to no twin. Returns the lease by which its answer is kept for one.
    pub(super) fn forget_twin(&mut self, id: RecordId) -> Option<LeaseId> {
        let record = self.by_id.get(id)?;
        if let Some(at) = record.settled_at {
            self.missed.remove(&(at, id));
        }
        let twin = record.twin.as_ref()?;
        if record.may_be_a_job() {
            self.answered.note(twin, Instant::now());
        }
        if let Some(twins) = self.by_twin.get_mut(twin) {
            twins.retain(|other| *other != id);
            if twins.is_empty() {
                self.by_twin.remove(twin);
            }
        }
        record.lease
    }
}
