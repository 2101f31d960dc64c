//! One page of `GET /tasks?email=`: the tasks of an account, newest first.
//!
//! Invariant: a row that cannot be read says nothing, and the page tells that it has one: such a history
//! proves no absence.

use std::{borrow::Cow, fmt, sync::Arc};

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::{
    object,
    task::{JobResult, TaskId},
};
use crate::hex;

/// How many entries a page may have.
pub(crate) const PAGE_ROWS: usize = 100;

/// Stands for a text that is not kept. It only tells whether two texts are equal, in every run and in every
/// version of the sidecar: the first half of SHA-256. Written as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 16]);

impl Digest {
    /// The digest of `text`, without the blanks around it.
    pub fn of(text: &str) -> Self {
        let whole = digest(&SHA256, text.trim().as_bytes());
        let mut half = [0; 16];
        half.copy_from_slice(&whole.as_ref()[..16]);
        Self(half)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        hex::deserialize(deserializer).map(Self)
    }
}

/// One task, as a history shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryRow {
    /// Which task.
    pub task_id: TaskId,
    /// What the vendor calls it, if that is shown.
    pub task_type: Option<Arc<str>>,
    /// Its prompt, if that is shown.
    pub prompt: Option<Digest>,
    /// When the vendor created it, on the vendor's clock, in milliseconds.
    pub created_ms: Option<i64>,
    /// How it ended, if it is shown to be final.
    pub result: Option<JobResult>,
}

/// The rows of one page.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Page {
    /// Its tasks, newest first.
    pub rows: Vec<HistoryRow>,
    /// It has rows without a task id that can be read.
    pub has_unreadable: bool,
    /// It has as many entries, or works, as a page may have: more may follow.
    pub is_full: bool,
}

#[derive(Deserialize)]
struct HistoryPage<'a> {
    #[serde(borrow)]
    history: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct HistoryEntry<'a> {
    #[serde(borrow)]
    works: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Work<'a> {
    /// As it stands there: a number beyond 2^53 must not pass through a float.
    #[serde(borrow)]
    task_id: &'a RawValue,
    #[serde(borrow, rename = "type")]
    task_type: Option<&'a RawValue>,
    #[serde(borrow)]
    create_time: Option<&'a RawValue>,
    #[serde(borrow)]
    task_info: Option<&'a RawValue>,
    #[serde(borrow, rename = "status_final")]
    status_final: Option<&'a RawValue>,
    #[serde(borrow, rename = "status_name")]
    status_name: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct TaskInfo<'a> {
    #[serde(borrow)]
    arguments: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Argument<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    value: &'a RawValue,
}

impl Page {
    /// Reads a page.
    ///
    /// # Errors
    /// If it is no page of a history.
    pub(crate) fn read(body: &[u8]) -> Result<Self, serde_json::Error> {
        let HistoryPage { history } = object(body)?;
        let mut page = Self::default();
        let entries_count = history.len();
        let mut works_count = 0;
        for entry in history {
            let works = object::<HistoryEntry<'_>>(entry.get().as_bytes());
            let works = works.map(|entry| entry.works).unwrap_or_default();
            page.has_unreadable |= works.is_empty();
            works_count += works.len();
            for work in works {
                page.add(work);
            }
        }
        page.is_full = entries_count.max(works_count) >= PAGE_ROWS;
        Ok(page)
    }

    /// Several works may be of one task.
    fn add(&mut self, work: &RawValue) {
        match row(work) {
            None => self.has_unreadable = true,
            Some(row) if self.rows.last().is_some_and(|it| it.task_id == row.task_id) => {}
            Some(row) => self.rows.push(row),
        }
    }
}

fn row(work: &RawValue) -> Option<HistoryRow> {
    let work: Work<'_> = object(work.get().as_bytes()).ok()?;
    let is_final = work.status_final.is_some_and(|it| it.get() == "true");
    Some(HistoryRow {
        result: is_final.then(|| JobResult::of(text(work.status_name).as_deref())),
        task_id: TaskId::from_json(work.task_id).ok()?,
        task_type: text(work.task_type).map(Arc::from),
        prompt: work.task_info.and_then(prompt),
        created_ms: work.create_time.and_then(|it| it.get().parse().ok()),
    })
}

fn prompt(task_info: &RawValue) -> Option<Digest> {
    let task_info: TaskInfo<'_> = object(task_info.get().as_bytes()).ok()?;
    let arguments = task_info.arguments.into_iter();
    let arguments = arguments.map(|argument| object::<Argument<'_>>(argument.get().as_bytes()));
    let arguments: Vec<_> = arguments.collect::<Result<_, _>>().ok()?;
    let prompt = arguments
        .iter()
        .find(|argument| argument.name == "prompt")?;
    text(Some(prompt.value)).map(|text| Digest::of(&text))
}

fn text(value: Option<&RawValue>) -> Option<Cow<'_, str>> {
    serde_json::from_str(value?.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(works: &str) -> Page {
        let body = format!(r#"{{"history":[{{"works":[{works}]}}],"more":1}}"#);
        Page::read(body.as_bytes()).unwrap()
    }

    #[test]
    fn a_row_shows_its_task_as_far_as_it_can_be_read() {
        let page = read(
            r#"{"workId":1,"taskId":987654321987654321,"type":"m2v_txt2video","createTime":1760000000000,
            "status_final":true,"status_name":"succeed",
            "taskInfo":{"type":"x","arguments":[{"name":"duration","value":5},{"name":"prompt","value":" a boat "}]}},
            {"workId":2,"taskId":987654321987654321},{"taskId":"5","type":7,"createTime":"now","taskInfo":{},
            "status_final":true,"status_name":"failed"},
            {"taskId":6,"status_final":false,"status_name":"succeed","taskInfo":{"arguments":[["prompt","a boat"]]}},{"taskId":8,"taskInfo":[[]]}"#,
        );
        let bare = |id: &str| HistoryRow {
            task_id: id.parse().unwrap(),
            task_type: None,
            prompt: None,
            created_ms: None,
            result: None,
        };
        let expected = [
            HistoryRow {
                task_id: "987654321987654321".parse().unwrap(),
                task_type: Some("m2v_txt2video".into()),
                prompt: Some(Digest::of("a boat")),
                created_ms: Some(1_760_000_000_000),
                result: Some(JobResult::Succeeded),
            },
            HistoryRow {
                result: Some(JobResult::Failed),
                ..bare("5")
            },
            bare("6"),
            bare("8"),
        ];
        assert_eq!(
            (&page.rows[..], page.has_unreadable),
            (&expected[..], false)
        );
    }

    #[test]
    fn a_page_is_full_by_its_works_and_by_its_entries() {
        let works = |count: usize| vec![r#"{"taskId":7}"#; count].join(",");
        for (count, is_full) in [(99, false), (100, true)] {
            let page = read(&works(count));
            assert_eq!((page.rows.len(), page.is_full), (1, is_full));
            let entries = vec![r#"{"works":[{"taskId":7}]}"#; count].join(",");
            let body = format!(r#"{{"history":[{entries}]}}"#);
            let page = Page::read(body.as_bytes()).unwrap();
            assert_eq!((page.rows.len(), page.is_full), (1, is_full));
        }
    }

    #[test]
    fn rows_without_a_task_are_told() {
        for works in [
            "",
            "null",
            "{}",
            r#"{"taskId":1.5}"#,
            r#"{"taskId":null}"#,
            "[]",
        ] {
            let page = read(works);
            assert!(page.has_unreadable && page.rows.is_empty(), "{works}");
        }
        for body in [r#"{"history":[7]}"#, r#"{"history":[{}]}"#] {
            assert!(
                Page::read(body.as_bytes()).unwrap().has_unreadable,
                "{body}"
            );
        }
        for array in [
            r#"{"history":[[[{"taskId":7}]]]}"#,
            r#"{"history":[{"works":[[7]]}]}"#,
        ] {
            let page = Page::read(array.as_bytes()).unwrap();
            assert!(page.has_unreadable && page.rows.is_empty(), "{array}");
        }
        for body in ["", "[]", "[[]]", "{}", r#"{"history":null}"#] {
            assert!(Page::read(body.as_bytes()).is_err(), "{body}");
        }
        let empty = Page::read(br#"{"history":[]}"#).unwrap();
        assert_eq!(empty, Page::default());
    }
}
