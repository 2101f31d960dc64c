//! Reading what a request says: its query, its JSON body, its headers. Every failure names the
//! part that is wrong and what was expected.

use std::time::Duration;

use http::{HeaderMap, Request, header};
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use tokio::time;

use crate::{error::Error, peer::RequestBody};

/// The largest body of a call to our own API: its largest field is a list of 256 e-mails of at
/// most 254 bytes.
pub(super) const BODY_BYTES_MAX: usize = 128 * 1024;

/// How long such a body may take to arrive: it fits into a few packets.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);

/// The pairs of a query, decoded. `+` is a plus sign here: e-mails contain it.
pub(super) fn query_pairs(query: &str) -> impl Iterator<Item = Result<(&str, String), Error>> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match percent_decode_str(value).decode_utf8() {
                Ok(value) => Ok((name, value.into_owned())),
                Err(_) => Err(Error::bad_request(shown(name), "expected UTF-8")),
            }
        })
}

/// Reads the JSON object of a body. No body at all is an empty object.
pub(super) async fn json_object<T>(request: Request<RequestBody>) -> Result<T, Error>
where
    T: DeserializeOwned + Default,
{
    let (head, body) = request.into_parts();
    if body.is_end_stream() {
        return Ok(T::default());
    }
    let read = Limited::new(body, BODY_BYTES_MAX).collect();
    let bytes = match time::timeout(BODY_TIME_MAX, read).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return Err(Error::BodyTooLarge {
                max: BODY_BYTES_MAX,
            });
        }
        Ok(Err(_)) => return Err(Error::bad_request("body", "it broke off")),
        Err(_) => {
            let expected = format!("expected to arrive within {BODY_TIME_MAX:?}");
            return Err(Error::bad_request("body", expected));
        }
    };
    read_object(&head.headers, &bytes)
}

/// Reads the JSON object that `bytes` are. Nothing is an empty object.
pub(super) fn read_object<T>(headers: &HeaderMap, bytes: &[u8]) -> Result<T, Error>
where
    T: DeserializeOwned + Default,
{
    if bytes.is_empty() {
        return Ok(T::default());
    }
    if !is_json(headers) {
        return Err(Error::UnsupportedMedia);
    }
    // A derived deserializer would accept an array as an object with its fields in order.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(Error::bad_request("body", "expected a JSON object"));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let field = match &*error.path().to_string() {
            "." | "?" => "body".to_owned(),
            path => shown(path),
        };
        Error::bad_request(field, error.inner().to_string())
    })?;
    reader
        .end()
        .map_err(|error| Error::bad_request("body", error.to_string()))?;
    Ok(value)
}

fn is_json(headers: &HeaderMap) -> bool {
    let named = headers
        .get(header::CONTENT_TYPE)
        .and_then(|named| named.to_str().ok());
    let essence = named
        .and_then(|named| named.split(';').next())
        .unwrap_or_default()
        .trim();
    essence.eq_ignore_ascii_case("application/json")
        || essence.to_ascii_lowercase().ends_with("+json")
}

/// A name a client sent, fit to be shown in an error.
pub(super) fn shown(name: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 64;
    if name.is_empty() {
        return "a field without a name".to_owned();
    }
    name.chars().take(SHOWN_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_about_a_field_without_a_name_says_so() {
        assert_eq!(shown(""), "a field without a name");
        assert_eq!(shown("ttl"), "ttl");
        assert_eq!(shown(&"x".repeat(65)).len(), 64);
    }
}
