//! The records of job starts: what became of each call, and whether its client has its answer.
//!
//! A client that gives up and sends the same call again without a key would buy a second job. So an answer
//! that its client missed is kept for the next start of the same client with the same body, its **twin**.
//!
//! Invariants: an answer is promised to one start at a time, and used up once; a start under an idempotency key
//! has no twins. Bounded: the oldest record makes room for a new one. Where the book is kept on disk, records are
//! stored with it ([`stored`]); answers are in memory only.

mod answered;
mod delivery;
mod kept_answers;
mod receipts;
mod record;
mod rising;
mod stored;
mod storing;
mod table;

use std::{mem, net::IpAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use tokio::{task::yield_now, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    events::{AccountFacts, Events, Fact, JobFacts},
    kling::task::JobResult,
    ledger::{Ledger, Unavailable},
    metrics::Metrics,
    pool::{LeaseId, TaskId},
};

use delivery::Addressee;
pub(crate) use delivery::Delivery;
use kept_answers::KeptAnswers;
use receipts::Receipts;
use record::State;
pub(crate) use record::{Arrival, Fate, Found, Outcome, Record, Twin};
pub(crate) use stored::Stored as StoredStart;
pub(crate) use table::RecordId;
use table::{RECORDS_MAX, Records};

/// The most records that are looked at in one hold of the lock: some ten microseconds, for which no call can enter.
const LOOKED_AT_ONCE: usize = 256;

/// The records of job starts.
#[derive(Debug)]
pub(crate) struct JobRecords {
    records: Mutex<Records>,
    /// The answers to starts under a key, and to those that may be delivered to a twin.
    pub(crate) answers: KeptAnswers,
    receipts: Receipts,
    /// How long an answer that its client missed waits for a twin.
    redeliver: Duration,
    metrics: Arc<Metrics>,
    events: Events,
}

/// A submission that is under way. Dropped before it is settled, as by a bug, its outcome is not known.
#[derive(Debug)]
pub(crate) struct UnderWay {
    records: Arc<JobRecords>,
    id: RecordId,
    is_settled: bool,
}

impl UnderWay {
    /// It is repeated under another lease, which is asked for next.
    pub(crate) fn note_lease(&self, lease: LeaseId) {
        self.records.note_lease(self.id, lease);
    }

    /// It has ended.
    pub(crate) fn settle(mut self, fate: Fate) {
        self.is_settled = true;
        self.records.settle(self.id, fate);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if !self.is_settled {
            self.records.settle(self.id, Fate::unknown());
        }
    }
}

/// What a job start finds when it arrives.
#[derive(Debug)]
pub(crate) enum Entered {
    /// Nothing that is its own: it has a record now.
    New(Delivery),
    /// An earlier start of the same client whose answer it may have.
    Twin(Promise),
    /// An earlier start of the same client, of which it is not known yet whether its client has the answer.
    InDoubt,
    /// An earlier start of the same client on another connection, which seems to be there. Its end may be on its way.
    Beside,
    /// An earlier start of the same client, which has left already: it was sent again on another connection, and that
    /// was read first.
    Overtaken,
}

/// The answer of an earlier twin whose client is gone.
#[derive(Debug)]
pub(crate) struct Promise {
    /// Dropped, it returns the answer.
    pub(crate) delivery: Delivery,
    settled: CancellationToken,
}

impl Promise {
    /// Whether the earlier start is no longer under way.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled.is_cancelled()
    }

    /// Waits until the earlier start is no longer under way. Cancel-safe.
    pub(crate) async fn settled(&self) {
        self.settled.cancelled().await;
    }
}

impl JobRecords {
    /// Records that keep an undelivered answer for twins for as long as `redeliver`, and tell `events` of it.
    pub(crate) fn new(redeliver: Duration, metrics: Arc<Metrics>, events: Events) -> Arc<Self> {
        Arc::new(Self {
            records: Mutex::default(),
            answers: KeptAnswers::new(),
            receipts: Receipts::default(),
            redeliver,
            metrics,
            events,
        })
    }

    /// A job start has arrived: it gets the answer of the oldest twin whose client is gone, or a record of its
    /// own. Both in one step, so that of two twins the later one sees the earlier one.
    ///
    /// `is_patient`: it has been [beside](Entered::Beside) an earlier one for a moment.
    pub(crate) fn enter(self: &Arc<Self>, arrival: &Arrival, is_patient: bool) -> Entered {
        let mut records = self.lock();
        let now = Instant::now();
        // Most starts have none.
        let twin = arrival.twin.as_ref().filter(|twin| records.has(twin));
        let lost = twin.and_then(|twin| records.lost_twin(twin, self.redeliver, now));
        let Some((id, record)) = lost else {
            // Those that are over were forgotten just now.
            if let Some(twin) = twin.filter(|twin| records.has(twin)) {
                if records.is_in_doubt(twin) {
                    return Entered::InDoubt;
                }
                if arrival.client.is_gone() {
                    return Entered::Overtaken;
                }
                if !is_patient && records.has_beside(twin, &arrival.client) {
                    return Entered::Beside;
                }
            }
            let accepted_at = arrival.client.accepted_at();
            let was_answered = |twin| records.answered.is_newer(twin, accepted_at);
            if arrival.twin.as_ref().is_some_and(was_answered) && arrival.client.is_gone() {
                return Entered::Overtaken;
            }
            let id = records.add(arrival, now);
            drop(records);
            let to = Addressee { id, number: 0 };
            let delivery = Delivery::new(Arc::clone(self), to, arrival.client.clone());
            return Entered::New(delivery);
        };
        record.addressee += 1;
        record.delivery = State::Awaited(arrival.client.downgrade());
        let number = record.addressee;
        let settled = record.settled.clone();
        drop(records);
        let to = Addressee { id, number };
        let delivery = Delivery::new(Arc::clone(self), to, arrival.client.clone());
        Entered::Twin(Promise { delivery, settled })
    }

    /// A call that was refused waits again.
    pub(crate) fn wait_again(&self, id: RecordId) {
        let mut records = self.lock();
        let Records { by_id, by_twin, .. } = &mut *records;
        let Some(record) = by_id.get_mut(id) else {
            return;
        };
        record.refused = Some(mem::replace(&mut record.outcome, Outcome::Waiting));
        record.settled = CancellationToken::new();
        record.settled_at = None;
        record.is_unlisted = false;
        if let Some(twin) = &record.twin {
            let twins = by_twin.entry(twin.clone()).or_default();
            if !twins.contains(&id) {
                twins.push_back(id);
            }
        }
    }

    /// A call asks the ledger for this lease next: what is granted is not stored without the record. It is called
    /// before the ledger is asked.
    pub(crate) fn note_lease(&self, id: RecordId, lease: LeaseId) {
        self.lock().note_lease(id, lease, false);
    }

    /// A call is sent next under this id, and without a slot. The ledger may know nothing of it: nothing may be sent
    /// before this is durable.
    pub(crate) fn note_unlisted(&self, id: RecordId, lease: LeaseId) {
        self.lock().note_lease(id, lease, true);
    }

    /// A call is sent.
    pub(crate) fn submit(self: &Arc<Self>, id: RecordId) -> UnderWay {
        if let Some(record) = self.lock().by_id.get_mut(id) {
            record.outcome = Outcome::Submitting;
        }
        UnderWay {
            records: Arc::clone(self),
            id,
            is_settled: false,
        }
    }

    /// A submission has ended.
    fn settle(&self, id: RecordId, fate: Fate) {
        let mut records = self.lock();
        let Some(record) = records.by_id.get_mut(id) else {
            return;
        };
        record.at = Timestamp::now();
        record.settled_at = Some(Instant::now());
        record.email = fate.email;
        record.lease = fate.lease.or(record.lease);
        record.claim = fate.claim.or(record.claim.take());
        record.outcome = fate.outcome;
        let settled = record.settled.clone();
        if record.key.is_none()
            && record.twin.is_none()
            && let Some(lease) = record.lease
        {
            // No call comes again for it.
            self.answers.forget(lease);
        }
        if let Some(task_id) = record.task_id().cloned() {
            records.by_task.insert(task_id, id);
        }
        records.note_change(id);
        self.note_if_lost(&mut records, id);
        drop(records);
        settled.cancel();
    }

    /// Asks the ledger what became of a submission whose outcome was not known, and notes it.
    ///
    /// # Errors
    /// [`Unavailable`] if it cannot be asked.
    pub(crate) async fn resolve(
        &self,
        id: RecordId,
        record: &Record,
        ledger: &Ledger,
    ) -> Result<Found, Unavailable> {
        let found = record.found(ledger).await?;
        match &found {
            Found::Job(task_id, email) => self.find(id, task_id, email.clone()),
            Found::NoJob => self.note_absent(id),
            Found::Undecided => {}
        }
        Ok(found)
    }

    /// A submission whose outcome was not known is a job.
    fn find(&self, id: RecordId, task_id: &TaskId, email: Option<Arc<str>>) {
        let mut records = self.lock();
        let Some(record) = records.by_id.get_mut(id) else {
            return;
        };
        record.outcome = Outcome::Accepted(task_id.clone());
        record.at = Timestamp::now();
        record.settled_at = Some(Instant::now());
        record.email = email.or(record.email.take());
        records.by_task.insert(task_id.clone(), id);
        records.note_change(id);
        self.note_if_lost(&mut records, id);
    }

    /// A submission whose outcome was not known is no job.
    fn note_absent(&self, id: RecordId) {
        let mut records = self.lock();
        if let Some(record) = records.by_id.get_mut(id) {
            record.outcome = Outcome::Refused("absent");
            records.note_change(id);
        }
    }

    /// The client of this twin asked for the task: it has its answer.
    pub(crate) fn note_polled(&self, task_id: &TaskId, scope: &str, ip: Option<IpAddr>) {
        let mut records = self.lock();
        let Some(id) = records.by_task.get(task_id).copied() else {
            return;
        };
        if let Some(record) = records.by_id.get_mut(id)
            && let Some(twin) = &record.twin
            && *twin.scope == *scope
            && twin.ip == ip
            && !matches!(record.delivery, State::Awaited(_))
        {
            record.delivery = State::UsedUp;
            records.note_change(id);
            self.forget_twin(&mut records, id);
        }
    }

    /// A job is over.
    pub(crate) fn note_result(&self, task_id: &TaskId, result: JobResult) {
        let mut records = self.lock();
        let Some(id) = records.by_task.get(task_id).copied() else {
            return;
        };
        match result {
            JobResult::Failed => self.end_failed(&mut records, id),
            JobResult::Succeeded => records.set_result(id, result),
        }
    }

    /// The job of a record has failed, or is there no more.
    pub(crate) fn note_failed(&self, id: RecordId) {
        self.end_failed(&mut self.lock(), id);
    }

    /// Its client has no use for a job that has failed.
    fn end_failed(&self, records: &mut Records, id: RecordId) {
        records.set_result(id, JobResult::Failed);
        self.forget_twin(records, id);
    }

    /// Some of the records that `is_wanted`, newest first, each with its id: those that are older than `before`, or the
    /// newest. And what to give as `before` for those that follow; `None` at the end.
    pub(crate) fn part(
        &self,
        before: Option<RecordId>,
        is_wanted: impl Fn(&Record) -> bool,
    ) -> (Vec<(RecordId, Record)>, Option<RecordId>) {
        let mut records = self.lock();
        records.forget_beyond(RECORDS_MAX, Instant::now());
        let looked_at = records.by_id.before(before).rev().take(LOOKED_AT_ONCE);
        let (mut wanted, mut count, mut last) = (Vec::new(), 0, None);
        for (id, record) in looked_at {
            (count, last) = (count + 1, Some(*id));
            if is_wanted(record) {
                wanted.push((*id, Record::clone(record)));
            }
        }
        (wanted, last.filter(|_| count == LOOKED_AT_ONCE))
    }

    /// All records, newest first.
    #[cfg(test)]
    fn all(&self) -> Vec<(RecordId, Record)> {
        let (mut all, mut next) = self.part(None, |_| true);
        while next.is_some() {
            let more;
            (more, next) = self.part(next, |_| true);
            all.extend(more);
        }
        all
    }

    /// Learns what became of submissions whose outcome was not known. Cancel-safe.
    ///
    /// # Errors
    /// [`Unavailable`] if the ledger cannot be asked.
    pub(crate) async fn resolve_lost(&self, ledger: &Ledger) -> Result<(), Unavailable> {
        let is_lost = |record: &Record| matches!(record.outcome, Outcome::Uncertain(_));
        let mut next = None;
        loop {
            let lost;
            (lost, next) = self.part(next, is_lost);
            for (id, record) in lost {
                self.resolve(id, &record, ledger).await?;
            }
            if next.is_none() {
                return Ok(());
            }
            yield_now().await;
        }
    }

    /// Learns how jobs ended, as the ledger does. Runs until dropped.
    pub(crate) async fn follow_results(&self, ledger: &Ledger) {
        loop {
            let results = ledger.job_results().await;
            let is_known = |(task_id, _): &(TaskId, _)| self.lock().by_task.contains_key(task_id);
            // A lost submission may have turned out to be one of these jobs. If that cannot be asked now, it stays
            // without its result.
            if !results.iter().all(is_known) && self.resolve_lost(ledger).await.is_err() {
                tracing::debug!("it cannot be asked what became of lost submissions");
            }
            for (task_id, result) in results {
                self.note_result(&task_id, result);
            }
        }
    }

    /// How many answers their clients missed that are kept for them.
    pub(crate) fn missed_count(&self) -> usize {
        self.lock().missed_count(self.redeliver, Instant::now())
    }

    /// One record.
    pub(crate) fn get(&self, id: RecordId) -> Option<Record> {
        self.lock()
            .by_id
            .get(id)
            .map(|record| Record::clone(record))
    }

    /// The answer was taken for writing to the client, or the client was gone.
    fn note_taken(&self, to: Addressee, state: State) {
        let mut records = self.lock();
        let Some(record) = records.by_id.get_mut(to.id) else {
            return;
        };
        if to.number == 0 && record.outcome == Outcome::Waiting {
            let Some(outcome) = record.refused.take() else {
                // It was never sent: nothing came of it.
                records.remove(to.id);
                return;
            };
            record.outcome = outcome;
            record.settled.cancel();
            records.note_change(to.id);
        }
        let Some(record) = records.by_id.get_mut(to.id) else {
            return;
        };
        // A client that had only closed its sending side may have the answer after all.
        let is_left_over = matches!(
            (&record.delivery, &state),
            (State::Undelivered, State::UsedUp)
        );
        let is_addressee = record.addressee == to.number || is_left_over;
        if !is_addressee || matches!(record.delivery, State::UsedUp) {
            return;
        }
        let is_over = matches!(state, State::UsedUp);
        record.delivery = state;
        if is_over {
            records.note_change(to.id);
            self.forget_twin(&mut records, to.id);
        } else {
            // After a restart an answer is undelivered unless it is used up: nothing is stored.
            self.note_if_lost(&mut records, to.id);
        }
    }

    /// Tells once of an accepted start whose client missed the answer.
    fn note_if_lost(&self, records: &mut Records, id: RecordId) {
        let Some(record) = records.by_id.get_mut(id) else {
            return;
        };
        if record.is_counted || !record.is_cut_off() {
            return;
        }
        let Some(task_id) = record.task_id().cloned() else {
            return;
        };
        record.is_counted = true;
        let undelivered = JobFacts {
            request_id: Some(Arc::clone(&record.request_id)),
            client: record.client_name.clone(),
            operation: Some(Arc::clone(&record.body.operation)),
            account: record.email.as_deref().map(AccountFacts::of),
            task_id: Some(task_id),
        };
        if let Some(changes) = &mut records.changes {
            changes.note(id, true);
        }
        records.note_missed(id);
        self.metrics.count_undelivered();
        self.events.publish(&Fact::AnswerUndelivered(undelivered));
    }

    /// A record is delivered to no twin.
    fn forget_twin(&self, records: &mut Records, id: RecordId) {
        if let Some(lease) = records.forget_twin(id) {
            self.answers.forget(lease);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        self.records.lock()
    }
}

#[cfg(test)]
pub(crate) mod tests;
