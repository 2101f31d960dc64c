//! What the simulator's books say of all that was started.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use http::{HeaderMap, Method};
use kling_sim::{Audit, Head, Origin, Outcome, Submission};

use crate::clients::Told;

/// What went wrong, each with the names of those concerned.
#[derive(Debug)]
pub(crate) struct Findings {
    pub(crate) jobs: usize,
    /// Submissions of ours on accounts that were known to be full.
    pub(crate) over_limit: u64,
    /// Starts with more than one job.
    pub(crate) doubled: BTreeSet<String>,
    /// Starts whose clients were told a task that is not of their prompt, and what it is of.
    pub(crate) mistaken: BTreeMap<String, Vec<Submission>>,
    /// Starts of which nothing became known.
    pub(crate) undecided: BTreeSet<String>,
    /// `replyRef`s that two jobs had.
    pub(crate) marks_reused: u64,
    /// Slots that are in use though no job runs.
    pub(crate) leaked: u64,
}

impl Findings {
    pub(crate) fn new(audit: &Audit, told: &[(String, Told)], leaked: u64) -> Self {
        assert_eq!(
            audit.submission_count,
            audit.submissions.len() as u64,
            "some are forgotten"
        );
        let jobs = jobs(audit);
        let is_mistaken = |(name, told): &&(String, Told)| match told {
            Told::Task(id) => !jobs.get(name).is_some_and(|jobs| jobs.contains(id)),
            Told::Nothing | Told::NoTask | Told::Aside => false,
        };
        let is_undecided = |(_, told): &&(String, Told)| *told == Told::Nothing;
        let of = |(name, told): &(String, Told)| {
            let is_of = |one: &&Submission| match (one.outcome, told) {
                (Outcome::Accepted(id), Told::Task(told)) => id.get() == *told,
                _ => false,
            };
            let told = audit.submissions.iter().filter(is_of).cloned();
            (name.clone(), told.collect())
        };
        let names = |(name, _): &(String, Told)| name.clone();
        Self {
            jobs: jobs.values().map(Vec::len).sum(),
            over_limit: audit.over_limit_ours(),
            doubled: doubled(&jobs),
            mistaken: told.iter().filter(is_mistaken).map(of).collect(),
            undecided: told.iter().filter(is_undecided).map(names).collect(),
            marks_reused: audit.duplicates,
            leaked,
        }
    }

    pub(crate) fn is_clean(&self) -> bool {
        let names = self.doubled.len() + self.mistaken.len() + self.undecided.len();
        self.over_limit + self.marks_reused + self.leaked == 0 && names == 0
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "jobs={} over-limit={} duplicates={} mistaken={} undecided={} marks-reused={} leaked={}",
            self.jobs,
            self.over_limit,
            self.doubled.len(),
            self.mistaken.len(),
            self.undecided.len(),
            self.marks_reused,
            self.leaked
        )
    }
}

/// The jobs of each start that we or a client of ours made.
pub(crate) fn jobs(audit: &Audit) -> BTreeMap<String, Vec<i64>> {
    let mut jobs: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for submission in &audit.submissions {
        if let (Origin::Ours, Outcome::Accepted(id)) = (submission.origin, submission.outcome) {
            let name = name(&submission.body);
            jobs.entry(name).or_default().push(id.get());
        }
    }
    jobs
}

/// The starts with more than one job.
pub(crate) fn doubled(jobs: &BTreeMap<String, Vec<i64>>) -> BTreeSet<String> {
    let doubled = jobs.iter().filter(|(_, jobs)| jobs.len() > 1);
    doubled.map(|(name, _)| name.clone()).collect()
}

/// The name of a start, which is the prompt in its body, whatever that is written in.
fn name(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let from = text
        .find("job-")
        .unwrap_or_else(|| panic!("no name: {text}"));
    let is_of_it = |c: &char| *c == '-' || c.is_ascii_alphanumeric();
    text[from..].chars().take_while(is_of_it).collect()
}

/// A submission of a start, and the job that became of it.
fn submitted(origin: Origin, name: &str, id: i64) -> Submission {
    Submission {
        at: Duration::ZERO,
        head: Head {
            method: Method::POST,
            path: String::new(),
            query: None,
            headers: HeaderMap::new(),
        },
        email: None,
        origin,
        reply_ref: None,
        body: format!(r#"{{"prompt":"{name}"}}"#).into(),
        outcome: Outcome::Accepted(id.into()),
    }
}

#[test]
fn each_kind_of_harm_is_found_by_name() {
    let ours = |name, id| submitted(Origin::Ours, name, id);
    let submissions = vec![
        ours("job-0-0", 1),
        ours("job-0-1", 2),
        ours("job-0-1", 3),
        ours("job-0-2", 4),
        ours("job-0-3", 5),
        submitted(Origin::Foreign, "tool-0", 6),
        submitted(Origin::Foreign, "tool-0", 7),
    ];
    let audit = Audit {
        accounts: Vec::new(),
        duplicates: 0,
        submission_count: submissions.len() as u64,
        submissions,
    };
    let told = [
        ("job-0-0", Told::Task(1)),
        ("job-0-1", Told::Task(3)),
        ("job-0-2", Told::Task(6)),
        ("job-0-3", Told::Nothing),
        ("job-0-4", Told::NoTask),
        ("job-0-5", Told::Task(5)),
        ("job-0-6", Told::Aside),
    ];
    let told = told.map(|(name, told)| (name.to_owned(), told));
    let found = Findings::new(&audit, &told, 0);
    assert_eq!(found.jobs, 5, "{found:?}");
    assert_eq!(found.doubled, ["job-0-1".to_owned()].into());
    let mistaken = ["job-0-2", "job-0-5"].map(str::to_owned);
    assert!(found.mistaken.keys().eq(&mistaken), "{found:?}");
    assert_eq!(found.undecided, ["job-0-3".to_owned()].into());
    assert!(!found.is_clean());

    let clean = Findings::new(&audit, &told[..1], 0);
    assert!(!clean.is_clean(), "one is doubled still");
    let audit = Audit {
        submissions: vec![ours("job-0-0", 1)],
        submission_count: 1,
        ..audit
    };
    assert!(Findings::new(&audit, &told[..1], 0).is_clean());
    assert!(!Findings::new(&audit, &told[..1], 1).is_clean(), "a leak");
}
