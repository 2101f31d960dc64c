//! How jobs ended, for the records of calls.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::pool::{JobResult, TaskId};

/// The most results that are kept until they are taken, as many as there are records. They are taken at once, and the
/// oldest make room.
const RESULTS_MAX: usize = 10_000;

/// The results of jobs that ended.
#[derive(Debug, Default)]
pub(super) struct JobResults {
    list: Mutex<VecDeque<(TaskId, JobResult)>>,
    has_some: Notify,
}

impl JobResults {
    pub(super) fn push(&self, task_id: TaskId, result: JobResult) {
        let mut list = self.list.lock();
        if list.len() == RESULTS_MAX {
            list.pop_front();
        }
        list.push_back((task_id, result));
        self.has_some.notify_one();
    }

    /// Waits for some, and takes all, in order. For one caller; cancel-safe.
    pub(super) async fn take(&self) -> Vec<(TaskId, JobResult)> {
        loop {
            let taken: Vec<_> = self.list.lock().drain(..).collect();
            if !taken.is_empty() {
                return taken;
            }
            self.has_some.notified().await;
        }
    }
}
