use proptest::prelude::*;

use super::*;
use crate::{forward::email::check, kling::members::tests::variants};

const EMAIL: &str = "a\"+b@x";
const SPELLED: &str = r#""a\"+b@x""#;

fn read_text(text: &str) -> Result<EmailBody, EmailError> {
    read(Bytes::copy_from_slice(text.as_bytes()))
}

/// `text` with [`EMAIL`], where the client gave none.
fn filled(text: &str) -> String {
    let body = read_text(text).unwrap();
    assert_eq!(body.email(), None, "{text}");
    let written = body.with_email(EMAIL).unwrap();
    String::from_utf8(written.to_vec()).unwrap()
}

#[test]
fn an_absent_email_becomes_the_first_member() {
    let cases = [
        ("{}", "{#}"),
        (" {\n\t} \n", " {#\n\t} \n"),
        (r#"{"a":1}"#, r#"{#,"a":1}"#),
        ("{ \"a\" : 1 }\r\n", "{#, \"a\" : 1 }\r\n"),
        // Numbers beyond 2^53, odd escapes and other duplicates stay as they are.
        (
            r#"{"id":12345678901234567890.10,"id":-0e-0,"\/":"\u00e9\/\ud800"}"#,
            r#"{#,"id":12345678901234567890.10,"id":-0e-0,"\/":"\u00e9\/\ud800"}"#,
        ),
        // Only members of the object itself, in this very spelling, are e-mails.
        (r#"{"a":{"email":"b@x"}}"#, r#"{#,"a":{"email":"b@x"}}"#),
        (r#"{"Email":1,"email ":2}"#, r#"{#,"Email":1,"email ":2}"#),
        // A lone surrogate is a key without a meaning.
        (r#"{"\ud800email":"b@x"}"#, r#"{#,"\ud800email":"b@x"}"#),
    ];
    for (text, expected) in cases {
        let member = format!("\"email\":{SPELLED}");
        assert_eq!(filled(text), expected.replace('#', &member));
    }
}

const MARK: &str = "klb-00112233445566778899aabbccddeeff";

#[test]
fn a_mark_is_a_member_beside_the_email() {
    // The text, with a mark, with a mark and an e-mail.
    let cases = [
        ("{}", "{@}", r##"{"email":#,@}"##),
        (r#"{"a":1}"#, r#"{@,"a":1}"#, r##"{"email":#,@,"a":1}"##),
        (
            r#"{ "email" : null , "a":1}"#,
            r#"{ "email" : null,@ , "a":1}"#,
            r##"{ "email" : #,@ , "a":1}"##,
        ),
        (
            r#"{"a":{"replyRef":1},"email":"bx"}"#,
            r#"{"a":{"replyRef":1},"email":"bx",@}"#,
            r##"{"a":{"replyRef":1},"email":#,@}"##,
        ),
    ];
    for (text, marked, with_email) in cases {
        let body = read_text(text).unwrap();
        assert!(body.takes_mark(), "{text}");
        for (email, expected) in [(None, marked), (Some(EMAIL), with_email)] {
            let written = body.around(email, MARK.parse().ok()).unwrap().concat();
            let expected = expected.replace('@', &format!(r#""replyRef":"{MARK}""#));
            let expected = expected.replace('#', SPELLED);
            assert_eq!(String::from_utf8(written).unwrap(), expected, "{text}");
        }
    }
}

#[test]
fn no_mark_is_put_in_beside_a_reply_of_the_clients() {
    for member in [
        r#""replyRef":"r1""#,
        r#""replyRef":null"#,
        "\"replyRef\":\"\"",
        r#""replyUrl":"https://h.example/cb""#,
        r#""replyUrl":null"#,
        r#""reply\u0052ef":7"#,
        r#""\u0072eplyUrl":{}"#,
        r#""REPLYREF":"x""#,
        r#""replyRef":1,"replyRef":2"#,
        r#""replyRef[]":[]"#,
    ] {
        let text = format!(r#"{{"prompt":"p",{member}}}"#);
        let body = read_text(&text).unwrap();
        assert!(!body.takes_mark(), "{text}");
        let written = body.around(None, MARK.parse().ok()).unwrap().concat();
        assert_eq!(written, text.as_bytes());
    }
    for member in [
        r#""reply":1"#,
        r#""replyReference":1"#,
        r#""a":{"replyUrl":1}"#,
    ] {
        let text = format!("{{{member}}}");
        assert!(read_text(&text).unwrap().takes_mark(), "{text}");
    }
}

#[test]
fn an_empty_email_is_replaced_in_place() {
    let cases = [
        (r#"{"email":""}"#, r#"{"email":#}"#),
        (
            r#"{"a":1, "email" : null , "b":2}"#,
            r#"{"a":1, "email" : # , "b":2}"#,
        ),
        (r#"{"\u0065m\u0061il":""}"#, r#"{"\u0065m\u0061il":#}"#),
    ];
    for (text, expected) in cases {
        assert_eq!(filled(text), expected.replace('#', SPELLED));
    }
}

#[test]
fn a_given_email_is_found_and_can_be_spelled_as_in_the_list() {
    let text = r#"{"a":1,"\u0065mail": "A\u002bb@x" }"#;
    let body = read_text(text).unwrap();
    assert_eq!(body.email(), Some("A+b@x"));
    let written = body.with_email("a+b@x").unwrap();
    assert_eq!(written, r#"{"a":1,"\u0065mail": "a+b@x" }"#);
    assert_eq!(read_text(r#"{"email":" "}"#).unwrap().email(), Some(" "));
}

#[test]
fn hostile_emails_cannot_leave_their_string() {
    let hostile = "\",\"x\":\"\r\n\0\u{7f}\\";
    let written = read_text("{}").unwrap().with_email(hostile).unwrap();
    let read: serde_json::Value = serde_json::from_slice(&written).unwrap();
    assert_eq!(read, serde_json::json!({ "email": hostile }));
}

#[test]
fn what_is_named_is_found_in_its_order_and_as_it_is_written() {
    let text = r#"{"image":"data:image/png;base64,iVBOR","task\u005fid":123456789012345678901,
        "audio":"https:\/\/cdn.example\/s.mp3?a=1&b=2","workId":"7","prompt":"https://x",
        "list":[{"avatarId":"300137233318846"}],"avatarId":"300137233318846","element_1":null,
        "element_2":{"id":"u_1"},"element_3":"o_1","element_4":"u_1","\ud800":"u_2","workId":-7}"#;
    let body = read_text(text).unwrap();
    let named: Vec<_> = body
        .references()
        .iter()
        .map(|it| (it.field, &*it.text))
        .collect();
    let expected = [
        ("task_id", "123456789012345678901"),
        ("audio", "https://cdn.example/s.mp3?a=1&b=2"),
        ("workId", "7"),
        ("avatarId", "300137233318846"),
        ("element_4", "u_1"),
    ];
    assert_eq!(named, expected);
    let written = body.with_email(EMAIL).unwrap();
    assert_eq!(read(written).unwrap().references(), body.references());
}

#[test]
fn a_cap_is_a_number_or_a_string_of_digits() {
    let cases = [
        (r#"{"maxJobs":3}"#, Some(3)),
        (r#"{"maxJobs":"3"}"#, Some(3)),
        (r#"{"m\u0061xJobs":9,"maxJobs":"4"}"#, Some(4)),
        (r#"{"maxJobs":[3]}"#, None),
        (r#"{"maxJobs":null}"#, None),
        ("{}", None),
    ];
    for (text, expected) in cases {
        let cap = read_text(text).unwrap().max_jobs();
        assert_eq!(cap.map(NonZeroU32::get), expected, "{text}");
    }
}

#[test]
fn refuses_what_is_not_one_object_with_at_most_one_email() {
    use EmailError::{GivenTwice, NotAnObject, NotJson, NotText};
    let at = |line, column| NotJson { line, column };
    let cases: [(&[u8], EmailError); 19] = [
        (b"[]", NotAnObject),
        (b"null", NotAnObject),
        (b" \"email\"", NotAnObject),
        (b"7", NotAnObject),
        (br#"{"email":1}"#, NotText),
        (br#"{"email":{"email":"a@x"}}"#, NotText),
        (br#"{"email":"\ud800"}"#, NotText),
        (br#"{"email":"a@x","email":"a@x"}"#, GivenTwice),
        (br#"{"email":null,"\u0065mail":1}"#, GivenTwice),
        (b"", at(1, 0)),
        (b"\xef\xbb\xbf{}", at(1, 1)),
        (b"prompt=a", at(1, 1)),
        (b"{}\n{}", at(2, 1)),
        (br#"{"a":1,}"#, at(1, 8)),
        (br#"{"a":[[[[01]]]]}"#, at(1, 11)),
        (b"{\n\"a\":\"\x01\"}", at(2, 5)),
        (b"{\"a\":\"\xff\"}", at(1, 7)),
        (b"{\"\xff\":1}", at(1, 3)),
        (br#"{"a":tru}"#, at(1, 9)),
    ];
    for (bytes, expected) in cases {
        let refusal = read(Bytes::from_static(bytes)).unwrap_err();
        assert_eq!(refusal, expected, "{}", bytes.escape_ascii());
    }
}

#[test]
fn depth_costs_no_stack() {
    let (open, close) = ("[".repeat(10_000), "]".repeat(10_000));
    let objects = format!("{}1{}", r#"{"a":"#.repeat(10_000), "}".repeat(10_000));
    for deep in [format!("{open}{close}"), objects] {
        let text = format!(r#"{{"a":{deep}}}"#);
        let expected = format!(r#"{{"email":{SPELLED},"a":{deep}}}"#);
        assert!(filled(&text) == expected);
        let refused = read_text(&format!(r#"{{"email":{deep}}}"#)).unwrap_err();
        assert_eq!(refused, EmailError::NotText);
    }
    let refused = read_text(&open).unwrap_err();
    assert_eq!(refused, EmailError::NotAnObject);
}

/// Names and values as they stand in an object, by `serde_json`.
struct RawMembers<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de> Deserialize<'de> for RawMembers<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RawMembers(Vec::new()))
    }
}

impl<'de> Visitor<'de> for RawMembers<'de> {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some(member) = map.next_entry()? {
            self.0.push(member);
        }
        Ok(self)
    }
}

/// What `bytes` say by `serde_json`, member by member.
fn members_by_serde(bytes: &[u8]) -> Option<Members<'_>> {
    let raw: RawMembers<'_> = serde_json::from_slice(bytes).ok()?;
    let mut members = Members {
        is_empty: raw.0.is_empty(),
        ..Members::default()
    };
    for (name, value) in raw.0 {
        let name: Option<String> = serde_json::from_str(name.get()).ok();
        match name.as_deref() {
            Some("email") => {
                members.has_two_emails |= members.email.is_some();
                members.email = Some((Name::default(), value.get()));
            }
            Some("maxJobs") => {
                members.max_jobs = smaller_cap(members.max_jobs, value.get().trim_matches('"'));
            }
            Some("prompt") => {
                let text: Option<String> = serde_json::from_str(value.get()).ok();
                members.prompt = text.map(|text| Digest::of(&text));
            }
            Some(name) if may_be_reply(name.as_bytes()) => members.has_reply = true,
            Some(name) => (members.references).note(name.as_bytes(), || text_in(value.get())),
            None => {}
        }
    }
    Some(members)
}

/// Whether `bytes` are one object, by both readers.
fn is_read_alike(bytes: &[u8]) -> bool {
    let (found, plain) = (members(bytes), members_by_serde(bytes));
    let said = |it: &Members<'_>| {
        let references = it.references.as_slice().to_vec();
        let email = it.email.map(|(_, value)| value.to_owned());
        let flags = (it.is_empty, it.has_two_emails, it.has_reply);
        (email, it.max_jobs, it.prompt, references, flags)
    };
    let [found, plain] = [found, plain].map(|it| it.as_ref().map(said));
    assert_eq!(found, plain, "{}", bytes.escape_ascii());
    found.is_some()
}

#[test]
fn it_agrees_with_serde_wherever_a_byte_is_another_one_missing_or_added() {
    for text in [
        r#"{"email":"a@x","maxJobs":3,"prompt":"a \"cat\" \u00e9","b":[1,{"c":null},"d"]}"#,
        r#" { "\u0065mail" : null , "email" : "" , "\ud800" : "\ud800" , "é" : -0.5e+3 } "#,
        r#"{"prompt":"\ud800","task_id":123456789,"replyRef":true,"maxJobs":"2"}"#,
        "{}\r\n",
    ] {
        assert!(is_read_alike(text.as_bytes()), "{text}");
        let variants = variants(text).into_iter();
        let accepted = variants.filter(|bytes| is_read_alike(bytes)).count();
        assert!(accepted > text.len(), "too few were JSON");
    }
}

/// A string in JSON with all kinds of escapes.
fn string() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        r"[a-z0-9é漢🦀 {}\[\]:,'/\x7f]{1,5}",
        r#"\\(["\\/bfnrt]|u00[0-7][0-9a-fA-F]|ud83e\\udd80)"#,
        Just("email".to_owned()),
    ];
    proptest::collection::vec(piece, 0..4).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

/// A value as text, with white space around everything.
fn value() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,2})?",
        "true|false|null",
        string(),
    ];
    scalar.prop_recursive(4, 32, 4, |inner| {
        let item = ("[ \t\r\n]{0,2}", inner, "[ \t\r\n]{0,2}");
        let item = item.prop_map(|(before, value, after)| before + &value + &after);
        let items = proptest::collection::vec(item.clone(), 0..4);
        let members = proptest::collection::vec((string(), item), 0..4);
        prop_oneof![
            items.prop_map(|items| format!("[{}]", items.join(","))),
            members.prop_map(|members| object(&members, ["", ""])),
        ]
    })
}

fn object(members: &[(String, String)], [before, after]: [&str; 2]) -> String {
    let members = members.iter();
    let members: Vec<_> = members
        .map(|(key, value)| format!("{before}{key}{after}:{value}"))
        .collect();
    format!("{{{}}}", members.join(","))
}

/// A member of the object under test that is no e-mail.
fn other_member() -> impl Strategy<Value = (String, String)> {
    let is_other = |key: &String| serde_json::from_str::<String>(key).unwrap() != "email";
    (string().prop_filter("an e-mail", is_other), value())
}

proptest! {
    #[test]
    fn only_the_email_changes(
        members in proptest::collection::vec(other_member(), 0..6),
        empty in proptest::option::of((
            any::<prop::sample::Index>(),
            r#""email"|"\\u0065mail"|"e\\u006Dail""#,
            r#"null|"""#,
        )),
        [before, after, around] in ["[ \t\r\n]{0,3}", "[ \t\r\n]{0,3}", "[ \t\r\n]{0,3}"],
    ) {
        let (mut source, mut expected) = (members.clone(), members);
        if let Some((idx, key, value)) = empty {
            let idx = idx.index(source.len() + 1);
            source.insert(idx, (key.clone(), value));
            expected.insert(idx, (key, SPELLED.to_owned()));
        }
        let space = [&*before, &*after];
        let [source, mut expected] =
            [source, expected].map(|members| format!("{around}{}{around}", object(&members, space)));
        if source == expected {
            let comma = if source.trim() == "{}" { "" } else { "," };
            expected.insert_str(around.len() + 1, &format!("\"email\":{SPELLED}{comma}"));
        }
        prop_assert_eq!(filled(&source), expected);
        check::json_email(source.as_bytes());
    }

    #[test]
    fn random_bytes_are_read_or_refused(
        bytes in any::<Vec<u8>>(),
        text in r#"\{("(\\u0065|e)mail"|[{}\[\]:,"\\u0-9aeE.\- ]|null|"maxJobs"){0,30}\}"#,
    ) {
        check::json_email(&bytes);
        check::json_email(text.as_bytes());
    }
}
