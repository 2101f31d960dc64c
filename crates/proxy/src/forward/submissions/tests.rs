//! A submission that panics.

use super::*;
use crate::telemetry::tests::{child, lines, what_to_do};

#[test]
fn a_submission_that_panics_is_told_and_leaves_its_outcome_unknown() {
    let name = "forward::submissions::tests::a_submission_that_panics_is_told_and_leaves_its_outcome_unknown";
    if what_to_do().is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let tasks = TaskTracker::new();
        let submission = async { panic!("on purpose") };
        let answer = runtime.block_on(detached::<()>(&tasks, "r-7", submission));
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
