//! The scheduler's list of running jobs, `GET /scheduler/available`.
//!
//! Invariant: an answer that cannot be understood says nothing. A list that cannot be read is no empty list.

use std::{borrow::Cow, num::NonZeroU32};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::task::TaskId;

/// The cap of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountCap {
    /// Which account.
    pub email: String,
    /// How many jobs.
    pub max_jobs: u32,
}

/// A running job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningJob {
    /// Which job.
    pub task_id: TaskId,
    /// On which account.
    pub email: String,
}

/// The jobs that the upstream runs, and the caps that it tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Executing {
    /// The jobs.
    pub jobs: Vec<RunningJob>,
    /// The caps of accounts.
    pub caps: Vec<AccountCap>,
    /// How many entries have no id or no e-mail that can be read.
    pub skipped_count: usize,
}

#[derive(Deserialize)]
struct Available<'a> {
    #[serde(borrow)]
    executing: Vec<&'a RawValue>,
    #[serde(borrow)]
    available: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Capacity<'a> {
    #[serde(borrow)]
    email: Cow<'a, str>,
    max_jobs: NonZeroU32,
}

#[derive(Deserialize)]
struct ExecutingEntry<'a> {
    /// As it stands there: a number beyond 2^53 must not pass through a float.
    #[serde(borrow)]
    id: &'a RawValue,
    #[serde(borrow)]
    email: Cow<'a, str>,
}

impl Executing {
    /// Reads the answer to `GET /scheduler/available`.
    ///
    /// # Errors
    /// If it is not that list: it is no empty list either.
    pub(crate) fn read(body: &[u8]) -> Result<Self, serde_json::Error> {
        let list: Available<'_> = serde_json::from_slice(body)?;
        let entries = list.executing.iter();
        let jobs: Vec<_> = entries.filter_map(|entry| running_in(entry)).collect();
        Ok(Self {
            skipped_count: list.executing.len() - jobs.len(),
            caps: list.available.map(read_caps).unwrap_or_default(),
            jobs,
        })
    }
}

/// An entry that cannot be read tells no cap; the account list does then.
fn read_caps(available: &RawValue) -> Vec<AccountCap> {
    let entries: Vec<&RawValue> = serde_json::from_str(available.get()).unwrap_or_default();
    let entries = entries.iter();
    let read = entries.filter_map(|entry| serde_json::from_str::<Capacity<'_>>(entry.get()).ok());
    read.map(|capacity| AccountCap {
        email: capacity.email.into_owned(),
        max_jobs: capacity.max_jobs.get(),
    })
    .collect()
}

/// The job of one entry of the list, if it has an id and an e-mail.
pub(crate) fn running_in(entry: &RawValue) -> Option<RunningJob> {
    let entry: ExecutingEntry<'_> = serde_json::from_str(entry.get()).ok()?;
    if entry.email.is_empty() {
        return None;
    }
    Some(RunningJob {
        task_id: TaskId::from_json(entry.id).ok()?,
        email: entry.email.into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(body: &str) -> (Vec<String>, usize) {
        let read = Executing::read(body.as_bytes()).unwrap();
        let ids = read.jobs.iter();
        (
            ids.map(|job| job.task_id.as_str().to_owned()).collect(),
            read.skipped_count,
        )
    }

    #[test]
    fn ids_are_read_verbatim_as_numbers_or_strings() {
        let body = r#"{"available":[],"more":{},"executing":[
            {"id":123456789,"email":"a@x","started":"s","elapsed":"01:05"},
            {"id":987654321987654321,"email":"a@x"}, {"id":-92233720368547758079,"email":"a@x"},
            {"email":"\u0061@x","id":"18446744073709551616"}]}"#;
        let expected = [
            "123456789",
            "987654321987654321",
            "-92233720368547758079",
            "18446744073709551616",
        ];
        assert_eq!(ids(body), (expected.map(str::to_owned).into(), 0));
        let read = Executing::read(body.as_bytes()).unwrap();
        assert!(read.jobs.iter().all(|job| job.email == "a@x"));
    }

    #[test]
    fn entries_without_id_or_email_are_skipped_and_counted() {
        let body = r#"{"executing":[{"id":1,"email":"a@x"},{"id":2},{"email":"a@x"},
            {"id":null,"email":"a@x"},{"id":1.5,"email":"a@x"},{"id":"","email":"a@x"},{"id":3,"email":""},
            {"id":1e3,"email":"a@x"},{"id":"0x7","email":"a@x"},{"id":4,"email":7},null,5,[]]}"#;
        assert_eq!(ids(body), (vec!["1".to_owned()], 12));
    }

    #[test]
    fn caps_are_read_where_they_can_be() {
        let body = r#"{"executing":[],"available":[{"email":"a@x","maxJobs":3,"executing":0},
            {"email":"b@x","maxJobs":0},{"email":"c@x"},{"maxJobs":1},null,{"email":"d@x","maxJobs":-1},
            {"email":"e@x","maxJobs":50}]}"#;
        let read = Executing::read(body.as_bytes()).unwrap();
        let caps = read.caps.iter().map(|cap| (&*cap.email, cap.max_jobs));
        assert_eq!(caps.collect::<Vec<_>>(), [("a@x", 3), ("e@x", 50)]);
        for available in ["null", "{}", "7", "[7]"] {
            let body = format!(r#"{{"available":{available},"executing":[]}}"#);
            assert_eq!(Executing::read(body.as_bytes()).unwrap().caps, []);
        }
    }

    #[test]
    fn what_is_no_list_is_no_empty_list() {
        for body in [
            "",
            "[]",
            "{}",
            "null",
            r#"{"executing":null}"#,
            r#"{"executing":{}}"#,
            r#"{"executing":[]"#,
            r#"{"executing":[],"executing":[]}"#,
        ] {
            assert!(Executing::read(body.as_bytes()).is_err(), "{body}");
        }
        assert_eq!(ids(r#"{"executing":[]}"#), (vec![], 0));
    }
}
