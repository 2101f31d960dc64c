//! The words around the table: what runs, what came out of it, what to try next.

use std::{collections::HashMap, fmt::Write};

use kling_sim::Audit;

use crate::{
    events::Events,
    jobs::{CARRIED_CLIENTS, PICKING_CLIENTS, Way},
    stage::{ACCOUNTS, JOB_SECONDS, Stage},
};

/// How far the jobs have come, as the clients saw it.
#[derive(Debug)]
pub(crate) struct Tally {
    started: HashMap<String, u64>,
    done: Vec<(String, Way)>,
    failed_count: u32,
    total_count: u32,
}

impl Tally {
    /// Nothing done yet of `total_count` jobs.
    pub(crate) fn new(total_count: u32) -> Self {
        Self {
            started: HashMap::new(),
            done: Vec::new(),
            failed_count: 0,
            total_count,
        }
    }

    /// Counts a job that runs on `email`.
    pub(crate) fn started(&mut self, email: &str) {
        *self.started.entry(email.to_owned()).or_default() += 1;
    }

    /// Counts a job that ended on `email`.
    pub(crate) fn done(&mut self, email: String, way: Way) {
        self.done.push((email, way));
    }

    /// Counts a call that was not answered with 2xx.
    pub(crate) fn failed(&mut self) {
        self.failed_count += 1;
    }

    /// Jobs that clients have started on `email`.
    fn started_on(&self, email: &str) -> u64 {
        self.started.get(email).copied().unwrap_or(0)
    }

    /// Jobs that ended on `email`, of clients that use the sidecar in this way.
    pub(crate) fn done_on(&self, email: &str, way: Way) -> usize {
        let done = self.done.iter();
        done.filter(|(on, by)| on == email && *by == way).count()
    }

    /// Jobs that ended.
    pub(crate) fn done_count(&self) -> usize {
        self.done.len()
    }

    /// Jobs that there are to do.
    pub(crate) fn total_count(&self) -> usize {
        self.total_count as usize
    }

    /// Calls that failed.
    pub(crate) fn failed_count(&self) -> u32 {
        self.failed_count
    }

    /// Whether all was as promised: no failure, no account over its cap, no job sent twice. What
    /// another tool took before the sidecar could know of it is nobody's fault.
    pub(crate) fn is_clean(&self, audit: &Audit) -> bool {
        let is_within_caps = audit
            .accounts
            .iter()
            .all(|account| account.peak <= account.max_jobs);
        self.failed_count == 0
            && audit.over_limit_ours() == 0
            && audit.duplicates == 0
            && is_within_caps
    }
}

/// What is running here.
pub(crate) fn opening(stage: &Stage, job_count: u32) -> String {
    let slot_count: u32 = ACCOUNTS.iter().map(|(_, max_jobs)| max_jobs).sum();
    let (low, high) = JOB_SECONDS;
    let elsewhere = match stage.taken() {
        Some(addr) => format!("  ({addr} is taken; --listen chooses)"),
        None => String::new(),
    };
    format!(
        "{} clients share {slot_count} slots of {} simulated accounts, in two ways:\n\
         proxy      {CARRIED_CLIENTS} clients call the sidecar as if it were the upstream, and name no account\n\
         /pick      {PICKING_CLIENTS} clients ask the sidecar for a slot, and call the upstream themselves\n\
         jobs       {job_count}, each {low} to {high} s\n\
         sidecar    {}{elsewhere}\n\
         upstream   {} (simulated)\n",
        CARRIED_CLIENTS + PICKING_CLIENTS,
        ACCOUNTS.len(),
        stage.balancer().base_url(),
        stage.kling().base_url(),
    )
}

/// What came out, once every job has been tried.
pub(crate) fn finale(tally: &Tally, audit: &Audit, events: &Events) -> String {
    let (done, total) = (tally.done_count(), tally.total_count());
    let heading = if done == total {
        format!("All {total} jobs are done.")
    } else {
        format!("{done} of {total} jobs are done, the others failed.")
    };
    summary(&heading, tally, audit, events)
}

/// What came out so far, when the jobs were interrupted by `cause`.
pub(crate) fn interlude(cause: &str, tally: &Tally, audit: &Audit, events: &Events) -> String {
    let (done, total) = (tally.done_count(), tally.total_count());
    summary(
        &format!("{cause}; {done} of {total} jobs are done."),
        tally,
        audit,
        events,
    )
}

/// What the reader can try while the sidecar goes on serving.
pub(crate) fn invitation(stage: &Stage, is_timed: bool) -> String {
    let url = stage.balancer().base_url();
    let until = if is_timed {
        "The sidecar serves until the time is up or Ctrl-C"
    } else {
        "The sidecar serves until Ctrl-C"
    };
    let start = r#"-H 'Content-Type: application/json' -d '{"prompt":"a boat"}'"#;
    format!(
        "{until}. Try it from another terminal:\n  \
           curl -s {url}/v1/kling/videos/text2video {start} | python3 -m json.tool\n  \
           curl -s -X POST {url}/pick | python3 -m json.tool\n  \
           curl -s {url}/accounts | python3 -m json.tool\n  \
           curl -s {url}/metrics | grep slots\n"
    )
}

/// The simulator's own account of it: it has no reason to flatter the sidecar.
fn summary(heading: &str, tally: &Tally, audit: &Audit, events: &Events) -> String {
    let mut text = format!("{heading} The simulator's audit:\n");
    for account in &audit.accounts {
        let email = &account.email;
        let tool = match events.tool_count(email) {
            0 => String::new(),
            count => format!(" and {count} of the other tool"),
        };
        let ours = tally.started_on(email);
        // Writing to a string cannot fail.
        let _infallible = writeln!(
            text,
            "  {email:<16}{:>3} jobs started: {ours} of the clients{tool}; at most {} at once, cap {}",
            account.accepted, account.peak, account.max_jobs
        );
    }
    let _infallible = writeln!(
        text,
        "  over-limit attempts {}, duplicates {}, failures {}",
        audit.over_limit_ours(),
        audit.duplicates,
        tally.failed_count()
    );
    text
}

/// Whether the audit and the clients agree on how many jobs were started. They do once no job is under way.
pub(crate) fn adds_up(tally: &Tally, audit: &Audit, events: &Events) -> bool {
    audit.accounts.iter().all(|account| {
        let email = &account.email;
        account.accepted == tally.started_on(email) + events.tool_count(email)
    })
}
