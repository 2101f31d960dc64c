//! What a text looks like on a terminal.

use std::{borrow::Cow, fmt::Write};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Whether a terminal would obey it, or show the text around it in another order.
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// The text with everything that a terminal would obey written as an escape, line breaks and tabs included.
pub fn shown(text: &str) -> Cow<'_, str> {
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_obeyed(c) {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// The same JSON, in which what a terminal would obey is an escape of JSON. Only strings can hold such characters, white
/// space aside.
pub(crate) fn shown_json(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        if is_obeyed(c) && !matches!(c, '\n' | '\r' | '\t') {
            // All of them are below U+10000.
            let _written = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// How many columns of a terminal it takes.
pub fn width(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// As much of its beginning as fits into so many columns, with `…` at the end if that is not all.
pub fn cut(text: &str, columns: usize) -> Cow<'_, str> {
    if width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let Some(room) = columns.checked_sub(1) else {
        return Cow::Borrowed("");
    };
    let mut taken = 0;
    let kept = text.chars().take_while(|c| {
        taken += c.width().unwrap_or(0);
        taken <= room
    });
    Cow::Owned(kept.chain(['…']).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_an_escape() {
        assert_eq!(shown("a@x ü 名"), "a@x ü 名");
        let text = "\x1b[2J\x07\r\n\t\x7f\u{9b}1m\u{202e}";
        let escaped = "\\u{1b}[2J\\u{7}\\r\\n\\t\\u{7f}\\u{9b}1m\\u{202e}";
        assert_eq!(shown(text), escaped);
    }

    #[test]
    fn json_stays_what_it_says() {
        let value = serde_json::json!({"a\u{7f}": "\u{9b}2J \u{202e} \x1b ü"});
        let shown = shown_json(&value.to_string());
        assert!(!shown.contains(is_obeyed), "{shown}");
        let read: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(read, value);
    }

    #[test]
    fn a_text_is_cut_where_the_columns_end() {
        for (text, columns, expected) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("名前名", 6, "名前名"),
            ("名前名", 5, "名前…"),
            // Half of a wide character cannot be shown.
            ("名前名", 4, "名…"),
            ("abc", 1, "…"),
            ("abc", 0, ""),
        ] {
            assert_eq!(cut(text, columns), expected);
            assert!(width(expected) <= columns);
        }
    }
}
