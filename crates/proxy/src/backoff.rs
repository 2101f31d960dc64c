//! Pauses that double with each failure.

use std::time::Duration;

use rand::RngExt;

/// The pause after a failure that `failed_count` others came before: `first`, doubled each time, at most
/// `max`.
pub(crate) fn doubled(first: Duration, failed_count: u32, max: Duration) -> Duration {
    let factor = 2_u32.saturating_pow(failed_count);
    first.saturating_mul(factor).min(max)
}

/// The pause, shortened by up to a half at random, so that several sidecars do not act in step.
pub(crate) fn shortened(pause: Duration) -> Duration {
    rand::rng().random_range(pause / 2..=pause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_doubles_up_to_the_longest() {
        let seconds = Duration::from_secs;
        for (first, failed_count, max, expected) in [
            (1, 0, 60, 1),
            (1, 3, 60, 8),
            (1, 6, 60, 60),
            (1, u32::MAX, 60, 60),
            (90, 0, 60, 60),
        ] {
            let pause = doubled(seconds(first), failed_count, seconds(max));
            assert_eq!(
                pause,
                seconds(expected),
                "{first} s, {failed_count} failures"
            );
        }
    }

    #[test]
    fn a_shortened_pause_is_at_least_half_as_long() {
        let pause = Duration::from_secs(4);
        let mut pauses = (0..1000).map(|_| shortened(pause));
        assert!(pauses.all(|it| (pause / 2..=pause).contains(&it)));
    }
}
