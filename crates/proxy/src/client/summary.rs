//! `kling-balancer status`: everything at a glance, in words.

use jiff::Timestamp;

use super::{
    answers::{Account, Asked, Event, Status},
    tables,
    times::{about, age, date},
};
use crate::terminal::{Color, Line};

/// Accounts, waiters and events that are shown: together with the lines above them they fill a terminal of 40 rows.
const ACCOUNTS_MAX: usize = 10;
const WAITERS_MAX: usize = 5;
const EVENTS_MAX: usize = 8;

/// The state of a sidecar at `place`: three lines, and one for each question that the upstream did not answer.
pub(super) fn health(status: &Status, place: &str, now: Timestamp) -> Vec<Line> {
    let mut first = Line::from(format!("kling-balancer {} at {place}  ", status.version));
    first = if status.ready {
        first.and_colored(Color::Green, "ready")
    } else {
        let why = format!("not ready: {}", status.reasons.join("; "));
        first.and_colored(Color::Red, &why)
    };
    if !matches!(status.role.as_str(), "" | "single") {
        first = first.and(&format!("  {}", status.role));
    }
    first = first.and(&format!("  up for {}", age(status.up_since, now)));
    let slots = status.slots;
    let mut second = Line::from(format!("slots {}/{} in use", slots.in_flight, slots.max));
    let next = about(status.next_free_at(), now);
    if !next.is_empty() {
        second = second.and(&format!(", the next is free {next}"));
    }
    second = second.and("  ").and(&match status.waiting.count {
        0 => "nothing waits".to_owned(),
        count => {
            let oldest = age(status.waiting.oldest_since, now);
            format!("{count} waiting, the first for {oldest}")
        }
    });
    if !status.upstream.is_reachable {
        second = second
            .and("  ")
            .and_colored(Color::Red, "upstream unreachable");
    }
    let questions = [
        ("account list", &status.list),
        ("running jobs", &status.round),
    ];
    let mut errors = Vec::new();
    for (what, answer) in questions {
        second = second.and("  ").and_line(asked(what, answer, now));
        // An error is long: what stands behind it would be cut off.
        let error = answer.error.iter();
        errors.extend(error.map(|error| Line::colored(Color::Red, &format!("{what}: {error}"))));
    }
    let restart = &status.restart;
    let third = if restart.is_safe {
        Line::from("safe to restart: yes")
    } else {
        let why = restart.because.join(", ");
        Line::from("safe to restart: ").and_colored(Color::Yellow, &format!("no: {why}"))
    };
    let mut lines = vec![first, second];
    lines.append(&mut errors);
    lines.push(third);
    lines
}

/// How old the answer to a question is; red if there should be a newer one.
fn asked(what: &str, asked: &Asked, now: Timestamp) -> Line {
    let age = age(asked.at, now);
    let known = if age.is_empty() {
        format!("{what} not known")
    } else {
        format!("{what} {age} old")
    };
    match &asked.error {
        Some(_) => Line::colored(Color::Red, &known),
        None => Line::from(known),
    }
}

/// The whole picture, on about one screen.
pub(super) fn lines(status: &Status, place: &str, now: Timestamp) -> Vec<Line> {
    let mut lines = health(status, place, now);
    lines.push(Line::from(counts(&status.accounts)));
    let mut troubled: Vec<_> = status.accounts.iter().filter(|it| !it.is_well()).collect();
    troubled.sort_by_key(|account| account.trouble());
    if !troubled.is_empty() {
        lines.push(Line::new());
        let hidden = troubled.len().saturating_sub(ACCOUNTS_MAX);
        troubled.truncate(ACCOUNTS_MAX);
        lines.extend(tables::overview(&troubled, None, now));
        if hidden > 0 {
            lines.push(Line::from(format!("{hidden} more: see accounts")));
        }
    }
    if !status.waiters.is_empty() {
        lines.push(Line::new());
        let first = status.waiters.len().min(WAITERS_MAX);
        lines.extend(tables::waiters(&status.waiters[..first], now));
        let hidden = status.waiting.count.saturating_sub(first as u64);
        if hidden > 0 {
            lines.push(Line::from(format!("{hidden} more wait")));
        }
    }
    if !status.events.is_empty() {
        lines.push(Line::new());
        lines.extend(tables::events(status.events.iter().rev().take(EVENTS_MAX)));
    }
    lines
}

/// How many accounts are in which state, the worst first.
pub(super) fn counts(accounts: &[Account]) -> String {
    let mut counts: Vec<(u8, &str, usize)> = Vec::new();
    for account in accounts {
        let known = counts
            .iter_mut()
            .find(|(_, state, _)| *state == account.state);
        match known {
            Some((_, _, count)) => *count += 1,
            None => counts.push((account.trouble(), &account.state, 1)),
        }
    }
    counts.sort_unstable();
    let counts = counts
        .iter()
        .map(|(_, state, count)| format!("{count} {state}"));
    match counts.collect::<Vec<_>>().join(", ") {
        counts if counts.is_empty() => "accounts: none is known".to_owned(),
        counts => format!("accounts: {counts}"),
    }
}

/// An account after it was drained or resumed.
pub(super) fn switched(account: &Account) -> Line {
    let (free, max) = (account.in_flight, account.max_jobs);
    let line = Line::from(format!("{} ({}) is ", account.email, account.alias));
    let line = line.and_colored(Color::of_state(&account.state), &account.state);
    line.and(&format!(", {free} of {max} slots in use"))
}

/// An event as a line that tells its date.
pub(super) fn event(event: &Event) -> Line {
    let kind = format!("{:<20}", event.kind);
    Line::from(date(event.at))
        .and("  ")
        .and(&kind)
        .and("  ")
        .and(&event.told())
}
