//! Queries about many tasks, few at a time: each asks one account for one task.

use std::{sync::Arc, vec};

use tokio::task::JoinSet;

use crate::{
    kling::task::TaskStatus,
    pool::RunningJob,
    upstream::{Upstream, encoded},
};

/// How many queries are under way at once: enough to find an owner among many accounts soon, few
/// enough not to be taken for an attack.
pub const QUERIES_AT_ONCE: usize = 4;

/// Every work of a task takes about 1 KiB, and a task has a dozen at most.
const TASK_BYTES_MAX: usize = 1024 * 1024;

/// Asks the account of each job for its task, and yields the answers as they come.
#[derive(Debug)]
pub struct TaskQueries {
    upstream: Arc<Upstream>,
    left: vec::IntoIter<RunningJob>,
    /// Dropping it ends the queries under way.
    under_way: JoinSet<(RunningJob, TaskStatus)>,
}

impl TaskQueries {
    /// Queries about `jobs`. Nothing is sent before [`next`](Self::next).
    pub fn new(upstream: &Arc<Upstream>, jobs: Vec<RunningJob>) -> Self {
        Self {
            upstream: Arc::clone(upstream),
            left: jobs.into_iter(),
            under_way: JoinSet::new(),
        }
    }

    /// The next answer, or `None` after the last one. Cancel-safe.
    pub async fn next(&mut self) -> Option<(RunningJob, TaskStatus)> {
        while self.under_way.len() < QUERIES_AT_ONCE
            && let Some(job) = self.left.next()
        {
            let upstream = Arc::clone(&self.upstream);
            self.under_way.spawn(async move {
                let status = task_status(&upstream, &job).await;
                (job, status)
            });
        }
        let answered = self.under_way.join_next().await?;
        Some(answered.expect("a query neither panics nor is aborted"))
    }
}

/// What the account of the job says about its task.
pub(super) async fn task_status(upstream: &Upstream, job: &RunningJob) -> TaskStatus {
    let email = encoded(&job.email);
    let path = format!("/tasks/{}?email={email}", job.task_id.as_str());
    match upstream.ask(&path, TASK_BYTES_MAX).await {
        Ok((status, body)) => TaskStatus::read(status, &body, &job.task_id),
        Err(_) => TaskStatus::Unknown,
    }
}
