//! What writing the state costs.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounterVec, Opts, Registry};

/// From a write to memory of the system to a disk that is busy.
const DURATION_BUCKETS: [f64; 10] = [
    0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0,
];
/// From one pick to a round of many jobs.
const RECORDS_BUCKETS: [f64; 9] = [
    1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 1_000.0, 10_000.0, 100_000.0,
];

/// Counts commits. All stay at zero if nothing is kept.
#[derive(Debug)]
pub(super) struct Commits {
    total: IntCounterVec,
    duration: Histogram,
    records: Histogram,
}

impl Commits {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let total = IntCounterVec::new(
            Opts::new("commits_total", "Writes of the state, by how they ended."),
            &["result"],
        )?;
        let duration = Histogram::with_opts(
            HistogramOpts::new(
                "commit_duration_seconds",
                "Time that a write of the state took.",
            )
            .buckets(DURATION_BUCKETS.to_vec()),
        )?;
        let records = Histogram::with_opts(
            HistogramOpts::new("commit_records", "Records in one write of the state.")
                .buckets(RECORDS_BUCKETS.to_vec()),
        )?;
        registry.register(Box::new(total.clone()))?;
        registry.register(Box::new(duration.clone()))?;
        registry.register(Box::new(records.clone()))?;
        for is_done in [true, false] {
            total.with_label_values(&[result(is_done)]);
        }
        Ok(Self {
            total,
            duration,
            records,
        })
    }

    pub(super) fn count(&self, is_done: bool, took: Duration, records_count: usize) {
        self.total.with_label_values(&[result(is_done)]).inc();
        if is_done {
            self.duration.observe(took.as_secs_f64());
            let records_count = u32::try_from(records_count).unwrap_or(u32::MAX);
            self.records.observe(f64::from(records_count));
        }
    }
}

fn result(is_done: bool) -> &'static str {
    if is_done { "ok" } else { "failed" }
}
