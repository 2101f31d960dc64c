//! A held slot: its id, its job, its end.

mod id;

use std::{num::NonZero, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    AccountKey, Body, Caller, JobResult, Limits, Mark, OperationName, TaskId,
    account::Account,
    deadlines::{NEVER, Nanos, nanos},
};
pub use id::{LeaseId, LeaseIdError};

/// A client is told an expiry at most this much too early, so that the slot still covers a
/// submission sent in the last moment.
const EXPIRY_MARGIN_MAX: Duration = Duration::from_secs(5);

/// Who holds a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// A client that picked. Its lease has a ttl.
    Pick,
    /// A submission that we carry. Its lease lasts until the submission is answered.
    Forward,
}

impl Kind {
    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pick => "pick",
            Self::Forward => "forward",
        }
    }
}

/// The phase of a lease, as the API shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseState {
    /// No job is known.
    Reserved,
    /// It holds the slot of a job.
    Bound,
    /// Its submission was sent, and its outcome is unknown.
    Uncertain,
}

impl LeaseState {
    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Bound => "bound",
            Self::Uncertain => "uncertain",
        }
    }
}

/// How a lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Given back by its holder.
    Released,
    /// Its ttl ran out before it was bound to a job.
    Expired,
    /// Its holder was gone before it could learn of it.
    Undelivered,
    /// Its job is over.
    Finished,
    /// The upstream refused its submission.
    Refused,
    /// Its submission was lost: no job of it turned up.
    Absent,
    /// The state of its job was unknown for `leases.job_ttl`.
    Unverified,
}

impl Cause {
    /// Every cause, in the order of the metric's series.
    pub const ALL: [Self; 7] = [
        Self::Released,
        Self::Expired,
        Self::Undelivered,
        Self::Finished,
        Self::Refused,
        Self::Absent,
        Self::Unverified,
    ];

    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Expired => "expired",
            Self::Undelivered => "undelivered",
            Self::Finished => "finished",
            Self::Refused => "refused",
            Self::Absent => "absent",
            Self::Unverified => "unverified",
        }
    }
}

/// One held slot. There are as many as slots: what only some have lies behind a box, and times take half a `Duration`.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) account: AccountKey,
    pub(super) created_at: Nanos,
    /// Who asked for it.
    pub(super) caller: Caller,
    /// `None`: the lease of a submission that we carry.
    pub(super) ttl: Option<Ttl>,
    particulars: Option<Box<Particulars>>,
    /// Its submission is sent with its mark.
    pub(super) is_marked: bool,
    pub(super) phase: Phase,
    /// Its ttl is over, and a round has to decide about it.
    pub(super) is_overdue: bool,
    /// Another call under its key was told of it.
    pub(super) is_told: bool,
    /// What became of its submission is counted.
    pub(super) is_counted: bool,
    /// Its job is counted as started.
    pub(super) is_started: bool,
    /// When the pool next acts on it by itself, as noted by [`Leases`](super::leases::Leases).
    pub(super) deadline: Nanos,
}

/// What is known of the job of a lease beforehand, and where the lease comes from. Of most picks that is nothing.
#[derive(Debug, Default)]
pub(super) struct Particulars {
    pub(super) operation: Option<OperationName>,
    /// The `replyRef` that its job may have. It was not sent yet if the lease is not `is_marked`; after a crash that is
    /// not known.
    pub(super) mark: Option<Mark>,
    /// What is submitted, if that is known.
    pub(super) body: Option<Arc<Body>>,
    /// It is from before a restart: which run of the sidecar granted it, if that was written.
    pub(super) earlier_run: Option<Option<Arc<str>>>,
}

impl Particulars {
    fn are_none(&self) -> bool {
        let Self {
            operation,
            mark,
            body,
            earlier_run,
        } = self;
        operation.is_none() && mark.is_none() && body.is_none() && earlier_run.is_none()
    }
}

/// Of a lease without any.
static NONE: Particulars = Particulars {
    operation: None,
    mark: None,
    body: None,
    earlier_run: None,
};

/// How long a picked slot is held, and until when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ttl {
    length: NonZero<Nanos>,
    ends_at: Nanos,
}

impl Ttl {
    pub(super) fn new(length: Duration, ends_at: Duration) -> Self {
        Self {
            // So an `Option` takes no more room.
            length: NonZero::new(nanos(length)).unwrap_or(NonZero::<Nanos>::MIN),
            ends_at: nanos(ends_at),
        }
    }

    pub(super) fn length(self) -> Duration {
        Duration::from_nanos(self.length.get())
    }

    pub(super) fn ends_at(self) -> Duration {
        Duration::from_nanos(self.ends_at)
    }
}

/// A job that a lease has or stands for, with what other leases need to take it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) task_id: TaskId,
    /// When the first round that listed it was sent. `None` for a job that was named, or that
    /// another lease had: no other lease may take it over.
    pub(super) first_at: Option<Duration>,
    /// The newest round lists it.
    pub(super) is_listed: bool,
}

impl Listed {
    /// A job that the round sent at `first_at` lists, and none before.
    pub(super) fn new(task_id: TaskId, first_at: Duration) -> Self {
        Self {
            task_id,
            first_at: Some(first_at),
            is_listed: true,
        }
    }

    /// A job that is listed, and that no lease may take over by its turn.
    pub(super) fn unclaimable(task_id: TaskId) -> Self {
        Self {
            task_id,
            first_at: None,
            is_listed: true,
        }
    }

    /// The same job, which no other lease may take over.
    pub(super) fn named(self) -> Self {
        Self {
            first_at: None,
            ..self
        }
    }
}

/// The phase of a lease, with what is known in it.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    Reserved {
        /// The job that the newest round lists and that may be this submission's.
        stands_for: Option<Box<Listed>>,
    },
    Uncertain {
        /// When the last byte of the submission was sent.
        sent_at: Nanos,
        /// How many rounds in a row, sent long enough after that, listed no job of it.
        absences: u32,
    },
    Bound(Box<Binding>),
}

/// A lease and its job.
#[derive(Clone, Debug)]
pub(super) struct Binding {
    pub(super) task_id: TaskId,
    pub(super) since: Duration,
    /// The newest round lists the job.
    pub(super) is_listed: bool,
    /// When a round last listed the job, if the newest one does not.
    pub(super) listed_at: Duration,
    /// Since when the job is known to be over.
    pub(super) over_at: Option<Duration>,
    /// How it ended, if that is known.
    pub(super) result: Option<JobResult>,
    /// Set if only a round matched the job to this lease: the earlier phase, which returns if an
    /// answer or a client says otherwise.
    pub(super) tied_from: Option<Phase>,
}

impl Binding {
    pub(super) fn new(task_id: TaskId, since: Duration, is_listed: bool) -> Self {
        Self {
            task_id,
            since,
            is_listed,
            listed_at: since,
            over_at: None,
            result: None,
            tied_from: None,
        }
    }

    /// The job, with what other leases need to take it over. They may not if its holder named it.
    pub(super) fn listed(&self) -> Listed {
        Listed {
            task_id: self.task_id.clone(),
            first_at: self.tied_from.is_some().then_some(self.since),
            is_listed: self.is_listed,
        }
    }
}

impl Phase {
    pub(super) const RESERVED: Self = Self::Reserved { stands_for: None };

    /// The last byte of the submission was sent at `sent_at`.
    pub(super) fn uncertain(sent_at: Duration) -> Self {
        Self::Uncertain {
            sent_at: nanos(sent_at),
            absences: 0,
        }
    }

    pub(super) fn state(&self) -> LeaseState {
        match self {
            Self::Reserved { .. } => LeaseState::Reserved,
            Self::Uncertain { .. } => LeaseState::Uncertain,
            Self::Bound(_) => LeaseState::Bound,
        }
    }
}

impl Lease {
    /// A slot that was just taken.
    pub(super) fn new(
        account: AccountKey,
        created_at: Duration,
        caller: Caller,
        ttl: Option<Ttl>,
        particulars: Particulars,
    ) -> Self {
        Self {
            account,
            created_at: nanos(created_at),
            caller,
            ttl,
            particulars: (!particulars.are_none()).then(|| Box::new(particulars)),
            is_marked: false,
            phase: Phase::RESERVED,
            is_overdue: false,
            is_told: false,
            is_counted: false,
            is_started: false,
            deadline: NEVER,
        }
    }

    pub(super) fn created_at(&self) -> Duration {
        Duration::from_nanos(self.created_at)
    }

    fn particulars(&self) -> &Particulars {
        self.particulars.as_deref().unwrap_or(&NONE)
    }

    /// What its job does, if that is known.
    pub(super) fn operation(&self) -> &Option<OperationName> {
        &self.particulars().operation
    }

    pub(super) fn mark(&self) -> Option<Mark> {
        self.particulars().mark
    }

    pub(super) fn body(&self) -> &Option<Arc<Body>> {
        &self.particulars().body
    }

    /// The run of the sidecar that granted it, where the present one is `this`.
    pub(super) fn run<'a>(&'a self, this: &'a Option<Arc<str>>) -> &'a Option<Arc<str>> {
        self.particulars().earlier_run.as_ref().unwrap_or(this)
    }

    pub(super) fn kind(&self) -> Kind {
        if self.ttl.is_some() {
            Kind::Pick
        } else {
            Kind::Forward
        }
    }

    pub(super) fn state(&self) -> LeaseState {
        self.phase.state()
    }

    pub(super) fn binding(&self) -> Option<&Binding> {
        match &self.phase {
            Phase::Bound(binding) => Some(binding),
            Phase::Reserved { .. } | Phase::Uncertain { .. } => None,
        }
    }

    /// Whether only a round says which job it has.
    pub(super) fn is_tied(&self) -> bool {
        self.binding()
            .is_some_and(|binding| binding.tied_from.is_some())
    }

    pub(super) fn stands_for(&self) -> Option<&Listed> {
        match &self.phase {
            Phase::Reserved { stands_for } => stands_for.as_deref(),
            Phase::Uncertain { .. } | Phase::Bound(_) => None,
        }
    }

    /// Whether the newest round lists its job, or one that may be its job.
    pub(super) fn has_listed_job(&self) -> bool {
        match &self.phase {
            Phase::Reserved { stands_for } => stands_for.as_ref().is_some_and(|job| job.is_listed),
            Phase::Uncertain { .. } => false,
            Phase::Bound(binding) => binding.is_listed,
        }
    }

    /// When the lease normally ends. If rounds are held, they decide from then on.
    fn ends_at(&self, limits: &Limits) -> Option<Nanos> {
        let job_ttl = nanos(limits.job_ttl);
        match &self.phase {
            Phase::Reserved { .. } => self.ttl.map(|ttl| ttl.ends_at),
            Phase::Uncertain { sent_at, .. } => Some(sent_at.saturating_add(job_ttl)),
            Phase::Bound(binding) => Some(nanos(binding.since).saturating_add(job_ttl)),
        }
    }

    /// When the pool next acts on the lease: at the end of its ttl it asks for a round. At the last
    /// deadline it ends the lease whatever is known: a slot must not be held for ever because the
    /// upstream cannot be asked. `round_sent_at`: when the newest round was sent.
    pub(super) fn next_deadline(&self, limits: &Limits, round_sent_at: Option<Duration>) -> Nanos {
        let Some(ends_at) = self.ends_at(limits) else {
            return NEVER;
        };
        let last = |at: Nanos| at.saturating_add(nanos(limits.job_ttl));
        match &self.phase {
            Phase::Uncertain { .. } => ends_at,
            Phase::Reserved { .. } | Phase::Bound(_) if !limits.reconciles => ends_at,
            Phase::Reserved { .. } if !self.is_overdue => ends_at,
            Phase::Reserved { .. } => last(ends_at),
            // The job runs as long as rounds list it.
            Phase::Bound(binding) => {
                let newest = round_sent_at.filter(|_| binding.is_listed);
                let listed_at = newest.map_or(binding.listed_at, |at| at.max(binding.listed_at));
                last(ends_at.max(nanos(listed_at)))
            }
        }
    }

    /// The expiry that its holder is told.
    pub(super) fn told_expiry(&self, limits: &Limits) -> Option<Duration> {
        let ends_at = self.ends_at(limits)?;
        let told = match (&self.phase, self.ttl) {
            (Phase::Reserved { .. }, Some(ttl)) => {
                ends_at - (ttl.length.get() / 10).min(nanos(EXPIRY_MARGIN_MAX))
            }
            _ => ends_at,
        };
        Some(Duration::from_nanos(told))
    }
}

/// A lease as its holder sees it. Times are durations since the pool's start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseView {
    /// The lease.
    pub id: LeaseId,
    /// Who holds it.
    pub kind: Kind,
    /// Its phase.
    pub state: LeaseState,
    /// Whose slot it is, in the list's spelling.
    pub email: Arc<str>,
    /// The account's name in logs and metrics.
    pub alias: accounts_fetcher::Alias,
    /// Who asked for it.
    pub caller: Caller,
    /// What its job does. `None` for a pick.
    pub operation: Option<OperationName>,
    /// The job it is bound to.
    pub task_id: Option<TaskId>,
    /// The mark that its submission was sent with, or, of a pick, that its client may send.
    pub mark: Option<Mark>,
    /// The account's capacity now.
    pub max_jobs: u32,
    /// The account's slots in use now, this one included.
    pub in_flight: u32,
    /// When the slot was taken.
    pub created_at: Duration,
    /// When it ends by itself, as its holder is told: up to five seconds before it really ends.
    /// `None` while a submission that we carry runs.
    pub expires_at: Option<Duration>,
}

impl LeaseView {
    pub(super) fn of(id: LeaseId, lease: &Lease, account: &Account, limits: &Limits) -> Self {
        Self {
            id,
            email: Arc::clone(&account.listed.email),
            alias: account.listed.alias,
            kind: lease.kind(),
            state: lease.state(),
            caller: lease.caller.clone(),
            operation: lease.operation().clone(),
            task_id: lease.binding().map(|binding| binding.task_id.clone()),
            mark: lease
                .mark()
                .filter(|_| lease.is_marked || lease.kind() == Kind::Pick),
            max_jobs: account.max_jobs(),
            in_flight: account.in_flight(),
            created_at: lease.created_at(),
            expires_at: lease.told_expiry(limits),
        }
    }
}
