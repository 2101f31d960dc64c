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
    let whole = at.as_secs().saturating_mul(1_000_000_000);
    whole.saturating_add(u64::from(at.subsec_nanos()))
}

#[derive(Debug)]
pub(super) struct Deadlines<K> {
    order: Sorted<(Nanos, K)>,
    next: Nanos,
}

/// Where there is no deadline.
pub(super) const NEVER: Nanos = Nanos::MAX;

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
        let at = |deadline: Option<Duration>| deadline.map_or(NEVER, nanos);
        self.move_to(key, at(before), at(after));
    }

    /// Moves the deadline of an entry. [`NEVER`] stands for no deadline.
    pub(super) fn move_to(&mut self, key: &K, before: Nanos, after: Nanos) {
        if before == after {
            return;
        }
        if before < NEVER {
            self.order.remove(&(before, key.clone()));
            if self.next == before {
                self.next = self.order.first().map_or(NEVER, |(at, _)| *at);
            }
        }
        if after < NEVER {
            self.order.insert((after, key.clone()));
            self.next = self.next.min(after);
        }
    }

    /// When the first entry is due, or [`NEVER`].
    pub(super) fn next(&self) -> Nanos {
        self.next
    }

    /// The first entry, if it is due.
    pub(super) fn first_due(&self, now: Duration) -> Option<(Duration, K)> {
        if self.next > nanos(now) {
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
