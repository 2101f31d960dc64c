//! What a sidecar keeps over restarts, read from its metrics.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::terminal::aligned;

const PREFIX: &str = "kling_balancer_";

/// One series of the text format: its name without the prefix, the value of its first label, and its value.
fn series(line: &str) -> Option<(&str, &str, f64)> {
    let line = line.strip_prefix(PREFIX)?;
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let label = labels.split('"').nth(1).unwrap_or_default();
    Some((name, label, value.parse().ok()?))
}

/// What the metrics say of the state.
pub(super) fn of_metrics(text: &str) -> Value {
    let mut state = Map::new();
    let mut records = Map::new();
    let mut marks = Map::new();
    for (name, label, value) in text.lines().filter_map(series) {
        match name {
            "state_info" => _ = state.insert("kind".to_owned(), json!(label)),
            "state_bytes" => _ = state.insert("bytes".to_owned(), count(value)),
            "state_sessions" => _ = state.insert("sessions".to_owned(), count(value)),
            "state_records" => _ = records.insert(label.to_owned(), count(value)),
            "state_last_commit_timestamp_seconds" => {
                let at = Timestamp::from_second(whole(value)).ok();
                let at = at.filter(|_| value > 0.0).map(|at| at.to_string());
                state.insert("committedAt".to_owned(), json!(at));
            }
            _ => {}
        }
    }
    for (operation, known) in text.lines().filter_map(marks_of) {
        marks.insert(operation.to_owned(), json!(known));
    }
    state.insert("records".to_owned(), Value::Object(records));
    state.insert("marks".to_owned(), Value::Object(marks));
    Value::Object(state)
}

/// What is known of the marks of an operation.
fn marks_of(line: &str) -> Option<(&str, &str)> {
    let line = line.strip_prefix(PREFIX)?.strip_prefix("marks{")?;
    let (labels, value) = line.rsplit_once(' ')?;
    // Names and values in turn.
    let parts: Vec<_> = labels.split('"').collect();
    let label = |name: &str| {
        let mut pairs = parts.chunks_exact(2);
        let pair = pairs.find(|pair| pair[0].trim_matches([',', '=']) == name);
        pair.map(|pair| pair[1])
    };
    (value == "1").then_some((label("operation")?, label("known")?))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "seconds and counts are far below 2^53"
)]
fn whole(value: f64) -> i64 {
    value as i64
}

fn count(value: f64) -> Value {
    json!(whole(value))
}

/// The state as lines for people, as of `now`.
pub(super) fn table(state: &Value, now: Timestamp) -> String {
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String| rows.push([name.to_owned(), value]);
    let kind = state["kind"].as_str().unwrap_or("not known");
    if kind == "memory" {
        row("kept in", "memory: it ends with the process".to_owned());
    } else {
        row("kept in", kind.to_owned());
        let bytes = state["bytes"].as_u64().unwrap_or_default();
        row("size", bytesize::ByteSize(bytes).to_string());
        let at = state["committedAt"].as_str().and_then(|at| at.parse().ok());
        let age = at.map(|at: Timestamp| now.duration_since(at).as_secs().max(0));
        let written = age.map_or("not yet".to_owned(), |age| format!("{age} s ago"));
        row("written", written);
        row("processes", state["sessions"].to_string());
        for (table, count) in state["records"].as_object().into_iter().flatten() {
            if count.as_u64() > Some(0) {
                row(table, count.to_string());
            }
        }
    }
    for (operation, known) in state["marks"].as_object().into_iter().flatten() {
        let known = known.as_str().unwrap_or_default();
        row("marks", format!("{operation} {known}"));
    }
    aligned(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: &str = "# HELP kling_balancer_state_info Where the state is kept, 1.\n\
        kling_balancer_state_info{kind=\"disk\"} 1\n\
        kling_balancer_state_bytes 40960\n\
        kling_balancer_state_records{table=\"lease\"} 12\n\
        kling_balancer_state_records{table=\"owner\"} 0\n\
        kling_balancer_state_sessions 3\n\
        kling_balancer_state_last_commit_timestamp_seconds 1700000000.25\n\
        kling_balancer_marks{known=\"proven\",operation=\"/avatars\"} 1\n\
        kling_balancer_marks{known=\"proven\",operation=\"/videos/text2video\"} 1\n";

    #[test]
    fn the_state_is_read_from_the_metrics() {
        let state = of_metrics(METRICS);
        let expected = json!({
            "kind": "disk",
            "bytes": 40960,
            "sessions": 3,
            "committedAt": "2023-11-14T22:13:20Z",
            "records": {"lease": 12, "owner": 0},
            "marks": {"/avatars": "proven", "/videos/text2video": "proven"},
        });
        assert_eq!(state, expected);
        let text = table(&state, Timestamp::from_second(1_700_000_002).unwrap());
        for part in [
            "disk",
            "40.0 KiB",
            "2 s ago",
            "12",
            "/videos/text2video proven",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("owner"), "{text}");
    }

    #[test]
    fn a_state_in_memory_is_called_so() {
        let state = of_metrics("kling_balancer_state_info{kind=\"memory\"} 1\n");
        assert!(table(&state, Timestamp::now()).contains("ends with the process"));
    }
}
