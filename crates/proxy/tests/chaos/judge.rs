//! What the simulator's books, the clients and `/jobs` say of each job.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use kling_sim::{Audit, Origin, Outcome};
use serde_json::Value;

use crate::clients::{Told, reference};

/// As many records as a sidecar keeps.
const RECORDS_MAX: usize = 10_000;

pub(crate) struct Judge {
    audit: Audit,
    jobs: HashMap<String, Job>,
    /// The jobs that clients of ours started.
    started: HashSet<String>,
    /// A job of a second tool can be taken for that of a lost submission.
    has_second_tool: bool,
}

/// One job, and all that was sent for it.
#[derive(Debug)]
struct Job {
    told: Told,
    /// What the upstream made of each submission.
    outcomes: Vec<Outcome>,
    /// What `/jobs` says of each start.
    records: Vec<Value>,
}

impl Job {
    /// The jobs that the upstream made of it.
    fn accepted(&self) -> Vec<i64> {
        let ids = self.outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Accepted(id) => Some(id.get()),
            Outcome::Refused(_) | Outcome::Unjudged(_) => None,
        });
        ids.collect()
    }

    /// Whether the sidecar itself sent it again only where the upstream provably had not taken it. A client that
    /// sends it again may do so after any refusal, and after its absence is proven.
    fn is_sent_again_rightly(&self) -> bool {
        let is_of_one_start = |record: &Value| {
            let id = record["requestId"].as_str().unwrap();
            name(id) == id
        };
        let is_provable =
            |outcome: &Outcome| matches!(outcome, Outcome::Refused(429 | 412 | 596 | 404));
        let before_the_last = self.outcomes.iter().rev().skip(1);
        !self.records.iter().all(is_of_one_start) || before_the_last.into_iter().all(is_provable)
    }
}

impl Judge {
    /// `listed`: the answer of `/jobs`.
    pub(crate) fn new(
        audit: Audit,
        told: &[(String, Told)],
        listed: &Value,
        has_second_tool: bool,
    ) -> Self {
        let job = |told: &Told| Job {
            told: *told,
            outcomes: Vec::new(),
            records: Vec::new(),
        };
        let jobs = told.iter().map(|(name, told)| (name.clone(), job(told)));
        let mut jobs: HashMap<_, _> = jobs.collect();
        let ours = audit
            .submissions
            .iter()
            .filter(|it| it.origin == Origin::Ours);
        for submission in ours {
            let job = jobs.get_mut(&reference(&submission.body)).unwrap();
            job.outcomes.push(submission.outcome);
        }
        let started = jobs.values().flat_map(Job::accepted);
        let started = started.map(|id| id.to_string()).collect();
        let listed = listed["jobs"].as_array().unwrap();
        assert!(listed.len() < RECORDS_MAX, "some may be forgotten");
        for record in listed {
            let id = record["requestId"].as_str().unwrap();
            let job = jobs.get_mut(&name(id)).unwrap();
            job.records.push(record.clone());
        }
        Self {
            audit,
            jobs,
            started,
            has_second_tool,
        }
    }

    pub(crate) fn judge(&self) {
        assert_eq!(self.audit.over_limit_ours(), 0, "{self}");
        for (name, job) in &self.jobs {
            assert!(job.accepted().len() <= 1, "{name} is doubled: {job:#?}");
            assert!(
                job.is_sent_again_rightly(),
                "{name} was sent again: {job:#?}"
            );
            assert!(self.is_known(job), "{name}: {job:#?}");
        }
        assert_eq!(self.audit.duplicates, 0, "{self}");
    }

    /// Whether the client knows what became of its job, as far as it wants to know.
    fn is_known(&self, job: &Job) -> bool {
        let accepted = job.accepted().first().map(i64::to_string);
        let is_listed = |is_wanted: fn(&Value) -> bool| {
            let is_of_it = |record: &&Value| match record["taskId"].as_str() {
                Some(id) => Some(id) == accepted.as_deref() || self.is_mistaken(id),
                None => record["outcome"] == "uncertain",
            };
            job.records.iter().filter(is_of_it).any(is_wanted)
        };
        match (&accepted, job.told) {
            (_, Told::Aside) | (None, Told::Unknown | Told::NoJob | Told::Nothing) => true,
            (_, Told::Job(told)) => {
                let told = told.to_string();
                accepted.as_ref() == Some(&told) || self.is_mistaken(&told)
            }
            (Some(_), Told::Unknown) => is_listed(|_| true),
            (Some(_), Told::Nothing) => is_listed(|record| record["isDelivered"] == false),
            (Some(_), Told::NoJob) => false,
        }
    }

    /// Whether a job can have been taken for that of a lost submission.
    fn is_mistaken(&self, id: &str) -> bool {
        // A pick does not name the job that its client starts aside.
        let mut aside = self.jobs.values().filter(|job| job.told == Told::Aside);
        let is_aside = aside.any(|job| job.accepted().iter().any(|it| it.to_string() == id));
        is_aside || self.has_second_tool && !self.started.contains(id)
    }
}

/// The name of the job that a request id is of: without the number of the start.
fn name(request_id: &str) -> String {
    request_id
        .splitn(4, '-')
        .take(3)
        .collect::<Vec<_>>()
        .join("-")
}

impl fmt::Display for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.audit)?;
        let mut counts: HashMap<(&str, bool), usize> = HashMap::new();
        for job in self.jobs.values() {
            let told = match job.told {
                Told::Job(_) => "a job",
                Told::Unknown => "unknown",
                Told::NoJob => "no job",
                Told::Nothing => "nothing",
                Told::Aside => "aside",
            };
            *counts
                .entry((told, !job.accepted().is_empty()))
                .or_default() += 1;
        }
        write!(f, "told, and whether there is a job: {counts:?}")
    }
}
