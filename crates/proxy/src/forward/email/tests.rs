//! What every reader has in common: the texts of errors.

use super::*;

#[test]
fn errors_name_the_field_and_what_was_expected() {
    let cases = [
        (
            EmailError::NotJson { line: 2, column: 7 },
            "body: expected JSON, which this is not at line 2, column 7",
        ),
        (EmailError::NotAnObject, "body: expected a JSON object"),
        (
            EmailError::NoHead,
            "body: expected each part to have a head of at most 16384 bytes and an empty line",
        ),
        (
            EmailError::TooManyParts,
            "body: expected at most 1000 parts",
        ),
        (EmailError::GivenTwice, "email: given twice"),
        (EmailError::NotText, "email: expected a string"),
    ];
    for (error, expected) in cases {
        assert_eq!(format!("{}: {error}", error.field()), expected);
    }
}

#[test]
fn debug_output_tells_no_content() {
    let body = json::read(Bytes::from_static(br#"{"email":"secret@x"}"#)).unwrap();
    let query = query::read(Some("email=secret@x")).unwrap();
    let shown = format!("{body:?} {query:?}");
    assert!(!shown.contains("secret"), "{shown}");
}

#[test]
fn the_smallest_cap_counts_however_it_is_spelled() {
    let cap = |texts: &[&str]| {
        let known = texts
            .iter()
            .fold(None, |known, text| smaller_cap(known, text));
        known.map(NonZeroU32::get)
    };
    assert_eq!(cap(&["7"]), Some(7));
    assert_eq!(cap(&["7", "3", "null", "5"]), Some(3));
    for two in ["2", "2.0", "2e0", "0.2e1", " 2 ", "2.0e+0", "20E-1", "002"] {
        assert_eq!(cap(&[two]), Some(2), "{two}");
    }
    for refused in [
        "",
        "0",
        "-1",
        "+1",
        "1.5",
        ".5",
        "1e",
        "1 1",
        "inf",
        "nan",
        "1e999",
        "99999999999",
        "[1]",
    ] {
        assert_eq!(cap(&[refused]), None, "{refused}");
    }
}
