//! The ways in which `GET /accounts` can go wrong, and the answers that do so on a real socket.

use std::{
    io::{self, Read},
    iter,
    time::Duration,
};

use bytes::Bytes;
use flate2::{Compression, read::GzEncoder};
use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, LOCATION, RETRY_AFTER},
};
use http_body_util::BodyExt;

use crate::{
    refusal::Refusal,
    reply::{self, Cut, End, Reply, Scripted},
};

/// How many bytes a [`ListFault::GzipBomb`] decodes to.
const BOMB_BYTES: u64 = 128 * 1024 * 1024;

/// One chunk of a [`ListFault::GzipBomb`]: small, since it decodes to megabytes.
const BOMB_CHUNK_BYTES: u64 = 8 * 1024;

/// Entries in one chunk of a [`ListFault::Huge`] list: about 64 KiB.
const HUGE_CHUNK_ENTRIES: u32 = 1024;

/// An answer to `GET /accounts` that is not the true list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListFault {
    /// Any status. Without a body of its own it has the upstream's JSON error.
    Status {
        /// The status.
        status: StatusCode,
        /// The `Retry-After` header, seconds or a date.
        retry_after: Option<HeaderValue>,
        /// The body, sent as JSON.
        body: Option<String>,
    },
    /// `200` with a page of HTML.
    Html,
    /// Half of the true list, with the `Content-Length` of the whole; then the connection closes.
    Truncated,
    /// As [`ListFault::Truncated`], but the connection stays open and silent.
    Stalled,
    /// The true list, one byte per interval.
    Drip(Duration),
    /// Half of the true list, then a TCP reset.
    Reset,
    /// A well-formed list of at least this many bytes, streamed.
    Huge(u64),
    /// A well-formed list of a few hundred kilobytes that decodes to 128 MiB.
    GzipBomb,
    /// `302` to this address.
    Redirect(HeaderValue),
    /// `200` with this body, sent as JSON even if it is none.
    Body(String),
    /// `401`, as for a wrong token.
    Unauthorized,
    /// `404` in plain text, as for a token without accounts.
    NotConfigured,
}

impl ListFault {
    /// A status with the upstream's JSON error.
    ///
    /// # Panics
    /// If `status` is not a status of HTTP (100 to 999).
    #[must_use]
    pub fn status(status: u16) -> Self {
        let status = StatusCode::from_u16(status).expect("a status from 100 to 999");
        Self::Status {
            status,
            retry_after: None,
            body: None,
        }
    }

    /// As [`ListFault::status`], with a `Retry-After` header.
    ///
    /// # Panics
    /// If `status` is not a status of HTTP, or `retry_after` is not valid in a header.
    #[must_use]
    pub fn status_retry_after(status: u16, retry_after: &str) -> Self {
        let status = StatusCode::from_u16(status).expect("a status from 100 to 999");
        Self::Status {
            status,
            retry_after: Some(header(retry_after)),
            body: None,
        }
    }

    /// A redirect to `location`.
    ///
    /// # Panics
    /// If `location` is not valid in a header.
    #[must_use]
    pub fn redirect(location: &str) -> Self {
        Self::Redirect(header(location))
    }

    /// The answer. A fault in the delivery delivers the true `list`.
    pub(crate) fn reply(self, list: String) -> Reply {
        match self {
            Self::Status {
                status,
                retry_after,
                body,
            } => {
                let mut reply = match body {
                    Some(body) => reply::json_text(status, body),
                    None => reply::error(status, status.canonical_reason().unwrap_or("Error")),
                };
                reply
                    .headers_mut()
                    .extend(retry_after.map(|value| (RETRY_AFTER, value)));
                reply
            }
            Self::Html => reply::whole(
                StatusCode::OK,
                "text/html",
                "<html><body>Bad gateway</body></html>",
            ),
            Self::Truncated => half_of(list, End::Cut(Cut::Close)),
            Self::Stalled => half_of(list, End::Stall),
            Self::Reset => half_of(list, End::Cut(Cut::Reset)),
            Self::Drip(interval) => {
                let length = list.len();
                let bytes = list
                    .into_bytes()
                    .into_iter()
                    .map(|byte| Bytes::from(vec![byte]));
                delivered(
                    Scripted::new(bytes, End::Whole).pause(interval),
                    Some(length),
                )
            }
            Self::Huge(bytes_min) => {
                delivered(Scripted::new(huge_list(bytes_min), End::Whole), None)
            }
            Self::GzipBomb => {
                let mut reply = delivered(Scripted::new(gzip_bomb(), End::Whole), None);
                reply
                    .headers_mut()
                    .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                reply
            }
            Self::Redirect(location) => {
                let mut reply = reply::error(StatusCode::FOUND, "Found");
                reply.headers_mut().insert(LOCATION, location);
                reply
            }
            Self::Body(body) => reply::json_text(StatusCode::OK, body),
            Self::Unauthorized => Refusal::Unauthorized.into(),
            Self::NotConfigured => Refusal::NotConfigured.into(),
        }
    }
}

fn header(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).expect("visible ASCII, which a header can carry")
}

/// The first half of `list`, with the `Content-Length` of the whole.
fn half_of(list: String, end: End) -> Reply {
    let length = list.len();
    let half = Bytes::from(list).slice(..length / 2);
    delivered(Scripted::new(iter::once(half), end), Some(length))
}

/// A `200` whose body comes as scripted; without a length it is chunked.
fn delivered<I>(body: Scripted<I>, length: Option<usize>) -> Reply
where
    I: Iterator<Item = Bytes> + Send + Sync + Unpin + 'static,
{
    let mut reply = reply::with_body(StatusCode::OK, "application/json", body.boxed());
    reply
        .headers_mut()
        .extend(length.map(|length| (CONTENT_LENGTH, HeaderValue::from(length))));
    reply
}

/// A list of accounts in chunks, at least `bytes_min` long.
fn huge_list(bytes_min: u64) -> impl Iterator<Item = Bytes> + Send + Sync + Unpin {
    let mut entry_count = 0_u32;
    let mut written = 0_u64;
    let entries = iter::from_fn(move || {
        if written >= bytes_min {
            return None;
        }
        let mut chunk = String::new();
        for _ in 0..HUGE_CHUNK_ENTRIES {
            let email = format!("{entry_count}@huge.example");
            let comma = if entry_count == 0 { "" } else { "," };
            chunk += &format!(r#"{comma}"{email}":{{"email":"{email}","maxJobs":1}}"#);
            entry_count += 1;
        }
        written += chunk.len() as u64;
        Some(Bytes::from(chunk))
    });
    let (open, close) = (Bytes::from_static(b"{"), Bytes::from_static(b"}"));
    iter::once(open).chain(entries).chain(iter::once(close))
}

/// An empty list and white space up to [`BOMB_BYTES`], compressed as it is sent.
fn gzip_bomb() -> impl Iterator<Item = Bytes> + Send + Sync + Unpin {
    let list = b"{}".chain(io::repeat(b' ').take(BOMB_BYTES - 2));
    let mut bomb = GzEncoder::new(list, Compression::fast());
    iter::from_fn(move || {
        let mut chunk = Vec::new();
        let read = bomb.by_ref().take(BOMB_CHUNK_BYTES).read_to_end(&mut chunk);
        (read.expect("memory can always be read") > 0).then(|| Bytes::from(chunk))
    })
}

#[cfg(test)]
mod tests {
    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn a_huge_list_is_valid_json_of_the_size_asked_for() {
        let list: Vec<u8> = huge_list(200_000).flatten().collect();
        assert!(list.len() >= 200_000);
        let parsed: serde_json::Value = serde_json::from_slice(&list).unwrap();
        assert_eq!(parsed["1500@huge.example"]["maxJobs"], 1);
    }

    #[test]
    fn a_gzip_bomb_is_small_and_decodes_to_its_full_size() {
        let bomb: Vec<u8> = gzip_bomb().flatten().collect();
        assert!(bomb.len() < 1024 * 1024, "{} bytes on the wire", bomb.len());
        let mut decoder = GzDecoder::new(&bomb[..]);
        let mut head = [0; 3];
        decoder.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"{} ");
        let rest = io::copy(&mut decoder, &mut io::sink()).unwrap();
        assert_eq!(rest, BOMB_BYTES - 3);
    }
}
