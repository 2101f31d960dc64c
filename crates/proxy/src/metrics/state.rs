//! The metrics of the state that is kept.

use prometheus::{IntGauge, IntGaugeVec, Opts, Registry};

use super::scrape::unix_seconds;
use crate::book::BookStatus;

/// Registers what is known of the state. All is zero if none is kept.
pub(super) fn register(status: &BookStatus, registry: &Registry) -> Result<(), prometheus::Error> {
    let kind = IntGaugeVec::new(
        Opts::new("state_info", "Where the state is kept, 1."),
        &["kind"],
    )?;
    kind.with_label_values(&[status.kind]).set(1);
    registry.register(Box::new(kind))?;
    let bytes = IntGauge::new("state_bytes", "Size of the state that is kept.")?;
    bytes.set(i64::try_from(status.statistics.bytes).unwrap_or(i64::MAX));
    registry.register(Box::new(bytes))?;
    let records = IntGaugeVec::new(
        Opts::new("state_records", "Records of the state that is kept."),
        &["table"],
    )?;
    for (table, count) in status.statistics.records() {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        records.with_label_values(&[table.as_str()]).set(count);
    }
    registry.register(Box::new(records))?;
    let sessions = IntGauge::new(
        "state_sessions",
        "Processes that have written the state, this one included, 16 at most.",
    )?;
    sessions.set(i64::try_from(status.sessions_count).unwrap_or(i64::MAX));
    registry.register(Box::new(sessions))?;
    let committed = prometheus::Gauge::new(
        "state_last_commit_timestamp_seconds",
        "When the state was last written, Unix time; 0 before the first time.",
    )?;
    committed.set(unix_seconds(status.committed_at));
    registry.register(Box::new(committed))
}
