//! What must hold for every answer of the upstream, by comparison with what `serde_json` reads.

use std::collections::BTreeSet;

use http::StatusCode;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::{
    history::{Digest, HistoryRow, PAGE_ROWS, Page},
    scheduler::Executing,
    shapes::{self, Extracted, Shape},
    task::{JobResult, TaskId, TaskStatus, accepted_task, is_about_account, task_json},
};

/// Every shape that an answer may have.
static SHAPES: [Shape; 13] = [
    shapes::TASK,
    shapes::HISTORY,
    shapes::JOBS,
    shapes::EXECUTING,
    shapes::NEW_AVATAR,
    shapes::AVATARS,
    shapes::ONE_ELEMENT,
    shapes::ELEMENTS,
    shapes::NEW_UPLOAD,
    shapes::UPLOADS,
    shapes::SPEECH,
    shapes::OWN_MOTIONS,
    shapes::VOICES,
];

/// `data` as an answer about tasks of any kind.
///
/// # Panics
/// If more is read from it than stands there.
pub fn task_answers(data: &[u8]) {
    let reference: Option<Value> = serde_json::from_slice(data).ok();
    references(data, reference.as_ref());
    let other: TaskId = "7".parse().expect("digits");
    let (accepted, task_type) = accepted_task(data).unzip();
    for task_id in accepted.iter().chain([&other]) {
        let status = TaskStatus::read(StatusCode::NOT_FOUND, data, task_id);
        assert_eq!(status == TaskStatus::Missing, !is_about_account(data));
        let status = TaskStatus::read(StatusCode::OK, data, task_id);
        match &reference {
            Some(reference) => status_is_told(status, reference, task_id),
            None if is_json(data) => {}
            None => assert_eq!(status, TaskStatus::Unknown),
        }
    }
    if !is_json(data) {
        assert_eq!(accepted, None);
        assert!(Page::read(data).is_err(), "it is no JSON");
    }
    // It takes neither the deepest nesting nor the largest numbers.
    let Some(reference) = reference else {
        return;
    };
    let task = &reference["task"];
    if let Some(task_id) = &accepted {
        assert!(is_id(&task["id"], task_id), "{task_id:?}");
        let json = task_json(data, task_id).expect("it is that task");
        assert_eq!(
            serde_json::from_str::<Value>(json).ok().as_ref(),
            Some(task)
        );
    } else if has_one_id(data) {
        let id = task["id"].as_u64();
        assert_eq!(id, None, "the id of a paid job is lost");
    }
    if let Some(task_type) = task_type.flatten() {
        assert_eq!(task["type"].as_str(), Some(&*task_type));
    }
    if let Ok(page) = Page::read(data) {
        history_is_told(&page, &reference);
    }
}

/// `data` as the scheduler's answer: an owner learns of the same jobs as a round.
///
/// # Panics
/// If they differ.
pub(crate) fn scheduler_answer(data: &[u8]) {
    static EXECUTING: Shape = shapes::EXECUTING;
    if let Ok(read) = Executing::read(data) {
        assert_eq!(EXECUTING.extract(data).jobs, read.jobs);
        assert!(read.caps.iter().all(|cap| cap.max_jobs > 0));
        let ages = read.ages.iter();
        let mut of_jobs = ages.map(|(id, _)| read.jobs.iter().any(|job| job.task_id == *id));
        assert!(of_jobs.all(|is_listed| is_listed), "an age of no job");
    }
}

fn status_is_told(status: TaskStatus, answer: &Value, task_id: &TaskId) {
    let about = &answer["task"]["id"];
    match status {
        TaskStatus::Final(result) => {
            assert_eq!(answer["status_final"], Value::Bool(true));
            assert!(about.is_null() || is_id(about, task_id), "{about}");
            let is_success = answer["status_name"] == "succeed";
            assert_eq!(result == JobResult::Succeeded, is_success);
        }
        TaskStatus::Unfinished => {
            assert_ne!(answer["status_final"], Value::Bool(true));
            assert!(about.is_null() || is_id(about, task_id), "{about}");
        }
        TaskStatus::Unknown => {}
        TaskStatus::Missing => unreachable!("it was answered"),
    }
}

/// Each row is a work of the answer, in the order of the answer; if no work is unreadable, each work has its row.
fn history_is_told(page: &Page, answer: &Value) {
    let none = Vec::new();
    let history = answer["history"].as_array().unwrap_or(&none);
    let works = |entry: &Value| entry["works"].as_array().cloned().unwrap_or_default();
    let works: Vec<_> = history.iter().flat_map(works).collect();
    assert_eq!(page.is_full, history.len().max(works.len()) >= PAGE_ROWS);
    let mut rows = page.rows.iter().peekable();
    let mut last: Option<&HistoryRow> = None;
    for work in &works {
        let id = &work["taskId"];
        let Some(row) = rows.next_if(|row| is_id(id, &row.task_id)) else {
            let has_row = last.is_some_and(|row| is_id(id, &row.task_id));
            assert!(has_row || page.has_unreadable, "{work} has no row");
            continue;
        };
        last = Some(row);
        // The row may be that of another work of the task: of members that are there twice, the reference shows one.
        if page.has_unreadable {
            continue;
        }
        assert_eq!(row.task_type.as_deref(), work["type"].as_str());
        if let Some(created_ms) = work["createTime"].as_i64() {
            assert_eq!(row.created_ms, Some(created_ms));
        }
        if let Some(prompt) = row.prompt {
            let none = Vec::new();
            let arguments = work["taskInfo"]["arguments"].as_array().unwrap_or(&none);
            let given = arguments.iter().find(|it| it["name"] == "prompt");
            let given = given.and_then(|it| it["value"].as_str());
            assert_eq!(given.map(Digest::of), Some(prompt));
        }
    }
    assert_eq!(rows.next(), None, "a row of no work");
}

/// Whatever is taken for a reference stands in the answer.
fn references(data: &[u8], reference: Option<&Value>) {
    let texts = reference.map(|_| strings(data)).unwrap_or_default();
    for shape in &SHAPES {
        let Extracted { references, jobs } = shape.extract(data);
        if !is_json(data) {
            assert!(references.is_empty() && jobs.is_empty(), "it is no JSON");
        }
        for (kind, text) in references {
            assert!(kind.fits(&text), "{kind:?} {text}");
            let stands_there = memchr::memmem::find(data, text.as_bytes()).is_some();
            assert!(
                stands_there || reference.is_none() || texts.contains(&*text),
                "{text}"
            );
        }
        for job in jobs {
            assert!(!job.email.is_empty(), "{job:?}");
        }
    }
}

/// Every string of a JSON text, also in members that are there twice.
fn strings(json: &[u8]) -> BTreeSet<String> {
    let mut strings = BTreeSet::new();
    let mut rest = json;
    while let Some(start) = memchr::memchr(b'"', rest) {
        rest = &rest[start..];
        let mut tokens = serde_json::Deserializer::from_slice(rest).into_iter::<String>();
        strings.extend(tokens.next().and_then(Result::ok));
        // A string that is no Unicode is passed over quote by quote.
        rest = &rest[tokens.byte_offset().max(1)..];
    }
    strings
}

fn is_json(data: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(data).is_ok()
}

/// Whether `value` spells this id. Of numbers of more than 64 bits, the reference keeps a double nearby.
fn is_id(value: &Value, id: &TaskId) -> bool {
    match value {
        Value::String(text) => text == id.as_str(),
        Value::Number(number) if number.is_f64() => {
            let told = number.as_f64().unwrap_or_default();
            let read: f64 = id.as_str().parse().unwrap_or_default();
            (read - told).abs() <= 4.0 * f64::EPSILON * told.abs()
        }
        Value::Number(number) => number.to_string() == id.as_str(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
    }
}

/// Whether no member of interest can be there twice.
fn has_one_id(data: &[u8]) -> bool {
    let once = |text: &[u8]| memchr::memmem::find_iter(data, text).count() == 1;
    once(b"\"task\"") && once(b"\"id\"") && !data.contains(&b'\\')
}
