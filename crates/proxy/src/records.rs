//! The records of job starts: what became of each call, and whether its client has its answer.
//!
//! A client that gives up and sends the same call again without a key would buy a second job. So an answer
//! that nobody got is kept for the next start of the same client with the same body, its **twin**.
//!
//! Invariants: an answer is promised to one start at a time, and used up once; a start under an idempotency key
//! has no twins. In memory only, and bounded: the oldest record makes room for a new one.

mod delivery;
mod kept_answers;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    mem,
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use foldhash::fast::RandomState;
use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    error::Error,
    kling::task::JobResult,
    ledger::{Ledger, Recall, Unavailable},
    metrics::Metrics,
    pool::{Claim, Known, LeaseId, OperationName, TaskId},
    server::{Client, WeakClient},
};

pub(crate) use delivery::Delivery;
use kept_answers::KeptAnswers;

/// The most records: about a job each nine seconds for a day.
const RECORDS_MAX: usize = 10_000;
/// The most twins whose clients are looked at when a start arrives, the oldest ones: each look asks the system,
/// and no other start can arrive meanwhile.
const LOOKS_MAX: usize = 256;
/// How long a record is kept.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

/// A job start, as far as its twins are concerned: the same client, operation and body.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Twin {
    /// Which client token it showed.
    pub(crate) scope: Arc<str>,
    /// Where it called from, if it showed no token.
    pub(crate) ip: Option<IpAddr>,
    /// The operation.
    pub(crate) operation: OperationName,
    /// Tells its body from others.
    pub(crate) fingerprint: u64,
}

/// What is known of a call when it arrives.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) request_id: Arc<str>,
    /// The client's idempotency key, as it wrote it.
    pub(crate) key: Option<Arc<str>>,
    /// The name of the client's token.
    pub(crate) client_name: Option<Arc<str>>,
    pub(crate) operation: OperationName,
    /// `None` if it has no twins.
    pub(crate) twin: Option<Twin>,
    pub(crate) client: Client,
}

/// What became of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It waits for a slot.
    Waiting,
    /// It is under way.
    Submitting,
    /// It is a job.
    Accepted(TaskId),
    /// The upstream did not take it, for this reason.
    Refused(&'static str),
    /// Nothing was sent.
    Unsent,
    /// It is not known yet. What its clients are told.
    Uncertain(Error),
}

impl Outcome {
    /// The word of the API.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Submitting => "submitting",
            Self::Accepted(_) => "accepted",
            Self::Refused(reason) => reason,
            Self::Unsent => "unsent",
            Self::Uncertain(_) => "uncertain",
        }
    }
}

/// How a submission ended.
#[derive(Debug)]
pub(crate) struct Fate {
    pub(crate) outcome: Outcome,
    /// The account that it was sent to, if that is known.
    pub(crate) email: Option<Arc<str>>,
    pub(crate) lease: Option<LeaseId>,
    /// By what the ledger knows it, if its outcome is not known.
    pub(crate) claim: Option<Claim>,
}

impl Fate {
    /// Nothing was sent.
    pub(crate) fn unsent() -> Self {
        Self::of(Outcome::Unsent)
    }

    /// It may have been sent.
    fn unknown() -> Self {
        Self::of(Outcome::Uncertain(Error::OutcomeUnknown))
    }

    fn of(outcome: Outcome) -> Self {
        Self {
            outcome,
            email: None,
            lease: None,
            claim: None,
        }
    }
}

/// One job start.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) request_id: Arc<str>,
    pub(crate) key: Option<Arc<str>>,
    pub(crate) client_name: Option<Arc<str>>,
    pub(crate) operation: OperationName,
    pub(crate) email: Option<Arc<str>>,
    pub(crate) outcome: Outcome,
    /// The outcome of an earlier submission of the same call, which waits again.
    refused: Option<Outcome>,
    /// When the outcome became known, or else when the call arrived.
    pub(crate) at: Timestamp,
    pub(crate) result: Option<JobResult>,
    /// The lease of its last submission.
    pub(crate) lease: Option<LeaseId>,
    /// By what the ledger knows it.
    pub(crate) claim: Option<Claim>,
    twin: Option<Twin>,
    delivery: State,
    /// Counts those that the answer was promised to. The last one counts.
    addressee: u32,
    settled: CancellationToken,
    settled_at: Option<Instant>,
    arrived_at: Instant,
    is_counted: bool,
}

/// Whether the client has the answer.
#[derive(Clone, Debug)]
enum State {
    /// The client of the call, or of a twin, waits for it.
    Awaited(WeakClient),
    /// It was written a moment ago.
    Written(Client),
    /// The client was gone.
    Undelivered,
    /// The client has it, or it is of no use any more.
    UsedUp,
}

/// What the ledger says of a submission whose outcome was not known.
#[derive(Debug)]
pub(crate) enum Found {
    Job(TaskId, Option<Arc<str>>),
    NoJob,
    Undecided,
}

impl Record {
    /// Asks the ledger what became of a submission whose outcome was not known.
    ///
    /// # Errors
    /// [`Unavailable`] if it cannot be asked.
    pub(crate) async fn found(&self, ledger: &Ledger) -> Result<Found, Unavailable> {
        let Some(claim) = self.claim.clone() else {
            return Ok(Found::Undecided);
        };
        Ok(match ledger.call(Recall { claim }).await? {
            Some(Known::Job {
                lease,
                task_id,
                email,
            }) if Some(lease) == self.lease => Found::Job(task_id, email),
            // The key was free, and another call has it now.
            None | Some(Known::Job { .. } | Known::Reused) => Found::NoJob,
            Some(Known::InUse(_) | Known::Held(_) | Known::Full) => Found::Undecided,
        })
    }

    /// False if the client was gone before its answer was written.
    pub(crate) fn is_delivered(&self) -> bool {
        matches!(self.delivery, State::Written(_) | State::UsedUp) && !self.is_lost()
    }

    /// The task, if there is one.
    pub(crate) fn task_id(&self) -> Option<&TaskId> {
        match &self.outcome {
            Outcome::Accepted(task_id) => Some(task_id),
            Outcome::Waiting
            | Outcome::Submitting
            | Outcome::Refused(_)
            | Outcome::Unsent
            | Outcome::Uncertain(_) => None,
        }
    }

    /// Whether the client seems to be gone without the answer.
    fn is_lost(&self) -> bool {
        match &self.delivery {
            State::Awaited(client) => client.is_gone(),
            State::Written(client) => client.is_reset(),
            State::Undelivered => true,
            State::UsedUp => false,
        }
    }

    /// Whether nobody can have the answer any more but a twin. A client that has only closed its sending side may
    /// still read.
    fn is_cut_off(&self) -> bool {
        match &self.delivery {
            State::Awaited(client) => client.is_cut_off(),
            State::Written(_) | State::Undelivered | State::UsedUp => self.is_lost(),
        }
    }

    /// Whether a job came of it, or may have come.
    fn may_be_a_job(&self) -> bool {
        match self.outcome {
            Outcome::Waiting
            | Outcome::Submitting
            | Outcome::Accepted(_)
            | Outcome::Uncertain(_) => true,
            Outcome::Refused(_) | Outcome::Unsent => false,
        }
    }
}

/// The records of job starts.
#[derive(Debug)]
pub(crate) struct JobRecords {
    records: Mutex<Records>,
    /// The answers to starts under a key, and to those that may be delivered to a twin.
    pub(crate) answers: KeptAnswers,
    /// How long an answer that nobody got waits for a twin.
    redeliver: Duration,
    metrics: Arc<Metrics>,
}

/// Names a record. A larger one is newer.
pub(crate) type RecordId = u64;

#[derive(Debug, Default)]
struct Records {
    by_id: BTreeMap<RecordId, Record>,
    /// Those that may be delivered to a twin, oldest first.
    by_twin: HashMap<Twin, VecDeque<RecordId>, RandomState>,
    by_task: HashMap<TaskId, RecordId, RandomState>,
    begun_count: u64,
}

/// A submission that is under way. Dropped before it is settled, as by a bug, its outcome is not known.
#[derive(Debug)]
pub(crate) struct UnderWay {
    records: Arc<JobRecords>,
    id: RecordId,
    is_settled: bool,
}

impl UnderWay {
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
    /// Records that keep an undelivered answer for twins for as long as `redeliver`.
    pub(crate) fn new(redeliver: Duration, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            records: Mutex::default(),
            answers: KeptAnswers::new(),
            redeliver,
            metrics,
        })
    }

    /// A job start has arrived: it gets the answer of the oldest twin whose client is gone, or a record of its
    /// own. Both in one step, so that of two twins the later one sees the earlier one.
    pub(crate) fn enter(self: &Arc<Self>, arrival: &Arrival) -> Entered {
        let mut records = self.lock();
        let now = Instant::now();
        let lost = arrival
            .twin
            .as_ref()
            .and_then(|twin| records.lost_twin(twin, self.redeliver, now));
        let Some((id, record)) = lost else {
            let id = records.add(arrival, now);
            drop(records);
            let delivery = Delivery::new(Arc::clone(self), id, 0, arrival.client.clone());
            return Entered::New(delivery);
        };
        record.addressee += 1;
        record.delivery = State::Awaited(arrival.client.downgrade());
        let (addressee, settled) = (record.addressee, record.settled.clone());
        drop(records);
        let delivery = Delivery::new(Arc::clone(self), id, addressee, arrival.client.clone());
        Entered::Twin(Promise { delivery, settled })
    }

    /// A call that was refused waits again.
    pub(crate) fn wait_again(&self, id: RecordId) {
        let mut records = self.lock();
        let Records { by_id, by_twin, .. } = &mut *records;
        let Some(record) = by_id.get_mut(&id) else {
            return;
        };
        record.refused = Some(mem::replace(&mut record.outcome, Outcome::Waiting));
        record.settled = CancellationToken::new();
        record.settled_at = None;
        if let Some(twin) = &record.twin {
            let twins = by_twin.entry(twin.clone()).or_default();
            if !twins.contains(&id) {
                twins.push_back(id);
            }
        }
    }

    /// A call is sent.
    pub(crate) fn submit(self: &Arc<Self>, id: RecordId) -> UnderWay {
        self.change(id, |record| record.outcome = Outcome::Submitting);
        UnderWay {
            records: Arc::clone(self),
            id,
            is_settled: false,
        }
    }

    /// A submission has ended.
    fn settle(&self, id: RecordId, fate: Fate) {
        let mut records = self.lock();
        let Some(record) = records.by_id.get_mut(&id) else {
            return;
        };
        record.at = Timestamp::now();
        record.settled_at = Some(Instant::now());
        record.email = fate.email;
        record.lease = fate.lease;
        record.claim = fate.claim;
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
        self.note_if_lost(&mut records, id);
        drop(records);
        settled.cancel();
    }

    /// A submission whose outcome was not known is a job.
    pub(crate) fn find(&self, id: RecordId, task_id: &TaskId, email: Option<Arc<str>>) {
        let mut records = self.lock();
        let Some(record) = records.by_id.get_mut(&id) else {
            return;
        };
        record.outcome = Outcome::Accepted(task_id.clone());
        record.at = Timestamp::now();
        record.settled_at = Some(Instant::now());
        record.email = email.or(record.email.take());
        records.by_task.insert(task_id.clone(), id);
        self.note_if_lost(&mut records, id);
    }

    /// A submission whose outcome was not known is no job.
    pub(crate) fn note_absent(&self, id: RecordId) {
        self.change(id, |record| record.outcome = Outcome::Refused("absent"));
    }

    /// The client of this twin asked for the task: it has its answer.
    pub(crate) fn note_polled(&self, task_id: &TaskId, scope: &str, ip: Option<IpAddr>) {
        let mut records = self.lock();
        let Some(id) = records.by_task.get(task_id).copied() else {
            return;
        };
        if let Some(record) = records.by_id.get_mut(&id)
            && let Some(twin) = &record.twin
            && *twin.scope == *scope
            && twin.ip == ip
            && !matches!(record.delivery, State::Awaited(_))
        {
            record.delivery = State::UsedUp;
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

    /// The records that `is_wanted`, newest first, each with its id.
    pub(crate) fn list(&self, is_wanted: impl Fn(&Record) -> bool) -> Vec<(RecordId, Record)> {
        let mut records = self.lock();
        records.forget_beyond(RECORDS_MAX, Instant::now());
        let wanted = records.by_id.iter().rev();
        let wanted = wanted.filter(|(_, record)| is_wanted(record));
        wanted.map(|(id, record)| (*id, record.clone())).collect()
    }

    /// One record.
    pub(crate) fn get(&self, id: RecordId) -> Option<Record> {
        self.lock().by_id.get(&id).cloned()
    }

    /// The answer was taken for writing to the client, or the client was gone.
    fn note_taken(&self, delivery: &Delivery, state: State) {
        let mut records = self.lock();
        let Some(record) = records.by_id.get_mut(&delivery.id()) else {
            return;
        };
        if delivery.is_own() && record.outcome == Outcome::Waiting {
            let Some(outcome) = record.refused.take() else {
                // It was never sent: nothing came of it.
                records.remove(delivery.id());
                return;
            };
            record.outcome = outcome;
            record.settled.cancel();
        }
        // A client that had only closed its sending side may have the answer after all.
        let is_left_over = matches!(
            (&record.delivery, &state),
            (State::Undelivered, State::UsedUp)
        );
        let is_addressee = record.addressee == delivery.addressee() || is_left_over;
        if !is_addressee || matches!(record.delivery, State::UsedUp) {
            return;
        }
        let is_over = matches!(state, State::UsedUp);
        record.delivery = state;
        if is_over {
            self.forget_twin(&mut records, delivery.id());
        } else {
            self.note_if_lost(&mut records, delivery.id());
        }
    }

    /// Tells once of an accepted start whose answer nobody got.
    fn note_if_lost(&self, records: &mut Records, id: RecordId) {
        let Some(record) = records.by_id.get_mut(&id) else {
            return;
        };
        let Some(task_id) = record.task_id().cloned() else {
            return;
        };
        if record.is_counted || !record.is_cut_off() {
            return;
        }
        record.is_counted = true;
        self.metrics.count_undelivered();
        tracing::warn!(
            request_id = &*record.request_id,
            task_id = task_id.as_str(),
            operation = &*record.operation,
            "a job was started, and its client was gone before the answer; the same start sent again gets it, \
             and /jobs lists it"
        );
    }

    /// A record is delivered to no twin.
    fn forget_twin(&self, records: &mut Records, id: RecordId) {
        if let Some(lease) = records.forget_twin(id) {
            self.answers.forget(lease);
        }
    }

    fn change(&self, id: RecordId, change: impl FnOnce(&mut Record)) {
        if let Some(record) = self.lock().by_id.get_mut(&id) {
            change(record);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        self.records.lock()
    }
}

impl Records {
    /// Adds the record of a call that has arrived.
    fn add(&mut self, arrival: &Arrival, now: Instant) -> RecordId {
        self.forget_beyond(RECORDS_MAX - 1, now);
        let id = self.begun_count;
        self.begun_count += 1;
        if let Some(twin) = &arrival.twin {
            self.by_twin.entry(twin.clone()).or_default().push_back(id);
        }
        let record = Record {
            request_id: Arc::clone(&arrival.request_id),
            key: arrival.key.clone(),
            client_name: arrival.client_name.clone(),
            operation: Arc::clone(&arrival.operation),
            email: None,
            outcome: Outcome::Waiting,
            refused: None,
            at: Timestamp::now(),
            result: None,
            lease: None,
            claim: None,
            twin: arrival.twin.clone(),
            delivery: State::Awaited(arrival.client.downgrade()),
            addressee: 0,
            settled: CancellationToken::new(),
            settled_at: None,
            arrived_at: now,
            is_counted: false,
        };
        self.by_id.insert(id, record);
        id
    }

    fn set_result(&mut self, id: RecordId, result: JobResult) {
        if let Some(record) = self.by_id.get_mut(&id) {
            record.result = Some(result);
        }
    }

    /// The oldest twin whose client is gone, and whose answer is not older than `redeliver`.
    fn lost_twin(
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
                .get(&id)
                .filter(|record| record.may_be_a_job() && record.settled_at.is_none_or(is_in_time));
            match record {
                Some(record) if record.is_lost() => {
                    return Some((id, self.by_id.get_mut(&id)?));
                }
                Some(_) => idx += 1,
                None => drop(twins.remove(idx)),
            }
        }
        None
    }

    /// Forgets what is too old, and the oldest if there are more than `kept_max`.
    fn forget_beyond(&mut self, kept_max: usize, now: Instant) {
        while let Some((id, oldest)) = self.by_id.first_key_value() {
            let is_old = now.duration_since(oldest.arrived_at) >= KEPT_FOR;
            if !is_old && self.by_id.len() <= kept_max {
                return;
            }
            self.remove(*id);
        }
    }

    fn remove(&mut self, id: RecordId) {
        self.forget_twin(id);
        let Some(record) = self.by_id.remove(&id) else {
            return;
        };
        // Nothing more becomes known of it: its twins go on.
        record.settled.cancel();
        if let Some(task_id) = record.task_id()
            && self.by_task.get(task_id) == Some(&id)
        {
            self.by_task.remove(task_id);
        }
    }

    /// A record is delivered to no twin. Returns the lease by which its answer is kept for one.
    fn forget_twin(&mut self, id: RecordId) -> Option<LeaseId> {
        let record = self.by_id.get(&id)?;
        let twin = record.twin.as_ref()?;
        if let Some(twins) = self.by_twin.get_mut(twin) {
            twins.retain(|other| *other != id);
            if twins.is_empty() {
                self.by_twin.remove(twin);
            }
        }
        record.lease
    }
}

#[cfg(test)]
mod tests;
