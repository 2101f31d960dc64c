//! The upstream's words about jobs: `GET /scheduler/available` and `GET /tasks/{id}`.
//!
//! Invariant: what is not understood says nothing. A list that cannot be read is no empty list, and
//! an account that cannot answer is not one without the job.

use std::{borrow::Cow, num::NonZeroU32, time::Duration};

use accounts_fetcher::says_not_configured;
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING},
};
use http_body_util::Empty;
use percent_encoding::utf8_percent_encode;
use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;
use tokio::time::timeout;

use crate::{
    ledger::Unavailable,
    pool::{AccountCap, RunningJob, TaskId},
    upstream::{Answer, RESERVED, ReadError, SendError, Upstream, read},
};

/// One question with its whole answer. Far more than either takes; a slower one would hold up the
/// next round.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// A job takes some 120 bytes: 70 000 jobs, on more accounts than a token can have.
const SCHEDULER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Every work of a task takes about 1 KiB, and a task has a dozen at most.
const TASK_BYTES_MAX: usize = 1024 * 1024;
/// What a 404 contains, in any case, when it speaks of the account and not of the task.
const NOT_CONFIGURED: &[u8] = b"configuration not found";

/// The jobs that the upstream runs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Executing {
    pub(super) jobs: Vec<RunningJob>,
    pub(super) caps: Vec<AccountCap>,
    /// Entries without an id or an e-mail that can be read.
    pub(super) skipped_count: usize,
}

/// Why a round failed.
#[derive(Debug, Error)]
pub(super) enum RoundError {
    #[error(transparent)]
    Send(#[from] SendError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the scheduler did not answer within {} s", ANSWER_TIMEOUT.as_secs())]
    TimedOut,
    #[error("the scheduler answered with status {0}")]
    Refused(StatusCode),
    #[error("the scheduler's answer is encoded, though that was not asked for")]
    Encoded,
    #[error("the scheduler's answer is not its list")]
    Malformed(#[from] serde_json::Error),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    #[error("another round was answered first")]
    Overtaken,
}

/// What an account says about a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskWord {
    /// It has the task, and that is final.
    Final,
    /// It has the task, which is not final yet.
    Unfinished,
    /// It has no such task, or no longer.
    Missing,
    /// Nothing that can be relied on.
    Unknown,
}

/// Asks for the jobs that run on all accounts.
pub(super) async fn executing(upstream: &Upstream) -> Result<Executing, RoundError> {
    let asked = async {
        let response = get(upstream, "/scheduler/available").await?;
        let status = response.status();
        if status != StatusCode::OK && status != StatusCode::NOT_FOUND {
            return Err(RoundError::Refused(status));
        }
        if is_encoded(response.headers()) {
            return Err(RoundError::Encoded);
        }
        let body = read(response.into_body(), SCHEDULER_BYTES_MAX).await?;
        match status {
            StatusCode::OK => Ok(read_executing(&body)?),
            _ if says_not_configured(&body) => Ok(Executing {
                jobs: Vec::new(),
                caps: Vec::new(),
                skipped_count: 0,
            }),
            _ => Err(RoundError::Refused(status)),
        }
    };
    timeout(ANSWER_TIMEOUT, asked)
        .await
        .unwrap_or(Err(RoundError::TimedOut))
}

/// Asks the account `job.email` for the task `job.task_id`.
pub(super) async fn task(upstream: &Upstream, job: &RunningJob) -> TaskWord {
    let asked = async {
        let email = utf8_percent_encode(&job.email, RESERVED);
        let path = format!("/tasks/{}?email={email}", job.task_id.as_str());
        let Ok(response) = get(upstream, &path).await else {
            return TaskWord::Unknown;
        };
        let status = response.status();
        if is_encoded(response.headers()) {
            return TaskWord::Unknown;
        }
        match read(response.into_body(), TASK_BYTES_MAX).await {
            Ok(body) => task_word(status, &body, &job.task_id),
            Err(_) => TaskWord::Unknown,
        }
    };
    timeout(ANSWER_TIMEOUT, asked)
        .await
        .unwrap_or(TaskWord::Unknown)
}

/// What an answer of one account to `GET /tasks/{task_id}` says about the task.
pub fn task_word(status: StatusCode, body: &[u8], task_id: &TaskId) -> TaskWord {
    match status {
        StatusCode::OK => read_task(body, task_id),
        StatusCode::NOT_FOUND if !speaks_of_account(body) => TaskWord::Missing,
        _ => TaskWord::Unknown,
    }
}

pub(super) async fn get(upstream: &Upstream, path: &str) -> Result<Response<Answer>, SendError> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    upstream
        .send(Method::GET, path, headers, Empty::new())
        .await
}

pub(super) fn is_encoded(headers: &HeaderMap) -> bool {
    headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Whether a 404 speaks of the account that was named, which is not configured, and not of what was
/// asked of it.
pub fn speaks_of_account(body: &[u8]) -> bool {
    memchr::memmem::find(&body.to_ascii_lowercase(), NOT_CONFIGURED).is_some()
}

#[derive(Deserialize)]
struct Available<'a> {
    #[serde(borrow)]
    executing: Vec<&'a RawValue>,
    #[serde(borrow)]
    available: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Capacity<'a> {
    #[serde(borrow)]
    email: Cow<'a, str>,
    max_jobs: NonZeroU32,
}

#[derive(Deserialize)]
struct Entry<'a> {
    /// As it stands there: a number beyond 2^53 must not pass through a float.
    #[serde(borrow)]
    id: &'a RawValue,
    #[serde(borrow)]
    email: Cow<'a, str>,
}

fn read_executing(body: &[u8]) -> Result<Executing, serde_json::Error> {
    let list: Available<'_> = serde_json::from_slice(body)?;
    let entries = list.executing.iter();
    let jobs: Vec<_> = entries.filter_map(|entry| running_in(entry)).collect();
    Ok(Executing {
        skipped_count: list.executing.len() - jobs.len(),
        caps: list.available.map(read_caps).unwrap_or_default(),
        jobs,
    })
}

/// What cannot be read tells no cap: then the account list does.
fn read_caps(available: &RawValue) -> Vec<AccountCap> {
    let entries: Vec<&RawValue> = serde_json::from_str(available.get()).unwrap_or_default();
    let entries = entries.iter();
    let read = entries.filter_map(|entry| serde_json::from_str::<Capacity<'_>>(entry.get()).ok());
    read.map(|capacity| AccountCap {
        email: capacity.email.into_owned(),
        max_jobs: capacity.max_jobs.get(),
    })
    .collect()
}

/// The job of one entry of the list, if it has an id and an e-mail.
pub fn running_in(entry: &RawValue) -> Option<RunningJob> {
    let entry: Entry<'_> = serde_json::from_str(entry.get()).ok()?;
    if entry.email.is_empty() {
        return None;
    }
    Some(RunningJob {
        task_id: TaskId::from_json(entry.id).ok()?,
        email: entry.email.into_owned(),
    })
}

#[derive(Deserialize)]
struct Task<'a> {
    #[serde(borrow)]
    task: Option<Named<'a>>,
    status_final: Option<bool>,
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

/// An answer about another task, or an empty one, says nothing.
fn read_task(body: &[u8], task_id: &TaskId) -> TaskWord {
    let Ok(read) = serde_json::from_slice::<Task<'_>>(body) else {
        return TaskWord::Unknown;
    };
    let id = read.task.and_then(|named| named.id);
    let is_named = id.map(|id| TaskId::from_json(id).as_ref() == Ok(task_id));
    match (is_named, read.status_final) {
        (Some(false), _) | (None, None) => TaskWord::Unknown,
        (Some(true) | None, Some(true)) => TaskWord::Final,
        (Some(true), Some(false) | None) | (None, Some(false)) => TaskWord::Unfinished,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> TaskId {
        text.parse().unwrap()
    }

    fn ids(body: &str) -> (Vec<String>, usize) {
        let read = read_executing(body.as_bytes()).unwrap();
        let ids = read.jobs.iter();
        (
            ids.map(|job| job.task_id.as_str().to_owned()).collect(),
            read.skipped_count,
        )
    }

    #[test]
    fn ids_are_read_verbatim_as_numbers_or_strings() {
        let body = r#"{"available":[],"more":{},"executing":[
            {"id":123456789,"email":"a@x","started":"s","elapsed":"01:05"},
            {"id":987654321987654321,"email":"a@x"}, {"id":-92233720368547758079,"email":"a@x"},
            {"email":"\u0061@x","id":"18446744073709551616"}]}"#;
        let expected = [
            "123456789",
            "987654321987654321",
            "-92233720368547758079",
            "18446744073709551616",
        ];
        assert_eq!(ids(body), (expected.map(str::to_owned).into(), 0));
        let read = read_executing(body.as_bytes()).unwrap();
        assert!(read.jobs.iter().all(|job| job.email == "a@x"));
    }

    #[test]
    fn entries_without_id_or_email_are_skipped_and_counted() {
        let body = r#"{"executing":[{"id":1,"email":"a@x"},{"id":2},{"email":"a@x"},
            {"id":null,"email":"a@x"},{"id":1.5,"email":"a@x"},{"id":"","email":"a@x"},{"id":3,"email":""},
            {"id":1e3,"email":"a@x"},{"id":"0x7","email":"a@x"},{"id":4,"email":7},null,5,[]]}"#;
        assert_eq!(ids(body), (vec!["1".to_owned()], 12));
    }

    #[test]
    fn caps_are_read_where_they_can_be() {
        let body = r#"{"executing":[],"available":[{"email":"a@x","maxJobs":3,"executing":0},
            {"email":"b@x","maxJobs":0},{"email":"c@x"},{"maxJobs":1},null,{"email":"d@x","maxJobs":-1},
            {"email":"e@x","maxJobs":50}]}"#;
        let read = read_executing(body.as_bytes()).unwrap();
        let caps = read.caps.iter().map(|cap| (&*cap.email, cap.max_jobs));
        assert_eq!(caps.collect::<Vec<_>>(), [("a@x", 3), ("e@x", 50)]);
        for available in ["null", "{}", "7", "[7]"] {
            let body = format!(r#"{{"available":{available},"executing":[]}}"#);
            assert_eq!(read_executing(body.as_bytes()).unwrap().caps, []);
        }
    }

    #[test]
    fn what_is_no_list_is_no_empty_list() {
        for body in [
            "",
            "[]",
            "{}",
            "null",
            r#"{"executing":null}"#,
            r#"{"executing":{}}"#,
            r#"{"executing":[]"#,
            r#"{"executing":[],"executing":[]}"#,
        ] {
            assert!(read_executing(body.as_bytes()).is_err(), "{body}");
        }
        assert_eq!(ids(r#"{"executing":[]}"#), (vec![], 0));
    }

    #[test]
    fn only_a_true_status_final_of_that_task_is_final() {
        let word = |body: &str| read_task(body.as_bytes(), &id("987654321987654321"));
        let of = |rest: &str| word(&format!(r#"{{"task":{{"id":987654321987654321}}{rest}}}"#));
        assert_eq!(of(r#","status_final":true"#), TaskWord::Final);
        assert_eq!(of(r#","status_final":false"#), TaskWord::Unfinished);
        assert_eq!(of(""), TaskWord::Unfinished);
        assert_eq!(of(r#","status_final":"true""#), TaskWord::Unknown);
        assert_eq!(word(r#"{"status_final":true}"#), TaskWord::Final);
        let neighbour = r#"{"task":{"id":987654321987654320},"status_final":true}"#;
        assert_eq!(word(neighbour), TaskWord::Unknown);
        for nothing in ["", "{}", "[]", "null", r#"{"task":{}}"#] {
            assert_eq!(word(nothing), TaskWord::Unknown, "{nothing}");
        }
    }
}
