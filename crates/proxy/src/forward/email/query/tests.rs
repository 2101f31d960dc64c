use proptest::prelude::*;

use super::*;

const EMAIL: &str = "a+b@exämple.com";
const SPELLED: &str = "a%2Bb%40ex%C3%A4mple.com";

#[test]
fn an_absent_or_empty_email_is_filled_and_nothing_else_changes() {
    let cases = [
        (None, "email=#"),
        (Some(""), "email=#"),
        (Some("a=1"), "a=1&email=#"),
        (Some("a=1&"), "a=1&&email=#"),
        (Some("&&=&a=%zz+%2B&é"), "&&=&a=%zz+%2B&é&email=#"),
        (Some("email"), "email=#"),
        (Some("email="), "email=#"),
        (Some("a&email&b=1"), "a&email=#&b=1"),
        (Some("a&%65mail=&b=1"), "a&%65mail=#&b=1"),
        (
            Some("Email=x&e+mail=x&email%20=x&=email"),
            "Email=x&e+mail=x&email%20=x&=email&email=#",
        ),
    ];
    for (query, expected) in cases {
        let read = read(query).unwrap();
        assert_eq!(read.email(), None, "{query:?}");
        assert_eq!(read.with_email(EMAIL), expected.replace('#', SPELLED));
    }
}

#[test]
fn a_given_email_is_percent_decoded_and_keeps_its_plus() {
    for value in ["a+b@exämple.com", SPELLED, "%61+b%40ex%c3%a4mple.com"] {
        let query = format!("x=1&email={value}&y=2");
        let read = read(Some(&query)).unwrap();
        assert_eq!(read.email(), Some(EMAIL));
        assert_eq!(read.with_email("c@x"), "x=1&email=c%40x&y=2");
    }
    assert_eq!(read(Some("email=a=b@x")).unwrap().email(), Some("a=b@x"));
}

#[test]
fn refuses_two_emails_and_what_is_not_unicode() {
    for query in ["email=a&email=a", "email&x&email=", "%65mail=a&email=b"] {
        assert_eq!(read(Some(query)).unwrap_err(), EmailError::GivenTwice);
    }
    let refusal = read(Some("email=%ff")).unwrap_err();
    assert_eq!(refusal, EmailError::NotText);
}

#[test]
fn refuses_what_another_parser_could_take_for_the_email() {
    use EmailError::{NearlyEmail, Semicolon};
    for (query, expected) in [
        ("email[]=a@x", NearlyEmail),
        ("x=1&email%5B0%5D=a@x", NearlyEmail),
        ("email=a@x&email[]=b@x", NearlyEmail),
        ("+email=a@x", NearlyEmail),
        ("%20email=a@x", NearlyEmail),
        ("email%00x=a@x", NearlyEmail),
        ("x=1;email=a@x", Semicolon),
        ("x=1;email", Semicolon),
        ("email=a@x;y=1", Semicolon),
        ("em%61il;y=1", Semicolon),
    ] {
        assert_eq!(read(Some(query)).unwrap_err(), expected, "{query}");
    }
    for query in [
        "x=1;y=2",
        "x=a;emails=1",
        "emails[]=1",
        "email.x=1",
        "my[email]=1",
    ] {
        assert_eq!(read(Some(query)).unwrap().email(), None, "{query}");
    }
}

#[test]
fn unreserved_characters_stay_and_all_others_are_encoded() {
    let written = read(None).unwrap().with_email("aZ09-._~ &=?#%/+\r\n\0");
    assert_eq!(written, "email=aZ09-._~%20%26%3D%3F%23%25%2F%2B%0D%0A%00");
}

proptest! {
    #[test]
    fn what_is_written_is_read(query in "([a-z&=+%é]|%[0-9a-f]{2}|email=?|&email=?&){0,12}", email in ".{1,20}") {
        if let Ok(source) = read(Some(&query)) {
            let written = source.with_email(&email);
            let again = read(Some(&written)).unwrap();
            prop_assert_eq!(again.email(), Some(&*email));
            prop_assert_eq!(again.with_email(&email), &*written);
            if source.email().is_none() {
                let common = query.bytes().zip(written.bytes()).take_while(|(a, b)| a == b).count();
                prop_assert!(written.as_bytes().ends_with(&query.as_bytes()[common..]));
            }
        }
    }
}
