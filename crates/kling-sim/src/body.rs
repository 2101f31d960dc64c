//! Bodies of requests: read to a limit, and understood as fields.
//!
//! JSON and multipart yield the same fields. In multipart every value is a string, so numbers and
//! booleans are accepted as strings everywhere.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header::CONTENT_TYPE};
use http_body::Body as _;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use multer::Multipart;
use serde_json::Value;

use crate::{account::MAX_JOBS, refusal::Refusal};

/// The longest text that is remembered, such as `email` or `replyRef`.
const TEXT_BYTES_MAX: usize = 1024;

/// The most outputs of one task.
const OUTPUTS_MAX: u32 = 9;

/// A body that was read as far as it came.
#[derive(Debug)]
pub(crate) struct Read {
    /// Its first bytes.
    pub(crate) kept: Bytes,
    /// How many bytes arrived.
    pub(crate) byte_count: u64,
    /// Whether its end arrived within the limit.
    pub(crate) end: Result<(), Refusal>,
}

/// Reads a body to its end or to `bytes_max`, and keeps the first `kept_max` bytes.
pub(crate) async fn read(mut body: Incoming, bytes_max: u64, kept_max: usize) -> Read {
    let too_large = Refusal::BodyTooLarge { limit: bytes_max };
    let (mut kept, mut byte_count) = (BytesMut::new(), 0);
    let end = loop {
        if byte_count + body.size_hint().lower() > bytes_max {
            break Err(too_large);
        }
        match body.frame().await {
            None => break Ok(()),
            Some(Err(_)) => break Err(Refusal::BodyUnreadable),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    byte_count += data.len() as u64;
                    let left = kept_max - kept.len();
                    kept.extend_from_slice(&data[..data.len().min(left)]);
                }
            }
        }
        if byte_count > bytes_max {
            break Err(too_large);
        }
    };
    Read {
        kept: kept.freeze(),
        byte_count,
        end,
    }
}

/// The fields of a body, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Fields(BTreeMap<String, Value>);

impl Fields {
    /// Reads a form where the header says so, and JSON otherwise, also where curl calls it a form.
    pub(crate) async fn parse(headers: &HeaderMap, body: &Bytes) -> Result<Self, Refusal> {
        let media = headers
            .get(CONTENT_TYPE)
            .and_then(|media| media.to_str().ok())
            .unwrap_or_default();
        let named = media.to_ascii_lowercase();
        if named.starts_with("multipart/") {
            Self::multipart(media, body).await
        } else if named.starts_with("application/x-www-form-urlencoded") && !body.starts_with(b"{")
        {
            Ok(Self::urlencoded(body))
        } else {
            Self::json(body)
        }
    }

    /// Reads a JSON object.
    pub(crate) fn json(body: &[u8]) -> Result<Self, Refusal> {
        let fields = serde_json::from_slice(body).or(Err(Refusal::NotAJsonObject))?;
        Ok(Self(fields))
    }

    /// Reads a form; the last of several values wins.
    fn urlencoded(body: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(body);
        Self(
            pairs
                .map(|(name, value)| (name.into_owned(), Value::String(value.into_owned())))
                .collect(),
        )
    }

    async fn multipart(media: &str, body: &Bytes) -> Result<Self, Refusal> {
        let refused = |error: multer::Error| Refusal::MultipartInvalid {
            error: error.to_string(),
        };
        let boundary = multer::parse_boundary(media)
            .or_else(|error| named_boundary(media).ok_or(error))
            .map_err(refused)?;
        let mut parts = Multipart::new(Full::new(body.clone()).into_data_stream(), boundary);
        let mut fields = BTreeMap::new();
        while let Some(part) = parts.next_field().await.map_err(refused)? {
            let name = part.name().unwrap_or_default().to_owned();
            let bytes = part.bytes().await.map_err(refused)?;
            let value = match std::str::from_utf8(&bytes) {
                Ok(text) => text.to_owned(),
                Err(_) => format!("{} bytes", bytes.len()),
            };
            // The last of several values wins, but two accounts for one job are a mistake.
            let is_email = name == "email";
            if fields.insert(name, Value::String(value)).is_some() && is_email {
                return Err(Refusal::FieldInvalid {
                    field: "email",
                    expected: "given once",
                });
            }
        }
        Ok(Self(fields))
    }

    /// Demands that all of `required` are present and not empty.
    pub(crate) fn require(self, required: &'static [&'static str]) -> Result<Self, Refusal> {
        match required.iter().find(|field| !self.has(field)) {
            Some(field) => Err(Refusal::FieldMissing { field }),
            None => Ok(self),
        }
    }

    /// A string to remember, where `null` and `""` mean absent.
    pub(crate) fn text(&self, field: &'static str) -> Result<Option<String>, Refusal> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) if text.len() <= TEXT_BYTES_MAX => Ok(Some(text.clone())),
            Some(_) => Err(Refusal::FieldInvalid {
                field,
                expected: "a string of at most 1024 bytes",
            }),
        }
    }

    /// An id: a number or a string, where `null` and `""` mean absent.
    pub(crate) fn id(&self, field: &str) -> Option<String> {
        let id = match self.0.get(field)? {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
        };
        Some(id).filter(|id| !id.is_empty())
    }

    /// A cap on jobs: a whole number, or a text that spells one.
    pub(crate) fn max_jobs(&self) -> Result<Option<u32>, Refusal> {
        let number = match self.0.get("maxJobs") {
            None | Some(Value::Null) => return Ok(None),
            Some(value) => number(value),
        };
        match number.filter(|number| MAX_JOBS.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(Refusal::FieldInvalid {
                field: "maxJobs",
                expected: "a number from 1 to 50",
            }),
        }
    }

    /// How many outputs are asked for, in one task: `count` of videos, `imageCount` of images.
    pub(crate) fn output_count(&self) -> u32 {
        let fields = ["count", "imageCount"].iter();
        let asked = fields.filter_map(|field| number(self.0.get(*field)?)).max();
        asked.unwrap_or(1).clamp(1, OUTPUTS_MAX)
    }

    /// Whether a text contains `word`.
    pub(crate) fn contains(&self, field: &str, word: &str) -> bool {
        let text = self.0.get(field).and_then(Value::as_str);
        text.is_some_and(|text| text.contains(word))
    }

    /// All fields except `names`, as text.
    pub(crate) fn without(&self, names: &[&str]) -> Vec<(String, String)> {
        let others = self.0.iter().filter(|(name, _)| !names.contains(&&***name));
        others.filter_map(as_argument).collect()
    }

    fn has(&self, field: &str) -> bool {
        let value = self.0.get(field);
        value.is_some_and(|value| !value.is_null() && value != "")
    }
}

/// A whole number, or a text that spells one, as JavaScript reads it: `2`, `2.0`, `" 2 "`.
fn number(value: &Value) -> Option<u32> {
    let number = match value.as_str() {
        Some(text) => text.trim().parse().ok()?,
        None => value.as_f64()?,
    };
    let is_whole = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole, and within the limits"
    )]
    is_whole.then_some(number as u32)
}

fn as_argument((name, value): (&String, &Value)) -> Option<(String, String)> {
    let text = match value {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    Some((name.clone(), text))
}

/// The boundary of a form, whatever characters it has, as lenient servers read it.
fn named_boundary(media: &str) -> Option<String> {
    let parameters = media.strip_prefix("multipart/form-data;")?;
    let (_, named) = parameters.split_once("boundary=")?;
    let boundary = named.split(';').next()?.trim_matches(['"', ' ']);
    (!boundary.is_empty()).then(|| boundary.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: &str = "multipart/form-data; boundary=x";

    async fn parse(media: &str, body: &str) -> Result<Fields, String> {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, media.parse().unwrap())]);
        let fields = Fields::parse(&headers, &Bytes::from(body.to_owned())).await;
        fields.map_err(|refusal| refusal.to_string())
    }

    fn form(parts: &[(&str, &str)]) -> String {
        let part = |(name, value): &(&str, &str)| {
            format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        parts.iter().map(part).collect::<String>() + "--x--\r\n"
    }

    #[tokio::test]
    async fn json_and_multipart_come_to_the_same() {
        let body = r#"{"email":"a@x","prompt":"p","duration":5,"tail":null,"maxJobs":7,"count":2}"#;
        let json = parse("application/json", body).await.unwrap();
        let parts = [
            ("email", "a@x"),
            ("prompt", "p"),
            ("duration", "5"),
            ("maxJobs", "7"),
            ("count", "2"),
        ];
        let multipart = parse(FORM, &form(&parts)).await.unwrap();
        for fields in [json, multipart] {
            assert_eq!(fields.text("email").unwrap().as_deref(), Some("a@x"));
            assert_eq!(fields.max_jobs().unwrap(), Some(7));
            assert_eq!(fields.output_count(), 2);
            let arguments = fields.without(&["email", "maxJobs", "count"]);
            let expected = [("duration", "5"), ("prompt", "p")];
            assert_eq!(
                arguments,
                expected.map(|(name, value)| (name.into(), value.into()))
            );
        }
    }

    #[tokio::test]
    async fn a_part_that_is_no_text_is_told_by_its_size() {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, FORM.parse().unwrap())]);
        let mut body = form(&[("image", "#")]).into_bytes();
        let hash = body.iter().position(|&byte| byte == b'#').unwrap();
        body.splice(hash..=hash, [0xff, 0x00, b'\r', b'\n', 0x80]);
        let fields = Fields::parse(&headers, &body.into()).await.unwrap();
        assert_eq!(fields.without(&[]), [("image".into(), "5 bytes".into())]);
    }

    #[tokio::test]
    async fn says_what_is_wrong() {
        let two_emails = form(&[("email", "a@x"), ("email", "b@x")]);
        let cases = [
            ("", "prompt=p", "Request body must be a JSON object"),
            (
                "text/plain",
                r#"["prompt"]"#,
                "Request body must be a JSON object",
            ),
            (FORM, "--x--\r\n", "Parameter prompt is required"),
            (FORM, &two_emails, "Parameter email must be given once"),
            (FORM, "--x\r\n", "Request body is not multipart: "),
            ("multipart/form-data", "", "Request body is not multipart: "),
            ("", "{}", "Parameter prompt is required"),
            ("", r#"{"prompt":""}"#, "Parameter prompt is required"),
            ("", r#"{"prompt":null}"#, "Parameter prompt is required"),
        ];
        for (media, body, expected) in cases {
            let fields = parse(media, body).await;
            let required = fields.and_then(|fields| {
                let required = fields.require(&["prompt"]);
                required.map_err(|refusal| refusal.to_string())
            });
            let said = required.unwrap_err();
            assert!(said.starts_with(expected), "{body}: {said}");
        }
    }

    #[test]
    fn a_cap_is_a_number_from_1_to_50_and_a_text_is_not_too_long() {
        for value in ["0", "51", "2.5", "-1", "\"x\"", "[]"] {
            let fields = Fields::json(format!(r#"{{"maxJobs":{value}}}"#).as_bytes()).unwrap();
            let said = fields.max_jobs().unwrap_err().to_string();
            assert_eq!(
                said, "Parameter maxJobs must be a number from 1 to 50",
                "{value}"
            );
        }
        let long = format!("\"{}\"", "u".repeat(1025));
        for (value, expected) in [("7", None), (&*long, None), ("\"\"", Some(None))] {
            let fields = Fields::json(format!(r#"{{"email":{value}}}"#).as_bytes()).unwrap();
            assert_eq!(fields.text("email").ok(), expected);
        }
    }
}
