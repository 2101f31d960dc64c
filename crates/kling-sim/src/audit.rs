//! What the simulator saw, kept by itself: peaks, refusals at the limit and every submission.
//!
//! Counters are exact for the whole run. The list of submissions is bounded: past
//! [`SUBMISSIONS_MAX`] or [`SUBMISSION_BYTES_MAX`] the oldest are forgotten.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::{Serialize, Serializer};

use crate::world::TaskId;

/// Submissions kept: more than any test sends, and a demo may run for days.
pub const SUBMISSIONS_MAX: usize = 10_000;

/// Body bytes kept over all submissions: four bodies of the largest size the server reads.
pub const SUBMISSION_BYTES_MAX: usize = 64 * 1024 * 1024;

/// `replyRef`s remembered to recognise duplicates. Past it new ones are not learnt, so
/// [`Audit::duplicates`] becomes a lower bound.
pub const REPLY_REFS_MAX: usize = 100_000;

/// A copy of the audit at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Audit {
    /// Every account that was ever configured, in the order of its first configuration.
    pub accounts: Vec<AccountAudit>,
    /// Accepted submissions whose `replyRef` an earlier accepted submission had carried already.
    ///
    /// Equal bodies are no duplicates by themselves: asking twice for the same prompt is legal.
    /// A client that wants its retries watched gives every job a `replyRef` of its own.
    pub duplicates: u64,
    /// How many submissions there were, forgotten ones included.
    pub submission_count: u64,
    /// The newest submissions, oldest first.
    pub submissions: Vec<Submission>,
}

impl Audit {
    /// Finds the counters of an account.
    #[must_use]
    pub fn account(&self, email: &str) -> Option<&AccountAudit> {
        self.accounts.iter().find(|account| account.email == email)
    }

    /// Submissions over the limit, on all accounts together.
    #[must_use]
    pub fn over_limit(&self) -> u64 {
        self.accounts.iter().map(|account| account.over_limit).sum()
    }
}

impl fmt::Display for Audit {
    /// Writes a small table, one line for each account.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lengths = self
            .accounts
            .iter()
            .map(|account| account.email.chars().count());
        let width = lengths.max().unwrap_or(0).max("account".len());
        writeln!(
            f,
            "{:width$}  {:>7}  {:>5}  {:>9}  {:>8}  {:>10}",
            "account", "maxJobs", "peak", "executing", "accepted", "over limit"
        )?;
        for account in &self.accounts {
            let AccountAudit {
                email,
                max_jobs,
                peak,
                executing,
                accepted,
                over_limit,
            } = account;
            writeln!(
                f,
                "{email:width$}  {max_jobs:>7}  {peak:>5}  {executing:>9}  {accepted:>8}  {over_limit:>10}"
            )?;
        }
        write!(
            f,
            "submissions: {}, duplicates: {}",
            self.submission_count, self.duplicates
        )
    }
}

/// The counters of one account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountAudit {
    /// The account's name.
    pub email: String,
    /// Its cap as configured now; 0 once it was removed.
    pub max_jobs: u32,
    /// The most jobs it ever ran at once.
    pub peak: u32,
    /// The jobs it runs now.
    pub executing: u32,
    /// Submissions that became a job.
    pub accepted: u64,
    /// Submissions that found it at its cap, and were refused.
    pub over_limit: u64,
}

/// One job start that reached the simulator with a valid token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Submission {
    /// Time since the start of the simulator.
    #[serde(rename = "atMs", serialize_with = "as_millis")]
    pub at: Duration,
    /// The account that took it; for a refused one the account it named, if any.
    pub email: Option<String>,
    /// The body as it came. JSON shows it as text.
    #[serde(serialize_with = "as_text")]
    pub body: Bytes,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// The answer to a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Outcome {
    /// It became this task.
    #[serde(rename = "taskId")]
    Accepted(TaskId),
    /// It was answered with this status.
    #[serde(rename = "status")]
    Refused(u16),
}

fn as_millis<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u128(time.as_millis())
}

fn as_text<S: Serializer>(body: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(body))
}

/// The audit while it is being written.
#[derive(Debug, Default)]
pub(crate) struct Book {
    accounts: Vec<AccountAudit>,
    duplicates: u64,
    reply_refs: HashSet<String>,
    submission_count: u64,
    submissions: VecDeque<Submission>,
    submission_bytes: usize,
}

impl Book {
    /// Opens the counters of an account, unless they are open.
    pub(crate) fn open(&mut self, email: &str) {
        if self.account(email).is_none() {
            self.accounts.push(AccountAudit {
                email: email.to_owned(),
                max_jobs: 0,
                peak: 0,
                executing: 0,
                accepted: 0,
                over_limit: 0,
            });
        }
    }

    /// Counts a job after which its account runs `executing` of them.
    pub(crate) fn accepted(&mut self, email: &str, executing: u32, reply_ref: Option<&str>) {
        if let Some(account) = self.account(email) {
            account.accepted += 1;
            account.peak = account.peak.max(executing);
        }
        if let Some(reply_ref) = reply_ref {
            if self.reply_refs.contains(reply_ref) {
                self.duplicates += 1;
            } else if self.reply_refs.len() < REPLY_REFS_MAX {
                self.reply_refs.insert(reply_ref.to_owned());
            }
        }
    }

    /// Counts a submission that found its account at the cap.
    pub(crate) fn over_limit(&mut self, email: &str) {
        if let Some(account) = self.account(email) {
            account.over_limit += 1;
        }
    }

    /// Keeps a submission, and forgets the oldest ones past the limits.
    pub(crate) fn record(&mut self, submission: Submission) {
        self.submission_count += 1;
        self.submission_bytes += submission.body.len();
        self.submissions.push_back(submission);
        while self.submissions.len() > SUBMISSIONS_MAX
            || self.submission_bytes > SUBMISSION_BYTES_MAX
        {
            let Some(oldest) = self.submissions.pop_front() else {
                break;
            };
            self.submission_bytes -= oldest.body.len();
        }
    }

    /// A copy, in which `max_jobs` and `executing` are left to the one who knows them.
    pub(crate) fn copy(&self) -> Audit {
        Audit {
            accounts: self.accounts.clone(),
            duplicates: self.duplicates,
            submission_count: self.submission_count,
            submissions: self.submissions.iter().cloned().collect(),
        }
    }

    fn account(&mut self, email: &str) -> Option<&mut AccountAudit> {
        self.accounts
            .iter_mut()
            .find(|account| account.email == email)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: Bytes) -> Submission {
        Submission {
            at: Duration::ZERO,
            email: None,
            body,
            outcome: Outcome::Refused(429),
        }
    }

    #[test]
    fn forgets_the_oldest_submissions_and_counts_them_all() {
        let mut book = Book::default();
        for n in 0..=SUBMISSIONS_MAX {
            book.record(refused(Bytes::from(n.to_string())));
        }
        let audit = book.copy();
        assert_eq!(audit.submissions.len(), SUBMISSIONS_MAX);
        assert_eq!(audit.submissions[0].body, "1");
        assert_eq!(audit.submission_count, SUBMISSIONS_MAX as u64 + 1);
    }

    #[test]
    fn keeps_no_more_body_bytes_than_its_limit() {
        let mut book = Book::default();
        let half = Bytes::from(vec![b' '; SUBMISSION_BYTES_MAX / 2]);
        for body in [half.clone(), half, Bytes::from_static(b"x")] {
            book.record(refused(body));
        }
        assert_eq!(book.copy().submissions.len(), 2);
    }

    #[test]
    fn a_reply_ref_seen_again_is_a_duplicate_and_its_absence_never_is() {
        let mut book = Book::default();
        for reply_ref in [Some("r1"), None, Some("r2"), None, Some("r1"), Some("r1")] {
            book.accepted("a@x", 1, reply_ref);
        }
        assert_eq!(book.copy().duplicates, 2);
    }

    #[test]
    fn prints_a_table() {
        let mut book = Book::default();
        book.open("long-name@example.com");
        book.accepted("long-name@example.com", 3, None);
        book.over_limit("long-name@example.com");
        let expected = "\
account                maxJobs   peak  executing  accepted  over limit
long-name@example.com        0      3          0         1           1
submissions: 0, duplicates: 0";
        assert_eq!(book.copy().to_string(), expected);
    }

    #[test]
    fn serializes_a_submission_with_its_outcome() {
        let accepted = Submission {
            at: Duration::from_millis(1500),
            email: Some("a@x".into()),
            body: Bytes::from_static(b"{}"),
            outcome: Outcome::Accepted(TaskId::from(7)),
        };
        let expected = serde_json::json!({"atMs": 1500, "email": "a@x", "body": "{}", "taskId": 7});
        assert_eq!(serde_json::to_value(accepted).unwrap(), expected);
    }
}
