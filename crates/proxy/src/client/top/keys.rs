//! What keys do.

use crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers};

use super::view::{Mode, View};

/// Rows that a page of accounts has, for the keys that turn pages.
const PAGE_ROWS: isize = 10;
/// The longest filter: more does not fit beside its name.
const FILTER_CHARS_MAX: usize = 60;

/// What an operator does to an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::client) enum Switch {
    Drain,
    Resume,
}

impl Switch {
    /// As it stands in a path.
    pub(in crate::client) fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Resume => "resume",
        }
    }

    /// What comes of it.
    pub(super) fn effect(self) -> &'static str {
        match self {
            Self::Drain => "it gets no new jobs; those that run go on",
            Self::Resume => "it gets jobs again: a drain, a rest, a quarantine or parking ends",
        }
    }
}

/// What a key asks for beyond the picture.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Quit,
    Switch(Switch, String),
}

/// The keys, as `?` shows them.
pub(super) const HELP: [(&str, &str); 9] = [
    ("up, down, page up, page down", "choose an account"),
    ("home, end", "choose the first one, the last one"),
    ("s", "sort by the next column"),
    ("r", "reverse the order"),
    (
        "/",
        "show only accounts whose name, alias, state or reason has a text",
    ),
    ("d", "drain the chosen account, after a question"),
    ("e", "resume the chosen account, after a question"),
    ("? or h", "show these keys, or the accounts again"),
    ("q, Ctrl-C", "quit"),
];

impl View {
    /// Does what a key says. Returns what is left to do.
    pub(super) fn take_event(&mut self, event: &Event) -> Option<Wish> {
        let Event::Key(key) = event else {
            return None; // The next picture has the new size.
        };
        if key.kind == KeyEventKind::Release {
            return None;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return (key.code == KeyCode::Char('c')).then_some(Wish::Quit);
        }
        match std::mem::replace(&mut self.mode, Mode::Table) {
            Mode::Table => self.on_key(key.code),
            Mode::Help => (key.code == KeyCode::Char('q')).then_some(Wish::Quit),
            Mode::Filter => {
                self.on_filter_key(key.code);
                None
            }
            Mode::Confirm(switch, email) => {
                let is_meant = matches!(key.code, KeyCode::Char('y' | 'Y'));
                is_meant.then_some(Wish::Switch(switch, email))
            }
        }
    }

    fn on_key(&mut self, key: KeyCode) -> Option<Wish> {
        self.notice = None;
        #[expect(clippy::wildcard_enum_match_arm, reason = "most keys do nothing")]
        match key {
            KeyCode::Char('q') => return Some(Wish::Quit),
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('r') => self.is_reversed ^= true,
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Char('?' | 'h') => self.mode = Mode::Help,
            KeyCode::Char('d') => self.ask(Switch::Drain),
            KeyCode::Char('e') => self.ask(Switch::Resume),
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Up | KeyCode::Char('k') => self.move_cursor(-1),
            KeyCode::Down | KeyCode::Char('j') => self.move_cursor(1),
            KeyCode::PageUp => self.move_cursor(-PAGE_ROWS),
            KeyCode::PageDown => self.move_cursor(PAGE_ROWS),
            KeyCode::Home => self.move_cursor(isize::MIN),
            KeyCode::End => self.move_cursor(isize::MAX),
            _ => {}
        }
        None
    }

    fn on_filter_key(&mut self, key: KeyCode) {
        #[expect(clippy::wildcard_enum_match_arm, reason = "most keys do nothing")]
        match key {
            KeyCode::Enter => return,
            KeyCode::Esc => return self.filter.clear(),
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(c) if self.filter.chars().count() < FILTER_CHARS_MAX => {
                self.filter.push(c);
            }
            _ => {}
        }
        self.mode = Mode::Filter;
    }

    fn ask(&mut self, switch: Switch) {
        let rows = self.rows();
        if let Some(account) = self.cursor_idx(&rows).map(|idx| rows[idx]) {
            self.mode = Mode::Confirm(switch, account.email.clone());
        }
    }

    fn move_cursor(&mut self, rows_down: isize) {
        let rows = self.rows();
        let Some(idx) = self.cursor_idx(&rows) else {
            return;
        };
        let idx = idx.saturating_add_signed(rows_down).min(rows.len() - 1);
        self.cursor = Some(rows[idx].email.clone());
    }
}
