//! The body of a job start, read and checked.

use serde_json::{Map, Value};

use super::MAX_JOBS;
use crate::operation::Operation;
use crate::refusal::Refusal;

/// Longest `email`, `replyUrl` or `replyRef`: they are remembered, so they are bounded.
const REMEMBERED_BYTES_MAX: usize = 1024;

/// A job start that is valid by itself; whether an account takes it is another matter.
#[derive(Debug)]
pub(crate) struct JobRequest {
    pub(crate) email: Option<String>,
    /// Lowers the account's cap for this call.
    pub(crate) max_jobs: Option<u32>,
    pub(crate) reply_url: Option<String>,
    pub(crate) reply_ref: Option<String>,
    /// All other fields, which are Kling's own arguments, as text.
    pub(crate) arguments: Vec<(String, String)>,
}

impl JobRequest {
    /// Reads a JSON body sent to `operation`.
    pub(crate) fn parse(operation: &Operation, body: &[u8]) -> Result<Self, Refusal> {
        let Ok(Value::Object(mut fields)) = serde_json::from_slice(body) else {
            return Err(Refusal::NotAJsonObject);
        };
        let request = Self {
            email: take_text(&mut fields, "email")?,
            max_jobs: take_max_jobs(&mut fields)?,
            reply_url: take_text(&mut fields, "replyUrl")?,
            reply_ref: take_text(&mut fields, "replyRef")?,
            arguments: fields.into_iter().filter_map(argument).collect(),
        };
        match operation
            .required
            .iter()
            .find(|field| !request.has_argument(field))
        {
            Some(field) => Err(Refusal::FieldMissing { field }),
            None => Ok(request),
        }
    }

    fn has_argument(&self, field: &str) -> bool {
        self.arguments
            .iter()
            .any(|(name, value)| name == field && !value.is_empty())
    }
}

/// A string, where `null` and `""` mean absent.
fn take_text(
    fields: &mut Map<String, Value>,
    field: &'static str,
) -> Result<Option<String>, Refusal> {
    match fields.remove(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) if text.len() <= REMEMBERED_BYTES_MAX => Ok(Some(text)),
        Some(_) => Err(Refusal::FieldInvalid {
            field,
            expected: "a string of at most 1024 bytes",
        }),
    }
}

/// A number, or a string of digits as multipart clients send it.
fn take_max_jobs(fields: &mut Map<String, Value>) -> Result<Option<u32>, Refusal> {
    let number = match fields.remove("maxJobs") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text.parse().ok(),
        Some(value) => value.as_u64().and_then(|number| u32::try_from(number).ok()),
    };
    match number {
        Some(number) if MAX_JOBS.contains(&number) => Ok(Some(number)),
        Some(_) | None => Err(Refusal::FieldInvalid {
            field: "maxJobs",
            expected: "a number from 1 to 50",
        }),
    }
}

fn argument((name, value): (String, Value)) -> Option<(String, String)> {
    match value {
        Value::Null => None,
        Value::String(text) => Some((name, text)),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Some((name, value.to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::job_start;

    fn parse(body: &str) -> Result<JobRequest, String> {
        let operation = job_start("/videos/text2video").unwrap();
        JobRequest::parse(operation, body.as_bytes()).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn keeps_what_is_remembered_apart_from_the_arguments() {
        let body = r#"{"email":"a@x","prompt":"a boat","duration":5,"enable_audio":true,
            "tail":null,"maxJobs":"7","replyUrl":"https://h/cb","replyRef":"r1"}"#;
        let request = parse(body).unwrap();
        assert_eq!(request.email.as_deref(), Some("a@x"));
        assert_eq!(request.max_jobs, Some(7));
        assert_eq!(request.reply_url.as_deref(), Some("https://h/cb"));
        assert_eq!(request.reply_ref.as_deref(), Some("r1"));
        let expected = [
            ("duration", "5"),
            ("enable_audio", "true"),
            ("prompt", "a boat"),
        ];
        let arguments: Vec<(&str, &str)> = request
            .arguments
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(arguments, expected);
    }

    #[test]
    fn an_empty_email_counts_as_absent() {
        assert_eq!(parse(r#"{"email":"","prompt":"p"}"#).unwrap().email, None);
    }

    #[test]
    fn says_what_is_wrong() {
        let long = format!(r#"{{"prompt":"p","replyUrl":"{}"}}"#, "u".repeat(1025));
        let cases = [
            ("prompt=p", "Request body must be a JSON object"),
            (r#"["prompt"]"#, "Request body must be a JSON object"),
            ("{}", "Parameter prompt is required"),
            (r#"{"prompt":""}"#, "Parameter prompt is required"),
            (r#"{"prompt":null}"#, "Parameter prompt is required"),
            (
                r#"{"prompt":"p","maxJobs":0}"#,
                "Parameter maxJobs must be a number from 1 to 50",
            ),
            (
                r#"{"prompt":"p","maxJobs":51}"#,
                "Parameter maxJobs must be a number from 1 to 50",
            ),
            (
                r#"{"prompt":"p","maxJobs":2.5}"#,
                "Parameter maxJobs must be a number from 1 to 50",
            ),
            (
                r#"{"prompt":"p","email":7}"#,
                "Parameter email must be a string of at most 1024 bytes",
            ),
            (
                &long,
                "Parameter replyUrl must be a string of at most 1024 bytes",
            ),
        ];
        for (body, expected) in cases {
            assert_eq!(parse(body).unwrap_err(), expected, "{body}");
        }
    }
}
