//! One task: its id, what an account says about it, and the answer that accepts it.
//!
//! Invariant: an answer that cannot be understood says nothing. An account that cannot answer is not one
//! without the task.

use std::{
    borrow::Cow,
    str::{self, FromStr},
    sync::Arc,
};

use http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::value::RawValue;
use thiserror::Error;

use super::members::{Member, Scanner, members};

/// The most digits a task id may have. Ids of 18 digits are known (`2^63` has 19); the rest is
/// reserve; the limit keeps hostile ids out of the pool.
pub const TASK_ID_DIGITS_MAX: usize = 32;

/// What a 404 contains, in any case, when it is about the account and not about the task.
const NOT_CONFIGURED: &[u8] = b"configuration not found";

/// Names an upstream job. Kept as its digits: ids can exceed `2^53`, and can be negative. Cheap to
/// clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(Arc<str>);

impl TaskId {
    /// The digits, with a leading `-` if the id is negative.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads an id that stands in JSON, as a number or as a string of digits: it is kept as
    /// written, since a double would round it.
    ///
    /// # Errors
    /// [`TaskIdError`] if it is anything else.
    pub fn from_json(value: &RawValue) -> Result<Self, TaskIdError> {
        Self::in_json(value.get())
    }

    fn in_json(text: &str) -> Result<Self, TaskIdError> {
        let quoted = text
            .strip_prefix('"')
            .and_then(|text| text.strip_suffix('"'));
        quoted.unwrap_or(text).parse()
    }
}

impl Serialize for TaskId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for TaskId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// The text is not a task id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a task id is 1 to {TASK_ID_DIGITS_MAX} digits without leading zeros")]
pub struct TaskIdError;

impl FromStr for TaskId {
    type Err = TaskIdError;

    fn from_str(text: &str) -> Result<Self, TaskIdError> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        // A job must have one id only: 007 would be another id of job 7.
        let is_padded = digits.starts_with('0') && text != "0";
        let is_valid = (1..=TASK_ID_DIGITS_MAX).contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && !is_padded;
        if is_valid {
            Ok(Self(text.into()))
        } else {
            Err(TaskIdError)
        }
    }
}

/// How a job ended. Finality is `status_final`, success is `status_name` "succeed" (both are in every answer of
/// the vendor's samples); numbers are not relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobResult {
    /// With what was asked for.
    Succeeded,
    /// Without.
    Failed,
}

impl JobResult {
    /// Of a final task with this `status_name`.
    pub(super) fn of(status_name: Option<&str>) -> Self {
        match status_name {
            Some("succeed") => Self::Succeeded,
            Some(_) | None => Self::Failed,
        }
    }

    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

/// What an account says about a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskStatus {
    /// It has the task, and the task is final.
    Final(JobResult),
    /// It has the task, and the task is not final yet.
    Unfinished,
    /// It has no such task, or no longer.
    Missing,
    /// Nothing that can be relied on.
    Unknown,
}

/// The answer of one account to `GET /tasks/{task_id}`, read in one pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TaskAnswer<'a> {
    /// What it says about the task.
    pub(crate) status: TaskStatus,
    /// The works that the task made so far, as [`WORKS`](super::shapes::WORKS) describes them.
    pub(crate) works: Option<&'a [u8]>,
}

impl<'a> TaskAnswer<'a> {
    /// Reads an answer.
    pub(crate) fn read(status: StatusCode, body: &'a [u8], task_id: &TaskId) -> Self {
        let silent = |status| Self {
            status,
            works: None,
        };
        match status {
            StatusCode::OK => {
                Self::of_task(body, task_id).unwrap_or_else(|| silent(TaskStatus::Unknown))
            }
            StatusCode::NOT_FOUND if !is_about_account(body) => silent(TaskStatus::Missing),
            _ => silent(TaskStatus::Unknown),
        }
    }

    /// An answer about another task, or an empty one, says nothing.
    fn of_task(body: &'a [u8], task_id: &TaskId) -> Option<Self> {
        let [mut task, mut id, mut is_final, mut name, mut works] = [Member::default(); 5];
        let mut scanner = Scanner::new(body);
        scanner.object(|scanner, member| match member {
            b"task" => {
                let value = scanner.object_or_null(|scanner, member| {
                    let value = scanner.value()?;
                    if member == b"id" {
                        id.note(value)?;
                    }
                    Some(())
                });
                task.note(value?)
            }
            b"status_final" => is_final.note(scanner.value()?),
            b"status_name" => name.note(scanner.value()?),
            b"works" => works.note(scanner.value()?),
            _ => scanner.value().map(drop),
        })?;
        scanner.end()?;
        let is_final = match is_final.value() {
            None => None,
            Some(b"true") => Some(true),
            Some(b"false") => Some(false),
            Some(_) => return None,
        };
        let is_same = (id.value()).map(|id| unquoted(id) == task_id.as_str().as_bytes());
        let status = match (is_same, is_final) {
            (Some(false), _) | (None, None) => return None,
            (Some(true) | None, Some(true)) => {
                let name = name.value().map(serde_json::from_slice::<String>);
                TaskStatus::Final(JobResult::of(name.transpose().ok()?.as_deref()))
            }
            (Some(true), Some(false) | None) | (None, Some(false)) => TaskStatus::Unfinished,
        };
        let works = works.value();
        Some(Self { status, works })
    }
}

impl TaskStatus {
    /// What the answer of one account to `GET /tasks/{task_id}` says about the task.
    pub(crate) fn read(status: StatusCode, body: &[u8], task_id: &TaskId) -> Self {
        TaskAnswer::read(status, body, task_id).status
    }
}

/// Whether a 404 says that the account is not configured, and nothing about what was asked of it.
pub(crate) fn is_about_account(body: &[u8]) -> bool {
    memchr::memmem::find(&body.to_ascii_lowercase(), NOT_CONFIGURED).is_some()
}

/// The task in an answer, read in one pass: its id, `task.id`, the digits as they are, and its type, `task.type`. An odd
/// type is none: it must not cost the id of a paid job.
pub(crate) fn accepted_task(body: &[u8]) -> Option<(TaskId, Option<Arc<str>>)> {
    let [mut task, mut id] = [Member::default(); 2];
    let mut types = (None, 0);
    let mut scanner = Scanner::new(body);
    scanner.object(|scanner, member| {
        if member != b"task" {
            return scanner.value().map(drop);
        }
        let value = scanner.object_or_null(|scanner, member| {
            let value = scanner.value()?;
            match member {
                b"id" => id.note(value)?,
                b"type" => types = (Some(value), types.1 + 1),
                _ => {}
            }
            Some(())
        });
        task.note(value?)
    })?;
    scanner.end()?;
    let _is_text = str::from_utf8(task.value()?).ok()?;
    // As it stands there: a number beyond 2^53 must not pass through a float.
    let id = TaskId::in_json(str::from_utf8(id.value()?).ok()?).ok()?;
    let task_type = types.0.filter(|_| types.1 == 1);
    let task_type = task_type.and_then(|text| serde_json::from_slice::<String>(text).ok());
    Some((id, task_type.map(Arc::from)))
}

/// The member `task` of an answer, if it is the task `task_id`.
pub(crate) fn task_json<'a>(body: &'a [u8], task_id: &TaskId) -> Option<&'a str> {
    let task = task_in(body)?;
    let is_same = id_of(task).as_ref() == Some(task_id);
    is_same.then_some(task)
}

fn task_in(body: &[u8]) -> Option<&str> {
    let [task] = members(body, ["task"])?;
    task
}

fn id_of(task: &str) -> Option<TaskId> {
    let [id] = members(task.as_bytes(), ["id"])?;
    // As it stands there: a number beyond 2^53 must not pass through a float.
    TaskId::in_json(id?).ok()
}

/// What stands in a JSON string, or else the JSON itself.
fn unquoted(json: &[u8]) -> &[u8] {
    let inner = json
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""));
    inner.unwrap_or(json)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{members::tests::variants, object},
        *,
    };

    #[test]
    fn only_a_true_status_final_of_that_task_is_final() {
        let id = "987654321987654321".parse().unwrap();
        let status = |body: &str| TaskStatus::read(StatusCode::OK, body.as_bytes(), &id);
        let of = |rest: &str| status(&format!(r#"{{"task":{{"id":987654321987654321}}{rest}}}"#));
        let (succeeded, failed) = (JobResult::Succeeded, JobResult::Failed);
        let succeed = r#","status_final":true,"status_name":"succeed""#;
        assert_eq!(of(succeed), TaskStatus::Final(succeeded));
        let fail = r#","status_final":true,"status_name":"failed""#;
        assert_eq!(of(fail), TaskStatus::Final(failed));
        assert_eq!(of(r#","status_final":true"#), TaskStatus::Final(failed));
        assert_eq!(of(r#","status_final":false"#), TaskStatus::Unfinished);
        assert_eq!(of(""), TaskStatus::Unfinished);
        assert_eq!(of(r#","status_final":"true""#), TaskStatus::Unknown);
        assert_eq!(
            status(r#"{"status_final":true}"#),
            TaskStatus::Final(failed)
        );
        let neighbour = r#"{"task":{"id":987654321987654320},"status_final":true}"#;
        assert_eq!(status(neighbour), TaskStatus::Unknown);
        for nothing in ["", "{}", "[]", "null", r#"{"task":{}}"#] {
            assert_eq!(status(nothing), TaskStatus::Unknown, "{nothing}");
        }
    }

    /// What the answer says by `serde_json`, which is the plain way to read it.
    fn by_serde(body: &[u8], task_id: &TaskId) -> Option<(TaskStatus, bool)> {
        #[derive(Deserialize)]
        struct Answer<'a> {
            #[serde(borrow)]
            task: Option<&'a RawValue>,
            status_final: Option<bool>,
            #[serde(borrow)]
            status_name: Option<&'a RawValue>,
            #[serde(borrow)]
            works: Option<&'a RawValue>,
        }
        #[derive(Deserialize)]
        struct Task<'a> {
            #[serde(borrow)]
            id: Option<&'a RawValue>,
        }
        let answer: Answer<'_> = object(body).ok()?;
        let task = answer
            .task
            .map(|task| object::<Task<'_>>(task.get().as_bytes()));
        let id = task.transpose().ok()?.and_then(|task| task.id);
        let is_same = id.map(|id| TaskId::from_json(id).as_ref() == Ok(task_id));
        let status = match (is_same, answer.status_final) {
            (Some(false), _) | (None, None) => return None,
            (Some(true) | None, Some(true)) => {
                let name = answer
                    .status_name
                    .map(|it| serde_json::from_str::<String>(it.get()));
                TaskStatus::Final(JobResult::of(name.transpose().ok()?.as_deref()))
            }
            (Some(true), Some(false) | None) | (None, Some(false)) => TaskStatus::Unfinished,
        };
        Some((status, answer.works.is_some()))
    }

    #[test]
    fn an_answer_is_read_as_serde_reads_it() {
        let task_id = "12".parse().unwrap();
        for text in [
            r#"{"task":{"id":12,"a":[]},"status_final":true,"status_name":"succeed","works":[{}]}"#,
            r#"{"works":[],"status_name":"\u0073ucceed","status_final":false,"task":{"id":"12"}}"#,
            r#"{"status_final":true,"status_name":null,"task":null,"works":null}"#,
        ] {
            let mut understood = 0;
            for body in variants(text) {
                let plain = by_serde(&body, &task_id);
                if plain.is_none() && str::from_utf8(&body).is_err() {
                    continue;
                }
                let read = TaskAnswer::of_task(&body, &task_id);
                let read = read.map(|read| (read.status, read.works.is_some()));
                assert_eq!(read, plain, "{}", body.escape_ascii());
                understood += usize::from(plain.is_some());
            }
            assert!(understood > text.len(), "only {understood} say something");
        }
    }

    #[test]
    fn an_array_is_neither_an_answer_nor_a_task() {
        let id = "7".parse().unwrap();
        for body in [
            r#"[{"id":7},true,"succeed"]"#,
            r#"{"task":[7],"status_final":true}"#,
        ] {
            let status = TaskStatus::read(StatusCode::OK, body.as_bytes(), &id);
            assert_eq!(status, TaskStatus::Unknown, "{body}");
        }
        for body in [r#"[{"id":7,"type":"t"}]"#, r#"{"task":[7,"t"]}"#] {
            assert_eq!(accepted_task(body.as_bytes()), None, "{body}");
            assert_eq!(task_json(body.as_bytes(), &id), None, "{body}");
        }
        let typed = r#"{"task":["t"]}"#;
        assert_eq!(accepted_task(typed.as_bytes()), None);
    }

    /// What one pass for each member finds.
    fn by_passes(body: &[u8]) -> Option<(TaskId, Option<Arc<str>>)> {
        let task = task_in(body)?;
        let found = members(task.as_bytes(), ["type"]).and_then(|[text]| text);
        let task_type = found.and_then(|text| serde_json::from_str::<String>(text).ok());
        Some((id_of(task)?, task_type.map(Arc::from)))
    }

    #[test]
    fn an_accepted_task_is_read_in_one_pass_as_in_several() {
        for text in [
            r#"{"a":[{}],"task":{"id":12,"b":{"id":7},"type":"t"},"id":7}"#,
            r#"{"task":{"type":"\u0074","id":"987654321987654321"}}"#,
            r#"{"task":{"id":12,"type":7}}"#,
            r#"{"task":{"id":12,"type":null},"type":"t"}"#,
            r#"{"task":{"type":"t","type":"u","id":12}}"#,
        ] {
            let mut understood = 0;
            for body in variants(text) {
                let plain = by_passes(&body);
                assert_eq!(accepted_task(&body), plain, "{}", body.escape_ascii());
                understood += usize::from(plain.is_some());
            }
            assert!(understood > text.len(), "only {understood} name a task");
        }
    }

    #[test]
    fn an_odd_type_costs_no_id() {
        for odd in ["7", "null", "[]", r#""a","type":"b""#, r#""\ud800""#] {
            let body = format!(r#"{{"task":{{"type":{odd},"id":12}}}}"#);
            let read = accepted_task(body.as_bytes());
            assert_eq!(read, Some(("12".parse().unwrap(), None)), "{odd}");
        }
    }
}
