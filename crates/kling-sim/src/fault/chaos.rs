//! Faults drawn at random, one chance for each job start.

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::effect::Effect;

/// How often each [`Effect`] applies to a job start. Equal plans draw equal sequences, in the order
/// in which the requests arrive.
///
/// ```
/// use std::time::Duration;
///
/// use kling_sim::{Answer, ChaosPlan, Effect};
///
/// let plan = ChaosPlan::new(7)
///     .with(0.10, Effect::Delay(Duration::from_millis(50)))
///     .with(0.05, Effect::Answer(Answer::new(429)))
///     .with(0.02, Effect::ResetAfter);
/// # drop(plan);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct ChaosPlan {
    seed: u64,
    mix: Vec<(f64, Effect)>,
}

impl ChaosPlan {
    /// A plan in which nothing happens.
    pub fn new(seed: u64) -> Self {
        let mix = Vec::new();
        Self { seed, mix }
    }

    /// Adds an effect with its probability.
    ///
    /// # Panics
    /// If the probability is negative, or if the sum of all probabilities exceeds 1.
    pub fn with(mut self, probability: f64, effect: Effect) -> Self {
        self.mix.push((probability, effect));
        let sum: f64 = self.mix.iter().map(|(probability, _)| probability).sum();
        assert!(
            probability >= 0.0 && sum <= 1.0 + 1e-9,
            "probabilities are not negative and sum up to 1 at most"
        );
        self
    }
}

/// A plan from which effects are drawn.
#[derive(Debug)]
pub(super) struct Chaos {
    rng: SmallRng,
    mix: Vec<(f64, Effect)>,
}

impl Chaos {
    pub(super) fn new(plan: ChaosPlan) -> Self {
        Self {
            rng: SmallRng::seed_from_u64(plan.seed),
            mix: plan.mix,
        }
    }

    /// Draws the effect on the next job start; usually none.
    pub(super) fn draw(&mut self) -> Option<Effect> {
        let mut drawn: f64 = self.rng.random();
        let (_, effect) = self.mix.iter().find(|(probability, _)| {
            drawn -= probability;
            drawn < 0.0
        })?;
        Some(effect.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(seed: u64, count: usize) -> Vec<Option<Effect>> {
        let plan = ChaosPlan::new(seed)
            .with(0.25, Effect::ResetBefore)
            .with(0.5, Effect::ResetAfter);
        let mut chaos = Chaos::new(plan);
        (0..count).map(|_| chaos.draw()).collect()
    }

    #[test]
    fn equal_seeds_draw_equal_effects_and_others_do_not() {
        assert_eq!(draws(1, 100), draws(1, 100));
        assert_ne!(draws(1, 100), draws(2, 100));
    }

    #[test]
    fn effects_come_as_often_as_planned() {
        let drawn = draws(3, 10_000);
        // Within 5 standard deviations of a binomial with n = 10,000: 50 at most for p = 0.5.
        let cases = [
            (None, 2500),
            (Some(Effect::ResetBefore), 2500),
            (Some(Effect::ResetAfter), 5000),
        ];
        for (effect, expected) in cases {
            let count = drawn.iter().filter(|drawn| **drawn == effect).count();
            assert!(count.abs_diff(expected) < 250, "{effect:?}: {count}");
        }
    }

    #[test]
    #[should_panic(expected = "sum up to 1")]
    fn probabilities_beyond_1_are_refused() {
        drop(
            ChaosPlan::new(1)
                .with(0.9, Effect::ResetAfter)
                .with(0.2, Effect::StallAfter),
        );
    }
}
