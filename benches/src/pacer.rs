//! When the next call is due.

use std::time::{Duration, Instant};

use crate::load::Pace;

/// Hands calls out as they become due. In an open loop a call that is taken late keeps the time when it was due, and the
/// ones behind it keep theirs: a server that stalls makes no call disappear.
#[derive(Debug)]
pub(crate) struct Pacer {
    start: Instant,
    /// `None`: each call is due at once.
    interval: Option<Duration>,
    taken: u32,
}

impl Pacer {
    pub(crate) fn new(pace: Pace, start: Instant) -> Self {
        let interval = match pace {
            Pace::Closed => None,
            Pace::Open(per_second) => Some(Duration::from_secs_f64(1.0 / per_second)),
        };
        Self {
            start,
            interval,
            taken: 0,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.interval.is_some()
    }

    /// The time when the next call is due. `None` in a closed loop: when a connection is free.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        Some(self.start + self.interval? * self.taken)
    }

    /// Takes the next call if it is due, and tells since when it is.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Instant> {
        match self.next_due() {
            None => Some(Instant::now()),
            Some(due) if due <= now => {
                self.taken += 1;
                Some(due)
            }
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_makes_calls_late_and_loses_none() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let mut pacer = Pacer::new(Pace::Open(1000.0), start);
        assert_eq!(pacer.take(start), Some(start));
        assert_eq!(pacer.take(start), None);
        // The server stalls for three intervals.
        let now = start + ms(3);
        for due in 1..=3 {
            assert_eq!(pacer.take(now), Some(start + ms(due)));
        }
        assert_eq!(pacer.take(now), None);
        assert_eq!(pacer.next_due(), Some(start + ms(4)));
    }

    #[test]
    fn a_closed_loop_has_a_call_whenever_it_is_asked() {
        let mut pacer = Pacer::new(Pace::Closed, Instant::now());
        assert_eq!(pacer.next_due(), None);
        assert!(pacer.take(Instant::now()).is_some());
        assert!(pacer.take(Instant::now()).is_some());
    }
}
