//! Asking the accounts for the owner of a task.
//!
//! Invariants: one search for a task at a time, which all callers share; it runs while one of them waits. An
//! account is asked again only after it could not be asked, or after its word has expired. A question that is
//! not answered soon keeps no other from being asked.

mod questions;

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use accounts_fetcher::Listing;
use parking_lot::Mutex;
use tokio::{
    select,
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::task::AbortOnDropHandle;

use super::Owners;
use crate::{pool::TaskId, upstream::Upstream};
use questions::{Asker, Next, Questions};

pub use questions::{LATE_AFTER, LATE_OF_ACCOUNT_MAX, QUERIES_AT_ONCE, QUESTIONS_MAX};

/// The most accounts that are asked for a caller that does not wait. The next search goes on with the others.
pub const SEARCH_ACCOUNTS_MAX: usize = 64;
/// The least time that a search has: enough to ask [`SEARCH_ACCOUNTS_MAX`] accounts that answer, and others
/// after some that do not.
pub const SEARCH_TIME_MIN: Duration = Duration::from_secs(5);

/// Who owns a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundOwner {
    /// This account.
    Account(Arc<str>),
    /// No account: there is at least one, and every one said so.
    Nobody,
    /// Unknown: not every account could be asked.
    Unknown,
}

/// Searches for owners.
#[derive(Debug)]
pub struct OwnerSearch {
    owners: Arc<Owners>,
    asker: Arc<Asker>,
    running: Arc<Running>,
}

/// The searches that run, by task: never more than callers that wait.
type Running = Mutex<HashMap<TaskId, Weak<Search>>>;

/// One search. It ends when it is dropped.
#[derive(Debug)]
struct Search {
    task_id: TaskId,
    progress: watch::Receiver<Progress>,
    running: Arc<Running>,
    _task: AbortOnDropHandle<()>,
}

/// How far a search has come.
#[derive(Debug, Default)]
struct Progress {
    found: Option<FoundOwner>,
    /// How many questions were answered, or not in time.
    asked_count: usize,
    /// Whether every account was asked, and only those are left that do not answer.
    is_stuck: bool,
}

/// The e-mails of `accounts`, beginning with `first` if it is one of them.
pub(crate) fn emails(
    accounts: &[Arc<accounts_fetcher::Account>],
    first: Option<&str>,
) -> Vec<Arc<str>> {
    let mut emails: Vec<_> = accounts.iter().map(|it| Arc::clone(&it.email)).collect();
    if let Some(first) = first
        && let Some(place) = emails.iter().position(|it| it.eq_ignore_ascii_case(first))
    {
        emails[..=place].rotate_right(1);
    }
    emails
}

impl OwnerSearch {
    /// Searches the accounts of `listing` by asking `upstream`, and teaches `owners` the results.
    pub fn new(
        upstream: Arc<Upstream>,
        owners: Arc<Owners>,
        listing: watch::Receiver<Listing>,
    ) -> Self {
        Self {
            asker: Arc::new(Asker::new(upstream, listing)),
            owners,
            running: Arc::default(),
        }
    }

    /// Asks the accounts for a task whose owner is not known, beginning with `first`,
    /// [`QUERIES_AT_ONCE`] at a time.
    ///
    /// It asks on until `deadline`, also those again that could not be asked. It asks each account once, up to
    /// [`SEARCH_ACCOUNTS_MAX`], even if that takes longer, but no longer than [`SEARCH_TIME_MIN`].
    ///
    /// Cancel-safe: the search goes on if another caller waits for the same task.
    pub async fn find_task(
        &self,
        task_id: &TaskId,
        first: Option<&str>,
        deadline: Instant,
    ) -> FoundOwner {
        if let Some(owner) = self.owners.of_task(task_id) {
            return FoundOwner::Account(owner);
        }
        let search = self.join(task_id, first);
        let end = deadline.max(Instant::now() + SEARCH_TIME_MIN);
        let mut progress = search.progress.clone();
        let count_before = progress.borrow().asked_count;
        loop {
            let wake_at = {
                let now = progress.borrow_and_update();
                if let Some(found) = &now.found {
                    return found.clone();
                }
                let count = now.asked_count - count_before;
                let has_asked = now.is_stuck || count >= SEARCH_ACCOUNTS_MAX;
                if has_asked { deadline } else { end }
            };
            select! {
                biased;
                changed = progress.changed() => changed.expect("a search ends with a result"),
                () = sleep_until(wake_at) => return FoundOwner::Unknown,
            }
        }
    }

    /// The search for the task that runs, or else a new one.
    fn join(&self, task_id: &TaskId, first: Option<&str>) -> Arc<Search> {
        let mut running = self.running.lock();
        if let Some(search) = running.get(task_id).and_then(Weak::upgrade) {
            return search;
        }
        let (report, progress) = watch::channel(Progress::default());
        let searching = search(
            Arc::clone(&self.owners),
            Questions::new(Arc::clone(&self.asker), task_id.clone(), first),
            report,
        );
        let search = Arc::new(Search {
            task_id: task_id.clone(),
            progress,
            running: Arc::clone(&self.running),
            _task: AbortOnDropHandle::new(tokio::spawn(searching)),
        });
        running.insert(task_id.clone(), Arc::downgrade(&search));
        search
    }
}

impl Drop for Search {
    fn drop(&mut self) {
        let mut running = self.running.lock();
        // Another search for the task may have begun.
        if let Some(search) = running.get(&self.task_id)
            && search.strong_count() == 0
        {
            running.remove(&self.task_id);
        }
    }
}

/// Searches until the owner is found, or becomes known otherwise, or every account has denied the task.
async fn search(owners: Arc<Owners>, mut questions: Questions, report: watch::Sender<Progress>) {
    let task_id = questions.task_id().clone();
    let asking = async {
        loop {
            match questions.next().await {
                Next::Asked => report.send_modify(|progress| {
                    progress.asked_count += 1;
                    progress.is_stuck = false;
                }),
                Next::Stuck => report.send_modify(|progress| progress.is_stuck = true),
                Next::Owner(owner) => {
                    owners.learn_task(&task_id, &owner);
                    return FoundOwner::Account(owner);
                }
                Next::Nobody => return FoundOwner::Nobody,
            }
        }
    };
    let found = select! {
        owner = owners.until_known(&task_id) => FoundOwner::Account(owner),
        found = asking => found,
    };
    report.send_modify(|progress| progress.found = Some(found));
}
