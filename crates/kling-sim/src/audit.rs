//! What the simulator saw and recorded on its own: peaks, refusals at the limit and every
//! submission.
//!
//! Counters are exact for the whole run. The lists are bounded: past [`SUBMISSIONS_MAX`] or
//! [`SUBMISSION_BYTES_MAX`] the oldest submissions are forgotten, past [`REQUESTS_MAX`] the oldest
//! of all other requests.

mod book;

use std::{fmt, time::Duration};

use bytes::Bytes;
use serde::{Serialize, Serializer};

pub(crate) use book::Book;

use crate::{head::Head, origin::Origin, outcome::Outcome};

/// The most submissions kept: more than any test sends, and a demo may run for days.
pub(crate) const SUBMISSIONS_MAX: usize = 10_000;

/// The most body bytes kept over all submissions: four bodies of the largest size the server reads.
pub(crate) const SUBMISSION_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The most requests kept that are not submissions. With their bodies they take as much memory as
/// the submissions.
pub(crate) const REQUESTS_MAX: usize = 4096;

/// The most bytes kept of the body of a request that is not a submission: enough for every JSON
/// body that a test compares, and little of a 100 MB upload.
pub const REQUEST_BODY_BYTES_MAX: usize = 16 * 1024;

/// The most `replyRef`s remembered to recognise duplicates. Past this limit new ones are not
/// remembered, so [`Audit::duplicates`] becomes a lower bound.
pub(crate) const REPLY_REFS_MAX: usize = 100_000;

/// A copy of the audit at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Audit {
    /// Every account that was ever configured, in the order of its first configuration.
    pub accounts: Vec<AccountAudit>,
    /// Accepted submissions whose `replyRef` an earlier accepted submission had carried already.
    ///
    /// Equal bodies alone are not duplicates: asking twice for the same prompt is legal. A client
    /// that wants its retries watched gives every job its own `replyRef`.
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

    /// Submissions over the limit on all accounts together, no matter whose fault they were.
    #[must_use]
    pub fn over_limit(&self) -> u64 {
        self.over_limit_ours() + self.over_limit_foreign()
    }

    /// Submissions over the limit that were our fault; see [`AccountAudit::over_limit_ours`].
    #[must_use]
    pub fn over_limit_ours(&self) -> u64 {
        let accounts = self.accounts.iter();
        accounts.map(|account| account.over_limit_ours).sum()
    }

    /// Submissions over the limit that were not our fault.
    #[must_use]
    pub(crate) fn over_limit_foreign(&self) -> u64 {
        let accounts = self.accounts.iter();
        accounts.map(|account| account.over_limit_foreign).sum()
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
            "{:width$}  {:>7}  {:>5}  {:>9}  {:>8}  {:>16}  {:>7}",
            "account", "maxJobs", "peak", "executing", "accepted", "over limit: ours", "foreign"
        )?;
        for account in &self.accounts {
            let AccountAudit {
                email,
                max_jobs,
                peak,
                executing,
                accepted,
                over_limit_ours,
                over_limit_foreign,
            } = account;
            writeln!(
                f,
                "{email:width$}  {max_jobs:>7}  {peak:>5}  {executing:>9}  {accepted:>8}  \
                 {over_limit_ours:>16}  {over_limit_foreign:>7}"
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
    /// Its cap as configured now; 0 once the account was removed.
    pub max_jobs: u32,
    /// The most jobs it ever ran at once.
    pub peak: u32,
    /// The jobs it runs now, as the upstream counts them: the upstream notices the end of a job
    /// late.
    pub executing: u32,
    /// Submissions that became a job.
    pub accepted: u64,
    /// Submissions that found the account at its cap and were our fault: the jobs that we had
    /// started and the foreign jobs that we knew of filled the cap that we knew of.
    ///
    /// *We* are the program under test. A request with the header `x-sim-tool` comes from a second
    /// tool, and nothing that this tool does is our fault. A *round* is a request of ours,
    /// `GET /scheduler/available` or `GET /scheduler`, that was answered without a fault; a
    /// scripted answer tells us nothing. When a request of ours arrives, we know of a foreign job
    /// if an answer before the latest round listed it. We know a cap that `GET /accounts` or the
    /// scheduler told us. The first cap and a raised cap count at once. A lowered cap counts when
    /// another round was answered after it, or two rounds if a list told it, since one round may
    /// have been under way. Without any round we know our own jobs and the newest cap told. If no
    /// cap was ever told, the true cap counts: not asking is no excuse. We always know the
    /// `maxJobs` of the call itself. Only jobs that still count upstream count here.
    /// [`SimBuilder::reaction_rounds`](crate::SimBuilder::reaction_rounds) makes all of this known
    /// some rounds later.
    pub over_limit_ours: u64,
    /// Submissions that found the account at its cap and were not our fault.
    pub over_limit_foreign: u64,
}

impl AccountAudit {
    /// Submissions that found the account at its cap, no matter whose fault they were.
    #[must_use]
    pub fn over_limit(&self) -> u64 {
        self.over_limit_ours + self.over_limit_foreign
    }
}

/// One job start that reached the simulator with a valid token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Submission {
    /// Time since the start of the simulator.
    #[serde(rename = "atMs", serialize_with = "as_millis")]
    pub at: Duration,
    /// Method, path, query and headers as they came.
    #[serde(flatten)]
    pub head: Head,
    /// The account that took the job; for a refused submission the account it named, if any.
    pub email: Option<String>,
    /// Who sent it.
    pub origin: Origin,
    /// The `replyRef` of the body, whatever became of it.
    pub reply_ref: Option<String>,
    /// The body as it came. JSON shows it as text.
    #[serde(serialize_with = "as_text")]
    pub body: Bytes,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// One request with a valid token that is not a submission, as far as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestSeen {
    /// Time since the start of the simulator.
    pub at: Duration,
    /// Method, path, query and headers as they came.
    pub head: Head,
    /// The first [`REQUEST_BODY_BYTES_MAX`] bytes of the body.
    pub body: Bytes,
    /// How many bytes of the body arrived.
    pub byte_count: u64,
    /// Whether the end of the body arrived.
    pub is_complete: bool,
}

fn as_millis<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u128(time.as_millis())
}

fn as_text<S: Serializer>(body: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(body))
}
