//! The loop: look at the source, judge, publish, pause.
//!
//! Invariant: there is never more than one fetch at a time, since one loop waits for each.

use std::{convert::Infallible, fmt, path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    FetchResult, Listing,
    error::FetchError,
    journal::Journal,
    judge::{Answer, Judge},
    pace::Pace,
    source::{FileWatch, HttpSource, Look, Source},
};

/// The longest time before a changed list file is noticed.
const FILE_LOOK_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// The pause between two requested fetches. Each logs nothing and costs the upstream little, but a
/// client that names unknown accounts in a loop must not cause a flood of fetches.
const WAKE_GAP: Duration = Duration::from_secs(1);

/// When to fetch, and how long to wait for an answer.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// From one answer to the next fetch; varied by a fifth.
    pub refresh_interval: Duration,
    /// For one whole fetch, from connecting to the last byte.
    pub timeout: Duration,
    /// The longest pause after a failure.
    pub backoff_max: Duration,
}

/// Fetches the account list for ever and publishes the lists that it believes.
pub struct Fetcher {
    source: Source,
    timing: Timing,
    keeper: Keeper,
    waker: Waker,
}

/// Asks for an early fetch, after a sign of an account that is not in the list, or no longer.
///
/// Requested fetches run one at a time, at most one per second. While fetches fail it has no
/// effect: retries have a pace of their own, which only a new token shortens. A file is checked often enough
/// without it.
#[derive(Clone, Debug, Default)]
pub struct Waker(Arc<Wakeups>);

#[derive(Debug, Default)]
struct Wakeups {
    asked: Notify,
    fetches: watch::Sender<Fetches>,
}

/// How many fetches were begun, and how many have ended. They do not overlap.
#[derive(Clone, Copy, Debug, Default)]
struct Fetches {
    begun: u64,
    ended: u64,
}

impl Waker {
    /// Asks for a fetch.
    pub fn wake(&self) {
        self.0.asked.notify_one();
    }

    /// Asks for a fetch, and waits until one that begins from now on has ended and what it shows is
    /// published. Many callers share it. It may take for ever: the caller bounds the wait.
    ///
    /// Cancel-safe: the fetch that was asked for comes all the same.
    pub async fn fetched(&self) {
        let mut fetches = self.0.fetches.subscribe();
        let wanted = fetches.borrow_and_update().begun + 1;
        self.wake();
        let ended = fetches.wait_for(|fetches| fetches.ended >= wanted).await;
        ended.expect("the sender lives as long as this waker");
    }

    fn begin(&self) {
        self.0.fetches.send_modify(|fetches| fetches.begun += 1);
    }

    fn end(&self) {
        let end = |fetches: &mut Fetches| fetches.ended = fetches.begun;
        self.0.fetches.send_modify(end);
    }
}

impl Fetcher {
    /// A fetcher that has not fetched yet, and the receiver of its lists.
    #[must_use]
    pub fn new(source: Source, timing: Timing) -> (Fetcher, watch::Receiver<Listing>) {
        let (tx, rx) = watch::channel(Listing::default());
        let keeper = Keeper {
            tx,
            judge: Judge::default(),
            journal: Journal::default(),
        };
        (
            Fetcher {
                source,
                timing,
                keeper,
                waker: Waker::default(),
            },
            rx,
        )
    }

    /// The handle that asks for an early fetch.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Fetches at once and then repeatedly, until all receivers are gone.
    ///
    /// Cancel-safe: dropping the future ends a fetch in flight; the receivers keep what was
    /// published.
    pub async fn run(self) {
        let tx = self.keeper.tx.clone();
        let fetching = async {
            match self.source {
                Source::Http(source) => poll(source, self.timing, self.keeper, self.waker).await,
                Source::File(path) => watch(path, self.timing, self.keeper, self.waker).await,
            }
        };
        tokio::select! {
            () = tx.closed() => {}
            never = fetching => match never {},
        }
    }
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetcher")
            .field("source", &self.source)
            .field("timing", &self.timing)
            .finish_non_exhaustive()
    }
}

async fn poll(source: HttpSource, timing: Timing, mut keeper: Keeper, waker: Waker) -> Infallible {
    let mut pace = Pace::new(&timing);
    let mut token = source.token_replaced();
    loop {
        let begun = Instant::now();
        waker.begin();
        let outcome = source.fetch(timing.timeout).await;
        let answered = outcome.is_ok();
        let pause = match &outcome {
            Ok(_) => pace.after_answer(&mut rand::rng()),
            Err(error) => pace.after_failure(error, &mut rand::rng()),
        };
        keeper.keep(outcome);
        waker.end();
        if !answered {
            // A new token may be all that was missing. Without a sender there is none.
            let _is_replaced = timeout(pause, token.changed()).await;
        } else if timeout(pause, waker.0.asked.notified()).await.is_ok() {
            sleep_until(begun + pause.min(WAKE_GAP)).await;
        }
    }
}

async fn watch(path: PathBuf, timing: Timing, mut keeper: Keeper, waker: Waker) -> Infallible {
    let mut file = FileWatch::new(path);
    let pause = timing.refresh_interval.min(FILE_LOOK_INTERVAL_MAX);
    let mut is_settled = false;
    loop {
        waker.begin();
        match file.look(is_settled).await {
            Look::Unchanged => keeper.confirm(),
            Look::Read(outcome) => is_settled = keeper.keep(outcome).is_settled(),
        }
        waker.end();
        sleep(pause).await;
    }
}

/// Passes the result of each fetch to the judge, the log and the receivers.
struct Keeper {
    tx: watch::Sender<Listing>,
    judge: Judge,
    journal: Journal,
}

impl Keeper {
    fn keep(&mut self, outcome: Result<Answer, FetchError>) -> FetchResult {
        match outcome {
            Ok(answer) => self.keep_answer(answer),
            Err(error) => {
                self.judge.note_failure();
                self.journal
                    .note_failure(&error, self.judge.last_good().is_some());
                let problem = Arc::from(error.in_words());
                self.publish(error.result(), |listing| {
                    listing.last_problem = Some(problem);
                })
            }
        }
    }

    fn keep_answer(&mut self, answer: Answer) -> FetchResult {
        let remarks = match &answer {
            Answer::Listed(list) => Some(list.remarks.clone()),
            Answer::NotConfigured => None,
        };
        let verdict = self.judge.decide(answer);
        self.journal.note_verdict(&verdict);
        if let Some(remarks) = &remarks {
            self.journal.note_remarks(remarks);
        }
        self.publish(verdict.result, |listing| {
            listing.last_problem = None;
            if verdict.change.is_some() {
                listing.snapshot = self.judge.last_good().map(Arc::clone);
                listing.fetched_at = Some(Timestamp::now());
            }
            if let Some(remarks) = remarks {
                listing.entries_rejected = remarks.rejected;
            }
        })
    }

    fn publish(&self, result: FetchResult, update: impl FnOnce(&mut Listing)) -> FetchResult {
        self.tx.send_modify(|listing| {
            listing.last_result = Some(result);
            listing.counts.increment(result);
            update(listing);
        });
        result
    }

    /// The source is unchanged since the last list was believed. This does not count as a fetch.
    fn confirm(&self) {
        self.tx
            .send_modify(|listing| listing.fetched_at = Some(Timestamp::now()));
    }
}
