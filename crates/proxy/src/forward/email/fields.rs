//! A body in `application/x-www-form-urlencoded` (WHATWG URL §5.1): `email`, `maxJobs` and what it names
//! are fields of it.
//!
//! A plus sign in an e-mail is a plus sign, as in a query, and goes on as `%2B`: no e-mail of an account
//! has a space. Everywhere else it is a space, and is left as it came.

use std::borrow::Cow;

use bytes::Bytes;
use percent_encoding::{percent_decode, utf8_percent_encode};

use super::{EmailBody, EmailError, Format, Place, smaller_cap};
use crate::{kling::references::References, pool::Digest, upstream::RESERVED};

/// Most fields of a body: the upstream's largest form has some dozens, and each field costs work.
pub const FIELDS_MAX: usize = 1000;

/// Reads `bytes`.
///
/// # Errors
/// [`EmailError::TooManyFields`]; [`EmailError::GivenTwice`] or [`EmailError::NotText`] for the e-mail.
pub fn read(bytes: Bytes) -> Result<EmailBody, EmailError> {
    let body = read_once(bytes)?;
    let has_plus = bytes_at(&body).contains(&b'+');
    match body.email.as_deref().filter(|_| has_plus) {
        Some(email) => read_once(body.with_email(email).or(Err(EmailError::NotText))?),
        None => Ok(body),
    }
}

/// `email` as the value of a field.
pub(super) fn spell(email: &str) -> String {
    utf8_percent_encode(email, RESERVED).to_string()
}

/// The e-mail as the client spelled it.
fn bytes_at(body: &EmailBody) -> &[u8] {
    &body.bytes[body.place.at.clone()]
}

fn read_once(bytes: Bytes) -> Result<EmailBody, EmailError> {
    let (mut found, mut max_jobs, mut prompt) = (None, None, None);
    let mut references = References::default();
    let mut start = 0;
    for (idx, field) in bytes.split(|byte| *byte == b'&').enumerate() {
        if idx == FIELDS_MAX {
            return Err(EmailError::TooManyFields);
        }
        let end = start + field.len();
        let name_end = field.iter().position(|byte| *byte == b'=');
        let (name, value) = field.split_at(name_end.unwrap_or(field.len()));
        let value = value.strip_prefix(b"=");
        match &*decoded(name) {
            "email" => {
                let place = match value {
                    Some(value) => Place::of_value(end - value.len()..end),
                    None => insert(end, "="),
                };
                if found.replace((value.unwrap_or_default(), place)).is_some() {
                    return Err(EmailError::GivenTwice);
                }
            }
            "maxJobs" => max_jobs = smaller_cap(max_jobs, &decoded(value.unwrap_or_default())),
            "prompt" => prompt = value.map(|value| Digest::of(&decoded(value))),
            name => references.note(name, || Some(Cow::Owned(decoded(value?)))),
        }
        start = end + 1;
    }
    let (email, place) = match found {
        Some((value, place)) => {
            let email = percent_decode(value).decode_utf8();
            let email = email.or(Err(EmailError::NotText))?.into_owned();
            (Some(email).filter(|email| !email.is_empty()), place)
        }
        None if bytes.is_empty() => (None, insert(0, "email=")),
        None => (None, insert(bytes.len(), "&email=")),
    };
    Ok(EmailBody {
        format: Format::Fields,
        email,
        max_jobs,
        prompt,
        references,
        place,
        bytes,
    })
}

fn insert(at: usize, before: &str) -> Place {
    Place {
        at: at..at,
        before: before.to_owned(),
        after: "",
    }
}

/// A name or a value, where `+` is a space.
fn decoded(text: &[u8]) -> String {
    let spaced: Vec<u8> = text
        .iter()
        .map(|byte| if *byte == b'+' { b' ' } else { *byte })
        .collect();
    percent_decode(&spaced).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<EmailBody, EmailError> {
        read(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn an_email_is_found_and_put_in() {
        let cases = [
            ("", None, "email=n%40x"),
            ("prompt=a+boat", None, "prompt=a+boat&email=n%40x"),
            ("email&prompt=a", None, "email=n%40x&prompt=a"),
            ("email=&prompt=a", None, "email=n%40x&prompt=a"),
            ("email=a%40x&prompt=a", Some("a@x"), "email=n%40x&prompt=a"),
            ("p=1&%65mail=a@x", Some("a@x"), "p=1&%65mail=n%40x"),
        ];
        for (text, email, written) in cases {
            let body = read_text(text).unwrap();
            assert_eq!(body.email(), email, "{text}");
            assert_eq!(body.with_email("n@x").unwrap(), written, "{text}");
        }
    }

    #[test]
    fn a_plus_sign_in_an_email_is_one() {
        let body = read_text("prompt=a+b&email=al+ice@x").unwrap();
        assert_eq!(body.email(), Some("al+ice@x"));
        assert_eq!(body.bytes, "prompt=a+b&email=al%2Bice%40x");
    }

    #[test]
    fn caps_and_prompts_count_as_in_json() {
        let body = read_text("maxJobs=3&maxJobs=2.0&prompt=a+b%21").unwrap();
        assert_eq!(body.max_jobs().map(std::num::NonZero::get), Some(2));
        assert_eq!(body.prompt(), Some(Digest::of("a b!")));
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_refused() {
        let given_twice = read_text("email=a@x&p=1&e%6dail=a@x");
        assert_eq!(given_twice.unwrap_err(), EmailError::GivenTwice);
        assert_eq!(read_text("email=%ff").unwrap_err(), EmailError::NotText);
        assert!(read_text(&"&".repeat(FIELDS_MAX - 1)).is_ok());
        assert_eq!(
            read_text(&"&".repeat(FIELDS_MAX)).unwrap_err(),
            EmailError::TooManyFields
        );
    }
}
