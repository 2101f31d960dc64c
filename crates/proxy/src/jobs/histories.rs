//! Reading the histories of accounts on which submissions were lost: they show jobs that no round listed.
//!
//! They are read beside the rounds, each account on its own, so that a hung account delays no other. One
//! reading decides about all lost submissions of an account.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use accounts_fetcher::Chain;
use http::StatusCode;
use thiserror::Error;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::JoinMap;
use tracing::Instrument;

use crate::{
    backoff::doubled,
    kling::history::{PAGE_ROWS, Page},
    ledger::{Decide, Ledger, ReachesBack, Unavailable, UndecidedAccounts},
    pool::{History, Name, TASKS_MAX, Undecided},
    upstream::{AskError, Traffic, Upstream, encoded},
};

/// Each work of a task takes about 1 KiB, and a task has a dozen at most.
const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The most histories that are read at once: a hung one leaves fifteen others.
const READ_AT_ONCE: usize = 16;
/// The longest pause before a history that decided nothing is read again, unless rounds are rarer.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Reads histories, and tells the ledger.
#[derive(Debug)]
pub struct Histories {
    upstream: Arc<Upstream>,
    ledger: Arc<Ledger>,
    /// The shortest pause between two readings of one history.
    interval: Duration,
}

/// Why a history could not be read.
#[derive(Debug, Error)]
enum HistoryError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("the account has no history: it answered with status 404")]
    NotFound,
    #[error("the answer is not a history")]
    Malformed(#[from] serde_json::Error),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// When a history was read last.
#[derive(Debug)]
struct Reading {
    begun: Instant,
    /// The newest loss that was known then.
    since: Duration,
    /// How often it was read before for the same losses.
    count: u32,
}

impl Reading {
    /// When it is to be read again.
    fn due(&self, account: &Undecided, interval: Duration) -> Instant {
        if account.since > self.since {
            return self.begun + interval;
        }
        self.begun + doubled(interval, self.count, PAUSE_MAX).max(interval)
    }
}

impl Histories {
    /// Histories that [`run`](Self::run) reads, each at most once in `interval`.
    pub fn new(upstream: Arc<Upstream>, ledger: Arc<Ledger>, interval: Duration) -> Self {
        Self {
            upstream,
            ledger,
            interval,
        }
    }

    /// Reads the histories of accounts on which submissions are undecided. Runs until dropped.
    ///
    /// Cancel-safe: a history that is half read changes nothing.
    pub async fn run(&self) {
        let mut readings = HashMap::new();
        let mut under_way = JoinMap::new();
        loop {
            let next = self.begin_readings(&mut readings, &mut under_way).await;
            tokio::select! {
                () = self.ledger.history_due() => {}
                () = sleep_until(next) => {}
                Some((_, ended)) = under_way.join_next() => {
                    if let Err(error) = ended {
                        // A panic was logged with its place where it happened.
                        tracing::error!(%error, "reading of a history ended by a bug");
                    }
                }
            }
        }
    }

    /// Begins the readings that are due. Returns when to look again.
    async fn begin_readings(
        &self,
        readings: &mut HashMap<Arc<str>, Reading>,
        under_way: &mut JoinMap<Arc<str>, ()>,
    ) -> Instant {
        let undecided = self.ledger.call(UndecidedAccounts).await;
        let (asked_at, undecided) = undecided.unwrap_or_default();
        let emails: HashSet<_> = undecided.iter().map(|it| Arc::clone(&it.email)).collect();
        readings.retain(|email, _| emails.contains(email));
        let now = Instant::now();
        let mut next = now + PAUSE_MAX.max(self.interval);
        for account in undecided {
            let email = Arc::clone(&account.email);
            if under_way.contains_key(&email) {
                continue;
            }
            let known = readings.get(&email);
            let due = known.map_or(now, |reading| reading.due(&account, self.interval));
            if due > now {
                next = next.min(due);
                continue;
            }
            // The next one begins when one of these ends.
            if under_way.len() == READ_AT_ONCE {
                continue;
            }
            let known = known.filter(|reading| account.since <= reading.since);
            let count = known.map_or(0, |reading| reading.count + 1);
            let since = account.since;
            let reading = Reading {
                begun: now,
                since,
                count,
            };
            readings.insert(Arc::clone(&email), reading);
            let span = tracing::info_span!("history", account = %account.alias);
            let reader = Reader {
                upstream: Arc::clone(&self.upstream),
                ledger: Arc::clone(&self.ledger),
                account,
                asked_at,
                is_first: count == 0,
            };
            under_way.spawn(email, reader.read_and_decide().instrument(span));
        }
        next
    }
}

/// Reads one history.
struct Reader {
    upstream: Arc<Upstream>,
    ledger: Arc<Ledger>,
    account: Undecided,
    asked_at: Duration,
    /// Whether it is the first reading for the newest losses: its result is logged once.
    is_first: bool,
}

impl Reader {
    async fn read_and_decide(self) {
        match self.decided_count().await {
            Ok(0) if self.is_first => tracing::warn!(
                "the history does not tell yet what became of lost submissions; their idempotency keys \
                 stay in use"
            ),
            Ok(0) => tracing::debug!("history decided nothing"),
            Ok(decided_count) => {
                tracing::info!(decided_count, "lost submissions are decided by the history");
            }
            Err(error) => {
                let error = Chain(&error).to_string();
                if self.is_first {
                    tracing::warn!(
                        error,
                        "the history cannot be read; lost submissions keep their idempotency keys in \
                         use, and it is asked for again"
                    );
                }
                tracing::debug!(error, "history not read");
            }
        }
    }

    async fn decided_count(&self) -> Result<usize, HistoryError> {
        let email = Name::new(&self.account.email);
        let history = self.read(&email).await?;
        let decide = Decide {
            email,
            history,
            asked_at: self.asked_at,
        };
        Ok(self.ledger.call(decide).await?)
    }

    /// Reads page by page, to the end, or until nothing behind can be of a lost submission.
    async fn read(&self, email: &Name) -> Result<History, HistoryError> {
        let mut history = History::default();
        let mut seen = HashSet::new();
        let mut before_ms = None;
        while history.rows.len() < TASKS_MAX {
            let page = self.page(before_ms).await?;
            history.has_unreadable |= page.has_unreadable;
            let last_ms = page.rows.last().and_then(|row| row.created_ms);
            let is_full = page.is_full;
            let rows = page.rows.into_iter();
            let rows = rows.filter(|row| seen.insert(row.task_id.clone()));
            let new: Vec<_> = rows.collect();
            if new.is_empty() {
                // A page that is full of one instant's tasks may hide more of that instant.
                history.is_whole = !is_full;
                break;
            }
            let task_ids = new.iter().map(|row| row.task_id.clone()).collect();
            history.rows.extend(new);
            let email = email.clone();
            if self.ledger.call(ReachesBack { email, task_ids }).await? {
                break;
            }
            // The bound may be exclusive, and tasks may share an instant: those are asked for again.
            let Some(last_ms) = last_ms else {
                break;
            };
            before_ms = Some(last_ms.saturating_add(1));
        }
        Ok(history)
    }

    async fn page(&self, before_ms: Option<i64>) -> Result<Page, HistoryError> {
        let email = encoded(&self.account.email);
        let before = before_ms.map_or(String::new(), |ms| format!("&createdBefore={ms}"));
        let path = format!("/tasks?email={email}&pageSize={PAGE_ROWS}{before}");
        let (status, body) = self
            .upstream
            .ask(Traffic::Question, &path, PAGE_BYTES_MAX)
            .await?;
        if status == StatusCode::OK {
            Ok(Page::read(&body)?)
        } else {
            Err(HistoryError::NotFound)
        }
    }
}
