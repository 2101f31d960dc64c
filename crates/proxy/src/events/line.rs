//! The line of the log that tells a fact. It names accounts by alias.

use std::borrow::Cow;

use accounts_fetcher::AliasText;
use tracing::Level;

use super::{
    fact::{CapChange, Fact, Listed},
    words,
};
use crate::pool::AccountState;

/// Writes the line, if the fact has one. `logs_jobs`: whether jobs that end have one at the usual level.
pub(super) fn log(fact: &Fact, logs_jobs: bool) {
    let Some(level) = level(fact, logs_jobs) else {
        return;
    };
    // Jobs that start are told at this level: a line that is not written would cost as much as one that is.
    if level == Level::DEBUG && !tracing::enabled!(Level::DEBUG) {
        return;
    }
    let line = Line::of(fact);
    // The level of a line is a part of its place in the program.
    match level {
        Level::ERROR => line.error(),
        Level::WARN => line.warn(),
        Level::INFO => line.info(),
        _ => line.debug(),
    }
}

/// `error`: a person has to act; `warn`: something is worse than usual, and heals by itself. `None`: the log tells it
/// elsewhere.
fn level(fact: &Fact, logs_jobs: bool) -> Option<Level> {
    let level = match fact {
        Fact::AccountState { to, .. } => match to {
            AccountState::Quarantined => Level::ERROR,
            AccountState::Parked | AccountState::Error => Level::WARN,
            AccountState::Cooling
            | AccountState::Draining
            | AccountState::Removed
            | AccountState::Available
            | AccountState::Full => Level::INFO,
        },
        Fact::TokenRejected { .. } | Fact::StateFailing { .. } => Level::ERROR,
        Fact::SubmissionLost { .. }
        | Fact::AnswerUndelivered(_)
        | Fact::UpstreamUnreachable { .. }
        | Fact::RoundsFailed { .. } => Level::WARN,
        // The end of the process is told by what is drained.
        Fact::NotReady { reasons } if reasons.contains(&"shutting-down") => Level::DEBUG,
        Fact::NotReady { .. } => Level::WARN,
        Fact::JobEnded { .. } if logs_jobs => Level::INFO,
        Fact::JobStarted(_) | Fact::JobEnded { .. } => Level::DEBUG,
        Fact::AccountDrained(_)
        | Fact::SubmissionDecided { .. }
        | Fact::ListChanged(_)
        | Fact::Ready(_)
        | Fact::TokenAccepted
        | Fact::UpstreamReachable
        | Fact::RoundsAnswered { .. }
        | Fact::StateWritten => Level::INFO,
        // By the program, and by the fetcher.
        Fact::SidecarStarted { .. } | Fact::ListFailed { .. } | Fact::ListFetched => return None,
    };
    Some(level)
}

/// The fields of a line. Those that are missing are not written.
#[derive(Debug, Default)]
struct Line<'a> {
    message: Cow<'static, str>,
    account: Option<AliasText>,
    from: Option<&'static str>,
    request_id: Option<&'a str>,
    client: Option<&'a str>,
    operation: Option<&'a str>,
    task_id: Option<&'a str>,
    mark: Option<&'a str>,
    outcome: Option<&'static str>,
    duration_ms: Option<u64>,
    status: Option<u16>,
    error: Option<&'a str>,
    advice: Option<&'static str>,
    failed_count: Option<u32>,
    added: Option<String>,
    removed: Option<String>,
    changed: Option<String>,
    accounts: Option<u64>,
    slots: Option<u64>,
    jobs_found: Option<u64>,
}

macro_rules! write_line {
    ($level:ident, $line:ident) => {
        tracing::$level!(
            account = $line.account.as_deref(),
            from = $line.from,
            task_id = $line.task_id,
            operation = $line.operation,
            mark = $line.mark,
            outcome = $line.outcome,
            duration_ms = $line.duration_ms,
            client = $line.client,
            request_id = $line.request_id,
            status = $line.status,
            error = $line.error,
            advice = $line.advice,
            failed_count = $line.failed_count,
            added = $line.added,
            removed = $line.removed,
            changed = $line.changed,
            accounts = $line.accounts,
            slots = $line.slots,
            jobs_found = $line.jobs_found,
            "{}",
            $line.message
        )
    };
}

impl<'a> Line<'a> {
    fn of(fact: &'a Fact) -> Self {
        let mut line = Self {
            message: words::sentence(fact, None),
            account: fact.account().map(|account| account.alias.text()),
            ..Self::default()
        };
        if let Some(job) = fact.job() {
            line.request_id = job.request_id.as_deref();
            line.client = job.client.as_deref();
            line.operation = job.operation.as_deref();
            line.task_id = job.task_id.as_ref().map(|task_id| task_id.as_str());
        }
        match fact {
            Fact::AccountState { from, .. } => line.from = Some(from.as_str()),
            Fact::JobEnded {
                result, duration, ..
            } => {
                line.outcome = Some(result.as_str());
                line.duration_ms = u64::try_from(duration.as_millis()).ok();
            }
            Fact::SubmissionLost { mark, error, .. } => {
                line.mark = mark.as_deref();
                line.error = Some(error);
            }
            Fact::StateFailing { error } => line.error = error.as_deref(),
            Fact::SubmissionDecided { outcome, .. } => line.outcome = Some(outcome.as_str()),
            Fact::ListChanged(list) => {
                line.added = names(&list.added, list.added_count, with_cap);
                line.removed = names(&list.removed, list.removed_count, with_cap);
                line.changed = names(&list.changed, list.changed_count, with_caps);
            }
            Fact::Ready(found) => {
                line.accounts = Some(found.accounts);
                line.slots = Some(found.slots);
                line.jobs_found = Some(found.jobs_found);
            }
            Fact::TokenRejected { status, text } => {
                line.status = Some(*status);
                line.error = Some(text);
            }
            Fact::UpstreamUnreachable { error, advice } => {
                line.error = Some(error);
                line.advice = Some(advice);
            }
            Fact::RoundsFailed { error, advice } => {
                line.error = Some(error);
                line.advice = Some(advice);
            }
            Fact::RoundsAnswered { failed_count } => line.failed_count = Some(*failed_count),
            Fact::ListFailed { error } => line.error = Some(error),
            Fact::AccountDrained(_)
            | Fact::JobStarted(_)
            | Fact::AnswerUndelivered(_)
            | Fact::SidecarStarted { .. }
            | Fact::NotReady { .. }
            | Fact::TokenAccepted
            | Fact::UpstreamReachable
            | Fact::ListFetched
            | Fact::StateWritten => {}
        }
        line
    }

    fn error(&self) {
        write_line!(error, self);
    }

    fn warn(&self) {
        write_line!(warn, self);
    }

    fn info(&self) {
        write_line!(info, self);
    }

    fn debug(&self) {
        write_line!(debug, self);
    }
}

/// The names, and how many are not among them.
fn names<T>(named: &[T], count: usize, name: impl Fn(&T) -> String) -> Option<String> {
    if count == 0 {
        return None;
    }
    let mut text = named.iter().map(name).collect::<Vec<_>>().join(", ");
    let more = count - named.len();
    if more > 0 {
        text.push_str(&format!(", and {more} more"));
    }
    Some(text)
}

fn with_cap(listed: &Listed) -> String {
    format!("{} ({})", listed.account.alias, listed.max_jobs)
}

fn with_caps(change: &CapChange) -> String {
    format!("{} {} → {}", change.account.alias, change.from, change.to)
}
