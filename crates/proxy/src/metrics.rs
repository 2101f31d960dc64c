//! The metrics for Prometheus: counters that live here, and values read from the ledger at each
//! scrape.
//!
//! Every series exists from the start, so that `rate()` sees the first event. The series of an
//! account disappear with the account, but for its counters.

mod accounts;
mod carried;
mod commits;
mod requests;
mod scrape;
mod state;

use std::{slice, time::Duration};

use http::StatusCode;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts,
    Registry, TextEncoder, proto::MetricFamily,
};
use tokio::{task::yield_now, time::Instant};

use carried::CarriedCounts;
use commits::Commits;
use requests::Requests;

use crate::{error::Error, kling::endpoints::Class, owners::FoundOwner};

pub(crate) use accounts::AccountSums;
pub(crate) use carried::RetryReason;
pub(crate) use requests::{MethodLabel, RouteLabel};
pub(crate) use scrape::Scrape;

/// The type of what [`Metrics::render`] writes.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// From the time of a lookup to the longest wait.
const WAIT_BUCKETS: [f64; 14] = [
    0.000_01, 0.000_1, 0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
];
/// As above; most calls end at once, waiting picks do not.
const REQUEST_BUCKETS: [f64; 14] = WAIT_BUCKETS;

/// The client left before its pick was decided.
const CLIENT_GONE: &str = "client-gone";

/// The label of what has none of its own: each further value of a label is one more series for ever.
pub(crate) const OTHER: &str = "other";

/// The counters of this process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    picks: IntCounterVec,
    granted: IntCounter,
    pick_wait: Histogram,
    requests: Requests,
    /// By class, as they are declared: a lookup by its word would cost each call 100 instructions.
    upstream_durations: [Histogram; Class::ALL.len()],
    carried: CarriedCounts,
    commits: Commits,
}

impl Metrics {
    /// Fresh counters, all at zero.
    ///
    /// # Errors
    /// If a metric's definition is not valid: a mistake in this file.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new_custom(Some("kling_balancer".to_owned()), None)?;
        let picks = IntCounterVec::new(
            Opts::new("picks_total", "Picks by how they ended."),
            &["result"],
        )?;
        let pick_wait = Histogram::with_opts(
            HistogramOpts::new("pick_wait_seconds", "Time from a pick to its grant.")
                .buckets(WAIT_BUCKETS.to_vec()),
        )?;
        let upstream_duration = HistogramVec::new(
            HistogramOpts::new(
                "upstream_request_duration_seconds",
                "Time from a carried request to the head of its answer, or to its failure.",
            )
            .buckets(REQUEST_BUCKETS.to_vec()),
            &["class"],
        )?;
        let build_info = IntGaugeVec::new(
            Opts::new("build_info", "Constant 1; the labels tell the version."),
            &["version"],
        )?;
        registry.register(Box::new(picks.clone()))?;
        registry.register(Box::new(pick_wait.clone()))?;
        let requests = Requests::new(&registry)?;
        registry.register(Box::new(upstream_duration.clone()))?;
        let carried = CarriedCounts::new(&registry)?;
        let commits = Commits::new(&registry)?;
        registry.register(Box::new(build_info.clone()))?;
        build_info
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        for refusal in Error::KINDS.iter().filter(|it| it.is_of_picks()) {
            picks.with_label_values(&[refusal.facts().reason]);
        }
        picks.with_label_values(&[CLIENT_GONE]);
        let upstream_durations =
            Class::ALL.map(|class| upstream_duration.with_label_values(&[class.as_str()]));
        let granted = picks.with_label_values(&["granted"]);
        Ok(Self {
            registry,
            picks,
            granted,
            pick_wait,
            requests,
            upstream_durations,
            carried,
            commits,
        })
    }

    /// Begins to count a pick that was asked for at `started`. If it is dropped before its end, it counts as one whose
    /// client left.
    pub fn count_pick(&self, started: Instant) -> PickCount<'_> {
        PickCount {
            metrics: self,
            started,
            is_ended: false,
        }
    }

    /// Begins to count a call. If it is dropped before its end, it counts as one whose client left.
    pub(crate) fn count_request(&self, route: RouteLabel, method: MethodLabel) -> RequestCount<'_> {
        RequestCount {
            requests: &self.requests,
            route,
            method,
            started: Instant::now(),
            is_ended: false,
        }
    }

    /// A carried call was answered, or failed, after `elapsed`.
    pub fn count_carried(&self, class: Class, elapsed: Duration) {
        self.upstream_durations[class as usize].observe(elapsed.as_secs_f64());
    }

    /// A request is sent again.
    pub(crate) fn count_retry(&self, reason: RetryReason) {
        self.carried.count_retry(reason);
    }

    /// Accounts were asked who owns a task.
    pub(crate) fn count_search(&self, found: &FoundOwner) {
        self.carried.count_search(found);
    }

    /// A job was started, and its client was gone before the answer.
    pub fn count_undelivered(&self) {
        self.carried.count_undelivered();
    }

    /// Counts a write of the state.
    pub(crate) fn count_commit(&self, is_done: bool, took: Duration, records_count: usize) {
        self.commits.count(is_done, took, records_count);
    }

    /// Writes everything in the Prometheus text format 0.0.4, and steps back after each family.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// If two metrics share a name: a mistake in this module.
    pub async fn render(&self, scrape: &Scrape<'_>) -> Result<Vec<u8>, prometheus::Error> {
        let own = texts(&self.registry.gather()).await?;
        let mut scraped = texts(&scrape.register()?.gather()).await?;
        scraped.extend(scrape.accounts.texts().await);
        scraped.sort_unstable();
        let texts = own.into_iter().chain(scraped).map(|(_, text)| text);
        Ok(texts.collect::<Vec<_>>().concat())
    }
}

/// The text of each family, by its name.
async fn texts(families: &[MetricFamily]) -> Result<Vec<(String, Vec<u8>)>, prometheus::Error> {
    let mut texts = Vec::new();
    for family in families {
        let mut text = Vec::new();
        TextEncoder::new().encode(slice::from_ref(family), &mut text)?;
        texts.push((family.name().to_owned(), text));
        yield_now().await;
    }
    Ok(texts)
}

/// A pick being counted.
#[derive(Debug)]
pub struct PickCount<'a> {
    metrics: &'a Metrics,
    started: Instant,
    is_ended: bool,
}

impl PickCount<'_> {
    /// The pick was granted, or refused with `error`.
    pub fn end(&mut self, error: Option<&Error>) {
        self.is_ended = true;
        match error {
            None => {
                self.metrics.granted.inc();
                self.metrics
                    .pick_wait
                    .observe(self.started.elapsed().as_secs_f64());
            }
            Some(error) => self
                .metrics
                .picks
                .with_label_values(&[error.facts().reason])
                .inc(),
        }
    }
}

impl PickCount<'_> {
    /// Not a pick: its key stands for something already.
    pub fn cancel(&mut self) {
        self.is_ended = true;
    }
}

impl Drop for PickCount<'_> {
    fn drop(&mut self) {
        if !self.is_ended {
            self.metrics.picks.with_label_values(&[CLIENT_GONE]).inc();
        }
    }
}

/// A call being counted.
#[derive(Debug)]
pub(crate) struct RequestCount<'a> {
    requests: &'a Requests,
    route: RouteLabel,
    method: MethodLabel,
    started: Instant,
    is_ended: bool,
}

impl RequestCount<'_> {
    /// When it came.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// The call was answered with `status`. Returns when.
    pub(crate) fn end(mut self, status: StatusCode) -> Instant {
        self.is_ended = true;
        self.count(Some(status))
    }

    fn count(&self, status: Option<StatusCode>) -> Instant {
        let now = Instant::now();
        let (route, method) = (self.route, self.method);
        self.requests
            .count(route, method, status, now - self.started);
        now
    }
}

impl Drop for RequestCount<'_> {
    fn drop(&mut self) {
        if !self.is_ended {
            self.count(None);
        }
    }
}
