//! Many questions about tasks, few at a time.

use std::{sync::Arc, vec};

use tokio::task::JoinSet;

use super::scheduler::{self, TaskWord};
use crate::{pool::RunningJob, upstream::Upstream};

/// How many questions are under way at once: enough to find an owner among many accounts soon, few
/// enough not to be taken for an attack.
pub const ASKED_AT_ONCE: usize = 4;

/// Questions to the account of each job for its task, and the answers as they come.
#[derive(Debug)]
pub(super) struct Asking {
    upstream: Arc<Upstream>,
    left: vec::IntoIter<RunningJob>,
    /// Dropped, the questions under way are too.
    asked: JoinSet<(RunningJob, TaskWord)>,
}

impl Asking {
    pub(super) fn new(upstream: &Arc<Upstream>, jobs: Vec<RunningJob>) -> Self {
        Self {
            upstream: Arc::clone(upstream),
            left: jobs.into_iter(),
            asked: JoinSet::new(),
        }
    }

    /// The next answer, or `None` after the last one. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<(RunningJob, TaskWord)> {
        while self.asked.len() < ASKED_AT_ONCE
            && let Some(job) = self.left.next()
        {
            let upstream = Arc::clone(&self.upstream);
            self.asked.spawn(async move {
                let word = scheduler::task(&upstream, &job).await;
                (job, word)
            });
        }
        let answered = self.asked.join_next().await?;
        Some(answered.expect("a question neither panics nor is aborted"))
    }
}
