//! Logs: one line for each event, text or JSON, on standard error.

use std::{
    env,
    io::{self, IsTerminal},
    panic::{self, PanicHookInfo},
};

use tracing_subscriber::{
    filter::Targets, fmt, layer::SubscriberExt, registry, util::SubscriberInitExt,
};

use crate::config::{Config, LogFormat};

/// Starts logging for the process. A second call changes nothing.
pub fn start(config: &Config) {
    let filter: Targets = config.log_filter.parse().unwrap_or_default();
    let logs = registry().with(filter);
    let has_colors = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none();
    let started = match config.log_format {
        LogFormat::Text => logs
            .with(fmt::layer().with_ansi(has_colors).with_writer(io::stderr))
            .try_init(),
        LogFormat::Json => {
            let lines = fmt::layer()
                .json()
                .flatten_event(true)
                .with_writer(io::stderr);
            logs.with(lines).try_init()
        }
    };
    match started {
        Ok(()) => panic::set_hook(Box::new(log_panic)),
        Err(_) => tracing::debug!("logging was already started"),
    }
}

/// Logs a panic with its location, in the span in which it happens, so that the call that it ends
/// can be found.
fn log_panic(panic: &PanicHookInfo<'_>) {
    tracing::error!(
        location = panic.location().map(tracing::field::display),
        message_of_panic = panic.payload_as_str(),
        "a part of the sidecar panicked; this is a bug, please report it"
    );
}

#[cfg(test)]
pub(crate) mod tests;
