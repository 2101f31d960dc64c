//! A submission that its client may leave.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::runtime::Handle;
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};
use tracing::{Instrument, Span, instrument::Instrumented};

use crate::error::Error;

type Submission<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

/// A submission under way, in a span that tells which call it is of.
///
/// It runs within the call of its client: a task of its own took 4,000 instructions of each job start. Dropped before
/// its end, as when the client hangs up, it goes on as such a task. So a client that leaves neither aborts it nor loses
/// its slot.
#[must_use = "it does nothing unless it is awaited, or dropped"]
pub(super) struct Detached<T: Send + 'static> {
    /// There until its end.
    submission: Option<Instrumented<Submission<T>>>,
    tasks: TaskTracker,
    runtime: Handle,
    /// What waits for the tasks waits for this, too.
    _running: TaskTrackerToken,
}

impl<T: Send + 'static> Detached<T> {
    /// `submission`, which becomes one of `tasks` if it is left.
    pub(super) fn new(tasks: &TaskTracker, span: Span, submission: Submission<T>) -> Self {
        Self {
            submission: Some(submission.instrument(span)),
            tasks: tasks.clone(),
            runtime: Handle::current(),
            _running: tasks.token(),
        }
    }
}

impl<T: Send + 'static> Future for Detached<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let submission = self.submission.as_mut();
        let submission = submission.expect("it is not polled after its end");
        // A bug costs this answer, and no other call of the connection.
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut *submission).poll(cx)));
        let ended = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(ended)) => ended,
            Err(_panic) => {
                // It was logged with its place where it happened.
                let _entered = submission.span().enter();
                tracing::error!("submission ended by a bug; its slot stays held as uncertain");
                Err(Error::OutcomeUnknown)
            }
        };
        self.submission = None;
        Poll::Ready(ended)
    }
}

impl<T: Send + 'static> Drop for Detached<T> {
    fn drop(&mut self) {
        if let Some(submission) = self.submission.take() {
            self.tasks.spawn_on(submission, &self.runtime);
        }
    }
}
