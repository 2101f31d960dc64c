//! What callers ask of the pool, and what it answers.

use std::{cmp::Ordering, mem, num::NonZeroU32, sync::Arc, time::Duration};

use thiserror::Error;

use super::{
    AccountKey, Body, LeaseId, LeaseView, Mark, OperationName, TaskId, WaiterId, name::Name,
    steps::Counted,
};

/// Who asked for a slot, as people are told of it. Never a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The name of the client's token, if it has one.
    pub client: Option<Arc<str>>,
    /// What the call is named in logs and records. Empty if it was not kept.
    pub request_id: Arc<str>,
}

/// What a caller asks for: the accounts it accepts, and the lease it will have.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The id the lease will have.
    pub lease_id: LeaseId,
    /// How long it lasts unless renewed, bound or released. `None` for a submission that we carry:
    /// its lease lasts until it is answered.
    pub ttl: Option<Duration>,
    /// The accounts that the caller accepts.
    pub constraint: Constraint,
    /// Who asks.
    pub caller: Caller,
    /// What the job does, if the caller said.
    pub operation: Option<OperationName>,
    /// What will be submitted, if the caller said.
    pub body: Option<Arc<Body>>,
    /// The mark of the lease, if the caller uses marks.
    pub mark: Option<Mark>,
    /// The caller's own `maxJobs`: it accepts no account with as many slots in use.
    pub max_jobs: Option<NonZeroU32>,
    /// Its place in the queue if it comes back, from [`Pool::take_place`](super::Pool::take_place). `None`:
    /// behind all others.
    pub place: Option<WaiterId>,
    /// How long the caller waits at most. It is shown, and no decision depends on it.
    pub wait: Duration,
}

/// What a lease is made of.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) lease_id: LeaseId,
    pub(super) ttl: Option<Duration>,
    pub(super) caller: Caller,
    pub(super) operation: Option<OperationName>,
    pub(super) body: Option<Arc<Body>>,
    pub(super) mark: Option<Mark>,
}

impl Ask {
    /// What the lease will be made of.
    pub(super) fn terms(&self) -> Terms {
        Terms {
            lease_id: self.lease_id,
            ttl: self.ttl,
            caller: self.caller.clone(),
            operation: self.operation.clone(),
            body: self.body.clone(),
            mark: self.mark,
        }
    }
}

/// The accounts that a caller accepts. Made by [`Pool::constraint`](super::Pool::constraint).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Constraint {
    /// Only this one.
    Only(AccountKey),
    /// Any but these.
    AnyBut(Excluded),
}

/// Which accounts a caller accepts, and how full they may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish<'a> {
    pub(super) constraint: &'a Constraint,
    pub(super) max_jobs: Option<NonZeroU32>,
}

impl Ask {
    pub(super) fn wish(&self) -> Wish<'_> {
        Wish {
            constraint: &self.constraint,
            max_jobs: self.max_jobs,
        }
    }
}

impl Wish<'_> {
    /// Whether the caller's own cap allows an account with so many slots in use.
    pub(super) fn fits(&self, in_flight: u32) -> bool {
        self.max_jobs.is_none_or(|max| in_flight < max.get())
    }
}

impl Constraint {
    pub(super) fn allows(&self, key: AccountKey) -> bool {
        match self {
            Self::Only(only) => *only == key,
            Self::AnyBut(excluded) => !excluded.contains(key),
        }
    }

    /// Whether it excludes no account.
    pub(super) fn allows_all(&self) -> bool {
        matches!(self, Self::AnyBut(excluded) if excluded.is_empty())
    }
}

/// Accounts a caller does not want, as it named them and by their keys.
///
/// The names stay: an account that joins the list while the caller waits is excluded all the same.
/// Two values are equal if their names are.
#[derive(Clone, Debug, Default)]
pub struct Excluded {
    /// Sorted. `None`: none are excluded.
    names: Option<Arc<[Name]>>,
    /// Sorted, each once.
    keys: Vec<AccountKey>,
}

impl PartialEq for Excluded {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Excluded {}

impl PartialOrd for Excluded {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Excluded {
    fn cmp(&self, other: &Self) -> Ordering {
        self.names.cmp(&other.names)
    }
}

impl Excluded {
    /// `names` must be sorted.
    pub(super) fn new(names: &Arc<[Name]>, alike: impl Fn(&Name) -> Vec<AccountKey>) -> Self {
        if names.is_empty() {
            return Self::default();
        }
        let mut excluded = Self {
            names: Some(Arc::clone(names)),
            keys: Vec::new(),
        };
        excluded.resolve(alike);
        excluded
    }

    /// Looks up again which accounts the names may mean. Unknown names exclude nothing for now.
    /// Returns the accounts that are no longer excluded.
    pub(super) fn resolve(&mut self, alike: impl Fn(&Name) -> Vec<AccountKey>) -> Vec<AccountKey> {
        let mut before = mem::take(&mut self.keys);
        let names = self.names.iter().flat_map(|names| names.iter()).counted();
        self.keys.extend(names.flat_map(alike));
        self.keys.sort_unstable();
        self.keys.dedup();
        before.retain(|key| !self.contains(*key));
        before
    }

    pub(super) fn contains(&self, key: AccountKey) -> bool {
        self.keys.binary_search(&key).is_ok()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = AccountKey> {
        self.keys.iter().copied()
    }
}

/// The answer to a caller who is ready to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// A slot was free.
    Granted(LeaseView),
    /// No slot was free: the caller is in the queue.
    Queued(WaiterId),
}

/// A slot handed to a waiter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    /// Who waited.
    pub waiter: WaiterId,
    /// What it was granted.
    pub lease: LeaseView,
}

/// Why no slot was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// There is no account list yet, or no round has shown which jobs run.
    #[error("the account list is not known yet")]
    Learning,
    /// The list is empty.
    #[error("the account list is empty")]
    NoAccounts,
    /// Every account that the caller accepts is draining, ejected or in error.
    #[error("none of the accepted accounts is usable")]
    NoUsableAccount,
    /// Every account that the caller accepts is full.
    #[error("all accounts are at capacity")]
    Saturated {
        /// How long until a slot is free for this caller, as far as can be told.
        free_in: Duration,
        /// Its position in the queue, from 1: the one it has, or would have.
        position: usize,
    },
    /// Every free slot that the caller accepts is on an account that is cooling.
    #[error("every account with a free slot has just refused a job and is not picked for a while")]
    CoolingDown {
        /// How long until the first of them is ready.
        ready_in: Duration,
    },
    /// Every account that the caller accepts is full, some of them only because of submissions
    /// whose outcome is unknown.
    #[error("the remaining slots may be taken by submissions whose outcome is not known yet")]
    Unverified {
        /// How long until a slot is free for this caller, as far as can be told: until a job is over, or it is
        /// known that a submission started none.
        free_in: Duration,
    },
    /// The queue is full.
    #[error("the queue of waiting calls is full")]
    QueueFull {
        /// How long until a waiter is served, as far as can be told.
        free_in: Duration,
    },
}

/// There is no account of this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("no such account")]
pub struct UnknownAccount;

/// Why a lease was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LeaseError {
    /// The lease does not exist, or has ended.
    #[error("no such lease, or it has ended")]
    Unknown,
    /// The job is bound to another lease, or runs on another account: one job takes one slot.
    #[error("the job is bound to another lease, or runs on another account")]
    TaskTaken,
}

/// A change of a lease. What is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// A new ttl, counted from now. A bound lease lasts as long as its job: it keeps its end.
    pub ttl: Option<Duration>,
    /// The job to bind to.
    pub task_id: Option<TaskId>,
}
