//! One job and its life: submitted, processing, succeed or failed.
//!
//! The phase of a job is a function of the time; nothing has to happen for the job to move on. Its
//! slot returns at another time: the upstream notices the end late, or never.

use std::{ops::Range, time::Duration};

use rand::{RngExt, rngs::SmallRng};

use super::task_info::Argument;
use crate::{operation::JobKind, origin::Origin, task_id::TaskId};

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
    Failed,
}

impl Phase {
    /// Kling's own number for the phase; failures have several, whose meanings are unknown.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Submitted => 5,
            Self::Processing => 10,
            Self::Succeed => 99,
            Self::Failed => 50,
        }
    }

    /// The name useapi.net adds; `succeed` is its spelling.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Submitted => "submitted",
            Self::Processing => "processing",
            Self::Succeed => "succeed",
            Self::Failed => "failed",
        }
    }

    /// Whether the job is over.
    pub(crate) fn is_final(self) -> bool {
        matches!(self, Self::Succeed | Self::Failed)
    }
}

/// An accepted job. Times count from the start of the simulator.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) id: TaskId,
    pub(crate) email: String,
    pub(crate) user_id: u64,
    pub(crate) kind: &'static JobKind,
    pub(crate) origin: Origin,
    pub(crate) started: Duration,
    /// `None` until a test ends it.
    pub(crate) duration: Option<Duration>,
    /// How long after the end of the job the upstream notices it.
    pub(crate) release_lag: Duration,
    /// When the upstream stops tracking it.
    pub(crate) tracked_until: Duration,
    /// Whether it will fail.
    pub(crate) is_doomed: bool,
    pub(crate) is_deleted: bool,
    pub(crate) output_count: u32,
    pub(crate) reply_url: Option<String>,
    /// As far as the scheduler shows it.
    pub(crate) reply_ref: Option<String>,
    /// The arguments that Kling received, as far as a history shows them.
    pub(crate) arguments: Vec<Argument>,
}

impl Job {
    /// When the job is over, if that is known.
    pub(crate) fn ends_at(&self) -> Option<Duration> {
        let duration = self.duration?;
        Some(self.started.saturating_add(duration))
    }

    /// When its slot returns, as far as that is known.
    pub(crate) fn leaves_at(&self) -> Duration {
        let noticed_at = self
            .ends_at()
            .map(|end| end.saturating_add(self.release_lag));
        noticed_at.map_or(self.tracked_until, |at| at.min(self.tracked_until))
    }

    /// The phase at `now`: the job spends a tenth of its duration in the queue.
    ///
    /// A job that only a test ends is never seen in the queue, since it has no duration yet.
    pub(crate) fn phase(&self, now: Duration) -> Phase {
        let age = now.saturating_sub(self.started);
        match self.duration {
            Some(duration) if age >= duration && self.is_doomed => Phase::Failed,
            Some(duration) if age >= duration => Phase::Succeed,
            Some(duration) if age < duration / 10 => Phase::Submitted,
            Some(_) | None => Phase::Processing,
        }
    }

    /// The numbers of its works: its own id and the numbers after it, none of which belongs to
    /// another task.
    pub(crate) fn work_ids(&self) -> Range<i64> {
        let first = self.id.get();
        first..first + i64::from(self.output_count)
    }
}

/// A job that was accepted, and the arguments that the answer to its start echoes.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) job: Job,
    pub(crate) arguments: Vec<Argument>,
    /// Whether the answer says so.
    pub(crate) is_told: bool,
}
