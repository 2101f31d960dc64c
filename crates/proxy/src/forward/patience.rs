//! How long a call may wait, for whatever it needs.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// How long a call may wait.
#[derive(Debug)]
pub(super) struct Patience {
    /// What is left of it.
    pub(super) left: Duration,
    /// Ends it for a call that is refused from then on.
    pub(super) shutdown: CancellationToken,
}

impl Patience {
    /// That of a call that is served in a shutdown, too.
    pub(super) fn of(wait: Duration) -> Self {
        Self {
            left: wait,
            shutdown: CancellationToken::new(),
        }
    }
}
