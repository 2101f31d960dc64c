//! One job start: what became of it, and whether its client has the answer.

use std::{
    hash::{Hash, Hasher},
    net::IpAddr,
    sync::Arc,
};

use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    error::Error,
    kling::task::JobResult,
    ledger::{Ledger, Recall, Unavailable},
    peer::{Client, WeakClient},
    pool::{Body, Claim, Fingerprint, Known, LeaseId, OperationName, TaskId},
};

/// A job start, as far as its twins are concerned: the same client, operation and body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Twin {
    /// Which client token it showed.
    pub(crate) scope: Arc<str>,
    /// Where it called from, if it showed no token.
    pub(crate) ip: Option<IpAddr>,
    /// The operation.
    pub(crate) operation: OperationName,
    /// Tells its body from others.
    pub(crate) fingerprint: Fingerprint,
}

/// The fingerprint tells most of them apart, and the address those of many clients that send the same: a start hashes its
/// twin eight times.
impl Hash for Twin {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.fingerprint, self.ip).hash(state);
    }
}

/// What is known of a call when it arrives.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) request_id: Arc<str>,
    /// The client's idempotency key, as it wrote it.
    pub(crate) key: Option<Arc<str>>,
    /// The name of the client's token.
    pub(crate) client_name: Option<Arc<str>>,
    /// What it submits.
    pub(crate) body: Body,
    /// What the ledger knows it by, if it has a key.
    pub(crate) claim: Option<Claim>,
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
    pub(super) fn unknown() -> Self {
        Self::of(Outcome::Uncertain(Error::OutcomeUnknown))
    }

    pub(super) fn of(outcome: Outcome) -> Self {
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
    pub(crate) body: Body,
    pub(crate) email: Option<Arc<str>>,
    pub(crate) outcome: Outcome,
    /// The outcome of an earlier submission of the same call, which waits again.
    pub(super) refused: Option<Outcome>,
    /// It is sent without a slot, as soon as this is durable.
    pub(super) is_unlisted: bool,
    /// When the outcome became known, or else when the call arrived.
    pub(crate) at: Timestamp,
    pub(crate) result: Option<JobResult>,
    /// The lease of its last submission, or the one that it asks for.
    pub(crate) lease: Option<LeaseId>,
    /// By what the ledger knows it.
    pub(crate) claim: Option<Claim>,
    pub(super) twin: Option<Twin>,
    pub(super) delivery: State,
    /// Counts those that the answer was promised to. The last one counts.
    pub(super) addressee: u32,
    pub(super) settled: CancellationToken,
    pub(super) settled_at: Option<Instant>,
    pub(super) arrived_at: Instant,
    pub(super) is_counted: bool,
    /// It stands in the journal.
    pub(super) is_stored: bool,
}

/// Whether the client has the answer.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// The client of the call, or of a twin, waits for it.
    Awaited(WeakClient),
    /// It was taken for writing a moment ago. The client may be gone, and its reset on the way.
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
    /// The record of a call that has arrived.
    pub(super) fn new(arrival: &Arrival, now: Instant) -> Self {
        Self {
            request_id: Arc::clone(&arrival.request_id),
            key: arrival.key.clone(),
            client_name: arrival.client_name.clone(),
            body: arrival.body.clone(),
            email: None,
            outcome: Outcome::Waiting,
            refused: None,
            is_unlisted: false,
            at: Timestamp::now(),
            result: None,
            lease: None,
            claim: arrival.claim.clone(),
            twin: arrival.twin.clone(),
            delivery: State::Awaited(arrival.client.downgrade()),
            addressee: 0,
            settled: CancellationToken::new(),
            settled_at: None,
            arrived_at: now,
            is_counted: false,
            is_stored: false,
        }
    }

    /// Asks the ledger what became of a submission whose outcome was not known.
    ///
    /// # Errors
    /// [`Unavailable`] if it cannot be asked.
    pub(super) async fn found(&self, ledger: &Ledger) -> Result<Found, Unavailable> {
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

    /// False if the client was gone before its answer was written, or has none yet.
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
    pub(super) fn is_lost(&self) -> bool {
        match &self.delivery {
            State::Awaited(client) => client.is_gone(),
            State::Written(client) => client.is_reset(),
            State::Undelivered => true,
            State::UsedUp => false,
        }
    }

    /// Whether only a twin can have the answer now, as far as the server has noticed: what it has not yet shows while the
    /// answer is written and watched. A client that has only closed its sending side may still read.
    pub(super) fn is_cut_off(&self) -> bool {
        match &self.delivery {
            State::Awaited(client) => client.is_cut_off(),
            State::Written(client) => client.is_broken(),
            State::Undelivered => true,
            State::UsedUp => false,
        }
    }

    /// Whether its answer goes, or went, to another connection than that of `client`.
    pub(super) fn is_beside(&self, client: &Client) -> bool {
        match &self.delivery {
            State::Awaited(other) => !other.is_of(client),
            State::Written(other) => !other.downgrade().is_of(client),
            State::Undelivered | State::UsedUp => false,
        }
    }

    /// Whether it shows in a moment that the client has the answer, or that it is gone.
    pub(super) fn is_in_doubt(&self) -> bool {
        matches!(&self.delivery, State::Written(client) if client.may_have_missed())
    }

    /// Whether a job came of it, or may have come.
    pub(super) fn may_be_a_job(&self) -> bool {
        match self.outcome {
            Outcome::Waiting
            | Outcome::Submitting
            | Outcome::Accepted(_)
            | Outcome::Uncertain(_) => true,
            Outcome::Refused(_) | Outcome::Unsent => false,
        }
    }
}
