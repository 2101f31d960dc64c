//! Parameters of `Content-Type`, and how many there are of a name.

use crate::forward::email::is_like_ascii;

/// The first parameter `wanted` in `text`, such as `a=token; b="quoted \" string"`.
///
/// Names ignore case. Tokens may hold any character but a semicolon, since clients write
/// boundaries with `=` and `/` unquoted. Only `\"` and `\\` are escapes: browsers leave a backslash
/// as it is, and write a quote as `%22`, which is not decoded. The form `wanted*=…` (RFC 8187) is
/// another parameter, as RFC 7578 §4.2 demands.
pub(super) fn parameter(text: &str, wanted: &str) -> Option<String> {
    let mut rest = text;
    loop {
        let (names, after) = rest.split_once('=')?;
        let name = names.rsplit(';').next().unwrap_or_default().trim();
        let (value, left) = value(after.trim_start())?;
        if name.eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = left;
    }
}

/// Whether ASCII bytes mean the same in the charset that `parameters` name, if any, as in UTF-8.
#[must_use]
pub fn has_ascii_charset(parameters: &str) -> bool {
    match count(parameters, "charset") {
        0 => true,
        1 => parameter(parameters, "charset").is_some_and(|charset| is_like_ascii(&charset)),
        _ => false,
    }
}

/// How often a parser that knows no quotes finds the parameter `wanted` in `text`, also in the pieces and
/// the encoding of RFC 2231 (`wanted*=…`, `wanted*0=…`).
pub(super) fn count(text: &str, wanted: &str) -> usize {
    let is_wanted = |piece: &&str| {
        let piece = piece.trim();
        let name = piece.get(..wanted.len());
        let rest = piece.get(wanted.len()..).unwrap_or_default().trim_start();
        name.is_some_and(|name| name.eq_ignore_ascii_case(wanted)) && rest.starts_with(['=', '*'])
    };
    text.split(';').filter(is_wanted).count()
}

/// The value that `text` starts with, and what follows. A quote without an end is no value.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (token, left) = text.split_at(text.find(';').unwrap_or(text.len()));
        return Some((token.trim_end().to_owned(), left));
    };
    let mut value = String::new();
    let mut rest = quoted;
    loop {
        let (plain, special) = rest.split_at(rest.find(['"', '\\'])?);
        value.push_str(plain);
        if let Some(left) = special.strip_prefix('"') {
            return Some((value, left));
        }
        let is_escape = special.starts_with(r#"\""#) || special.starts_with(r"\\");
        let (character, left) = special[usize::from(is_escape)..].split_at(1);
        value.push_str(character);
        rest = left;
    }
}

#[cfg(test)]
mod tests {
    use super::{count, parameter};

    #[test]
    fn reads_tokens_and_quoted_strings() {
        let cases = [
            ("name=email", Some("email")),
            (" NAME = email ; x=y", Some("email")),
            (r#"name="email""#, Some("email")),
            (r#"filename="; name=x"; name="email""#, Some("email")),
            (r#"filename="a\"; name=x"; name=email"#, Some("email")),
            (r#"name="a\"b\\c\d%22""#, Some(r#"a"b\c\d%22"#)),
            ("flag; name=email", Some("email")),
            ("name=a; name=b", Some("a")),
            ("name=", Some("")),
            (r#"name="""#, Some("")),
            ("name=a/b=c", Some("a/b=c")),
            ("name*=UTF-8''email", None),
            ("filename=email", None),
            ("name", None),
            (r#"name="email"#, None),
            (r#"name="email\"#, None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parameter(text, "name").as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn counts_what_a_parser_without_quotes_finds() {
        for (text, expected) in [
            ("", 0),
            ("name", 0),
            ("name=a", 1),
            (" Name =a; filename=name=b", 1),
            ("filename=a", 0),
            ("name=a;NAME*=b", 2),
            (r#"filename="a; name=b"; name*0=c"#, 2),
        ] {
            assert_eq!(count(text, "name"), expected, "{text}");
        }
    }
}
