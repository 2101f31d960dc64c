//! What becomes of a job start: a task, a refusal, or no verdict.

use serde::Serialize;

use crate::task_id::TaskId;

/// What became of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Outcome {
    /// It became this task.
    #[serde(rename = "taskId")]
    Accepted(TaskId),
    /// It was answered with this status.
    #[serde(rename = "status")]
    Refused(u16),
    /// A script kept it from being judged: no job, no answer.
    #[serde(rename = "unjudged")]
    Unjudged(&'static str),
}
