//! Text for terminals: what is written to one, and a screen that is drawn over and over.
//!
//! A [`Line`] holds nothing that a terminal would obey, whatever it was made of: names, reasons and messages come
//! from outside.

mod line;
mod screen;
mod text;

use std::{
    env,
    io::{IsTerminal, stdout},
};

pub use line::{Color, Line, bar, table, written};
pub use screen::Screen;
pub(crate) use text::shown_json;
pub use text::{cut, shown, width};

/// What standard output can do.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Whether it is a terminal whose cursor can be moved.
    pub is_live: bool,
    /// Whether it shows colours: unless `NO_COLOR` is set, <https://no-color.org>.
    pub is_colored: bool,
}

impl Output {
    /// Looks at standard output and the environment.
    pub fn new() -> Self {
        let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = env::var_os("TERM").is_none_or(|term| term == "dumb");
        let is_live = stdout().is_terminal() && !is_dumb;
        let is_colored = is_live && !is_set("NO_COLOR");
        Self {
            is_live,
            is_colored,
        }
    }
}

impl Default for Output {
    fn default() -> Self {
        Self::new()
    }
}

/// Columns as wide as their widest cell, two spaces apart.
pub(crate) fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let rows = rows.iter();
    let rows = rows.map(|row| row.iter().map(|cell| Line::from(&**cell)).collect());
    written(&table(rows.collect()), false)
}
