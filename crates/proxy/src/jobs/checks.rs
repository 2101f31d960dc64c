//! Asking accounts about jobs that a round no longer lists: that alone does not mean that they are over.
//!
//! It happens beside the rounds, for each account on its own: an account that hangs delays neither a round nor
//! the slots of another account.

use std::{collections::HashMap, sync::Arc, time::Duration};

use rand::seq::SliceRandom;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tokio_util::task::JoinMap;
use tracing::Instrument;

use crate::{
    kling::task::TaskStatus,
    ledger::{JobOver, Ledger},
    owners::task_status,
    pool::RunningJob,
    upstream::Upstream,
};

/// The most jobs of an account that are asked about at a time. The others follow after later rounds.
pub const CHECKS_MAX: usize = 64;
/// The most questions to one account at once: one that hangs holds no more connections.
const OF_ACCOUNT_AT_ONCE: usize = 2;
/// The most accounts that are asked at once.
const ACCOUNTS_AT_ONCE: usize = 32;
/// The time for the questions to one account. It is far more than they take unless it hangs.
const ACCOUNT_TIMEOUT: Duration = Duration::from_secs(30);

/// Asks about jobs that rounds no longer list.
#[derive(Debug)]
pub(super) struct Checks {
    upstream: Arc<Upstream>,
    ledger: Arc<Ledger>,
    /// Those that the newest round does not list.
    unlisted: watch::Sender<Vec<RunningJob>>,
}

impl Checks {
    pub(super) fn new(upstream: Arc<Upstream>, ledger: Arc<Ledger>) -> Self {
        Self {
            upstream,
            ledger,
            unlisted: watch::Sender::default(),
        }
    }

    /// Asks about `jobs`, which the newest round does not list.
    pub(super) fn begin(&self, jobs: Vec<RunningJob>) {
        self.unlisted.send_replace(jobs);
    }

    /// Tells the ledger about jobs that are over, and calls `wake` once for each account that has some: a round
    /// that is sent from then on frees their slots. Runs until dropped. Cancel-safe.
    pub(super) async fn run(&self, wake: impl Fn()) {
        let mut newest = self.unlisted.subscribe();
        newest.mark_changed();
        let mut waiting = HashMap::new();
        let mut under_way = JoinMap::new();
        loop {
            let places = ACCOUNTS_AT_ONCE - under_way.len();
            let free = waiting.keys().filter(|it| !under_way.contains_key(*it));
            for email in free.take(places).cloned().collect::<Vec<_>>() {
                let jobs = waiting.remove(&email).unwrap_or_default();
                let (upstream, ledger) = (Arc::clone(&self.upstream), Arc::clone(&self.ledger));
                under_way.spawn(email, ask(upstream, ledger, jobs).in_current_span());
            }
            tokio::select! {
                Ok(()) = newest.changed() => waiting = by_account(&newest.borrow_and_update()),
                Some((_, has_ended)) = under_way.join_next() => match has_ended {
                    Ok(true) => wake(),
                    Ok(false) => {}
                    // A panic was logged with its place where it happened.
                    Err(error) => tracing::error!(%error, "questions about jobs ended by a bug"),
                },
            }
        }
    }
}

fn by_account(jobs: &[RunningJob]) -> HashMap<String, Vec<RunningJob>> {
    let mut by_account = HashMap::<_, Vec<_>>::new();
    for job in jobs {
        by_account
            .entry(job.email.clone())
            .or_default()
            .push(job.clone());
    }
    by_account
}

/// Asks the account of `jobs` about them, and tells the ledger which are over. True if one is.
async fn ask(upstream: Arc<Upstream>, ledger: Arc<Ledger>, mut jobs: Vec<RunningJob>) -> bool {
    // At random, so that no job waits behind the same others for ever.
    jobs.shuffle(&mut rand::rng());
    jobs.truncate(CHECKS_MAX);
    let mut jobs = jobs.into_iter();
    let mut questions = JoinSet::new();
    let mut has_ended = false;
    let deadline = Instant::now() + ACCOUNT_TIMEOUT;
    loop {
        for job in jobs.by_ref().take(OF_ACCOUNT_AT_ONCE - questions.len()) {
            let upstream = Arc::clone(&upstream);
            questions.spawn(async move { (task_status(&upstream, &job).await, job.task_id) });
        }
        let Ok(Some(answered)) = timeout_at(deadline, questions.join_next()).await else {
            return has_ended;
        };
        let (status, task_id) = answered.expect("a question neither panics nor is aborted");
        let result = match status {
            TaskStatus::Final(result) => Some(result),
            TaskStatus::Missing => None,
            TaskStatus::Unfinished | TaskStatus::Unknown => continue,
        };
        if ledger.call(JobOver { task_id, result }).await == Ok(true) {
            has_ended = true;
        }
    }
}
