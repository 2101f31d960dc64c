use super::*;

mod random;

const EMAIL: &str = "a+b@exämple.com";
const TYPE: &str = "multipart/form-data; boundary=b";
const EXTRA: &str =
    "--b\r\nContent-Disposition: form-data; name=\"email\"\r\n\r\na+b@exämple.com\r\n";

fn read_text(form: &str) -> Result<EmailBody, EmailError> {
    read(Bytes::copy_from_slice(form.as_bytes()), TYPE)
}

/// A part named `email`.
fn email_part(value: &str) -> String {
    format!("--b\r\nContent-Disposition: form-data; name=\"email\"\r\n\r\n{value}\r\n")
}

fn filled(form: &str) -> String {
    let body = read_text(form).unwrap();
    assert_eq!(body.email(), None, "{form}");
    let written = body.with_email(EMAIL).unwrap();
    String::from_utf8(written.to_vec()).unwrap()
}

#[test]
fn an_absent_email_becomes_the_first_part() {
    let part = "--b\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\np\r\n";
    let forms = [
        ("", "--b--".to_owned()),
        ("", format!("{part}--b--\r\n")),
        (
            "preamble\r\n",
            format!("{part}--b--\r\nepilogue\r\n--b\r\n"),
        ),
        ("\r\n", format!("{part}{part}--b--\n")),
        ("--\r\n", format!("{part}--b-- \t\r\n")),
    ];
    for (preamble, rest) in forms {
        let form = format!("{preamble}{rest}");
        assert_eq!(filled(&form), format!("{preamble}{EXTRA}{rest}"));
    }
}

#[test]
fn a_mark_is_a_part_beside_the_email() {
    let mark = "klb-00112233445566778899aabbccddeeff";
    let part = |name: &str, value: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let (prompt, end) = (part("prompt", "p"), "--b--\r\n");
    let (email, marked) = (part("email", EMAIL), part("replyRef", mark));
    let given = part("email", "c@x");
    let cases = [
        (
            format!("{prompt}{end}"),
            format!("{marked}{prompt}{end}"),
            format!("{email}{marked}{prompt}{end}"),
        ),
        (
            format!("{given}{prompt}{end}"),
            format!("{given}{marked}{prompt}{end}"),
            format!("{email}{marked}{prompt}{end}"),
        ),
    ];
    for (form, without_email, with_email) in cases {
        let body = read_text(&form).unwrap();
        assert!(body.takes_mark());
        for (email, expected) in [(None, without_email), (Some(EMAIL), with_email)] {
            let written = body.around(email, mark.parse().ok()).unwrap().concat();
            assert_eq!(String::from_utf8(written).unwrap(), expected);
        }
    }
    for name in [
        "replyRef",
        "replyUrl",
        "replyref",
        " replyRef",
        "replyUrl[]",
    ] {
        let form = format!("{}{prompt}{end}", part(name, ""));
        assert!(!read_text(&form).unwrap().takes_mark(), "{name}");
    }
}

#[test]
fn an_empty_email_is_replaced_in_place() {
    let form = format!(
        "{}{}--b--\r\n",
        email_part("").replace("email", "tail"),
        email_part("")
    );
    let expected = form.replace("\"email\"\r\n\r\n", "\"email\"\r\n\r\na+b@exämple.com");
    assert_eq!(filled(&form), expected);
}

#[test]
fn a_given_email_is_found_however_its_head_is_written() {
    let heads = [
        r#"Content-Disposition: form-data; name="email""#,
        "content-disposition:form-data;name=email",
        "Content-Type: text/plain\r\nCONTENT-DISPOSITION: form-data; name=email;",
        "Content-Transfer-Encoding: 8bit\r\nContent-Disposition: form-data; name=\"email\"\r\nX: y",
    ];
    for head in heads {
        let form = format!("--b\r\n{head}\r\n\r\n A@x \r\n--b--\r\n");
        let body = read_text(&form).unwrap();
        assert_eq!(body.email(), Some(" A@x "), "{head}");
        let written = body.with_email("a@x").unwrap();
        assert_eq!(written, form.replace(" A@x ", "a@x"));
    }
}

#[test]
fn other_parts_are_no_emails() {
    for rest in [
        r#"name="Email""#,
        r#"name="emails[]""#,
        r#"name="my email""#,
        r#"name="x"; filename="email""#,
        "name=\"x\"; filename*=UTF-8''email",
        "name=\"x\"\r\nContent-Type: text/plain; charset=utf-16",
        "name=\"x\"\r\nX: Content-Disposition: form-data; name=email",
    ] {
        let form = format!("--b\r\nContent-Disposition: form-data; {rest}\r\n\r\na@x\r\n--b--\r\n");
        assert_eq!(filled(&form), format!("{EXTRA}{form}"), "{rest}");
    }
}

#[test]
fn what_another_parser_could_take_for_the_email_is_refused() {
    use EmailError::{Charset, NearlyEmail, NoPlainText};
    let part = email_part("a@x");
    let named = |name: &str| part.replace("\"email\"", name);
    let cases = [
        (named("\"email[]\""), NearlyEmail),
        (named("email[0]"), NearlyEmail),
        (named("\" email\""), NearlyEmail),
        (named("\"%65mail\""), NearlyEmail),
        (named("\"email%00x\""), NearlyEmail),
        (named("\"email\"; filename=\"a.txt\""), NoPlainText),
        (
            named("\"email\"\r\nContent-Type: application/octet-stream"),
            NoPlainText,
        ),
        (
            named("\"email\"\r\nContent-Type: text/plain; charset=utf-16"),
            NoPlainText,
        ),
        (format!("{part}{}", named("_charset_")), Charset),
    ];
    for (parts, expected) in cases {
        let form = format!("{parts}--b--\r\n");
        assert_eq!(read_text(&form).unwrap_err(), expected, "{form:?}");
    }
    let utf8 = format!(
        "{part}{}--b--",
        email_part("UTF-8").replace("\"email\"", "_charset_")
    );
    assert_eq!(read_text(&utf8).unwrap().email(), Some("a@x"));
}

#[test]
fn delimiters_that_parsers_read_differently_are_refused() {
    use EmailError::{Delimiter, Outside, PartHeader};
    let part = email_part("a@x");
    let whole = format!("{part}--b--\r\n");
    let prompt = |value: &str| part.replace("email", "prompt").replace("a@x", value);
    let cases = [
        (whole.replace("\r\n", "\n"), Delimiter),
        (whole.replacen("--b\r\n", "--b\n", 1), Delimiter),
        (whole.replacen("--b\r\n", "--b \r\n", 1), Delimiter),
        (whole.replacen("--b\r\n", "--b\t\r\n", 1), Delimiter),
        (whole.replace("--b--", "--b--x"), Delimiter),
        (whole.replace("--b--", "--b-- x"), Delimiter),
        (format!("\n{whole}"), Delimiter),
        (format!("\r{whole}"), Delimiter),
        (format!("--bX\r\n{whole}"), Delimiter),
        (format!(" --b--\r\n{whole}"), Delimiter),
        (format!("x--b\r\n{whole}"), Delimiter),
        (format!("{}--b--", prompt(&format!("p\n{part}"))), Delimiter),
        (format!("{}--b--", prompt("p\r--b\r")), Delimiter),
        (format!("{}--b--", prompt("p\r\n--bX\r\n")), Delimiter),
        (format!("{}--b--", prompt("p\r\n--b-\r\n")), Delimiter),
        (format!("X: y\r\n\r\n{whole}"), Outside),
        (format!("{whole}{whole}"), Outside),
        (
            format!("{whole}Content-Disposition: form-data; name=email\r\n\r\nb@x"),
            Outside,
        ),
        (whole.replace("form-data;", "form-data;\r\n"), PartHeader),
    ];
    for (form, expected) in cases {
        assert_eq!(read_text(&form).unwrap_err(), expected, "{form:?}");
    }
    let data = format!("{}--b--", prompt("p\r\n --b\r\nx--b\r\n\n-b\r\n--"));
    assert_eq!(filled(&data), format!("{EXTRA}{data}"));
}

#[test]
fn what_is_named_is_found_in_its_order_and_as_it_is_written() {
    let part = |name: &str, value: &str| email_part(value).replace("\"email\"", name);
    let file = "x".repeat(URL_BYTES_MAX + 1);
    let form = [
        part("image; filename=a.png", &format!("https://{file}")),
        part("audio", "https://cdn.example/s.mp3?a=1&b=2"),
        part("task_id", "123456789012345678901"),
        part("prompt", "https://x"),
        part("\"element_1\"", "u_1"),
        part("element_2", "o_1"),
        part("workId", " 7"),
    ];
    let form = form.concat() + "--b--\r\n";
    let body = read_text(&form).unwrap();
    let named: Vec<_> = body
        .references()
        .iter()
        .map(|it| (it.field, &*it.text))
        .collect();
    let expected = [
        ("audio", "https://cdn.example/s.mp3?a=1&b=2"),
        ("task_id", "123456789012345678901"),
        ("element_1", "u_1"),
    ];
    assert_eq!(named, expected);
    let written = body.with_email(EMAIL).unwrap();
    assert_eq!(read(written, TYPE).unwrap().references(), body.references());
}

#[test]
fn a_cap_is_a_part_of_digits() {
    let form = format!("{}{}--b--", email_part("7"), email_part("3")).replace("email", "maxJobs");
    let cap = read_text(&form).unwrap().max_jobs();
    assert_eq!(cap.map(std::num::NonZeroU32::get), Some(3));
    assert_eq!(read_text("--b--").unwrap().max_jobs(), None);
}

#[test]
fn refuses_broken_forms_and_two_emails() {
    use EmailError::{Delimiter, GivenTwice, NoHead, NoPart, NotClosed, NotText, TooManyParts};
    let part = email_part("a@x");
    let long_head = format!(
        "--b\r\nX: {}\r\n\r\n\r\n--b--",
        "x".repeat(PART_HEAD_BYTES_MAX - 2)
    );
    let parts = |count| email_part("").replace("email", "x").repeat(count) + "--b--";
    let cases = [
        (String::new(), NoPart),
        (r#"{"email":"a@x"}"#.to_owned(), NoPart),
        ("x--b--".to_owned(), NoPart),
        ("--b".to_owned(), Delimiter),
        (part.clone(), NotClosed),
        (format!("{part}--b\r\n"), NotClosed),
        ("--b\r\n--b--".to_owned(), NoHead),
        ("--b\r\nX: y\r\n--b--".to_owned(), NoHead),
        ("--b\r\nX: y\r\n\r\n--b--".to_owned(), NoHead),
        (long_head, NoHead),
        (parts(PARTS_MAX + 1), TooManyParts),
        (format!("{part}{part}--b--"), GivenTwice),
        (format!("{}{part}--b--", email_part("")), GivenTwice),
    ];
    for (form, expected) in cases {
        assert_eq!(read_text(&form).unwrap_err(), expected, "{form:.80}");
    }
    assert!(read_text(&parts(PARTS_MAX)).is_ok());
    let form = Bytes::from(format!("{part}--b--").replace('@', "\0"));
    let latin1: Vec<u8> = form
        .iter()
        .map(|&byte| if byte == 0 { 0xe9 } else { byte })
        .collect();
    assert_eq!(read(latin1.into(), TYPE).unwrap_err(), NotText);
}

#[test]
fn hostile_emails_are_not_written() {
    let body = read_text("--b--").unwrap();
    for hostile in ["a@x\r\n--b--", "a@x\n", "\ra@x", "a\0@x", "--b@x"] {
        assert_eq!(body.with_email(hostile), Err(Unwritable), "{hostile:?}");
    }
}

#[test]
fn a_boundary_is_what_the_content_type_names() {
    let boundary = |content_type: &str| Boundary::of(content_type).map(|boundary| boundary.0);
    let longest = "b".repeat(201);
    let accepted = [
        ("multipart/form-data; boundary=b", "b"),
        (
            "Multipart/Form-Data ;charset=x; BOUNDARY=\"a b:?\"",
            "a b:?",
        ),
        ("multipart/form-data; boundary=\"a,b\"", "a,b"),
        (
            "multipart/form-data; boundary=----=_Part_1/2; x",
            "----=_Part_1/2",
        ),
        ("multipart/form-data; boundary=*****", "*****"),
        ("multipart/form-data; boundary={6F9619FF}", "{6F9619FF}"),
        (
            "multipart/form-data; boundary=----Form#Boundary$12",
            "----Form#Boundary$12",
        ),
        (
            &format!("multipart/form-data; boundary={longest}"),
            &longest,
        ),
    ];
    for (content_type, expected) in accepted {
        assert_eq!(boundary(content_type).as_deref(), Some(expected));
    }
    let refused = [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\"b \"",
        "multipart/form-data; boundary=a; boundary=b",
        "multipart/form-data; boundary=a; Boundary*=b",
        "multipart/form-data; boundary=a; x=\"; boundary=b\"",
        "multipart/form-data; boundary=a,b",
        "multipart/form-data; boundary=a b",
        "multipart/form-data; boundary=a,b; x=\"a,b\"",
        "multipart/form-data; boundary=b\"b",
        "multipart/form-data; boundary=b\\b",
        "multipart/form-data; boundary=\"b;b\"",
        "multipart/form-data; boundary=b\tb",
        "multipart/form-data; boundary=\"b\r\n\"",
        "multipart/form-data; boundary=é",
        "multipart/mixed; boundary=b",
        "application/json; boundary=b",
        &format!("multipart/form-data; boundary={longest}b"),
    ];
    for content_type in refused {
        assert_eq!(boundary(content_type), None, "{content_type}");
        let refusal = read(Bytes::new(), content_type).unwrap_err();
        assert_eq!(refusal, EmailError::NoBoundary);
    }
}
