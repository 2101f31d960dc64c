//! Lines with colours, and tables of them.

use std::fmt::Write;

use super::text::{cut, shown, width};

/// Between two columns of a table.
const GAP: &str = "  ";

/// A colour, as its ANSI parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    /// For what is wrong.
    Red = 31,
    /// For what is well.
    Green = 32,
    /// For what will be well by itself.
    Yellow = 33,
    /// For what explains.
    Grey = 90,
    /// For where the cursor is.
    Reversed = 7,
}

impl Color {
    /// The colour of an account in this state.
    pub fn of_state(state: &str) -> Self {
        match state {
            "available" => Self::Green,
            "full" | "cooling" | "draining" => Self::Yellow,
            _ => Self::Red,
        }
    }
}

/// A line of text, parts of which have colours. It holds nothing that a terminal would obey.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    parts: Vec<(Option<Color>, String)>,
}

impl Line {
    /// An empty line.
    pub fn new() -> Self {
        Self::default()
    }

    /// A line of one colour.
    pub fn colored(color: Color, text: &str) -> Self {
        Self::new().and_colored(color, text)
    }

    /// The line with a text at its end.
    #[must_use]
    pub fn and(mut self, text: &str) -> Self {
        self.parts.push((None, shown(text).into_owned()));
        self
    }

    /// The line with a text of this colour at its end.
    #[must_use]
    pub fn and_colored(mut self, color: Color, text: &str) -> Self {
        self.parts.push((Some(color), shown(text).into_owned()));
        self
    }

    /// The line with another one at its end.
    #[must_use]
    pub fn and_line(mut self, line: Self) -> Self {
        self.parts.extend(line.parts);
        self
    }

    /// The whole line in one colour.
    #[must_use]
    pub fn all_colored(mut self, color: Color) -> Self {
        for (part, _) in &mut self.parts {
            *part = Some(color);
        }
        self
    }

    /// How many columns of a terminal it takes.
    pub fn width(&self) -> usize {
        self.parts.iter().map(|(_, text)| width(text)).sum()
    }

    /// As much of its beginning as fits into so many columns.
    #[must_use]
    pub fn cut(mut self, columns: usize) -> Self {
        let mut room = columns;
        if self.width() > columns {
            self.parts.retain_mut(|(_, text)| {
                let whole = width(text);
                // Where the next part begins beyond the edge, this one has to say so.
                let kept = if whole == room {
                    cut(&format!("{text}  "), room).into_owned()
                } else {
                    cut(text, room).into_owned()
                };
                *text = kept;
                room = room.saturating_sub(whole);
                !text.is_empty()
            });
        }
        self
    }

    /// The line as it is written, without its end.
    pub fn written(&self, is_colored: bool) -> String {
        let mut line = String::new();
        for (color, text) in &self.parts {
            match color {
                Some(color) if is_colored => {
                    // Writing to a string cannot fail.
                    let _written = write!(line, "\x1b[{}m{text}\x1b[0m", *color as u8);
                }
                Some(_) | None => line.push_str(text),
            }
        }
        line
    }
}

impl From<&str> for Line {
    fn from(text: &str) -> Self {
        Self::new().and(text)
    }
}

impl From<String> for Line {
    fn from(text: String) -> Self {
        Self::from(&*text)
    }
}

/// Lines as they are written, with a line break between two of them, and no spaces at their ends.
pub fn written(lines: &[Line], is_colored: bool) -> String {
    let lines = lines.iter().map(|line| line.written(is_colored));
    let lines: Vec<_> = lines.map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// Rows of cells, in columns as wide as their widest cell, two spaces apart.
pub fn table(rows: Vec<Vec<Line>>) -> Vec<Line> {
    let mut widths = Vec::new();
    for row in &rows {
        widths.resize(row.len().max(widths.len()), 0);
        for (column, cell) in widths.iter_mut().zip(row) {
            *column = cell.width().max(*column);
        }
    }
    let row = |cells: Vec<Line>| {
        let mut line = Line::new();
        let mut gap = 0;
        for (cell, column) in cells.into_iter().zip(&widths) {
            let missing = column - cell.width();
            line = line.and(&" ".repeat(gap)).and_line(cell);
            gap = missing + GAP.len();
        }
        line
    };
    rows.into_iter().map(row).collect()
}

/// A bar of cells, so many of each kind. One that is longer than `cells_max` is scaled down to it; what is there at all
/// keeps a cell.
pub fn bar(kinds: &[(&str, usize)], cells_max: usize) -> String {
    let whole: usize = kinds.iter().map(|(_, count)| count).sum();
    if whole <= cells_max {
        return kinds
            .iter()
            .map(|(cell, count)| cell.repeat(*count))
            .collect();
    }
    let mut counts: Vec<_> = kinds
        .iter()
        .map(|(_, count)| match count {
            0 => 0,
            count => (count * cells_max / whole).max(1),
        })
        .collect();
    // Rounding is at the cost of the longest.
    let sum: usize = counts.iter().sum();
    if let Some(longest) = counts.iter_mut().max() {
        *longest = (*longest + cells_max).saturating_sub(sum).max(1);
    }
    let cells = kinds.iter().zip(counts);
    cells.map(|((cell, _), count)| cell.repeat(count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_what_is_seen_of_them() {
        let rows = [
            vec![
                Line::from("名前"),
                Line::colored(Color::Red, "x"),
                "".into(),
            ],
            vec!["e\u{301}".into(), "long".into(), "end".into()],
        ];
        let lines = table(rows.into());
        assert_eq!(written(&lines, false), "名前  x\ne\u{301}     long  end");
        assert!(written(&lines, true).contains("\x1b[31mx\x1b[0m"));
    }

    #[test]
    fn no_cell_holds_what_a_terminal_would_obey() {
        let line = Line::from("a\x1b[2J\nb").and_colored(Color::Red, "\u{9b}2J");
        let written = line.written(false);
        assert_eq!(written, "a\\u{1b}[2J\\nb\\u{9b}2J");
    }

    #[test]
    fn a_line_is_cut_across_its_parts() {
        let line = Line::from("abc").and_colored(Color::Red, "def").and("ghi");
        for (columns, expected) in [
            (9, "abcdefghi"),
            (8, "abcdefg…"),
            (6, "abcde…"),
            (5, "abcd…"),
            (3, "ab…"),
            (0, ""),
        ] {
            assert_eq!(line.clone().cut(columns).written(false), expected);
        }
    }

    #[test]
    fn a_bar_has_a_cell_for_each_slot_or_for_each_share() {
        let bar = |held, foreign, free| bar(&[("#", held), ("+", foreign), (".", free)], 10);
        assert_eq!(bar(2, 1, 3), "##+...");
        assert_eq!(bar(50, 0, 50), "#####.....");
        assert_eq!(bar(1, 0, 99), "#.........");
        assert_eq!(bar(99, 1, 0), "#########+");
        assert_eq!(bar(33, 33, 33).len(), 10);
    }
}
