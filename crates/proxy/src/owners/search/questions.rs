//! The questions of one search: which account is asked next, and when one is asked again.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use accounts_fetcher::Listing;
use parking_lot::Mutex;
use tokio::{
    select,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep_until, timeout},
};

use super::{
    super::{
        asked::{Asked, AskedAccounts},
        task_status::task_status,
    },
    emails,
};
use crate::{
    backoff::doubled,
    kling::task::TaskStatus,
    pool::{RunningJob, TaskId},
    upstream::Upstream,
};

/// How many questions of a search are under way at once, late ones aside: enough to find an owner among many
/// accounts soon, few enough not to be taken for an attack.
pub const QUERIES_AT_ONCE: usize = 4;
/// After so long without an answer a question is late: it gives its place to the next one. A well account answers
/// within a second.
pub const LATE_AFTER: Duration = Duration::from_secs(3);
/// The time for one question: an account that hung may answer the next one.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(10);
/// The most questions of all searches at once, late ones aside: they bound what a burst of polls after a restart
/// asks of the upstream.
pub const QUESTIONS_MAX: usize = 64;
/// The most late questions of all searches: as many as others, so that they hold no more connections. One more is
/// given up, and asked again later.
const LATE_MAX: usize = 64;
/// The most late questions to one account: it hangs, and is asked nothing more meanwhile.
pub const LATE_OF_ACCOUNT_MAX: usize = 4;

/// The first and the longest pause before an account is asked again that could not be asked. A gateway that
/// restarts is back within a second or two; the longest bounds how late the end of an outage is noticed.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(4);

/// What the questions of all searches share.
#[derive(Debug)]
pub(super) struct Asker {
    upstream: Arc<Upstream>,
    listing: watch::Receiver<Listing>,
    asked: AskedAccounts,
    places: Arc<Semaphore>,
    late_places: Arc<Semaphore>,
    /// How many questions are late, by account.
    late_counts: Mutex<HashMap<Arc<str>, usize>>,
}

/// The questions of one search. Dropping it ends those under way.
#[derive(Debug)]
pub(super) struct Questions {
    asker: Arc<Asker>,
    listing: watch::Receiver<Listing>,
    task_id: TaskId,
    /// The account that is asked first.
    first: Option<Box<str>>,
    /// The accounts to ask now, in order.
    queue: VecDeque<Arc<str>>,
    under_way: JoinSet<(Arc<str>, TaskStatus)>,
    /// By account, what is under way.
    open: HashMap<Arc<str>, Question>,
    failures: HashMap<Arc<str>, Failure>,
    is_stuck: bool,
}

/// A question under way.
#[derive(Debug)]
struct Question {
    late_at: Instant,
    aborted: AbortHandle,
    state: State,
}

#[derive(Debug)]
enum State {
    /// It has a place.
    Prompt { _place: OwnedSemaphorePermit },
    /// It gave its place away.
    Late { _late: Late },
}

/// A late question is counted while it is held.
#[derive(Debug)]
struct Late {
    asker: Arc<Asker>,
    account: Arc<str>,
    _place: OwnedSemaphorePermit,
}

/// An account that could not be asked.
#[derive(Clone, Copy, Debug)]
struct Failure {
    count: u32,
    retry_at: Instant,
}

/// What came of the questions.
#[derive(Debug)]
pub(super) enum Next {
    /// One more was answered without finding the owner, or is late.
    Asked,
    /// Nothing is left but late ones, and accounts that could not be asked.
    Stuck,
    /// This account has the task.
    Owner(Arc<str>),
    /// Every account said that it does not have it.
    Nobody,
}

/// Who is left to ask.
struct Left {
    is_nobody: bool,
    /// When an account may be asked again.
    retry_at: Option<Instant>,
}

impl Asker {
    pub(super) fn new(upstream: Arc<Upstream>, listing: watch::Receiver<Listing>) -> Self {
        Self {
            upstream,
            listing,
            asked: AskedAccounts::default(),
            places: Arc::new(Semaphore::new(QUESTIONS_MAX)),
            late_places: Arc::new(Semaphore::new(LATE_MAX)),
            late_counts: Mutex::default(),
        }
    }

    /// Whether so many questions to the account are late that it is asked nothing more.
    fn is_hung(&self, account: &Arc<str>) -> bool {
        let counts = self.late_counts.lock();
        counts.get(account) >= Some(&LATE_OF_ACCOUNT_MAX)
    }

    /// Lets one more question to the account go on though it is late, if there is room.
    fn admit_late(self: &Arc<Self>, account: &Arc<str>) -> Option<Late> {
        let place = Arc::clone(&self.late_places).try_acquire_owned().ok()?;
        let mut counts = self.late_counts.lock();
        let count = counts.entry(Arc::clone(account)).or_default();
        if *count >= LATE_OF_ACCOUNT_MAX {
            return None;
        }
        *count += 1;
        Some(Late {
            asker: Arc::clone(self),
            account: Arc::clone(account),
            _place: place,
        })
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        let mut counts = self.asker.late_counts.lock();
        if let Some(count) = counts.get_mut(&self.account) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.account);
            }
        }
    }
}

impl Question {
    fn is_late(&self) -> bool {
        matches!(self.state, State::Late { .. })
    }
}

impl Questions {
    /// Questions for a task, beginning with the account `first`. Nothing is sent before [`next`](Self::next).
    pub(super) fn new(asker: Arc<Asker>, task_id: TaskId, first: Option<&str>) -> Self {
        Self {
            listing: asker.listing.clone(),
            asker,
            task_id,
            first: first.map(Into::into),
            queue: VecDeque::new(),
            under_way: JoinSet::new(),
            open: HashMap::new(),
            failures: HashMap::new(),
            is_stuck: false,
        }
    }

    pub(super) fn task_id(&self) -> &TaskId {
        &self.task_id
    }

    /// Asks on until there is something to tell. Cancel-safe.
    pub(super) async fn next(&mut self) -> Next {
        loop {
            let left = self.refill();
            if left.is_nobody {
                return Next::Nobody;
            }
            let prompt = self.open.values().filter(|question| !question.is_late());
            let late_at = prompt.clone().map(|question| question.late_at).min();
            let has_place = prompt.count() < QUERIES_AT_ONCE;
            let is_stuck = self.queue.is_empty() && late_at.is_none();
            if is_stuck && !self.is_stuck {
                self.is_stuck = true;
                return Next::Stuck;
            }
            self.is_stuck = is_stuck;
            let places = Arc::clone(&self.asker.places);
            select! {
                biased;
                Some(answered) = self.under_way.join_next() => {
                    // One that was given up has failed already.
                    if let Ok((account, status)) = answered
                        && let Some(next) = self.note(account, status)
                    {
                        return next;
                    }
                }
                () = until(late_at) => {
                    self.note_late();
                    return Next::Asked;
                }
                place = places.acquire_owned(), if has_place && !self.queue.is_empty() => {
                    self.ask(place.expect("the semaphore is never closed"));
                }
                () = until(left.retry_at) => {}
                // An account may be new.
                Ok(()) = self.listing.changed() => {}
            }
        }
    }

    /// Queues the accounts that can be asked now, if the queue is empty: those first that were not asked of late,
    /// then the one that was asked longest ago.
    fn refill(&mut self) -> Left {
        let mut left = Left {
            is_nobody: false,
            retry_at: None,
        };
        if !self.queue.is_empty() {
            return left;
        }
        let Some(list) = self.listing.borrow_and_update().snapshot.clone() else {
            return left;
        };
        let now = Instant::now();
        left.is_nobody = !list.accounts.is_empty();
        let mut due = Vec::new();
        for account in emails(&list.accounts, self.first.as_deref()) {
            let asked_at = match self.asker.asked.of(&self.task_id, &account) {
                Some(Asked::NotHere) => continue,
                Some(Asked::Unanswered(at)) => Some(at),
                None => None,
            };
            left.is_nobody = false;
            if self.open.contains_key(&account) {
                continue;
            }
            match self.failures.get(&account) {
                Some(failure) if failure.retry_at > now => {
                    let sooner = left
                        .retry_at
                        .map_or(failure.retry_at, |it| it.min(failure.retry_at));
                    left.retry_at = Some(sooner);
                }
                Some(_) | None => due.push((asked_at, account)),
            }
        }
        // The order of the list decides between equals.
        due.sort_by_key(|(asked_at, _)| *asked_at);
        self.queue = due.into_iter().map(|(_, account)| account).collect();
        left
    }

    fn ask(&mut self, place: OwnedSemaphorePermit) {
        let Some(account) = self.queue.pop_front() else {
            return;
        };
        if self.asker.is_hung(&account) {
            self.note_failure(account);
            return;
        }
        self.asker.asked.note_question(&self.task_id, &account);
        let asker = Arc::clone(&self.asker);
        let job = RunningJob {
            task_id: self.task_id.clone(),
            email: account.to_string(),
            mark: None,
        };
        let asked = Arc::clone(&account);
        let aborted = self.under_way.spawn(async move {
            let status = timeout(QUESTION_TIMEOUT, task_status(&asker.upstream, &job)).await;
            (asked, status.unwrap_or(TaskStatus::Unknown))
        });
        let question = Question {
            late_at: Instant::now() + LATE_AFTER,
            aborted,
            state: State::Prompt { _place: place },
        };
        self.open.insert(account, question);
    }

    /// Notes what an account says. `None` if that was told of already.
    fn note(&mut self, account: Arc<str>, status: TaskStatus) -> Option<Next> {
        let question = self.open.remove(&account)?;
        match status {
            TaskStatus::Final(_) | TaskStatus::Unfinished => return Some(Next::Owner(account)),
            TaskStatus::Missing => self.asker.asked.note_not_here(&self.task_id, &account),
            TaskStatus::Unknown => self.note_failure(account),
        }
        (!question.is_late()).then_some(Next::Asked)
    }

    fn note_failure(&mut self, account: Arc<str>) {
        let now = Instant::now();
        let failure = self.failures.entry(account);
        let failure = failure.or_insert(Failure {
            count: 0,
            retry_at: now,
        });
        failure.retry_at = now + doubled(PAUSE_MIN, failure.count, PAUSE_MAX);
        failure.count += 1;
    }

    /// Lets the questions that are late now go on beside the others, as far as there is room.
    fn note_late(&mut self) {
        let now = Instant::now();
        let mut given_up = Vec::new();
        for (account, question) in &mut self.open {
            if question.is_late() || question.late_at > now {
                continue;
            }
            match self.asker.admit_late(account) {
                Some(late) => question.state = State::Late { _late: late },
                None => {
                    question.aborted.abort();
                    given_up.push(Arc::clone(account));
                }
            }
        }
        for account in given_up {
            self.open.remove(&account);
            self.note_failure(account);
        }
    }
}

/// Waits until then; for ever, if there is no such time.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
