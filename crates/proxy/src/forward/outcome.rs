//! What an answer to a submission means for its slot: one total table.
//!
//! The safe side of every doubt: a slot returns only where the upstream provably did not accept,
//! since a job that nobody counts overruns its account, and a second one costs money.

use std::{borrow::Cow, ops::RangeInclusive, sync::Arc, time::Duration};

use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    jobs::speaks_of_account,
    pool::{Blame, TaskId},
};

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
    /// Whether the upstream provably did not accept: the slot returns, with what that says about the
    /// account. `None`: there is a job, or may be one.
    pub fn blame(&self, retry_after: Option<Duration>) -> Option<Blame> {
        match self {
            Self::PushedBack => Some(Blame::PushedBack { retry_after }),
            Self::SessionBroken => Some(Blame::SessionBroken),
            Self::NoCredit => Some(Blame::NoCredit),
            Self::TokenRejected => Some(Blame::Token),
            Self::InputRefused => Some(Blame::Request),
            Self::Accepted(_) | Self::Unknown => None,
        }
    }

    /// Whether another account may take what this one did not.
    pub fn is_of_account(&self) -> bool {
        match self {
            Self::PushedBack | Self::SessionBroken | Self::NoCredit => true,
            Self::Accepted(_) | Self::TokenRejected | Self::InputRefused | Self::Unknown => false,
        }
    }
}

/// One row: answers with these statuses that say this have this outcome.
struct Row {
    statuses: RangeInclusive<u16>,
    says: Says,
    outcome: Outcome,
}

/// What an answer must say for a row to fit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Says {
    Anything,
    /// That the account is not configured.
    NoAccount,
    /// One of the texts by which the input is refused.
    Refusal,
}

const fn row(statuses: RangeInclusive<u16>, says: Says, outcome: Outcome) -> Row {
    Row {
        statuses,
        says,
        outcome,
    }
}

/// The table of answers that name no job. The first row that fits counts; the last one always does.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    row(429..=429, Says::Anything, Outcome::PushedBack),
    row(596..=596, Says::Anything, Outcome::SessionBroken),
    row(404..=404, Says::NoAccount, Outcome::SessionBroken),
    row(412..=412, Says::Anything, Outcome::NoCredit),
    row(401..=402, Says::Anything, Outcome::TokenRejected),
    // The request may have been passed on before somebody lost patience.
    row(408..=408, Says::Anything, Outcome::Unknown),
    row(300..=499, Says::Anything, Outcome::InputRefused),
    row(500..=500, Says::Refusal, Outcome::InputRefused),
    row(0..=u16::MAX, Says::Anything, Outcome::Unknown),
];

/// Judges the answer to a job start. `refusal_patterns` are texts by which a 500 says that the
/// input was refused.
pub fn judge(status: StatusCode, body: &[u8], refusal_patterns: &[String]) -> Outcome {
    if status == StatusCode::OK
        && let Some(task_id) = task_id(body)
    {
        return Outcome::Accepted(task_id);
    }
    let fits = |row: &&Row| {
        row.statuses.contains(&status.as_u16())
            && match row.says {
                Says::Anything => true,
                Says::NoAccount => speaks_of_account(body),
                Says::Refusal => says_one_of(body, refusal_patterns),
            }
    };
    let row = TABLE.iter().find(fits);
    row.map_or(Outcome::Unknown, |row| row.outcome.clone())
}

fn says_one_of(body: &[u8], patterns: &[String]) -> bool {
    let body = String::from_utf8_lossy(body).to_lowercase();
    let mut patterns = patterns.iter();
    patterns.any(|pattern| body.contains(&pattern.to_lowercase()))
}

/// What an answer calls its task, if it does.
pub fn task_type(body: &[u8]) -> Option<Arc<str>> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        task: Task<'a>,
    }
    #[derive(Deserialize)]
    struct Task<'a> {
        #[serde(borrow, rename = "type")]
        task_type: Cow<'a, str>,
    }
    let answer: Answer<'_> = serde_json::from_slice(body).ok()?;
    Some(answer.task.task_type.as_ref().into())
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
            assert!(outcome.blame(None).is_some());
        }
    }

    #[test]
    fn every_status_has_an_outcome() {
        for status in 100..=999 {
            let outcome = outcome(status, "");
            let is_provable = matches!(status, 300..=407 | 409..=499 | 596);
            assert_eq!(outcome.blame(None).is_some(), is_provable, "{status}");
        }
    }
}
