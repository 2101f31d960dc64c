//! The metrics that are read from the ledger and the account list at each scrape.

use std::{collections::BTreeMap, sync::Arc};

use accounts_fetcher::{FetchResult, Listing};
use jiff::Timestamp;
use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::OTHER;
use crate::{
    config::AccountLabel,
    jobs::RoundCounts,
    ledger::Stats,
    pool::{AccountState, AccountView, Cause},
};

/// The most accounts that get series of their own. A user has a handful; unbounded label sets
/// overload Prometheus. The rest are added up under `other`.
pub(crate) const ACCOUNTS_MAX: usize = 200;

/// What one scrape shows.
#[derive(Debug)]
pub struct Scrape<'a> {
    /// The counts of the pool.
    pub stats: &'a Stats,
    /// The account list.
    pub listing: &'a Listing,
    /// The rounds, if there are any.
    pub rounds: Option<&'a RoundCounts>,
    /// How accounts are named.
    pub label: AccountLabel,
}

/// The sums of all accounts that share a label.
#[derive(Default)]
struct Sums {
    slots: i64,
    held: i64,
    uncertain: i64,
    foreign: i64,
    drift: i64,
    states: [i64; AccountState::ALL.len()],
}

impl Scrape<'_> {
    pub(super) fn register(&self) -> Result<Registry, prometheus::Error> {
        let registry = Registry::new_custom(Some("kling_balancer".to_owned()), None)?;
        self.register_accounts(&registry)?;
        self.register_fetches(&registry)?;
        self.register_rounds(&registry)?;
        let waiters = IntGauge::new("waiters", "Picks and job starts that wait for a slot.")?;
        waiters.set(signed(self.stats.waiters_count));
        registry.register(Box::new(waiters))?;
        let ended = IntCounterVec::new(
            Opts::new("leases_ended_total", "Leases that ended, by cause."),
            &["cause"],
        )?;
        for cause in Cause::ALL {
            let count = self.stats.ended_counts[cause as usize];
            ended.with_label_values(&[cause.as_str()]).inc_by(count);
        }
        registry.register(Box::new(ended))?;
        Ok(registry)
    }

    fn register_accounts(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        let slots = gauges("slots", "Slots of an account: its maxJobs.", &["account"])?;
        let in_use = gauges(
            "slots_in_use",
            "Slots in use, by what uses them.",
            &["account", "kind"],
        )?;
        let states = gauges(
            "account_state",
            "1 for the state an account is in, else 0; a count where accounts share a label.",
            &["account", "state"],
        )?;
        let drift = gauges(
            "drift_slots",
            "Slots in use minus jobs that the newest round listed, before the round corrected the count.",
            &["account"],
        )?;
        let overcommitted = IntGauge::new(
            "overcommitted_slots",
            "Slots in use above maxJobs, after caps were lowered.",
        )?;
        for (label, sums) in self.sums() {
            slots.with_label_values(&[&*label]).set(sums.slots);
            in_use.with_label_values(&[&*label, "held"]).set(sums.held);
            in_use
                .with_label_values(&[&*label, "uncertain"])
                .set(sums.uncertain);
            in_use
                .with_label_values(&[&*label, "foreign"])
                .set(sums.foreign);
            drift.with_label_values(&[&*label]).set(sums.drift);
            for (state, count) in AccountState::ALL.into_iter().zip(sums.states) {
                states
                    .with_label_values(&[&*label, state.as_str()])
                    .set(count);
            }
        }
        let excess = self
            .stats
            .accounts
            .iter()
            .map(|account| i64::from(account.overcommitted()));
        overcommitted.set(excess.sum());
        registry.register(Box::new(slots))?;
        registry.register(Box::new(in_use))?;
        registry.register(Box::new(states))?;
        registry.register(Box::new(drift))?;
        registry.register(Box::new(overcommitted))
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

    fn sums(&self) -> BTreeMap<Arc<str>, Sums> {
        let mut by_label: BTreeMap<Arc<str>, Sums> = BTreeMap::new();
        for (idx, account) in self.stats.accounts.iter().enumerate() {
            let sums = by_label.entry(self.label_of(idx, account)).or_default();
            let is_removed = account.state == AccountState::Removed;
            sums.slots += if is_removed {
                0
            } else {
                i64::from(account.max_jobs)
            };
            sums.held += i64::from(account.held);
            sums.uncertain += i64::from(account.uncertain);
            sums.foreign += i64::from(account.foreign);
            sums.drift += account.drift;
            sums.states[account.state as usize] += 1;
        }
        by_label
    }

    fn label_of(&self, idx: usize, account: &AccountView) -> Arc<str> {
        match self.label {
            // An empty label is the same as none to Prometheus.
            AccountLabel::None => "".into(),
            AccountLabel::Alias | AccountLabel::Email if idx >= ACCOUNTS_MAX => OTHER.into(),
            AccountLabel::Alias => Arc::clone(&account.alias),
            AccountLabel::Email => Arc::clone(&account.email),
        }
    }
}

fn unix_seconds(at: Option<Timestamp>) -> f64 {
    at.map_or(0.0, |at| at.as_duration().as_secs_f64())
}

fn gauges(name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
    IntGaugeVec::new(Opts::new(name, help), labels)
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
