//! What an answer to a submission means for its slot: one total table.
//!
//! The safe side of every doubt: a slot returns only where the upstream provably did not accept,
//! since a job that nobody counts overruns its account, and a second one costs money.

use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{jobs::speaks_of_account, pool::TaskId};

/// What became of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is a job. Its slot is bound.
    Accepted(TaskId),
    /// The account is full or pushed back. No job.
    PushedBack,
    /// The account's session is broken, or the upstream does not know the account. No job.
    SessionBroken,
    /// The account has no credit for this. No job.
    NoCredit,
    /// The upstream does not take our token. No job, on any account.
    TokenRejected,
    /// The input is at fault: it would be refused everywhere. No job.
    InputRefused,
    /// Nobody knows: there may be a job.
    Unknown,
}

impl Outcome {
    /// Whether the upstream provably did not accept: the slot returns.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::PushedBack
            | Self::SessionBroken
            | Self::NoCredit
            | Self::TokenRejected
            | Self::InputRefused => true,
            Self::Accepted(_) | Self::Unknown => false,
        }
    }
}

/// Judges the answer to a job start. `refusal_patterns` are texts by which a 500 says that the
/// input was refused.
pub fn judge(status: StatusCode, body: &[u8], refusal_patterns: &[String]) -> Outcome {
    let says = |text: &str| {
        let body = String::from_utf8_lossy(body).to_lowercase();
        body.contains(&text.to_lowercase())
    };
    match status.as_u16() {
        200 => task_id(body).map_or(Outcome::Unknown, Outcome::Accepted),
        429 => Outcome::PushedBack,
        596 => Outcome::SessionBroken,
        404 if speaks_of_account(body) => Outcome::SessionBroken,
        412 => Outcome::NoCredit,
        401 | 402 => Outcome::TokenRejected,
        // The request may have been passed on before somebody lost patience.
        408 => Outcome::Unknown,
        300..=499 => Outcome::InputRefused,
        500 if refusal_patterns.iter().any(|pattern| says(pattern)) => Outcome::InputRefused,
        _ => Outcome::Unknown,
    }
}

/// The job's id in an answer of 200: `task.id`, its digits as they are.
fn task_id(body: &[u8]) -> Option<TaskId> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        task: Task<'a>,
    }
    #[derive(Deserialize)]
    struct Task<'a> {
        #[serde(borrow)]
        id: &'a RawValue,
    }
    let answer: Answer<'_> = serde_json::from_slice(body).ok()?;
    TaskId::from_json(answer.task.id).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(status: u16, body: &str) -> Outcome {
        let patterns = ["CM_EXT".to_owned(), "community guidelines".to_owned()];
        judge(
            StatusCode::from_u16(status).unwrap(),
            body.as_bytes(),
            &patterns,
        )
    }

    #[test]
    fn an_accepted_job_keeps_its_digits() {
        for (body, id) in [
            (r#"{"task":{"id":123456789,"status":5}}"#, "123456789"),
            (
                r#"{"task":{"id":900719925474099312345}}"#,
                "900719925474099312345",
            ),
            (
                r#"{"other":[1],"task":{"status":5,"id":-42},"x":null}"#,
                "-42",
            ),
            (r#"{"task":{"id":"77"}}"#, "77"),
        ] {
            assert_eq!(
                outcome(200, body),
                Outcome::Accepted(id.parse().unwrap()),
                "{body}"
            );
        }
    }

    #[test]
    fn whatever_does_not_prove_a_refusal_is_unknown() {
        for body in [
            "",
            "{}",
            "<html>",
            r#"{"id":5}"#,
            r#"{"task":{}}"#,
            r#"{"task":{"id":1.5}}"#,
        ] {
            assert_eq!(outcome(200, body), Outcome::Unknown, "{body}");
        }
        for status in [
            201, 202, 204, 408, 500, 501, 502, 503, 504, 520, 522, 524, 529, 595, 599, 999,
        ] {
            let accepted = r#"{"task":{"id":1}}"#;
            assert_eq!(outcome(status, accepted), Outcome::Unknown, "{status}");
        }
        assert_eq!(
            outcome(500, r#"{"error":"Service busy"}"#),
            Outcome::Unknown
        );
    }

    #[test]
    fn refusals_are_told_apart() {
        for (status, body, wanted) in [
            (429, "", Outcome::PushedBack),
            (
                596,
                r#"{"error":"Account a@x in error state"}"#,
                Outcome::SessionBroken,
            ),
            (
                404,
                "Account configuration not found. To create…",
                Outcome::SessionBroken,
            ),
            (
                404,
                r#"{"error":"No works found for task 1"}"#,
                Outcome::InputRefused,
            ),
            (412, "", Outcome::NoCredit),
            (401, "", Outcome::TokenRejected),
            (402, "", Outcome::TokenRejected),
            (400, "", Outcome::InputRefused),
            (403, "", Outcome::InputRefused),
            (422, "", Outcome::InputRefused),
            (302, "", Outcome::InputRefused),
            (
                500,
                r#"{"error":"… violates the Community Guidelines …"}"#,
                Outcome::InputRefused,
            ),
            (
                500,
                r#"{"message":"Service busy (CM_EXT.POther)"}"#,
                Outcome::InputRefused,
            ),
        ] {
            let outcome = outcome(status, body);
            assert_eq!(outcome, wanted, "{status} {body}");
            assert!(outcome.is_refusal());
        }
    }

    #[test]
    fn every_status_has_an_outcome() {
        for status in 100..=999 {
            let outcome = outcome(status, "");
            let is_provable = matches!(status, 300..=407 | 409..=499 | 596);
            assert_eq!(outcome.is_refusal(), is_provable, "{status}");
        }
    }
}
