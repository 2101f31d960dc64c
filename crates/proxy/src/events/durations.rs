//! How long jobs take, by what they do.

use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec};

use crate::kling::endpoints::job_operation;

/// From an image to the longest video: clients report 100 to 250 s for clips of 5 s.
const BUCKETS: [f64; 13] = [
    5.0, 10.0, 20.0, 30.0, 60.0, 90.0, 120.0, 180.0, 240.0, 300.0, 600.0, 1200.0, 3600.0,
];

/// What has no operation of the vendor: extra jobs, and those of picks.
const OTHER: &str = "other";

/// How long the jobs took whose ends were seen. A lease that is given back, or that lapses, says nothing of its job.
#[derive(Clone, Debug)]
pub(crate) struct JobDurations(HistogramVec);

impl JobDurations {
    pub(super) fn new() -> Self {
        let options = HistogramOpts::new(
            "job_duration_seconds",
            "Time from when a job was known until its end was, by operation; of jobs whose result is known.",
        );
        let durations = HistogramVec::new(options.buckets(BUCKETS.to_vec()), &["operation"]);
        let durations = durations.expect("the name, the label and the buckets are valid");
        durations.with_label_values(&[OTHER]);
        Self(durations)
    }

    pub(super) fn note(&self, operation: Option<&str>, took: Duration) {
        let label = operation.and_then(job_operation).unwrap_or(OTHER);
        let durations = self.0.with_label_values(&[label]);
        durations.observe(took.as_secs_f64());
    }

    /// For a registry.
    pub(crate) fn collector(&self) -> HistogramVec {
        self.0.clone()
    }
}
