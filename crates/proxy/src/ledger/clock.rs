//! The clock of leases, and the calendar time that people see.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::time::Instant;

/// How far the calendar may drift from a ledger's clock before it is read again: more than the
/// corrections of a time server, far less than the sleep of a suspended machine.
const CALENDAR_DRIFT_MAX: SignedDuration = SignedDuration::from_secs(1);

/// The clock of a ledger: the time that its processes have lived so far. So no wall clock decides about a slot.
#[derive(Debug)]
pub struct Clock {
    started: Instant,
    /// What it showed at the start of this process.
    base: Duration,
    /// The calendar time at which it would have shown zero, had no process ended since. It changes when the calendar is set or the machine slept.
    started_at: Mutex<Timestamp>,
}

impl Clock {
    /// A clock that goes on from `base`.
    pub fn start(base: Duration) -> Self {
        let lived = SignedDuration::try_from(base).unwrap_or(SignedDuration::MAX);
        let started_at = Timestamp::now().saturating_sub(lived);
        Self {
            started: Instant::now(),
            base,
            started_at: Mutex::new(started_at.unwrap_or(Timestamp::MIN)),
        }
    }

    /// The time that was lived.
    pub fn now(&self) -> Duration {
        self.base + self.started.elapsed()
    }

    /// The instant at which the clock shows `time`: the start, for what is past; or `None` beyond what an instant
    /// can hold.
    pub fn instant(&self, time: Duration) -> Option<Instant> {
        self.started.checked_add(time.saturating_sub(self.base))
    }

    /// Converts times of this clock to calendar times, for people. The same time gives the same
    /// calendar time until the calendar jumps.
    pub fn calendar(&self) -> Calendar {
        let elapsed = SignedDuration::try_from(self.now()).unwrap_or(SignedDuration::MAX);
        let start = Timestamp::now()
            .saturating_sub(elapsed)
            .unwrap_or(Timestamp::MIN);
        let mut started_at = self.started_at.lock();
        if start.duration_since(*started_at).abs() > CALENDAR_DRIFT_MAX {
            *started_at = start;
        }
        Calendar(*started_at)
    }
}

/// The calendar time of a clock's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calendar(Timestamp);

impl Calendar {
    /// The calendar time `time` after the start of the clock.
    pub fn at(self, time: Duration) -> Timestamp {
        let time = SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
        self.0.saturating_add(time).unwrap_or(Timestamp::MAX)
    }
}
