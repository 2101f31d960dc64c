//! The words around the table: what runs, what came out of it, what to try next.

use std::{collections::HashMap, fmt::Write};

use kling_sim::Audit;

use crate::{
    jobs::{CARRIED_CLIENTS, PICKING_CLIENTS},
    stage::{ACCOUNTS, JOB_SECONDS, Stage},
};

/// How far the jobs have come, as the clients saw it.
#[derive(Debug)]
pub(crate) struct Tally {
    done: HashMap<String, u32>,
    failed_count: u32,
    total_count: u32,
}

impl Tally {
    /// Nothing done yet of `total_count` jobs.
    pub(crate) fn new(total_count: u32) -> Self {
        Self {
            done: HashMap::new(),
            failed_count: 0,
            total_count,
        }
    }

    /// Counts a job that ended on `email`.
    pub(crate) fn done(&mut self, email: String) {
        *self.done.entry(email).or_default() += 1;
    }

    /// Counts a call that was not answered with 2xx.
    pub(crate) fn failed(&mut self) {
        self.failed_count += 1;
    }

    /// Jobs that ended on `email`.
    pub(crate) fn done_on(&self, email: &str) -> u32 {
        self.done.get(email).copied().unwrap_or(0)
    }

    /// Jobs that ended.
    pub(crate) fn done_count(&self) -> u32 {
        self.done.values().sum()
    }

    /// Jobs that there are to do.
    pub(crate) fn total_count(&self) -> u32 {
        self.total_count
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
        "kling-balancer demo: {} clients share {slot_count} slots of {} simulated accounts\n\
         clients    {CARRIED_CLIENTS} send their calls through the sidecar, {PICKING_CLIENTS} ask /pick \
         and call themselves\n\
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
pub(crate) fn finale(tally: &Tally, audit: &Audit) -> String {
    let (done, total) = (tally.done_count(), tally.total_count());
    let heading = if done == total {
        format!("All {total} jobs are done.")
    } else {
        format!("{done} of {total} jobs are done, the others failed.")
    };
    summary(&heading, tally, audit)
}

/// What came out so far, when the jobs were interrupted by `cause`.
pub(crate) fn interlude(cause: &str, tally: &Tally, audit: &Audit) -> String {
    let (done, total) = (tally.done_count(), tally.total_count());
    summary(
        &format!("{cause}; {done} of {total} jobs are done."),
        tally,
        audit,
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
    format!(
        "{until}. Try it from another terminal:\n  \
           curl {url}/v1/kling/videos/text2video --json '{{\"prompt\":\"a boat\"}}'\n  \
           curl -X POST {url}/pick\n  \
           curl {url}/accounts\n  \
           curl {url}/metrics\n"
    )
}

/// The simulator's own account of it: it has no reason to flatter the sidecar.
fn summary(heading: &str, tally: &Tally, audit: &Audit) -> String {
    let mut text = format!("{heading} The simulator's audit:\n");
    for account in &audit.accounts {
        // Writing to a string cannot fail.
        let _infallible = writeln!(
            text,
            "  {:<16}{:>3} jobs started, at most {} at once, cap {}",
            account.email, account.accepted, account.peak, account.max_jobs
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
