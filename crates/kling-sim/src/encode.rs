//! Encodings of answers: gzip for clients that ask for it, and what a gateway does to those that do
//! not.
//!
//! A proxy that passes a client's `Accept-Encoding` on and looks for `task.id` in the answer finds
//! noise instead.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use http::{
    HeaderMap,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, VARY},
};
use http_body::Body as _;
use http_body_util::{BodyExt, Full};
use serde::Deserialize;

use crate::reply::{AsScripted, Cut, Reply};

/// What a gateway makes of an answer, whatever encoding the request accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Encoding {
    /// It compresses the answer, and says so.
    Gzip,
    /// It says `Content-Encoding: utf-8`, and leaves the answer as it is.
    Utf8,
    /// It says `Content-Encoding:` without a value, and leaves the answer as it is.
    Empty,
}

impl Encoding {
    /// Encodes an answer of any type and status. An answer that is encoded already, one without a
    /// body, and one that comes in pieces stay as they are.
    pub(crate) async fn apply(self, mut reply: Reply) -> Result<Reply, Cut> {
        let has_whole_body = reply
            .body()
            .size_hint()
            .exact()
            .is_some_and(|size| size > 0);
        if !has_whole_body || reply.headers().contains_key(CONTENT_ENCODING) {
            return Ok(reply);
        }
        let name = match self {
            Self::Gzip => return gzipped(reply).await,
            Self::Utf8 => "utf-8",
            Self::Empty => "",
        };
        reply
            .headers_mut()
            .insert(CONTENT_ENCODING, HeaderValue::from_static(name));
        Ok(reply)
    }
}

/// Compresses a whole JSON answer. Any other answer stays as it is, and so does an answer that a
/// script wants sent unchanged.
pub(crate) async fn gzip(reply: Reply) -> Result<Reply, Cut> {
    let is_json = reply
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|media| media == "application/json");
    let is_whole = reply.body().size_hint().exact().is_some();
    let is_scripted = reply.extensions().get::<AsScripted>().is_some();
    if !is_json || !is_whole || is_scripted {
        return Ok(reply);
    }
    let mut reply = gzipped(reply).await?;
    reply
        .headers_mut()
        .insert(VARY, HeaderValue::from_static("accept-encoding"));
    Ok(reply)
}

async fn gzipped(reply: Reply) -> Result<Reply, Cut> {
    let (mut head, body) = reply.into_parts();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let written = encoder.write_all(&body.collect().await?.to_bytes());
    let encoded = written.and_then(|()| encoder.finish());
    let encoded = encoded.expect("memory can always be written");
    head.headers
        .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    let body = Full::from(encoded).map_err(|never| match never {}).boxed();
    Ok(Reply::from_parts(head, body))
}

/// Whether a client accepts gzip, by name or by `*`, and not with `q=0` (RFC 9110 §12.5.3).
pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(ACCEPT_ENCODING).iter();
    let codings = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','));
    let weights = codings.filter_map(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, "q=1"));
        let weight = weight.trim().strip_prefix("q=").unwrap_or("1");
        let is_accepted = weight.parse::<f32>().is_ok_and(|weight| weight > 0.0);
        Some((rank(name.trim())?, is_accepted))
    });
    // `*` stands for every coding that is not named.
    weights
        .max_by_key(|&(rank, _)| rank)
        .is_some_and(|(_, is_accepted)| is_accepted)
}

fn rank(coding: &str) -> Option<u8> {
    match coding.to_ascii_lowercase().as_str() {
        "gzip" | "x-gzip" => Some(1),
        "*" => Some(0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_accepted_only_when_the_client_says_so() {
        let cases = [
            (&[][..], false),
            (&["identity"], false),
            (&[""], false),
            (&["gzip"], true),
            (&["br, GZIP;q=0.5"], true),
            (&["br", "x-gzip"], true),
            (&["*"], true),
            (&["gzip;q=0, *"], false),
            (&["*;q=0, gzip"], true),
            (&["gzip; q=0.0"], false),
            (&["deflate, br"], false),
        ];
        for (lines, expected) in cases {
            let lines = lines
                .iter()
                .map(|line| (ACCEPT_ENCODING, line.parse().unwrap()));
            let mut headers = HeaderMap::new();
            lines.for_each(|(name, value): (_, HeaderValue)| {
                headers.append(name, value);
            });
            assert_eq!(accepts_gzip(&headers), expected, "{headers:?}");
        }
    }
}
