//! The clock of leases, and the calendar time that people see.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::time::Instant;

/// How far the calendar may drift from a ledger's clock before it is read again: more than the
/// corrections of a time server, far less than the sleep of a suspended machine.
const CALENDAR_DRIFT_MAX: Duration = Duration::from_secs(1);

/// The clock of a ledger: the time that its processes have lived so far. So no wall clock decides about a slot.
#[derive(Debug)]
pub struct Clock {
    started: Instant,
    /// What it showed at the start of this process.
    base: Duration,
    earlier: Option<Arc<Earlier>>,
    /// The calendar time at which it would have shown zero, had no process ended since. It changes when the calendar is set or the machine slept.
    started_at: Mutex<StartedAt>,
}

/// A calendar time, twice: every pick compares it, and few need it as such.
#[derive(Debug)]
struct StartedAt {
    /// Nanoseconds since 1970.
    nanos: i128,
    time: Timestamp,
}

impl StartedAt {
    fn new(nanos: i128) -> Self {
        let limit = if nanos < 0 {
            Timestamp::MIN
        } else {
            Timestamp::MAX
        };
        let time = Timestamp::from_nanosecond(nanos).unwrap_or(limit);
        Self { nanos, time }
    }
}

impl Clock {
    /// A clock that starts at zero.
    pub fn start() -> Self {
        Self::go_on(Duration::ZERO, Vec::new())
    }

    /// A clock that goes on from `base`. `runs`: what it showed at the starts of the processes before, and the calendar
    /// times of these; in order.
    pub fn go_on(base: Duration, runs: Vec<(Duration, Timestamp)>) -> Self {
        let earlier = (!runs.is_empty()).then(|| Arc::new(Earlier { base, runs }));
        Self {
            started: Instant::now(),
            base,
            earlier,
            started_at: Mutex::new(StartedAt::new(calendar_nanos() - nanos(base))),
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
        self.calendar_at(self.now())
    }

    /// The same, of a time that this clock has just shown: it is not read again.
    pub(super) fn calendar_at(&self, now: Duration) -> Calendar {
        let start = calendar_nanos() - nanos(now);
        let mut started_at = self.started_at.lock();
        if (start - started_at.nanos).abs() > nanos(CALENDAR_DRIFT_MAX) {
            *started_at = StartedAt::new(start);
        }
        Calendar {
            started_at: started_at.time,
            earlier: self.earlier.clone(),
        }
    }
}

/// The calendar time, in nanoseconds since 1970.
fn calendar_nanos() -> i128 {
    match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => nanos(since),
        Err(error) => -nanos(error.duration()),
    }
}

fn nanos(time: Duration) -> i128 {
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX)
}

/// Which calendar times the times of a clock are. The clock stands still between two processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    started_at: Timestamp,
    earlier: Option<Arc<Earlier>>,
}

/// The processes before this one.
#[derive(Debug, PartialEq, Eq)]
struct Earlier {
    /// What the clock showed at the start of this process.
    base: Duration,
    runs: Vec<(Duration, Timestamp)>,
}

impl Calendar {
    /// The calendar time at which the clock showed `time`.
    pub fn at(&self, time: Duration) -> Timestamp {
        let earlier = self.earlier.as_ref().filter(|it| time < it.base);
        let run = earlier.and_then(|it| it.runs.iter().rfind(|(begun, _)| *begun <= time));
        let (time, from) = match run {
            Some((begun, at)) => (time - *begun, *at),
            None => (time, self.started_at),
        };
        let time = SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
        from.saturating_add(time).unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_before_a_restart_keeps_its_calendar_time() {
        let hour = Duration::from_secs(3600);
        let hour_ago = Timestamp::now() - SignedDuration::from_hours(1);
        let day_ago = Timestamp::now() - SignedDuration::from_hours(24);
        let runs = vec![(Duration::ZERO, day_ago), (9 * hour, hour_ago)];
        let calendar = Clock::go_on(12 * hour, runs).calendar();
        assert_eq!(calendar.at(hour), day_ago + hour);
        assert_eq!(calendar.at(11 * hour), hour_ago + 2 * hour);
        let age = Timestamp::now().duration_since(calendar.at(12 * hour));
        assert!(age.abs() < SignedDuration::from_mins(1), "{age}");
    }
}
