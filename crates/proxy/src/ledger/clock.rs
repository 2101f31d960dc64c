//! The clock of leases, and the calendar time that people see.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::time::Instant;

/// How far the calendar may drift from a ledger's clock before it is read again: more than the
/// corrections of a time server, far less than the sleep of a suspended machine.
const CALENDAR_DRIFT_MAX: SignedDuration = SignedDuration::from_secs(1);

/// The clock of a ledger. Leases count from its start, so that no wall clock decides about a slot.
#[derive(Debug)]
pub struct Clock {
    started: Instant,
    /// The calendar time of the start. It changes when the calendar is set or the machine slept.
    started_at: Mutex<Timestamp>,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
            started_at: Mutex::new(Timestamp::now()),
        }
    }

    /// The time since the start.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// The instant `time` after the start, or `None` beyond what an instant can hold.
    pub fn instant(&self, time: Duration) -> Option<Instant> {
        self.started.checked_add(time)
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
