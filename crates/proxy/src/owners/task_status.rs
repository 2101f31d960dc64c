//! Asking one account about one task.

use crate::{
    kling::task::TaskStatus,
    pool::RunningJob,
    upstream::{Traffic, Upstream, encoded},
};

/// Every work of a task takes about 1 KiB, and a task has a dozen at most.
const TASK_BYTES_MAX: usize = 1024 * 1024;

/// What the account of the job says about its task.
pub(crate) async fn task_status(upstream: &Upstream, job: &RunningJob) -> TaskStatus {
    let email = encoded(&job.email);
    let path = format!("/tasks/{}?email={email}", job.task_id.as_str());
    let asked = upstream.ask(Traffic::Question, &path, TASK_BYTES_MAX);
    match asked.await {
        Ok((status, body)) => TaskStatus::read(status, &body, &job.task_id),
        Err(_) => TaskStatus::Unknown,
    }
}
