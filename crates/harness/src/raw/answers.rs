//! Reads answers as strictly as any client may.

use httparse::{EMPTY_HEADER, Header, Response, Status};

/// More lines than a head has here.
const LINES_MAX: usize = 128;

/// How often `text` stands in `data`.
pub(super) fn count_of(data: &[u8], text: &[u8]) -> usize {
    data.windows(text.len()).filter(|it| *it == text).count()
}

/// The number of final answers. `has_head`: one of them may be to a HEAD request, and have no body.
#[track_caller]
pub(super) fn count(mut bytes: &[u8], has_head: bool) -> usize {
    let mut count = 0;
    while !bytes.is_empty() {
        let mut headers = [EMPTY_HEADER; LINES_MAX];
        let mut response = Response::new(&mut headers);
        let shown = String::from_utf8_lossy(bytes);
        let Ok(Status::Complete(head_bytes)) = response.parse(bytes) else {
            panic!("no head of an answer: {shown}");
        };
        let code = response.code.unwrap();
        assert!((100..600).contains(&code) && code != 101, "{shown}");
        bytes = &bytes[head_bytes..];
        let framing = framing(response.headers);
        let (Ok(framing), is_old) = (framing, response.version == Some(0)) else {
            panic!("the length of the body is not told in one way: {shown}");
        };
        count += usize::from(code >= 200);
        let is_bodiless = code < 200 || code == 204 || code == 304;
        if is_bodiless {
            let is_told = !matches!(framing, Framing::Length(0) | Framing::Close);
            assert!(!is_told || code == 304, "a body of {code}: {shown}");
        }
        let ends_here = bytes.is_empty() || bytes.starts_with(b"HTTP/1.");
        if is_bodiless || has_head && ends_here {
            continue;
        }
        let rest = match framing {
            Framing::Length(length) => bytes.get(length..),
            Framing::Chunked => behind_chunks(bytes),
            Framing::Close => {
                let is_last = is_old || says_close(response.headers);
                is_last.then_some(&bytes[bytes.len()..])
            }
        };
        bytes = rest.unwrap_or_else(|| panic!("no whole body: {shown}"));
    }
    count
}

enum Framing {
    Length(usize),
    Chunked,
    Close,
}

/// How the end of the body is told. An error if it is told in two ways.
fn framing(headers: &[Header<'_>]) -> Result<Framing, ()> {
    let named = |name: &str| {
        let values = headers
            .iter()
            .filter(|it| it.name.eq_ignore_ascii_case(name));
        values.map(|it| it.value).collect::<Vec<_>>()
    };
    match (
        &named("content-length")[..],
        &named("transfer-encoding")[..],
    ) {
        ([], []) => Ok(Framing::Close),
        ([length], []) => {
            let is_number = length.iter().all(u8::is_ascii_digit);
            let length = str::from_utf8(length).ok().and_then(|it| it.parse().ok());
            length.filter(|_| is_number).map(Framing::Length).ok_or(())
        }
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        _ => Err(()),
    }
}

fn says_close(headers: &[Header<'_>]) -> bool {
    let mut named = headers
        .iter()
        .filter(|it| it.name.eq_ignore_ascii_case("connection"));
    named.any(|it| it.value.eq_ignore_ascii_case(b"close"))
}

/// What follows a body in chunks, if it is whole.
fn behind_chunks(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        let Ok(Status::Complete((head_bytes, length))) = httparse::parse_chunk_size(bytes) else {
            return None;
        };
        bytes = &bytes[head_bytes..];
        if length == 0 {
            break;
        }
        bytes = bytes
            .get(usize::try_from(length).ok()?..)?
            .strip_prefix(b"\r\n")?;
    }
    // Trailers, and the empty line.
    let mut trailers = [EMPTY_HEADER; LINES_MAX];
    match httparse::parse_headers(bytes, &mut trailers) {
        Ok(Status::Complete((trailer_bytes, _))) => Some(&bytes[trailer_bytes..]),
        Ok(Status::Partial) | Err(_) => None,
    }
}
