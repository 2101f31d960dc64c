//! A held slot: its id, its job, its end.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use rand::{Rng, RngExt};
use thiserror::Error;

use super::AccountKey;

/// How much earlier than the truth an expiry is told, at most, so that a submission sent in the
/// last moment is still covered by the slot.
const EXPIRY_MARGIN_MAX: Duration = Duration::from_secs(5);

/// The most digits a task id may have. Ids of 18 digits are known (`2^63` has 19); the rest is
/// room, the limit keeps hostile ids out of the book.
pub const TASK_ID_DIGITS_MAX: usize = 32;

/// Names a lease: 128 random bits, written as 32 hex digits. Who knows it may release the slot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId(u128);

impl LeaseId {
    /// Draws an id. `rng` must be a cryptographic generator wherever ids are handed out.
    pub fn random(rng: &mut impl Rng) -> Self {
        Self(rng.random())
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a lease id is 32 hex digits")]
pub struct LeaseIdError;

impl FromStr for LeaseId {
    type Err = LeaseIdError;

    fn from_str(text: &str) -> Result<Self, LeaseIdError> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(LeaseIdError);
        }
        match u128::from_str_radix(text, 16) {
            Ok(bits) => Ok(Self(bits)),
            Err(_) => Err(LeaseIdError),
        }
    }
}

/// Names an upstream job. Kept as its digits: ids can exceed `2^53`, and can be negative.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TaskId(Box<str>);

impl TaskId {
    /// The digits, with a leading `-` if the id is negative.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text is not a task id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a task id is 1 to {TASK_ID_DIGITS_MAX} digits without leading zeros")]
pub struct TaskIdError;

impl FromStr for TaskId {
    type Err = TaskIdError;

    fn from_str(text: &str) -> Result<Self, TaskIdError> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        // One job has one id: 007 would be another name of 7.
        let is_padded = digits.starts_with('0') && text != "0";
        let is_valid = (1..=TASK_ID_DIGITS_MAX).contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && !is_padded;
        if is_valid {
            Ok(Self(text.into()))
        } else {
            Err(TaskIdError)
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
    /// Its job outlived `leases.job_ttl` and nobody said how it ended.
    Unverified,
}

impl Cause {
    /// Every cause, in the order of the metric's series.
    pub const ALL: [Self; 4] = [
        Self::Released,
        Self::Expired,
        Self::Undelivered,
        Self::Unverified,
    ];

    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Expired => "expired",
            Self::Undelivered => "undelivered",
            Self::Unverified => "unverified",
        }
    }
}

/// One held slot in the book.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) account: AccountKey,
    pub(super) task_id: Option<TaskId>,
    pub(super) created_at: Duration,
    pub(super) expires_at: Duration,
    pub(super) ttl: Duration,
}

impl Lease {
    /// The expiry as its holder is told.
    pub(super) fn told_expiry(&self) -> Duration {
        match self.task_id {
            None => self.expires_at - EXPIRY_MARGIN_MAX.min(self.ttl / 10),
            Some(_) => self.expires_at,
        }
    }
}

/// A lease as its holder sees it. Times are durations since the pool's start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseView {
    /// The lease.
    pub id: LeaseId,
    /// Whose slot it is, in the list's spelling.
    pub email: Arc<str>,
    /// The account's name in logs and metrics.
    pub alias: Arc<str>,
    /// The job it is bound to.
    pub task_id: Option<TaskId>,
    /// The account's capacity now.
    pub max_jobs: u32,
    /// The account's slots in use now, this one included.
    pub in_flight: u32,
    /// When the slot was taken.
    pub created_at: Duration,
    /// When it ends by itself, as told: up to five seconds before the pool lets go.
    pub expires_at: Duration,
}
