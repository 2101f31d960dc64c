//! Tests of panics, each in a process of its own: the hook belongs to the process, and some panics
//! end it.

use std::{
    process::{Command, Output},
    sync::{Arc, Mutex},
};

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

#[test]
fn fields_written_at_once_read_like_the_default_ones() {
    #[derive(Clone)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written<N>(fields: N, has_colors: bool) -> String
    where
        N: for<'a> FormatFields<'a> + Send + Sync + 'static,
    {
        let lines = Arc::<Mutex<Vec<u8>>>::default();
        let kept = Kept(Arc::clone(&lines));
        let layer = fmt::layer().without_time().with_ansi(has_colors);
        let layer = layer.fmt_fields(fields).with_writer(move || kept.clone());
        tracing::subscriber::with_default(registry().with(layer), || {
            let (account, absent) = (Some(tracing::field::display("a b")), None::<u8>);
            let span = tracing::error_span!("submission", request_id = "r\"\n1", account, absent);
            let _entered = span.enter();
            span.record("absent", 7);
            tracing::error!(count = 1, r#type = ?Some("t"), "message \u{1b}[1m {}", "long".repeat(99));
            let _inner = tracing::error_span!("bare").entered();
            tracing::warn!("");
        });
        let lines = lines.lock().unwrap();
        String::from_utf8(lines.clone()).unwrap()
    }
    for has_colors in [false, true] {
        let whole = written(WholeFields::default(), has_colors);
        assert_eq!(whole, written(DefaultFields::new(), has_colors));
        assert_eq!(whole.lines().count(), 2, "{whole}");
    }
}
