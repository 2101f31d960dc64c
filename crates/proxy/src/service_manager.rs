//! Tells the service manager what the process is doing: systemd's `sd_notify(3)`, for units of `Type=notify` and
//! `Type=notify-reload`.
//!
//! The process counts as started once it answers calls, not once it can grant slots: that depends on the upstream, and a
//! restart would not bring the upstream back. What is in the way is told as the unit's status.

use std::{env, io, time::Duration};

use sd_notify::NotifyState;
use tokio::{task::spawn_blocking, time::timeout};

/// The longest wait for the manager to take a message. It takes one at once, unless it hangs: then the sidecar goes on.
const TELL_TIME_MAX: Duration = Duration::from_secs(1);

/// What the manager is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Calls are answered. The text says what comes next.
    Started(String),
    /// What the process is doing, in a line for people (`systemctl status`).
    Status(String),
    /// Files are being read again.
    Reloading,
    /// They have been read.
    Reloaded,
    /// The drain has begun.
    Stopping,
}

impl Notice {
    fn send(&self) -> io::Result<()> {
        match self {
            Self::Started(text) => {
                sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(text)])
            }
            Self::Status(text) => sd_notify::notify(&[NotifyState::Status(text)]),
            // The manager takes the answer of a reload only with the time at which it began, in the same message.
            Self::Reloading => {
                sd_notify::notify(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?])
            }
            Self::Reloaded => sd_notify::notify(&[NotifyState::Ready]),
            Self::Stopping => sd_notify::notify(&[
                NotifyState::Stopping,
                NotifyState::Status("Draining: calls that are under way are answered"),
            ]),
        }
    }
}

/// Tells it, where a service manager asked for it (`NOTIFY_SOCKET`). Waits until it has been taken, a second at most.
///
/// Cancelled, it is told all the same.
pub async fn tell(notice: Notice) {
    if env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    // The socket of a manager that hangs is full, and writing to it waits.
    let told = timeout(TELL_TIME_MAX, spawn_blocking(move || notice.send()));
    let problem = match told.await {
        Ok(Ok(Ok(()))) => return,
        Ok(Ok(Err(error))) => error.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(late) => late.to_string(),
    };
    tracing::warn!(
        problem,
        "the service manager cannot be told what the sidecar does (NOTIFY_SOCKET)"
    );
}
