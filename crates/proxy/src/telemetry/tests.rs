//! Tests of panics, each in a process of its own: the hook belongs to the process, and some panics
//! end it.

use std::process::{Command, Output};

use serde_json::Value;

use super::*;

/// Names what a child does.
const CHILD: &str = "KLB_TEST_PANIC";

/// Runs the test `name` of this binary as a child that is to do `what`.
pub(crate) fn child(name: &str, what: &str) -> Output {
    let binary = env::current_exe().unwrap();
    Command::new(binary)
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, what)
        .output()
        .unwrap()
}

/// What this process is to do, if it is a child. It logs in JSON then.
pub(crate) fn what_to_do() -> Option<String> {
    let what = env::var(CHILD).ok()?;
    let lines = fmt::layer().json().with_writer(io::stderr);
    registry().with(lines).init();
    panic::set_hook(Box::new(log_panic));
    Some(what)
}

/// The log lines of a child that contain `text`.
pub(crate) fn lines(output: &Output, text: &str) -> Vec<Value> {
    let log = String::from_utf8_lossy(&output.stderr);
    let lines = log.lines().filter(|line| line.contains(text));
    lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

#[test]
fn a_panic_is_logged_with_its_place_and_its_span() {
    let name = "telemetry::tests::a_panic_is_logged_with_its_place_and_its_span";
    if what_to_do().is_some() {
        let caught = panic::catch_unwind(|| {
            let _span = tracing::error_span!("submission", request_id = "r-1").entered();
            panic!("on purpose")
        });
        assert!(caught.is_err());
        return;
    }
    let output = child(name, "panic");
    assert!(output.status.success(), "{output:?}");
    let lines = lines(&output, "panicked");
    assert_eq!(lines.len(), 1, "{output:?}");
    let fields = &lines[0]["fields"];
    assert_eq!(fields["message_of_panic"], "on purpose");
    assert!(
        fields["location"]
            .as_str()
            .unwrap()
            .contains("telemetry/tests.rs:")
    );
    assert_eq!(lines[0]["span"]["request_id"], "r-1");
}
