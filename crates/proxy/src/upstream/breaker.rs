//! A circuit breaker for connections: after several failures in a row, requests are refused at
//! once.
//!
//! All accounts share the upstream's host, so a failure says nothing about an account. While the
//! breaker is open, one background task tries to connect and sends nothing. It ends with the
//! breaker.

use std::{sync::Arc, time::Duration};

use accounts_fetcher::{CERTIFICATE_ADVICE, Chain, certificate_problem};
use http::Uri;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::{BoxError, dialer::Dialer};
use crate::{
    backoff::{doubled, shortened},
    events::{Events, Fact},
};

/// After so many failed connections in a row, requests are refused at once.
pub const FAILURES_MAX: u32 = 3;
/// The pauses between two attempts in the background. They double up to the longest, which bounds
/// how late the end of an outage is noticed. Each is shortened by up to half at random.
const PROBE_PAUSE_MIN: Duration = Duration::from_millis(250);
const PROBE_PAUSE_MAX: Duration = Duration::from_secs(4);

#[derive(Debug)]
pub(super) struct Breaker {
    state: Mutex<BreakerState>,
    events: Events,
}

#[derive(Debug, Default)]
struct BreakerState {
    failed_count: u32,
    /// Tries to connect while the breaker is open.
    probe: Option<AbortOnDropHandle<()>>,
}

impl Breaker {
    /// A closed one. It tells `events` when it opens and closes.
    pub(super) fn new(events: Events) -> Self {
        Self {
            state: Mutex::default(),
            events,
        }
    }

    /// Whether connecting is known to fail.
    pub(super) fn is_open(&self) -> bool {
        self.state().probe.is_some()
    }

    /// A connection was opened: the breaker closes, and calls go on.
    pub(super) fn note_success(&self) {
        let mut state = self.state();
        state.failed_count = 0;
        if state.probe.take().is_some() {
            self.events.publish(&Fact::UpstreamReachable);
        }
    }

    /// A connection could not be opened to `uri`, since `error`.
    pub(super) fn note_failure(self: &Arc<Self>, dialer: &Dialer, uri: &Uri, error: &BoxError) {
        let mut state = self.state();
        state.failed_count = state.failed_count.saturating_add(1);
        if state.failed_count >= FAILURES_MAX && state.probe.is_none() {
            let advice = match certificate_problem(&**error) {
                Some(_) => CERTIFICATE_ADVICE,
                None => "check upstream.base_url and the network",
            };
            let error = Chain(&**error).to_string();
            self.events
                .publish(&Fact::UpstreamUnreachable { error, advice });
            let (dialer, uri) = (dialer.clone(), uri.clone());
            let breaker = Arc::downgrade(self);
            let probe = tokio::spawn(async move {
                probe(dialer, uri).await;
                if let Some(breaker) = breaker.upgrade() {
                    breaker.note_success();
                }
            });
            state.probe = Some(AbortOnDropHandle::new(probe));
        }
    }

    fn state(&self) -> MutexGuard<'_, BreakerState> {
        self.state.lock()
    }
}

/// Connects again and again until it succeeds.
async fn probe(mut dialer: Dialer, uri: Uri) {
    for failed_count in 0.. {
        let pause = doubled(PROBE_PAUSE_MIN, failed_count, PROBE_PAUSE_MAX);
        sleep(shortened(pause)).await;
        if dialer.dial(uri.clone()).await.is_ok() {
            return;
        }
    }
}
