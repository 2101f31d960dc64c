//! One job and its life: submitted, processing, succeed.
//!
//! A job's phase is a function of the time asked about; nothing has to happen for it to move on.

use std::fmt;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;
use serde::Serialize;

use crate::operation::Operation;

/// The number by which the upstream names a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct TaskId(u64);

impl TaskId {
    /// The number itself.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl From<u64> for TaskId {
    fn from(id: u64) -> Self {
        Self(id)
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How long jobs take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobDuration {
    /// Each job draws its own duration, uniformly between the two bounds (in either order).
    Between(Duration, Duration),
    /// A job ends only through [`Sim::finish`](crate::Sim::finish).
    Manual,
}

impl JobDuration {
    /// Jobs that take between `low` and `high`, both included.
    #[must_use]
    pub fn between(low: Duration, high: Duration) -> Self {
        Self::Between(low, high)
    }

    /// Draws the duration of one job; `None` when only a test ends it.
    pub(super) fn draw(self, rng: &mut SmallRng) -> Option<Duration> {
        match self {
            Self::Between(low, high) => Some(rng.random_range(low.min(high)..=low.max(high))),
            Self::Manual => None,
        }
    }
}

impl Default for JobDuration {
    /// 5 s to 20 s: long enough to watch slots fill up, short enough for a demo.
    fn default() -> Self {
        Self::Between(Duration::from_secs(5), Duration::from_secs(20))
    }
}

/// Where a job is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Submitted,
    Processing,
    Succeed,
}

impl Phase {
    /// Kling's own number for it.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Submitted => 5,
            Self::Processing => 10,
            Self::Succeed => 99,
        }
    }

    /// The name useapi.net adds; `succeed` is its spelling.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Submitted => "submitted",
            Self::Processing => "processing",
            Self::Succeed => "succeed",
        }
    }

    /// Whether the job is over.
    pub(crate) fn is_final(self) -> bool {
        self == Self::Succeed
    }
}

/// An accepted job. Times count from the start of the simulator.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) id: TaskId,
    pub(crate) email: String,
    pub(crate) user_id: u64,
    pub(crate) operation: &'static Operation,
    pub(crate) started: Duration,
    /// `None` until a test ends it.
    pub(crate) duration: Option<Duration>,
    pub(crate) reply_url: Option<String>,
    pub(crate) reply_ref: Option<String>,
}

impl Job {
    /// When the job is over, if that is known.
    pub(crate) fn ends_at(&self) -> Option<Duration> {
        self.duration.map(|duration| self.started + duration)
    }

    /// The phase at `now`: a tenth of the duration is spent in the queue.
    ///
    /// A job that waits for a test to end it is never seen queued: it has no tenth.
    pub(crate) fn phase(&self, now: Duration) -> Phase {
        let age = now.saturating_sub(self.started);
        match self.duration {
            Some(duration) if age >= duration => Phase::Succeed,
            Some(duration) if age < duration / 10 => Phase::Submitted,
            Some(_) | None => Phase::Processing,
        }
    }
}
