//! The head of a part, read so that no parser finds another name in it.
//!
//! Parsers differ in what they make of a folded line, a bare line break, an escape in a name, a second
//! disposition and of much else. No sender needs any of these, so they are refused, in every part: one
//! that holds something else for us could be the e-mail for the upstream. What clients write into file
//! names is left alone, as long as no parser can find a name in it.

use super::{EmailError, has_ascii_charset, parameter};

/// What a head says about its part.
pub(super) struct Head {
    /// The name of the field.
    pub(super) name: String,
    /// Whether all parsers take the value for a text that is written as it is. Some take a part for a file
    /// if it has a file name or another type.
    pub(super) is_text: bool,
}

/// Reads the lines of `head`, which stand in front of the empty one.
///
/// # Errors
/// [`EmailError::PartHeader`], [`EmailError::Disposition`], [`EmailError::TransferEncoding`] or
/// [`EmailError::Nested`].
pub(super) fn read(head: &[u8]) -> Result<Head, EmailError> {
    let head = String::from_utf8_lossy(head);
    let lines = head.split("\r\n").filter(|_| !head.is_empty());
    let headers: Option<Vec<_>> = lines.map(header).collect();
    let mut found = None;
    let mut is_text = true;
    for (name, value) in headers.ok_or(EmailError::PartHeader)? {
        match &*name.to_ascii_lowercase() {
            "content-disposition" if found.is_some() => return Err(EmailError::Disposition),
            "content-disposition" => {
                found = Some(disposition(value).ok_or(EmailError::Disposition)?);
            }
            "content-transfer-encoding" if !is_identity(value) => {
                return Err(EmailError::TransferEncoding);
            }
            "content-type" if is_multipart(value) => return Err(EmailError::Nested),
            "content-type" => is_text &= is_plain_text(value),
            _ => {}
        }
    }
    let (name, has_file_name) = found.ok_or(EmailError::Disposition)?;
    is_text &= !has_file_name;
    Ok(Head { name, is_text })
}

/// Name and value of a header. `None` if `line` is not one as a whole: it is folded, has a bare line break
/// or another control character, or spaces around the name.
fn header(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(':')?;
    let is_header = !name.is_empty()
        && name.bytes().all(is_token_byte)
        && !value.contains(|it: char| it.is_ascii_control() && it != '\t');
    is_header.then(|| (name, value.trim_matches([' ', '\t'])))
}

/// The name in `value` and whether a file name follows it. `None` if `value` is anything but
/// `form-data; name=…`, where a file name may follow.
fn disposition(value: &str) -> Option<(String, bool)> {
    let separated = |text: &str| text.trim_start_matches([' ', '\t']).starts_with(';');
    let rest = value.strip_prefix("form-data").filter(|it| separated(it))?;
    let parameters = rest.trim_start_matches([' ', '\t', ';']);
    let named = parameters.strip_prefix("name=")?;
    let (name, rest) = match named.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"')?,
        None => named.split_at(named.find([';', ' ', '\t']).unwrap_or(named.len())),
    };
    // Browsers and scripts leave a backslash alone, others take it for an escape; mail software decodes
    // `=?…?=`, RFC 2047; bytes that are not UTF-8 may be dropped; PHP takes apostrophes for quotes.
    let is_plain = !name.contains(['"', '\\', char::REPLACEMENT_CHARACTER])
        && !name.contains("=?")
        && !name.starts_with('\'');
    let is_token = || {
        name.bytes()
            .all(|it| is_token_byte(it) || b"[]".contains(&it))
    };
    let file = rest.trim_start_matches([' ', '\t', ';']);
    let has_file_name = ["filename=", "filename*="]
        .iter()
        .any(|it| file.starts_with(it));
    // Some parsers look for semicolons without regard to quotes, and take the last name.
    let has_one_name = parameter::count(parameters, "name") == 1;
    let is_certain = is_plain
        && (named.starts_with('"') || is_token())
        && (rest.is_empty() || separated(rest))
        && (file.is_empty() || has_file_name)
        && has_one_name;
    is_certain.then(|| (name.to_owned(), has_file_name))
}

/// RFC 2045 §6.2: encodings that leave the bytes as they are.
fn is_identity(encoding: &str) -> bool {
    ["7bit", "8bit", "binary"]
        .iter()
        .any(|known| encoding.eq_ignore_ascii_case(known))
}

fn is_multipart(content_type: &str) -> bool {
    let start = content_type.get(..10);
    start.is_some_and(|start| start.eq_ignore_ascii_case("multipart/"))
}

fn is_plain_text(content_type: &str) -> bool {
    let (media, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    media.trim().eq_ignore_ascii_case("text/plain") && has_ascii_charset(parameters)
}

/// RFC 9110 §5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_in(head: &str) -> Result<(String, bool), EmailError> {
        read(head.as_bytes()).map(|head| (head.name, head.is_text))
    }

    #[test]
    fn what_clients_send_is_read() {
        let cases = [
            // curl, browsers, Node, Python, Go, okhttp.
            (r#"Content-Disposition: form-data; name="email""#, true),
            // .NET quotes no names.
            (
                "Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name=email",
                true,
            ),
            // Apache's client for Java.
            (
                "Content-Disposition: form-data; name=\"email\"\r\nContent-Type: text/plain; \
                 charset=ISO-8859-1\r\nContent-Transfer-Encoding: 8bit",
                true,
            ),
            // Guzzle.
            (
                "Content-Disposition: form-data; name=\"email\"\r\nContent-Length: 3",
                true,
            ),
            ("content-disposition:form-data;name=\"email\" ; ", true),
            ("CONTENT-DISPOSITION:\tform-data ;\tname=email;", true),
            (
                r#"Content-Disposition: form-data; name="email"; filename="a.png""#,
                false,
            ),
            // form-data of Node leaves quotes alone, and browsers of old send a path.
            (
                r#"Content-Disposition: form-data; name="email"; filename="a"b; c.png""#,
                false,
            ),
            (
                r#"Content-Disposition: form-data; name="email"; filename="C:\a\""#,
                false,
            ),
            // requests, where a file name is not ASCII, and .NET with both.
            (
                "Content-Disposition: form-data; name=\"email\"; filename*=utf-8''%C3%A9",
                false,
            ),
            (
                "Content-Disposition: form-data; name=email; filename=a.png; filename*=utf-8''a.png",
                false,
            ),
            (
                "Content-Disposition: form-data; name=\"email\"\r\nContent-Type: image/png",
                false,
            ),
            (
                "Content-Type: text/plain; charset=utf-16\r\nContent-Disposition: form-data; name=email",
                false,
            ),
            (
                "Content-Type: text/plain\r\nContent-Disposition: form-data; name=email\r\n\
                 Content-Type: application/octet-stream",
                false,
            ),
        ];
        for (head, is_text) in cases {
            assert_eq!(name_in(head), Ok(("email".to_owned(), is_text)), "{head}");
        }
        let brackets = "Content-Disposition: form-data; name=images[0]";
        assert_eq!(name_in(brackets), Ok(("images[0]".to_owned(), true)));
        let latin1 = b"Content-Disposition: form-data; name=\"image\"; filename=\"\xe9\"";
        assert_eq!(read(latin1).map(|head| head.name).as_deref(), Ok("image"));
    }

    #[test]
    fn a_disposition_that_parsers_read_differently_is_refused() {
        let latin1 = read(b"Content-Disposition: form-data; name=\"ema\xffil\"");
        assert_eq!(latin1.err(), Some(EmailError::Disposition));
        for value in [
            "form-data",
            "form-data;",
            "form-data name=email",
            r#"form-data; filename="email""#,
            r#"form-data; filename="email"; name="prompt""#,
            r#"attachment; name="email""#,
            r#"Form-Data; name="email""#,
            "form-data; NAME=email",
            r#"form-data; name = "email""#,
            r#"form-data; name="email"; x=y"#,
            r#"form-data; x=y; name="email""#,
            r#"form-data; name="email"filename="a""#,
            r#"form-data; name="email"#,
            r#"form-data; name="e\mail""#,
            r#"form-data; name="email\"""#,
            "form-data; name=e\\mail",
            "form-data; name=(c)email",
            "form-data; name='email'",
            "form-data; name='email' x",
            "form-data; name=\"=?utf-8?B?ZW1haWw=?=\"",
            "form-data; name*=utf-8''email",
            "form-data; name=\"prompt\"; name*=utf-8''email",
            "form-data; name*0=em; name*1=ail",
            "form-data; name=prompt; name=email",
            r#"form-data; name="prompt"; filename="a"; Name ="email""#,
            r#"form-data; name="prompt"; filename="a; name=email""#,
            r#"form-data; name="prompt"; filename*=utf-8''a; name*0="email""#,
        ] {
            let head = format!("Content-Disposition: {value}");
            assert_eq!(name_in(&head), Err(EmailError::Disposition), "{head:?}");
        }
    }

    #[test]
    fn lines_that_parsers_read_differently_are_refused() {
        use EmailError::{Disposition, Nested, PartHeader, TransferEncoding};
        let good = r#"Content-Disposition: form-data; name="email""#;
        let lines = [
            ("", Disposition),
            ("Content-Type: text/plain", Disposition),
            ("Content-Disposition : form-data; name=email", PartHeader),
            (" Content-Disposition: form-data; name=email", PartHeader),
            ("Content-Disposition: form-data;\r\n name=email", PartHeader),
            (
                "Content-Disposition: form-data;\r\n\tname=email",
                PartHeader,
            ),
            (
                "Content-Disposition: form-data; name=email\nX: y",
                PartHeader,
            ),
            (
                "Content-Disposition: form-data; name=email\rX: y",
                PartHeader,
            ),
            (
                "Content-Disposition: form-data; name=\"email\0x\"",
                PartHeader,
            ),
            (
                "Content-Disposition: form-data; name=\"ema\x08il\"",
                PartHeader,
            ),
        ];
        let added = [
            (good, Disposition),
            ("no header", PartHeader),
            (": no name", PartHeader),
            ("X: y\r\n", PartHeader),
            ("Content-Transfer-Encoding: base64", TransferEncoding),
            (
                "Content-transfer-encoding: Quoted-Printable",
                TransferEncoding,
            ),
            ("Content-Transfer-Encoding:", TransferEncoding),
            (
                "Content-Transfer-Encoding: 8bit\r\nContent-Transfer-Encoding: base64",
                TransferEncoding,
            ),
            ("Content-Type: Multipart/mixed; boundary=y", Nested),
        ];
        let lines = lines.map(|(head, error)| (head.to_owned(), error));
        let added = added.map(|(line, error)| (format!("{good}\r\n{line}"), error));
        for (head, error) in lines.into_iter().chain(added) {
            assert_eq!(name_in(&head), Err(error), "{head:?}");
        }
    }
}
