//! What can happen, with what is known of it.

use std::{fmt::Display, sync::Arc, time::Duration};

use accounts_fetcher::{Alias, AliasText};
use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::{
    pool::{self, AccountNames, AccountState, Caller, Decision, JobEnd, LossDecided, Mark, TaskId},
    wire_time::WireTime,
};

/// The most accounts of one kind that a change of the list names. The rest is counted.
pub const LIST_NAMES_MAX: usize = 20;

/// Something that happened. As JSON it is the members of its event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(
    tag = "type",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
pub enum Fact {
    /// An account can be picked now, or for another reason not.
    AccountState {
        /// Which one.
        #[serde(flatten)]
        account: AccountFacts,
        /// What it was.
        #[serde(serialize_with = "state_word")]
        from: AccountState,
        /// What it is.
        #[serde(serialize_with = "state_word")]
        to: AccountState,
        /// When that ends by itself, if it does.
        #[serde(serialize_with = "optional_time")]
        until: Option<Timestamp>,
        /// Why, in the words of `GET /accounts`.
        reason: Option<Arc<str>>,
    },
    /// The last job of a draining account is over.
    AccountDrained(AccountFacts),
    /// A job runs.
    JobStarted(JobFacts),
    /// A job is over.
    JobEnded {
        /// Which one.
        #[serde(flatten)]
        job: JobFacts,
        /// How it ended.
        #[serde(serialize_with = "end_word")]
        result: JobEnd,
        /// From when it was known until its end was, or else until its slot came free.
        #[serde(rename = "durationMs", serialize_with = "milliseconds")]
        duration: Duration,
    },
    /// A submission may have become a job.
    SubmissionLost {
        /// Which one.
        #[serde(flatten)]
        job: JobFacts,
        /// The mark by which its job can be found, if it has one.
        mark: Option<String>,
        /// Why it is not known.
        error: String,
    },
    /// It is known what became of a lost submission, or no longer asked.
    SubmissionDecided {
        /// Which one.
        #[serde(flatten)]
        job: JobFacts,
        /// What became of it.
        #[serde(serialize_with = "decision_word")]
        outcome: Decision,
    },
    /// A job was started, and its client was gone before the answer.
    AnswerUndelivered(JobFacts),
    /// The account list names other accounts, or gives them other caps.
    ListChanged(ListFacts),
    /// The sidecar runs.
    SidecarStarted {
        /// Its version.
        version: &'static str,
    },
    /// Jobs can be started.
    Ready(Found),
    /// No job can be started.
    NotReady {
        /// Why not: words of the API.
        reasons: Vec<&'static str>,
    },
    /// The upstream takes no jobs of the token.
    TokenRejected {
        /// Its status: 401 or 402.
        status: u16,
        /// Its words.
        text: String,
    },
    /// The upstream takes jobs of the token again.
    TokenAccepted,
    /// No connection to the upstream can be opened.
    UpstreamUnreachable {
        /// Why the last one could not.
        error: String,
        /// What to do.
        advice: &'static str,
    },
    /// Connections can be opened again.
    UpstreamReachable,
    /// The account list cannot be fetched.
    ListFailed {
        /// Why.
        error: String,
    },
    /// The account list is fetched again.
    ListFetched,
    /// The list of running jobs cannot be read.
    RoundsFailed {
        /// Why.
        error: String,
        /// What to do.
        advice: &'static str,
    },
    /// The list of running jobs is read again.
    RoundsAnswered {
        /// How many rounds failed in a row.
        failed_count: u32,
    },
    /// The state cannot be written.
    StateFailing {
        /// Why. Unknown while a write takes too long.
        error: Option<String>,
    },
    /// The state is written again.
    StateWritten,
}

impl Fact {
    /// The outcome of a submission is not known, because of `why`.
    pub fn lost(job: JobFacts, mark: Option<Mark>, why: &dyn Display) -> Self {
        Self::SubmissionLost {
            job,
            mark: mark.map(|mark| mark.to_string()),
            error: why.to_string(),
        }
    }

    /// Its type, as events name it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::AccountState { .. } => "account-state",
            Self::AccountDrained(_) => "account-drained",
            Self::JobStarted(_) => "job-started",
            Self::JobEnded { .. } => "job-ended",
            Self::SubmissionLost { .. } => "submission-lost",
            Self::SubmissionDecided { .. } => "submission-decided",
            Self::AnswerUndelivered(_) => "answer-undelivered",
            Self::ListChanged(_) => "list-changed",
            Self::SidecarStarted { .. } => "sidecar-started",
            Self::Ready(_) => "ready",
            Self::NotReady { .. } => "not-ready",
            Self::TokenRejected { .. } => "token-rejected",
            Self::TokenAccepted => "token-accepted",
            Self::UpstreamUnreachable { .. } => "upstream-unreachable",
            Self::UpstreamReachable => "upstream-reachable",
            Self::ListFailed { .. } => "list-failed",
            Self::ListFetched => "list-fetched",
            Self::RoundsFailed { .. } => "rounds-failed",
            Self::RoundsAnswered { .. } => "rounds-answered",
            Self::StateFailing { .. } => "state-failing",
            Self::StateWritten => "state-written",
        }
    }

    /// The account that it is about, if it is about one.
    pub(super) fn account(&self) -> Option<&AccountFacts> {
        if let Self::AccountState { account, .. } | Self::AccountDrained(account) = self {
            return Some(account);
        }
        self.job()?.account.as_ref()
    }

    /// The job that it is about, if it is about one.
    pub(super) fn job(&self) -> Option<&JobFacts> {
        match self {
            Self::JobStarted(job)
            | Self::JobEnded { job, .. }
            | Self::SubmissionLost { job, .. }
            | Self::SubmissionDecided { job, .. }
            | Self::AnswerUndelivered(job) => Some(job),
            Self::AccountState { .. }
            | Self::AccountDrained(_)
            | Self::ListChanged(_)
            | Self::SidecarStarted { .. }
            | Self::Ready(_)
            | Self::NotReady { .. }
            | Self::TokenRejected { .. }
            | Self::TokenAccepted
            | Self::UpstreamUnreachable { .. }
            | Self::UpstreamReachable
            | Self::ListFailed { .. }
            | Self::ListFetched
            | Self::RoundsFailed { .. }
            | Self::RoundsAnswered { .. }
            | Self::StateFailing { .. }
            | Self::StateWritten => None,
        }
    }
}

/// Names an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccountFacts {
    /// For people.
    pub email: Arc<str>,
    /// For logs.
    pub alias: Alias,
}

impl AccountFacts {
    /// Those of the account `email`.
    pub fn of(email: &str) -> Self {
        Self {
            email: email.into(),
            alias: Alias::of(email),
        }
    }
}

impl From<AccountNames> for AccountFacts {
    fn from(AccountNames { email, alias }: AccountNames) -> Self {
        Self { email, alias }
    }
}

/// Names a job, or the submission that may become one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobFacts {
    /// The id of the request that started it.
    pub request_id: Option<Arc<str>>,
    /// The name of the token that started it.
    pub client: Option<Arc<str>>,
    /// The path below `/v1/kling`. A pick has none.
    pub operation: Option<Arc<str>>,
    /// Where it runs.
    #[serde(flatten)]
    pub account: Option<AccountFacts>,
    /// Its id, once that is known.
    pub task_id: Option<TaskId>,
}

impl JobFacts {
    /// What is told of the caller of a job.
    pub fn of(caller: Caller) -> Self {
        Self {
            request_id: Some(caller.request_id).filter(|id| !id.is_empty()),
            client: caller.client,
            ..Self::default()
        }
    }
}

impl JobFacts {
    /// How many bytes its texts have.
    pub(super) fn text_bytes(&self) -> usize {
        let account = self.account.as_ref();
        let texts = [
            self.request_id.as_deref(),
            self.client.as_deref(),
            self.operation.as_deref(),
            account.map(|account| &*account.email),
            self.task_id.as_ref().map(TaskId::as_str),
        ];
        let bytes: usize = texts.into_iter().flatten().map(str::len).sum();
        bytes + account.map_or(0, |_| AliasText::BYTES)
    }
}

impl From<pool::JobFacts> for JobFacts {
    fn from(job: pool::JobFacts) -> Self {
        Self {
            operation: job.operation,
            account: Some(AccountFacts {
                email: job.email,
                alias: job.alias,
            }),
            task_id: Some(job.task_id),
            ..Self::of(job.caller)
        }
    }
}

impl From<LossDecided> for Fact {
    fn from(decided: LossDecided) -> Self {
        let job = JobFacts {
            operation: decided.operation,
            account: Some(AccountFacts {
                email: decided.email,
                alias: decided.alias,
            }),
            task_id: decided.task_id,
            ..JobFacts::of(decided.caller)
        };
        Self::SubmissionDecided {
            job,
            outcome: decided.decision,
        }
    }
}

/// What a new account list changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListFacts {
    /// Accounts that it names anew.
    pub added: Vec<Listed>,
    /// All of them.
    pub added_count: usize,
    /// Accounts that it names no longer.
    pub removed: Vec<Listed>,
    /// All of them.
    pub removed_count: usize,
    /// Accounts with another cap.
    pub changed: Vec<CapChange>,
    /// All of them.
    pub changed_count: usize,
}

impl ListFacts {
    /// Notes that an account joined the list.
    pub fn add(&mut self, account: impl FnOnce() -> Listed) {
        note(&mut self.added, &mut self.added_count, account);
    }

    /// Notes that an account left the list.
    pub fn remove(&mut self, account: impl FnOnce() -> Listed) {
        note(&mut self.removed, &mut self.removed_count, account);
    }

    /// Notes that an account has another cap.
    pub fn change(&mut self, change: impl FnOnce() -> CapChange) {
        note(&mut self.changed, &mut self.changed_count, change);
    }

    /// Whether nothing was noted.
    pub fn is_empty(&self) -> bool {
        self.added_count + self.removed_count + self.changed_count == 0
    }
}

fn note<T>(named: &mut Vec<T>, count: &mut usize, name: impl FnOnce() -> T) {
    *count += 1;
    if named.len() < LIST_NAMES_MAX {
        named.push(name());
    }
}

/// An account of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// Which one.
    #[serde(flatten)]
    pub account: AccountFacts,
    /// How many jobs it may run.
    pub max_jobs: u32,
}

/// Another cap of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CapChange {
    /// Which one.
    #[serde(flatten)]
    pub account: AccountFacts,
    /// How many jobs it might run.
    pub from: u32,
    /// How many it may run now.
    pub to: u32,
}

/// What is there once jobs can be started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// Accounts of the list.
    pub accounts: u64,
    /// Jobs that they may run.
    pub slots: u64,
    /// Jobs that run without a lease.
    pub jobs_found: u64,
}

fn state_word<S: Serializer>(state: &AccountState, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(state.as_str())
}

fn end_word<S: Serializer>(end: &JobEnd, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(end.as_str())
}

fn decision_word<S: Serializer>(decision: &Decision, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(decision.as_str())
}

fn milliseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// RFC 3339 in UTC, to the millisecond, as everywhere in the API.
pub(super) fn time<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    WireTime(*at).serialize(serializer)
}

fn optional_time<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => time(at, serializer),
        None => serializer.serialize_none(),
    }
}
