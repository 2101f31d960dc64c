//! How many clients may be connected and wait.

use tokio::sync::Semaphore;

use crate::upstream::KEPT_MAX;

/// Connections kept free for clients that do not wait.
const CONNECTIONS_FREE: usize = 1024;
/// The most connections of the metrics listener: a few scrapers and probes.
pub(super) const MONITORING_CONNECTIONS_MAX: usize = 16;
/// The most requests under way to the upstream at once, each on a connection of its own: as many as
/// there are clients that do not wait.
const REQUESTS_MAX: usize = CONNECTIONS_FREE;
/// The most clients that read events at once, beside those that do not wait: pages and programs of one site. Each
/// takes a connection, and some 11 KB.
const EVENT_READERS_MAX: usize = 1024;
/// Open files besides connections of the API and of requests to the upstream: listeners, logs,
/// fetches, the runtime's own, and what the metrics listener may take.
const DESCRIPTORS_RESERVED: usize = 32 + MONITORING_CONNECTIONS_MAX;

/// How many clients may be connected and wait, as the settings and the system allow.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionLimits {
    pub(super) connections_max: usize,
    pub(super) waiters_max: usize,
    pub(super) requests_max: usize,
    pub(super) event_readers_max: usize,
}

impl ConnectionLimits {
    /// A waiting pick holds a connection. Others stay free for clients that do not wait: these
    /// release the slots that waiting ones need.
    pub(super) fn of(waiters_max: usize) -> Self {
        // The soft limit is often 1024, and may be raised to the hard one.
        let descriptors = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(u64::MAX);
        let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
        let allowed = descriptors.saturating_sub(DESCRIPTORS_RESERVED).max(4);
        let allowed = allowed.min(Semaphore::MAX_PERMITS);
        let requests_max = REQUESTS_MAX.min(allowed / 4);
        // Unused connections are kept beside those of the requests under way.
        let allowed = allowed - requests_max - KEPT_MAX.min(requests_max);
        // Where files are few, most of them are for those who start jobs.
        let event_readers_max = EVENT_READERS_MAX.min(allowed / 8);
        let connections_max = waiters_max
            .saturating_add(CONNECTIONS_FREE + event_readers_max)
            .min(allowed);
        let free = CONNECTIONS_FREE.min((connections_max - event_readers_max) / 2);
        let limits = Self {
            connections_max,
            waiters_max: waiters_max.min(connections_max - event_readers_max - free),
            requests_max,
            event_readers_max,
        };
        if limits.waiters_max < waiters_max {
            tracing::warn!(
                descriptors,
                waiters_max = limits.waiters_max,
                "selection.waiters_max is lowered to fit the limit of open files; raise that limit"
            );
        }
        limits
    }
}
