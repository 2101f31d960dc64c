//! Computes the pause between two fetches.
//!
//! Invariant: the pause after a failure is never above `backoff_max`, unless the upstream itself
//! asked for a longer one, which is honoured up to [`RETRY_AFTER_MAX`]. Jitter keeps sidecars apart
//! that were started together. The caller does the waiting.

use std::{ops::RangeInclusive, time::Duration};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use rand::{Rng, RngExt};

use crate::{FetchResult, Timing, error::FetchError, limits::RETRY_AFTER_MAX};

/// After an answer: up to a fifth above or below the interval.
const JITTER_REFRESH: RangeInclusive<f64> = 0.8..=1.2;
/// After a failure: downwards only, so that no pause exceeds the maximum.
const JITTER_BACKOFF: RangeInclusive<f64> = 0.8..=1.0;
/// After a failure with a `Retry-After`: upwards only.
const JITTER_ASKED: RangeInclusive<f64> = 1.0..=1.2;
/// The first pause after a failure, if the settings do not ask for a shorter one.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Pace {
    refresh_interval: Duration,
    backoff_max: Duration,
    backoff: ExponentialBackoff,
}

impl Pace {
    pub(crate) fn new(timing: &Timing) -> Pace {
        let Timing {
            refresh_interval,
            backoff_max,
            ..
        } = *timing;
        Pace {
            refresh_interval,
            backoff_max,
            backoff: backoff(refresh_interval, backoff_max),
        }
    }

    /// The pause after an answer. The next failure starts with a short pause again.
    pub(crate) fn after_answer(&mut self, rng: &mut impl Rng) -> Duration {
        self.backoff = backoff(self.refresh_interval, self.backoff_max);
        jittered(self.refresh_interval, JITTER_REFRESH, rng)
    }

    /// The pause after a failure: doubled each time. A rejected token does not recover by itself,
    /// so it gets the longest pause at once.
    pub(crate) fn after_failure(&mut self, error: &FetchError, rng: &mut impl Rng) -> Duration {
        let is_unauthorized = error.result() == FetchResult::Unauthorized;
        let doubled = if is_unauthorized {
            None
        } else {
            self.backoff.next()
        };
        let delay = doubled.unwrap_or(self.backoff_max);
        let pause = jittered(delay, JITTER_BACKOFF, rng).min(self.backoff_max);
        // Not earlier than asked, and not all sidecars at the same moment.
        let asked = error.retry_after().unwrap_or_default().min(RETRY_AFTER_MAX);
        pause.max(jittered(asked, JITTER_ASKED, rng).min(RETRY_AFTER_MAX))
    }
}

/// Without the jitter of the `backon` crate, which exceeds the maximum and, when built without
/// `std`, is the same in every process.
fn backoff(refresh_interval: Duration, backoff_max: Duration) -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(BACKOFF_FIRST.min(refresh_interval).min(backoff_max))
        .with_max_delay(backoff_max)
        .without_max_times()
        .build()
}

fn jittered(delay: Duration, factors: RangeInclusive<f64>, rng: &mut impl Rng) -> Duration {
    delay.mul_f64(rng.random_range(factors))
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    const TIMING: Timing = Timing {
        refresh_interval: Duration::from_secs(30),
        timeout: Duration::from_secs(10),
        backoff_max: Duration::from_secs(60),
    };

    fn refused(status: StatusCode, retry_after_s: Option<u64>) -> FetchError {
        FetchError::Refused {
            is_json: true,
            status,
            retry_after: retry_after_s.map(Duration::from_secs),
        }
    }

    #[test]
    fn pauses_double_from_one_second_up_to_the_maximum_and_start_again_after_an_answer() {
        let mut pace = Pace::new(&TIMING);
        let rng = &mut SmallRng::seed_from_u64(1);
        for _ in 0..2 {
            for expected_s in [1, 2, 4, 8, 16, 32, 60, 60] {
                let pause = pace.after_failure(&FetchError::Schema, rng).as_secs_f64();
                let expected = f64::from(expected_s);
                assert!(
                    (expected * 0.8..=expected).contains(&pause),
                    "{pause} for {expected}"
                );
            }
            pace.after_answer(rng);
        }
    }

    #[test]
    fn a_rejected_token_gets_the_longest_pause_at_once() {
        let pause = Pace::new(&TIMING)
            .after_failure(&refused(StatusCode::UNAUTHORIZED, None), &mut rand::rng());
        assert!(pause >= TIMING.backoff_max.mul_f64(0.8));
    }

    #[test]
    fn retry_after_is_a_lower_bound_with_a_cap() {
        let busy = |seconds| refused(StatusCode::TOO_MANY_REQUESTS, Some(seconds));
        let pause = |seconds| Pace::new(&TIMING).after_failure(&busy(seconds), &mut rand::rng());
        assert!(
            pause(0) >= Duration::from_millis(800),
            "never shorter than the backoff"
        );
        let asked = Duration::from_secs(90)..=Duration::from_secs(108);
        assert!(
            asked.contains(&pause(90)),
            "longer than the longest backoff"
        );
        assert_eq!(pause(u64::MAX), RETRY_AFTER_MAX);
    }

    proptest! {
        #[test]
        fn every_pause_stays_within_its_bounds(
            seed: u64,
            interval_ms in 100_u64..3_600_000,
            max_ms in 100_u64..3_600_000,
            failure_count in 0_usize..80,
        ) {
            let refresh_interval = Duration::from_millis(interval_ms);
            let backoff_max = Duration::from_millis(max_ms);
            let mut pace = Pace::new(&Timing { refresh_interval, backoff_max, ..TIMING });
            let rng = &mut SmallRng::seed_from_u64(seed);
            for _ in 0..failure_count {
                let pause = pace.after_failure(&FetchError::Schema, rng);
                prop_assert!(pause <= backoff_max);
                let first = BACKOFF_FIRST.min(refresh_interval).min(backoff_max);
                prop_assert!(pause >= first.mul_f64(0.79));
            }
            let pause = pace.after_answer(rng);
            let bounds = refresh_interval.mul_f64(0.79)..=refresh_interval.mul_f64(1.21);
            prop_assert!(bounds.contains(&pause));
        }
    }
}
