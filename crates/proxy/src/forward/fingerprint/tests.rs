//! Which calls are equal: known fingerprints, and those of random bodies.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use proptest::prelude::*;

use super::*;
use crate::forward::{
    buffered::{media, read_as},
    email::query,
};

const JSON: &str = "application/json";
const FIELDS: &str = "application/x-www-form-urlencoded";

/// The fingerprint of a job start. `None` if its body is refused.
fn of(query: &str, content_type: &str, body: &[u8], ignores_email: bool) -> Option<Fingerprint> {
    let mut headers = HeaderMap::new();
    let content_type = HeaderValue::from_str(content_type).unwrap();
    headers.insert(header::CONTENT_TYPE, content_type);
    let media = media(&headers).unwrap();
    let body = read_as(&media, Bytes::copy_from_slice(body)).ok()?;
    let query = query::read(Some(query)).unwrap();
    let hashing = fingerprint("/videos/text2video", &query, &body, ignores_email);
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    Some(runtime.unwrap().block_on(hashing))
}

fn json(body: &str, ignores_email: bool) -> Fingerprint {
    of("", JSON, body.as_bytes(), ignores_email).unwrap()
}

/// A multipart body of parts with these names and values, and its type.
fn form(boundary: &str, parts: &[(&str, &[u8])]) -> (String, Vec<u8>) {
    let mut body = Vec::new();
    for (name, value) in parts {
        let head =
            format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(value);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    (format!("multipart/form-data; boundary={boundary}"), body)
}

fn of_form(boundary: &str, parts: &[(&str, &[u8])], ignores_email: bool) -> Option<Fingerprint> {
    let (content_type, body) = form(boundary, parts);
    of("", &content_type, &body, ignores_email)
}

/// They stand in the books of sidecars that run: a change of the rules loses what these are about. The digits were
/// made with hashlib and struct of Python: a length of eight bytes, the lowest first, in front of each field.
#[test]
fn calls_have_the_fingerprints_that_earlier_versions_gave_them() {
    let text = r#"{"prompt": "a boat", "email":"a@x"}"#;
    let parts: [(&str, &[u8]); 2] = [("email", b"a@x"), ("prompt", b"a boat")];
    let known = [
        (
            json(text, false),
            "56556fb91a49fca341588a6e5733b8f7879e95476cd4ad10327a6957343a4bce",
        ),
        (
            json(text, true),
            "4ced61a861537e03eb2b324baa14a2342462f197d394cb14e41cefd5bb9638f5",
        ),
        (
            of("a=1", FIELDS, b"prompt=a+boat", false).unwrap(),
            "32f06c79af6228fabe70b3294e2b6ea44d0d857540b3c57c2b41d63d80ab6a60",
        ),
        (
            of_form("b", &parts, false).unwrap(),
            "9f1afcf9626b1fb606af00806a9fc54368ef81d83da461549441eef16fa4e2c2",
        ),
        (
            of_form("b", &parts, true).unwrap(),
            "31dc6254e3fc71faa9bc5909c6aca372f512667f6fb40c143a226121c30594ed",
        ),
    ];
    for (fingerprint, digits) in known {
        assert_eq!(fingerprint.to_string(), digits);
    }
}

#[test]
fn a_byte_order_mark_does_not_matter() {
    let body = r#"{"prompt":"a boat"}"#;
    assert_eq!(json(&format!("\u{feff}{body}"), false), json(body, false));
}

#[test]
fn the_email_matters_unless_it_counts_as_absent() {
    let of_email = |email: &str, ignores_email| {
        let in_json = format!(r#"{{"email":{email},"prompt":"p"}}"#);
        let email = email.trim_matches('"').replace("null", "");
        let in_query = format!("email={email}&a=1");
        let in_fields = format!("a=1&email={email}");
        let parts: [(&str, &[u8]); 2] = [("prompt", b"p"), ("email", email.as_bytes())];
        [
            json(&in_json, ignores_email),
            of(&in_query, JSON, b"{}", ignores_email).unwrap(),
            of("", FIELDS, in_fields.as_bytes(), ignores_email).unwrap(),
            of_form("b", &parts, ignores_email).unwrap(),
        ]
    };
    let without = [
        json(r#"{"prompt":"p"}"#, true),
        of("a=1", JSON, b"{}", true).unwrap(),
        of("", FIELDS, b"a=1", true).unwrap(),
        of_form("b", &[("prompt", b"p")], true).unwrap(),
    ];
    for email in [r#""a@x""#, r#""b@x""#, r#""""#, "null"] {
        let ignored = of_email(email, true);
        assert_eq!(ignored[0], without[0], "{email}");
        // Where a query has its e-mail does matter.
        assert_eq!(ignored[1], of_email(r#""a@x""#, true)[1], "{email}");
        assert_eq!(ignored[2..], without[2..], "{email}");
    }
    for (one, other) in of_email(r#""a@x""#, false)
        .iter()
        .zip(of_email(r#""b@x""#, false))
    {
        assert_ne!(*one, other);
    }
}

#[test]
fn a_value_that_looks_like_a_part_is_none() {
    let head = "Content-Disposition: form-data; name=\"a\"\r\n\r\n";
    let value = format!("x{head}y");
    let one = of_form("b", &[("a", value.as_bytes())], false).unwrap();
    let two = of_form("b", &[("a", b"x"), ("a", b"y")], false).unwrap();
    assert_ne!(one, two);
}

#[test]
fn a_large_body_lets_other_calls_have_their_turn() {
    use std::{
        pin::pin,
        task::{Context, Waker},
    };
    let text = format!(r#"{{"prompt":"{}"}}"#, "x".repeat(10 * HASHED_AT_ONCE));
    let body = crate::forward::email::json::read(text.into()).unwrap();
    let query = query::read(None).unwrap();
    let mut hashing = pin!(fingerprint("/v", &query, &body, false));
    let mut cx = Context::from_waker(Waker::noop());
    let mut polls_count = 1;
    while hashing.as_mut().poll(&mut cx).is_pending() {
        polls_count += 1;
    }
    assert_eq!(polls_count, 11);
}

/// Values that look like what stands between them, and like each other.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec!["a", "b", "--", "\r\n", "AB", "CD", ":", "\"", "\0"]);
    prop::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat().into_bytes())
}

type Parts = Vec<(&'static str, Vec<u8>)>;

fn parts() -> impl Strategy<Value = Parts> {
    let name = prop::sample::select(vec!["prompt", "image", "a"]);
    prop::collection::vec((name, value()), 0..4)
}

fn of_parts(boundary: &str, parts: &Parts, ignores_email: bool) -> Option<Fingerprint> {
    let parts: Vec<_> = parts
        .iter()
        .map(|(name, value)| (*name, &**value))
        .collect();
    of_form(boundary, &parts, ignores_email)
}

proptest! {
    #[test]
    fn forms_are_equal_if_their_parts_are(
        one in parts(),
        other in parts(),
        email_at in any::<prop::sample::Index>(),
    ) {
        // Values may hold the boundary, or end in a part of it.
        let fingerprints = ["AB", "CD"].map(|it| (of_parts(it, &one, false), of_parts(it, &other, false)));
        for (first, _) in &fingerprints {
            for (_, second) in &fingerprints {
                if let (Some(first), Some(second)) = (first, second) {
                    prop_assert_eq!(first == second, one == other);
                }
            }
        }
        let mut with_email = one.clone();
        with_email.insert(email_at.index(one.len() + 1), ("email", b"a@x".to_vec()));
        let of_both = (of_parts("E", &one, true), of_parts("F", &with_email, true));
        prop_assert_eq!(of_both.0, of_both.1);
        prop_assert_ne!(of_parts("E", &one, false), of_parts("E", &with_email, false));
    }

    #[test]
    fn json_is_equal_if_its_bytes_are(one in "[ab\" ]{0,3}", other in "[ab\" ]{0,3}", third in "[ab]{0,3}") {
        let body = |prompt: &str, email: &str| {
            let (prompt, email) = (prompt.replace('"', "\\\""), email.replace('"', "\\\""));
            format!(r#"{{"prompt":"{prompt}","email":"{email}"}}"#)
        };
        let respected = json(&body(&one, &other), false) == json(&body(&other, &third), false);
        prop_assert_eq!(respected, one == other && other == third);
        let ignored = json(&body(&one, &other), true) == json(&body(&other, &third), true);
        prop_assert_eq!(ignored, one == other);
    }
}
