//! The deadlines of entries of one kind, soonest first.
//!
//! Invariant: `next` is the time of the first entry of `order`. It is kept apart because every
//! operation of the pool asks for it twice: a walk down four trees each time would cost a tenth of
//! a pick.

use std::time::Duration;

use super::{
    sorted::Sorted,
    steps::{self, Counted},
};

/// Nanoseconds since the owner's start: half as large as a [`Duration`], and compared in one step. They reach for 584
/// years; what is later never comes.
pub(super) type Nanos = u64;

pub(super) fn nanos(at: Duration) -> Nanos {
    Nanos::try_from(at.as_nanos()).unwrap_or(Nanos::MAX)
}

#[derive(Debug)]
pub(super) struct Deadlines<K> {
    order: Sorted<(Nanos, K)>,
    next: Duration,
}

/// Where there is no deadline.
pub(super) const NEVER: Duration = Duration::MAX;

impl<K> Default for Deadlines<K> {
    fn default() -> Self {
        Self {
            order: Sorted::default(),
            next: NEVER,
        }
    }
}

impl<K: Ord + Clone> PartialEq for Deadlines<K> {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order && self.next == other.next
    }
}

impl<K: Ord + Clone> Deadlines<K> {
    /// Moves the deadline of an entry. `None` stands for no deadline.
    pub(super) fn change(&mut self, key: &K, before: Option<Duration>, after: Option<Duration>) {
        if before == after {
            return;
        }
        if let Some(at) = before {
            self.order.remove(&(nanos(at), key.clone()));
            if self.next == at {
                let first = self.order.first();
                self.next = first.map_or(NEVER, |(at, _)| Duration::from_nanos(*at));
            }
        }
        if let Some(at) = after {
            self.order.insert((nanos(at), key.clone()));
            self.next = self.next.min(at);
        }
    }

    /// When the first entry is due, or [`NEVER`].
    pub(super) fn next(&self) -> Duration {
        self.next
    }

    /// The first entry, if it is due.
    pub(super) fn first_due(&self, now: Duration) -> Option<(Duration, K)> {
        if self.next > now {
            return None;
        }
        steps::step();
        let (at, key) = self.order.first()?;
        Some((Duration::from_nanos(*at), key.clone()))
    }

    /// Every entry, soonest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Duration, &K)> {
        let order = self.order.iter().counted();
        order.map(|(at, key)| (Duration::from_nanos(*at), key))
    }
}
