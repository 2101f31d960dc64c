//! What must hold for the body and the query of every request.
#![expect(clippy::panic, reason = "a check fails by panicking")]

use serde_json::{Map, Value};

use super::*;

/// What is written: it needs escapes in JSON.
const EMAIL: &str = "a\"\\+b@exämple.com";
/// Marks have no parts that differ.
const MARK: &str = "klb-00112233445566778899aabbccddeeff";

fn mark() -> Mark {
    MARK.parse().expect("it is a mark")
}

/// `data` as a JSON body, compared with what `serde_json` reads.
///
/// # Panics
/// If something else is read or written.
pub fn json_email(data: &[u8]) {
    let reference: Option<Map<String, Value>> = serde_json::from_slice(data).ok();
    let body = match (json::read(Bytes::copy_from_slice(data)), &reference) {
        (Ok(body), _) => body,
        (Err(EmailError::GivenTwice | EmailError::NotText), _) | (Err(_), None) => return,
        (Err(error), Some(_)) => panic!("an object was refused: {error}"),
    };
    let written = body.with_email(EMAIL).expect("JSON spells every e-mail");
    let again = json::read(written.clone()).expect("what we wrote is JSON");
    compare(data, &body, &written, &again);
    let marked = compare_marks(&body);
    if let Some(mut object) = reference {
        let names_reply = ["replyRef", "replyUrl"].map(|name| object.contains_key(name));
        assert!(!names_reply.contains(&true) || !body.takes_mark());
        if body.takes_mark() {
            let mut expected = object.clone();
            expected.insert("replyRef".to_owned(), MARK.into());
            for (marked, email) in marked.iter().zip([None, Some(EMAIL)]) {
                expected.extend(email.map(|email| ("email".to_owned(), email.into())));
                let read: Option<Map<String, Value>> = serde_json::from_slice(marked).ok();
                assert_eq!(read.as_ref(), Some(&expected));
            }
        }
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
///
/// # Panics
/// If more than the e-mail changes, or what was written is read differently.
pub fn multipart_email(data: &[u8]) {
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
    for marked in compare_marks(&body) {
        match read(marked) {
            Ok(again) => assert!(!again.takes_mark(), "the mark is found"),
            Err(error) => assert_eq!(error, EmailError::TooManyParts),
        }
    }
    // The extra part may be the one too many.
    match read(written.clone()) {
        Ok(again) => compare(form, &body, &written, &again),
        Err(error) => assert_eq!(error, EmailError::TooManyParts),
    }
}

/// `data` as a body of form fields and as a query, compared with what a parser of forms reads.
///
/// # Panics
/// If something else is read or written.
pub fn form_email(data: &[u8]) {
    if let Ok(body) = fields::read(Bytes::copy_from_slice(data)) {
        let written = body.with_email(EMAIL).expect("a form spells every e-mail");
        let again = fields::read(written.clone()).expect("what we wrote is a form");
        compare(data, &body, &written, &again);
        assert!(!body.takes_mark());
        compare_marks(&body);
        one_email(&written, EMAIL);
        if let Some(email) = body.email() {
            one_email(body.bytes(), email);
        }
    }
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    if let Ok(query) = query::read(Some(text)) {
        let written = query.with_email(EMAIL);
        let again = query::read(Some(&written)).expect("what we wrote is a query");
        assert_eq!(again.email(), Some(EMAIL));
        assert_eq!(again.with_email(EMAIL), written);
        one_email(written.as_bytes(), EMAIL);
        if let (Some(email), Some(plain)) = (query.email(), query.without_plus()) {
            one_email(plain.as_bytes(), email);
        }
    }
}

/// A parser of forms finds this e-mail in `form`, and no other.
fn one_email(form: &[u8], email: &str) {
    let emails = form_urlencoded::parse(form).filter(|(name, _)| name == "email");
    let emails: Vec<_> = emails.map(|(_, value)| value).collect();
    assert_eq!(emails, [email]);
}

/// `source` was read as `body` and written as `written`, which was read as `again`.
fn compare(source: &[u8], body: &EmailBody, written: &Bytes, again: &EmailBody) {
    assert_eq!(again.email(), Some(EMAIL));
    assert_eq!(again.max_jobs(), body.max_jobs());
    assert_eq!(again.references(), body.references());
    assert_eq!(again.with_email(EMAIL).as_ref(), Ok(written));
    // Where e-mails count as absent, both say the same.
    let content = |body: &EmailBody| -> Vec<_> {
        let fields = body.content(true).into_iter();
        let mut fields: Vec<_> = fields.map(|pieces| pieces.concat()).collect();
        // With a member of JSON go the blanks in front of the next one.
        fields
            .iter_mut()
            .for_each(|text| text.retain(|byte| !byte.is_ascii_whitespace()));
        fields
    };
    assert_eq!(content(again), content(body));
    if body.email().is_none() {
        let lost = source.len() - common(source.iter(), written.iter());
        let kept_behind = common(source.iter().rev(), written.iter().rev());
        assert!(
            lost <= kept_behind + "null".len(),
            "more than the e-mail was changed"
        );
    }
}

/// Writes `body` with a mark, as it came and with another e-mail. All that is not put in is as it came.
fn compare_marks(body: &EmailBody) -> [Bytes; 2] {
    [None, Some(EMAIL)].map(|email| {
        let marked = body.around(email, Some(mark())).expect("it can be spelled");
        let plain = body.around(email, None).expect("it can be spelled");
        let [before, text, after] = &marked;
        if email.is_none() {
            assert_eq!([&before[..], &after[..]].concat(), body.bytes()[..]);
        } else {
            assert_eq!([before, after], [&plain[0], &plain[2]]);
        }
        let marks = memchr::memmem::find_iter(text, MARK).count();
        assert_eq!(marks, usize::from(body.takes_mark()));
        marked.concat().into()
    })
}

/// How many items two iterators have in common at their start.
fn common<'a>(a: impl Iterator<Item = &'a u8>, b: impl Iterator<Item = &'a u8>) -> usize {
    a.zip(b).take_while(|(a, b)| a == b).count()
}
