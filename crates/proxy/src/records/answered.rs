//! Starts whose clients have their answers, remembered for a while.
//!
//! A client that gives a start up and sends it again opens another connection, and a busy server may read that one
//! first. The start that was given up is read when the other one has its answer: it must not become a second job.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use foldhash::fast::RandomState;
use tokio::time::Instant;

use super::record::Twin;

/// How many are remembered: those of ten seconds at a hundred starts a second.
pub(super) const ANSWERED_MAX: usize = 1024;
/// How long: no connection is read so late.
pub(super) const ANSWERED_FOR: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Answered {
    /// When the client of the newest equal start had its answer.
    newest: HashMap<Twin, Instant, RandomState>,
    /// Oldest first.
    order: VecDeque<(Twin, Instant)>,
}

impl Answered {
    /// The client of a start has its answer.
    pub(super) fn note(&mut self, twin: &Twin, now: Instant) {
        self.newest.insert(twin.clone(), now);
        self.order.push_back((twin.clone(), now));
        while let Some((twin, at)) = self.order.front()
            && (self.order.len() > ANSWERED_MAX || now.duration_since(*at) >= ANSWERED_FOR)
        {
            // It may have been answered again since.
            if self.newest.get(twin) == Some(at) {
                self.newest.remove(twin);
            }
            self.order.pop_front();
        }
    }

    /// Whether an equal start was answered after `accepted_at`, when the connection of this one was accepted.
    pub(super) fn is_newer(&self, twin: &Twin, accepted_at: Instant) -> bool {
        let newest = self.newest.get(twin);
        newest.is_some_and(|answered_at| *answered_at >= accepted_at)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert!(self.newest.len() <= self.order.len());
        self.order.len()
    }
}
