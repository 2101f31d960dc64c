//! How many retries there may be, and when.
//!
//! A share of the calls and a few more: where everything is refused, retries must not multiply what
//! the upstream has to refuse.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// The most attempts to send what is read whole, each to another account or after a connection failed.
pub(super) const ATTEMPTS_MAX: u32 = 3;
/// The pause before what was not sent is tried again, after the first attempt: an upstream that
/// restarts is back within a moment.
const UNSENT_PAUSE: Duration = Duration::from_millis(100);

/// What one call earns: a retry for every fifth.
const EARNED: f64 = 0.2;
/// The most that is saved up, and there from the start.
const SAVED_MAX: f64 = 20.0;

/// The pause before what was not sent in so many attempts is tried again. It doubles.
pub(super) fn pause_after(attempts: u32) -> Duration {
    UNSENT_PAUSE * 2_u32.pow(attempts - 1)
}

/// Retries that are left.
#[derive(Debug)]
pub(super) struct Budget(Mutex<f64>);

impl Budget {
    pub(super) fn full() -> Self {
        Self(Mutex::new(SAVED_MAX))
    }

    /// A call begins.
    pub(super) fn earn(&self) {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *left = (*left + EARNED).min(SAVED_MAX);
    }

    /// Takes one retry, if there is one.
    pub(super) fn spend(&self) -> bool {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_left = *left >= 1.0;
        if is_left {
            *left -= 1.0;
        }
        is_left
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
