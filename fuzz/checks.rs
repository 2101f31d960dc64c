//! What must hold for every input. Shared by the fuzz targets and, on the corpus and on random
//! inputs, by the tests of the crate; the parent module brings `email`, the module under test.
#![allow(dead_code, reason = "each fuzz target runs one of the checks")]

use bytes::Bytes;
use serde_json::{Map, Value};

use super::email::{EmailBody, EmailError, json, multipart};

/// What is written: it needs escapes in JSON.
const EMAIL: &str = "a\"\\+b@exämple.com";

/// `data` as a JSON body, compared with what `serde_json` reads.
pub(crate) fn json(data: &[u8]) {
    let reference: Option<Map<String, Value>> = serde_json::from_slice(data).ok();
    let body = match (json::read(Bytes::copy_from_slice(data)), &reference) {
        (Ok(body), _) => body,
        (Err(EmailError::GivenTwice | EmailError::NotText), _) | (Err(_), None) => return,
        (Err(error), Some(_)) => panic!("an object was refused: {error}"),
    };
    let written = body.with_email(EMAIL).expect("JSON spells every e-mail");
    let again = json::read(written.clone()).expect("what we wrote is JSON");
    compare(data, &body, &written, &again);
    if let Some(mut object) = reference {
        let given = object.insert("email".to_owned(), EMAIL.into());
        let given = given.filter(|email| !email.is_null() && email != "");
        assert_eq!(body.email(), given.as_ref().and_then(Value::as_str));
        assert_eq!(
            serde_json::from_slice::<Value>(&written).ok(),
            Some(object.into())
        );
    }
}

/// `data` as a multipart body: the first line is its content type.
pub(crate) fn multipart(data: &[u8]) {
    let mut halves = data.splitn(2, |&byte| byte == b'\n');
    let (Some(content_type), Some(form)) = (halves.next(), halves.next()) else {
        return;
    };
    let content_type = String::from_utf8_lossy(content_type);
    let read = |form: Bytes| multipart::read(form, content_type.trim_end());
    let Ok(body) = read(Bytes::copy_from_slice(form)) else {
        return;
    };
    let written = body.with_email(EMAIL).expect("the e-mail has one line");
    // The extra part may be the one too many.
    match read(written.clone()) {
        Ok(again) => compare(form, &body, &written, &again),
        Err(error) => assert_eq!(error, EmailError::TooManyParts),
    }
}

/// `source` was read as `body` and written as `written`, which was read as `again`.
fn compare(source: &[u8], body: &EmailBody, written: &Bytes, again: &EmailBody) {
    assert_eq!(again.email(), Some(EMAIL));
    assert_eq!(again.max_jobs(), body.max_jobs());
    assert_eq!(again.references(), body.references());
    assert_eq!(again.with_email(EMAIL).as_ref(), Ok(written));
    if body.email().is_none() {
        let lost = source.len() - common(source.iter(), written.iter());
        let kept_behind = common(source.iter().rev(), written.iter().rev());
        assert!(
            lost <= kept_behind + "null".len(),
            "more than the e-mail was changed"
        );
    }
}

/// How many items two iterators have in common at their start.
fn common<'a>(a: impl Iterator<Item = &'a u8>, b: impl Iterator<Item = &'a u8>) -> usize {
    a.zip(b).take_while(|(a, b)| a == b).count()
}
