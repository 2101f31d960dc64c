//! Records as they stand in the journal, so that a restart loses none of them.
//!
//! A record is taken for the journal once its call may get a slot, and whenever more becomes known of it. Answers are
//! not stored: they echo prompts.
//!
//! Times are those of the book's clock, which counts the time that the sidecar has lived: the calendar may be set,
//! and only `at`, which people read, follows it.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use super::record::{Outcome, Record, State, Twin};
use crate::{
    error::Error,
    kling::task::JobResult,
    pool::{Body, Claim, Known, LeaseId, TaskId},
};

/// What became of a call, as it is stored.
const WAITING: &str = "waiting";
const SUBMITTING: &str = "submitting";
const ACCEPTED: &str = "accepted";
const UNSENT: &str = "unsent";
const UNCERTAIN: &str = "uncertain";
const TIMED_OUT: &str = "timed-out";
/// The reason of a refusal that another version of the sidecar has stored, if this one does not know it. Versions of one
/// format may add reasons, and no other outcomes.
const REFUSED: &str = "refused";
const REASONS: [&str; 6] = ["full", "session", "credit", "token", "absent", REFUSED];

/// The records that have changed since they were taken last, by their ids: those that are there, and those that are
/// gone and stand in the journal. So there are at most twice as many as records.
#[derive(Debug)]
pub(super) struct Changes {
    pub(super) ids: BTreeSet<u64>,
    writer: Arc<Notify>,
}

impl Changes {
    pub(super) fn new(writer: Arc<Notify>) -> Self {
        Self {
            ids: BTreeSet::new(),
            writer,
        }
    }

    /// A record has changed. `is_urgent`: the writer is woken, for no operation of the ledger does it.
    pub(super) fn note(&mut self, id: u64, is_urgent: bool) {
        self.ids.insert(id);
        if is_urgent {
            self.writer.notify_one();
        }
    }
}

/// Converts between times of this process and those of the book's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct BookTime {
    now: Instant,
    lived: Duration,
}

impl BookTime {
    /// It is `lived` by the book's clock now.
    pub(super) fn new(lived: Duration) -> Self {
        let now = Instant::now();
        Self { now, lived }
    }

    pub(super) fn now(self) -> Instant {
        self.now
    }

    fn ms_of(self, at: Instant) -> u64 {
        let age = self.now.saturating_duration_since(at);
        let ms = self.lived.saturating_sub(age).as_millis();
        u64::try_from(ms).unwrap_or(u64::MAX)
    }

    fn instant_of(self, ms: u64) -> Instant {
        let age = self.lived.saturating_sub(Duration::from_millis(ms));
        // Where the system cannot tell times before its start, what is older counts as new.
        self.now.checked_sub(age).unwrap_or(self.now)
    }
}

/// A record, as it is stored.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Stored {
    request_id: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client: Option<Arc<str>>,
    body: Body,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    email: Option<Arc<str>>,
    outcome: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    task_id: Option<TaskId>,
    /// Why an earlier submission of the same call, which waits again, was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    /// It was sent without a slot, or about to be: the ledger may know nothing of it.
    #[serde(default)]
    is_unlisted: bool,
    /// For people, RFC 3339.
    at: String,
    arrived_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    settled_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<StoredResult>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lease: Option<LeaseId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    claim: Option<Claim>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    twin: Option<StoredTwin>,
    /// Its client has the answer, or has no use for it.
    is_used_up: bool,
    /// That its client missed the answer was told.
    #[serde(default)]
    is_counted: bool,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum StoredResult {
    Succeeded,
    Failed,
}

/// What a twin has in common besides the body.
#[derive(Debug, Serialize, Deserialize)]
struct StoredTwin {
    scope: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip: Option<IpAddr>,
}

impl Stored {
    pub(super) fn of(record: &Record, time: BookTime) -> Self {
        let task_id = record.task_id().cloned();
        let twin = record.twin.as_ref().map(|twin| StoredTwin {
            scope: Arc::clone(&twin.scope),
            ip: twin.ip,
        });
        Self {
            request_id: Arc::clone(&record.request_id),
            key: record.key.clone(),
            client: record.client_name.clone(),
            body: record.body.clone(),
            email: record.email.clone(),
            outcome: word(&record.outcome).to_owned(),
            task_id,
            refused: record.refused.as_ref().map(|it| word(it).to_owned()),
            is_unlisted: record.is_unlisted,
            at: record.at.to_string(),
            arrived_ms: time.ms_of(record.arrived_at),
            settled_ms: record.settled_at.map(|at| time.ms_of(at)),
            result: record.result.map(|result| match result {
                JobResult::Succeeded => StoredResult::Succeeded,
                JobResult::Failed => StoredResult::Failed,
            }),
            lease: record.lease,
            claim: record.claim.clone(),
            twin,
            is_used_up: matches!(record.delivery, State::UsedUp),
            is_counted: record.is_counted,
        }
    }

    /// The record after a restart. `None`: nothing was sent. `known`: what the ledger says of a lease.
    ///
    /// The connections of all clients have ended. So every answer is undelivered that is not used up.
    pub(super) fn restored(
        self,
        time: BookTime,
        known: impl FnOnce(LeaseId) -> Option<Known>,
    ) -> Option<Record> {
        let mut record = self.record(time);
        if matches!(self.outcome.as_str(), WAITING | SUBMITTING) {
            let known = record.lease.and_then(known);
            match known {
                Some(Known::Job { task_id, email, .. }) => {
                    record.outcome = Outcome::Accepted(task_id);
                    record.email = email.or(record.email);
                }
                Some(Known::InUse(_) | Known::Held(_) | Known::Reused | Known::Full) => {
                    let lease = record.lease?;
                    record.claim.get_or_insert_with(|| Claim::of_lost(lease));
                    record.outcome = Outcome::Uncertain(Error::OutcomeUnknown);
                }
                None if self.is_unlisted => {
                    record.outcome = Outcome::Uncertain(Error::OutcomeUnknown);
                }
                // Its slot was given back, or it never had one.
                None => record.outcome = outcome(self.refused.as_deref()?, None),
            }
            record.settled_at = Some(time.now());
        }
        record.settled.cancel();
        Some(record)
    }

    fn record(&self, time: BookTime) -> Record {
        let twin = self.twin.as_ref().map(|twin| Twin {
            scope: Arc::clone(&twin.scope),
            ip: twin.ip,
            operation: Arc::clone(&self.body.operation),
            fingerprint: self.body.fingerprint,
        });
        Record {
            request_id: Arc::clone(&self.request_id),
            key: self.key.clone(),
            client_name: self.client.clone(),
            body: self.body.clone(),
            email: self.email.clone(),
            outcome: outcome(&self.outcome, self.task_id.as_ref()),
            refused: None,
            is_unlisted: self.is_unlisted,
            at: self.at.parse().unwrap_or_else(|_| Timestamp::now()),
            result: self.result.map(|result| match result {
                StoredResult::Succeeded => JobResult::Succeeded,
                StoredResult::Failed => JobResult::Failed,
            }),
            lease: self.lease,
            claim: self.claim.clone(),
            twin,
            delivery: if self.is_used_up {
                State::UsedUp
            } else {
                State::Undelivered
            },
            addressee: 0,
            settled: CancellationToken::new(),
            settled_at: self.settled_ms.map(|ms| time.instant_of(ms)),
            arrived_at: time.instant_of(self.arrived_ms),
            is_counted: self.is_counted,
            is_stored: true,
        }
    }
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Waiting => WAITING,
        Outcome::Submitting => SUBMITTING,
        Outcome::Accepted(_) => ACCEPTED,
        Outcome::Refused(reason) => reason,
        Outcome::Unsent => UNSENT,
        Outcome::Uncertain(Error::TimedOut) => TIMED_OUT,
        Outcome::Uncertain(_) => UNCERTAIN,
    }
}

fn outcome(word: &str, task_id: Option<&TaskId>) -> Outcome {
    match (word, task_id) {
        (ACCEPTED, Some(task_id)) => Outcome::Accepted(task_id.clone()),
        (WAITING, _) => Outcome::Waiting,
        (SUBMITTING, _) => Outcome::Submitting,
        (UNSENT, _) => Outcome::Unsent,
        (TIMED_OUT, _) => Outcome::Uncertain(Error::TimedOut),
        (UNCERTAIN | ACCEPTED, _) => Outcome::Uncertain(Error::OutcomeUnknown),
        (reason, _) => {
            let known = REASONS.iter().find(|known| **known == reason);
            Outcome::Refused(known.unwrap_or(&REFUSED))
        }
    }
}
