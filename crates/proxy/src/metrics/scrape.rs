//! The metrics that are read from the ledger and the account list at each scrape, but for those of single accounts.

use accounts_fetcher::{FetchResult, Listing};
use jiff::Timestamp;
use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::{AccountSums, state};
use crate::{
    book::BookStatus, events::Events, jobs::RoundCounts, ledger::Stats, pool::Cause, telemetry,
};

/// What one scrape shows.
#[derive(Debug)]
pub struct Scrape<'a> {
    /// The counts of the pool.
    pub stats: &'a Stats,
    /// The accounts.
    pub accounts: &'a AccountSums,
    /// The account list.
    pub listing: &'a Listing,
    /// The rounds, if there are any.
    pub rounds: Option<&'a RoundCounts>,
    /// What happens, and who reads it.
    pub(crate) events: &'a Events,
    /// The state that is kept.
    pub(crate) book: &'a BookStatus,
}

impl Scrape<'_> {
    pub(super) fn register(&self) -> Result<Registry, prometheus::Error> {
        let registry = Registry::new_custom(Some("kling_balancer".to_owned()), None)?;
        self.register_fetches(&registry)?;
        self.register_rounds(&registry)?;
        state::register(self.book, &registry)?;
        self.register_marks(&registry)?;
        let waiters = IntGauge::new("waiters", "Picks and job starts that wait for a slot.")?;
        waiters.set(signed(self.stats.waiters_count));
        registry.register(Box::new(waiters))?;
        let oldest = Gauge::new(
            "oldest_waiter_seconds",
            "How long the first of those that wait for a slot has waited; 0 if none waits.",
        )?;
        let waits_for = self.stats.oldest_waits_for.unwrap_or_default();
        oldest.set(waits_for.as_secs_f64());
        registry.register(Box::new(oldest))?;
        let overcommitted = IntGauge::new(
            "overcommitted_slots",
            "Slots in use above maxJobs, after caps were lowered.",
        )?;
        overcommitted.set(self.accounts.overcommitted());
        registry.register(Box::new(overcommitted))?;
        let ended = IntCounterVec::new(
            Opts::new("leases_ended_total", "Leases that ended, by cause."),
            &["cause"],
        )?;
        for cause in Cause::ALL {
            let count = self.stats.ended_counts[cause as usize];
            ended.with_label_values(&[cause.as_str()]).inc_by(count);
        }
        registry.register(Box::new(ended))?;
        let dropped = IntCounter::new(
            "log_lines_dropped_total",
            "Lines of the log that were dropped, since it is read too slowly or not at all.",
        )?;
        dropped.inc_by(telemetry::dropped_lines());
        registry.register(Box::new(dropped))?;
        self.register_events(&registry)?;
        Ok(registry)
    }

    fn register_events(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        let readers = IntGauge::new("event_readers", "Clients that read /events.")?;
        readers.set(signed(self.events.readers_count()));
        let cut = IntCounter::new(
            "event_readers_cut_total",
            "Clients of /events that were disconnected, since they read too slowly.",
        )?;
        cut.inc_by(self.events.cut_count());
        registry.register(Box::new(self.events.job_durations().collector()))?;
        registry.register(Box::new(readers))?;
        registry.register(Box::new(cut))
    }

    fn register_fetches(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        let fetches = IntCounterVec::new(
            Opts::new(
                "fetches_total",
                "Fetches of the account list, by how they ended.",
            ),
            &["result"],
        )?;
        for result in FetchResult::ALL {
            let count = self.listing.counts.get(result);
            fetches.with_label_values(&[result.as_str()]).inc_by(count);
        }
        let last_success = Gauge::new(
            "accounts_last_success_timestamp_seconds",
            "When the account list was last fetched, Unix time; 0 before the first time.",
        )?;
        last_success.set(unix_seconds(self.listing.fetched_at));
        registry.register(Box::new(fetches))?;
        registry.register(Box::new(last_success))
    }

    /// The operations are those that job starts were carried for: at most 32.
    fn register_marks(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        let marks = IntGaugeVec::new(
            Opts::new(
                "marks",
                "What is known of the marks of an operation: proven, unproven, suspended or off; 1.",
            ),
            &["operation", "known"],
        )?;
        for (operation, known) in &self.stats.marks {
            marks.with_label_values(&[&**operation, known]).set(1);
        }
        registry.register(Box::new(marks))
    }

    fn register_rounds(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        let rounds = IntCounterVec::new(
            Opts::new(
                "rounds_total",
                "Rounds with the upstream's list of running jobs, by how they ended.",
            ),
            &["result"],
        )?;
        let last_success = Gauge::new(
            "rounds_last_success_timestamp_seconds",
            "When a round was last answered, Unix time; 0 before the first time.",
        )?;
        let lag = Gauge::new(
            "rounds_lag_seconds",
            "How long the newest answered round took, from its request to its effect on the ledger.",
        )?;
        lag.set(self.rounds.map_or(0.0, |rounds| rounds.lag().as_secs_f64()));
        let count = |count: fn(&RoundCounts) -> u64| self.rounds.map_or(0, count);
        let ok = rounds.with_label_values(&["ok"]);
        ok.inc_by(count(RoundCounts::ok));
        let failed = rounds.with_label_values(&["failed"]);
        failed.inc_by(count(RoundCounts::failed));
        last_success.set(unix_seconds(
            self.rounds.and_then(RoundCounts::last_success),
        ));
        let stale = IntCounter::new(
            "stale_grants_total",
            "Slots granted though no round was fresh, since rounds failed or took too long.",
        )?;
        stale.inc_by(count(RoundCounts::stale_grants));
        registry.register(Box::new(rounds))?;
        registry.register(Box::new(stale))?;
        registry.register(Box::new(lag))?;
        registry.register(Box::new(last_success))
    }
}

pub(super) fn unix_seconds(at: Option<Timestamp>) -> f64 {
    at.map_or(0.0, |at| at.as_duration().as_secs_f64())
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
