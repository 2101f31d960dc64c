//! A body in `application/x-www-form-urlencoded` (WHATWG URL §5.1): `email`, `maxJobs` and what it names
//! are fields of it.
//!
//! A plus sign in an e-mail is a plus sign, as in a query, and goes on as `%2B`: no e-mail of an account
//! has a space. Everywhere else it is a space, and is left as it came.

use bytes::Bytes;

use super::{CHARSET, EmailBody, EmailError, Format, is_like_ascii, query, smaller_cap};
use crate::{kling::references::References, pool::Digest};

/// Most fields of a body: the upstream's largest form has some dozens, and each field costs work.
pub const FIELDS_MAX: usize = 1000;

/// Reads `bytes`.
///
/// # Errors
/// [`EmailError::TooManyFields`], [`EmailError::Charset`]; as of a query for the e-mail.
pub fn read(bytes: Bytes) -> Result<EmailBody, EmailError> {
    if bytes.split(|byte| *byte == b'&').count() > FIELDS_MAX {
        return Err(EmailError::TooManyFields);
    }
    let (email, place) = query::email_in(&bytes)?;
    let cut = query::email_cut(&bytes);
    let (mut max_jobs, mut prompt) = (None, None);
    let mut references = References::default();
    for (name, value) in form_urlencoded::parse(&bytes) {
        match &*name {
            "email" => {}
            CHARSET if !is_like_ascii(&value) => return Err(EmailError::Charset),
            "maxJobs" => max_jobs = smaller_cap(max_jobs, &value),
            "prompt" => prompt = Some(Digest::of(&value)),
            name => references.note(name.as_bytes(), || Some(value)),
        }
    }
    let body = EmailBody {
        format: Format::Fields,
        email,
        max_jobs,
        prompt,
        references,
        has_reply: false,
        place,
        cut,
        bytes,
    };
    match body.email() {
        Some(email) if body.bytes[body.place.at.clone()].contains(&b'+') => {
            read(body.with_email(email).or(Err(EmailError::NotText))?)
        }
        Some(_) | None => Ok(body),
    }
}

/// Refuses JSON that has an e-mail to those who read it as a form, as its type says.
///
/// # Errors
/// [`EmailError::JsonAndForm`].
pub fn refuse_in_json(bytes: &[u8]) -> Result<(), EmailError> {
    match query::email_in(bytes) {
        Ok((None, _)) => Ok(()),
        Ok((Some(_), _)) | Err(_) => Err(EmailError::JsonAndForm),
    }
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
        let nearly = read_text("prompt=p&email[]=a@x").unwrap_err();
        assert_eq!(nearly, EmailError::NearlyEmail);
        let charset = read_text("_charset_=utf-16&email=a@x").unwrap_err();
        assert_eq!(charset, EmailError::Charset);
        assert!(read_text("_charset_=UTF-8&email=a@x").is_ok());
        assert!(read_text(&"&".repeat(FIELDS_MAX - 1)).is_ok());
        assert_eq!(
            read_text(&"&".repeat(FIELDS_MAX)).unwrap_err(),
            EmailError::TooManyFields
        );
    }

    #[test]
    fn json_that_is_no_form_with_an_email_passes() {
        for (json, is_fine) in [
            (r#"{"email":"a@x","prompt":"p"}"#, true),
            (r#"{"prompt":"a & b; c=1&x=2"}"#, true),
            (r#"{"prompt":"a&email="}"#, false),
            (r#"{"prompt":"&email=b@x"}"#, false),
            (r#"{"prompt":"x&email[]=b@x"}"#, false),
            (r#"{"prompt":"x;email=b@x"}"#, false),
        ] {
            let refusal = refuse_in_json(json.as_bytes()).err();
            assert_eq!(
                refusal,
                (!is_fine).then_some(EmailError::JsonAndForm),
                "{json}"
            );
        }
    }
}
