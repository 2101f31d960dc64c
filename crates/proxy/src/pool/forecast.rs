//! Guesses when a slot will be free, from how long earlier jobs held theirs, or, before one has ended, from how
//! long such jobs usually take.
//!
//! The guess is for people and clients; no decision depends on it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use foldhash::fast::RandomState;

use super::{
    AccountKey, AccountView, Constraint, Pool, RunningJobs, TaskId,
    changes::Changes,
    lease::{Lease, Phase},
    rounds::ABSENCES_MIN,
    steps::Counted,
};
use crate::kling::endpoints::usual_duration;

/// What a job does: the path of its operation. Jobs of one operation take about as long.
pub type OperationName = Arc<str>;

/// How much the newest job counts: the gain of TCP's round-trip estimator, RFC 6298 §2.3.
const GAIN: f64 = 1.0 / 8.0;
/// The most operations told apart: twice those that are known. All others count as one.
const OPERATIONS_MAX: usize = 32;
/// A job is expected to run on for at least this part of its age: what has lasted for long lasts longer. So a job
/// that takes more time than others does not send clients back every second until it ends.
const REST_OF_AGE: u32 = 4;
/// How old a forecast may be if no slot came back since.
const AGE_MAX: Duration = Duration::from_millis(100);
/// How long a forecast is kept for each job that it looked at, even if slots came back: at most a
/// tenth of the time goes into making forecasts.
const PAUSE_PER_JOB: Duration = Duration::from_micros(1);
/// The most leases that a forecast looks at, and the most foreign jobs. Of a larger number it takes
/// those that are likely to end first.
const SAMPLE_MAX: usize = 4096;

/// How long jobs take, and when those that run will be over.
#[derive(Debug, Default)]
pub(super) struct Forecast {
    /// In seconds. `None`: jobs of which the operation is not known.
    learnt: HashMap<Option<OperationName>, f64, RandomState>,
    /// When slots will be free, soonest first, as of `made_at`.
    ends: Vec<(Duration, AccountKey)>,
    made_at: Option<Duration>,
    /// The first of the ends of each account. Made when accounts are looked at.
    firsts: HashMap<AccountKey, Duration, RandomState>,
    /// Of which forecast they are.
    firsts_of: Option<Duration>,
    /// How long it is kept even if slots come back.
    pause: Duration,
    is_outdated: bool,
    pub(super) changes: Changes<OperationName>,
}

impl Forecast {
    /// A job of `operation` held its slot for so long.
    pub(super) fn learn(&mut self, operation: &Option<OperationName>, took: Duration) {
        let took = took.as_secs_f64();
        let operation = self.told_apart(operation).clone();
        if let Some(operation) = &operation {
            self.changes.note(|| Arc::clone(operation));
        }
        self.learnt
            .entry(operation)
            .and_modify(|typical| *typical += (took - *typical) * GAIN)
            .or_insert(took);
    }

    /// How long jobs of an operation take, in seconds, if that was learnt.
    pub(super) fn learnt(&self, operation: &OperationName) -> Option<f64> {
        self.learnt.get(&Some(Arc::clone(operation))).copied()
    }

    /// How long jobs take, by operation, as far as that was learnt; in no order.
    pub(super) fn usual(&self) -> Vec<(OperationName, Duration)> {
        let learnt = self.learnt.iter().filter_map(|(operation, seconds)| {
            let took = Duration::try_from_secs_f64(*seconds).ok()?;
            Some((Arc::clone(operation.as_ref()?), took))
        });
        learnt.collect()
    }

    /// What was learnt before a restart.
    pub(super) fn restore(&mut self, operation: OperationName, seconds: f64) {
        self.learnt.insert(Some(operation), seconds);
    }

    /// A slot came back: the forecast is out of date.
    pub(super) fn outdate(&mut self) {
        self.is_outdated = true;
    }

    /// How long until a slot is free for a caller behind `ahead` others, when every accepted account is full.
    pub(super) fn free_in(&self, constraint: &Constraint, ahead: usize, now: Duration) -> Duration {
        let nth = if constraint.allows_all() {
            self.ends.get(ahead)
        } else {
            let ends = self.ends.iter().counted();
            let mut ends = ends.filter(|(_, account)| constraint.allows(*account));
            ends.nth(ahead)
        };
        // A caller behind more others than there are slots in use waits for more than one job. The
        // last end is the best guess.
        let end = nth.or(self.ends.last());
        // Nothing is known of jobs without ids.
        end.map_or_else(|| self.typical(&None), |(end, _)| end.saturating_sub(now))
    }

    /// Finds the first end of each account, unless that was done.
    fn find_firsts(&mut self) {
        if self.firsts_of == self.made_at {
            return;
        }
        self.firsts_of = self.made_at;
        self.firsts.clear();
        for (end, account) in self.ends.iter().counted() {
            self.firsts.entry(*account).or_insert(*end);
        }
    }

    fn is_due(&self, now: Duration) -> bool {
        let age_max = if self.is_outdated {
            self.pause
        } else {
            AGE_MAX
        };
        self.made_at
            .is_none_or(|at| now.saturating_sub(at) >= age_max)
    }

    /// The operation, if it can be told apart from others.
    fn told_apart<'a>(&self, operation: &'a Option<OperationName>) -> &'a Option<OperationName> {
        if self.learnt.len() < OPERATIONS_MAX || self.learnt.contains_key(operation) {
            operation
        } else {
            &None
        }
    }

    /// How long jobs of `operation` take: as earlier ones did, or else as they usually do.
    fn typical(&self, operation: &Option<OperationName>) -> Duration {
        let learnt = self.learnt.get(self.told_apart(operation));
        let learnt = learnt.and_then(|seconds| Duration::try_from_secs_f64(*seconds).ok());
        learnt.unwrap_or_else(|| usual_duration(operation.as_deref()))
    }

    /// How long a job of this age will hold its slot. It shrinks as the job grows older, and grows slowly once the
    /// job is about as old as such jobs get.
    fn rest(&self, operation: &Option<OperationName>, age: Duration) -> Duration {
        let typical = self.typical(operation);
        typical.saturating_sub(age).max(age / REST_OF_AGE)
    }
}

impl Pool {
    /// Looks again when slots will be free, unless that was done a moment ago.
    pub(super) fn renew_forecast(&mut self, now: Duration) {
        if !self.forecast.is_due(now) {
            return;
        }
        let leases = self.leases.sample(SAMPLE_MAX);
        let leases = leases.map(|lease| (self.end_of_lease(lease, now), lease.account));
        let foreign = self.foreign_jobs.sample(SAMPLE_MAX);
        let foreign = foreign.map(|(task_id, account, since)| {
            let age = self.age_of_foreign(task_id, since, now);
            (now + self.forecast.rest(&None, age), account)
        });
        let mut ends: Vec<_> = leases.chain(foreign).collect();
        let pause = PAUSE_PER_JOB * u32::try_from(ends.len()).unwrap_or(u32::MAX);
        ends.sort_unstable();
        // An account with more jobs than slots has none free before the surplus has ended.
        let mut ended: HashMap<_, u32, RandomState> = HashMap::default();
        ends.retain(|(_, key)| {
            let account = &self.accounts[*key];
            let surplus = account.in_flight().saturating_sub(account.max_jobs());
            let is_surplus = surplus > 0 && {
                let ended = ended.entry(*key).or_default();
                *ended += 1;
                *ended <= surplus
            };
            account.is_usable() && !is_surplus
        });
        self.forecast.ends = ends;
        self.forecast.made_at = Some(now);
        self.forecast.pause = pause;
        self.forecast.is_outdated = false;
    }

    /// Looks again when slots will be free, for those who look at accounts from now on.
    pub fn foresee(&mut self, now: Duration) {
        // They also see what was granted since.
        self.forecast.outdate();
        self.renew_forecast(now);
        self.forecast.find_firsts();
    }

    /// An account as it is shown.
    pub(super) fn account_view(&self, key: AccountKey, now: Duration) -> AccountView {
        self.accounts[key].view(self.next_free_in(key, now))
    }

    /// How long until an account has a free slot, as was last [foreseen](Self::foresee). `None`: it has one, is not usable, or nothing is known.
    fn next_free_in(&self, key: AccountKey, now: Duration) -> Option<Duration> {
        let account = &self.accounts[key];
        if !account.is_usable() || account.has_free_slot() {
            return None;
        }
        let end = self.forecast.firsts.get(&key).copied();
        // It takes no job before it has cooled.
        let at = end?.max(account.health().cooling_until().unwrap_or_default());
        Some(at.saturating_sub(now))
    }

    /// The round that was sent at `sent_at` no longer lists a job that the one before, `base`, listed. If the job is
    /// foreign, teaches how long it held its slot, where `base` told its age.
    pub(super) fn learn_from_foreign(
        &mut self,
        task_id: &TaskId,
        base: &RunningJobs,
        sent_at: Duration,
    ) {
        let is_gone = self.listed_on(task_id).is_none();
        if is_gone
            && self.foreign_jobs.account(task_id).is_some()
            && let Some(took) = base.age_of(task_id, sent_at)
        {
            self.forecast.learn(&None, took);
        }
    }

    /// When the slot of a lease will be free.
    fn end_of_lease(&self, lease: &Lease, now: Duration) -> Duration {
        let rest = |since| {
            let age = now.saturating_sub(since);
            self.forecast.rest(lease.operation(), age)
        };
        let gap = self.running.as_ref().map_or(Duration::ZERO, |it| it.gap);
        match (&lease.phase, lease.ttl) {
            // The next round decides.
            (Phase::Reserved { .. }, _) if lease.is_overdue => now + gap,
            (Phase::Bound(binding), _) if binding.over_at.is_some() => now + gap,
            (Phase::Bound(binding), _) => now + rest(binding.since),
            (Phase::Uncertain { sent_at, absences }, _) => match &self.running {
                Some(running) => {
                    let settled_at = Duration::from_nanos(*sent_at) + self.limits.settle;
                    let settled_at = running.sent_at.max(settled_at);
                    let rounds = ABSENCES_MIN.saturating_sub(*absences);
                    (settled_at + gap * rounds).max(now + gap)
                }
                None => Duration::from_nanos(*sent_at) + self.limits.job_ttl,
            },
            (Phase::Reserved { .. }, ttl) => {
                let end = now + rest(lease.created_at());
                ttl.map_or(end, |ttl| end.min(ttl.ends_at()))
            }
        }
    }

    /// The age of a foreign job that we know of since `since`: as the newest round tells, but not less than we
    /// know.
    fn age_of_foreign(&self, task_id: &TaskId, since: Duration, now: Duration) -> Duration {
        let told = self.running.as_ref();
        let told = told.and_then(|running| running.age_of(task_id, now));
        now.saturating_sub(since).max(told.unwrap_or_default())
    }
}
