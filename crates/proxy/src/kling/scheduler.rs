//! The scheduler's list of running jobs, `GET /scheduler/available`.
//!
//! Invariant: an answer that cannot be understood says nothing. A list that cannot be read is no empty list.

use std::{borrow::Cow, time::Duration};

use accounts_fetcher::limits::MAX_JOBS_CEILING;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::{mark::Mark, object, task::TaskId};

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
    /// The mark that it carries as its `replyRef`. `None`: it has none, or one that is not ours.
    pub mark: Option<Mark>,
}

/// How many jobs the upstream counts on an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountCount {
    /// Which account.
    pub email: String,
    /// How many jobs.
    pub executing: u32,
}

/// The jobs that the upstream runs, and the caps and counts that it tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Executing {
    /// The jobs.
    pub jobs: Vec<RunningJob>,
    /// For how long jobs have run, where their entries tell it.
    pub ages: Vec<(TaskId, Duration)>,
    /// The jobs whose account cannot be read, with their marks.
    pub nameless: Vec<(TaskId, Option<Mark>)>,
    /// The account of each job whose id cannot be read. `None`: the account cannot be read either.
    pub unreadable: Vec<Option<String>>,
    /// The caps of accounts.
    pub caps: Vec<AccountCap>,
    /// The counts of accounts.
    pub counts: Vec<AccountCount>,
}

/// What an entry of the list of running jobs tells.
enum Row {
    Job(RunningJob),
    Nameless(TaskId, Option<Mark>),
    Unreadable(Option<String>),
}

#[derive(Deserialize)]
struct Available<'a> {
    #[serde(borrow)]
    executing: Vec<&'a RawValue>,
    #[serde(borrow)]
    available: Option<&'a RawValue>,
}

/// The members are read one by one: an odd one must not cost the others.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Capacity<'a> {
    #[serde(borrow)]
    email: Cow<'a, str>,
    #[serde(borrow)]
    max_jobs: Option<&'a RawValue>,
    #[serde(borrow)]
    executing: Option<&'a RawValue>,
}

/// One that cannot be read tells nothing.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExecutingEntry<'a> {
    /// As it stands there: a number beyond 2^53 must not pass through a float.
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    email: Option<&'a RawValue>,
    #[serde(borrow)]
    elapsed: Option<&'a RawValue>,
    #[serde(borrow)]
    reply_ref: Option<&'a RawValue>,
}

impl<'a> ExecutingEntry<'a> {
    fn read(entry: &'a RawValue) -> Self {
        object(entry.get().as_bytes()).unwrap_or_default()
    }

    fn row(&self) -> Row {
        let email = self.email.and_then(read_as::<String>);
        let email = email.filter(|email| !email.is_empty());
        let task_id = self.id.and_then(|id| TaskId::from_json(id).ok());
        match (task_id, email) {
            (Some(task_id), Some(email)) => Row::Job(RunningJob {
                task_id,
                email,
                mark: self.mark(),
            }),
            (Some(task_id), None) => Row::Nameless(task_id, self.mark()),
            (None, email) => Row::Unreadable(email),
        }
    }

    fn mark(&self) -> Option<Mark> {
        read_as::<String>(self.reply_ref?)?.parse().ok()
    }

    /// `MM:SS`: the upstream tracks a job for 60 minutes.
    fn age(&self) -> Option<Duration> {
        let elapsed = read_as::<String>(self.elapsed?)?;
        let (minutes, seconds) = elapsed.split_once(':')?;
        let (minutes, seconds): (u32, u32) = (minutes.parse().ok()?, seconds.parse().ok()?);
        Some(Duration::from_secs(
            u64::from(minutes) * 60 + u64::from(seconds),
        ))
    }
}

impl Executing {
    /// Reads the answer to `GET /scheduler/available`.
    ///
    /// # Errors
    /// If it is not that list: it is no empty list either.
    pub(crate) fn read(body: &[u8]) -> Result<Self, serde_json::Error> {
        let list: Available<'_> = object(body)?;
        let mut read = Self::default();
        for entry in list.executing {
            let entry = ExecutingEntry::read(entry);
            match entry.row() {
                Row::Job(job) => {
                    let age = entry.age().map(|age| (job.task_id.clone(), age));
                    read.ages.extend(age);
                    read.jobs.push(job);
                }
                Row::Nameless(task_id, mark) => read.nameless.push((task_id, mark)),
                Row::Unreadable(email) => read.unreadable.push(email),
            }
        }
        if let Some(available) = list.available {
            read.read_available(available);
        }
        Ok(read)
    }

    /// An entry that cannot be read tells no cap and no count; the account list and the running jobs do then.
    fn read_available(&mut self, available: &RawValue) {
        let entries: Vec<&RawValue> = serde_json::from_str(available.get()).unwrap_or_default();
        for entry in entries {
            let Ok(capacity) = object::<Capacity<'_>>(entry.get().as_bytes()) else {
                continue;
            };
            let email = capacity.email.into_owned();
            if let Some(max_jobs) = capacity.max_jobs.and_then(read_as).filter(|max| *max > 0) {
                let email = email.clone();
                self.caps.push(AccountCap { email, max_jobs });
            }
            if let Some(executing) = capacity.executing.and_then(read_as::<u32>) {
                // No account has more slots, whatever the upstream says.
                let executing = executing.min(MAX_JOBS_CEILING);
                self.counts.push(AccountCount { email, executing });
            }
        }
    }

    /// How many entries have no id or no e-mail that can be read.
    pub(crate) fn skipped_count(&self) -> usize {
        self.nameless.len() + self.unreadable.len()
    }

    /// Finds the accounts of jobs that name none. A job without an owner counts as unreadable: it may run on any
    /// account.
    pub(crate) fn name_by_owner(&mut self, owner: impl Fn(&TaskId) -> Option<String>) {
        for (task_id, mark) in std::mem::take(&mut self.nameless) {
            match owner(&task_id) {
                Some(email) => self.jobs.push(RunningJob {
                    task_id,
                    email,
                    mark,
                }),
                None => self.unreadable.push(None),
            }
        }
    }
}

fn read_as<T: DeserializeOwned>(value: &RawValue) -> Option<T> {
    serde_json::from_str(value.get()).ok()
}

/// The job of one entry of the list, if it has an id and an e-mail.
pub(crate) fn running_in(entry: &RawValue) -> Option<RunningJob> {
    match ExecutingEntry::read(entry).row() {
        Row::Job(job) => Some(job),
        Row::Nameless(..) | Row::Unreadable(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(body: &str) -> (Vec<String>, usize) {
        let read = Executing::read(body.as_bytes()).unwrap();
        let ids = read.jobs.iter();
        (
            ids.map(|job| job.task_id.as_str().to_owned()).collect(),
            read.skipped_count(),
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
    fn ages_are_read_where_they_can_be() {
        let body = r#"{"executing":[{"id":1,"email":"a@x","elapsed":"01:05"},
            {"id":2,"email":"a@x","elapsed":"60:00"},{"id":3,"email":"a@x"},{"id":4,"email":"a@x","elapsed":65},
            {"id":5,"email":"a@x","elapsed":"soon"},{"id":6,"email":"a@x","elapsed":"-1:00"},
            {"id":7,"email":"a@x","elapsed":"1:00:00"},{"email":"a@x","elapsed":"00:01"}]}"#;
        let read = Executing::read(body.as_bytes()).unwrap();
        let ages = read
            .ages
            .iter()
            .map(|(id, age)| (id.as_str(), age.as_secs()));
        assert_eq!(ages.collect::<Vec<_>>(), [("1", 65), ("2", 3600)]);
        assert_eq!(read.jobs.len(), 7);
    }

    #[test]
    fn marks_are_read_where_a_reply_ref_is_one() {
        let mark = "klb-00112233445566778899aabbccddeeff";
        let body = format!(
            r#"{{"executing":[{{"id":1,"email":"a@x","replyRef":"{mark}"}},
            {{"id":2,"email":"a@x","replyRef":"{mark}x"}},{{"id":3,"email":"a@x","replyRef":null}},
            {{"id":4,"email":"a@x"}},{{"id":5,"email":"a@x","replyRef":7}},
            {{"id":6,"email":"a@x","reply\u0052ef":"\u006b{rest}"}},{{"id":7,"replyRef":"{mark}"}}]}}"#,
            rest = &mark[1..]
        );
        let mut read = Executing::read(body.as_bytes()).unwrap();
        read.name_by_owner(|_| Some("a@x".to_owned()));
        let marked = read.jobs.iter().filter(|job| job.mark == mark.parse().ok());
        let marked: Vec<_> = marked.map(|job| job.task_id.as_str()).collect();
        assert_eq!(marked, ["1", "6", "7"]);
        let others = read.jobs.iter().filter(|job| job.mark.is_none());
        assert_eq!(others.count(), 4);
    }

    #[test]
    fn caps_are_read_where_they_can_be() {
        let body = r#"{"executing":[],"available":[{"email":"a@x","maxJobs":3,"executing":0},
            {"email":"b@x","maxJobs":0},{"email":"c@x"},{"maxJobs":1},null,{"email":"d@x","maxJobs":-1},
            {"email":"e@x","maxJobs":50}]}"#;
        let read = Executing::read(body.as_bytes()).unwrap();
        let caps = read.caps.iter().map(|cap| (&*cap.email, cap.max_jobs));
        assert_eq!(caps.collect::<Vec<_>>(), [("a@x", 3), ("e@x", 50)]);
        let counts = read.counts.iter();
        let counts = counts.map(|count| (&*count.email, count.executing));
        assert_eq!(counts.collect::<Vec<_>>(), [("a@x", 0)]);
        for available in ["null", "{}", "7", "[7]"] {
            let body = format!(r#"{{"available":{available},"executing":[]}}"#);
            assert_eq!(Executing::read(body.as_bytes()).unwrap().caps, []);
        }
    }

    #[test]
    fn counts_are_read_where_they_can_be() {
        let body = r#"{"executing":[],"available":[{"email":"a@x","executing":2},
            {"email":"b@x","maxJobs":"3","executing":1},{"email":"c@x","maxJobs":3,"executing":-1},
            {"email":"d@x","executing":"2"},{"executing":3},{"email":"e@x","maxJobs":5,"executing":4000000000}]}"#;
        let read = Executing::read(body.as_bytes()).unwrap();
        let counts = read.counts.iter();
        let counts = counts.map(|count| (&*count.email, count.executing));
        let expected = [("a@x", 2), ("b@x", 1), ("e@x", MAX_JOBS_CEILING)];
        assert_eq!(counts.collect::<Vec<_>>(), expected);
        let caps = read.caps.iter().map(|cap| (&*cap.email, cap.max_jobs));
        assert_eq!(caps.collect::<Vec<_>>(), [("c@x", 3), ("e@x", 5)]);
    }

    #[test]
    fn rows_that_cannot_be_read_whole_keep_what_can_be_read() {
        let body = r#"{"executing":[{"email":"a@x"},{"id":1.5,"email":"a@x"},{"id":"x7","email":"\u0062@x"},
            {"id":4,"email":7},{"id":5},{"id":6,"email":""},null,{"id":{}},{"id":9,"email":"c@x"}]}"#;
        let mut read = Executing::read(body.as_bytes()).unwrap();
        let of = |email: &str| Some(email.to_owned());
        let expected = [of("a@x"), of("a@x"), of("b@x"), None, None];
        assert_eq!(read.unreadable, expected);
        let nameless: Vec<_> = read.nameless.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(nameless, ["4", "5", "6"]);
        assert_eq!(read.skipped_count(), 8);
        read.name_by_owner(|task_id| (task_id.as_str() == "5").then(|| "d@x".to_owned()));
        assert_eq!(read.unreadable.len(), 7);
        let jobs = read.jobs.iter();
        let jobs = jobs.map(|job| (job.task_id.as_str(), &*job.email));
        assert_eq!(jobs.collect::<Vec<_>>(), [("9", "c@x"), ("5", "d@x")]);
    }

    #[test]
    fn an_array_is_no_row() {
        let body = r#"{"executing":[["1","a@x",null]],"available":[["a@x",3,1]]}"#;
        let read = Executing::read(body.as_bytes()).unwrap();
        let expected = Executing {
            unreadable: vec![None],
            ..Executing::default()
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn what_is_no_list_is_no_empty_list() {
        for body in [
            "",
            "[]",
            "[[],null]",
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
