//! Guesses when a slot will be free, from how long earlier jobs held theirs.
//!
//! The guess is for people and clients; no decision depends on it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use foldhash::fast::RandomState;

use super::{
    AccountKey, Constraint, Refusal,
    lease::{Lease, Phase},
    leases::Leases,
    steps::Counted,
};

/// What a job does: the path of its operation. Jobs of one operation take about as long.
pub type OperationName = Arc<str>;

/// How much the newest job counts: the gain of TCP's round-trip estimator, RFC 6298 §2.3.
const GAIN: f64 = 1.0 / 8.0;
/// The most operations told apart: twice those that are known. All others count as one.
const OPERATIONS_MAX: usize = 32;
/// How old a forecast may be if no slot came back since.
const AGE_MAX: Duration = Duration::from_millis(100);
/// How long a forecast is kept for each lease that it looked at, even if slots came back: at most a
/// tenth of the time goes into making forecasts.
const PAUSE_PER_LEASE: Duration = Duration::from_micros(1);
/// The most leases that a forecast looks at. Of a larger number it takes those that are likely to
/// end first.
const SAMPLE_MAX: usize = 4096;

/// How long jobs take, and when those that run will be over.
#[derive(Debug, Default)]
pub(super) struct Forecast {
    /// In seconds. `None`: jobs whose caller named no operation.
    typical: HashMap<Option<OperationName>, f64, RandomState>,
    /// When slots will be free, soonest first, as of `made_at`.
    ends: Vec<(Duration, AccountKey)>,
    made_at: Option<Duration>,
    is_outdated: bool,
}

impl Forecast {
    /// A job of `operation` held its slot for so long.
    pub(super) fn learn(&mut self, operation: &Option<OperationName>, took: Duration) {
        let took = took.as_secs_f64();
        let is_told_apart =
            self.typical.contains_key(operation) || self.typical.len() < OPERATIONS_MAX;
        let operation = operation.as_ref().filter(|_| is_told_apart);
        self.typical
            .entry(operation.cloned())
            .and_modify(|typical| *typical += (took - *typical) * GAIN)
            .or_insert(took);
    }

    /// A slot came back: the forecast is out of date.
    pub(super) fn outdate(&mut self) {
        self.is_outdated = true;
    }

    /// The answer to a caller behind `ahead` others, when every accepted account is full.
    pub(super) fn saturated(
        &mut self,
        leases: &Leases,
        constraint: &Constraint,
        ahead: usize,
        now: Duration,
    ) -> Refusal {
        if self.is_due(now) {
            let sample = leases.sample(SAMPLE_MAX);
            let ends = sample.filter_map(|lease| Some((self.end(lease)?, lease.account)));
            let mut ends: Vec<_> = ends.collect();
            ends.sort_unstable();
            self.ends = ends;
            self.made_at = Some(now);
            self.is_outdated = false;
        }
        let ends = self.ends.iter().counted();
        let mut ends = ends.filter(|(_, account)| constraint.allows(*account));
        // A caller behind more others than there are slots in use waits for more than one job. The
        // last end is the best guess.
        let end = ends.nth(ahead).or(self.ends.last());
        Refusal::Saturated {
            free_in: end.map(|(end, _)| end.saturating_sub(now)),
            position: ahead + 1,
        }
    }

    fn is_due(&self, now: Duration) -> bool {
        let pause = PAUSE_PER_LEASE * u32::try_from(self.ends.len()).unwrap_or(u32::MAX);
        let age_max = if self.is_outdated { pause } else { AGE_MAX };
        self.made_at
            .is_none_or(|at| now.saturating_sub(at) >= age_max)
    }

    /// How long jobs of `operation` take: as earlier ones did, else as jobs without an operation
    /// did.
    fn typical(&self, operation: &Option<OperationName>) -> Option<Duration> {
        let known = self.typical.get(operation);
        let known = known.or_else(|| self.typical.get(&None))?;
        Duration::try_from_secs_f64(*known).ok()
    }

    /// When the slot of a lease will be free. `None`: nothing is known of such jobs.
    fn end(&self, lease: &Lease) -> Option<Duration> {
        let since = match &lease.phase {
            Phase::Bound(binding) => binding.since,
            Phase::Reserved { .. } | Phase::Uncertain { .. } => lease.created_at,
        };
        match (self.typical(&lease.operation), &lease.phase, lease.ttl) {
            (Some(typical), _, _) => Some(since + typical),
            (None, Phase::Reserved { .. }, Some(ttl)) => Some(ttl.ends_at),
            (None, _, _) => None,
        }
    }
}
