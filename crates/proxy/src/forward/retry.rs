//! Whether, when and how often a request is sent again.
//!
//! A budget bounds all retries together: a share of the calls and a few more. Where everything is refused,
//! retries must not multiply what the upstream has to refuse. Job starts and all other calls have budgets of
//! their own.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::{backoff::doubled, upstream::Upstream};

/// The most times that a request is sent.
const ATTEMPTS_MAX: u32 = 3;
/// The pause after the first attempt of a request that was not sent. It doubles with each attempt: an
/// upstream that restarts is back within a moment.
pub(super) const UNSENT_PAUSE: Duration = Duration::from_millis(100);
/// The pause after the first attempt of a read. It doubles with each attempt: a gateway that restarts is back
/// within a second or two.
pub(super) const READ_PAUSE: Duration = Duration::from_millis(250);

/// The longest pause between two attempts: a client waits meanwhile.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What one call earns: five calls earn one retry.
const EARNED: f64 = 0.2;
/// The most that is saved up, and there from the start.
const SAVED_MAX: f64 = 20.0;

/// Whether the upstream, or a gateway in front of it, is in trouble for a moment. 520 to 527 are the
/// troubles of a gateway with its origin.
pub(super) fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502..=504 | 520..=527)
}

/// Grants retries.
#[derive(Debug)]
pub(super) struct Retry {
    upstream: Arc<Upstream>,
    budget: Budget,
    /// No attempt begins later than this after the first one.
    deadline: Duration,
}

/// The attempts of one call.
#[derive(Debug)]
pub(super) struct Attempts<'a> {
    retry: &'a Retry,
    begun: Instant,
    first_pause: Duration,
    count: u32,
}

impl Retry {
    pub(super) fn new(upstream: Arc<Upstream>, deadline: Duration) -> Self {
        Self {
            upstream,
            budget: Budget::full(),
            deadline,
        }
    }

    /// The first attempt of a call begins. `first_pause` comes before the second one.
    pub(super) fn begin(&self, first_pause: Duration) -> Attempts<'_> {
        self.budget.earn();
        Attempts {
            retry: self,
            begun: Instant::now(),
            first_pause,
            count: 1,
        }
    }
}

impl Attempts<'_> {
    /// How many attempts there are, the current one included.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Takes another attempt to send the same request. False if there is none.
    pub(super) fn take(&mut self) -> bool {
        self.retry.upstream.is_reachable() && self.take_elsewhere()
    }

    /// Takes another attempt, for another account. False if there is none.
    pub(super) fn take_elsewhere(&mut self) -> bool {
        let is_last = self.count == ATTEMPTS_MAX || self.begun.elapsed() >= self.retry.deadline;
        if is_last || !self.retry.budget.spend() {
            return false;
        }
        self.count += 1;
        true
    }

    /// Waits until the attempt that was taken may begin. The pause doubles with each one.
    pub(super) async fn pause(&self) {
        sleep(doubled(self.first_pause, self.count - 2, PAUSE_MAX)).await;
    }

    /// Gives back the attempt that was taken last: it was not made.
    pub(super) fn give_back(&mut self) {
        self.retry.budget.give_back();
        self.count -= 1;
    }
}

/// Retries that are left.
#[derive(Debug)]
struct Budget(Mutex<f64>);

impl Budget {
    fn full() -> Self {
        Self(Mutex::new(SAVED_MAX))
    }

    /// A call begins.
    fn earn(&self) {
        self.add(EARNED);
    }

    /// Takes one retry, if there is one.
    fn spend(&self) -> bool {
        let mut left = self.0.lock();
        let is_left = *left >= 1.0;
        if is_left {
            *left -= 1.0;
        }
        is_left
    }

    fn give_back(&self) {
        self.add(1.0);
    }

    fn add(&self, retries: f64) {
        let mut left = self.0.lock();
        *left = (*left + retries).min(SAVED_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_share_of_the_calls_and_a_few_more() {
        let budget = Budget::full();
        let spent = |calls: usize| {
            (0..calls)
                .filter(|_| {
                    budget.earn();
                    budget.spend()
                })
                .count()
        };
        // Each of the first calls spends 1 and earns 0.2.
        assert_eq!(spent(1000), 20 + (1000 - 1) / 5);
    }
}
