//! Decodes the supported content encodings within a limit.

use std::io::Read;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::{HeaderMap, header::CONTENT_ENCODING};

use crate::error::FetchError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
}

impl Encoding {
    /// The encoding of a body with these headers. Several at once are refused: we did not ask for
    /// them.
    pub(super) fn of(headers: &HeaderMap) -> Result<Encoding, FetchError> {
        let mut values = headers.get_all(CONTENT_ENCODING).iter();
        let (value, more) = (values.next(), values.next());
        match (
            value.map(|value| value.as_bytes().to_ascii_lowercase()),
            more,
        ) {
            (None, _) => Ok(Encoding::Identity),
            // Gateways name none, or a charset, though nothing is encoded.
            (Some(value), None) if matches!(&*value, b"identity" | b"" | b"utf-8") => {
                Ok(Encoding::Identity)
            }
            // RFC 9110 §8.4.1.3: x-gzip is the same.
            (Some(value), None) if value == b"gzip" || value == b"x-gzip" => Ok(Encoding::Gzip),
            (Some(_), _) => Err(FetchError::UnknownEncoding),
        }
    }

    /// Decodes `bytes` to at most `limit` bytes; a bomb is not unpacked beyond that.
    pub(super) fn decode(self, bytes: Bytes, limit: usize) -> Result<Bytes, FetchError> {
        match self {
            Encoding::Identity => Ok(bytes),
            Encoding::Gzip => {
                let mut decoded = Vec::new();
                let mut decoder = MultiGzDecoder::new(&bytes[..]).take(limit as u64 + 1);
                decoder
                    .read_to_end(&mut decoded)
                    .map_err(FetchError::BrokenEncoding)?;
                if decoded.len() > limit {
                    return Err(FetchError::TooLarge {
                        limit,
                        unit: "bytes decoded",
                    });
                }
                Ok(decoded.into())
            }
        }
    }
}

/// `body` without the content encoding that `headers` name. `None` if the encoding is unknown or
/// broken, or the content exceeds `limit` bytes.
pub fn decoded(headers: &HeaderMap, body: Bytes, limit: usize) -> Option<Bytes> {
    Encoding::of(headers).ok()?.decode(body, limit).ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use http::HeaderValue;

    use super::*;
    use crate::FetchResult;

    fn gzip(bytes: &[u8]) -> Bytes {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap().into()
    }

    fn encoding(values: &[&'static str]) -> Option<Encoding> {
        let value = |&value| (CONTENT_ENCODING, HeaderValue::from_static(value));
        Encoding::of(&values.iter().map(value).collect()).ok()
    }

    #[test]
    fn only_gzip_and_identity_are_understood() {
        assert_eq!(encoding(&[]), Some(Encoding::Identity));
        assert_eq!(encoding(&["identity"]), Some(Encoding::Identity));
        assert_eq!(encoding(&["GZip"]), Some(Encoding::Gzip));
        assert_eq!(encoding(&["x-gzip"]), Some(Encoding::Gzip));
        assert_eq!(encoding(&["br"]), None);
        assert_eq!(encoding(&["gzip, gzip"]), None);
        assert_eq!(encoding(&["gzip", "br"]), None);
        assert_eq!(encoding(&[""]), Some(Encoding::Identity));
        assert_eq!(encoding(&["UTF-8"]), Some(Encoding::Identity));
    }

    #[test]
    fn what_is_decoded_fits_the_limit_exactly_or_is_too_large() {
        let decode = |len: usize| Encoding::Gzip.decode(gzip(&vec![b' '; len]), 1000);
        assert_eq!(decode(1000).unwrap().len(), 1000);
        assert_eq!(decode(1001).unwrap_err().result(), FetchResult::TooLarge);
    }

    #[test]
    fn broken_gzip_is_not_read_halfway() {
        let whole = gzip(b"{}");
        let truncated = whole.slice(..whole.len() - 1);
        let with_junk = [&whole[..], b"junk"].concat().into();
        for broken in [
            truncated,
            with_junk,
            Bytes::from_static(b"{}"),
            Bytes::new(),
        ] {
            let error = Encoding::Gzip.decode(broken, 1000).unwrap_err();
            assert_eq!(error.result(), FetchResult::Encoding);
        }
    }
}
