//! Random forms, written by a writer of their own and read by a parser that is not ours.

use http_body_util::{BodyExt, Full};
use proptest::prelude::*;

use super::*;
use crate::forward::email::check;

/// One part as an independent writer writes it.
#[derive(Clone, Debug)]
struct Written {
    name: String,
    file: Option<String>,
    content: Vec<u8>,
}

impl Written {
    fn write(&self, boundary: &str, out: &mut Vec<u8>) {
        let Self {
            name,
            file,
            content,
        } = self;
        let file = file
            .as_ref()
            .map(|file| format!("; filename=\"{file}\"\r\nContent-Type: image/png"));
        let file = file.unwrap_or_default();
        let head = format!("Content-Disposition: form-data; name=\"{name}\"{file}");
        out.extend(format!("--{boundary}\r\n{head}\r\n\r\n").bytes());
        out.extend(content);
        out.extend(b"\r\n");
    }
}

/// Binary content full of line breaks and of what looks like a delimiter.
fn content(boundary: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
    let pieces = vec![
        format!("x--{boundary}\r\n"),
        format!("x\n --{boundary}\r\n"),
        format!("{boundary}--\r\n"),
        "\r\n".to_owned(),
        "\r\n\r\nContent-Disposition: form-data; name=\"email\"\r\n\r\n".to_owned(),
    ];
    let text = prop::sample::select(pieces).prop_map(String::into_bytes);
    let piece = prop_oneof![text, any::<Vec<u8>>()];
    proptest::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

/// A boundary and parts, none of which is an e-mail.
fn parts() -> impl Strategy<Value = (String, Vec<Written>)> {
    // Not so short that random bytes hold it.
    "[A-Za-z0-9'()+_,./:=?]{5,70}".prop_flat_map(|boundary| {
        let name = "[b-z_0-9é]{1,8}|maxJobs|%22|Email";
        let file = proptest::option::of("[a-z.; =é]{0,12}");
        let part = (name, file, content(&boundary));
        let part = part.prop_map(|(name, file, content)| Written {
            name,
            file,
            content,
        });
        (Just(boundary), proptest::collection::vec(part, 0..6))
    })
}

/// A form in pieces that parsers read differently.
fn odd_form() -> impl Strategy<Value = String> {
    let pieces = [
        "--b\r\n",
        "--b\n",
        "--b \r\n",
        "--b--\r\n",
        "--bX\r\n",
        "\r\n",
        "\r\n",
        "\n",
        "\r",
        " ",
        "x",
        "a@x",
        "Content-Disposition: form-data; ",
        "Content-Disposition : form-data; ",
        "Content-Type: text/plain; ",
        "name=email",
        "name=\"email\"",
        "name=\"e\\mail\"",
        "name*=utf-8''email",
        "name=x",
        "filename=\"",
        "\"",
        "; ",
        "Content-Transfer-Encoding: base64\r\n",
        "--b\r\nContent-Disposition: form-data; name=\"email\"\r\n\r\n",
        "--b\r\nContent-Disposition: form-data; name=\"x\"",
        "\r\n\r\nx\r\n",
    ];
    let piece = prop::sample::select(pieces.to_vec());
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat() + "\r\n--b--")
}

/// The name, the file name and the content of a part.
type Read = (String, Option<String>, Vec<u8>);

/// Reads `form` with a parser that is not ours.
fn reference(form: Bytes, boundary: &str) -> Vec<Read> {
    try_reference(form, boundary).unwrap()
}

fn try_reference(form: Bytes, boundary: &str) -> Result<Vec<Read>, multer::Error> {
    let mut parser = multer::Multipart::new(Full::new(form).into_data_stream(), boundary);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut read = Vec::new();
        while let Some(part) = parser.next_field().await? {
            let name = part.name().unwrap_or_default().to_owned();
            let file = part.file_name().map(str::to_owned);
            read.push((name, file, part.bytes().await?.to_vec()));
        }
        Ok(read)
    })
}

proptest! {
    #[test]
    fn only_the_email_changes(
        (boundary, parts) in parts(),
        empty in proptest::option::of(any::<prop::sample::Index>()),
        preamble in "|\r\n|preamble\r\n|--\r\n",
        [padding, epilogue] in ["[ \t]{0,3}", "|\r\n|\n|\r\nepilogue\r\n"],
    ) {
        let (mut source, mut expected) = (preamble.clone().into_bytes(), preamble.into_bytes());
        let email = |content: &str| Written { name: "email".into(), file: None, content: content.into() };
        let at = empty.map(|idx| idx.index(parts.len() + 1));
        if at.is_none() {
            email(EMAIL).write(&boundary, &mut expected);
        }
        for idx in 0..=parts.len() {
            if at == Some(idx) {
                email("").write(&boundary, &mut source);
                email(EMAIL).write(&boundary, &mut expected);
            }
            if let Some(part) = parts.get(idx) {
                part.write(&boundary, &mut source);
                part.write(&boundary, &mut expected);
            }
        }
        let end = format!("--{boundary}--{padding}{epilogue}");
        source.extend(end.bytes());
        expected.extend(end.bytes());
        let content_type = format!("multipart/form-data; boundary=\"{boundary}\"");
        let body = read(source.into(), &content_type).unwrap();
        prop_assert_eq!(body.email(), None);
        prop_assert_eq!(body.with_email(EMAIL).unwrap(), expected);
    }

    #[test]
    fn another_parser_reads_the_same_parts_and_what_was_put_in((boundary, parts) in parts()) {
        let mut source = Vec::new();
        for part in &parts {
            part.write(&boundary, &mut source);
        }
        source.extend(format!("--{boundary}--\r\n").bytes());
        let content_type = format!("multipart/form-data; boundary=\"{boundary}\"");
        let body = read(source.into(), &content_type).unwrap();
        let mut expected = vec![("email".to_owned(), None, EMAIL.as_bytes().to_vec())];
        expected.extend(parts.into_iter().map(|part| (part.name, part.file, part.content)));
        prop_assert_eq!(reference(body.with_email(EMAIL).unwrap(), &boundary), expected.clone());
        let mark = "klb-00112233445566778899aabbccddeeff";
        expected.insert(1, ("replyRef".to_owned(), None, mark.into()));
        for email in [Some(EMAIL), None] {
            let marked = body.around(email, mark.parse().ok()).unwrap().concat();
            let from = usize::from(email.is_none());
            prop_assert_eq!(&reference(marked.into(), &boundary), &expected[from..]);
        }
    }

    #[test]
    fn another_parser_finds_no_other_email_in_what_is_read(form in odd_form()) {
        if let (Ok(body), Ok(parts)) = (read_text(&form), try_reference(form.into(), "b")) {
            let emails = parts.iter().filter(|(name, ..)| name == "email");
            let texts: Vec<_> = emails.map(|(.., text)| text.as_slice()).collect();
            let expected = body.email().unwrap_or_default().as_bytes();
            prop_assert_eq!(texts.concat(), expected);
        }
    }

    #[test]
    fn random_bytes_are_read_or_refused(
        bytes in any::<Vec<u8>>(),
        form in "(--b|--|\r\n|\n| |Content-Disposition: form-data; name=|\"?email\"?|a@x|maxJobs|;|é){0,40}",
    ) {
        check::multipart_email(&bytes);
        check::multipart_email([TYPE.as_bytes(), b"\n", &bytes].concat().as_slice());
        check::multipart_email(format!("{TYPE}\n{form}").as_bytes());
        check::multipart_email(format!("{TYPE}\n--b\r\n{form}\r\n\r\n{form}\r\n--b--").as_bytes());
    }
}
