//! Whether grants rest on a round that is fresh.
//!
//! Rounds are rare while nothing runs, and fail at times. So a pick that comes after an idle time waits for a round,
//! which all such picks share. A round that fails or takes too long is waited for no longer: grants go on without
//! one, until the next round is sent.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

/// A round is fresh for this many intervals and the time that it took: one may be late, and rounds that follow each
/// other on time never are.
const FRESH_INTERVALS: u32 = 2;
/// The longest that a pick waits for a round.
pub const ROUND_WAIT_MAX: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Freshness {
    started: Instant,
    /// Until when the newest answered round is fresh, in nanoseconds since `started`; 0 before the first one.
    fresh_until: AtomicU64,
    next: watch::Sender<NextRound>,
}

/// The round that picks wait for.
#[derive(Clone, Copy, Debug, Default)]
struct NextRound {
    /// It was asked for, or it is under way.
    is_coming: bool,
    /// It is not waited for: the last one failed, or this one takes too long.
    is_given_up: bool,
}

impl Freshness {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            fresh_until: AtomicU64::new(0),
            next: watch::Sender::default(),
        }
    }

    /// Whether grants rest on a fresh round. Before the first round there are none.
    pub(super) fn is_fresh(&self) -> bool {
        self.is_fresh_at(Instant::now())
    }

    /// The same, `now`.
    pub(super) fn is_fresh_at(&self, now: Instant) -> bool {
        let fresh_until = self.fresh_until.load(Ordering::Relaxed);
        fresh_until == 0 || nanos(now.duration_since(self.started)) <= fresh_until
    }

    /// Whether grants go on, though no round is fresh.
    pub(super) fn is_given_up(&self) -> bool {
        self.next.borrow().is_given_up && !self.is_fresh()
    }

    /// Waits for a fresh round, [`ROUND_WAIT_MAX`] at most; `ask` asks for it. False if there is none.
    ///
    /// Cancel-safe.
    pub(super) async fn wait(&self, ask: impl FnOnce()) -> bool {
        let mut next = self.next.subscribe();
        if self.is_fresh() || next.borrow_and_update().is_given_up {
            return self.is_fresh();
        }
        let is_first = |next: &mut NextRound| !std::mem::replace(&mut next.is_coming, true);
        if self.next.send_if_modified(is_first) {
            ask();
        }
        let decided = next.wait_for(|next| next.is_given_up || self.is_fresh());
        if timeout(ROUND_WAIT_MAX, decided).await.is_err() {
            self.next.send_if_modified(|next| {
                let is_late = !self.is_fresh();
                is_late && !std::mem::replace(&mut next.is_given_up, true)
            });
        }
        self.is_fresh()
    }

    /// A round is sent.
    pub(super) fn begin(&self) {
        self.next.send_replace(NextRound {
            is_coming: true,
            is_given_up: false,
        });
    }

    /// The round that was sent at `sent_at` has changed the ledger.
    pub(super) fn end(&self, sent_at: Instant, interval: Duration) {
        let fresh_for = interval.saturating_mul(FRESH_INTERVALS) + sent_at.elapsed();
        let fresh_until = sent_at.duration_since(self.started) + fresh_for;
        self.fresh_until
            .store(nanos(fresh_until).max(1), Ordering::Relaxed);
        self.next.send_replace(NextRound::default());
    }

    /// A round failed.
    pub(super) fn fail(&self) {
        self.next.send_replace(NextRound {
            is_coming: false,
            is_given_up: true,
        });
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::pending};

    use tokio::{select, time::advance};

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    /// The last round took a second and was sent long ago.
    async fn idle() -> Freshness {
        let freshness = Freshness::new();
        assert!(freshness.is_fresh(), "the ledger refuses before the first");
        freshness.begin();
        let sent_at = Instant::now();
        advance(Duration::from_secs(1)).await;
        freshness.end(sent_at, INTERVAL);
        advance(2 * INTERVAL).await;
        assert!(freshness.is_fresh());
        advance(Duration::from_millis(1)).await;
        assert!(!freshness.is_fresh());
        freshness
    }

    /// Polls a wait until it has nothing more to do now.
    async fn begun(wait: impl Future<Output = bool>) -> bool {
        select! {
            biased;
            is_fresh = wait => is_fresh,
            () = tokio::task::yield_now() => panic!("it waits"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_waits_ask_for_one_round_and_share_it() {
        let freshness = idle().await;
        let asked_count = Cell::new(0);
        let wait = || freshness.wait(|| asked_count.set(asked_count.get() + 1));
        let round = async {
            while asked_count.get() == 0 {
                tokio::task::yield_now().await;
            }
            freshness.begin();
            let sent_at = Instant::now();
            advance(Duration::from_millis(1900)).await;
            let late = wait();
            freshness.end(sent_at, INTERVAL);
            late.await
        };
        let ends = tokio::join!(wait(), wait(), round);
        assert_eq!((ends, asked_count.get()), ((true, true, true), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_that_takes_too_long_is_waited_for_once() {
        let freshness = idle().await;
        let begun_at = Instant::now();
        assert!(!freshness.wait(|| freshness.begin()).await);
        assert_eq!(begun_at.elapsed(), ROUND_WAIT_MAX);
        assert!(freshness.is_given_up());
        assert!(!begun(freshness.wait(|| panic!("one is coming"))).await);
        freshness.end(Instant::now(), INTERVAL);
        assert!(!freshness.is_given_up());
        advance(3 * INTERVAL).await;
        let waits = freshness.wait(|| {});
        let is_over = select! { _ = waits => true, () = advance(ROUND_WAIT_MAX / 2) => false };
        assert!(!is_over, "after an idle time picks wait again");
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_nobody_waits_before_the_next_round_is_sent() {
        let freshness = idle().await;
        let fails = async {
            tokio::task::yield_now().await;
            freshness.fail();
            pending().await
        };
        let begun_at = Instant::now();
        select! {
            is_fresh = freshness.wait(|| freshness.begin()) => assert!(!is_fresh),
            () = fails => {}
        }
        assert_eq!(begun_at.elapsed(), Duration::ZERO);
        assert!(!begun(freshness.wait(|| panic!("it is due later"))).await);
        freshness.begin();
        let answered = async {
            tokio::task::yield_now().await;
            freshness.end(Instant::now(), INTERVAL);
        };
        let (is_fresh, ()) = tokio::join!(freshness.wait(|| panic!("it is sent")), answered);
        assert!(is_fresh);
    }
}
