//! The numbers by which the upstream names tasks.

use std::{fmt, ops::RangeInclusive};

use rand::{RngExt, rngs::SmallRng};
use serde::Serialize;

/// How much each id exceeds the one before. A step is below a thousand, so ids keep their number of
/// digits for longer than any run lasts. It is at least ten, so that the ids of a task's works fit
/// in between.
const STEP: RangeInclusive<i64> = 10..=999;

/// The number by which the upstream names a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct TaskId(i64);

impl TaskId {
    /// The number itself.
    #[must_use]
    pub fn get(self) -> i64 {
        self.0
    }

    pub(crate) fn draw_next(self, rng: &mut SmallRng) -> Self {
        Self(self.0 + rng.random_range(STEP))
    }
}

impl From<i64> for TaskId {
    fn from(id: i64) -> Self {
        Self(id)
    }
}

impl From<u64> for TaskId {
    /// No task has a number beyond the range of `i64`; the largest number in it stands for all of
    /// those.
    fn from(id: u64) -> Self {
        Self(id.try_into().unwrap_or(i64::MAX))
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What task ids look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TaskIds {
    /// 15 digits, as Kling's other ids have: a double holds them exactly.
    #[default]
    Digits15,
    /// 18 digits, beyond 2^53: a client that reads them as doubles loses the last ones.
    Digits18,
    /// 15 digits and a minus sign.
    Negative,
}

impl TaskIds {
    /// Draws the number after which a run's ids begin.
    pub(crate) fn draw_first(self, rng: &mut SmallRng) -> TaskId {
        const DIGITS_15: RangeInclusive<i64> = 100_000_000_000_000..=900_000_000_000_000;
        TaskId(match self {
            Self::Digits15 => rng.random_range(DIGITS_15),
            Self::Digits18 => rng.random_range(DIGITS_15) * 1000,
            // They grow too, towards zero.
            Self::Negative => -rng.random_range(DIGITS_15) - 1,
        })
    }
}
