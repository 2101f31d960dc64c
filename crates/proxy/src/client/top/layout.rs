//! Where what is shown has its place.

use jiff::Timestamp;

use super::{
    keys::HELP,
    view::{Mode, View},
};
use crate::{
    client::{
        answers::{Account, Status},
        summary, tables,
        times::span,
    },
    terminal::{Color, Line},
};

/// Events of a picture that ends.
const EVENTS_MAX: usize = 10;
/// A part of the picture with fewer rows is left out: a blank one, the names of the columns, and one of what it shows.
const PART_ROWS_MIN: usize = 3;

/// What is found, the names of the columns, and why the chosen account is in its state.
const ROWS_BESIDE_ACCOUNTS: usize = 3;
/// So many rows belong to the accounts before anything else gets one: six accounts, and what is beside them.
const ACCOUNT_ROWS_MIN: usize = 6 + ROWS_BESIDE_ACCOUNTS;

/// One picture of everything, however long.
pub(super) fn plain(status: &Status, place: &str, now: Timestamp) -> Vec<Line> {
    let view = View::new(place.to_owned(), status.clone());
    let rows = view.rows();
    let mut lines = summary::health(status, place, now);
    lines.push(Line::from(summary::counts(&status.accounts)));
    lines.push(Line::new());
    lines.extend(tables::overview(&rows, None, now));
    let others = others(status, now);
    for (part, rows_max) in others.into_iter().zip([usize::MAX, usize::MAX, EVENTS_MAX]) {
        if part.len() > 1 {
            lines.push(Line::new());
            lines.extend(part.into_iter().take(rows_max.saturating_add(1)));
        }
    }
    lines
}

/// The queue, the slots and what happened, each with the names of its columns.
fn others(status: &Status, now: Timestamp) -> [Vec<Line>; 3] {
    [
        tables::waiters(&status.waiters, now),
        tables::leases(&status.leases, &status.median_job_ms, now),
        tables::events(status.events.iter().rev()),
    ]
}

impl View {
    /// The picture for a terminal of this size, in columns and rows.
    pub(super) fn lines(&self, size: (u16, u16), now: Timestamp) -> Vec<Line> {
        let (columns, height) = (usize::from(size.0), usize::from(size.1));
        let mut lines = summary::health(&self.status, &self.place, now);
        if let Some(why) = &self.lost {
            let age = now.duration_since(self.seen_at);
            let age = span(age.try_into().unwrap_or_default());
            let said = format!("no answer, trying again; this is from {age} ago: {why}");
            lines.insert(0, Line::colored(Color::Red, &said));
        }
        let footer = self.footer();
        // The last row is the footer's.
        let body = height.saturating_sub(1);
        // On a small terminal the accounts go before the health.
        lines.truncate((body / 2).max(1));
        let room = body.saturating_sub(lines.len());
        match self.mode {
            Mode::Help => lines.extend(help()),
            Mode::Table | Mode::Filter | Mode::Confirm(..) => lines.extend(self.parts(room, now)),
        }
        lines.resize(body, Line::new());
        lines.push(footer);
        lines.truncate(height);
        lines.into_iter().map(|line| line.cut(columns)).collect()
    }

    /// The accounts, and what else has room below them.
    fn parts(&self, room: usize, now: Timestamp) -> Vec<Line> {
        let rows = self.rows();
        let others = others(&self.status, now);
        let wanted = others.each_ref().map(|part| match part.len() {
            // There is nothing but the names of its columns.
            0 | 1 => 0,
            count => count + 1,
        });
        let [accounts, shares @ ..] = shares(room, rows.len() + ROWS_BESIDE_ACCOUNTS, wanted);
        let mut lines = self.accounts(&rows, accounts, now);
        for (part, share) in others.into_iter().zip(shares) {
            if share > 0 {
                lines.push(Line::new());
                lines.extend(part.into_iter().take(share - 1));
            }
        }
        lines
    }

    /// So many lines of accounts, the chosen one among them.
    fn accounts(&self, rows: &[&Account], room: usize, now: Timestamp) -> Vec<Line> {
        // On a small terminal one more account goes before why one of them is stuck.
        let has_why = room >= ACCOUNT_ROWS_MIN.min(rows.len() + ROWS_BESIDE_ACCOUNTS);
        let shown_max = room.saturating_sub(ROWS_BESIDE_ACCOUNTS - usize::from(!has_why));
        let cursor = self.cursor_idx(rows).unwrap_or(0);
        // A page at a time, so that the rows stand still while the cursor moves on one.
        let first = cursor.checked_div(shown_max).unwrap_or(0) * shown_max;
        let last = rows.len().min(first + shown_max);
        let mut title = summary::counts(&self.status.accounts);
        if !self.filter.is_empty() {
            title += &format!("; {} with \"{}\"", rows.len(), self.filter);
        }
        if last - first < rows.len() {
            title += &format!("; {} to {last} shown", first + 1);
        }
        let mut lines = vec![Line::from(title)];
        let sorted_by = Some(self.sort.column());
        let table = tables::overview(&rows[first..last], sorted_by, now);
        lines.extend(table.into_iter().enumerate().map(|(idx, line)| {
            if idx > 0 && first + idx - 1 == cursor {
                let line = Line::from("> ").and_line(line);
                return line.all_colored(Color::Reversed);
            }
            Line::from("  ").and_line(line)
        }));
        // The last column of a narrow terminal has no room for it.
        let why = rows.get(cursor).map(|chosen| chosen.why());
        lines.push(Line::from(format!("  {}", why.unwrap_or_default())));
        lines.truncate(room);
        lines
    }

    fn footer(&self) -> Line {
        match &self.mode {
            Mode::Table => match self.notice() {
                Some(notice) => notice,
                None => Line::colored(
                    Color::Grey,
                    "up/down choose  s sort  r reverse  / filter  d drain  e resume  ? help  q quit",
                ),
            },
            Mode::Help => Line::colored(Color::Grey, "any key: the accounts again  q quit"),
            Mode::Filter => Line::from("accounts with: ")
                .and(&self.filter)
                .and_colored(Color::Grey, "_  Enter keeps it, Esc clears it"),
            Mode::Confirm(switch, email) => {
                let question = format!("{} {email}? {} (y/n)", switch.as_str(), switch.effect());
                Line::colored(Color::Yellow, &question)
            }
        }
    }
}

/// How many rows the accounts get, and each of the other parts; 0: it is left out. The accounts get half of them or more, if
/// they want so many.
fn shares(room: usize, accounts: usize, others: [usize; 3]) -> [usize; 4] {
    let own = room.div_ceil(2).max(ACCOUNT_ROWS_MIN).min(room);
    let mut left = room - accounts.min(own);
    let mut shares = [0; 3];
    for (idx, wanted) in others.into_iter().enumerate() {
        // Those that follow get as much as this one.
        let parts = others[idx..]
            .iter()
            .filter(|wanted| **wanted > 0)
            .count()
            .max(1);
        let share = wanted.min(left / parts).min(left);
        if share >= PART_ROWS_MIN {
            shares[idx] = share;
            left -= share;
        }
    }
    let [queue, slots, events] = shares;
    let accounts = accounts.min(room - queue - slots - events);
    // What the accounts leave goes to what happened.
    let events = (room - accounts - queue - slots).min(others[2]);
    let events = if events < PART_ROWS_MIN { 0 } else { events };
    [accounts, queue, slots, events]
}

fn help() -> Vec<Line> {
    let rows = HELP.map(|(keys, effect)| vec![Line::from(format!("  {keys}")), Line::from(effect)]);
    let mut lines = vec![Line::new()];
    lines.extend(crate::terminal::table(rows.into()));
    lines.push(Line::new());
    lines.push(Line::from(format!("  slots: {}", tables::BAR_KEY)));
    lines
}
