//! A submission that panics, and one that its client leaves.

use std::{
    pin::Pin,
    task::{Context, Waker},
};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

use super::*;
use crate::telemetry::tests::{child, lines, what_to_do};

#[test]
fn a_submission_that_panics_is_told_and_leaves_its_outcome_unknown() {
    let name = "forward::submissions::tests::a_submission_that_panics_is_told_and_leaves_its_outcome_unknown";
    if what_to_do().is_some() {
        let runtime = Builder::new_current_thread().build().unwrap();
        let tasks = TaskTracker::new();
        let _entered = runtime.enter();
        let submission = Box::pin(async { panic!("on purpose") });
        let span = tracing::error_span!("submission", request_id = "r-7");
        let answer = runtime.block_on(Detached::<()>::new(&tasks, span, submission));
        assert_eq!(answer, Err(Error::OutcomeUnknown));
        return;
    }
    let output = child(name, "panic");
    assert!(output.status.success(), "{output:?}");
    for text in ["panicked; this is a bug", "submission ended by a bug"] {
        let lines = lines(&output, text);
        assert_eq!(lines.len(), 1, "{output:?}");
        assert_eq!(lines[0]["span"]["request_id"], "r-7", "{text}");
    }
}

#[tokio::test]
async fn a_submission_goes_on_as_a_task_once_its_client_leaves() {
    let tasks = TaskTracker::new();
    let (answer, answered) = oneshot::channel();
    let (told, is_told) = oneshot::channel();
    let submission = Box::pin(async move {
        told.send(answered.await.unwrap()).unwrap();
        Ok(())
    });
    let mut detached = Detached::new(&tasks, Span::none(), submission);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut detached).poll(&mut cx).is_pending());
    let task_count = || Handle::current().metrics().num_alive_tasks();
    assert_eq!(
        (task_count(), tasks.len()),
        (0, 1),
        "the drain waits for it"
    );
    drop(detached);
    assert_eq!((task_count(), tasks.len()), (1, 1));
    answer.send(7).unwrap();
    assert_eq!(is_told.await, Ok(7));
    tasks.close();
    tasks.wait().await;
}

#[tokio::test]
async fn a_submission_that_has_ended_becomes_no_task() {
    let tasks = TaskTracker::new();
    let submission = Box::pin(async { Ok(7) });
    let ended = Detached::new(&tasks, Span::none(), submission).await;
    assert_eq!((ended, tasks.len()), (Ok(7), 0));
}
