//! Forms: one account in one place, whichever parser reads them.

use bytes::Bytes;
use harness::{Running, manual};
use http::Method;

use super::client::{JOB, Raw, exchange, leases, ready, task_id};

/// A call that creates something and takes no slot.
const CREATE: &str = "/v1/kling/avatars";
const FORM: &str = "multipart/form-data; boundary=x";
const FIELDS: &str = "application/x-www-form-urlencoded";
const PROMPT: &str = "Content-Disposition: form-data; name=\"prompt\"\r\n\r\np";
const EMAIL: &str = "Content-Disposition: form-data; name=\"email\"\r\n\r\na@x";

async fn sidecar() -> Running {
    ready(
        manual(&[("a@x", 50), ("b@x", 50)]).start().await.unwrap(),
        &[("FORWARD__MARK", "off")],
    )
    .await
}

/// Parts with their heads, as the body of a form.
fn form(parts: &[&str]) -> String {
    let parts = parts.iter().map(|part| format!("--x\r\n{part}\r\n"));
    parts.collect::<String>() + "--x--\r\n"
}

async fn post(running: &Running, path: &str, media: &str, body: &str) -> Raw {
    let header = ("content-type", media);
    let body = Bytes::copy_from_slice(body.as_bytes());
    exchange(running.addr, Method::POST, path, &[header], body).await
}

/// Checks that job starts and creating calls with these bodies are refused with a text that begins so, that
/// nothing is sent and no slot is taken.
async fn assert_refused(media: &str, cases: &[(String, &str)]) {
    let running = sidecar().await;
    for (body, expected) in cases {
        for path in [JOB, CREATE] {
            let answer = post(&running, path, media, body).await.text();
            answer.assert_refused(400, "bad-request");
            let message = answer.json()["error"].as_str().unwrap().to_owned();
            assert!(message.starts_with(expected), "{body:?}: {message}");
        }
    }
    assert_eq!(running.sim.audit().submission_count, 0);
    let requests = running.sim.requests();
    let sent: Vec<_> = requests
        .iter()
        .filter(|it| it.head.method != "GET")
        .collect();
    assert!(sent.is_empty(), "{sent:?}");
    assert_eq!(leases(&running).await.len(), 0);
}

#[tokio::test]
async fn a_part_that_another_parser_could_take_for_the_email_is_refused() {
    let named = |name: &str| EMAIL.replace("name=\"email\"", name);
    let with = |line: &str| EMAIL.replace("\r\n\r\n", &format!("\r\n{line}\r\n\r\n"));
    let disposition = "body: expected each part to have one `Content-Disposition: form-data; name";
    let header = "body: expected each header of a part on one line";
    let text = "email: expected a part without a file name, of no type or of text/plain";
    let cases = [
        (named("name*=utf-8''email"), disposition),
        (named("name=\"x\"; name*=utf-8''email"), disposition),
        (named("name*0=em; name*1=ail"), disposition),
        (named("name=\"x\"; name=\"email\""), disposition),
        (named("name=\"x\"; filename=\"y; name=email\""), disposition),
        (named("filename=\"email\"; name=\"x\""), disposition),
        (named("name=\"email\"; x=y"), disposition),
        (named("NAME=\"email\""), disposition),
        (named("name = \"email\""), disposition),
        (named("name=\"e\\mail\""), disposition),
        (named("name=\"=?utf-8?Q?email?=\""), disposition),
        (EMAIL.replace("form-data", "attachment"), disposition),
        (EMAIL.replace("; name=\"email\"", ""), disposition),
        (
            with("content-disposition: form-data; name=\"x\""),
            disposition,
        ),
        ("\r\na@x".to_owned(), disposition),
        (named("\r\n name=\"email\""), header),
        (
            named("name=\"x\"\nContent-Disposition: form-data; name=email"),
            header,
        ),
        (named("name=\"x\"\rX: y"), header),
        (named("name=\"email\0x\""), header),
        (EMAIL.replace("Disposition:", "Disposition :"), header),
        (with("no header"), header),
        (
            with("Content-Transfer-Encoding: base64").replace("a@x", "YUB4"),
            "body: expected no Content-Transfer-Encoding of a part but 7bit, 8bit and binary",
        ),
        (
            with("Content-Transfer-Encoding: quoted-printable"),
            "body: expected no Content-Transfer-Encoding of a part but",
        ),
        (
            with("Content-Type: multipart/mixed; boundary=y"),
            "body: expected no multipart within a part",
        ),
        (with("Content-Type: text/plain; charset=utf-16"), text),
        (with("Content-Type: application/octet-stream"), text),
        (named("name=\"email\"; filename=\"email.txt\""), text),
        (
            named("name=\"email[]\""),
            "email: expected a name without brackets",
        ),
        (named("name=\"%65mail\""), "email: expected a name without"),
        (named("name=\" email\""), "email: expected a name without"),
        (
            EMAIL.replace("a@x", "a@x\0"),
            "email: expected no control characters",
        ),
        (
            EMAIL.replace("a@x", "a@x\nb@x"),
            "email: expected no control characters",
        ),
    ];
    let cases = cases.map(|(part, expected)| (form(&[PROMPT, &part]), expected));
    assert_refused(FORM, &cases).await;
}

#[tokio::test]
async fn a_delimiter_that_parsers_see_in_different_places_is_refused() {
    let whole = form(&[PROMPT, EMAIL]);
    let hidden = |text: &str| form(&[&PROMPT.replace("\r\n\r\np", &format!("\r\n\r\np{text}q"))]);
    let delimiter = "body: expected each line that begins with the boundary to be it alone";
    let outside =
        "body: expected no headers in front of the first boundary and behind the last one";
    let cases = [
        (whole.replace("\r\n", "\n"), delimiter),
        (whole.replacen("--x\r\n", "--x\n", 1), delimiter),
        (whole.replacen("--x\r\n", "--x \r\n", 1), delimiter),
        (whole.replace("--x--", "--x--y"), delimiter),
        (hidden(&format!("\n--x\n{EMAIL}\n--x--\n")), delimiter),
        (hidden(&format!("\r--x\r\n{EMAIL}")), delimiter),
        (hidden(&format!("\r\n--x \r\n{EMAIL}")), delimiter),
        (hidden(&format!("\r\n--xy\r\n{EMAIL}")), delimiter),
        (format!("{EMAIL}\r\n{whole}"), outside),
        (format!("{whole}{}", form(&[EMAIL])), outside),
        (format!("{whole}{EMAIL}\r\n--x--\r\n"), outside),
        (
            whole.replace("--x--\r\n", ""),
            "body: expected the closing boundary",
        ),
        (form(&[PROMPT, EMAIL, EMAIL]), "email: given twice"),
        (
            form(&[
                EMAIL,
                &EMAIL.replace("email", "_charset_").replace("a@x", "utf-16"),
            ]),
            "body: expected _charset_ to be utf-8",
        ),
    ];
    assert_refused(FORM, &cases).await;
    let boundary = "body: expected multipart/form-data with a boundary of";
    for media in [
        "multipart/form-data; boundary=x; boundary=y",
        "multipart/form-data; boundary=x; boundary*=utf-8''y",
        "multipart/form-data; boundary=x,y",
    ] {
        assert_refused(media, &[(whole.clone(), boundary)]).await;
    }
}

#[tokio::test]
async fn fields_that_another_parser_could_take_for_the_email_are_refused() {
    let nearly = "email: expected a name without brackets";
    let semicolon = "email: expected & between fields, and a semicolon as %3B";
    let cases = [
        ("prompt=p&email[]=a@x", nearly),
        ("email=a@x&email%5B%5D=b@x", nearly),
        ("prompt=p&+email=a@x", nearly),
        ("prompt=p&email%00=a@x", nearly),
        ("prompt=p;email=a@x", semicolon),
        ("email=a@x;prompt=p", semicolon),
        (
            "email=a@x%00b&prompt=p",
            "email: expected no control characters",
        ),
        ("email=a@x&_charset_=utf-16", "body: expected _charset_"),
        ("email=a@x&%65mail=b@x", "email: given twice"),
        (
            r#"{"prompt":"p&email=b@x&"}"#,
            "body: expected Content-Type: application/json",
        ),
    ];
    let cases = cases.map(|(body, expected)| (body.to_owned(), expected));
    assert_refused(FIELDS, &cases).await;
    let json = [
        (
            r#"{"email":"a@x\u0000"}"#.to_owned(),
            "email: expected no control characters",
        ),
        (
            r#"{"\u0065mail":"a@x","email":"b@x"}"#.to_owned(),
            "email: given twice",
        ),
    ];
    assert_refused("application/json", &json).await;

    let running = sidecar().await;
    for query in [
        "?email[]=a@x",
        "?x=1;email=a@x",
        "?email=a@x;b",
        "?email=a@x%00",
    ] {
        for (media, body) in [(FORM, form(&[PROMPT])), (FIELDS, "prompt=p".to_owned())] {
            let path = format!("{JOB}{query}");
            let answer = post(&running, &path, media, &body).await.text();
            answer.assert_refused(400, "bad-request");
        }
    }
    for body in [form(&[PROMPT, EMAIL]), form(&[EMAIL])] {
        let path = format!("{JOB}?email=b@x");
        let answer = post(&running, &path, FORM, &body).await.text();
        answer.assert_refused(400, "bad-request");
    }
    assert_eq!(running.sim.audit().submission_count, 0);
}

#[tokio::test]
async fn what_clients_send_passes() {
    let running = sidecar().await;
    let file = |rest: &str| {
        format!(
            "Content-Disposition: form-data; {rest}\r\nContent-Type: image/png\r\n\r\n\0\r\n\n\r"
        )
    };
    let clients = [
        // curl, browsers, undici, okhttp, Go.
        (
            EMAIL.to_owned(),
            file("name=\"image\"; filename=\"a b.png\""),
        ),
        // requests, where the file name is not ASCII.
        (
            EMAIL.to_owned(),
            file("name=\"image\"; filename*=utf-8''%C3%A9.png"),
        ),
        // .NET.
        (
            "Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; \
             name=email\r\n\r\na@x"
                .to_owned(),
            file("name=image; filename=a.png; filename*=utf-8''a.png"),
        ),
        // Apache's client for Java.
        (
            EMAIL.replace(
                "\r\n\r\n",
                "\r\nContent-Type: text/plain; charset=ISO-8859-1\r\n\
                 Content-Transfer-Encoding: 8bit\r\n\r\n",
            ),
            file("name=\"image\"; filename=\"a.png\"\r\nContent-Transfer-Encoding: binary"),
        ),
        // Guzzle; form-data of Node leaves quotes in file names alone.
        (
            EMAIL.replace("\r\n\r\n", "\r\nContent-Length: 3\r\n\r\n"),
            file("name=\"image\"; filename=\"a;\"b.png\""),
        ),
        (
            EMAIL.replace(
                "Content-Disposition: form-data; ",
                "content-disposition:form-data;",
            ),
            file("name=\"image\"; filename=\"C:\\x\\a.png\""),
        ),
    ];
    for (email, image) in clients {
        let body = form(&[PROMPT, &email, &image]);
        // An old snippet for .NET begins with an empty line.
        for body in [format!("\r\n{body}"), body] {
            let answer = post(&running, JOB, FORM, &body).await.text();
            task_id(&answer);
            let submission = running.sim.audit().submissions.pop().unwrap();
            assert_eq!(submission.email.as_deref(), Some("a@x"), "{body}");
            assert_eq!(submission.body, body.as_bytes());
        }
        let body = form(&[&image, PROMPT]);
        let answer = post(&running, JOB, FORM, &body).await;
        let account = answer.header("x-kling-account").to_owned();
        task_id(&answer.text());
        let submission = running.sim.audit().submissions.pop().unwrap();
        assert_eq!(submission.email.as_deref(), Some(&*account), "{body}");
    }
}
