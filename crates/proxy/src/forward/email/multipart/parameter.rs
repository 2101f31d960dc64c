//! Parameters of `Content-Type` and `Content-Disposition`.

/// The first parameter `wanted` in `text`, such as `a=token; b="quoted \" string"`.
///
/// Names ignore case. Tokens may hold any character but a semicolon, since clients write
/// boundaries with `=` and `/` unquoted. Only `\"` and `\\` are escapes: browsers leave a backslash
/// as it is, and write a quote as `%22`, which is not decoded. The form `wanted*=…` (RFC 8187) is
/// another parameter, as RFC 7578 §4.2 demands.
#[must_use]
pub fn parameter(text: &str, wanted: &str) -> Option<String> {
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
    use super::parameter;

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
}
