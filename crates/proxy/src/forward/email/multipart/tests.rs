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
        (
            "--bX\r\n--b-\r\n x--b\r\n",
            format!("--b \t\r\n\r\nno head\r\n{part}--b-- \t\r\n"),
        ),
    ];
    for (preamble, rest) in forms {
        let form = format!("{preamble}{rest}");
        assert_eq!(filled(&form), format!("{preamble}{EXTRA}{rest}"));
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
        "Content-Type: text/plain\r\nCONTENT-DISPOSITION: Form-Data; NAME=email; x=y",
        "Content-Disposition: form-data;\r\n\tfilename=\"; name=x\";\r\n name=\"email\"\r\nX: y",
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
    let heads = [
        r#"Content-Disposition: form-data; name="Email""#,
        r#"Content-Disposition: form-data; name="email[]""#,
        r#"Content-Disposition: form-data; filename="email""#,
        "Content-Disposition: form-data; name*=UTF-8''email",
        r#"Content-Disposition: attachment; name="email""#,
        r#"Content-Type: text/plain; name="email""#,
        "Content-Disposition: form-data",
        "no header",
    ];
    for head in heads {
        let form = format!("--b\r\n{head}\r\n\r\na@x\r\n--b--\r\n");
        assert_eq!(filled(&form), format!("{EXTRA}{form}"), "{head}");
    }
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
    use EmailError::{GivenTwice, NoHead, NoPart, NotClosed, NotText, TooManyParts};
    let part = email_part("a@x");
    let long_head = format!(
        "--b\r\nX: {}\r\n\r\n\r\n--b--",
        "x".repeat(PART_HEAD_BYTES_MAX - 2)
    );
    let parts = |count| "--b\r\n\r\n\r\n".repeat(count) + "--b--";
    let cases = [
        (String::new(), NoPart),
        (r#"{"email":"a@x"}"#.to_owned(), NoPart),
        ("x--b--".to_owned(), NoPart),
        ("\n--b--".to_owned(), NoPart),
        ("--b".to_owned(), NoPart),
        ("--b--x".to_owned(), NoPart),
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
