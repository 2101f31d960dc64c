//! Answers of the sidecar as tables for people. The first line of each names its columns.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde_json::Value;

use super::{
    answers::{Account, Event, Job, Lease, Time, Waiter},
    times::{about, age, clock, date, left, span},
};
use crate::terminal::{Color, Line, bar, table};

/// The longest bar of slots.
const BAR_CELLS_MAX: usize = 12;

fn rows<const N: usize>(head: [&str; N]) -> Vec<Vec<Line>> {
    let head = head.map(|name| Line::colored(Color::Grey, name));
    vec![head.into()]
}

/// `text` behind a time that is known.
fn with(time: String, before: &str, after: &str) -> String {
    if time.is_empty() {
        time
    } else {
        format!("{before}{time}{after}")
    }
}

fn optional(text: &Option<String>) -> Line {
    Line::from(text.as_deref().unwrap_or_default())
}

fn state(account: &Account) -> Line {
    Line::colored(Color::of_state(&account.state), &account.state)
}

fn slots(account: &Account) -> String {
    format!("{}/{}", account.in_flight, account.max_jobs)
}

/// The accounts with every count, one per line.
pub(super) fn accounts(accounts: &[Account], now: Timestamp) -> Vec<Line> {
    let mut rows = rows([
        "ACCOUNT",
        "ALIAS",
        "SLOTS",
        "HELD",
        "UNCERTAIN",
        "FOREIGN",
        "STATE",
        "SINCE",
        "UNTIL",
        "WHY",
    ]);
    rows.extend(accounts.iter().map(|account| {
        vec![
            Line::from(&*account.email),
            Line::from(&*account.alias),
            Line::from(slots(account)),
            Line::from(account.held.to_string()),
            Line::from(account.uncertain.to_string()),
            Line::from(account.foreign_jobs.to_string()),
            state(account),
            Line::from(with(age(account.since, now), "", " ago")),
            Line::from(with(left(account.until, now), "in ", "")),
            Line::from(account.why()),
        ]
    }));
    table(rows)
}

/// The columns of [`overview`].
pub(super) const OVERVIEW: [&str; 8] = [
    "ACCOUNT", "ALIAS", "SLOTS", "STATE", "SINCE", "UNTIL", "JOBS", "WHY",
];

/// The accounts as an operator looks at them, sorted by one of the columns.
pub(super) fn overview(
    accounts: &[&Account],
    sorted_by: Option<usize>,
    now: Timestamp,
) -> Vec<Line> {
    let mut rows = rows(OVERVIEW);
    if let Some(column) = sorted_by {
        let name = format!("{}*", OVERVIEW[column]);
        rows[0][column] = Line::colored(Color::Grey, &name);
    }
    rows.extend(accounts.iter().map(|account| {
        let jobs = account.jobs;
        let failed = match jobs.failed {
            0 => Line::from("0 failed"),
            count => Line::colored(Color::Red, &format!("{count} failed")),
        };
        let others = [(jobs.unknown, "unknown"), (jobs.moved, "moved")];
        let others = others.iter().filter(|(count, _)| *count > 0);
        let others = others.map(|(count, word)| format!(", {count} {word}"));
        let until = match account.free_at() {
            Time(None) => with(left(account.until, now), "in ", ""),
            // Full until then, if it is as it usually is.
            free_at => about(free_at, now),
        };
        vec![
            Line::from(&*account.email),
            Line::from(&*account.alias),
            Line::from(format!("{:5} ", slots(account))).and_line(slot_bar(account)),
            state(account),
            Line::from(with(age(account.since, now), "", " ago")),
            Line::from(until),
            Line::from(format!("{} done, ", jobs.succeeded))
                .and_line(failed)
                .and(&others.collect::<String>()),
            Line::from(account.why()),
        ]
    }));
    table(rows)
}

/// Its slots: held by us, uncertain, of other tools, free.
fn slot_bar(account: &Account) -> Line {
    let count = |count: u64| usize::try_from(count).unwrap_or(usize::MAX >> 8);
    let free = account.max_jobs.saturating_sub(account.in_flight);
    let kinds = [
        ("█", count(account.held)),
        ("?", count(account.uncertain)),
        ("▒", count(account.foreign_jobs)),
        ("░", count(free)),
    ];
    Line::colored(Color::of_state(&account.state), &bar(&kinds, BAR_CELLS_MAX))
}

/// What the cells of a bar of slots mean.
pub(super) const BAR_KEY: &str = "█ held  ? uncertain  ▒ other tools  ░ free";

/// Held slots, with the time that jobs of their kind usually take where that is known of some kind.
pub(super) fn leases(
    leases: &[Lease],
    medians: &BTreeMap<String, u64>,
    now: Timestamp,
) -> Vec<Line> {
    if leases.is_empty() {
        return vec![Line::from("no slot is held")];
    }
    let mut rows = rows([
        "SLOT ON",
        "STATE",
        "KIND",
        "AGE",
        "UNTIL",
        "OPERATION",
        "TASK",
        "CLIENT",
        "REQUEST",
        "LEASE",
    ]);
    rows.extend(leases.iter().map(|lease| {
        let state = match lease.state.as_str() {
            "uncertain" => Line::colored(Color::Red, "uncertain"),
            state => Line::from(state),
        };
        let operation = lease.operation.as_deref().unwrap_or_default();
        let usual = medians.get(operation).copied();
        let usual = usual.map(|ms| format!(" of ~{}", span(Duration::from_millis(ms))));
        vec![
            Line::from(&*lease.email),
            state,
            Line::from(&*lease.kind),
            Line::from(age(lease.created_at, now) + &usual.unwrap_or_default()),
            Line::from(with(left(lease.expires_at, now), "in ", "")),
            Line::from(operation),
            optional(&lease.task_id),
            optional(&lease.client),
            optional(&lease.request_id),
            Line::from(&*lease.lease_id),
        ]
    }));
    table(rows)
}

/// Calls that wait, in order.
pub(super) fn waiters(waiters: &[Waiter], now: Timestamp) -> Vec<Line> {
    let mut rows = rows([
        "QUEUE",
        "WAITING",
        "GIVES UP",
        "OPERATION",
        "ACCOUNT",
        "CLIENT",
    ]);
    rows.extend(waiters.iter().map(|waiter| {
        vec![
            Line::from(waiter.position.to_string()),
            Line::from(age(waiter.since, now)),
            Line::from(with(left(waiter.deadline, now), "in ", "")),
            Line::from(waiter.operation.as_deref().unwrap_or("/pick")),
            Line::from(waiter.email.as_deref().unwrap_or("any")),
            Line::from(waiter.client.as_deref().unwrap_or_default()),
        ]
    }));
    table(rows)
}

/// What happened, the newest first, with the time of day.
pub(super) fn events<'a>(events: impl Iterator<Item = &'a Event>) -> Vec<Line> {
    let mut rows = rows(["EVENTS", "", ""]);
    rows.extend(events.map(|event| {
        vec![
            Line::from(clock(event.at)),
            Line::from(&*event.kind),
            Line::from(event.told()),
        ]
    }));
    table(rows)
}

/// What became of job starts.
pub(super) fn jobs(jobs: &[Job]) -> Vec<Line> {
    if jobs.is_empty() {
        let none = "no such job start is known: those that were sent are kept for up to 24 hours";
        return vec![Line::from(none)];
    }
    let mut rows = rows([
        "AT",
        "OPERATION",
        "ACCOUNT",
        "TASK",
        "OUTCOME",
        "DELIVERED",
        "RESULT",
        "CLIENT",
        "REQUEST",
    ]);
    rows.extend(jobs.iter().map(|job| {
        let is_delivered = if job.is_delivered { "yes" } else { "no" };
        vec![
            Line::from(date(job.at)),
            Line::from(&*job.operation),
            optional(&job.email),
            optional(&job.task_id),
            Line::from(&*job.outcome),
            Line::from(is_delivered),
            optional(&job.result),
            optional(&job.client),
            Line::from(&*job.request_id),
        ]
    }));
    table(rows)
}

/// The lease of a pick, or the accounts that a dry run would find.
pub(super) fn picked(answer: &Value) -> Vec<Line> {
    let text = |value: &Value| Line::from(value.as_str().unwrap_or_default());
    if let Some(accounts) = answer["accounts"].as_array() {
        let mut rows = rows(["ACCOUNT", "STATE", "WHY"]);
        let row = |it: &Value| {
            ["email", "state", "reason"]
                .map(|name| text(&it[name]))
                .into()
        };
        rows.extend(accounts.iter().map(row));
        return table(rows);
    }
    let mut rows = rows(["ACCOUNT", "LEASE", "UNTIL"]);
    let lease = ["email", "leaseId", "expiresAt"].map(|name| text(&answer[name]));
    rows.push(lease.into());
    table(rows)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::terminal::written;

    #[test]
    fn columns_are_aligned_and_absent_values_are_blank() {
        let answer = json!([
            {"email": "a@x", "alias": "a-1", "maxJobs": 3, "inFlight": 1, "held": 1, "uncertain": 0,
             "foreignJobs": 0, "state": "available", "reason": null, "until": null},
            {"email": "long@example.com", "alias": "a-22", "maxJobs": 50, "inFlight": 50, "held": 49,
             "uncertain": 0, "foreignJobs": 1, "state": "cooling", "reason": "too many jobs",
             "since": "2026-01-31T12:00:00Z", "until": "2026-01-31T12:01:00.000Z",
             "lastRefusal": {"at": null, "status": 429, "text": "try later\u{1b}[2J"}},
        ]);
        let answer: Vec<Account> = serde_json::from_value(answer).unwrap();
        let now = "2026-01-31T12:00:20Z".parse().unwrap();
        let expected = "\
ACCOUNT           ALIAS  SLOTS  HELD  UNCERTAIN  FOREIGN  STATE      SINCE    UNTIL   WHY
a@x               a-1    1/3    1     0          0        available
long@example.com  a-22   50/50  49    0          1        cooling    20s ago  in 40s  \
                        too many jobs (429: try later\\u{1b}[2J)";
        assert_eq!(written(&accounts(&answer, now), false), expected);
    }

    #[test]
    fn a_bar_tells_who_uses_the_slots() {
        let account = Account {
            max_jobs: 6,
            in_flight: 5,
            held: 2,
            uncertain: 1,
            foreign_jobs: 2,
            ..Account::default()
        };
        assert_eq!(slot_bar(&account).written(false), "██?▒▒░");
    }
}
