//! Logs: one line for each event, text or JSON, on standard error.
//!
//! A thread of its own writes them, from a bounded queue: a log that is not read delays no call. Lines for
//! which there is no room are dropped and counted.

use std::{
    env,
    io::{self, IsTerminal},
    panic::{self, PanicHookInfo},
    sync::{OnceLock, mpsc},
    thread,
    time::Duration,
};

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    field::RecordFields,
    filter::Targets,
    fmt::{
        self, FormatFields,
        format::{DefaultFields, Writer},
    },
    layer::SubscriberExt,
    registry,
    util::SubscriberInitExt,
};

use crate::config::{Config, LogFormat};

/// The most lines that wait to be written: of 300 bytes each they take about a megabyte, and a burst of lines
/// fits while the reader is busy.
pub const LINES_MAX: usize = 4096;

/// How long the fields of most spans and events are at most: a request id and an account.
const FIELDS_BYTES: usize = 128;

/// How long the end of the process waits for a log, or a terminal, that is not read.
const LAST_WORDS_MAX: Duration = Duration::from_secs(1);

/// Counts the lines that were dropped.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// The log of the process. Dropped, it waits until the lines before are written, a second at most.
#[derive(Debug)]
pub struct Log(Option<WorkerGuard>);

impl Drop for Log {
    fn drop(&mut self) {
        if let Some(writer) = self.0.take() {
            within_a_moment(|| drop(writer));
        }
    }
}

/// How many lines were dropped since the start.
pub(crate) fn dropped_lines() -> u64 {
    let dropped = DROPPED.get().map_or(0, ErrorCounter::dropped_lines);
    u64::try_from(dropped).unwrap_or(u64::MAX)
}

/// Does something that may block for ever, in a thread of its own, and waits for it, a second at most.
pub fn within_a_moment(action: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::sync_channel(1);
    thread::spawn(move || {
        action();
        // The caller may wait no longer.
        let _told = done.try_send(());
    });
    // If it takes longer, or panics, there is nothing more to wait for.
    let _is_done = is_done.recv_timeout(LAST_WORDS_MAX);
}

/// Starts logging for the process. A second call changes nothing.
pub fn start(config: &Config) -> Log {
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LINES_MAX)
        .thread_name("log")
        .finish(io::stderr());
    let counter = writer.error_counter();
    let filter: Targets = config.log_filter.parse().unwrap_or_default();
    let logs = registry().with(filter);
    let has_colors = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none();
    let started = match config.log_format {
        LogFormat::Text => logs
            .with(
                fmt::layer()
                    .fmt_fields(WholeFields::default())
                    .with_ansi(has_colors)
                    .with_writer(writer),
            )
            .try_init(),
        LogFormat::Json => {
            let lines = fmt::layer().json().flatten_event(true).with_writer(writer);
            logs.with(lines).try_init()
        }
    };
    match started {
        Ok(()) => {
            panic::set_hook(Box::new(log_panic));
            DROPPED.get_or_init(|| counter);
        }
        Err(_) => tracing::debug!("logging was already started"),
    }
    Log(Some(guard))
}

/// Writes the fields of a span, or of an event, as [`DefaultFields`] does, but all at once. A span keeps them as a text of
/// its own, which would be moved five times as it grows: 1,800 instructions of a job start.
#[derive(Debug, Default)]
struct WholeFields(DefaultFields);

impl<'writer> FormatFields<'writer> for WholeFields {
    fn format_fields<R: RecordFields>(
        &self,
        mut writer: Writer<'writer>,
        fields: R,
    ) -> std::fmt::Result {
        if writer.has_ansi_escapes() {
            // Colors are for people, who make few calls.
            return self.0.format_fields(writer, fields);
        }
        let mut text = String::with_capacity(FIELDS_BYTES);
        self.0.format_fields(Writer::new(&mut text), fields)?;
        writer.write_str(&text)
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
