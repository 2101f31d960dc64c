//! What is shown: the newest status, and what the keys made of the picture.

use std::cmp::Reverse;

use jiff::Timestamp;

use super::keys::Switch;
use crate::{
    client::{
        answers::{Account, Status},
        summary,
    },
    terminal::{Color, Line},
};

/// By which column the accounts are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// What needs an operator comes first.
    State,
    Account,
    /// The most slots in use come first.
    Slots,
    /// The newest change comes first.
    Since,
    /// What ends soonest comes first.
    Until,
    /// The most failed jobs come first.
    Jobs,
}

impl Sort {
    /// The column in `tables::OVERVIEW`.
    pub(super) fn column(self) -> usize {
        match self {
            Self::Account => 0,
            Self::Slots => 2,
            Self::State => 3,
            Self::Since => 4,
            Self::Until => 5,
            Self::Jobs => 6,
        }
    }

    pub(super) fn next(self) -> Self {
        match self {
            Self::State => Self::Account,
            Self::Account => Self::Slots,
            Self::Slots => Self::Since,
            Self::Since => Self::Until,
            Self::Until => Self::Jobs,
            Self::Jobs => Self::State,
        }
    }

    fn sort(self, accounts: &mut [&Account]) {
        // Stable, so that equal ones stay in the order of the list.
        match self {
            Self::State => accounts.sort_by_key(|it| it.trouble()),
            Self::Account => accounts.sort_by(|a, b| a.email.cmp(&b.email)),
            Self::Slots => accounts.sort_by_key(|it| Reverse(it.in_flight)),
            Self::Since => accounts.sort_by_key(|it| Reverse(it.since)),
            Self::Until => accounts.sort_by_key(|it| (it.ends_at().0.is_none(), it.ends_at())),
            Self::Jobs => accounts.sort_by_key(|it| Reverse(it.jobs.failed)),
        }
    }
}

/// What the keys are for at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Table,
    Help,
    /// A filter is typed.
    Filter,
    /// It is asked whether this is meant for this account.
    Confirm(Switch, String),
}

/// The picture.
#[derive(Debug)]
pub(super) struct View {
    pub(super) place: String,
    pub(super) status: Status,
    /// When the status was last known to be the newest one.
    pub(super) seen_at: Timestamp,
    /// Why there is no newer one.
    pub(super) lost: Option<String>,
    /// What came of the last change.
    pub(super) notice: Option<Result<Account, String>>,
    pub(super) sort: Sort,
    pub(super) is_reversed: bool,
    pub(super) filter: String,
    pub(super) mode: Mode,
    /// The account that was chosen; the first one if there was none, or it is not shown.
    pub(super) cursor: Option<String>,
}

impl View {
    pub(super) fn new(place: String, status: Status) -> Self {
        Self {
            place,
            status,
            seen_at: Timestamp::now(),
            lost: None,
            notice: None,
            sort: Sort::State,
            is_reversed: false,
            filter: String::new(),
            mode: Mode::Table,
            cursor: None,
        }
    }

    pub(super) fn show(&mut self, status: Status, now: Timestamp) {
        self.status = status;
        self.is_unchanged(now);
    }

    /// The status is still the newest one.
    pub(super) fn is_unchanged(&mut self, now: Timestamp) {
        self.seen_at = now;
        self.lost = None;
    }

    /// The sidecar was asked in vain: the last picture stays.
    pub(super) fn is_lost(&mut self, why: &str) {
        self.lost = Some(why.to_owned());
    }

    /// Tells what came of a change.
    pub(super) fn note(&mut self, switched: Result<Account, String>) {
        self.notice = Some(switched);
    }

    /// The accounts that are shown, in the order in which they are.
    pub(super) fn rows(&self) -> Vec<&Account> {
        let filter = self.filter.to_lowercase();
        let is_wanted = |account: &&Account| {
            let reason = account.reason.as_deref().unwrap_or_default();
            let texts = [&account.email, &account.alias, &account.state, reason];
            filter.is_empty()
                || texts
                    .iter()
                    .any(|text| text.to_lowercase().contains(&filter))
        };
        let accounts = self.status.accounts.iter();
        let mut rows: Vec<_> = accounts.filter(is_wanted).collect();
        self.sort.sort(&mut rows);
        if self.is_reversed {
            rows.reverse();
        }
        rows
    }

    /// Which of the rows is chosen; `None` if there are none.
    pub(super) fn cursor_idx(&self, rows: &[&Account]) -> Option<usize> {
        let cursor = self.cursor.as_deref();
        let chosen = rows.iter().position(|row| Some(&*row.email) == cursor);
        chosen.or((!rows.is_empty()).then_some(0))
    }

    /// What the last change came to.
    pub(super) fn notice(&self) -> Option<Line> {
        Some(match self.notice.as_ref()? {
            Ok(account) => summary::switched(account),
            Err(problem) => Line::colored(Color::Red, problem),
        })
    }
}
